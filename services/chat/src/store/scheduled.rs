//! What a store does for messages that are sent at a time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{ChatId, MessageKey, UserId};
use tonic::async_trait;

use super::{Publication, StoreError};
use crate::domain::{self, Dispatch, Scheduled};

/// The part of [`super::ChatStore`] that keeps scheduled messages. The time is that of the store: a message is never sent before it is due by that
/// clock, whatever those of the processes say. Each change is one of how the member has the chat, too, and is published as that.
#[async_trait]
pub trait ScheduleStore: Send + Sync + 'static {
    /// Keeps a message until its time, and returns it, and whether it is new; `None` for one who is not in the chat. The same message
    /// under the same key is kept once, and not again when it was sent in the last [`crate::domain::SENT_REMEMBERED`]. Refuses another one under that key, a time that [`Scheduled::check_time`] refuses, and more than
    /// [`contracts::api::MAX_SCHEDULED`] of one user.
    async fn schedule(&self, new: &Scheduled) -> Result<Option<(Scheduled, bool)>, StoreError>;

    /// Replaces a message, and forgets that it was refused; false when there is none.
    async fn reschedule(&self, of: &Scheduled) -> Result<bool, StoreError>;

    /// Removes a message; false when there is none.
    async fn unschedule(&self, chat_id: ChatId, user_id: UserId, key: MessageKey)
    -> Result<bool, StoreError>;

    /// Returns the messages of a member, the next one first; `None` for one who is not in the chat.
    async fn scheduled(&self, chat_id: ChatId, user_id: UserId)
    -> Result<Option<Vec<Scheduled>>, StoreError>;

    /// Sends a message at once, if its sender may write in the chat, as [`crate::domain::send_now`] decides. Returns what is published of
    /// it; `None` when there is no such message. Waits for others only a moment, and fails then for a while.
    async fn send_now(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
    ) -> Result<Option<Publication>, StoreError>;

    /// Returns how long it is until the next message is due; `None` when none waits.
    async fn until_next(&self) -> Result<Option<Duration>, StoreError>;

    /// Returns members with messages that are due, the longest due first.
    async fn due_senders(&self, limit: usize) -> Result<Vec<(ChatId, UserId)>, StoreError>;

    /// Sends the messages of a member that are due, as [`crate::domain::dispatch`] decides. What is
    /// checked of the sender holds at that moment: a change of the chat comes before it or behind it. Waits for no other process: while one
    /// is at the chat, or takes its part of the rates, there is nothing to do.
    async fn send_due(&self, chat_id: ChatId, user_id: UserId) -> Result<Sent, StoreError>;

    /// Notes that the messages of a member that are due could not be sent. All of them wait as [`Hindrance::wait`] says of the
    /// first one, which is refused with [`contracts::ErrorCode::Internal`] when it is not tried any more.
    async fn put_off(&self, chat_id: ChatId, user_id: UserId, hindrance: Hindrance)
    -> Result<(), StoreError>;
}

/// Why messages that are due could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Perhaps the first of them: it has one attempt less.
    Message,
    /// The database, which was busy with others.
    Database,
}

impl Hindrance {
    /// As long as a statement waits in vain: what finds no room at once is not to take all that there is.
    const BUSY: TimeDelta = TimeDelta::seconds(5);

    /// Returns how long messages wait, the first of which has failed so often before; `None` when that one is not tried any more.
    pub fn wait(self, attempts: u32) -> Option<TimeDelta> {
        match self {
            Self::Message => domain::retried_after(attempts),
            Self::Database => Some(Self::BUSY),
        }
    }
}

/// What became of messages that were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many were sent, refused or put off.
    pub changed: usize,
    /// How long it is until the tenant has room for more; `None` while it has.
    pub resumes_after: Option<Duration>,
}

impl Sent {
    pub(super) fn of(dispatch: &Dispatch, now: DateTime<Utc>) -> Self {
        let Dispatch { sent, refused, later, resumes_at } = dispatch;
        Self {
            changed: sent.len() + refused.len() + later.len(),
            resumes_after: resumes_at.map(|at| (at - now).to_std().unwrap_or(Duration::ZERO)),
        }
    }
}
