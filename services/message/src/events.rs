//! The way of a record: consumed from `message.send`, sequenced, stored, announced on `message.delivered`.
//!
//! Each partition has one owner task. It takes what is there (no timer), at most [`MAX_BATCH`] records and
//! [`MAX_BATCH_BYTES`], and goes step by step. Beside the write of a batch it looks up what has come for the next one.
//! The head rows and the committed position follow later, because a replay rewrites equal rows.
//! Invariant: the position that is recorded and committed never runs ahead of what the store and the log of
//! announcements have made durable.

mod announcer;
mod consumer;
#[cfg(test)]
mod flaky;
mod owner;
mod pipeline;
mod traced;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kit::health::Check;

pub(crate) use consumer::Consumer;

/// Records of one batch.
const MAX_BATCH: usize = 500;
/// Bytes of the records of one batch, but for the last one. An owner has them several times over while it writes and announces them, and its next
/// batch beside it: some megabytes.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// After a failed step.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3);

/// What keeps the service from making progress, as one readiness check.
pub(crate) struct Blockers {
    check: Check,
    by_place: Mutex<BTreeMap<Place, String>>,
}

/// Where progress is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// This process has no partitions because it is not in the group.
    Group,
    /// No broker responds.
    Brokers,
    /// The owner of this partition waits for a backend.
    Partition(i32),
    /// The announcements of this partition are not acknowledged.
    Announcements(i32),
}

impl Blockers {
    pub(crate) fn new(check: Check) -> Self {
        let this = Self { check, by_place: Mutex::default() };
        this.set(Place::Group, "has not joined the consumer group yet");
        this
    }

    pub(crate) fn set(&self, place: Place, why: impl Into<String>) {
        self.change(|by_place| {
            by_place.insert(place, why.into());
        });
    }

    pub(crate) fn clear(&self, place: Place) {
        self.change(|by_place| {
            by_place.remove(&place);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Place, String>)) {
        let mut by_place = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        let before = by_place.clone();
        change(&mut by_place);
        if before == *by_place && !before.is_empty() {
            return;
        }
        match by_place.first_key_value() {
            Some((_, why)) => self.check.failing(why),
            None => self.check.ok(),
        }
    }
}
