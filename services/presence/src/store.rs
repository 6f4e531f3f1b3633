//! When users were seen last. What is lost of it is not known, and nothing else.

mod memory;
mod redis;

use contracts::UserId;
use tonic::async_trait;

pub use self::{memory::MemoryStore, redis::RedisStore};

/// A store of the moments in which users went offline. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait LastSeen: Send + Sync + 'static {
    /// Notes that these users were seen at this moment, in milliseconds since the epoch.
    async fn note(&self, users: &[UserId], at_ms: i64);

    /// Returns when each of these users was seen last, in their order; `None` for what is not known, or not now.
    async fn last_seen(&self, users: &[UserId]) -> Vec<Option<i64>>;
}
