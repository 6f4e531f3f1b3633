//! What is declared, in Keycloak's own types: a misspelt field does not compile, where Keycloak would drop it silently.

use std::collections::HashMap;

use catalog::{
    REALM_FAILURES, REALM_FAILURES_SECONDS, REFRESH_RETRIES, SIGN_IN_CALLBACK_PATH, USERNAME_PATTERN,
    USERNAME_RULE,
};
use keycloak::types::{
    ClientRepresentation, IdentityProviderRepresentation, ProtocolMapperRepresentation, RealmRepresentation,
    RoleRepresentation, RolesRepresentation, ScopeMappingRepresentation, UserRepresentation,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ADMIN_CLIENT, APP_CLIENT, AUTH_CLIENT, KeycloakDesired, MANAGEMENT_CLIENT, SERVICE_ROLES};
use crate::{
    providers::Provider,
    text::{hex, html},
};

/// Realm attribute with the owner marker.
pub(super) const OWNER: &str = "posthouse.owner";
/// Realm attributes that the theme in `deploy/keycloak-theme` reads. Empty where the tenant declares none.
pub(super) const COLOR: &str = "posthouse.color";
pub(super) const LOGO: &str = "posthouse.logo";
/// In the configuration of an identity provider: a hash of its client secret, which Keycloak never shows, and one of what its issuer
/// declared. Who has them was made by the operator.
pub(super) const SECRET: &str = "posthouse.secret";
pub(super) const ENDPOINTS: &str = "posthouse.endpoints";
/// In the configuration of an identity provider that is declared no more: since when, in milliseconds since the epoch.
pub(super) const DISABLED: &str = "posthouse.disabled";
/// Stands for the hash of [`ENDPOINTS`] where both sides are compared.
pub(super) const AS_DISCOVERED: &str = "as discovered";
/// Likewise where one of them is on a host that the cell does not allow any more.
pub(super) const NOT_ALLOWED: &str = "not allowed";
/// What is read from the discovery document of an issuer.
pub(super) const DISCOVERED: [&str; 5] =
    ["authorizationUrl", "tokenUrl", "userInfoUrl", "jwksUrl", "logoutUrl"];

// What a realm of Keycloak 26 is born with beside what is declared below, and what becomes of it. The auth service is the only door:
// whatever would let users, or who has one of their tokens, change an account past it is off.
//
// Kept: the client `realm-management`, on which the rights of the service account hang; the realm's own roles, which no user has; the
// scopes `acr`, `basic`, `email`, `profile` and `web-origins`, which tokens and OpenID Connect need; the flows, of which those for
// registration and forgotten passwords are off by settings of the realm; the keys; client registration with a token of an
// administrator.

/// Clients that are disabled: the pages and the API by which users administer their accounts at the realm itself, the console by which
/// administrators do, and the one that gives out tokens of identity providers. Keycloak's code asks for them by name, so they stay.
pub(super) const DISABLED_CLIENTS: [&str; 4] =
    ["account", "account-console", "broker", "security-admin-console"];
/// Client scopes that are removed. With `offline_access` a client gets tokens that outlive every session, and that no list of sessions
/// shows. `roles` writes the roles of a user into tokens, and the clients of these roles into their audience. The others are for
/// SAML, or for what no account has.
pub(super) const REMOVED_SCOPES: [&str; 10] = [
    "AuthnContextClassRef",
    "address",
    "microprofile-jwt",
    "offline_access",
    "organization",
    "phone",
    "role_list",
    "roles",
    "saml_organization",
    "service_account",
];
/// Roles that every user of a new realm has. None is left: these open the account API, and tokens that outlive every session.
pub(super) const DEFAULT_ROLES: [&str; 4] =
    ["manage-account", "offline_access", "uma_authorization", "view-profile"];
/// Required actions of a new realm that are on. A browser that is signed in may ask for each (`kc_action`), without the password: to
/// link an identity, or to set a password. None is on, one that a later Keycloak brings neither.
pub(super) const REQUIRED_ACTIONS: [&str; 11] = [
    "CONFIGURE_RECOVERY_AUTHN_CODES",
    "CONFIGURE_TOTP",
    "UPDATE_PASSWORD",
    "UPDATE_PROFILE",
    "VERIFY_EMAIL",
    "VERIFY_PROFILE",
    "delete_credential",
    "idp_link",
    "update_user_locale",
    "webauthn-register",
    "webauthn-register-passwordless",
];
/// Where a realm has the policies for clients that register themselves.
pub(super) const REGISTRATION_POLICY: &str =
    "org.keycloak.services.clientregistration.policy.ClientRegistrationPolicy";

/// Languages of the pages on which users sign in: those of the web client, which says which one its user has.
const LANGUAGES: [&str; 2] = ["en", "ru"];

const PASSWORD_POLICY: &str = "length(8)";
/// Users of a messenger stay signed in: 14 days away, 90 days in all.
const SESSION_IDLE_SECONDS: i32 = 14 * 24 * 3600;
const SESSION_MAX_SECONDS: i32 = 90 * 24 * 3600;

const MAX_LOCK_SECONDS: i32 = 60;
/// Asks for the password of an account before it is linked: of the one that has the username.
const FIRST_LOGIN_FLOW: &str = "first broker login";

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> Option<HashMap<String, String>> {
    Some(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
}

fn realm(desired: &KeycloakDesired) -> RealmRepresentation {
    RealmRepresentation {
        realm: text(&desired.realm),
        enabled: Some(true),
        display_name: text(&desired.display_name),
        // Without it Keycloak takes the name for HTML.
        display_name_html: Some(html(&desired.display_name)),
        // Empty is Keycloak's own.
        login_theme: text(desired.login_theme.as_deref().unwrap_or_default()),
        internationalization_enabled: Some(true),
        supported_locales: Some(LANGUAGES.map(str::to_owned).into()),
        default_locale: text(LANGUAGES[0]),
        // Users register with the auth service, which knows the rules for names. Keycloak's own form knows none of them.
        registration_allowed: Some(false),
        edit_username_allowed: Some(false),
        reset_password_allowed: Some(false),
        remember_me: Some(false),
        verify_email: Some(false),
        // An address is no second name of an account: it would have guesses of its own, and stand where the username does.
        login_with_email_allowed: Some(false),
        registration_email_as_username: Some(false),
        // Addresses are looked up by nobody at the realm. Otherwise a provider that says one would learn of the account that has it, with
        // its username: the first sign-in asks for the password of that account. Confirmed ones are kept apart by the auth service.
        duplicate_emails_allowed: Some(true),
        user_managed_access_allowed: Some(false),
        organizations_enabled: Some(false),
        browser_flow: text("browser"),
        direct_grant_flow: text("direct grant"),
        first_broker_login_flow: text(FIRST_LOGIN_FLOW),
        client_authentication_flow: text("clients"),
        password_policy: text(PASSWORD_POLICY),
        // For Keycloak's own pages; the auth service has limits of its own, which are no lock for others. A stranger who
        // tries passwords there keeps an account locked no longer than this.
        brute_force_protected: Some(true),
        failure_factor: Some(i32::from(REALM_FAILURES)),
        max_delta_time_seconds: Some(i32::from(REALM_FAILURES_SECONDS)),
        // Otherwise two wrong passwords within a second lock the account.
        quick_login_check_milli_seconds: Some(0),
        max_failure_wait_seconds: Some(MAX_LOCK_SECONDS),
        // A token that is used again was stolen. That it is used again while its response may have been lost is for the auth
        // service to tell, which also makes one of refreshes at the same moment.
        revoke_refresh_token: Some(true),
        refresh_token_max_reuse: Some(i32::from(REFRESH_RETRIES)),
        access_token_lifespan: Some(desired.access_token_seconds),
        sso_session_idle_timeout: Some(SESSION_IDLE_SECONDS),
        sso_session_max_lifespan: Some(SESSION_MAX_SECONDS),
        attributes: map([
            (OWNER, &desired.owner.marker().to_string()),
            (COLOR, desired.color.as_deref().unwrap_or_default()),
            (LOGO, desired.logo.as_deref().unwrap_or_default()),
        ]),
        ..Default::default()
    }
}

/// Adds `aud: messenger`, which every service checks, to the access token.
fn audience_mapper() -> ProtocolMapperRepresentation {
    ProtocolMapperRepresentation {
        name: text("audience"),
        protocol: text("openid-connect"),
        protocol_mapper: text("oidc-audience-mapper"),
        config: map([
            ("included.client.audience", APP_CLIENT),
            ("access.token.claim", "true"),
            ("id.token.claim", "false"),
            ("introspection.token.claim", "true"),
        ]),
        ..Default::default()
    }
}

/// Grants without a page or a password that no client here has.
const NO_GRANTS: [(&str, &str); 2] =
    [("oauth2.device.authorization.grant.enabled", "false"), ("oidc.ciba.grant.enabled", "false")];
const PKCE: (&str, &str) = ("pkce.code.challenge.method", "S256");

fn app_client(desired: &KeycloakDesired) -> ClientRepresentation {
    ClientRepresentation {
        client_id: text(APP_CLIENT),
        enabled: Some(true),
        public_client: Some(true),
        standard_flow_enabled: Some(true),
        implicit_flow_enabled: Some(false),
        direct_access_grants_enabled: Some(false),
        service_accounts_enabled: Some(false),
        redirect_uris: Some(desired.redirect_uris.clone()),
        web_origins: Some(desired.web_origins.clone()),
        base_url: home(desired),
        // Its tokens carry no role of their user.
        full_scope_allowed: Some(false),
        attributes: map([PKCE, NO_GRANTS[0], NO_GRANTS[1]]),
        protocol_mappers: Some(vec![audience_mapper()]),
        ..Default::default()
    }
}

fn auth_client(desired: &KeycloakDesired) -> ClientRepresentation {
    ClientRepresentation {
        client_id: text(AUTH_CLIENT),
        enabled: Some(true),
        public_client: Some(false),
        secret: text(desired.auth_client_secret.expose_secret()),
        // The sign-in with an external provider comes back to the auth service, and to no other place.
        standard_flow_enabled: Some(!desired.providers.is_empty()),
        base_url: home(desired),
        redirect_uris: Some(if desired.providers.is_empty() { Vec::new() } else { callbacks(desired) }),
        attributes: if desired.providers.is_empty() {
            map(NO_GRANTS)
        } else {
            map([PKCE, NO_GRANTS[0], NO_GRANTS[1]])
        },
        // Its tokens carry the roles of the service account that are mapped, and no role of the user who signs in.
        full_scope_allowed: Some(false),
        implicit_flow_enabled: Some(false),
        direct_access_grants_enabled: Some(true),
        service_accounts_enabled: Some(true),
        protocol_mappers: Some(vec![audience_mapper()]),
        ..Default::default()
    }
}

/// Returns where pages of the realm lead back to, as for an account or a password that it does not give: the messenger does.
fn home(desired: &KeycloakDesired) -> Option<String> {
    desired.web_origins.first().map(|origin| format!("{origin}/"))
}

fn callbacks(desired: &KeycloakDesired) -> Vec<String> {
    desired.web_origins.iter().map(|origin| format!("{origin}{SIGN_IN_CALLBACK_PATH}")).collect()
}

/// Keycloak's own client for its command line. It would sign in any user by password, past the auth service.
fn admin_client() -> ClientRepresentation {
    ClientRepresentation {
        client_id: text(ADMIN_CLIENT),
        enabled: Some(false),
        public_client: Some(true),
        standard_flow_enabled: Some(false),
        implicit_flow_enabled: Some(false),
        direct_access_grants_enabled: Some(false),
        service_accounts_enabled: Some(false),
        ..Default::default()
    }
}

/// One of [`DISABLED_CLIENTS`].
fn disabled_client(client: &str) -> ClientRepresentation {
    ClientRepresentation { client_id: text(client), enabled: Some(false), ..Default::default() }
}

fn service_account() -> UserRepresentation {
    let roles = SERVICE_ROLES.map(str::to_owned).into();
    UserRepresentation {
        username: Some(format!("service-account-{AUTH_CLIENT}")),
        enabled: Some(true),
        service_account_client_id: text(AUTH_CLIENT),
        client_roles: Some(HashMap::from([(MANAGEMENT_CLIENT.to_owned(), roles)])),
        ..Default::default()
    }
}

/// An external identity provider. What it says of an e-mail address is not believed, so that no account is opened by it nor found by it:
/// users show the password of an account that has their username already.
fn provider(
    desired: &KeycloakDesired,
    provider: &Provider,
    endpoints: &str,
) -> Option<IdentityProviderRepresentation> {
    let secret = provider.client_secret.as_ref()?.expose_secret();
    let hash =
        Sha256::digest([&desired.realm, &provider.alias, secret].map(|part| format!("{part}\0")).concat());
    Some(IdentityProviderRepresentation {
        alias: text(&provider.alias),
        display_name: text(&provider.display_name),
        provider_id: text("oidc"),
        enabled: Some(true),
        trust_email: Some(false),
        store_token: Some(false),
        add_read_token_role_on_create: Some(false),
        authenticate_by_default: Some(false),
        link_only: Some(false),
        first_broker_login_flow_alias: text(FIRST_LOGIN_FLOW),
        config: map([
            ("issuer", &provider.issuer),
            ("clientId", &provider.client_id),
            ("defaultScope", &provider.scopes.join(" ")),
            ("clientAuthMethod", "client_secret_post"),
            ("validateSignature", "true"),
            ("useJwksUrl", "true"),
            ("pkceEnabled", "true"),
            ("pkceMethod", "S256"),
            ("syncMode", "IMPORT"),
            (SECRET, &hex(&hash)),
            (ENDPOINTS, endpoints),
        ]),
        ..Default::default()
    })
}

/// Returns the declared fields of an identity provider, to be compared; nothing while its secret is not known.
pub(super) fn provider_fields(desired: &KeycloakDesired, declared: &Provider) -> Option<Value> {
    provider(desired, declared, AS_DISCOVERED).map(|fields| json(&fields))
}

/// Returns the body of a request that makes or replaces an identity provider, with what its issuer declared.
pub(super) fn whole_provider(
    desired: &KeycloakDesired,
    declared: &Provider,
    discovered: &HashMap<String, String>,
) -> Option<IdentityProviderRepresentation> {
    let mut whole = provider(desired, declared, &endpoints_hash(|name| discovered.get(name).cloned()))?;
    let config = whole.config.get_or_insert_default();
    for name in DISCOVERED {
        config.extend(discovered.get(name).map(|url| (name.to_owned(), url.clone())));
    }
    let secret = declared.client_secret.as_ref()?.expose_secret();
    config.insert("clientSecret".to_owned(), secret.to_owned());
    Some(whole)
}

/// Returns the hash of what an issuer declared.
pub(super) fn endpoints_hash(url: impl Fn(&str) -> Option<String>) -> String {
    let text: Vec<_> =
        DISCOVERED.iter().map(|name| format!("{name}={}", url(name).unwrap_or_default())).collect();
    hex(&Sha256::digest(text.join("\n")))
}

/// Returns the body of the one request that makes a realm. It names no client scopes: naming any would replace all of
/// Keycloak's own, and tokens would lose `sub` and `aud`.
pub(super) fn whole_realm(desired: &KeycloakDesired) -> Value {
    let role = |name: &String| RoleRepresentation { name: text(name), ..Default::default() };
    let roles = desired.roles.iter().map(role).collect();
    json(&RealmRepresentation {
        clients: Some(vec![app_client(desired), auth_client(desired), admin_client()]),
        users: Some(vec![service_account()]),
        client_scope_mappings: Some(HashMap::from([(
            MANAGEMENT_CLIENT.to_owned(),
            vec![ScopeMappingRepresentation {
                client: text(AUTH_CLIENT),
                roles: Some(SERVICE_ROLES.map(str::to_owned).into()),
                ..Default::default()
            }],
        )])),
        roles: Some(RolesRepresentation { realm: Some(roles), ..Default::default() }),
        ..realm(desired)
    })
}

/// Returns the declared settings of the realm itself.
pub(super) fn realm_fields(desired: &KeycloakDesired) -> Value {
    json(&realm(desired))
}

/// Returns the declared fields of each client, with its secret.
pub(super) fn client_fields(desired: &KeycloakDesired) -> Vec<(String, Value)> {
    let own = [
        (APP_CLIENT.to_owned(), json(&app_client(desired))),
        (AUTH_CLIENT.to_owned(), json(&auth_client(desired))),
        (ADMIN_CLIENT.to_owned(), json(&admin_client())),
    ];
    let keycloaks = DISABLED_CLIENTS.map(|client| (client.to_owned(), json(&disabled_client(client))));
    own.into_iter().chain(keycloaks).collect()
}

/// Attributes of a user that a fresh realm requires, and lets users change. A tenant's users need none but a name to sign in with, and
/// an address is theirs once they have shown the auth service that they read mail there.
const PERSONAL_ATTRIBUTES: [&str; 3] = ["email", "firstName", "lastName"];
const USERNAME: &str = "username";

/// Returns an attribute of the user profile of a realm as it should be. Names are checked where an account is made, also on the page
/// on which a user of an identity provider chooses another one. Those that are there already are not checked again.
pub(super) fn profile_attribute(found: &Value) -> Value {
    let mut attribute = found.clone();
    let name = found["name"].as_str().unwrap_or_default();
    if PERSONAL_ATTRIBUTES.contains(&name) {
        attribute.as_object_mut().map(|fields| fields.remove("required"));
        attribute["permissions"] = json!({ "view": ["admin", "user"], "edit": ["admin"] });
    } else if name == USERNAME {
        attribute["validations"]["pattern"] =
            json!({ "pattern": USERNAME_PATTERN, "error-message": USERNAME_RULE });
    }
    attribute
}

/// Returns which attributes of the user profile are not as they should be.
pub(super) fn profile_differences(profile: &Value) -> Vec<String> {
    let attributes = profile["attributes"].as_array().into_iter().flatten();
    let differing = attributes.filter(|found| {
        let expected = profile_attribute(found);
        found.get("required") != expected.get("required")
            || !super::diff::differences(&expected, found).is_empty()
    });
    differing.filter_map(|found| found["name"].as_str().map(str::to_owned)).collect()
}

/// Returns the attributes that differ in a new realm.
pub(super) fn new_profile_differences() -> Vec<String> {
    PERSONAL_ATTRIBUTES.into_iter().chain([USERNAME]).map(str::to_owned).collect()
}

/// Returns the policy that lets no client register itself without a token of an administrator.
pub(super) fn no_registration() -> Value {
    json!({
        "name": "Max Clients Limit",
        "providerId": MAX_CLIENTS,
        "providerType": REGISTRATION_POLICY,
        "subType": "anonymous",
        "config": { MAX_CLIENTS: ["0"] },
    })
}
const MAX_CLIENTS: &str = "max-clients";

/// Reports whether a policy limits the number of clients that register themselves, whatever the number.
pub(super) fn is_registration_limit(policy: &Value) -> bool {
    policy["providerId"] == MAX_CLIENTS && policy["subType"] == "anonymous"
}

fn json(representation: &impl serde::Serialize) -> Value {
    serde_json::to_value(representation).expect("Keycloak's types are plain data")
}
