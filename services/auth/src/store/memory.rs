//! A realm in memory: that of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::{SessionId, UserId};
use kit::{catalog::REFRESH_RETRIES, clock::now_ms, signing::Issuer, text::Password};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tonic::async_trait;
use uuid::Uuid;

use super::{AccountStore, StoreError};
use crate::domain::{
    self, Account, Credentials, Grant, ListedSession, MIN_PASSWORD_CHARS, NewAccount, OwnEmail, email::Email,
};

/// How long tokens live, in seconds: as in the realms that the operator makes.
const ACCESS_SECONDS: u64 = 300;
const REFRESH_SECONDS: i64 = 1800;

/// Keeps accounts for as long as the process lives.
pub struct MemoryStore {
    issuer: Arc<Issuer>,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    accounts: Vec<(UserId, NewAccount)>,
    sessions: Vec<Session>,
    emails: HashMap<UserId, Email>,
    closed: HashSet<UserId>,
}

struct Session {
    id: SessionId,
    /// The one that is good for a refresh.
    refresh_token: String,
    /// The one that gave it, and how often it may give another in its place.
    last: Option<(String, u8)>,
    /// Those that are good for nothing.
    used: Vec<String>,
    user_id: UserId,
    username: String,
    ended: bool,
    started_at_ms: i64,
    last_used_at_ms: i64,
}

/// Checks a password by the rule of the realm.
fn check(password: &Password) -> Result<(), StoreError> {
    if password.expose().chars().count() < MIN_PASSWORD_CHARS {
        return Err(StoreError::Refused(format!("Invalid password: minimum length {MIN_PASSWORD_CHARS}.")));
    }
    Ok(())
}

impl MemoryStore {
    /// Creates a realm without accounts.
    pub fn new(issuer: Arc<Issuer>) -> Self {
        Self { issuer, tables: Mutex::default() }
    }

    fn grant(&self, session: &Session) -> Grant {
        let token = self.issuer.access_token(session.user_id, &session.username, &session.id, ACCESS_SECONDS);
        Grant {
            session: session.named(),
            access_token: token.into(),
            expires_in_seconds: ACCESS_SECONDS.cast_signed(),
            refresh_token: session.refresh_token.clone().into(),
            refresh_expires_in_seconds: REFRESH_SECONDS,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Returns whether this is a token of the session.
    fn gave(&self, token: &str) -> bool {
        let last = self.last.iter().map(|(last, _)| last);
        [&self.refresh_token].into_iter().chain(last).chain(&self.used).any(|given| given == token)
    }

    /// Goes on with a token; `None` when it is good for nothing.
    fn refresh(&mut self, token: &str) -> Option<()> {
        let retries = match &self.last {
            _ if token == self.refresh_token => REFRESH_RETRIES,
            Some((last, retries)) if last == token => retries.checked_sub(1)?,
            _ => return None,
        };
        let next = refresh_token(&self.named());
        let given = mem::replace(&mut self.refresh_token, next);
        let last = self.last.replace((token.to_owned(), retries));
        self.used.extend(
            [Some(given), last.map(|(last, _)| last)].into_iter().flatten().filter(|used| used != token),
        );
        Some(())
    }

    fn named(&self) -> domain::Session {
        domain::Session { user_id: self.user_id, id: self.id.clone() }
    }
}

/// Returns a new refresh token, which names its session as those of a realm do.
#[expect(clippy::disallowed_methods, reason = "a store makes its tokens")]
fn refresh_token(session: &domain::Session) -> String {
    let claims = json!({"sub": session.user_id, "sid": session.id, "typ": "Refresh"}).to_string();
    format!("memory.{}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims), Uuid::new_v4())
}

impl Tables {
    fn account(&self, credentials: &Credentials) -> Result<Account, StoreError> {
        let Credentials { username, password } = credentials;
        let known = self.accounts.iter().find(|(user_id, account)| {
            account.username == *username
                && account.password.expose() == password.expose()
                && !self.closed.contains(user_id)
        });
        let named = |(user_id, account): &(UserId, NewAccount)| Account {
            user_id: *user_id,
            username: account.username.as_str().to_owned(),
        };
        known.map(named).ok_or(StoreError::Rejected)
    }

    fn session(&mut self, refresh_token: &SecretString) -> Result<&mut Session, StoreError> {
        let session = self.sessions.iter_mut().find(|session| session.gave(refresh_token.expose_secret()));
        session.ok_or(StoreError::InvalidRefreshToken)
    }
}

#[async_trait]
impl AccountStore for MemoryStore {
    async fn register(&self, account: &NewAccount) -> Result<UserId, StoreError> {
        let mut tables = self.tables();
        if tables.accounts.iter().any(|(_, other)| other.username == account.username) {
            return Err(StoreError::Taken(account.username.as_str().to_owned()));
        }
        check(&account.password)?;
        let user_id = UserId::generate();
        tables.accounts.push((user_id, account.clone()));
        Ok(user_id)
    }

    async fn account(&self, credentials: &Credentials) -> Result<Account, StoreError> {
        self.tables().account(credentials)
    }

    async fn has_password(&self, user_id: UserId) -> Result<bool, StoreError> {
        // All have one: it has no providers.
        self.exists(user_id).await
    }

    async fn delete(&self, user_id: UserId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.accounts.retain(|(other, _)| *other != user_id);
        tables.emails.remove(&user_id);
        for session in tables.sessions.iter_mut().filter(|session| session.user_id == user_id) {
            session.ended = true;
        }
        Ok(())
    }

    async fn exists(&self, user_id: UserId) -> Result<bool, StoreError> {
        Ok(self.tables().accounts.iter().any(|(other, _)| *other == user_id))
    }

    #[expect(clippy::disallowed_methods, reason = "a store makes its tokens")]
    async fn sign_in(&self, credentials: &Credentials) -> Result<Grant, StoreError> {
        let mut tables = self.tables();
        let Account { user_id, username } = tables.account(credentials)?;
        let id: SessionId = Uuid::new_v4().to_string().parse().expect("a UUID is one word");
        let now_ms = now_ms();
        let session = Session {
            refresh_token: refresh_token(&domain::Session { user_id, id: id.clone() }),
            id,
            last: None,
            used: Vec::new(),
            user_id,
            username,
            ended: false,
            started_at_ms: now_ms,
            last_used_at_ms: now_ms,
        };
        let grant = self.grant(&session);
        tables.sessions.push(session);
        Ok(grant)
    }

    async fn redeem(&self, _: &str, _: &str, _: &str) -> Result<Grant, StoreError> {
        // It has no provider that could give one.
        Err(StoreError::InvalidCode)
    }

    async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, StoreError> {
        let mut tables = self.tables();
        let user_id = tables.session(refresh_token)?.user_id;
        let is_closed = tables.closed.contains(&user_id);
        let session = tables.session(refresh_token)?;
        if session.ended || is_closed {
            return Err(StoreError::SessionOver);
        }
        session.refresh(refresh_token.expose_secret()).ok_or(StoreError::SessionOver)?;
        session.last_used_at_ms = now_ms();
        Ok(self.grant(session))
    }

    async fn sign_out(&self, refresh_token: &SecretString) -> Result<domain::Session, StoreError> {
        let mut tables = self.tables();
        let session = tables.session(refresh_token)?;
        session.ended = true;
        Ok(session.named())
    }

    async fn sessions(&self, user_id: UserId) -> Result<Vec<ListedSession>, StoreError> {
        let tables = self.tables();
        let own = tables.sessions.iter().filter(|session| session.user_id == user_id && !session.ended);
        let listed = |session: &Session| ListedSession {
            id: session.id.clone(),
            started_at_ms: session.started_at_ms,
            last_used_at_ms: session.last_used_at_ms,
        };
        Ok(own.map(listed).collect())
    }

    async fn end(&self, session: &domain::Session) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if let Some(session) = tables.sessions.iter_mut().find(|other| other.named() == *session) {
            session.ended = true;
        }
        Ok(())
    }

    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, StoreError> {
        Ok(self.tables().emails.iter().find(|(_, other)| *other == email).map(|(user_id, _)| *user_id))
    }

    async fn email(&self, user_id: UserId) -> Result<OwnEmail, StoreError> {
        let email = self.tables().emails.get(&user_id).cloned();
        Ok(OwnEmail { is_confirmed: email.is_some(), email })
    }

    async fn set_email(&self, user_id: UserId, email: &Email) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if !tables.accounts.iter().any(|(other, _)| *other == user_id) {
            return Err(StoreError::Rejected);
        }
        if tables.emails.iter().any(|(other, taken)| *other != user_id && taken == email) {
            return Err(StoreError::EmailTaken);
        }
        tables.emails.insert(user_id, email.clone());
        Ok(())
    }

    async fn set_password(&self, user_id: UserId, password: &Password) -> Result<(), StoreError> {
        check(password)?;
        let mut tables = self.tables();
        let account = tables.accounts.iter_mut().find(|(other, _)| *other == user_id);
        let (_, account) = account.ok_or(StoreError::Rejected)?;
        account.password = password.clone();
        Ok(())
    }

    async fn close_other_ways(&self, _: UserId) -> Result<(), StoreError> {
        // It has none: no providers, no second factors, no offline tokens.
        Ok(())
    }

    async fn set_closed(&self, user_id: UserId, is_closed: bool) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if is_closed {
            tables.closed.insert(user_id);
        } else {
            tables.closed.remove(&user_id);
        }
        Ok(())
    }

    async fn is_closed(&self, user_id: UserId) -> Result<bool, StoreError> {
        let tables = self.tables();
        let is_known = tables.accounts.iter().any(|(other, _)| *other == user_id);
        Ok(is_known && tables.closed.contains(&user_id))
    }

    async fn revoke_tokens(&self, user_id: UserId) -> Result<(), StoreError> {
        for session in self.tables().sessions.iter_mut().filter(|session| session.user_id == user_id) {
            session.ended = true;
        }
        Ok(())
    }
}
