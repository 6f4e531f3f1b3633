//! PostgreSQL for one tenant: a role and a database it owns, both of the same name.
//!
//! The operator's own role needs CREATEDB and CREATEROLE and nothing more. It becomes a member of each tenant role,
//! because only a member may make a database for it or drop that database again.
//!
//! Owner marker: the comment on the role, `posthouse.owner=<marker>`, written in the transaction that makes the role. The
//! database belongs to whom its owner role belongs.

use std::{collections::BTreeMap, fmt};

use secrecy::SecretString;

use super::{
    change::ChangeKind,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod verifier;

pub use admin::PostgresAdmin;

/// What a session of the tenant's role has unless it sets something else, as parameters and values of PostgreSQL: none holds up
/// others for long, whatever its client forgets. Services set shorter times.
pub(super) const SETTINGS: [(&str, &str); 3] = [
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("idle_session_timeout", "10min"),
];

/// What a tenant should have in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresDesired {
    /// Name of the role and of the database.
    pub name: String,
    pub owner: Owner,
    pub password: SecretString,
    /// Concurrent sessions the role may have, -1 for no limit.
    pub connection_limit: i32,
}

impl PostgresDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        Self {
            name: tenant.id.database().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
            connection_limit: i32::try_from(tenant.postgres_sessions()).unwrap_or(i32::MAX),
        }
    }
}

/// What a tenant has in PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresObserved {
    pub ownership: Ownership,
    pub role: Option<RoleObserved>,
    pub database: Option<DatabaseObserved>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleObserved {
    pub can_login: bool,
    pub connection_limit: i32,
    /// Parameters of its sessions, with their values.
    pub settings: BTreeMap<String, String>,
    /// Attributes the role should not have, `CREATEDB` for example.
    pub extra_attributes: Vec<String>,
    /// Roles it is a member of; a tenant's is a member of none.
    pub member_of: Vec<String>,
    /// The operator's role is a member of it.
    pub operator_is_member: bool,
    /// It could log in with the desired password, now or not long ago.
    pub password_matches: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseObserved {
    /// The server's id of it: a database that is recreated has another one.
    pub id: String,
    /// Any role may connect: PostgreSQL's default for a new database.
    pub open_to_all: bool,
}

/// One difference between what a tenant has in PostgreSQL and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresChange {
    CreateRole { role: String },
    TakeOver { role: String, from: Former },
    JoinRole { role: String },
    AllowLogin { role: String },
    SetPassword { role: String },
    SetConnectionLimit { role: String, from: i32, to: i32 },
    SetParameter { role: String, parameter: &'static str, value: &'static str },
    DropAttribute { role: String, attribute: String },
    LeaveRole { role: String, group: String },
    CreateDatabase { database: String },
    CloseDatabase { database: String },
}

impl PostgresChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::CreateRole { .. } | Self::CreateDatabase { .. } => ChangeKind::Create,
            Self::TakeOver { from, .. } => from.kind(),
            Self::JoinRole { .. }
            | Self::AllowLogin { .. }
            | Self::SetPassword { .. }
            | Self::SetConnectionLimit { .. }
            | Self::SetParameter { .. }
            | Self::DropAttribute { .. }
            | Self::LeaveRole { .. }
            | Self::CloseDatabase { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for PostgresChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRole { role } => write!(f, "create role {role}"),
            Self::TakeOver { role, from } => {
                f.write_str(&from.takeover(&format!("role and database {role}")))
            }
            Self::JoinRole { role } => write!(f, "make the operator a member of role {role}"),
            Self::AllowLogin { role } => write!(f, "let role {role} log in"),
            Self::SetPassword { role } => write!(f, "set the password of role {role}"),
            Self::SetConnectionLimit { role, from, to } => {
                write!(f, "set the connection limit of role {role}: {from} -> {to}")
            }
            Self::SetParameter { role, parameter, value } => {
                write!(f, "set {parameter} of role {role}: {value}")
            }
            Self::DropAttribute { role, attribute } => write!(f, "take {attribute} from role {role}"),
            Self::LeaveRole { role, group } => write!(f, "take role {role} out of role {group}"),
            Self::CreateDatabase { database } => write!(f, "create database {database}"),
            Self::CloseDatabase { database } => write!(f, "close database {database} to other roles"),
        }
    }
}

/// Returns what leads from `observed` to `desired`, in the order to apply it. Empty means steady.
fn plan(desired: &PostgresDesired, observed: &PostgresObserved) -> Vec<PostgresChange> {
    let role = || desired.name.clone();
    let mut changes = Vec::new();
    match &observed.role {
        None => changes.push(PostgresChange::CreateRole { role: role() }),
        Some(found) => {
            if let Some(from) = observed.ownership.former() {
                changes.push(PostgresChange::TakeOver { role: role(), from: from.clone() });
            }
            plan_role(desired, found, &mut changes);
        }
    }
    match &observed.database {
        None => changes.push(PostgresChange::CreateDatabase { database: role() }),
        Some(found) if found.open_to_all => changes.push(PostgresChange::CloseDatabase { database: role() }),
        Some(_) => {}
    }
    changes
}

fn plan_role(desired: &PostgresDesired, found: &RoleObserved, changes: &mut Vec<PostgresChange>) {
    let role = || desired.name.clone();
    if !found.operator_is_member {
        changes.push(PostgresChange::JoinRole { role: role() });
    }
    for attribute in &found.extra_attributes {
        changes.push(PostgresChange::DropAttribute { role: role(), attribute: attribute.clone() });
    }
    for group in &found.member_of {
        changes.push(PostgresChange::LeaveRole { role: role(), group: group.clone() });
    }
    if found.connection_limit != desired.connection_limit {
        let (from, to) = (found.connection_limit, desired.connection_limit);
        changes.push(PostgresChange::SetConnectionLimit { role: role(), from, to });
    }
    for (parameter, value) in SETTINGS {
        if found.settings.get(parameter).map(String::as_str) != Some(value) {
            changes.push(PostgresChange::SetParameter { role: role(), parameter, value });
        }
    }
    if !found.password_matches {
        changes.push(PostgresChange::SetPassword { role: role() });
    }
    if !found.can_login {
        changes.push(PostgresChange::AllowLogin { role: role() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn check(edit: impl FnOnce(&mut PostgresObserved), expected: &[&str]) {
        let desired = PostgresDesired {
            name: "mt_acme".into(),
            owner: owner(),
            password: "secret-word".into(),
            connection_limit: 20,
        };
        let role = RoleObserved {
            can_login: true,
            connection_limit: 20,
            settings: SETTINGS.map(|(parameter, value)| (parameter.to_owned(), value.to_owned())).into(),
            extra_attributes: Vec::new(),
            member_of: Vec::new(),
            operator_is_member: true,
            password_matches: true,
        };
        let database = DatabaseObserved { id: "16384".into(), open_to_all: false };
        let mut observed =
            PostgresObserved { ownership: Ownership::Ours, role: Some(role), database: Some(database) };
        edit(&mut observed);
        let changes: Vec<_> = plan(&desired, &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{desired:?}").contains("secret-word"));
    }

    fn role(observed: &mut PostgresObserved) -> &mut RoleObserved {
        observed.role.as_mut().unwrap()
    }

    #[test]
    fn a_steady_tenant_needs_nothing() {
        check(|_| {}, &[]);
    }

    #[test]
    fn a_new_tenant_gets_its_role_before_its_database() {
        check(
            |observed| *observed = PostgresObserved::default(),
            &["create role mt_acme", "create database mt_acme"],
        );
    }

    #[test]
    fn hand_edits_are_named_one_by_one() {
        check(|o| role(o).connection_limit = -1, &["set the connection limit of role mt_acme: -1 -> 20"]);
        check(
            |o| _ = role(o).settings.insert("statement_timeout".into(), "0".into()),
            &["set statement_timeout of role mt_acme: 30s"],
        );
        check(|o| role(o).password_matches = false, &["set the password of role mt_acme"]);
        check(|o| role(o).can_login = false, &["let role mt_acme log in"]);
        check(|o| role(o).operator_is_member = false, &["make the operator a member of role mt_acme"]);
        check(
            |o| o.database.as_mut().unwrap().open_to_all = true,
            &["close database mt_acme to other roles"],
        );
        check(|o| o.database = None, &["create database mt_acme"]);
        check(
            |o| {
                role(o).extra_attributes = vec!["CREATEDB".into()];
                role(o).member_of = vec!["mt_beta".into()];
            },
            &["take CREATEDB from role mt_acme", "take role mt_acme out of role mt_beta"],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over() {
        for (ownership, line, _) in inherited("role and database mt_acme") {
            check(
                |observed| {
                    observed.ownership = ownership;
                    role(observed).can_login = false;
                },
                &[&line, "let role mt_acme log in"],
            );
        }
    }
}
