//! Keycloak for one tenant: a realm with two clients, the rights of their service account, and sign-in rules.
//!
//! The operator's account is a client of the `master` realm that may make realms and nothing else: it manages the realms
//! it made and gets 403 for all others.
//!
//! Owner marker: the realm attribute `posthouse.owner`, part of the request that makes the realm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use catalog::{APP_CLIENT, AUTH_CLIENT};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    change::ChangeKind,
    ownership::{Former, Owner, Ownership},
};
pub use crate::providers::Provider;
use crate::tenant::Tenant;

mod admin;
mod diff;
mod representation;

pub use admin::KeycloakAdmin;
pub use diff::Difference;

/// Keycloak's own client with a grant by password, which every realm is born with.
const ADMIN_CLIENT: &str = "admin-cli";
/// The pages and the API by which users administer their accounts at the realm itself, past the auth service: its rules for
/// addresses, links and deletions, and the ends of sessions that gateways learn of.
const ACCOUNT_CLIENTS: [&str; 2] = ["account", "account-console"];
/// The scope, and the role of the same name, with which a client gets tokens that outlive every session. Nothing here needs one, and
/// no list of sessions would show it.
const OFFLINE_ACCESS: &str = "offline_access";
/// For how long the realm keeps an identity provider, disabled, that is declared no more: with it Keycloak deletes the links of its
/// users. A month is longer than it takes to notice a manifest that was wrong.
const PROVIDER_RETENTION_DAYS: i64 = 30;
/// Where the issuer of an identity provider is.
const ISSUER: &str = "/config/issuer";
/// Rights of the auth service within its realm. No privilege hangs on a realm role: an account that may manage users can grant
/// any plain realm role.
pub const SERVICE_ROLES: [&str; 3] = ["manage-users", "query-users", "view-users"];
/// Attributes of a user that a fresh realm requires. A tenant's users need none but a name to sign in with, and a realm that
/// requires more refuses sign-in by password until they are filled in.
const OPTIONAL_ATTRIBUTES: [&str; 3] = ["email", "firstName", "lastName"];

/// What a tenant should have in Keycloak.
#[derive(Clone, Debug)]
pub struct KeycloakDesired {
    pub realm: String,
    pub owner: Owner,
    pub display_name: String,
    pub access_token_seconds: i32,
    /// Where the app may be sent back to after sign-in.
    pub redirect_uris: Vec<String>,
    /// Origins the browser may call Keycloak from.
    pub web_origins: Vec<String>,
    /// Realm roles beyond Keycloak's own.
    pub roles: Vec<String>,
    /// Secret of [`AUTH_CLIENT`].
    pub auth_client_secret: SecretString,
    /// External identity providers.
    pub providers: Vec<Provider>,
    /// The hosts that Keycloak may call for them, each with those below it.
    pub provider_hosts: Vec<String>,
}

impl KeycloakDesired {
    pub(super) fn of(tenant: &Tenant, password: &SecretString) -> Self {
        let origins: Vec<_> = tenant.hosts.routed.iter().map(|host| tenant.origin(host)).collect();
        Self {
            realm: tenant.id.realm().to_string(),
            owner: Owner::of(tenant),
            display_name: tenant.name.clone(),
            access_token_seconds: i32::try_from(tenant.access_token_lifetime.as_secs())
                .expect("the schema bounds it to an hour"),
            redirect_uris: origins.iter().map(|origin| format!("{origin}/*")).collect(),
            web_origins: origins,
            roles: Vec::new(),
            auth_client_secret: password.clone(),
            providers: tenant.providers.allowed.clone(),
            provider_hosts: tenant.cell.spec.keycloak.provider_hosts.clone().unwrap_or_default(),
        }
    }
}

/// What a tenant has in Keycloak: of each object the declared fields only, secrets as hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeycloakObserved {
    pub ownership: Ownership,
    /// Keycloak's id of the realm: one that is recreated has another one.
    pub realm_id: Option<String>,
    pub realm: Option<Value>,
    pub clients: BTreeMap<String, Value>,
    pub roles: BTreeSet<String>,
    pub service_roles: BTreeSet<String>,
    /// Whether clients may request offline tokens.
    pub has_offline_scope: bool,
    /// Whether every user may have them.
    pub has_offline_role: bool,
    /// Attributes without which no user can sign in.
    pub required_attributes: BTreeSet<String>,
    /// External identity providers that are declared, or that the operator made.
    pub providers: BTreeMap<String, Value>,
    /// Those that were disabled longer ago than [`PROVIDER_RETENTION_DAYS`].
    pub outdated_providers: BTreeSet<String>,
}

/// One difference between what a tenant has in Keycloak and what it should have.
#[derive(Clone, Debug, PartialEq)]
pub enum KeycloakChange {
    CreateRealm { realm: String },
    TakeOver { realm: String, from: Former },
    SetRealm { realm: String, differences: Vec<Difference> },
    CreateClient { realm: String, client: String },
    SetClient { realm: String, client: String, differences: Vec<Difference> },
    CreateRole { realm: String, role: String },
    GrantServiceRole { realm: String, role: String },
    RevokeServiceRole { realm: String, role: String },
    RemoveScope { realm: String, scope: String },
    RemoveDefaultRole { realm: String, role: String },
    MakeOptional { realm: String, attributes: Vec<String> },
    CreateProvider { realm: String, provider: String },
    SetProvider { realm: String, provider: String, differences: Vec<Difference> },
    DisableProvider { realm: String, provider: String },
    RemoveProvider { realm: String, provider: String },
}

impl KeycloakChange {
    /// Returns why this change is in the plan: what is missing is created, what differs is repaired.
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::CreateRealm { .. }
            | Self::CreateClient { .. }
            | Self::CreateRole { .. }
            | Self::GrantServiceRole { .. }
            | Self::CreateProvider { .. } => ChangeKind::Create,
            Self::TakeOver { from, .. } => from.kind(),
            Self::SetRealm { .. }
            | Self::SetClient { .. }
            | Self::RevokeServiceRole { .. }
            | Self::RemoveScope { .. }
            | Self::RemoveDefaultRole { .. }
            | Self::MakeOptional { .. }
            | Self::SetProvider { .. }
            | Self::DisableProvider { .. }
            | Self::RemoveProvider { .. } => ChangeKind::Repair,
        }
    }
}

impl fmt::Display for KeycloakChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |differences: &[Difference]| {
            let parts: Vec<_> = differences.iter().map(ToString::to_string).collect();
            parts.join(", ")
        };
        match self {
            Self::CreateRealm { realm } => write!(f, "create realm {realm}"),
            Self::TakeOver { realm, from } => f.write_str(&from.takeover(&format!("realm {realm}"))),
            Self::SetRealm { realm, differences } => write!(f, "set realm {realm}: {}", list(differences)),
            Self::CreateClient { realm, client } => write!(f, "create client {client} of realm {realm}"),
            Self::SetClient { realm, client, differences } => {
                write!(f, "set client {client} of realm {realm}: {}", list(differences))
            }
            Self::CreateRole { realm, role } => write!(f, "create role {role} of realm {realm}"),
            Self::GrantServiceRole { realm, role } => {
                write!(f, "grant {role} to the service account of {AUTH_CLIENT} of realm {realm}")
            }
            Self::RevokeServiceRole { realm, role } => {
                write!(f, "revoke {role} from the service account of {AUTH_CLIENT} of realm {realm}")
            }
            Self::RemoveScope { realm, scope } => {
                write!(f, "remove the client scope {scope} of realm {realm}")
            }
            Self::RemoveDefaultRole { realm, role } => {
                write!(f, "take the role {role} from the users of realm {realm}")
            }
            Self::MakeOptional { realm, attributes } => {
                write!(f, "make {} of users in realm {realm} optional", attributes.join(", "))
            }
            Self::CreateProvider { realm, provider } => {
                write!(f, "create identity provider {provider} of realm {realm}")
            }
            Self::SetProvider { realm, provider, differences } => {
                write!(f, "set identity provider {provider} of realm {realm}: {}", list(differences))
            }
            Self::DisableProvider { realm, provider } => write!(
                f,
                "disable identity provider {provider} of realm {realm}, and keep the links of its users for \
                 {PROVIDER_RETENTION_DAYS} days"
            ),
            Self::RemoveProvider { realm, provider } => {
                write!(f, "remove identity provider {provider} of realm {realm}")
            }
        }
    }
}

/// Returns what leads from `observed` to `desired`, in the order to apply it. Empty means steady.
fn plan(desired: &KeycloakDesired, observed: &KeycloakObserved) -> Vec<KeycloakChange> {
    let realm = || desired.realm.clone();
    let mut changes = Vec::new();
    let Some(found) = &observed.realm else {
        let attributes = OPTIONAL_ATTRIBUTES.map(str::to_owned).into();
        // Clients, roles and the service account come with the realm, and so does what Keycloak gives to each.
        changes.push(KeycloakChange::CreateRealm { realm: realm() });
        changes.extend(ACCOUNT_CLIENTS.map(|client| {
            let field = "enabled".to_owned();
            let differences = vec![Difference { field, from: true.into(), to: false.into() }];
            KeycloakChange::SetClient { realm: realm(), client: client.to_owned(), differences }
        }));
        changes.push(KeycloakChange::RemoveScope { realm: realm(), scope: OFFLINE_ACCESS.to_owned() });
        changes.push(KeycloakChange::RemoveDefaultRole { realm: realm(), role: OFFLINE_ACCESS.to_owned() });
        changes.push(KeycloakChange::MakeOptional { realm: realm(), attributes });
        changes.extend(provider_changes(desired, observed));
        return changes;
    };
    if let Some(from) = observed.ownership.former() {
        changes.push(KeycloakChange::TakeOver { realm: realm(), from: from.clone() });
    } else {
        let differences = diff::differences(&representation::realm_fields(desired), found);
        if !differences.is_empty() {
            changes.push(KeycloakChange::SetRealm { realm: realm(), differences });
        }
    }
    for (client, fields) in representation::client_fields(desired) {
        let Some(found) = observed.clients.get(&client) else {
            if ACCOUNT_CLIENTS.contains(&client.as_str()) {
                continue;
            }
            changes.push(KeycloakChange::CreateClient { realm: realm(), client });
            continue;
        };
        let differences = diff::differences(&diff::hide_secret(fields), found);
        if !differences.is_empty() {
            changes.push(KeycloakChange::SetClient { realm: realm(), client, differences });
        }
    }
    for role in &desired.roles {
        if !observed.roles.contains(role) {
            changes.push(KeycloakChange::CreateRole { realm: realm(), role: role.clone() });
        }
    }
    let wanted = BTreeSet::from(SERVICE_ROLES.map(str::to_owned));
    for role in observed.service_roles.difference(&wanted) {
        changes.push(KeycloakChange::RevokeServiceRole { realm: realm(), role: role.clone() });
    }
    for role in wanted.difference(&observed.service_roles) {
        changes.push(KeycloakChange::GrantServiceRole { realm: realm(), role: role.clone() });
    }
    if observed.has_offline_scope {
        changes.push(KeycloakChange::RemoveScope { realm: realm(), scope: OFFLINE_ACCESS.to_owned() });
    }
    if observed.has_offline_role {
        changes.push(KeycloakChange::RemoveDefaultRole { realm: realm(), role: OFFLINE_ACCESS.to_owned() });
    }
    let attributes = OPTIONAL_ATTRIBUTES.map(str::to_owned).into_iter();
    let attributes: Vec<_> = attributes.filter(|name| observed.required_attributes.contains(name)).collect();
    if !attributes.is_empty() {
        changes.push(KeycloakChange::MakeOptional { realm: realm(), attributes });
    }
    // Last: that of another's server which does not answer holds up nothing.
    changes.extend(provider_changes(desired, observed));
    changes
}

/// Returns what leads to the declared identity providers. One whose secret is not known stays as it is.
fn provider_changes(desired: &KeycloakDesired, observed: &KeycloakObserved) -> Vec<KeycloakChange> {
    let realm = || desired.realm.clone();
    let is_declared = |alias: &String| desired.providers.iter().any(|provider| provider.alias == *alias);
    let dropped = observed.providers.iter().filter(|(alias, _)| !is_declared(alias));
    let mut changes: Vec<_> = dropped
        .filter_map(|(alias, found)| {
            let (realm, provider) = (realm(), alias.clone());
            if observed.outdated_providers.contains(alias) {
                return Some(KeycloakChange::RemoveProvider { realm, provider });
            }
            let is_disabled =
                found["enabled"] == false && found["config"][representation::DISABLED].is_string();
            (!is_disabled).then_some(KeycloakChange::DisableProvider { realm, provider })
        })
        .collect();
    for provider in &desired.providers {
        let (alias, Some(fields)) =
            (provider.alias.clone(), representation::provider_fields(desired, provider))
        else {
            continue;
        };
        match observed.providers.get(&alias) {
            None => changes.push(KeycloakChange::CreateProvider { realm: realm(), provider: alias }),
            // Keycloak knows the users of a provider by its alias: those of another issuer would open their accounts.
            Some(found) if found.pointer(ISSUER) != fields.pointer(ISSUER) => {
                changes.push(KeycloakChange::RemoveProvider { realm: realm(), provider: alias.clone() });
                changes.push(KeycloakChange::CreateProvider { realm: realm(), provider: alias });
            }
            Some(found) => {
                // It is of no use until its issuer names others: Keycloak would call these.
                if found["config"][representation::ENDPOINTS] == representation::NOT_ALLOWED
                    && found["enabled"] != false
                {
                    changes.push(KeycloakChange::DisableProvider { realm: realm(), provider: alias.clone() });
                }
                let differences = diff::differences(&fields, found);
                if !differences.is_empty() {
                    changes.push(KeycloakChange::SetProvider {
                        realm: realm(),
                        provider: alias,
                        differences,
                    });
                }
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::backend::ownership::testing::{inherited, owner};

    fn desired() -> KeycloakDesired {
        KeycloakDesired {
            realm: "acme".into(),
            owner: owner(),
            display_name: "Acme".into(),
            access_token_seconds: 300,
            redirect_uris: vec!["http://acme.localhost:8000/*".into()],
            web_origins: vec!["http://acme.localhost:8000".into()],
            roles: vec!["moderator".into()],
            auth_client_secret: "secret-word".into(),
            providers: vec![Provider {
                alias: "corp".into(),
                display_name: "Corp".into(),
                issuer: "https://id.corp.example".into(),
                client_id: "posthouse".into(),
                client_secret: Some("secret-word too".into()),
                scopes: vec!["openid".into(), "email".into()],
            }],
            provider_hosts: vec!["corp.example".into()],
        }
    }

    fn check(edit: impl FnOnce(&mut KeycloakObserved), expected: &[&str]) {
        let desired = desired();
        let clients = representation::client_fields(&desired);
        let mut observed = KeycloakObserved {
            ownership: Ownership::Ours,
            realm_id: Some("id-1".to_owned()),
            realm: Some(representation::realm_fields(&desired)),
            clients: clients.into_iter().map(|(id, fields)| (id, diff::hide_secret(fields))).collect(),
            roles: BTreeSet::from(["moderator".to_owned(), "offline_access".to_owned()]),
            service_roles: SERVICE_ROLES.map(str::to_owned).into(),
            has_offline_scope: false,
            has_offline_role: false,
            required_attributes: BTreeSet::new(),
            providers: desired
                .providers
                .iter()
                .filter_map(|provider| {
                    Some((provider.alias.clone(), representation::provider_fields(&desired, provider)?))
                })
                .collect(),
            outdated_providers: BTreeSet::new(),
        };
        edit(&mut observed);
        let changes = plan(&desired, &observed);
        let texts: Vec<_> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
        assert!(!format!("{changes:?}{observed:?}{desired:?}").contains("secret-word"));
    }

    #[test]
    fn a_steady_tenant_needs_nothing() {
        check(|_| {}, &[]);
    }

    #[test]
    fn a_new_tenant_gets_its_realm_in_one_request() {
        check(
            |observed| *observed = KeycloakObserved::default(),
            &[
                "create realm acme",
                "set client account of realm acme: enabled true -> false",
                "set client account-console of realm acme: enabled true -> false",
                "remove the client scope offline_access of realm acme",
                "take the role offline_access from the users of realm acme",
                "make email, firstName, lastName of users in realm acme optional",
                "create identity provider corp of realm acme",
            ],
        );
    }

    #[test]
    fn hand_edits_are_named_by_field_and_no_secret_is_shown() {
        check(
            |observed| {
                observed.realm.as_mut().unwrap()["accessTokenLifespan"] = json!(60);
                observed.clients.get_mut(ADMIN_CLIENT).unwrap()["directAccessGrantsEnabled"] = json!(true);
                observed.clients.get_mut(APP_CLIENT).unwrap()["redirectUris"] = json!(["*"]);
                observed.clients.get_mut(AUTH_CLIENT).unwrap()["secret"] = json!("0".repeat(64));
            },
            &[
                "set realm acme: accessTokenLifespan 60 -> 300",
                "set client messenger of realm acme: redirectUris [\"*\"] -> [\"http://acme.localhost:8000/*\"]",
                "set client messenger-auth of realm acme: secret (hidden)",
                "set client admin-cli of realm acme: directAccessGrantsEnabled true -> false",
            ],
        );
        check(
            |observed| {
                observed.clients.remove(AUTH_CLIENT);
                observed.service_roles = BTreeSet::from(["realm-admin".to_owned(), "view-users".to_owned()]);
                observed.roles.clear();
                observed.required_attributes = BTreeSet::from(["email".to_owned(), "nickname".to_owned()]);
                observed.clients.remove("account");
                observed.clients.get_mut("account-console").unwrap()["enabled"] = json!(true);
                (observed.has_offline_scope, observed.has_offline_role) = (true, true);
            },
            &[
                "create client messenger-auth of realm acme",
                "set client account-console of realm acme: enabled true -> false",
                "create role moderator of realm acme",
                "revoke realm-admin from the service account of messenger-auth of realm acme",
                "grant manage-users to the service account of messenger-auth of realm acme",
                "grant query-users to the service account of messenger-auth of realm acme",
                "remove the client scope offline_access of realm acme",
                "take the role offline_access from the users of realm acme",
                "make email of users in realm acme optional",
            ],
        );
    }

    #[test]
    fn identity_providers_are_repaired_by_field_and_kept_disabled_when_they_are_declared_no_more() {
        check(
            |observed| {
                let corp = observed.providers.get_mut("corp").unwrap();
                corp["trustEmail"] = json!(true);
                corp["config"][representation::SECRET] = json!("of another secret");
                corp["config"][representation::ENDPOINTS] = json!("changed");
                let disabled =
                    json!({"enabled": false, "config": {(representation::DISABLED): "1790000000000"}});
                observed.providers.insert("kept".to_owned(), disabled.clone());
                observed.providers.insert("old".to_owned(), disabled);
                observed.outdated_providers.insert("old".to_owned());
                observed.providers.insert("dropped".to_owned(), json!({"enabled": true}));
                // By hand, so that it is not known since when.
                observed.providers.insert("paused".to_owned(), json!({"enabled": false}));
            },
            &[
                "disable identity provider dropped of realm acme, and keep the links of its users for 30 days",
                "remove identity provider old of realm acme",
                "disable identity provider paused of realm acme, and keep the links of its users for 30 days",
                "set identity provider corp of realm acme: config.posthouse.endpoints changed -> as discovered, \
                 config.posthouse.secret (hidden), trustEmail true -> false",
            ],
        );
        check(
            |observed| {
                observed.providers.get_mut("corp").unwrap()["config"]["issuer"] =
                    json!("https://other.example");
            },
            &["remove identity provider corp of realm acme", "create identity provider corp of realm acme"],
        );
        check(
            |observed| observed.providers.get_mut("corp").unwrap()["enabled"] = json!(false),
            &["set identity provider corp of realm acme: enabled false -> true"],
        );
        for (enabled, is_disabled) in [(true, true), (false, false)] {
            let disable =
                "disable identity provider corp of realm acme, and keep the links of its users for 30 days";
            let set = "set identity provider corp of realm acme: config.posthouse.endpoints not allowed -> as discovered";
            let enable = format!("{set}, enabled false -> true");
            let expected = if is_disabled { vec![disable, set] } else { vec![enable.as_str()] };
            check(
                |observed| {
                    let corp = observed.providers.get_mut("corp").unwrap();
                    corp["config"][representation::ENDPOINTS] = json!(representation::NOT_ALLOWED);
                    corp["enabled"] = json!(enabled);
                },
                &expected,
            );
        }
        let mut desired = desired();
        desired.providers[0].client_secret = None;
        let observed = KeycloakObserved {
            realm: Some(json!({})),
            providers: BTreeMap::from([("corp".to_owned(), json!({"enabled": false}))]),
            ..KeycloakObserved::default()
        };
        assert_eq!(provider_changes(&desired, &observed), [], "without its secret it is left as it is");
    }

    #[test]
    fn what_a_former_owner_left_is_taken_over() {
        for (ownership, line, _) in inherited("realm acme") {
            check(
                |observed| {
                    observed.ownership = ownership;
                    observed.realm.as_mut().unwrap()["enabled"] = json!(false);
                },
                &[&line],
            );
        }
    }
}
