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
/// Keycloak's own client on which the rights hang with which a realm is administered.
const MANAGEMENT_CLIENT: &str = "realm-management";
/// For how long the realm keeps an identity provider, disabled, that is declared no more: with it Keycloak deletes the links of its
/// users. A month is longer than it takes to notice a manifest that was wrong.
const PROVIDER_RETENTION_DAYS: i64 = 30;
/// Where the issuer of an identity provider is.
const ISSUER: &str = "/config/issuer";
/// Rights of the auth service within its realm. No privilege hangs on a realm role: an account that may manage users can grant
/// any plain realm role.
pub const SERVICE_ROLES: [&str; 3] = ["manage-users", "query-users", "view-users"];

/// What a tenant should have in Keycloak.
#[derive(Clone, Debug)]
pub struct KeycloakDesired {
    pub realm: String,
    pub owner: Owner,
    /// What users read as the name of the messenger.
    pub display_name: String,
    /// The tenant's colour, `#rrggbb`.
    pub color: Option<String>,
    /// The tenant's picture, as a `data:` URL.
    pub logo: Option<String>,
    /// The theme of the pages on which users sign in.
    pub login_theme: Option<String>,
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
            display_name: tenant.display_name().to_owned(),
            color: tenant.branding.color.clone(),
            logo: tenant.branding.logo.clone(),
            login_theme: tenant.cell.spec.keycloak.login_theme.clone(),
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
    /// Rights of the service account.
    pub service_roles: BTreeSet<String>,
    /// Those of them that its tokens carry.
    pub scope_roles: BTreeSet<String>,
    /// Client scopes that the realm was born with and should not have.
    pub scopes: BTreeSet<String>,
    /// Roles that every user has.
    pub default_roles: BTreeSet<String>,
    /// Required actions that are on.
    pub actions: BTreeSet<String>,
    /// Attributes of the user profile that have other rules.
    pub profile: BTreeSet<String>,
    /// Whether clients may register themselves.
    pub takes_clients: bool,
    /// External identity providers that are declared, or that the operator made.
    pub providers: BTreeMap<String, Value>,
    /// Those that were disabled longer ago than `PROVIDER_RETENTION_DAYS`.
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
    RemoveScopes { realm: String, scopes: Vec<String> },
    RemoveDefaultRoles { realm: String, roles: Vec<String> },
    DisableActions { realm: String, actions: Vec<String> },
    SetProfile { realm: String, attributes: Vec<String> },
    CloseRegistration { realm: String },
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
            | Self::RemoveScopes { .. }
            | Self::RemoveDefaultRoles { .. }
            | Self::DisableActions { .. }
            | Self::SetProfile { .. }
            | Self::CloseRegistration { .. }
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
            Self::RemoveScopes { realm, scopes } => {
                write!(f, "remove client scopes of realm {realm}: {}", scopes.join(", "))
            }
            Self::RemoveDefaultRoles { realm, roles } => {
                write!(f, "take roles from all users of realm {realm}: {}", roles.join(", "))
            }
            Self::DisableActions { realm, actions } => {
                write!(f, "disable required actions of realm {realm}: {}", actions.join(", "))
            }
            Self::SetProfile { realm, attributes } => {
                write!(f, "set the rules of realm {realm} for users' {}", attributes.join(", "))
            }
            Self::CloseRegistration { realm } => {
                write!(f, "let no client register itself in realm {realm}")
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
        // Clients, roles and the service account come with the realm, and so does what Keycloak gives to each.
        changes.push(KeycloakChange::CreateRealm { realm: realm() });
        changes.extend(representation::DISABLED_CLIENTS.map(|client| {
            let field = "enabled".to_owned();
            let differences = vec![Difference { field, from: true.into(), to: false.into() }];
            KeycloakChange::SetClient { realm: realm(), client: client.to_owned(), differences }
        }));
        let born = KeycloakObserved {
            scopes: representation::REMOVED_SCOPES.map(str::to_owned).into(),
            default_roles: representation::DEFAULT_ROLES.map(str::to_owned).into(),
            actions: representation::REQUIRED_ACTIONS.map(str::to_owned).into(),
            profile: representation::new_profile_differences().into_iter().collect(),
            takes_clients: true,
            ..KeycloakObserved::default()
        };
        changes.extend(closing_changes(desired, &born));
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
    let mut settings = Vec::new();
    for (client, fields) in representation::client_fields(desired) {
        let Some(found) = observed.clients.get(&client) else {
            if !representation::DISABLED_CLIENTS.contains(&client.as_str()) {
                changes.push(KeycloakChange::CreateClient { realm: realm(), client });
            }
            continue;
        };
        let differences = diff::differences(&diff::hide_secret(fields), found);
        if !differences.is_empty() {
            settings.push(KeycloakChange::SetClient { realm: realm(), client, differences });
        }
    }
    let wanted = BTreeSet::from(SERVICE_ROLES.map(str::to_owned));
    for role in observed.service_roles.union(&observed.scope_roles).filter(|role| !wanted.contains(*role)) {
        changes.push(KeycloakChange::RevokeServiceRole { realm: realm(), role: role.clone() });
    }
    // Before the client, whose tokens carry no others from then on.
    for role in &wanted {
        if !observed.service_roles.contains(role) || !observed.scope_roles.contains(role) {
            changes.push(KeycloakChange::GrantServiceRole { realm: realm(), role: role.clone() });
        }
    }
    changes.extend(settings);
    for role in &desired.roles {
        if !observed.roles.contains(role) {
            changes.push(KeycloakChange::CreateRole { realm: realm(), role: role.clone() });
        }
    }
    changes.extend(closing_changes(desired, observed));
    // Last: that of another's server which does not answer holds up nothing.
    changes.extend(provider_changes(desired, observed));
    changes
}

/// Returns what takes away what a realm was born with, or was given by hand, and should not have.
fn closing_changes(desired: &KeycloakDesired, observed: &KeycloakObserved) -> Vec<KeycloakChange> {
    let realm = || desired.realm.clone();
    let list = |found: &BTreeSet<String>| {
        Some(found.iter().cloned().collect::<Vec<_>>()).filter(|found| !found.is_empty())
    };
    [
        list(&observed.scopes).map(|scopes| KeycloakChange::RemoveScopes { realm: realm(), scopes }),
        list(&observed.default_roles)
            .map(|roles| KeycloakChange::RemoveDefaultRoles { realm: realm(), roles }),
        list(&observed.actions).map(|actions| KeycloakChange::DisableActions { realm: realm(), actions }),
        list(&observed.profile).map(|attributes| KeycloakChange::SetProfile { realm: realm(), attributes }),
        observed.takes_clients.then(|| KeycloakChange::CloseRegistration { realm: realm() }),
    ]
    .into_iter()
    .flatten()
    .collect()
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
            display_name: "Acme <R&D>".into(),
            color: Some("#0a7b5c".into()),
            logo: None,
            login_theme: Some("posthouse".into()),
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
            scope_roles: SERVICE_ROLES.map(str::to_owned).into(),
            scopes: BTreeSet::new(),
            default_roles: BTreeSet::new(),
            actions: BTreeSet::new(),
            profile: BTreeSet::new(),
            takes_clients: false,
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
                "set client broker of realm acme: enabled true -> false",
                "set client security-admin-console of realm acme: enabled true -> false",
                "remove client scopes of realm acme: AuthnContextClassRef, address, microprofile-jwt, offline_access, \
                 organization, phone, role_list, roles, saml_organization, service_account",
                "take roles from all users of realm acme: manage-account, offline_access, uma_authorization, view-profile",
                "disable required actions of realm acme: CONFIGURE_RECOVERY_AUTHN_CODES, CONFIGURE_TOTP, \
                 UPDATE_PASSWORD, UPDATE_PROFILE, VERIFY_EMAIL, VERIFY_PROFILE, delete_credential, idp_link, \
                 update_user_locale, webauthn-register, webauthn-register-passwordless",
                "set the rules of realm acme for users' email, firstName, lastName, username",
                "let no client register itself in realm acme",
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
                observed.scope_roles = BTreeSet::from(["manage-realm".to_owned(), "query-users".to_owned()]);
                observed.profile = BTreeSet::from(["email".to_owned()]);
                observed.clients.remove("account");
                observed.clients.get_mut("account-console").unwrap()["enabled"] = json!(true);
                observed.scopes = BTreeSet::from(["offline_access".to_owned()]);
                observed.default_roles = BTreeSet::from(["manage-account".to_owned(), "vip".to_owned()]);
                observed.actions = BTreeSet::from(["idp_link".to_owned()]);
                observed.takes_clients = true;
            },
            &[
                "create client messenger-auth of realm acme",
                "revoke manage-realm from the service account of messenger-auth of realm acme",
                "revoke realm-admin from the service account of messenger-auth of realm acme",
                "grant manage-users to the service account of messenger-auth of realm acme",
                "grant query-users to the service account of messenger-auth of realm acme",
                "grant view-users to the service account of messenger-auth of realm acme",
                "set client account-console of realm acme: enabled true -> false",
                "create role moderator of realm acme",
                "remove client scopes of realm acme: offline_access",
                "take roles from all users of realm acme: manage-account, vip",
                "disable required actions of realm acme: idp_link",
                "set the rules of realm acme for users' email",
                "let no client register itself in realm acme",
            ],
        );
    }

    #[test]
    fn a_realm_has_the_name_and_the_looks_of_the_tenant() {
        let declared = desired();
        let realm = representation::realm_fields(&declared);
        assert_eq!(realm["displayName"], "Acme <R&D>");
        assert_eq!(realm["displayNameHtml"], "Acme &lt;R&amp;D&gt;", "a name is no HTML");
        assert_eq!(realm["loginTheme"], "posthouse");
        assert_eq!(realm["attributes"][representation::COLOR], "#0a7b5c");
        assert_eq!(realm["attributes"][representation::LOGO], "");
        let clients = representation::client_fields(&declared);
        for (client, fields) in &clients[..2] {
            assert_eq!(fields["baseUrl"], "http://acme.localhost:8000/", "{client}");
        }
        // By an administrator, or by the tenant before.
        check(
            |observed| {
                let realm = observed.realm.as_mut().unwrap();
                realm["displayName"] = json!("Globex");
                realm["loginTheme"] = json!("keycloak");
                realm["attributes"][representation::COLOR] = json!("#ff0000");
                realm["attributes"][representation::LOGO] = json!("A".repeat(9000));
            },
            &[&format!(
                "set realm acme: attributes.posthouse.color #ff0000 -> #0a7b5c, attributes.posthouse.logo {}… -> , \
                 displayName Globex -> Acme <R&D>, loginTheme keycloak -> posthouse",
                "A".repeat(197)
            )],
        );
    }

    #[test]
    fn a_cell_without_a_theme_and_a_tenant_without_looks_leave_none() {
        let plain = KeycloakDesired { color: None, login_theme: None, ..desired() };
        let differ = |found: Value| diff::differences(&representation::realm_fields(&plain), &found);
        let mut found = representation::realm_fields(&plain);
        // Keycloak does not return what is empty.
        found.as_object_mut().unwrap().remove("loginTheme");
        found["attributes"].as_object_mut().unwrap().remove(representation::COLOR);
        assert_eq!(differ(found.clone()), []);
        found["loginTheme"] = json!("posthouse");
        assert_eq!(differ(found)[0].to_string(), "loginTheme posthouse -> ");
    }

    #[test]
    fn names_and_addresses_of_users_have_the_rules_of_the_auth_service() {
        let profile = json!({"attributes": [
            {"name": "username", "validations": {"length": {"min": 3, "max": 255}}},
            {"name": "email", "required": {"roles": ["user"]}, "permissions": {"view": ["admin", "user"], "edit": ["admin"]}},
            {"name": "lastName", "permissions": {"view": ["admin", "user"], "edit": ["admin", "user"]}},
            {"name": "nickname", "required": {}},
        ]});
        assert_eq!(representation::profile_differences(&profile), ["username", "email", "lastName"]);
        let attributes = profile["attributes"].as_array().unwrap();
        let set: Vec<_> = attributes.iter().map(representation::profile_attribute).collect();
        assert_eq!(representation::profile_differences(&json!({ "attributes": set })), [""; 0]);
        assert_eq!(set[0]["validations"]["length"]["max"], 255, "the rules of others stay");
        assert_eq!(set[3], attributes[3], "and so do attributes of others");
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
