//! What a store does for users who join a chat by themselves.

use chrono::{DateTime, Utc};
use contracts::{ChatId, InviteId, UserId};
use tonic::async_trait;

use super::{Publication, StoreError};
use crate::domain::{CodeHash, Invite, JoinRequest, NewInvite, Preview, PublicChat};

/// The part of [`super::ChatStore`] by which users join chats by themselves. Changes of one chat happen one after the other here too.
#[async_trait]
pub trait JoinStore: Send + Sync + 'static {
    /// Returns public chats, the newest first, that are older than `before`; those whose title or topic has this text in it. `search`
    /// is a [`kit::text::search_key`], and an empty one is in all of them.
    async fn public_chats(
        &self,
        search: &str,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<PublicChat>, StoreError>;

    /// Lets a user join a public chat, as [`crate::domain::join`] decides.
    async fn join(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError>;

    /// Makes a link, as [`crate::domain::manage`] allows, unless there are [`crate::domain::MAX_INVITES`] good ones. Returns it, and
    /// whether it is new: one that its maker has made with this key has the new code from now on, and one that is revoked is refused.
    async fn create_invite(&self, new: &NewInvite) -> Result<(Invite, bool), StoreError>;

    /// Returns the links of a chat that are good, the oldest first.
    async fn invites(&self, chat_id: ChatId, now: DateTime<Utc>) -> Result<Vec<Invite>, StoreError>;

    /// Removes a link, as [`crate::domain::manage`] allows. One that is not there is removed already.
    async fn revoke_invite(
        &self,
        chat_id: ChatId,
        actor: UserId,
        invite_id: InviteId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Returns where the link of a code leads; `None` when it lets this user in nowhere.
    async fn preview(
        &self,
        code: CodeHash,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<Option<Preview>, StoreError>;

    /// Returns the chat of the link of a code, whether it lets anyone in or not; `None` for another code, and a link that is revoked.
    async fn invited_to(&self, code: CodeHash) -> Result<Option<ChatId>, StoreError>;

    /// Lets a user come by the link of a code, as [`crate::domain::join`] decides. A user who is in the chat, or asks to join it already,
    /// takes no use of the link, and neither does one who has taken a use of it before.
    async fn join_by_invite(
        &self,
        code: CodeHash,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Invited, StoreError>;

    /// Returns who asks to join a chat, by id, behind `after`.
    async fn requests(
        &self,
        chat_id: ChatId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<JoinRequest>, StoreError>;

    /// Lets a user in who asks to join, as [`crate::domain::approve`] decides.
    async fn approve(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError>;

    /// Removes the request of a user: their own, or as [`crate::domain::manage`] allows. One that is not there is removed already.
    async fn withdraw(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Removes what names a user who is in no chat: every request of theirs, which links they used, and when and how much scheduled messages
    /// of theirs were sent.
    async fn withdraw_all(&self, user_id: UserId) -> Result<(), StoreError>;
}

/// What became of a user who came by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invited {
    /// They are in the chat.
    Member(Publication),
    /// An owner or admin decides.
    Asked(JoinRequest),
}
