//! In memory, for `compact dev` and tests.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use contracts::UserId;
use tonic::async_trait;

use super::LastSeen;

/// Users who are remembered; of more, all are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// Remembers for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore(Mutex<HashMap<UserId, i64>>);

#[async_trait]
impl LastSeen for MemoryStore {
    async fn note(&self, users: &[UserId], at_ms: i64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() + users.len() > MAX_REMEMBERED {
            seen.clear();
        }
        seen.extend(users.iter().take(MAX_REMEMBERED).map(|user| (*user, at_ms)));
    }

    async fn last_seen(&self, users: &[UserId]) -> Vec<Option<i64>> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.iter().map(|user| seen.get(user).copied()).collect()
    }
}
