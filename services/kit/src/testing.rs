//! What tests of the services share: a local identity provider (one RSA key, a key set over HTTP, tokens with any
//! claims), databases for one test, a client of a REST API, receivers of mails and notifications, and a classifier of texts.

#[cfg(feature = "redis")]
mod cache;
pub mod classifier;
mod client;
#[cfg(feature = "postgres")]
mod database;
mod description;
mod fuzz;
pub mod goals;
mod peer;
pub mod receivers;
pub mod smtp;
mod tls;
mod users;
mod wait;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use axum::{Json, Router, routing::get};
use contracts::UserId;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[cfg(feature = "redis")]
pub use self::cache::TestCache;
#[cfg(feature = "postgres")]
pub use self::database::TestDatabase;
pub use self::{
    client::{Answer, TestApi},
    description::{Schemas, frame_schema},
    fuzz::fuzz,
    goals::Goals,
    peer::{serve_peer, serve_peer_at, unreachable_peer},
    tls::{TlsFront, without_tls},
    users::TestUsers,
    wait::wait_for,
};
use crate::{
    auth::TokenVerifier,
    config::{OidcArgs, TrustArgs},
    signing::{SigningKey, claims},
};

/// One key for all realms of a process: tokens then differ in their claims only, as in a hostile test they should.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate("test"));

/// A user with a token.
pub struct TestUser {
    pub id: UserId,
    pub token: String,
}

/// A realm that serves its key set on loopback until the test ends.
pub struct TestRealm {
    pub issuer: String,
    pub audience: String,
}

impl TestRealm {
    /// Starts a realm of this name.
    pub async fn start(name: &str) -> Self {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let path = format!("/realms/{name}/protocol/openid-connect/certs");
        let router = Router::new().route(&path, get(|| async { Json(KEY.key_set()) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer: format!("http://{addr}/realms/{name}"), audience: "messenger".to_owned() }
    }

    /// Returns the settings that accept this realm's tokens.
    pub fn args(&self) -> OidcArgs {
        OidcArgs {
            oidc_issuer: self.issuer.clone(),
            oidc_keys_url: None,
            trust: TrustArgs::default(),
            oidc_audience: self.audience.clone(),
            oidc_clients: catalog::TOKEN_CLIENTS.map(str::to_owned).into(),
        }
    }

    /// Returns a verifier of this realm's tokens.
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        TokenVerifier::new(&self.args()).expect("a verifier")
    }

    /// Returns a new user of this realm.
    pub fn user(&self, username: &str) -> TestUser {
        let id = UserId::generate();
        TestUser { id, token: self.token(id, username) }
    }

    /// Returns a valid token that lives for five minutes.
    pub fn token(&self, user: UserId, username: &str) -> String {
        self.token_with(user, username, json!({}))
    }

    /// Returns a token whose claims are replaced by `changes`; a null removes the claim.
    pub fn token_with(&self, user: UserId, username: &str, changes: Value) -> String {
        let mut claims = claims(&self.args(), user, username, 300);
        let object = claims.as_object_mut().expect("an object");
        for (name, value) in changes.as_object().expect("changes are an object") {
            if value.is_null() {
                object.remove(name);
            } else {
                object.insert(name.clone(), value.clone());
            }
        }
        KEY.sign(&claims)
    }
}

/// Returns the names of the migrations in the folder of a service's crate, in order.
pub fn migration_files(crate_folder: &str) -> Vec<String> {
    let folder = std::fs::read_dir(format!("{crate_folder}/migrations")).expect("the migrations folder");
    let mut names: Vec<_> = folder
        .map(|file| file.expect("an entry").file_name().to_string_lossy().replace(".sql", ""))
        .collect();
    names.sort();
    names
}

/// Returns a setting of the local backends; panics with what to do when there is none.
pub fn stack(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make up-backends` and `source .local/stack.env`, then test again")
    })
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;
    use crate::auth::TokenError;

    async fn outcome(verifier: &TokenVerifier, token: &str) -> &'static str {
        match verifier.verify(token).await {
            Ok(_) => "accepted",
            Err(TokenError::Missing | TokenError::Repeated) => "missing",
            Err(TokenError::Invalid) => "invalid",
            Err(TokenError::Expired) => "expired",
            Err(TokenError::Keys(_) | TokenError::KeysWithheld) => "no keys",
            Err(TokenError::NoProfile(_) | TokenError::Deleted | TokenError::Users(_)) => "no user",
        }
    }

    #[tokio::test]
    async fn one_wrong_claim_makes_a_token_worthless() {
        let (acme, globex) = (TestRealm::start("acme").await, TestRealm::start("globex").await);
        let verifier = acme.verifier();
        let user = UserId::generate();
        let past = jsonwebtoken::get_current_timestamp() - 60;
        let cases = [
            (acme.token(user, "ann"), "accepted"),
            (globex.token(user, "ann"), "invalid"),
            (acme.token_with(user, "ann", json!({"aud": "other"})), "invalid"),
            (acme.token_with(user, "ann", json!({"aud": null})), "invalid"),
            (acme.token_with(user, "ann", json!({"typ": "ID"})), "invalid"),
            (acme.token_with(user, "ann", json!({"azp": "admin-cli"})), "invalid"),
            (acme.token_with(user, "ann", json!({"azp": null})), "invalid"),
            (acme.token_with(user, "ann", json!({"azp": "messenger-auth"})), "accepted"),
            (acme.token_with(user, "ann", json!({"client_id": "messenger-auth"})), "invalid"),
            (acme.token_with(user, "ann", json!({"exp": null})), "invalid"),
            (acme.token_with(user, "ann", json!({"sid": null})), "invalid"),
            (acme.token_with(user, "ann", json!({"sid": "0190f5a0 7b1e"})), "invalid"),
            (acme.token_with(user, "ann", json!({"exp": past})), "expired"),
            (acme.token_with(user, "ann", json!({"nbf": past + 3600})), "invalid"),
            ("not.a.token".to_owned(), "invalid"),
        ];
        for (token, expected) in cases {
            assert_eq!(outcome(&verifier, &token).await, expected, "claims of {token}");
        }
    }

    #[tokio::test]
    async fn neither_none_nor_hmac_passes_for_the_realms_signature() {
        let acme = TestRealm::start("acme").await;
        let verifier = acme.verifier();
        let good = acme.token(UserId::generate(), "ann");
        let claims = good.split('.').nth(1).expect("claims").to_owned();
        for header in [r#"{"alg":"none","kid":"test"}"#, r#"{"alg":"HS256","kid":"test"}"#] {
            let forged = format!("{}.{claims}.", BASE64_URL_SAFE_NO_PAD.encode(header));
            assert_eq!(outcome(&verifier, &forged).await, "invalid");
        }
    }
}
