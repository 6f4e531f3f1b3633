//! Users whose accounts are deleted: nothing is known of them any more.
//!
//! The user service lists deletions in their order. Every process of this service follows the list from a place that the store keeps;
//! what is done twice changes nothing, so none of them leads.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use kit::{backoff::Backoff, rounds};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    peers::{Deletion, Peers},
    store::NotificationStore,
};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// A deletion is looked at again for this long: a request that began before it may still subscribe, and a deletion that began earlier may
/// be listed after it.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Follows the deletions until the shutdown.
pub async fn follow(peers: Peers, store: Arc<dyn NotificationStore>, shutdown: CancellationToken) {
    let what = "following the deletion of accounts";
    rounds::repeat(what, INTERVAL, Backoff::new(BACKOFF), &shutdown, || catch_up(&peers, &*store)).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(peers: &Peers, store: &dyn NotificationStore) -> Result<(), Error> {
    let mut after = store.deletions_position().await?.unwrap_or_default();
    let mut is_settled = true;
    loop {
        let page = peers.deletions(after.clone()).await?;
        let Some(last) = page.last().map(|deletion| deletion.position.clone()) else { return Ok(()) };
        let mut settled = None;
        for Deletion { user_id, position, age } in page {
            if store.erase(user_id).await? {
                tracing::info!(user = %user_id, "a deleted account is notified of nothing any more");
            }
            is_settled &= age >= SETTLED_AFTER;
            if is_settled {
                settled = Some(position);
            }
        }
        // Only what is done is behind the place: a process that is killed does it again.
        if let Some(settled) = settled {
            store.set_deletions_position(&settled).await?;
        }
        after = last;
    }
}
