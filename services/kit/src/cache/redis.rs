//! In Redis, with the account of the tenant and the commands that it has.
//!
//! A key is a sorted set whose scores are versions, and what is read is the member with the greatest: a fill with an older version goes behind it,
//! whenever it comes. So nothing has to be compared and set, for which a tenant's account may run no script: Redis has one thread for all tenants.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    ExistenceCheck::NX, FromRedisValue, Pipeline, RedisError, SetExpiry, SetOptions, aio::ConnectionManager,
};
use tokio::time::timeout;

use super::kept::{Effort, Kept};
use crate::{config::RedisArgs, outage::Outage};

/// A reader who waits longer for Redis goes to the truth, which takes a few milliseconds as a rule.
const WITHIN: Duration = Duration::from_millis(25);
/// A change waits so long: until it is written, others may read what was before it.
const CHANGE_WITHIN: Duration = Duration::from_millis(500);
/// Redis that did not answer is left alone for so long; then one read shows whether it does again.
const PAUSE: Duration = Duration::from_secs(1);
/// What outages are called in the log.
const READING: &str = "reading the cache";
const WRITING: &str = "writing the cache";

/// The cache of one tenant.
pub(super) struct RedisShelf {
    redis: ConnectionManager,
    prefix: String,
    within: Duration,
    /// While there is a moment, it is left alone until then.
    left_alone: Mutex<Option<Instant>>,
    reading: Outage,
    writing: Outage,
}

#[derive(Debug, thiserror::Error)]
enum ShelfError {
    #[error("Redis did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("Redis refused")]
    Refused(#[from] RedisError),
}

impl RedisShelf {
    pub(super) fn new(args: &RedisArgs, tenant: &str, within: Option<Duration>) -> Result<Self, RedisError> {
        Ok(Self {
            // One of its own: what is long in it holds up nothing else.
            redis: crate::redis::connection(args)?,
            prefix: format!("mt:{tenant}:"),
            within: within.unwrap_or(WITHIN),
            left_alone: Mutex::default(),
            reading: Outage::default(),
            writing: Outage::default(),
        })
    }

    pub(super) async fn read(&self, keys: &[String]) -> Option<Vec<Option<Kept>>> {
        if !self.may_read(Instant::now()) {
            return None;
        }
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd("ZRANGE").arg(self.key(key)).arg(0).arg(0).arg("REV");
        }
        let found: Vec<Vec<Vec<u8>>> = self.noted(self.run(&pipe, self.within).await)?;
        Some(found.into_iter().map(|members| Kept::decode(members.first()?)).collect())
    }

    pub(super) async fn write(&self, entries: &[(String, i64, Kept)], effort: Effort) {
        let within = match effort {
            Effort::Fill if self.lock().is_some() => return,
            Effort::Fill => self.within,
            Effort::Change => CHANGE_WITHIN,
        };
        let written: Vec<(String, String)> =
            entries.iter().map(|(key, _, kept)| (self.key(key), kept.encode())).collect();
        let mut pipe = redis::pipe();
        for ((key, member), (_, version, kept)) in written.iter().zip(entries) {
            // A reader who comes between these two finds nothing.
            pipe.cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(*version).ignore();
            pipe.cmd("ZADD").arg(key).arg(*version).arg(member).ignore();
            pipe.cmd("PEXPIREAT").arg(key).arg(kept.until_ms).ignore();
            pipe.cmd("ZRANGE").arg(key).arg(0).arg(0).arg("REV");
        }
        // What came too late is behind a newer one, is never read, and would stay as long as that: it may be of a user who is erased.
        let outcome = self.run::<Vec<Vec<Vec<u8>>>>(&pipe, within).await;
        let outcome = match outcome {
            Ok(first) => self.withdraw(&written, &first, within).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => self.writing.worked(WRITING),
            // Reads may go on: Redis refuses writes when its memory is full.
            Err(error) => self.writing.failed(WRITING, &error),
        }
    }

    /// Removes what was written and is not the first of its key.
    async fn withdraw(
        &self,
        written: &[(String, String)],
        first: &[Vec<Vec<u8>>],
        within: Duration,
    ) -> Result<(), ShelfError> {
        let mut pipe = redis::pipe();
        for ((key, member), first) in written.iter().zip(first) {
            if first.first().is_some_and(|first| first != member.as_bytes()) {
                pipe.cmd("ZREM").arg(key).arg(member).ignore();
            }
        }
        if pipe.is_empty() { Ok(()) } else { self.run(&pipe, within).await }
    }

    pub(super) async fn take_turn(&self, key: &str, lasts: Duration) -> bool {
        let milliseconds = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let options = SetOptions::default().conditional_set(NX).with_expiration(SetExpiry::PX(milliseconds));
        let mut pipe = redis::pipe();
        pipe.set_options(format!("{}:turn", self.key(key)), "", options);
        let set: Option<(Option<String>,)> = self.noted(self.run(&pipe, self.within).await);
        matches!(set, Some((Some(_),)))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn run<T: FromRedisValue>(&self, pipe: &Pipeline, within: Duration) -> Result<T, ShelfError> {
        let mut redis = self.redis.clone();
        let outcome = timeout(within, pipe.query_async::<T>(&mut redis)).await;
        outcome.map_err(|_| ShelfError::Late(within)).and_then(|outcome| Ok(outcome?))
    }

    /// Returns whether Redis is to be read; while it does not answer, that is one reader now and then.
    fn may_read(&self, now: Instant) -> bool {
        let mut left_alone = self.lock();
        match *left_alone {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *left_alone = Some(now + PAUSE);
                true
            }
        }
    }

    /// Notes whether Redis answered a reader.
    fn noted<T>(&self, outcome: Result<T, ShelfError>) -> Option<T> {
        *self.lock() = outcome.is_err().then(|| Instant::now() + PAUSE);
        match &outcome {
            Ok(_) => self.reading.worked(READING),
            Err(error) => self.reading.failed(READING, error),
        }
        outcome.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
