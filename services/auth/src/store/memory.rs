//! The store that tests of the API run on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use contracts::UserId;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::async_trait;
use uuid::Uuid;

use super::{AccountStore, StoreError};
use crate::domain::{Grant, NewAccount};

/// The rule of the realms that the operator makes: `length(8)`.
const MIN_PASSWORD_CHARS: usize = 8;

/// Keeps accounts for as long as the process lives. Its tokens are no JWTs.
#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    accounts: Vec<(UserId, NewAccount)>,
    sessions: Vec<Session>,
}

struct Session {
    refresh_token: String,
    ended: bool,
}

impl MemoryStore {
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

fn grant(refresh_token: &str) -> Grant {
    Grant {
        access_token: Uuid::new_v4().to_string().into(),
        expires_in_seconds: 300,
        refresh_token: refresh_token.to_owned().into(),
        refresh_expires_in_seconds: 1800,
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
        let known = tables.accounts.iter().any(|(_, account)| {
            account.username.as_str() == username
                && account.password.expose_secret() == password.expose_secret()
        });
        if !known {
            return Err(StoreError::Rejected);
        }
        let refresh_token = Uuid::new_v4().to_string();
        let grant = grant(&refresh_token);
        tables.sessions.push(Session { refresh_token, ended: false });
        Ok(grant)
    }

    async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, StoreError> {
        let mut tables = self.tables();
        let session = tables.session(refresh_token)?;
        if session.ended { Err(StoreError::InvalidRefreshToken) } else { Ok(grant(&session.refresh_token)) }
    }

    async fn sign_out(&self, refresh_token: &SecretString) -> Result<(), StoreError> {
        self.tables().session(refresh_token)?.ended = true;
        Ok(())
    }
}
