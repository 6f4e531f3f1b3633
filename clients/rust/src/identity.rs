//! A signed-in user and the tokens that prove it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{Encoding, UserId, api::Tokens, wire::Ack};
use tokio::sync::Mutex;

use crate::{ClientError, Messenger};

/// A token with less time left than this is replaced before it is used.
const RENEW_BEFORE: Duration = Duration::from_secs(45);

/// A signed-in user of a tenant. Clones share the tokens, which are renewed as they are used.
#[derive(Clone)]
pub struct Identity {
    messenger: Messenger,
    user: UserId,
    username: Arc<str>,
    held: Arc<Mutex<Held>>,
}

struct Held {
    access: String,
    refresh: String,
    expires_at: Instant,
}

impl Identity {
    /// Signs in by user name and password.
    pub async fn sign_in(messenger: &Messenger, username: &str, password: &str) -> Result<Self, ClientError> {
        let held = Held::from(messenger.sign_in(username, password).await?);
        let profile = messenger.me(&held.access).await?.profile;
        Ok(Self {
            messenger: messenger.clone(),
            user: profile.user_id,
            username: profile.username.into(),
            held: Arc::new(Mutex::new(held)),
        })
    }

    /// Returns a user who calls nothing.
    #[cfg(test)]
    pub(crate) fn without_tokens(messenger: Messenger, user: UserId) -> Self {
        let held = Held { access: String::new(), refresh: String::new(), expires_at: Instant::now() };
        Self { messenger, user, username: "".into(), held: Arc::new(Mutex::new(held)) }
    }

    pub fn messenger(&self) -> &Messenger {
        &self.messenger
    }

    /// Returns the user with sessions whose frames are written so, see [`Messenger::speaking`].
    pub fn speaking(self, encoding: Encoding) -> Self {
        Self { messenger: self.messenger.speaking(encoding), ..self }
    }

    /// Returns the user with sessions whose texts are answered so, see [`Messenger::answered_by`].
    pub fn answered_by(self, ack: Ack) -> Self {
        Self { messenger: self.messenger.answered_by(ack), ..self }
    }

    pub fn user(&self) -> UserId {
        self.user
    }

    pub fn username(&self) -> &str {
        &self.username
    }

    /// Returns an access token with time left on it.
    pub async fn token(&self) -> Result<String, ClientError> {
        // The lock is held over the call on purpose: refresh tokens rotate, and two concurrent refreshes would spend
        // the same one twice.
        let mut held = self.held.lock().await;
        if held.expires_at <= Instant::now() + RENEW_BEFORE {
            *held = self.messenger.refresh(&held.refresh).await?.into();
        }
        Ok(held.access.clone())
    }

    /// Returns a new token, whatever time the last one had left.
    pub async fn fresh_token(&self) -> Result<String, ClientError> {
        self.held.lock().await.expires_at = Instant::now();
        self.token().await
    }

    /// Signs out at the realm, which invalidates the refresh token.
    pub async fn sign_out(&self) -> Result<(), ClientError> {
        self.messenger.sign_out(&self.held.lock().await.refresh).await
    }

    /// Returns the refresh token, for tests of its end.
    pub async fn refresh_token(&self) -> String {
        self.held.lock().await.refresh.clone()
    }
}

impl From<Tokens> for Held {
    fn from(tokens: Tokens) -> Self {
        let lifetime = Duration::from_secs(u64::try_from(tokens.expires_in_seconds).unwrap_or(0));
        Self {
            access: tokens.access_token,
            refresh: tokens.refresh_token,
            expires_at: Instant::now() + lifetime,
        }
    }
}
