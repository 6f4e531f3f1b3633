//! Users whose accounts are deleted leave their chats; blocks of theirs and against them go, and so do their requests to join and when they
//! sent last.
//!
//! The user service lists deletions in their order. Every process of this service follows the list from a place that the
//! store keeps; what is done twice changes nothing, so none of them leads.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use chrono::Utc;
use contracts::UserId;
use kit::{backoff::Backoff, rounds};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Deletion, Users},
    error::Error,
    store::ChatStore,
};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(2);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// A deletion is looked at again for this long: a request that began before it may still add the user to a chat, and one that
/// began earlier may be listed after it.
const SETTLED_AFTER: Duration = Duration::from_secs(60);
/// Chats that are left, and blocks that are lifted, before others are listed.
const CHATS: usize = 100;

/// Follows the deletions until the shutdown.
pub async fn follow(users: Users, store: Arc<dyn ChatStore>, shutdown: CancellationToken) {
    let what = "following the deletion of accounts";
    rounds::repeat(what, INTERVAL, Backoff::new(BACKOFF), &shutdown, || catch_up(&users, &*store)).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(users: &Users, store: &dyn ChatStore) -> Result<(), Error> {
    let mut after = store.deletions_position().await?.unwrap_or_default();
    let mut is_settled = true;
    loop {
        let page = users.deletions(after.clone()).await?;
        let mut settled = None;
        let Some(last) = page.last().map(|deletion| deletion.position.clone()) else { return Ok(()) };
        for Deletion { user_id, position, age } in page {
            let chats_left = leave_all(store, user_id).await?;
            let blocks_lifted = lift_blocks(store, user_id).await?;
            store.withdraw_all(user_id).await?;
            is_settled &= age >= SETTLED_AFTER;
            if is_settled || chats_left + blocks_lifted > 0 {
                users.note_erased(user_id, chats_left, blocks_lifted, is_settled).await?;
            }
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

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
/// Returns how many chats the user was in.
async fn leave_all(store: &dyn ChatStore, user_id: UserId) -> Result<u32, Error> {
    let mut left = 0;
    loop {
        let chats = store.chats(user_id, None, CHATS).await?;
        if chats.is_empty() {
            return Ok(left);
        }
        for chat in chats {
            store.depart(chat.chat_id, user_id, Utc::now()).await?;
            left += 1;
            tracing::info!(user = %user_id, chat = %chat.chat_id, "a deleted account has left {}", chat.chat_id);
        }
    }
}

/// Lifts the blocks of a user and those against them, and returns how many were the user's own: no user learns who
/// blocks them, nor how many.
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
async fn lift_blocks(store: &dyn ChatStore, user_id: UserId) -> Result<u32, Error> {
    let mut lifted = 0;
    loop {
        let blocks = store.blocks_of_any(user_id, CHATS).await?;
        if blocks.is_empty() {
            return Ok(lifted);
        }
        for (by, blocked) in blocks {
            store.unblock(by, blocked, Utc::now()).await?;
            lifted += u32::from(by == user_id);
        }
    }
}
