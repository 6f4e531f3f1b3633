//! A realm of its own for one test, on the real Keycloak.

use auth::config::RealmArgs;
use kit::{
    catalog,
    config::{OidcArgs, TrustArgs},
    testing::stack,
};
use reqwest::{Client, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

const CLIENT_ID: &str = "messenger-auth";
/// Where users find the tenant, and where a realm sends a browser back.
pub const ORIGIN: &str = "http://acme.localhost";
pub const CALLBACK: &str = catalog::SIGN_IN_CALLBACK_PATH;
/// Of every user of a provider.
pub const PROVIDER_PASSWORD: &str = "of the provider";
/// Wrong passwords after which the realm blocks an account for a while.
pub const FAILURES: usize = 5;

/// What the operator switches off in a realm.
const DISABLED_CLIENTS: [&str; 5] =
    ["account", "account-console", "admin-cli", "broker", "security-admin-console"];
/// What it leaves there, and `offline_access`, which realms of earlier releases had.
const KEPT_SCOPES: [&str; 6] = ["acr", "basic", "email", "profile", "web-origins", "offline_access"];

/// A realm like those that the operator makes. Deleted with the value.
pub struct Realm {
    name: String,
    secret: SecretString,
}

impl Realm {
    /// Creates a realm for one test.
    pub async fn create() -> Self {
        let (name, secret) = (format!("test{}", Uuid::now_v7().simple()), Uuid::new_v4().to_string());
        let realm = json!({
            "realm": name,
            "enabled": true,
            "passwordPolicy": "length(8)",
            "bruteForceProtected": true,
            "failureFactor": FAILURES,
            "quickLoginCheckMilliSeconds": 0,
            "loginWithEmailAllowed": false,
            "duplicateEmailsAllowed": true,
            "accessTokenLifespan": 300,
            "revokeRefreshToken": true,
            "refreshTokenMaxReuse": catalog::REFRESH_RETRIES,
            "clients": [{
                "clientId": CLIENT_ID,
                "secret": secret,
                "publicClient": false,
                "standardFlowEnabled": true,
                "redirectUris": [format!("{ORIGIN}{CALLBACK}")],
                "attributes": {"pkce.code.challenge.method": "S256"},
                "directAccessGrantsEnabled": true,
                "serviceAccountsEnabled": true,
                "protocolMappers": [{
                    "name": "audience",
                    "protocol": "openid-connect",
                    "protocolMapper": "oidc-audience-mapper",
                    "config": {"included.custom.audience": "messenger", "access.token.claim": "true"},
                }],
            }],
            "users": [{
                "username": format!("service-account-{CLIENT_ID}"),
                "enabled": true,
                "serviceAccountClientId": CLIENT_ID,
                "clientRoles": {"realm-management": ["manage-users", "view-users", "query-users"]},
            }],
        });
        let made = Self { name: name.clone(), secret: secret.into() };
        let admin = Admin::sign_in().await;
        admin.send(Method::POST, "/admin/realms", Some(realm)).await;
        // None is on: users register with no more than a username, and a browser that is signed in could ask for each.
        let path = format!("/admin/realms/{name}/authentication/required-actions");
        for mut action in admin.get(&path).await.as_array().cloned().into_iter().flatten() {
            let path = format!("{path}/{}", action["alias"].as_str().expect("an alias"));
            action["enabled"] = false.into();
            admin.send(Method::PUT, &path, Some(action)).await;
        }
        let path = format!("/admin/realms/{name}/clients");
        for client in admin.get(&path).await.as_array().cloned().into_iter().flatten() {
            let (id, client) = (client["id"].as_str().expect("an id"), &client["clientId"]);
            if DISABLED_CLIENTS.iter().any(|disabled| client == disabled) {
                let off = json!({"clientId": client, "enabled": false});
                admin.send(Method::PUT, &format!("{path}/{id}"), Some(off)).await;
            }
        }
        let path = format!("/admin/realms/{name}/client-scopes");
        for scope in admin.get(&path).await.as_array().cloned().into_iter().flatten() {
            if !KEPT_SCOPES.iter().any(|kept| scope["name"] == *kept) {
                let id = scope["id"].as_str().expect("an id");
                admin.send(Method::DELETE, &format!("{path}/{id}"), None).await;
            }
        }
        made
    }

    /// Lets users sign in with their address, as a realm did that an earlier release made.
    pub async fn allow_addresses(&self) {
        let path = format!("/admin/realms/{}", self.name);
        let admin = Admin::sign_in().await;
        admin.send(Method::PUT, &path, Some(json!({"loginWithEmailAllowed": true}))).await;
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes another realm an external identity provider of this one, `corp`, as the operator does.
    pub async fn add_provider(&self, provider: &Self) {
        let admin = Admin::sign_in().await;
        let issuer = provider.oidc().oidc_issuer;
        let openid = format!("{issuer}/protocol/openid-connect");
        let client = json!({
            "clientId": "posthouse",
            "secret": "of the client",
            "publicClient": false,
            "redirectUris": [format!("{}/realms/{}/broker/corp/endpoint", stack("KEYCLOAK_URL"), self.name)],
        });
        admin.send(Method::POST, &format!("/admin/realms/{}/clients", provider.name), Some(client)).await;
        let instance = json!({
            "alias": "corp",
            "providerId": "oidc",
            "trustEmail": false,
            "firstBrokerLoginFlowAlias": "first broker login",
            "config": {
                "issuer": issuer,
                "clientId": "posthouse",
                "clientSecret": "of the client",
                "clientAuthMethod": "client_secret_post",
                "defaultScope": "openid profile email",
                "authorizationUrl": format!("{openid}/auth"),
                "tokenUrl": format!("{openid}/token"),
                "userInfoUrl": format!("{openid}/userinfo"),
                "jwksUrl": format!("{openid}/certs"),
                "validateSignature": "true",
                "useJwksUrl": "true",
                "pkceEnabled": "true",
                "pkceMethod": "S256",
                "syncMode": "IMPORT",
            },
        });
        let path = format!("/admin/realms/{}/identity-provider/instances", self.name);
        admin.send(Method::POST, &path, Some(instance)).await;
        self.set_profile(Some(catalog::USERNAME_PATTERN)).await;
    }

    /// Has names and addresses of users follow the rules of the realms that the operator makes, perhaps with none for usernames.
    pub async fn set_profile(&self, username: Option<&str>) {
        let admin = Admin::sign_in().await;
        let path = format!("/admin/realms/{}/users/profile", self.name);
        let mut profile = admin.get(&path).await;
        for attribute in profile["attributes"].as_array_mut().into_iter().flatten() {
            let fields = attribute.as_object_mut().expect("an attribute");
            if fields["name"] == "username" {
                let validations = fields["validations"].as_object_mut().expect("rules");
                validations.remove("pattern");
                if let Some(pattern) = username {
                    let rule = json!({"pattern": pattern, "error-message": catalog::USERNAME_RULE});
                    validations.insert("pattern".to_owned(), rule);
                }
            } else {
                fields.remove("required");
                let permissions = json!({"view": ["admin", "user"], "edit": ["admin"]});
                fields.insert("permissions".to_owned(), permissions);
            }
        }
        admin.send(Method::PUT, &path, Some(profile)).await;
    }

    /// Adds a user of a provider.
    pub async fn add_user(&self, username: &str, email: Option<&str>, first_name: &str) {
        let user = json!({
            "username": username, "email": email, "firstName": first_name, "lastName": "Test", "enabled": true,
            "credentials": [{"type": "password", "value": PROVIDER_PASSWORD, "temporary": false}],
        });
        let path = format!("/admin/realms/{}/users", self.name);
        Admin::sign_in().await.send(Method::POST, &path, Some(user)).await;
    }

    /// Adds an account with the password of all accounts, perhaps with an e-mail address that was verified, and returns its id.
    pub async fn add_account(&self, username: &str, email: Option<&str>) -> String {
        let user = json!({
            "username": username, "email": email, "emailVerified": email.is_some(), "enabled": true,
            "credentials": [{"type": "password", "value": crate::api::PASSWORD, "temporary": false}],
        });
        let (admin, path) = (Admin::sign_in().await, format!("/admin/realms/{}/users", self.name));
        admin.send(Method::POST, &path, Some(user)).await;
        let found = admin.get(&format!("{path}?exact=true&username={username}")).await;
        found[0]["id"].as_str().expect("an account").to_owned()
    }

    /// Adds an account with an address that was never confirmed.
    pub async fn add_unconfirmed(&self, username: &str, email: &str) {
        let user = json!({"username": username, "email": email, "enabled": true});
        let path = format!("/admin/realms/{}/users", self.name);
        Admin::sign_in().await.send(Method::POST, &path, Some(user)).await;
    }

    /// Returns an offline token of an account, as an app gets one from the realm itself.
    pub async fn offline_token(&self, username: &str) -> String {
        let form = [
            ("grant_type", "password"),
            ("username", username),
            ("password", crate::api::PASSWORD),
            ("scope", "openid offline_access"),
        ];
        self.refresh_token(&form).await.expect("an offline token")
    }

    /// Refreshes a token at the realm itself, past the service, and returns the next one.
    pub async fn refreshed(&self, token: &str) -> Result<String, String> {
        self.refresh_token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    async fn refresh_token(&self, form: &[(&str, &str)]) -> Result<String, String> {
        let url = format!("{}/protocol/openid-connect/token", self.oidc().oidc_issuer);
        let request = Client::new().post(url).basic_auth(CLIENT_ID, Some(self.secret.expose_secret()));
        let response = request.form(form).send().await.expect("Keycloak answers");
        let answer: Value = response.json().await.expect("an answer");
        answer["refresh_token"].as_str().map(str::to_owned).ok_or_else(|| answer.to_string())
    }

    /// Does what who has an account can do to have it for longer, at the pages of the realm: links it to an account at the provider
    /// `corp`, and adds a second factor.
    pub async fn add_ways(&self, username: &str) {
        self.add_link(username).await;
        let (admin, path) = (Admin::sign_in().await, self.account_path(username).await);
        let factor = json!({
            "type": "otp",
            "userLabel": "another device",
            "secretData": r#"{"value":"JBSWY3DPEHPK3PXP"}"#,
            "credentialData": r#"{"subType":"totp","digits":6,"counter":0,"period":30,"algorithm":"HmacSHA1"}"#,
        });
        admin.send(Method::PUT, &path, Some(json!({ "credentials": [factor] }))).await;
        assert_eq!(self.ways(username).await, ["corp", "otp", "password"]);
    }

    /// Links an account to another one at the provider `corp`.
    pub async fn add_link(&self, username: &str) {
        let (admin, path) = (Admin::sign_in().await, self.account_path(username).await);
        let link = json!({"identityProvider": "corp", "userId": Uuid::new_v4(), "userName": "mallory"});
        admin.send(Method::POST, &format!("{path}/federated-identity/corp"), Some(link)).await;
    }

    /// Returns what opens an account beside a session: its links and its credentials, in order.
    pub async fn ways(&self, username: &str) -> Vec<String> {
        let (admin, path) = (Admin::sign_in().await, self.account_path(username).await);
        let mut ways = Vec::new();
        for (list, field) in [("federated-identity", "identityProvider"), ("credentials", "type")] {
            let found = admin.get(&format!("{path}/{list}")).await;
            let names = found.as_array().expect("a list").iter().map(|item| item[field].as_str());
            ways.extend(names.map(|name| name.expect("a name").to_owned()));
        }
        ways.sort();
        ways
    }

    async fn account_path(&self, username: &str) -> String {
        let path = format!("/admin/realms/{}/users", self.name);
        let found = Admin::sign_in().await.get(&format!("{path}?exact=true&username={username}")).await;
        format!("{path}/{}", found[0]["id"].as_str().expect("an account"))
    }

    /// Returns the address of an account.
    pub async fn email(&self, username: &str) -> Option<String> {
        let path = format!("/admin/realms/{}/users?exact=true&username={username}", self.name);
        let found = Admin::sign_in().await.get(&path).await;
        found[0]["email"].as_str().map(str::to_owned)
    }

    pub async fn has_account(&self, username: &str) -> bool {
        let path = format!("/admin/realms/{}/users?exact=true&username={username}", self.name);
        Admin::sign_in().await.get(&path).await.as_array().is_some_and(|found| !found.is_empty())
    }

    /// Returns the settings that the service reaches it with.
    pub fn args(&self) -> RealmArgs {
        RealmArgs {
            keycloak_url: stack("KEYCLOAK_URL").parse().expect("KEYCLOAK_URL is a URL"),
            realm: self.name.clone(),
            oidc_client_id: CLIENT_ID.to_owned(),
            oidc_client_secret: self.secret.expose_secret().into(),
            trust: TrustArgs::default(),
        }
    }

    /// Returns the settings that accept its tokens.
    pub fn oidc(&self) -> OidcArgs {
        OidcArgs {
            oidc_issuer: format!("{}/realms/{}", stack("KEYCLOAK_URL"), self.name),
            oidc_keys_url: None,
            trust: TrustArgs::default(),
            oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
            oidc_clients: catalog::TOKEN_CLIENTS.map(str::to_owned).into(),
        }
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        let path = format!("/admin/realms/{}", self.name);
        // Dropping is synchronous and may happen inside a runtime, which cannot be blocked on: hence the thread.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                Admin::sign_in().await.send(Method::DELETE, &path, None).await;
            });
        });
        drop(dropped.join());
    }
}

/// The administrator of the whole server.
struct Admin {
    http: Client,
    url: String,
    token: String,
}

impl Admin {
    async fn sign_in() -> Self {
        let (http, url) = (Client::new(), stack("KEYCLOAK_URL"));
        let (username, password) = (stack("KEYCLOAK_ADMIN_USERNAME"), stack("KEYCLOAK_ADMIN_PASSWORD"));
        let form = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", &username),
            ("password", &password),
        ];
        let path = format!("{url}/realms/master/protocol/openid-connect/token");
        let response = http.post(path).form(&form).send().await.expect("Keycloak answers");
        let answer: Value = response.json().await.expect("an answer");
        let token = answer["access_token"].as_str().expect("the administrator signs in").to_owned();
        Self { http, url, token }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        request.send().await.expect("Keycloak answers").json().await.expect("an answer")
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("Keycloak answers");
        let status = response.status();
        assert!(status.is_success(), "{path}: {status}");
    }
}
