//! Users whose accounts are deleted leave their chats; blocks of theirs and against them go, and so do their requests to join, when they
//! sent last and what moderators let them not write. Every process follows the list of deletions, see [`kit::deletions`].

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use contracts::UserId;
use kit::deletions::{self, CatchUpError, Departures, Position};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{api::Users, error::Error, store::ChatStore};

/// Chats that are left, and blocks that are lifted, before others are listed.
const CHATS: usize = 100;

/// Follows the deletions until the shutdown.
pub async fn follow(users: Users, store: Arc<dyn ChatStore>, shutdown: CancellationToken) {
    let leaving = Arc::new(Leaving { users: &users, store: &*store });
    deletions::follow(users.client().clone(), leaving, shutdown).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(users: &Users, store: &dyn ChatStore) -> Result<(), CatchUpError<Error>> {
    deletions::catch_up(users.client(), &Leaving { users, store }).await
}

struct Leaving<'a> {
    users: &'a Users,
    store: &'a dyn ChatStore,
}

#[async_trait]
impl Departures for Leaving<'_> {
    type Error = Error;

    const INTERVAL: Duration = Duration::from_secs(2);

    fn position(&self) -> Position {
        self.store.deletions_position()
    }

    async fn erase(&self, user_id: UserId, is_settled: bool) -> Result<(), Error> {
        let chats_left = leave_all(self.store, user_id).await?;
        let blocks_lifted = lift_blocks(self.store, user_id).await?;
        self.store.withdraw_all(user_id).await?;
        // They are in no chat any more.
        self.store.forget_restrictions(user_id).await?;
        // The receipt says what was done, and at last that nothing is left to do.
        if is_settled || chats_left + blocks_lifted > 0 {
            self.users.note_erased(user_id, chats_left, blocks_lifted, is_settled).await?;
        }
        Ok(())
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
