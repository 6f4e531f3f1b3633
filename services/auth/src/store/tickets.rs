//! What links in mails stand for. A link has a token; it is kept by its hash, with what it stands for encrypted by the token itself,
//! and for a quarter of an hour.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use contracts::UserId;
use redis::{ExistenceCheck::XX, FromRedisValue, Pipeline, SetExpiry, SetOptions, aio::ConnectionManager};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::StoreError;
use crate::{
    domain::TokenDigest,
    sealed::{self, Purpose, random_word},
};

/// How long a link is good.
pub const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A request waits no longer for Redis.
const WITHIN: Duration = Duration::from_secs(2);
const PURPOSE: Purpose = Purpose("posthouse: what a link in a mail stands for");
/// Links that a process without Redis remembers.
const MAX_REMEMBERED: usize = 10_000;

/// What a link stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ticket {
    /// Its holder chooses a new password.
    Password { user_id: UserId },
    /// Its holder reads mail at this address.
    Email { user_id: UserId, email: String },
}

impl Ticket {
    /// Returns what of a user has one link at a time.
    fn slot(&self) -> String {
        match self {
            Self::Password { user_id } => format!("password:{user_id}"),
            Self::Email { user_id, .. } => format!("email:{user_id}"),
        }
    }
}

/// What became of a link.
#[derive(Debug)]
pub(crate) enum Taken {
    Good(Ticket),
    /// It was used before.
    Used,
    /// It has expired, another one took its place, or it never was one.
    Unknown,
}

/// The links of one tenant: in Redis, where all replicas find them, or in this process.
pub struct Tickets(Place);

enum Place {
    Redis { redis: ConnectionManager, prefix: String },
    Process(Mutex<HashMap<String, (Vec<u8>, Instant)>>),
}

impl Tickets {
    /// Returns the links of a tenant in Redis; nothing is connected yet.
    pub fn shared(redis: ConnectionManager, tenant: &str) -> Self {
        Self(Place::Redis { redis, prefix: format!("mt:{tenant}:") })
    }

    /// Returns the links of a service with one process.
    pub fn in_process() -> Self {
        Self(Place::Process(Mutex::default()))
    }

    /// Makes a link, in the place of the last one of the same kind that the user was sent. Returns its token.
    pub(crate) async fn issue(&self, ticket: &Ticket) -> Result<SecretString, StoreError> {
        let token = random_word();
        let (key, slot) = (key(&token), slot(&ticket.slot()));
        let sealed = sealed::seal(&token, PURPOSE, &key, ticket);
        // Before its place, so that of two at once the one that is replaced is there to be removed.
        self.put(&key, sealed).await?;
        self.remove_last(&slot, key.as_bytes().to_vec()).await?;
        Ok(token)
    }

    /// Uses a link, if it stands for what is asked for. Of two that use it at once one gets what it stands for.
    pub(crate) async fn take(
        &self,
        token: &SecretString,
        is_it: impl Fn(&Ticket) -> bool + Send,
    ) -> Result<Taken, StoreError> {
        let key = key(token);
        let found = self.get(&key).await?.and_then(|sealed| sealed::open(token, PURPOSE, &key, sealed));
        if found.is_some_and(|ticket| !is_it(&ticket)) {
            return Ok(Taken::Unknown);
        }
        Ok(match self.replace(&key, Vec::new()).await? {
            None => Taken::Unknown,
            Some(sealed) if sealed.is_empty() => Taken::Used,
            Some(sealed) => sealed::open(token, PURPOSE, &key, sealed).map_or(Taken::Unknown, Taken::Good),
        })
    }

    /// Makes a link good again that was taken for nothing.
    pub(crate) async fn give_back(&self, token: &SecretString, ticket: &Ticket) -> Result<(), StoreError> {
        let key = key(token);
        let sealed = sealed::seal(token, PURPOSE, &key, ticket);
        self.replace(&key, sealed).await.map(drop)
    }

    /// Makes the last link with which a user could choose a password good for nothing.
    pub(crate) async fn revoke_password(&self, user_id: UserId) -> Result<(), StoreError> {
        self.remove_last(&slot(&Ticket::Password { user_id }.slot()), Vec::new()).await
    }

    /// Makes the last link good for nothing with which a user could confirm an address.
    pub(crate) async fn revoke_email(&self, user_id: UserId) -> Result<(), StoreError> {
        self.remove_last(&slot(&Ticket::Email { user_id, email: String::new() }.slot()), Vec::new()).await
    }

    /// Puts a link, or none, into the place of the last one of its kind, which is good for nothing then.
    async fn remove_last(&self, slot: &str, next: Vec<u8>) -> Result<(), StoreError> {
        match self.put(slot, next).await?.map(String::from_utf8) {
            Some(Ok(last)) if !last.is_empty() => self.remove(&last).await,
            _ => Ok(()),
        }
    }

    /// Sets a value for the life of a link and returns the one before.
    async fn put(&self, key: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.0 {
            Place::Redis { prefix, .. } => {
                let lifetime = SetExpiry::EX(LINK_LIFETIME.as_secs());
                let mut pipe = redis::pipe();
                let options = SetOptions::default().get(true).with_expiration(lifetime);
                pipe.set_options(format!("{prefix}{key}"), value, options);
                let (before,) = self.run(&pipe).await?;
                Ok(before)
            }
            Place::Process(places) => {
                let now = Instant::now();
                let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
                places.retain(|_, (_, until)| *until > now);
                if places.len() >= MAX_REMEMBERED {
                    places.clear();
                }
                Ok(places.insert(key.to_owned(), (value, now + LINK_LIFETIME)).map(|(before, _)| before))
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.0 {
            Place::Redis { prefix, .. } => {
                let mut pipe = redis::pipe();
                pipe.get(format!("{prefix}{key}"));
                let (found,) = self.run(&pipe).await?;
                Ok(found)
            }
            Place::Process(places) => {
                let places = places.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(places.get(key).filter(|(_, until)| *until > Instant::now()).map(|(kept, _)| kept.clone()))
            }
        }
    }

    /// Replaces a value, if there is one, for the rest of its life, and returns the one before.
    async fn replace(&self, key: &str, value: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.0 {
            Place::Redis { prefix, .. } => {
                let mut pipe = redis::pipe();
                let options =
                    SetOptions::default().conditional_set(XX).get(true).with_expiration(SetExpiry::KEEPTTL);
                pipe.set_options(format!("{prefix}{key}"), value, options);
                let (before,) = self.run(&pipe).await?;
                Ok(before)
            }
            Place::Process(places) => {
                let now = Instant::now();
                let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
                let kept = places.get_mut(key).filter(|(_, until)| *until > now);
                Ok(kept.map(|(kept, _)| std::mem::replace(kept, value)))
            }
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        match &self.0 {
            Place::Redis { prefix, .. } => {
                let mut pipe = redis::pipe();
                pipe.del(format!("{prefix}{key}")).ignore();
                self.run::<()>(&pipe).await
            }
            Place::Process(places) => {
                places.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
                Ok(())
            }
        }
    }

    async fn run<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, StoreError> {
        let Place::Redis { redis, .. } = &self.0 else { unreachable!("only Redis runs commands") };
        let mut redis = redis.clone();
        match timeout(WITHIN, pipe.query_async(&mut redis)).await {
            Ok(outcome) => outcome.map_err(|source| StoreError::Links(Some(source))),
            Err(_) => Err(StoreError::Links(None)),
        }
    }
}

fn key(token: &SecretString) -> String {
    format!("link:{}", BASE64_URL_SAFE_NO_PAD.encode(TokenDigest::of(token).as_bytes()))
}

fn slot(of: &str) -> String {
    format!("link-of:{of}")
}

/// Reads what may be the token of a link; `None` for what this service never gave.
pub(crate) fn link_token(text: String) -> Option<SecretString> {
    let is_one = text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    is_one.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[tokio::test]
    async fn a_link_is_good_once_and_only_the_last_one_is() {
        let tickets = Tickets::in_process();
        let ticket = Ticket::Password { user_id: UserId::generate() };
        let first = tickets.issue(&ticket).await.expect("a link");
        let second = tickets.issue(&ticket).await.expect("a link");
        let any = |_: &Ticket| true;
        assert!(matches!(tickets.take(&first, any).await, Ok(Taken::Unknown)));
        let elsewhere = tickets.take(&second, |ticket| matches!(ticket, Ticket::Email { .. })).await;
        assert!(matches!(elsewhere, Ok(Taken::Unknown)), "for another purpose");
        assert!(matches!(tickets.take(&second, any).await, Ok(Taken::Good(found)) if found == ticket));
        assert!(matches!(tickets.take(&second, any).await, Ok(Taken::Used)));
        tickets.give_back(&second, &ticket).await.expect("good again");
        assert!(matches!(tickets.take(&second, any).await, Ok(Taken::Good(_))));
        let Ticket::Password { user_id } = ticket else { unreachable!() };
        let third = tickets.issue(&ticket).await.expect("a link");
        tickets.revoke_password(user_id).await.expect("revoked");
        assert!(matches!(tickets.take(&third, any).await, Ok(Taken::Unknown)));
        assert!(link_token(third.expose_secret().to_owned()).is_some());
        assert!(
            link_token("x".to_owned()).is_none() && link_token(format!("{}\n", "x".repeat(42))).is_none()
        );
    }
}
