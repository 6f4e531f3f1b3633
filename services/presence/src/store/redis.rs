//! In Redis: one key for each user who was seen within a month, as seconds since the epoch.

use std::time::Duration;

use contracts::UserId;
use kit::outage::Outage;
use redis::{FromRedisValue, Pipeline, RedisError, aio::ConnectionManager};
use tokio::time::timeout;
use tonic::async_trait;

use super::LastSeen;

/// What waits longer for Redis goes on without.
const WITHIN: Duration = Duration::from_millis(500);
/// How long it is known when a user was seen; the memory is shared by all tenants.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Users of one round trip.
const BATCH: usize = 500;
/// What an outage is called in the log.
const WHAT: &str = "keeping when users were last seen";

/// The moments of one tenant.
pub struct RedisStore {
    redis: ConnectionManager,
    prefix: String,
    outage: Outage,
}

#[derive(Debug, thiserror::Error)]
enum SeenError {
    #[error("Redis did not answer within {} ms", WITHIN.as_millis())]
    Late,
    #[error("Redis refused")]
    Refused(#[from] RedisError),
}

impl RedisStore {
    /// Returns the store of a tenant; nothing is connected yet.
    pub fn new(redis: ConnectionManager, tenant: &str) -> Self {
        Self { redis, prefix: format!("mt:{tenant}:seen:"), outage: Outage::default() }
    }

    fn key(&self, user: UserId) -> String {
        format!("{}{user}", self.prefix)
    }

    async fn run<T: FromRedisValue>(&self, pipe: &Pipeline) -> Option<T> {
        let mut redis = self.redis.clone();
        let outcome = timeout(WITHIN, pipe.query_async::<T>(&mut redis)).await;
        let outcome = outcome.map_err(|_| SeenError::Late).and_then(|outcome| Ok(outcome?));
        match &outcome {
            Ok(_) => self.outage.worked(WHAT),
            Err(error) => self.outage.failed(WHAT, error),
        }
        outcome.ok()
    }
}

#[async_trait]
impl LastSeen for RedisStore {
    async fn note(&self, users: &[UserId], at_ms: i64) {
        for batch in users.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for user in batch {
                pipe.set_ex(self.key(*user), at_ms / 1000, REMEMBERED.as_secs()).ignore();
            }
            if self.run::<()>(&pipe).await.is_none() {
                return;
            }
        }
    }

    async fn last_seen(&self, users: &[UserId]) -> Vec<Option<i64>> {
        let mut seen = Vec::with_capacity(users.len());
        for batch in users.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for user in batch {
                pipe.get(self.key(*user));
            }
            // A value that is not a number is not ours, and not worth an error.
            let Some(found) = self.run::<Vec<Option<String>>>(&pipe).await else { break };
            seen.extend(found.into_iter().map(|text| Some(text?.parse::<i64>().ok()? * 1000)));
        }
        seen.resize(users.len(), None);
        seen
    }
}
