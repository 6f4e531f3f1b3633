//! Who is notified of what, where, and what is to be sent.

mod memory;
mod postgres;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, SubscriptionId, UserId,
    api::{NotificationChannel, NotificationLevel},
};
use kit::{catalog::Topic, deletions};
use tonic::async_trait;

pub use self::{
    memory::MemoryStore,
    postgres::{PostgresStore, SCHEMA},
};
use crate::domain::{
    Batch, Busy, CodeOutcome, Job, MAX_SUBSCRIPTIONS, NewCode, NewSubscription, Places, Quiet, Subscription,
    Taken, Ticket, Unseen,
};

/// Of what and when a user is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    pub level: NotificationLevel,
    pub shows_text: bool,
    pub quiet: Option<Quiet>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { level: NotificationLevel::All, shows_text: true, quiet: None }
    }
}

/// The tables of this service. One suite (`tests/it/store.rs`) runs on every implementation.
///
/// A job is made once for what was announced: `news` is noted in one transaction with the place behind it in the log, and turns into jobs in
/// one transaction with `told_seq` of each seat. Every text waits for the delay that it was noted with, also where others of its chat are due. A record that is read again notifies no user again.
#[async_trait]
pub trait NotificationStore: Send + Sync + 'static {
    /// Adds a subscription. One of the user with the same endpoint keeps its id and has the new keys; a browser or an app is taken from the
    /// user who had it before, and is bound to the session of the request, in place of an earlier one. A session that is known to have ended
    /// subscribes nothing: its end, as [`Self::apply`] notes it, is before or behind the whole of this, and removes what it finds there.
    async fn subscribe(&self, new: &NewSubscription) -> Result<Subscription, StoreError>;

    /// Returns the subscriptions of a user, the oldest first.
    async fn subscriptions(&self, user_id: UserId) -> Result<Vec<Subscription>, StoreError>;

    /// Lets a subscription be sent to. Returns whether there is one.
    async fn confirm(&self, id: SubscriptionId) -> Result<bool, StoreError>;

    /// Notes a code that is about to be sent, in place of the one before. Returns how long to wait where its user or its number had as many as
    /// there may be: then nothing is noted.
    async fn note_code(&self, new: &NewCode) -> Result<Option<TimeDelta>, StoreError>;

    /// Confirms the number of a subscription of a user by the digest of a code, and counts the attempt. Users who confirmed the number before lose
    /// it: it is another user's now.
    async fn try_code(
        &self,
        id: SubscriptionId,
        user_id: UserId,
        code: &[u8],
        now: DateTime<Utc>,
    ) -> Result<CodeOutcome, StoreError>;

    /// Forgets codes that were sent before this moment.
    async fn forget_codes(&self, before: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Removes a subscription, with what was to be sent there; of this user only, where one is named. Returns whether there was one.
    async fn unsubscribe(&self, id: SubscriptionId, of: Option<UserId>) -> Result<bool, StoreError>;

    /// Returns what a user prefers, and the minute of the day by the clocks of the user's time zone, where there are quiet hours.
    async fn preferences(
        &self,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<(Preferences, Option<u16>), StoreError>;

    async fn set_preferences(&self, user_id: UserId, preferences: &Preferences) -> Result<(), StoreError>;

    /// Returns whether there is a time zone of this name.
    async fn knows_time_zone(&self, name: &str) -> Result<bool, StoreError>;

    /// Returns how far partitions of a topic were read, and notes that they are read from here on.
    async fn positions(
        &self,
        topic: Topic,
        partitions: &[i32],
    ) -> Result<HashMap<i32, Option<i64>>, StoreError>;

    /// Notes what records say, and how far the partition was read, in one transaction. Users are notified after `delay`. Whose account is deleted is forgotten
    /// before that, and no session of theirs subscribes or sets anything, while access tokens may be good.
    async fn apply(
        &self,
        place: Place,
        batch: &Batch,
        delay: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Notes that all ends of sessions are read that were in a partition of `session.events` at this moment. Where the moment noted before is earlier than
    /// `since`, some may be gone unread: then all sessions count as not seen. Returns of how many devices.
    async fn ends_read(
        &self,
        partition: i32,
        at: DateTime<Utc>,
        since: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Forgets ends of sessions that were read before this moment.
    async fn forget_ends(&self, before: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Takes devices whose sessions were not seen since this moment, those that wait for the longest first. They count as seen at `until`, so that no
    /// other process has them meanwhile, and come again where nothing is noted of them.
    async fn take_unseen(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unseen>, StoreError>;

    /// Notes that the session of a device goes on, unless it is bound to another one by now.
    async fn note_seen(&self, device: &Unseen, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Removes a device whose session does not go on, with what was to be sent there, unless it is bound to another session by now. The session has ended, as
    /// [`Self::apply`] notes it: its other devices go, too, and it subscribes nothing. Returns whether there was any.
    async fn end_unseen(&self, device: &Unseen, now: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Returns how many devices are bound to no session, as a release without this knowledge subscribed them. What a process of that release has subscribed
    /// beside this one counts as seen at `until`, as if it had been there before.
    async fn note_unbound(&self, until: DateTime<Utc>) -> Result<i64, StoreError>;

    /// Returns users whose chats were not listed since this moment, those who wait for the longest first.
    async fn unlisted(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<UserId>, StoreError>;

    /// Notes all chats of a user, with their versions, as of a moment after `listed_at`.
    async fn list(
        &self,
        user_id: UserId,
        chats: &[(ChatId, i64)],
        listed_at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Notes that the chats of a user are to be listed as if they had been at this moment: they could not be.
    async fn list_again(&self, user_id: UserId, listed_at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Makes jobs of news that are due: for those who are in the chat and did not take it. Of so many chats, and of a large one for a part of its
    /// members; the others follow with the next calls. Returns how many chats it was: with 0 all is done.
    async fn spread(&self, now: DateTime<Utc>, limit: usize) -> Result<usize, StoreError>;

    /// Returns when the first news are due.
    async fn next_news(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Returns when the first job of a channel is due, or may be taken from the process that has it.
    async fn next_job(&self, channel: NotificationChannel) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Takes jobs of a channel that are due, those that wait for the longest first, and with those of `busy` no more of one user and to one host than
    /// there may be. Until the lease ends no other process has them. There may be more as long as there are any.
    async fn claim(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
        busy: &Busy,
    ) -> Result<Vec<Job>, StoreError>;

    /// Hands jobs of a channel that are due over to a queue, those that wait for the longest first: as many as have a place beside those that were handed
    /// over and are not done, in whatever process. A host of `few` has no more places than it says. Returns the tickets that stand for them. Until the
    /// lease ends a job is the one's who begins its ticket, and is handed over again then.
    async fn hand_over(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        places: Places,
        few: &BTreeMap<String, i64>,
    ) -> Result<Vec<Ticket>, StoreError>;

    /// Takes the jobs of a channel that tickets stand for, as [`Self::claim`] does. A ticket stands for a job once.
    async fn begin(
        &self,
        channel: NotificationChannel,
        taken: &[Taken],
        until: DateTime<Utc>,
    ) -> Result<Begun, StoreError>;

    /// Notes that tickets stand for nothing: their jobs are due then.
    async fn take_back(&self, tickets: &[Ticket], until: DateTime<Utc>) -> Result<(), StoreError>;

    /// Notes that no ticket of a channel that was not begun stands for a job: those are due at once. Returns how many.
    async fn take_all_back(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError>;

    /// Ends a job. When there is more to say since it was claimed, it is due again at once. `next_at` is when the next digest may follow.
    async fn finish(
        &self,
        job: &Job,
        now: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError>;

    /// Gives a claim back: the job is due then. An attempt that is not counted was not.
    async fn put_off(&self, job: &Job, until: DateTime<Utc>, is_counted: bool) -> Result<(), StoreError>;

    /// Gives a job up, and keeps it for administrators. What is told to the subscription later is another job.
    async fn bury(&self, job: &Job, now: DateTime<Utc>, death: &str) -> Result<(), StoreError>;

    /// Forgets jobs that were given up before this moment.
    async fn forget_dead(&self, before: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Returns how many jobs of each channel wait, and how many were given up.
    async fn counts(&self) -> Result<HashMap<NotificationChannel, (i64, i64)>, StoreError>;

    /// Forgets a user. Returns whether anything was known.
    async fn erase(&self, user_id: UserId) -> Result<bool, StoreError>;

    /// Returns the place up to which deletions of accounts are carried out.
    fn deletions_position(&self) -> deletions::Position;
}

/// What tickets stand for. Of the others there is nothing to do: their jobs are done, are another process's, or were handed over again.
#[derive(Debug, Default)]
pub struct Begun {
    /// By the number of the ticket.
    pub jobs: Vec<(i64, Job)>,
    /// Numbers of tickets whose jobs were given up.
    pub dead: Vec<i64>,
}

/// How far a partition of a topic was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: Topic,
    pub partition: i32,
    pub next_offset: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("you have {MAX_SUBSCRIPTIONS} subscriptions: remove one first")]
    TooMany,
    #[error("your session has ended: sign in again")]
    SessionOver,
    #[error("failed to change subscriptions")]
    Subscriptions(#[source] sqlx::Error),
    #[error("failed to read or change preferences")]
    Preferences(#[source] sqlx::Error),
    #[error("failed to note how far a list was read")]
    Position(#[source] sqlx::Error),
    #[error("failed to note records of partition {partition} of {topic}")]
    Apply { topic: Topic, partition: i32, source: sqlx::Error },
    #[error("failed to note the chats of a user")]
    List(#[source] sqlx::Error),
    #[error("failed to note which sessions go on")]
    Sessions(#[source] sqlx::Error),
    #[error("failed to make or change jobs")]
    Jobs(#[source] sqlx::Error),
    #[error("failed to forget a user")]
    Erase(#[source] sqlx::Error),
}
