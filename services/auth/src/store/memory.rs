//! A realm in memory: that of `posthouse dev`, and of the tests of the API.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use contracts::UserId;
use kit::{auth::JwkSet, config::OidcArgs, signing::SigningKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tonic::async_trait;
use uuid::Uuid;

use super::{AccountStore, StoreError};
use crate::domain::{Grant, NewAccount};

/// The rule of the realms that the operator makes: `length(8)`.
const MIN_PASSWORD_CHARS: usize = 8;

/// How long tokens live, in seconds: as in the realms that the operator makes.
const ACCESS_SECONDS: i64 = 300;
const REFRESH_SECONDS: i64 = 1800;

/// Keeps accounts for as long as the process lives, and signs tokens with a key of its own.
pub struct MemoryStore {
    oidc: OidcArgs,
    key: SigningKey,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    accounts: Vec<(UserId, NewAccount)>,
    sessions: Vec<Session>,
}

struct Session {
    refresh_token: String,
    user_id: UserId,
    username: String,
    ended: bool,
}

impl MemoryStore {
    /// Creates a realm without accounts whose tokens these settings accept.
    pub fn new(oidc: OidcArgs) -> Self {
        Self { oidc, key: SigningKey::generate("memory"), tables: Mutex::default() }
    }

    /// Returns what the realm's access tokens are checked with.
    pub fn key_set(&self) -> JwkSet {
        self.key.key_set()
    }

    fn grant(&self, session: &Session) -> Grant {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": self.oidc.oidc_issuer, "aud": [self.oidc.oidc_audience], "sub": session.user_id,
            "typ": "Bearer", "iat": now, "exp": now + ACCESS_SECONDS.unsigned_abs(),
            "preferred_username": session.username, "jti": Uuid::new_v4(),
        });
        Grant {
            access_token: self.key.sign(&claims).into(),
            expires_in_seconds: ACCESS_SECONDS,
            refresh_token: session.refresh_token.clone().into(),
            refresh_expires_in_seconds: REFRESH_SECONDS,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn session(&mut self, refresh_token: &SecretString) -> Result<&mut Session, StoreError> {
        let token = refresh_token.expose_secret();
        let session = self.sessions.iter_mut().find(|session| session.refresh_token == token);
        session.ok_or(StoreError::InvalidRefreshToken)
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn register(&self, account: &NewAccount) -> Result<UserId, StoreError> {
        let mut tables = self.tables();
        if tables.accounts.iter().any(|(_, other)| other.username == account.username) {
            return Err(StoreError::Taken(account.username.to_string()));
        }
        if account.password.expose_secret().chars().count() < MIN_PASSWORD_CHARS {
            return Err(StoreError::Refused(format!(
                "Invalid password: minimum length {MIN_PASSWORD_CHARS}."
            )));
        }
        let user_id = UserId::generate();
        tables.accounts.push((user_id, account.clone()));
        Ok(user_id)
    }

    async fn sign_in(&self, username: &str, password: &SecretString) -> Result<Grant, StoreError> {
        let mut tables = self.tables();
        let known = tables.accounts.iter().find(|(_, account)| {
            account.username.as_str() == username
                && account.password.expose_secret() == password.expose_secret()
        });
        let user_id = known.ok_or(StoreError::Rejected)?.0;
        let refresh_token = Uuid::new_v4().to_string();
        let session = Session { refresh_token, user_id, username: username.to_owned(), ended: false };
        let grant = self.grant(&session);
        tables.sessions.push(session);
        Ok(grant)
    }

    async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, StoreError> {
        let mut tables = self.tables();
        let session = tables.session(refresh_token)?;
        if session.ended { Err(StoreError::InvalidRefreshToken) } else { Ok(self.grant(session)) }
    }

    async fn sign_out(&self, refresh_token: &SecretString) -> Result<(), StoreError> {
        self.tables().session(refresh_token)?.ended = true;
        Ok(())
    }
}
