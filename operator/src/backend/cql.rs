//! The CQL store for one tenant: a keyspace, a role of the same name, and the role's rights on that keyspace.
//!
//! Owner marker: neither keyspaces nor roles hold free text, so the operator keeps its own table,
//! `posthouse_operator.owners(name, owner_uid)`, made on first use. Its row is written before anything of the tenant is
//! made and deleted last. Beside it, `posthouse_operator.keyspaces(name, generation)` has a new id for each keyspace that the
//! operator creates.
//!
//! The password goes to the store as a bcrypt hash whose salt follows from the password itself: the same password gives
//! the same hash, so that drift is one comparison of strings and no login is ever needed to look for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use secrecy::SecretString;

use super::{
    change::ChangeKind,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod hash;

pub use admin::CqlAdmin;

/// What a tenant should have in the CQL store.
#[derive(Clone, Debug)]
pub struct CqlDesired {
    /// Name of the keyspace and of the role.
    pub name: String,
    pub owner: Owner,
    pub password: SecretString,
    /// Copies by datacenter. The strategy is always NetworkTopologyStrategy: with one datacenter it does what
    /// SimpleStrategy does, and ScyllaDB's tablets take no other.
    pub replication: BTreeMap<String, u32>,
}

impl CqlDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        Self {
            name: tenant.id.keyspace().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
            replication: [(tenant.cell.spec.cql.datacenter.clone(), tenant.cell.cql_replication)].into(),
        }
    }
}

/// What a tenant has in the CQL store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CqlObserved {
    pub ownership: Ownership,
    pub keyspace: Option<KeyspaceObserved>,
    pub role: Option<RoleObserved>,
    pub permissions: BTreeSet<Permission>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceObserved {
    /// What a keyspace that is recreated has another one of.
    pub generation: String,
    /// Replication options, `class` without its package.
    pub replication: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleObserved {
    pub can_login: bool,
    pub password_matches: bool,
    /// Roles it was granted; a tenant's has none.
    pub member_of: Vec<String>,
}

/// One right of the tenant's role. `resource` is the store's spelling: `<keyspace mt_acme>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    pub resource: String,
    pub permission: String,
}

/// Rights of a tenant's role on its own keyspace: its services make their tables and use them. AUTHORIZE is not among
/// them, so a tenant cannot open its keyspace to others.
const RIGHTS: [&str; 5] = ["CREATE", "ALTER", "DROP", "SELECT", "MODIFY"];

/// One difference between what a tenant has in the CQL store and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CqlChange {
    TakeOwnership {
        name: String,
        from: Option<Former>,
    },
    CreateKeyspace {
        keyspace: String,
        replication: BTreeMap<String, String>,
    },
    /// Another replication moves data, which has to be repaired on the nodes: never changed in place.
    ReplicationDiffers {
        keyspace: String,
        has: BTreeMap<String, String>,
        wants: BTreeMap<String, String>,
    },
    CreateRole {
        role: String,
    },
    AllowLogin {
        role: String,
    },
    SetPassword {
        role: String,
    },
    LeaveRole {
        role: String,
        group: String,
    },
    Grant {
        role: String,
        permission: Permission,
    },
    Revoke {
        role: String,
        permission: Permission,
    },
}

impl CqlChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::TakeOwnership { from: Some(from), .. } => from.kind(),
            Self::TakeOwnership { from: None, .. }
            | Self::CreateKeyspace { .. }
            | Self::CreateRole { .. }
            | Self::Grant { .. } => ChangeKind::Create,
            Self::ReplicationDiffers { .. } => ChangeKind::Blocked,
            Self::AllowLogin { .. }
            | Self::SetPassword { .. }
            | Self::LeaveRole { .. }
            | Self::Revoke { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for CqlChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOwnership { name, from: None } => write!(f, "mark {name} as owned"),
            Self::TakeOwnership { name, from: Some(from) } => f.write_str(&from.takeover(name)),
            Self::CreateKeyspace { keyspace, replication } => {
                write!(f, "create keyspace {keyspace} ({})", short(replication))
            }
            Self::ReplicationDiffers { keyspace, has, wants } => write!(
                f,
                "keyspace {keyspace} has replication {}, {} is declared: alter and repair it on the nodes, or set the cell back",
                short(has),
                short(wants)
            ),
            Self::CreateRole { role } => write!(f, "create role {role}"),
            Self::AllowLogin { role } => write!(f, "let role {role} log in"),
            Self::SetPassword { role } => write!(f, "set the password of role {role}"),
            Self::LeaveRole { role, group } => write!(f, "take role {role} out of role {group}"),
            Self::Grant { role, permission } => write!(f, "grant {permission} to role {role}"),
            Self::Revoke { role, permission } => write!(f, "revoke {permission} from role {role}"),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.permission, self.resource.trim_matches(['<', '>']))
    }
}

fn short(replication: &BTreeMap<String, String>) -> String {
    let parts: Vec<_> = replication.iter().map(|(key, value)| format!("{key} {value}")).collect();
    parts.join(", ")
}

fn own_keyspace(name: &str) -> String {
    format!("<keyspace {name}>")
}

/// Reports whether a right lies within the tenant's own keyspace: its role gets all rights on the tables it makes.
fn is_own_part(resource: &str, name: &str) -> bool {
    resource.starts_with(&format!("<table {name}."))
        || resource.starts_with(&format!("<all tables in {name}>"))
}

fn wanted_replication(desired: &CqlDesired) -> BTreeMap<String, String> {
    let copies =
        desired.replication.iter().map(|(datacenter, copies)| (datacenter.clone(), copies.to_string()));
    copies.chain([("class".to_owned(), "NetworkTopologyStrategy".to_owned())]).collect()
}

/// Returns what leads from `observed` to `desired`, in the order to apply it. Empty means steady.
fn plan(desired: &CqlDesired, observed: &CqlObserved) -> Vec<CqlChange> {
    let name = || desired.name.clone();
    let mut changes = Vec::new();
    if observed.ownership != Ownership::Ours {
        let from = observed.ownership.former().cloned();
        changes.push(CqlChange::TakeOwnership { name: name(), from });
    }
    let rights =
        RIGHTS.map(|right| Permission { resource: own_keyspace(&desired.name), permission: right.into() });
    let rights = BTreeSet::from(rights);
    for permission in observed.permissions.difference(&rights) {
        if !is_own_part(&permission.resource, &desired.name) {
            changes.push(CqlChange::Revoke { role: name(), permission: permission.clone() });
        }
    }
    let wants = wanted_replication(desired);
    if observed.keyspace.is_none() {
        changes.push(CqlChange::CreateKeyspace { keyspace: name(), replication: wants.clone() });
    }
    match &observed.role {
        None => changes.push(CqlChange::CreateRole { role: name() }),
        Some(role) => {
            for group in &role.member_of {
                changes.push(CqlChange::LeaveRole { role: name(), group: group.clone() });
            }
            if !role.password_matches {
                changes.push(CqlChange::SetPassword { role: name() });
            }
            if !role.can_login {
                changes.push(CqlChange::AllowLogin { role: name() });
            }
        }
    }
    for permission in rights.difference(&observed.permissions) {
        changes.push(CqlChange::Grant { role: name(), permission: permission.clone() });
    }
    // Last, because it is not made.
    if let Some(KeyspaceObserved { replication: has, .. }) = &observed.keyspace
        && *has != wants
    {
        changes.push(CqlChange::ReplicationDiffers { keyspace: name(), has: has.clone(), wants });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn desired() -> CqlDesired {
        CqlDesired {
            name: "mt_acme".into(),
            owner: owner(),
            password: "secret-word".into(),
            replication: BTreeMap::from([("dc1".into(), 3)]),
        }
    }

    fn right(resource: &str, permission: &str) -> Permission {
        Permission { resource: resource.into(), permission: permission.into() }
    }

    fn check(edit: impl FnOnce(&mut CqlObserved), expected: &[&str]) {
        let desired = desired();
        let mut observed = CqlObserved {
            ownership: Ownership::Ours,
            keyspace: Some(KeyspaceObserved {
                generation: "1".to_owned(),
                replication: wanted_replication(&desired),
            }),
            role: Some(RoleObserved { can_login: true, password_matches: true, member_of: Vec::new() }),
            permissions: RIGHTS.map(|permission| right("<keyspace mt_acme>", permission)).into(),
        };
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired, &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{desired:?}").contains("secret-word"));
    }

    #[test]
    fn a_steady_tenant_needs_nothing() {
        check(|_| {}, &[]);
        check(
            |observed| _ = observed.permissions.insert(right("<table mt_acme.messages>", "AUTHORIZE")),
            &[],
        );
    }

    #[test]
    fn a_new_tenant_is_marked_before_anything_is_made() {
        check(
            |observed| *observed = CqlObserved::default(),
            &[
                "mark mt_acme as owned",
                "create keyspace mt_acme (class NetworkTopologyStrategy, dc1 3)",
                "create role mt_acme",
                "grant ALTER on keyspace mt_acme to role mt_acme",
                "grant CREATE on keyspace mt_acme to role mt_acme",
                "grant DROP on keyspace mt_acme to role mt_acme",
                "grant MODIFY on keyspace mt_acme to role mt_acme",
                "grant SELECT on keyspace mt_acme to role mt_acme",
            ],
        );
    }

    #[test]
    fn hand_edits_are_named_one_by_one() {
        check(
            |observed| _ = observed.permissions.remove(&right("<keyspace mt_acme>", "MODIFY")),
            &["grant MODIFY on keyspace mt_acme to role mt_acme"],
        );
        check(
            |observed| {
                observed.role = Some(RoleObserved {
                    can_login: false,
                    password_matches: false,
                    member_of: vec!["mt_beta".into()],
                });
                observed.permissions.remove(&right("<keyspace mt_acme>", "MODIFY"));
                observed.permissions.insert(right("<keyspace mt_acme>", "AUTHORIZE"));
                observed.permissions.insert(right("<keyspace mt_beta>", "SELECT"));
                observed.permissions.insert(right("<table mt_acme2.messages>", "SELECT"));
            },
            &[
                "revoke AUTHORIZE on keyspace mt_acme from role mt_acme",
                "revoke SELECT on keyspace mt_beta from role mt_acme",
                "revoke SELECT on table mt_acme2.messages from role mt_acme",
                "take role mt_acme out of role mt_beta",
                "set the password of role mt_acme",
                "let role mt_acme log in",
                "grant MODIFY on keyspace mt_acme to role mt_acme",
            ],
        );
    }

    #[test]
    fn data_is_never_moved() {
        for (datacenter, copies) in [("dc1", "1"), ("dc2", "3")] {
            let has = BTreeMap::from([
                ("class".to_owned(), "NetworkTopologyStrategy".to_owned()),
                (datacenter.to_owned(), copies.to_owned()),
            ]);
            let expected = format!(
                "keyspace mt_acme has replication class NetworkTopologyStrategy, {datacenter} {copies}, \
                 class NetworkTopologyStrategy, dc1 3 is declared: alter and repair it on the nodes, or set the cell back"
            );
            check(
                |observed| {
                    observed.keyspace.as_mut().unwrap().replication = has;
                    observed.role.as_mut().unwrap().can_login = false;
                },
                &["let role mt_acme log in", &expected],
            );
        }
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over() {
        for (ownership, line, _) in inherited("mt_acme") {
            check(|observed| observed.ownership = ownership, &[&line]);
        }
    }
}
