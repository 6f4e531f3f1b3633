//! How the index comes to have what is in the chats: it follows `message.delivered`, and reads what was before from the message service.
//!
//! One task does both, so that no two writes meet. What a page of a chat says and what the log says are put together by
//! `domain::Batch`, in whichever order they come. How far both have come is written with the documents, in one step: after a kill
//! the task goes on where the index is.

mod build;
mod indexer;

use std::{
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    time::Duration,
};

pub use self::{build::Source, indexer::Indexer};

/// How far the index has come, for those who ask.
#[derive(Debug, Default)]
pub struct Standing {
    complete: AtomicBool,
    percent: AtomicU8,
}

impl Standing {
    pub(crate) fn set(&self, complete: bool, percent: u8) {
        self.complete.store(complete, Ordering::Relaxed);
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// Returns whether every message can be found, but for those of the last seconds.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Returns how much of all chats is read, from 0 to 100.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }
}

/// The times of the indexer.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What has come is written this long after the first of it: a commit costs the same for one document as for many.
    pub write_after: Duration,
    /// How often texts that have disappeared are forgotten. They are not found before.
    pub forget_every: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { write_after: Duration::from_millis(500), forget_every: Duration::from_secs(60) }
    }
}
