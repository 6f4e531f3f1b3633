//! Where chats are kept. A change and the records to publish about it are one transaction.

mod joining;
mod memory;
mod postgres;
mod scheduled;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, ErrorCode, UserId, event::Role};
use kit::deletions;
use tonic::async_trait;

pub use self::{
    joining::{Invited, JoinStore},
    memory::MemoryStore,
    postgres::{PostgresStore, SCHEMA, WAKE_CHANNEL},
    scheduled::{Hindrance, ScheduleStore, Sent},
};
use crate::domain::{
    Block, Chat, Command, Member, Membership, NamedChat, NewChat, OutboxRecord, OwnState, OwnUpdate, Refusal,
    Restriction, Rights, Seat,
};

/// A store of chats. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait ChatStore: JoinStore + ScheduleStore {
    /// Creates the chat and returns it as its founder sees it. A group that the founder has created with this key is
    /// returned as it is. A direct chat that the pair has already is too, once [`crate::domain::reopen`] has both in it. What
    /// exceeds the [`crate::domain::Limits`] is refused; what is there already, never.
    async fn create(&self, new: &NewChat) -> Result<Created, StoreError>;

    /// Returns whom [`Self::create`] adds to a chat beside the founder: no one where the chat is there and the other is in
    /// it.
    async fn newcomers(&self, new: &NewChat) -> Result<BTreeSet<UserId>, StoreError>;

    /// Returns those of the others who are in a chat with the user.
    async fn acquaintances(&self, user_id: UserId, others: &[UserId])
    -> Result<BTreeSet<UserId>, StoreError>;

    /// Returns the chat as this member sees it; `None` for an unknown chat and for one the user is not in.
    async fn chat(&self, chat_id: ChatId, member: UserId) -> Result<Option<Chat>, StoreError>;

    /// Returns the chats of a user, newest first, that are older than `before`.
    async fn chats(
        &self,
        member: UserId,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Chat>, StoreError>;

    /// Returns a membership; `None` for an unknown chat and for one the user is not in.
    async fn membership(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Membership>, StoreError>;

    /// Returns the memberships of a user in these chats, or all of them when none is named, in no particular order.
    async fn memberships(&self, user_id: UserId, among: &[ChatId]) -> Result<Vec<Membership>, StoreError>;

    /// Returns all seats of a user, in no particular order.
    async fn seats(&self, user_id: UserId) -> Result<Vec<Seat>, StoreError>;

    /// Returns what the newest chats of a user are called, the newest first.
    async fn names(&self, user_id: UserId, limit: usize) -> Result<Vec<NamedChat>, StoreError>;

    /// Returns a member of a chat; `None` for an unknown chat and for one the user is not in.
    async fn member(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Member>, StoreError>;

    /// Returns the members of a chat behind `after`, by id, all of them or those with a role; none for an unknown chat.
    async fn members(
        &self,
        chat_id: ChatId,
        role: Option<Role>,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError>;

    /// Returns those of these users who are in a chat.
    async fn present(
        &self,
        chat_id: ChatId,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeSet<UserId>, StoreError>;

    /// Returns what holds for each of these users in the chat, in their order.
    async fn rights(&self, seats: &[(ChatId, UserId)]) -> Result<Vec<Rights>, StoreError>;

    /// Lets [`crate::domain::decide`] decide on the command and makes the changes, within the [`crate::domain::Limits`]. Changes of one chat happen one
    /// after the other. Returns what is published about the chat up to and including this change.
    async fn change(
        &self,
        chat_id: ChatId,
        actor: UserId,
        command: Command,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError>;

    /// Lets [`crate::domain::add`] decide who of these users becomes a member, and adds them.
    async fn add(
        &self,
        chat_id: ChatId,
        actor: UserId,
        users: &BTreeSet<UserId>,
        at: DateTime<Utc>,
    ) -> Result<Added, StoreError>;

    /// Removes the next [`crate::domain::DELETED_AT_ONCE`] members of a group whose deletion has begun, as [`crate::domain::empty`] decides, and returns what
    /// is published of it; `None` when none is left, and for a chat that is not being deleted.
    async fn empty(&self, chat_id: ChatId, at: DateTime<Utc>) -> Result<Option<Publication>, StoreError>;

    /// Returns groups whose deletion has begun and that have members.
    async fn begun_deletions(&self, limit: usize) -> Result<Vec<ChatId>, StoreError>;

    /// Changes how a member has a chat, and returns how it is then; `None` for an unknown chat and for one the user is not in. A change is
    /// published for the member's own devices. Refuses a draft more than [`crate::domain::MAX_DRAFTS`].
    async fn update_own(
        &self,
        chat_id: ChatId,
        member: UserId,
        update: &OwnUpdate,
        at: DateTime<Utc>,
    ) -> Result<Option<OwnState>, StoreError>;

    /// Lets a user whose account is deleted leave a chat, as [`crate::domain::depart`] decides. A user who is not in it has
    /// left already.
    async fn depart(&self, chat_id: ChatId, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Lets a user write nothing as a restriction says; without one, again as before in the chat, or in all. It replaces what was set before, and
    /// [`Self::rights`] know it from then on. What is published of it has gateways check the user first, see [`crate::domain::restriction()`]. What is so
    /// already publishes nothing.
    async fn restrict(
        &self,
        user_id: UserId,
        chat_id: Option<ChatId>,
        restriction: Option<Restriction>,
    ) -> Result<(), StoreError>;

    /// Returns where moderators let a user write nothing now, in no particular order.
    async fn restrictions(&self, user_id: UserId) -> Result<Vec<Restriction>, StoreError>;

    /// Forgets what moderators let a user not write, whose account is deleted.
    async fn forget_restrictions(&self, user_id: UserId) -> Result<(), StoreError>;

    /// Blocks a user, unless there are [`crate::domain::MAX_BLOCKS`] already; one who is blocked stays so. Returns what is
    /// published of it: see [`crate::domain::Excerpt::standing`].
    async fn block(
        &self,
        user_id: UserId,
        blocked: UserId,
        at: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError>;

    /// Lifts a block of a user, if there is one. Returns what is published of it.
    async fn unblock(
        &self,
        user_id: UserId,
        blocked: UserId,
        at: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError>;

    /// Returns whom a user blocks, by id, behind `after`.
    async fn blocks(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Block>, StoreError>;

    /// Returns those of the others with whom the user has a block, in either direction.
    async fn blocked(&self, user_id: UserId, others: &[UserId]) -> Result<BTreeSet<UserId>, StoreError>;

    /// Returns blocks of a user and of others against them, each with the one who made it first.
    async fn blocks_of_any(&self, user_id: UserId, limit: usize)
    -> Result<Vec<(UserId, UserId)>, StoreError>;

    /// Returns the place up to which deletions of accounts are carried out.
    fn deletions_position(&self) -> deletions::Position;

    /// Returns the first `limit` chats of the tenant behind `after`, by id.
    async fn all_chats(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<ChatId>, StoreError>;

    /// Returns how many chats the tenant has.
    async fn count_chats(&self) -> Result<i64, StoreError>;

    /// Returns whether all of it is in the event log.
    async fn is_published(&self, publication: Publication) -> Result<bool, StoreError>;

    /// Returns the oldest records that are not yet published, in order.
    async fn pending(&self, limit: usize) -> Result<Vec<OutboxRecord>, StoreError>;

    /// Returns records of memberships that are in the event log for some seconds, in their order: at most so many behind a place, which an
    /// earlier page named.
    async fn published(&self, from: Option<PublishedPlace>, limit: usize) -> Result<Published, StoreError>;
}

/// A place in the list of what was published: a record of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPlace {
    pub id: i64,
    /// When it was published: in a database that was restored, another record has the id. Nothing from a reader of an older version, which
    /// does not name it.
    pub at: Option<DateTime<Utc>>,
}

/// A page of what was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Keys and payloads. None when they do not follow.
    pub records: Vec<(String, String)>,
    /// The last of them, or the place behind which there are none. Where they do not follow it is the end of the list; nothing while it is
    /// empty.
    pub place: Option<PublishedPlace>,
    /// Whether the list reaches back to the place that was asked for, so that no record is missing between the two.
    pub follows: bool,
    /// There are more.
    pub more: bool,
}

/// The records about a chat, up to the newest one that was in the outbox at some moment; `None` when there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    pub(crate) chat_id: ChatId,
    pub(crate) newest: Option<i64>,
}

/// What became of a request for a new chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub chat: Chat,
    /// `false` for a chat that was there before.
    pub fresh: bool,
    /// What is published when both are back in a direct chat. Nothing has to wait for the records of a new chat.
    pub publication: Publication,
}

/// What became of users who were to be added at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Those who were not added. All others are in the chat.
    pub unwanted: BTreeSet<UserId>,
    pub publication: Publication,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("failed to create chat {chat_id}")]
    Create { chat_id: ChatId, source: sqlx::Error },
    #[error("failed to change chat {chat_id}")]
    Change { chat_id: ChatId, source: sqlx::Error },
    #[error("failed to change what {user_id} blocks")]
    Block { user_id: UserId, source: sqlx::Error },
    #[error("failed to restrict {user_id}")]
    Restrict { user_id: UserId, source: sqlx::Error },
    #[error("failed to remove the requests of a user, and when they sent last")]
    Requests(#[source] sqlx::Error),
    #[error("failed to read chats")]
    Read(#[source] sqlx::Error),
}

/// SQLSTATE `lock_not_available`: others hold what a statement waits for, for longer than it may wait.
const LOCK_NOT_AVAILABLE: &str = "55P03";

impl StoreError {
    /// Returns the code of a query that failed; `None` for what was refused.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        let source = match self {
            Self::Refused(_) => return None,
            Self::Create { source, .. }
            | Self::Change { source, .. }
            | Self::Block { source, .. }
            | Self::Restrict { source, .. }
            | Self::Requests(source)
            | Self::Read(source) => source,
        };
        let state = source.as_database_error().and_then(|error| error.code());
        let is_locked = state.is_some_and(|state| state == LOCK_NOT_AVAILABLE);
        Some(if is_locked { ErrorCode::Unavailable } else { kit::postgres::code(source) })
    }
}
