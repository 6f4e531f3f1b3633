//! What all replicas of this service know of refreshes, in Redis: for a few seconds what a token gave, and for a few hours which
//! token of a session gave something last.
//!
//! Sessions go on without it. A reader of it learns no token: what a token gave is encrypted with a key that is derived from that
//! token, and it is found by the hash of the token.

use std::{fmt::Display, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::UserId;
use kit::{catalog::MAX_ACCESS_TOKEN_SECONDS, outage::Outage};
use redis::{
    ExistenceCheck::NX, FromRedisValue, Pipeline, RedisError, SetExpiry, SetOptions, aio::ConnectionManager,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    domain::{Grant, Session, TokenDigest, external::SIGN_IN_WITHIN},
    sealed::{self, Purpose},
};

/// A refresh that waits longer for Redis goes on without.
const WITHIN: Duration = Duration::from_millis(500);
/// A replica that asks the realm has this long before another may. More than its turn and the request take together, so only that
/// of a process that was killed, or that does not reach Redis any more, comes to its end.
const CLAIM: Duration = Duration::from_secs(8);
/// How long it is known which token of a session gave something last. A client that stays uses what it was given before that, and
/// the realm itself then takes nothing older. Not for as long as the session may live: that is weeks, in memory that tenants share.
const LAST_USE: Duration = Duration::from_secs(2 * MAX_ACCESS_TOKEN_SECONDS);
/// What the key is derived for.
const PURPOSE: Purpose = Purpose("posthouse: what a refresh token gave");
/// What an outage is called in the log.
const WHAT: &str = "sharing refreshes among replicas";

/// The refreshes of one tenant.
pub struct SharedRefreshes {
    redis: ConnectionManager,
    /// Of all keys of the tenant.
    prefix: String,
    outage: Outage,
}

/// What is good once.
#[derive(Clone, Copy)]
pub(crate) enum Once<'a> {
    /// A refresh token of this session.
    Refresh(&'a Session),
    /// The code of a sign-in with an external identity provider.
    Code,
}

/// What is known of a refresh token or a code.
pub(crate) enum Known {
    /// It gave this moments ago.
    Given(Grant),
    /// Another replica asks the realm at this moment.
    Asked,
    /// It gave something before.
    Used,
    /// Nothing: the caller asks the realm, and no other does until [`SharedRefreshes::note`] or [`SharedRefreshes::release`].
    Nothing,
}

#[derive(Debug, thiserror::Error)]
enum SharingError {
    #[error("Redis did not answer within {} ms", WITHIN.as_millis())]
    Late,
    #[error("Redis refused")]
    Refused(#[from] RedisError),
    #[error("the entry of a refresh cannot be decrypted: something else writes below {0}")]
    Foreign(String),
}

/// What is encrypted of a [`Grant`]; the access token names the session.
#[derive(Serialize, Deserialize)]
struct Content {
    access_token: String,
    expires_in_seconds: i64,
    refresh_token: String,
    refresh_expires_in_seconds: i64,
}

impl SharedRefreshes {
    /// Returns the refreshes of a tenant; nothing is connected yet.
    pub fn new(redis: ConnectionManager, tenant: &str) -> Self {
        Self { redis, prefix: format!("mt:{tenant}:"), outage: Outage::default() }
    }

    /// Returns what is known of a token; `None` while Redis does not answer.
    pub(crate) async fn claim(&self, token: &SecretString, once: Once<'_>) -> Option<Known> {
        let known = self.known(token, once).await;
        self.reported(known)
    }

    /// Notes what a token gave, for `grace`, and that it is used: it is the last of its session that gave something.
    pub(crate) async fn note(&self, token: &SecretString, once: Once<'_>, grant: &Grant, grace: Duration) {
        let key = self.given(token);
        let sealed = seal(token, &key, grant);
        let mut pipe = redis::pipe();
        // In this order: who finds the second and not the first takes the token for one that was used long ago.
        pipe.set_options(key, sealed, lasting(grace)).ignore();
        let lifetime = match once {
            Once::Refresh(_) => LAST_USE,
            Once::Code => SIGN_IN_WITHIN,
        };
        pipe.set_options(self.used(token, once), TokenDigest::of(token).as_bytes(), lasting(lifetime))
            .ignore();
        let written = self.run::<()>(&pipe).await;
        self.reported(written);
    }

    /// Lets another replica ask the realm for this token.
    pub(crate) async fn release(&self, token: &SecretString) {
        let mut pipe = redis::pipe();
        pipe.del(self.given(token)).ignore();
        let released = self.run::<()>(&pipe).await;
        self.reported(released);
    }

    /// Notes for a while that the session, or all sessions of the user, have ended.
    pub(crate) async fn note_end(&self, ended: impl Into<Over<'_>>, time: Duration) {
        let mut pipe = redis::pipe();
        pipe.set_options(self.ended(&ended.into()), "", lasting(time)).ignore();
        let written = self.run::<()>(&pipe).await;
        self.reported(written);
    }

    /// Returns whether the session is known to have ended a short while ago; not while Redis does not answer.
    pub(crate) async fn has_ended(&self, session: &Session) -> bool {
        let mut pipe = redis::pipe();
        pipe.get(self.ended(&Over::Session(session))).get(self.ended(&Over::Account(session.user_id)));
        let found = self.run::<(Option<String>, Option<String>)>(&pipe).await;
        matches!(self.reported(found), Some((Some(_), _) | (_, Some(_))))
    }

    async fn known(&self, token: &SecretString, once: Once<'_>) -> Result<Known, SharingError> {
        let key = self.given(token);
        let mut pipe = redis::pipe();
        // In this order: what is found to be used has been noted as given before, and is not given any more if the claim succeeds.
        pipe.get(self.used(token, once));
        pipe.set_options(&key, "", lasting(CLAIM).conditional_set(NX).get(true));
        let (used, given): (Option<Vec<u8>>, Option<Vec<u8>>) = self.run(&pipe).await?;
        match given {
            Some(sealed) if sealed.is_empty() => Ok(Known::Asked),
            Some(sealed) => open(token, &key, sealed).map(Known::Given).ok_or(SharingError::Foreign(key)),
            None if used.as_deref() == Some(TokenDigest::of(token).as_bytes()) => {
                self.release(token).await;
                Ok(Known::Used)
            }
            None => Ok(Known::Nothing),
        }
    }

    async fn run<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, SharingError> {
        let mut redis = self.redis.clone();
        Ok(timeout(WITHIN, pipe.query_async(&mut redis)).await.map_err(|_| SharingError::Late)??)
    }

    fn reported<T>(&self, outcome: Result<T, SharingError>) -> Option<T> {
        match &outcome {
            Ok(_) => self.outage.worked(WHAT),
            Err(error) => self.outage.failed(WHAT, error),
        }
        outcome.ok()
    }

    /// Returns the key of what a token gave. While the realm is asked, its value is empty.
    fn given(&self, token: &SecretString) -> String {
        self.key("refresh", hash(token))
    }

    /// Returns the key that says which token was used: of a session the last one.
    fn used(&self, token: &SecretString, once: Once<'_>) -> String {
        match once {
            Once::Refresh(session) => self.key("refreshed", session.id.as_str()),
            Once::Code => self.key("redeemed", hash(token)),
        }
    }

    fn ended(&self, ended: &Over<'_>) -> String {
        match ended {
            Over::Session(session) => {
                self.key("ended", format_args!("{}:{}", session.user_id, session.id.as_str()))
            }
            Over::Account(user_id) => self.key("ended", user_id),
        }
    }

    fn key(&self, kind: &str, name: impl Display) -> String {
        format!("{}{kind}:{name}", self.prefix)
    }
}

/// What has ended.
pub(crate) enum Over<'a> {
    Session(&'a Session),
    /// All sessions of this user.
    Account(UserId),
}

impl<'a> From<&'a Session> for Over<'a> {
    fn from(session: &'a Session) -> Self {
        Self::Session(session)
    }
}

impl From<UserId> for Over<'_> {
    fn from(user_id: UserId) -> Self {
        Self::Account(user_id)
    }
}

fn hash(token: &SecretString) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(TokenDigest::of(token).as_bytes())
}

fn lasting(lifetime: Duration) -> SetOptions {
    SetOptions::default()
        .with_expiration(SetExpiry::PX(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)))
}

/// Encrypts what a token gave, for the place where it is kept.
fn seal(token: &SecretString, place: &str, grant: &Grant) -> Vec<u8> {
    let content = Content {
        access_token: grant.access_token.expose_secret().to_owned(),
        expires_in_seconds: grant.expires_in_seconds,
        refresh_token: grant.refresh_token.expose_secret().to_owned(),
        refresh_expires_in_seconds: grant.refresh_expires_in_seconds,
    };
    sealed::seal(token, PURPOSE, place, &content)
}

/// Decrypts what [`seal`] returned for the same token and place; `None` for anything else.
fn open(token: &SecretString, place: &str, sealed: Vec<u8>) -> Option<Grant> {
    let content: Content = sealed::open(token, PURPOSE, place, sealed)?;
    Some(Grant {
        session: Session::of(&content.access_token)?,
        access_token: content.access_token.into(),
        expires_in_seconds: content.expires_in_seconds,
        refresh_token: content.refresh_token.into(),
        refresh_expires_in_seconds: content.refresh_expires_in_seconds,
    })
}

#[cfg(test)]
mod tests {
    use contracts::UserId;
    use serde_json::json;

    use super::*;

    fn grant() -> Grant {
        let session = Session { user_id: UserId::generate(), id: "one".parse().expect("an id") };
        let claims = json!({"sub": session.user_id, "sid": session.id}).to_string();
        Grant {
            access_token: format!("header.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims)).into(),
            session,
            expires_in_seconds: 300,
            refresh_token: "the next one".into(),
            refresh_expires_in_seconds: 1800,
        }
    }

    #[test]
    fn only_the_token_that_gave_it_opens_what_it_gave() {
        let (token, grant) = (SecretString::from("a token"), grant());
        let sealed = seal(&token, "mt:acme:refresh:x", &grant);
        assert!(!String::from_utf8_lossy(&sealed).contains("next"));
        let opened = open(&token, "mt:acme:refresh:x", sealed.clone()).expect("what it gave");
        assert_eq!(opened.session, grant.session);
        assert_eq!(opened.access_token.expose_secret(), grant.access_token.expose_secret());
        assert_eq!(opened.refresh_token.expose_secret(), "the next one");
        assert_eq!((opened.expires_in_seconds, opened.refresh_expires_in_seconds), (300, 1800));

        let mut changed = sealed.clone();
        *changed.last_mut().expect("a tag") ^= 1;
        for (token, place, sealed) in [
            ("another token", "mt:acme:refresh:x", sealed.clone()),
            ("a token", "mt:acme:refresh:y", sealed.clone()),
            ("a token", "mt:acme:refresh:x", changed),
            ("a token", "mt:acme:refresh:x", sealed[..20].to_vec()),
            ("a token", "mt:acme:refresh:x", b"short".to_vec()),
        ] {
            assert!(open(&token.into(), place, sealed).is_none());
        }
        assert_ne!(seal(&token, "", &grant), seal(&token, "", &grant), "no nonce is used twice");
    }
}
