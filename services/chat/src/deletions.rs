//! Groups that are deleted lose their members in steps.
//!
//! The request that deletes a group takes them, and so does every process for groups whose request was cut off. A step is a
//! transaction of its own, and steps of one group happen one after the other, so that any number of processes may take them.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use chrono::Utc;
use contracts::ChatId;
use kit::{backoff::Backoff, rounds};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    store::{ChatStore, Publication, StoreError},
};

/// How often groups are looked for whose deletion was cut off.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// Groups that are emptied before others are looked for.
const GROUPS: usize = 100;

/// Finishes deletions that have begun, until the shutdown.
pub async fn follow(store: Arc<dyn ChatStore>, shutdown: CancellationToken) {
    let what = "finishing the deletion of groups";
    rounds::repeat(what, INTERVAL, Backoff::new(BACKOFF), &shutdown, || finish(&*store)).await;
}

/// Finishes every deletion that has begun.
pub async fn finish(store: &dyn ChatStore) -> Result<(), Error> {
    loop {
        let begun = store.begun_deletions(GROUPS).await?;
        if begun.is_empty() {
            return Ok(());
        }
        for chat_id in begun {
            empty(store, chat_id).await?;
            tracing::info!(chat = %chat_id, "the deletion of group {chat_id} is finished");
        }
    }
}

/// Removes all members of a group whose deletion has begun. Returns what is published of the last step; `None` when another process
/// took all of them.
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
pub async fn empty(store: &dyn ChatStore, chat_id: ChatId) -> Result<Option<Publication>, StoreError> {
    let mut last = None;
    while let Some(step) = store.empty(chat_id, Utc::now()).await? {
        last = Some(step);
    }
    Ok(last)
}
