//! In memory, for processes that share with no other: those of `posthouse dev`, and tests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::kept::Kept;
use crate::clock::now_ms;

/// Keys that are kept. Beyond it those go that are not good any more, and all when that is not enough.
const MAX_KEPT: usize = 10_000;

/// What is kept, by key, with its version.
#[derive(Debug, Default)]
pub(super) struct MemoryShelf(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    kept: HashMap<String, (i64, Kept)>,
    /// Until when someone has the turn to read a key again.
    turns: HashMap<String, i64>,
}

impl MemoryShelf {
    pub(super) fn read(&self, keys: &[String]) -> Vec<Option<Kept>> {
        let content = self.lock();
        keys.iter().map(|key| content.kept.get(key).map(|(_, kept)| kept.clone())).collect()
    }

    pub(super) fn write(&self, entries: &[(String, i64, Kept)]) {
        let (mut content, now) = (self.lock(), now_ms());
        for (key, version, kept) in entries {
            let is_newer = |(known, kept): &(i64, Kept)| known > version && kept.until_ms > now;
            if !content.kept.get(key).is_some_and(is_newer) {
                content.kept.insert(key.clone(), (*version, kept.clone()));
            }
        }
        if content.kept.len() > MAX_KEPT {
            content.kept.retain(|_, (_, kept)| kept.until_ms > now);
            content.turns.retain(|_, until_ms| *until_ms > now);
        }
        if content.kept.len() > MAX_KEPT {
            content.kept.clear();
        }
    }

    pub(super) fn take_turn(&self, key: &str, lasts_ms: i64) -> bool {
        let (mut content, now) = (self.lock(), now_ms());
        let is_taken = content.turns.get(key).is_some_and(|until_ms| *until_ms > now);
        if !is_taken {
            content.turns.insert(key.to_owned(), now.saturating_add(lasts_ms));
        }
        !is_taken
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
