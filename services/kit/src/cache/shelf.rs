//! Where a cache keeps.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "redis")]
use super::redis::RedisShelf;
use super::{
    kept::{Effort, Kept},
    memory::MemoryShelf,
};
#[cfg(feature = "redis")]
use crate::config::RedisArgs;

/// One who reads a key again has this long before another may. Longer than a read at the truth takes.
const TURN: Duration = Duration::from_secs(5);

/// Where caches keep. Cheap to clone.
#[derive(Clone)]
pub struct Shelf(Arc<Place>);

enum Place {
    Nowhere,
    Memory(MemoryShelf),
    #[cfg(feature = "redis")]
    Redis(RedisShelf),
}

impl Shelf {
    /// Returns one that keeps nothing: every read goes to the truth.
    pub fn none() -> Self {
        Self(Arc::new(Place::Nowhere))
    }

    /// Returns one in the memory of this process.
    pub fn memory() -> Self {
        Self(Arc::new(Place::Memory(MemoryShelf::default())))
    }

    /// Returns one in Redis, which the processes of a tenant share. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The address is not valid.
    #[cfg(feature = "redis")]
    pub fn redis(args: &RedisArgs, tenant: &str) -> Result<Self, redis::RedisError> {
        Ok(Self(Arc::new(Place::Redis(RedisShelf::new(args, tenant, None)?))))
    }

    /// Returns one like [`Self::redis`] whose reads wait so long, for tests on a machine that is busy.
    ///
    /// # Errors
    ///
    /// The address is not valid.
    #[cfg(all(feature = "redis", feature = "testing"))]
    pub fn patient_redis(
        args: &RedisArgs,
        tenant: &str,
        within: Duration,
    ) -> Result<Self, redis::RedisError> {
        Ok(Self(Arc::new(Place::Redis(RedisShelf::new(args, tenant, Some(within))?))))
    }

    /// Returns what is kept under keys, in their order; `None` when the shelf does not answer.
    pub(super) async fn read(&self, keys: &[String]) -> Option<Vec<Option<Kept>>> {
        match &*self.0 {
            Place::Nowhere => None,
            Place::Memory(memory) => Some(memory.read(keys)),
            #[cfg(feature = "redis")]
            Place::Redis(redis) => redis.read(keys).await,
        }
    }

    /// Keeps entries, each with its key and version, where there is nothing of a newer version.
    pub(super) async fn write(&self, entries: &[(String, i64, Kept)], effort: Effort) {
        match (&*self.0, effort) {
            (Place::Nowhere, _) => {}
            (Place::Memory(memory), _) => memory.write(entries),
            #[cfg(feature = "redis")]
            (Place::Redis(redis), effort) => redis.write(entries, effort).await,
        }
    }

    /// Takes the turn to read a key again; false when another one has it.
    pub(super) async fn take_turn(&self, key: &str) -> bool {
        match &*self.0 {
            Place::Nowhere => true,
            Place::Memory(memory) => memory.take_turn(key, super::milliseconds(TURN)),
            #[cfg(feature = "redis")]
            Place::Redis(redis) => redis.take_turn(key, TURN).await,
        }
    }
}
