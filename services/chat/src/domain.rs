//! Chats, their members and the permissions to change them. Rules only: no I/O, no clock.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, MessageKey, UserId,
    api::{HistoryAccess, Visibility},
    event::{self, ChatKind, Role},
};

pub use self::{
    change::{Change, Command, Update, additions},
    excerpt::{Concern, Departure, Excerpt},
    founding::{Founding, InvalidChat, NewChat},
    joining::{
        Admission, Code, CodeHash, Entrance, Invite, JoinRequest, LINK_KEPT, MAX_INVITES, MAX_REQUESTS,
        NewInvite, Preview, PublicChat, approve, join, manage,
    },
    limits::Limits,
    own::{OwnState, OwnUpdate},
    pace::{NoRoom, Pace, Spent},
    record::{OutboxRecord, own_state, restriction},
    refusal::Refusal,
    rules::{Additions, add, decide, depart, empty, reopen},
    scheduled::{
        Audience, Dispatch, Due, SENT_REMEMBERED, SLOW_REMEMBERED, Scheduled, ScheduledCounts, ScheduledText,
        Turn, dispatch, due, retried_after, send_now,
    },
};

/// Most members of a chat. No request reads or writes all of them.
pub const MAX_MEMBERS: usize = 10_000;

/// Members who are removed in one step when a group is deleted: 1500 records of about 300 bytes.
pub const DELETED_AT_ONCE: usize = 500;

/// For this long a user who has left a chat is added again by no one else, and one who was removed not by the user who
/// removed them: a removal and an addition in turn would reach their devices as often as another user likes.
pub const READDING_PAUSE: TimeDelta = TimeDelta::hours(24);

/// Most drafts of one user: the chats of a user are read at once, with their drafts.
pub const MAX_DRAFTS: usize = 100;

/// Most users whom one user blocks: they are counted with each new block.
pub const MAX_BLOCKS: usize = 1000;

/// A user has blocked another one. It acts in both directions: neither opens a direct chat with the other or adds them to a
/// group, and in the direct chat that they have neither sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub user_id: UserId,
    pub blocked_at: DateTime<Utc>,
}

/// Moderators let a user write nothing, in a chat or everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// Absent for all chats.
    pub chat_id: Option<ChatId>,
    pub until: DateTime<Utc>,
    /// Of all chats only: the user is banned, and is notified of nothing.
    pub is_ban: bool,
}

/// A chat as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    pub title: Option<String>,
    /// What a group is for.
    pub topic: Option<String>,
    /// What members who are added read.
    pub history: HistoryAccess,
    pub visibility: Visibility,
    /// How long a plain member waits between two messages, in seconds.
    pub slow_mode_seconds: u32,
    /// How long after it was sent a text disappears, in seconds; 0 for never.
    pub message_ttl_seconds: u32,
    /// The id of the picture of a group.
    pub avatar: Option<String>,
    /// The role of the member who queries.
    pub role: Role,
    /// How that member has it.
    pub own: OwnState,
    pub member_count: i64,
    pub created_at: DateTime<Utc>,
}

impl Chat {
    /// Returns whether the member who queries may add others; [`decide()`] has the whole rule.
    pub fn takes_members(&self) -> bool {
        self.kind != ChatKind::Direct && self.role != Role::Member
    }

    /// Returns why the member who queries may not.
    pub fn refusal(&self) -> Refusal {
        match self.kind {
            ChatKind::Direct => Refusal::DirectIsFixed,
            ChatKind::Group | ChatKind::Channel => Refusal::RoleTooLow(self.role),
        }
    }
}

/// One user's place in one chat, with the chat as they see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub chat: Chat,
    /// The other user of a direct chat, also when they have left it.
    pub other: Option<UserId>,
    pub joined_at: DateTime<Utc>,
    /// As in [`Member`].
    pub reads_from: Option<EntryId>,
    /// The number of the newest record of the chat's memberships: what this says includes them all.
    pub version: i64,
    /// Whether nothing is delivered there: the two of a direct chat have a block between them.
    pub is_closed: bool,
}

/// What a sync needs of each membership of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub chat_id: ChatId,
    pub joined_at: DateTime<Utc>,
    /// As in [`Member`].
    pub reads_from: Option<EntryId>,
    /// When the user last changed how they have the chat.
    pub own_changed_at: Option<DateTime<Utc>>,
}

/// What a chat is called, to one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedChat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    pub title: Option<String>,
    /// The other user of a direct chat, whose name it has.
    pub other: Option<UserId>,
}

impl From<&Membership> for Seat {
    fn from(membership: &Membership) -> Self {
        let Membership { chat, joined_at, reads_from, .. } = membership;
        Self {
            chat_id: chat.chat_id,
            joined_at: *joined_at,
            reads_from: *reads_from,
            own_changed_at: chat.own.changed_at,
        }
    }
}

/// One user in one chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user_id: UserId,
    pub role: Role,
    pub joined_at: DateTime<Utc>,
    /// The entry with which this member's history begins; `None` for one who reads all of it. It is decided when the
    /// member is added, so that what a present member reads never changes.
    pub reads_from: Option<EntryId>,
    /// By whose hand, the user's own too; `None` for members who were there before this was kept.
    pub added_by: Option<UserId>,
}

/// Names an entry of a chat: the chat's log has not given it a seq yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    pub sender: UserId,
    pub key: MessageKey,
}

impl From<EntryId> for event::EntryId {
    fn from(EntryId { sender, key }: EntryId) -> Self {
        Self { sender, key }
    }
}

/// What holds for a user who sends to a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub access: Access,
    /// How long the user waits between two messages; 0 for one who does not.
    pub slow_mode_seconds: u32,
}

impl Rights {
    /// Those of a user who is not in the chat.
    pub const NONE: Self = Self { access: Access::None, slow_mode_seconds: 0 };

    /// Those of a member in a chat in which moderators let the user write nothing.
    pub const RESTRICTED: Self = Self { access: Access::Restricted, slow_mode_seconds: 0 };

    /// Returns those of a member of a chat with this slow mode. Owners and admins do not wait.
    pub fn of_member(access: Access, role: Role, slow_mode_seconds: u32) -> Self {
        let waits = access == Access::ReadAndSend && role == Role::Member;
        Self { access, slow_mode_seconds: if waits { slow_mode_seconds } else { 0 } }
    }
}

/// What a user may do with the messages of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user is not in the chat.
    None,
    /// Of a direct chat that the other user has left, where no one would receive what is sent, or whose two users have a block
    /// between them.
    Read,
    /// Of any chat in which moderators let the user write nothing.
    Restricted,
    /// Of a channel whose plain member the user is.
    ReadAndReact,
    ReadAndSend,
}

impl Access {
    /// Returns what a member of a chat of this kind and size may do. `is_blocked` says whether the two of a direct chat have a
    /// block between them.
    pub const fn of_member(kind: ChatKind, role: Role, member_count: usize, is_blocked: bool) -> Self {
        match (kind, role) {
            (ChatKind::Direct, _) if member_count < 2 || is_blocked => Self::Read,
            (ChatKind::Channel, Role::Member) => Self::ReadAndReact,
            (ChatKind::Direct | ChatKind::Group | ChatKind::Channel, _) => Self::ReadAndSend,
        }
    }
}

mod change;
mod excerpt;
mod founding;
mod joining;
pub mod limits;
mod own;
mod pace;
mod record;
mod refusal;
mod rules;
mod scheduled;
#[cfg(test)]
mod tests;
