//! Where accounts and sessions are kept: the tenant's realm.

mod keycloak;
mod memory;
mod redis;
mod tickets;

use contracts::UserId;
use kit::{identity::IdentityError, text::Password};
use secrecy::SecretString;
use tonic::async_trait;

pub use self::{
    keycloak::Keycloak,
    memory::MemoryStore,
    redis::SharedRefreshes,
    tickets::{LINK_LIFETIME, Tickets},
};
pub(crate) use self::{
    redis::{Known, Once, Over},
    tickets::{Taken, Ticket, link_token},
};
use crate::domain::{
    Account, Credentials, Grant, ListedSession, NewAccount, OwnEmail, Session, email::Email,
};

/// A store of accounts. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait AccountStore: Send + Sync + 'static {
    /// Makes an account and returns its id.
    async fn register(&self, account: &NewAccount) -> Result<UserId, StoreError>;

    /// Returns the account that the credentials open; [`StoreError::Rejected`] when they open none. No session remains.
    async fn account(&self, credentials: &Credentials) -> Result<Account, StoreError>;

    /// Returns whether an account has a password. One that came with an identity provider has none; nor has an unknown user.
    async fn has_password(&self, user_id: UserId) -> Result<bool, StoreError>;

    /// Deletes an account with all its sessions; one that is not there is deleted already.
    async fn delete(&self, user_id: UserId) -> Result<(), StoreError>;

    /// Returns whether there is an account of this user.
    async fn exists(&self, user_id: UserId) -> Result<bool, StoreError>;

    /// Begins a session. Every refusal is the same [`StoreError::Rejected`].
    async fn sign_in(&self, credentials: &Credentials) -> Result<Grant, StoreError>;

    /// Begins a session with a code that the realm gave a browser for a sign-in with an external identity provider. A code is good
    /// once, and for who has its `verifier` and the URL that the browser was sent back to.
    async fn redeem(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Grant, StoreError>;

    /// Goes on with a session. What a token gave may have been lost: while none of it was used, the token gives something else
    /// in its place, [`REFRESH_RETRIES`](kit::catalog::REFRESH_RETRIES) times. Any other token that is used again is [`StoreError::SessionOver`], and so is one
    /// whose session has ended.
    async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant, StoreError>;

    /// Ends the session of a refresh token and returns it; one that has ended already stays so. Any token that the session
    /// was given will do.
    async fn sign_out(&self, refresh_token: &SecretString) -> Result<Session, StoreError>;

    /// Returns the sessions of a user that go on, in no particular order; none for an unknown user.
    async fn sessions(&self, user_id: UserId) -> Result<Vec<ListedSession>, StoreError>;

    /// Ends a session; one that has ended already stays so.
    async fn end(&self, session: &Session) -> Result<(), StoreError>;

    /// Returns the account that has confirmed this address.
    async fn account_of(&self, email: &Email) -> Result<Option<UserId>, StoreError>;

    /// Returns the address of an account; none for an unknown user.
    async fn email(&self, user_id: UserId) -> Result<OwnEmail, StoreError>;

    /// Makes an address that of an account, as one that is confirmed. Accounts that have it and did not confirm it lose it.
    async fn set_email(&self, user_id: UserId, email: &Email) -> Result<(), StoreError>;

    /// Replaces the password of an account. Its sessions go on.
    async fn set_password(&self, user_id: UserId, password: &Password) -> Result<(), StoreError>;

    /// Removes what opens an account beside its password and its sessions: links to accounts of identity providers, second factors
    /// and passkeys, and offline tokens with what was consented to for them. An unknown user has nothing of it.
    async fn close_other_ways(&self, user_id: UserId) -> Result<(), StoreError>;

    /// Closes an account, or opens it again: with one that is closed no session begins, and none is refreshed. An unknown user has none.
    async fn set_closed(&self, user_id: UserId, is_closed: bool) -> Result<(), StoreError>;

    /// Returns whether an account is closed, by [`Self::set_closed`] or by an administrator of the realm. That of an unknown user is not.
    async fn is_closed(&self, user_id: UserId) -> Result<bool, StoreError>;

    /// Makes every token that an account was given good for nothing at the realm, and ends what sessions there are.
    async fn revoke_tokens(&self, user_id: UserId) -> Result<(), StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the username {0} is taken")]
    Taken(String),
    /// In the words of the realm, which names its rule and never the password.
    #[error("{0}")]
    Refused(String),
    #[error("another account has confirmed this e-mail address")]
    EmailTaken,
    #[error("failed to keep or find a link of a mail in Redis")]
    Links(#[source] Option<::redis::RedisError>),
    #[error("the username or the password is wrong")]
    Rejected,
    #[error("the code is not valid, was used before, or is of another browser: begin again")]
    InvalidCode,
    #[error("the refresh token is not valid, or its session has ended")]
    InvalidRefreshToken,
    #[error("the refresh token was used before, or its session has ended: sign in again")]
    SessionOver,
    #[error("failed to reach the realm to {step}")]
    Unreachable { step: &'static str, source: IdentityError },
    #[error("the realm could not {step}: it answered {status}")]
    Unable { step: &'static str, status: u16 },
    #[error("the realm refused to let this service {step}: {status} {error}")]
    Misconfigured { step: &'static str, status: u16, error: String },
    #[error("the realm answered {step} with something else")]
    Unreadable { step: &'static str },
}
