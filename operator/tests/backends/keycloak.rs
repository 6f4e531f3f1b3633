use std::collections::BTreeSet;

use crds::TenantId;
use operator::backend::keycloak::{APP_CLIENT, AUTH_CLIENT, KeycloakAdmin, KeycloakDesired, Provider};
use operator::backend::{Backend, Claim, Credentials, DataExpected, Marker, Mode, Owner, settle};
use operator::{leader::Fence, metrics::Metrics};
use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::conformance::{Fixture, suite};
use super::{admin_account, assert_reason, converge, env, owner, password, story, tenant_id, timed};

fn admin() -> KeycloakAdmin {
    Keycloak::connect(&Keycloak::address(), Keycloak::account())
}

fn desired() -> KeycloakDesired {
    Keycloak::desired(&tenant_id(), owner(), password())
}

fn claim(desired: &KeycloakDesired) -> Claim {
    Claim { name: desired.realm.clone(), owner: desired.owner.clone() }
}

/// Requests a token from a realm; returns the error code otherwise.
async fn token(realm: &str, form: &[(&str, &str)]) -> Result<String, String> {
    let url = format!("{}/realms/{realm}/protocol/openid-connect/token", env("KEYCLOAK_URL"));
    let answer: Value = Client::new().post(url).form(form).send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().map(str::to_owned);
    token.ok_or_else(|| answer["error_description"].as_str().unwrap_or_default().to_owned())
}

async fn try_service_token(desired: &KeycloakDesired) -> Result<String, String> {
    let secret = desired.auth_client_secret.expose_secret();
    let form = [("grant_type", "client_credentials"), ("client_id", AUTH_CLIENT), ("client_secret", secret)];
    token(&desired.realm, &form).await
}

async fn service_token(desired: &KeycloakDesired) -> String {
    try_service_token(desired).await.unwrap()
}

async fn user_token(desired: &KeycloakDesired, name: &str, password: &str) -> Result<String, String> {
    let secret = desired.auth_client_secret.expose_secret();
    let form = [
        ("grant_type", "password"),
        ("client_id", AUTH_CLIENT),
        ("client_secret", secret),
        ("username", name),
        ("password", password),
        ("scope", "openid"),
    ];
    token(&desired.realm, &form).await
}

async fn call(token: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let url = format!("{}/admin/realms/{path}", env("KEYCLOAK_URL"));
    let mut request = Client::new().request(method, url).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

/// What an administrator does by hand in the console.
async fn by_hand(method: Method, path: &str, body: Option<Value>) -> Value {
    let account = admin_account("KEYCLOAK");
    let form = [
        ("grant_type", "password"),
        ("client_id", "admin-cli"),
        ("username", &account.username),
        ("password", account.password.expose_secret()),
    ];
    let token = token("master", &form).await.unwrap();
    let (status, answer) = call(&token, method, path, body).await;
    assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{path}: {status} {answer}");
    answer
}

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

async fn client_id(realm: &str, client: &str) -> String {
    let found = by_hand(Method::GET, &format!("{realm}/clients?clientId={client}"), None).await;
    found[0]["id"].as_str().unwrap().to_owned()
}

pub struct Keycloak;

impl Fixture for Keycloak {
    type Backend = KeycloakAdmin;

    fn address() -> String {
        env("KEYCLOAK_URL").trim_start_matches("http://").to_owned()
    }

    fn account() -> Credentials {
        Credentials::new(env("KEYCLOAK_OPERATOR_CLIENT_ID"), env("KEYCLOAK_OPERATOR_CLIENT_SECRET"))
    }

    fn connect(address: &str, account: Credentials) -> KeycloakAdmin {
        KeycloakAdmin::new(format!("http://{address}"), account)
    }

    fn desired(id: &TenantId, owner: Owner, auth_client_secret: SecretString) -> KeycloakDesired {
        let realm = KeycloakAdmin::name(id);
        let origin = format!("http://{realm}.localhost:8000");
        KeycloakDesired {
            display_name: format!("Tenant {realm}"),
            color: Some("#0a7b5c".to_owned()),
            logo: None,
            login_theme: None,
            redirect_uris: vec![format!("{origin}/*"), "http://127.0.0.1/*".to_owned()],
            web_origins: vec![origin],
            roles: vec!["moderator".to_owned()],
            realm,
            owner,
            access_token_seconds: 300,
            auth_client_secret,
            providers: Vec::new(),
            provider_hosts: vec![provider_host()],
        }
    }

    async fn use_account(desired: &KeycloakDesired) -> Result<i64, String> {
        let service = try_service_token(desired).await?;
        let users = format!("{}/users", desired.realm);
        let user = json!({ "username": format!("user-{}", tenant_id()), "enabled": true });
        let (status, answer) = call(&service, Method::POST, &users, Some(user)).await;
        if status != StatusCode::CREATED {
            return Err(format!("{status} {answer}"));
        }
        let (_, found) = call(&service, Method::GET, &users, None).await;
        Ok(found.as_array().unwrap().len().try_into().unwrap())
    }

    async fn edit(KeycloakDesired { realm, .. }: &KeycloakDesired) -> Vec<String> {
        by_hand(Method::PUT, realm, Some(json!({ "accessTokenLifespan": 60 }))).await;
        by_hand(Method::DELETE, &format!("{realm}/roles/moderator"), None).await;
        vec![
            format!("set realm {realm}: accessTokenLifespan 60 -> 300"),
            format!("create role moderator of realm {realm}"),
        ]
    }

    async fn create_foreign(name: &str) {
        by_hand(Method::POST, "", Some(json!({ "realm": name, "enabled": true }))).await;
    }

    async fn foreign(name: &str) -> String {
        by_hand(Method::GET, name, None).await.to_string()
    }

    async fn mark(_: &KeycloakAdmin, KeycloakDesired { realm, .. }: &KeycloakDesired, _: &Marker, to: &str) {
        let mut found = by_hand(Method::GET, realm, None).await;
        found["attributes"]["posthouse.owner"] = to.into();
        by_hand(Method::PUT, realm, Some(found)).await;
    }

    async fn lose(KeycloakDesired { realm, .. }: &KeycloakDesired) -> bool {
        by_hand(Method::DELETE, realm, None).await;
        true
    }

    async fn remove_foreign(name: &str) {
        by_hand(Method::DELETE, name, None).await;
    }
}

suite!(Keycloak);

#[tokio::test]
async fn tenant_is_made_kept_repaired_and_removed() {
    let (admin, desired) = (admin(), desired());
    let realm = desired.realm.clone();
    let body = async {
        let made = timed("keycloak create", converge(&admin, &desired)).await;
        assert_eq!(made[0], format!("create realm {realm}"));
        assert_eq!(timed("keycloak steady", converge(&admin, &desired)).await, [""; 0]);

        // The tenant's own path works: the service account registers a user, who then signs in by name and password.
        let service = service_token(&desired).await;
        let credentials = json!([{ "type": "password", "value": "long enough", "temporary": false }]);
        let user = json!({ "username": "alice", "enabled": true, "credentials": credentials });
        let (status, answer) = call(&service, Method::POST, &format!("{realm}/users"), Some(user)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let claims = claims(&user_token(&desired, "alice", "long enough").await.unwrap());
        assert_eq!(claims["preferred_username"], "alice");
        assert!(claims["sub"].is_string(), "{claims}");
        let audience = &claims["aud"];
        let ours = |audience: &Value| audience == APP_CLIENT;
        assert!(
            ours(audience) || audience.as_array().is_some_and(|list| list.iter().any(ours)),
            "{audience}"
        );
        let weak = json!({ "username": "bob", "credentials": [{ "type": "password", "value": "short" }] });
        let (status, _) = call(&service, Method::POST, &format!("{realm}/users"), Some(weak)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        // It may do nothing else in its realm.
        let wish = json!({ "accessTokenLifespan": 9 });
        assert_eq!(call(&service, Method::PUT, &realm, Some(wish)).await.0, StatusCode::FORBIDDEN);

        // A manual edit.
        by_hand(
            Method::PUT,
            &realm,
            Some(json!({ "accessTokenLifespan": 60, "passwordPolicy": "length(1)" })),
        )
        .await;
        let app = client_id(&realm, APP_CLIENT).await;
        let edit = json!({ "redirectUris": ["*"], "attributes": { "pkce.code.challenge.method": "" } });
        by_hand(Method::PUT, &format!("{realm}/clients/{app}"), Some(edit)).await;
        let auth = client_id(&realm, AUTH_CLIENT).await;
        let edit = json!({ "secret": "by hand", "protocolMappers": [] });
        by_hand(Method::PUT, &format!("{realm}/clients/{auth}"), Some(edit)).await;
        by_hand(Method::DELETE, &format!("{realm}/roles/moderator"), None).await;
        let repaired = timed("keycloak repair", converge(&admin, &desired)).await;
        assert_eq!(repaired.len(), 4, "{repaired:#?}");
        let head = format!(
            "set realm {realm}: accessTokenLifespan 60 -> 300, passwordPolicy length(1) -> length(8)"
        );
        assert_eq!(repaired[0], head);
        assert!(repaired[1].contains("redirectUris [\"*\"] -> "), "{}", repaired[1]);
        assert!(repaired[1].contains("pkce.code.challenge.method unset -> S256"), "{}", repaired[1]);
        assert!(
            repaired[2].contains("secret (hidden)") && !repaired[2].contains("by hand"),
            "{}",
            repaired[2]
        );
        assert_eq!(repaired[3], format!("create role moderator of realm {realm}"));
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        assert!(user_token(&desired, "alice", "long enough").await.is_ok());

        // A client that was deleted comes back with its service account and rights.
        by_hand(Method::DELETE, &format!("{realm}/clients/{auth}"), None).await;
        let repaired = converge(&admin, &desired).await;
        assert_eq!(repaired.len(), 1 + 3, "{repaired:#?}");
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        let (status, _) =
            call(&service_token(&desired).await, Method::GET, &format!("{realm}/users"), None).await;
        assert_eq!(status, StatusCode::OK);

        let removed = timed("keycloak remove", admin.remove(&claim(&desired))).await.unwrap();
        assert_eq!(removed, [format!("realm {realm}")]);
        assert_eq!(admin.remove(&claim(&desired)).await.unwrap(), [""; 0]);
        assert_eq!(admin.observe(&desired).await.unwrap(), Default::default());
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn no_session_is_outlived_and_no_account_administered_past_the_auth_service() {
    let (admin, desired) = (admin(), desired());
    let realm = desired.realm.clone();
    let body = async {
        converge(&admin, &desired).await;
        let credentials = json!([{ "type": "password", "value": "long enough", "temporary": false }]);
        let user = json!({ "username": "alice", "enabled": true, "credentials": credentials });
        let users = format!("{realm}/users");
        let (status, answer) = call(&service_token(&desired).await, Method::POST, &users, Some(user)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let offline = async || {
            let secret = desired.auth_client_secret.expose_secret();
            let form = [
                ("grant_type", "password"),
                ("client_id", AUTH_CLIENT),
                ("client_secret", secret),
                ("username", "alice"),
                ("password", "long enough"),
                ("scope", "openid offline_access"),
            ];
            token(&realm, &form).await
        };
        let refused = offline().await.expect_err("there is no such scope");
        assert!(refused.contains("Invalid scopes"), "{refused}");
        let account = async || {
            let token = user_token(&desired, "alice", "long enough").await.expect("alice signs in");
            let url = format!("{}/realms/{realm}/account", env("KEYCLOAK_URL"));
            let request = Client::new().get(url).bearer_auth(token).header("accept", "application/json");
            request.send().await.unwrap().status()
        };
        assert!(!account().await.is_success());

        // By hand.
        let scope = json!({ "name": "offline_access", "protocol": "openid-connect" });
        by_hand(Method::POST, &format!("{realm}/client-scopes"), Some(scope)).await;
        let pages = client_id(&realm, "account").await;
        by_hand(Method::PUT, &format!("{realm}/clients/{pages}"), Some(json!({ "enabled": true }))).await;
        assert!(!account().await.is_success(), "no token is for it, and no user has the right");
        let found = by_hand(Method::GET, &realm, None).await;
        let role = by_hand(Method::GET, &format!("{realm}/roles/offline_access"), None).await;
        let roles =
            format!("{realm}/roles-by-id/{}/composites", found["defaultRole"]["id"].as_str().unwrap());
        by_hand(Method::POST, &roles, Some(json!([role]))).await;
        let repaired = converge(&admin, &desired).await;
        let lines = [
            format!("set client account of realm {realm}: enabled true -> false"),
            format!("remove client scopes of realm {realm}: offline_access"),
            format!("take roles from all users of realm {realm}: offline_access"),
        ];
        assert_eq!(repaired, lines);
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        assert!(offline().await.is_err() && !account().await.is_success());
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

/// `make up` installs the theme.
#[tokio::test]
async fn users_sign_in_on_a_page_with_the_name_and_the_looks_of_their_tenant() {
    let admin = admin();
    let mut desired = KeycloakDesired {
        display_name: "Acme <R&D>".to_owned(),
        color: Some("#FFE600".to_owned()),
        logo: Some("data:image/png;base64,iVBORw0KGgo=".to_owned()),
        login_theme: Some("posthouse".to_owned()),
        ..desired()
    };
    let claim = claim(&desired);
    let page = async |realm: &str, origin: &str, language: &str| {
        let url = format!("{}/realms/{realm}/protocol/openid-connect/auth", env("KEYCLOAK_URL"));
        let redirect = format!("{origin}/");
        let query = [
            ("client_id", APP_CLIENT),
            ("response_type", "code"),
            ("scope", "openid"),
            ("redirect_uri", redirect.as_str()),
            ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
            ("code_challenge_method", "S256"),
            ("ui_locales", language),
        ];
        Client::new().get(url).query(&query).send().await.unwrap().text().await.unwrap()
    };
    let body = async {
        converge(&admin, &desired).await;
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        let origin = desired.web_origins[0].clone();
        let english = page(&desired.realm, &origin, "en").await;
        for part in [
            "css/posthouse.css",
            "--posthouse-color: #ffe600;",
            "--posthouse-on-color: #000000;",
            "url(\"data:image/png;base64,iVBORw0KGgo=\")",
            "Acme &lt;R&amp;D&gt;",
            &format!("href=\"{origin}/\""),
        ] {
            assert!(english.contains(part), "{part} is not in {english}");
        }
        assert!(!english.contains("<R&D>"), "{english}");
        let russian = page(&desired.realm, &origin, "ru").await;
        assert!(russian.contains("Вернуться в «Acme"), "{russian}");

        // The tenant has neither any more, and its cell no theme.
        desired.color = None;
        desired.logo = None;
        desired.login_theme = None;
        let changed = converge(&admin, &desired).await;
        assert_eq!(changed.len(), 1, "{changed:#?}");
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        let plain = page(&desired.realm, &origin, "en").await;
        assert!(!plain.contains("posthouse.css") && plain.contains("kc-form-login"), "{plain}");
    };
    story(body, async { _ = admin.remove(&claim).await }).await;
}

#[tokio::test]
async fn the_auth_service_is_the_only_door_of_a_realm() {
    let (admin, desired) = (admin(), desired());
    let realm = desired.realm.clone();
    let at = |path: &str| format!("{}/realms/{realm}/{path}", env("KEYCLOAK_URL"));
    let body = async {
        converge(&admin, &desired).await;
        let service = service_token(&desired).await;
        let users = format!("{realm}/users");
        let make = async |username: &str| {
            let credentials = json!([{ "type": "password", "value": "long enough", "temporary": false }]);
            let email = format!("{}@corp.example", uuid::Uuid::new_v4().simple());
            let user =
                json!({ "username": username, "email": email, "enabled": true, "credentials": credentials });
            (call(&service, Method::POST, &users, Some(user)).await.0, email)
        };
        // Names have the rule of the auth service, however an account is made.
        let long = "a".repeat(33);
        for name in ["ann@acme.example", "\u{e4}dmin", "admin\u{200b}", "x\u{202e}y", "ab", &long] {
            assert_eq!(make(name).await.0, StatusCode::BAD_REQUEST, "{name:?}");
        }
        let (status, email) = make("alice").await;
        assert_eq!(status, StatusCode::CREATED);
        // An access token is for the messenger, and says of no right at the realm. An address signs nobody in.
        let claims = claims(&user_token(&desired, "alice", "long enough").await.unwrap());
        assert_eq!(claims["aud"], APP_CLIENT, "{claims}");
        assert!(claims["realm_access"].is_null() && claims["resource_access"].is_null(), "{claims}");
        assert!(user_token(&desired, &email, "long enough").await.is_err());

        let password = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "alice"),
            ("password", "long enough"),
        ];
        assert!(token(&realm, &password).await.is_err());
        let device = Client::new().post(at("protocol/openid-connect/auth/device"));
        let refused = device.form(&[("client_id", APP_CLIENT)]).send().await.unwrap();
        assert!(!refused.status().is_success(), "{}", refused.status());
        let register = async || {
            let client = json!({ "redirect_uris": ["http://127.0.0.1/x"] });
            let url = at("clients-registrations/openid-connect");
            Client::new().post(url).json(&client).send().await.unwrap().status()
        };
        assert_eq!(register().await, StatusCode::FORBIDDEN);
        let path = format!("{realm}/authentication/required-actions");
        let actions = by_hand(Method::GET, &path, None).await;
        let is_off = |action: &Value| action["enabled"] == false && action["defaultAction"] == false;
        assert!(actions.as_array().unwrap().iter().all(is_off), "{actions}");

        // A realm of an earlier release, or what was opened by hand.
        let edit = json!({ "loginWithEmailAllowed": true });
        by_hand(Method::PUT, &realm, Some(edit)).await;
        for client in [APP_CLIENT, AUTH_CLIENT] {
            let path = format!("{realm}/clients/{}", client_id(&realm, client).await);
            let attributes = json!({ "oauth2.device.authorization.grant.enabled": "true" });
            let edit = json!({ "fullScopeAllowed": true, "attributes": attributes });
            by_hand(Method::PUT, &path, Some(edit)).await;
        }
        let (auth, management) =
            (client_id(&realm, AUTH_CLIENT).await, client_id(&realm, "realm-management").await);
        let mapped = format!("{realm}/clients/{auth}/scope-mappings/clients/{management}");
        let roles = by_hand(Method::GET, &mapped, None).await;
        by_hand(Method::DELETE, &mapped, Some(roles)).await;
        let scope = json!({ "name": "roles", "protocol": "openid-connect" });
        by_hand(Method::POST, &format!("{realm}/client-scopes"), Some(scope)).await;
        let account = client_id(&realm, "account").await;
        let role =
            by_hand(Method::GET, &format!("{realm}/clients/{account}/roles/manage-account"), None).await;
        let found = by_hand(Method::GET, &realm, None).await;
        let composites =
            format!("{realm}/roles-by-id/{}/composites", found["defaultRole"]["id"].as_str().unwrap());
        by_hand(Method::POST, &composites, Some(json!([role]))).await;
        let mut link = by_hand(Method::GET, &format!("{path}/idp_link"), None).await;
        link["enabled"] = true.into();
        by_hand(Method::PUT, &format!("{path}/idp_link"), Some(link)).await;
        let mut profile = by_hand(Method::GET, &format!("{realm}/users/profile"), None).await;
        for attribute in profile["attributes"].as_array_mut().unwrap() {
            if attribute["name"] == "username" {
                attribute["validations"].as_object_mut().unwrap().remove("pattern");
            }
        }
        by_hand(Method::PUT, &format!("{realm}/users/profile"), Some(profile)).await;
        let components = by_hand(Method::GET, &format!("{realm}/components"), None).await;
        for policy in components.as_array().unwrap() {
            let path = format!("{realm}/components/{}", policy["id"].as_str().unwrap());
            if policy["providerId"] == "max-clients" || policy["providerId"] == "trusted-hosts" {
                by_hand(Method::DELETE, &path, None).await;
            }
        }
        assert_eq!(make("bob@acme.example").await.0, StatusCode::CREATED, "by an earlier rule");
        assert_eq!(register().await, StatusCode::CREATED);

        let device = "attributes.oauth2.device.authorization.grant.enabled true -> false";
        let grant =
            |role: &str| format!("grant {role} to the service account of messenger-auth of realm {realm}");
        let lines = [
            // Keycloak does not have both.
            format!(
                "set realm {realm}: duplicateEmailsAllowed false -> true, loginWithEmailAllowed true -> false"
            ),
            grant("manage-users"),
            grant("query-users"),
            grant("view-users"),
            format!("set client messenger of realm {realm}: {device}, fullScopeAllowed true -> false"),
            format!("set client messenger-auth of realm {realm}: {device}, fullScopeAllowed true -> false"),
            format!("remove client scopes of realm {realm}: roles"),
            format!("take roles from all users of realm {realm}: manage-account"),
            format!("disable required actions of realm {realm}: idp_link"),
            format!("set the rules of realm {realm} for users' username"),
            format!("let no client register itself in realm {realm}"),
        ];
        assert_eq!(converge(&admin, &desired).await, lines);
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        assert_eq!(register().await, StatusCode::FORBIDDEN);
        assert_eq!(make("eve@acme.example").await.0, StatusCode::BAD_REQUEST);
        // Who has a name of before goes on.
        user_token(&desired, "bob@acme.example", "long enough").await.unwrap();
        let (status, _) = call(&service_token(&desired).await, Method::GET, &users, None).await;
        assert_eq!(status, StatusCode::OK);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn a_realm_as_keycloak_makes_it_is_closed_by_one_pass() {
    let (admin, desired) = (admin(), desired());
    let realm = desired.realm.clone();
    let body = async {
        let account = Keycloak::account();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &account.username),
            ("client_secret", account.password.expose_secret()),
        ];
        let operator = token("master", &form).await.unwrap();
        let marker = desired.owner.marker().to_string();
        let born = json!({ "realm": realm, "enabled": true, "attributes": { "posthouse.owner": marker } });
        let (status, answer) = call(&operator, Method::POST, "", Some(born)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let found = admin.observe(&desired).await.unwrap();
        let left = [&found.scopes, &found.default_roles, &found.actions, &found.profile].map(BTreeSet::len);
        assert_eq!(left, [10, 4, 11, 4], "what a realm of this Keycloak is born with: {found:#?}");
        assert!(found.takes_clients);

        converge(&admin, &desired).await;
        assert_eq!(converge(&admin, &desired).await, [""; 0]);
        let service = service_token(&desired).await;
        let (status, _) = call(&service, Method::GET, &format!("{realm}/users"), None).await;
        assert_eq!(status, StatusCode::OK);
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

#[tokio::test]
async fn who_tries_wrong_passwords_at_once_locks_no_owner_out() {
    let (admin, desired) = (admin(), desired());
    let body = async {
        converge(&admin, &desired).await;
        let credentials = json!([{ "type": "password", "value": "long enough", "temporary": false }]);
        let user = json!({ "username": "alice", "enabled": true, "credentials": credentials });
        let users = format!("{}/users", desired.realm);
        let (status, answer) = call(&service_token(&desired).await, Method::POST, &users, Some(user)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let guess = || user_token(&desired, "alice", "wrong horse");
        // As many as the auth service lets one address try at once.
        let guesses = tokio::join!(guess(), guess(), guess(), guess(), guess());
        assert!(guesses.0.is_err() && guesses.4.is_err());
        user_token(&desired, "alice", "long enough").await.expect("the owner signs in");
        // The realm's own pages are protected nevertheless.
        for _ in 0..catalog::REALM_FAILURES {
            _ = guess().await;
        }
        user_token(&desired, "alice", "long enough").await.expect_err("the account is blocked for a while");
    };
    story(body, async { _ = admin.remove(&claim(&desired)).await }).await;
}

/// Returns where the realms are that stand for external identity providers.
fn provider_host() -> String {
    let url: reqwest::Url = env("KEYCLOAK_URL").parse().unwrap();
    url.host_str().unwrap().to_owned()
}

/// Creates a realm that stands for an external identity provider. Returns its issuer.
async fn issuer(name: &str) -> String {
    by_hand(Method::POST, "", Some(json!({ "realm": name, "enabled": true }))).await;
    format!("{}/realms/{name}", env("KEYCLOAK_URL"))
}

#[tokio::test]
async fn identity_providers_are_made_repaired_disabled_and_removed() {
    let (admin, plain) = (admin(), desired());
    let realm = plain.realm.clone();
    let (one, other) = (format!("one{realm}"), format!("other{realm}"));
    let body = async {
        let provider = Provider {
            alias: "corp".into(),
            display_name: "Corp".into(),
            issuer: issuer(&one).await,
            client_id: "posthouse".into(),
            client_secret: Some("not for others".into()),
            scopes: vec!["openid".into(), "email".into()],
        };
        let with =
            |provider: &Provider| KeycloakDesired { providers: vec![provider.clone()], ..plain.clone() };
        converge(&admin, &plain).await;
        let path = format!("{realm}/identity-provider/instances");
        // What an administrator added by hand is theirs.
        let by_others = json!({ "alias": "theirs", "providerId": "oidc", "config": { "clientId": "x" } });
        by_hand(Method::POST, &path, Some(by_others)).await;
        assert_eq!(converge(&admin, &plain).await, [""; 0]);

        let made = timed("keycloak provider", converge(&admin, &with(&provider))).await;
        let last = format!("create identity provider corp of realm {realm}");
        assert_eq!(made.last(), Some(&last), "{made:#?}");
        assert!(
            made[0].starts_with("set client messenger-auth")
                && made[0].contains("standardFlowEnabled false -> true"),
            "{made:#?}"
        );
        assert!(made[0].contains("/api/auth/callback"), "{made:#?}");
        assert_eq!(timed("keycloak steady", converge(&admin, &with(&provider))).await, [""; 0]);
        let found = by_hand(Method::GET, &format!("{path}/corp"), None).await;
        assert_eq!(found["config"]["tokenUrl"], format!("{}/protocol/openid-connect/token", provider.issuer));
        assert!(!found.to_string().contains("not for others"));

        // A manual edit: also of what only the issuer knows.
        let mut edited = found.clone();
        edited["trustEmail"] = true.into();
        edited["config"]["tokenUrl"] = format!("http://{}:9/token", provider_host()).into();
        by_hand(Method::PUT, &format!("{path}/corp"), Some(edited)).await;
        let repaired = converge(&admin, &with(&provider)).await;
        let line = format!(
            "set identity provider corp of realm {realm}: config.posthouse.endpoints changed -> as discovered, trustEmail true -> false"
        );
        assert_eq!(repaired, [line]);
        let found = by_hand(Method::GET, &format!("{path}/corp"), None).await;
        assert_eq!(found["config"]["tokenUrl"], format!("{}/protocol/openid-connect/token", provider.issuer));

        // Another secret, and another issuer.
        let renewed = Provider { client_secret: Some("a new one".into()), ..provider.clone() };
        let changed = converge(&admin, &with(&renewed)).await;
        assert_eq!(
            changed,
            [format!("set identity provider corp of realm {realm}: config.posthouse.secret (hidden)")]
        );
        let moved = Provider { issuer: issuer(&other).await, ..renewed.clone() };
        let changed = converge(&admin, &with(&moved)).await;
        // The users of the former one go with it: a name of the new one is another user.
        let replaced =
            ["remove", "create"].map(|verb| format!("{verb} identity provider corp of realm {realm}"));
        assert_eq!(changed, replaced);
        assert_eq!(converge(&admin, &with(&moved)).await, [""; 0]);
        // Its Secret is gone: it stays.
        let unknown = Provider { client_secret: None, ..moved.clone() };
        assert_eq!(converge(&admin, &with(&unknown)).await, [""; 0]);

        // One that cannot be read is named, and holds up nothing else.
        let nowhere = Provider { issuer: format!("{}x", moved.issuer), ..moved.clone() };
        let (fence, metrics) = (Fence::always_open(), Metrics::default());
        by_hand(Method::PUT, &realm, Some(json!({ "accessTokenLifespan": 60 }))).await;
        let failed = with(&nowhere);
        let failed = Box::pin(settle(&admin, &failed, DataExpected::No, Mode::Apply, &fence, &metrics)).await;
        let message = assert_reason(failed, crds::Reason::BackendRefused);
        assert!(
            message.contains(&format!("{}/.well-known/openid-configuration is not usable", nowhere.issuer)),
            "{message}"
        );
        assert_eq!(by_hand(Method::GET, &realm, None).await["accessTokenLifespan"], 300);

        // A cell that takes the host back, and an issuer whose endpoints are elsewhere.
        converge(&admin, &with(&moved)).await;
        let outside = KeycloakDesired { provider_hosts: vec!["corp.example".into()], ..with(&moved) };
        let (fence, metrics) = (Fence::always_open(), Metrics::default());
        let refused =
            Box::pin(settle(&admin, &outside, DataExpected::No, Mode::Apply, &fence, &metrics)).await;
        let message = assert_reason(refused, crds::Reason::BackendRefused);
        let host = provider_host();
        let expected = format!("is on {host}, which the cell does not allow in spec.keycloak.providerHosts");
        assert!(message.contains(&expected), "{message}");
        assert_eq!(by_hand(Method::GET, &format!("{path}/corp"), None).await["enabled"], false);
        let back = converge(&admin, &with(&moved)).await;
        assert_eq!(back, [format!("set identity provider corp of realm {realm}: enabled false -> true")]);
        assert_eq!(converge(&admin, &with(&moved)).await, [""; 0]);

        // A manifest without it keeps the links of its users, and no user signs in by it meanwhile.
        let user = json!({ "username": "noor", "enabled": true });
        by_hand(Method::POST, &format!("{realm}/users"), Some(user)).await;
        let found = by_hand(Method::GET, &format!("{realm}/users?exact=true&username=noor"), None).await;
        let links = format!("{realm}/users/{}/federated-identity", found[0]["id"].as_str().unwrap());
        let link = json!({ "identityProvider": "corp", "userId": "n-1", "userName": "noor" });
        by_hand(Method::POST, &format!("{links}/corp"), Some(link)).await;
        let disabled = converge(&admin, &plain).await;
        assert_eq!(disabled.len(), 2, "{disabled:#?}");
        let line = format!(
            "disable identity provider corp of realm {realm}, and keep the links of its users for 30 days"
        );
        assert_eq!(disabled[1], line);
        assert_eq!(converge(&admin, &plain).await, [""; 0]);
        let found = by_hand(Method::GET, &format!("{path}/corp"), None).await;
        assert_eq!(found["enabled"], false);
        let back = converge(&admin, &with(&moved)).await;
        let line = format!("set identity provider corp of realm {realm}: enabled false -> true");
        assert_eq!(back.last(), Some(&line), "{back:#?}");
        assert_eq!(converge(&admin, &with(&moved)).await, [""; 0]);
        let found = by_hand(Method::GET, &links, None).await;
        assert_eq!(found[0]["userId"], "n-1", "{found}");

        // After a month it goes, with the links.
        converge(&admin, &plain).await;
        let mut found = by_hand(Method::GET, &format!("{path}/corp"), None).await;
        let since: i64 = found["config"]["posthouse.disabled"].as_str().unwrap().parse().unwrap();
        found["config"]["posthouse.disabled"] = (since - 31 * 24 * 3600 * 1000).to_string().into();
        by_hand(Method::PUT, &format!("{path}/corp"), Some(found)).await;
        let removed = converge(&admin, &plain).await;
        assert_eq!(removed, [format!("remove identity provider corp of realm {realm}")]);
        assert_eq!(converge(&admin, &plain).await, [""; 0]);
        let left = by_hand(Method::GET, &path, None).await;
        assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    };
    let clean_up = async {
        _ = admin.remove(&claim(&plain)).await;
        for realm in [&one, &other] {
            by_hand(Method::DELETE, realm, None).await;
        }
    };
    story(body, clean_up).await;
}

#[tokio::test]
async fn one_tenant_gets_nothing_of_another() {
    let (admin, a, b) = (admin(), desired(), desired());
    let body = async {
        converge(&admin, &a).await;
        converge(&admin, &b).await;
        let intruder = service_token(&b).await;
        let user = json!({ "username": "mallory", "enabled": true });
        for (method, path, body) in [
            (Method::GET, a.realm.clone(), None),
            (Method::GET, format!("{}/users", a.realm), None),
            (Method::POST, format!("{}/users", a.realm), Some(user)),
            (Method::GET, format!("{}/clients", a.realm), None),
            (Method::DELETE, a.realm.clone(), None),
            (Method::GET, "master/users".to_owned(), None),
        ] {
            let (status, _) = call(&intruder, method.clone(), &path, body).await;
            let refused =
                [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
            assert!(refused, "{method} {path}: {status}");
        }
        // The secret of one realm's client opens no other realm.
        let secret = b.auth_client_secret.expose_secret();
        let form =
            [("grant_type", "client_credentials"), ("client_id", AUTH_CLIENT), ("client_secret", secret)];
        assert!(token(&a.realm, &form).await.is_err());
        // Tokens of two realms have two issuers.
        assert!(claims(&intruder)["iss"].as_str().unwrap().ends_with(&format!("/realms/{}", b.realm)));
    };
    let clean_up = async {
        _ = admin.remove(&claim(&a)).await;
        _ = admin.remove(&claim(&b)).await;
    };
    story(body, clean_up).await;
}
