//! OpenSearch for one tenant: the names of indices that begin with the tenant's, and a user whose role lets it at these and at nothing else.
//!
//! The indices themselves are made by the search service: which generation of its index there is, and which of them searches use, it decides
//! ([`SearchDesired::name`] is what their names begin with). Nothing in them is the only copy, so what is gone is not missed.
//!
//! Without the security plugin there are no accounts, and nothing keeps tenants apart. A cell has to say so (`security: None`): that the plugin was not
//! found says nothing of whether the tenants trust each other. The condition of each tenant then says what it means.
//!
//! Owner marker: a user that the plugin does not know has none, and in an index the tenant's account could change it. So it is a document in an index
//! of the operator's own, and is written before anything else and removed after all.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    change::{ChangeKind, unmatched},
    contract::BackendFacts,
    ownership::{Former, Owner, Ownership},
};
use crate::tenant::Tenant;

mod admin;
mod client;

pub use admin::OpenSearchAdmin;

/// The index with the owner markers of all tenants. No tenant's begins so.
pub const OWNERS: &str = "posthouse-owners";
/// What the tenant's user may do with several of its indices in one request; each of them is checked by itself.
const CLUSTER_ACTIONS: [&str; 4] = [
    "indices:data/read/mget",
    "indices:data/read/scroll",
    "indices:data/read/scroll/clear",
    "indices:data/write/bulk",
];
/// What it may do with its indices: all that the search service does, and neither settings nor templates. Nothing about aliases: the plugin asks whose the
/// index is and not whose the name of the alias is, and an alias of another tenant's name would get what that tenant writes. Without the right an index is
/// not made with aliases either.
const INDEX_ACTIONS: [&str; 7] = [
    "indices:admin/create",
    "indices:admin/delete",
    "indices:admin/get",
    "indices:admin/mapping/put",
    "indices:admin/refresh*",
    "indices:data/read/*",
    "indices:data/write/*",
];

/// What a tenant should have in OpenSearch.
#[derive(Clone, Debug)]
pub struct SearchDesired {
    /// User and role, and what the names of the tenant's indices begin with, before a dash.
    pub name: String,
    pub owner: Owner,
    pub password: SecretString,
    /// There are accounts. Otherwise only the names of indices are the tenant's.
    pub has_accounts: bool,
}

impl SearchDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        let search = tenant.cell.spec.opensearch.as_ref();
        Self {
            name: tenant.id.search().to_string(),
            owner: Owner::of(tenant),
            password: password.clone(),
            has_accounts: search.is_none_or(crds::CellOpenSearch::has_accounts),
        }
    }

    /// Returns what the role lets its user do.
    fn role(&self) -> Value {
        json!({
            "cluster_permissions": CLUSTER_ACTIONS,
            "index_permissions": [{"index_patterns": [indices(&self.name)], "allowed_actions": INDEX_ACTIONS}],
        })
    }
}

/// Returns a pattern of the names of a tenant's indices.
pub fn indices(name: &str) -> String {
    format!("{name}-*")
}

/// What a tenant has in OpenSearch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchObserved {
    pub ownership: Ownership,
    /// Tells what was made for a tenant from what was made after it was removed. Nothing where the marker is not ours.
    pub identity: Option<String>,
    pub role: Option<RoleObserved>,
    pub user: Option<UserObserved>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleObserved {
    pub rights_match: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserObserved {
    pub password_matches: bool,
    pub role_matches: bool,
}

impl SearchObserved {
    fn facts(&self) -> BackendFacts {
        BackendFacts {
            generation: self.identity.clone(),
            is_inherited: self.ownership.is_inherited(),
            ..BackendFacts::default()
        }
    }
}

/// One difference between what a tenant has in OpenSearch and what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchChange {
    TakeOver {
        name: String,
        from: Former,
    },
    /// Notes that the names of indices are the tenant's.
    Reserve {
        name: String,
    },
    CreateRole {
        role: String,
    },
    RepairRole {
        role: String,
    },
    CreateUser {
        user: String,
    },
    /// `what` names the parts that differ.
    RepairUser {
        user: String,
        what: Vec<&'static str>,
    },
}

impl SearchChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::TakeOver { from, .. } => from.kind(),
            Self::Reserve { .. } | Self::CreateRole { .. } | Self::CreateUser { .. } => ChangeKind::Create,
            Self::RepairRole { .. } | Self::RepairUser { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for SearchChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOver { name, from } => {
                f.write_str(&from.takeover(&format!("indices {}", indices(name))))
            }
            Self::Reserve { name } => write!(f, "reserve indices {}", indices(name)),
            Self::CreateRole { role } => write!(f, "create role {role}"),
            Self::RepairRole { role } => write!(f, "set rights of role {role}"),
            Self::CreateUser { user } => write!(f, "create user {user}"),
            Self::RepairUser { user, what } => write!(f, "set {} of user {user}", what.join(", ")),
        }
    }
}

/// Parts of a user, as a change names them.
const PASSWORD: &str = "password";
const ROLE: &str = "role";

/// Returns what leads from `observed` to `desired`. The role comes before the user that has it. Empty means steady.
fn plan(desired: &SearchDesired, observed: &SearchObserved) -> Vec<SearchChange> {
    let name = || desired.name.clone();
    let mut changes = Vec::new();
    if observed.ownership == Ownership::Absent {
        changes.push(SearchChange::Reserve { name: name() });
    }
    let former = observed.ownership.former().cloned();
    changes.extend(former.map(|from| SearchChange::TakeOver { name: name(), from }));
    if !desired.has_accounts {
        return changes;
    }
    match &observed.role {
        None => changes.push(SearchChange::CreateRole { role: name() }),
        Some(RoleObserved { rights_match: false }) => changes.push(SearchChange::RepairRole { role: name() }),
        Some(RoleObserved { rights_match: true }) => {}
    }
    match &observed.user {
        None => changes.push(SearchChange::CreateUser { user: name() }),
        Some(UserObserved { password_matches, role_matches }) => {
            let what = unmatched([(*password_matches, PASSWORD), (*role_matches, ROLE)]);
            if !what.is_empty() {
                changes.push(SearchChange::RepairUser { user: name(), what });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use crds::{MessengerTenant, SearchEngine, TenantId};

    use super::*;
    use crate::{
        backend::{
            contract::Backend as _,
            ownership::testing::{inherited, owner},
        },
        rendered::testing::{cell, example},
    };

    fn desired(has_accounts: bool) -> SearchDesired {
        SearchDesired { name: "mt-acme".into(), owner: owner(), password: "secret-word".into(), has_accounts }
    }

    fn check(has_accounts: bool, edit: impl FnOnce(&mut SearchObserved), expected: &[&str]) {
        let mut observed = SearchObserved {
            ownership: Ownership::Ours,
            identity: Some("this one".into()),
            role: has_accounts.then_some(RoleObserved { rights_match: true }),
            user: has_accounts.then_some(UserObserved { password_matches: true, role_matches: true }),
        };
        edit(&mut observed);
        let desired = desired(has_accounts);
        let changes: Vec<_> = plan(&desired, &observed).iter().map(ToString::to_string).collect();
        assert_eq!(changes, expected);
        assert!(!format!("{changes:?}{desired:?}").contains("secret-word"));
    }

    #[test]
    fn names_come_before_the_role_and_the_role_before_its_user() {
        check(true, |_| {}, &[]);
        let nothing = |observed: &mut SearchObserved| *observed = SearchObserved::default();
        check(true, nothing, &["reserve indices mt-acme-*", "create role mt-acme", "create user mt-acme"]);
        check(true, |observed| observed.role = None, &["create role mt-acme"]);
        check(true, |observed| observed.user = None, &["create user mt-acme"]);
    }

    #[test]
    fn a_server_without_accounts_is_asked_for_none() {
        check(false, |_| {}, &[]);
        check(false, |observed| *observed = SearchObserved::default(), &["reserve indices mt-acme-*"]);
    }

    #[test]
    fn what_differs_is_named() {
        check(
            true,
            |observed| {
                observed.role = Some(RoleObserved { rights_match: false });
                observed.user = Some(UserObserved { password_matches: false, role_matches: false });
            },
            &["set rights of role mt-acme", "set password, role of user mt-acme"],
        );
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over_and_gets_a_user_again() {
        for (ownership, line, kind) in inherited("indices mt-acme-*") {
            check(
                true,
                |observed| {
                    observed.ownership = ownership.clone();
                    observed.user = None;
                },
                &[&line, "create user mt-acme"],
            );
            let observed = SearchObserved { ownership, ..SearchObserved::default() };
            assert_eq!(plan(&desired(true), &observed)[0].kind(), kind);
        }
    }

    #[test]
    fn a_role_opens_the_indices_of_its_tenant_and_no_administration() {
        let role = desired(true).role();
        assert_eq!(role["index_permissions"][0]["index_patterns"], json!(["mt-acme-*"]));
        let text = role.to_string();
        for action in
            ["\"*\"", "indices:*", "indices:admin/*", "alias", "cluster:", "settings", "template", "restapi"]
        {
            assert!(!text.contains(action), "{action}");
        }
        assert!(!OWNERS.starts_with("mt-"), "no tenant's pattern has the markers");
    }

    fn chosen(resource: &mut MessengerTenant) {
        let search = json!({"search": {"enabled": true, "engine": SearchEngine::OpenSearch}});
        resource.spec.services = Some(serde_json::from_value(search).expect("a service"));
    }

    #[test]
    fn a_condition_says_what_a_server_without_accounts_means() {
        let mut tenant = example("acme.yaml", chosen);
        for (security, has_accounts) in [("Plugin", true), ("None", false)] {
            tenant.cell = cell(|cell| {
                let search = json!({"url": "http://search:9200", "security": security,
                    "credentialsSecretRef": {"name": "opensearch"}});
                cell.spec.opensearch = Some(serde_json::from_value(search).expect("OpenSearch"));
            });
            let message = OpenSearchAdmin::in_sync(&tenant);
            assert!(message.starts_with("indices mt-acme-*"), "{message}");
            assert_eq!(
                message.contains("reads and changes the messages of all tenants"),
                !has_accounts,
                "{message}"
            );
            assert_eq!(SearchDesired::of(&tenant, &"x".into()).has_accounts, has_accounts);
        }
    }

    #[test]
    fn no_indices_of_a_tenant_begin_like_those_of_another() {
        let name = |id: &str| OpenSearchAdmin::name(&id.parse::<TenantId>().expect("a tenant id"));
        assert!(!indices(&name("acmex")).starts_with(indices(&name("acme")).trim_end_matches('*')));
    }
}
