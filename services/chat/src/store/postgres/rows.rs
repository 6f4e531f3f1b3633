//! Rows, and what they are read as.

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, MessageKey, UserId,
    api::{Draft, HistoryAccess, Visibility},
    event::{ChatKind, Role},
};
use sqlx::{FromRow, postgres::PgRow};
use uuid::Uuid;

use crate::domain::{Access, Chat, EntryId, Member, Membership, OwnState, Rights, ScheduledCounts};

/// The columns of [`OwnedChatRow`], of `members` joined with `chats`.
macro_rules! chat_columns {
    () => {
        "chat_id, kind, title, topic, history, visibility, slow_mode_seconds, message_ttl_seconds, avatar, role, own_version, own_changed_at, muted_until, \
         is_archived, is_favourite, draft_body, draft_reply_to, scheduled_count, scheduled_refused_count, member_count, created_at"
    };
}

/// The columns of [`OwnRow`], which are among those of [`OwnedChatRow`].
macro_rules! own_columns {
    () => {
        "own_version, own_changed_at, muted_until, is_archived, is_favourite, draft_body, draft_reply_to, \
         scheduled_count, scheduled_refused_count"
    };
}

pub(super) use own_columns;

pub(super) use chat_columns;

/// The columns of [`PlaceRow`], behind those of [`OwnedChatRow`].
macro_rules! place_columns {
    () => {
        ", joined_at, entry_sender_id, entry_key, low_user_id, high_user_id, version,
           EXISTS (SELECT FROM blocks
                   WHERE (blocker_id = low_user_id AND blocked_id = high_user_id)
                      OR (blocker_id = high_user_id AND blocked_id = low_user_id)) AS is_closed"
    };
}

kit::row! {
    struct ChatRow {
        chat_id: Uuid,
        kind: String,
        title: Option<String>,
        topic: Option<String>,
        history: String,
        visibility: String,
        slow_mode_seconds: i32,
        message_ttl_seconds: i32,
        avatar: Option<String>,
        role: String,
        member_count: i32,
        created_at: DateTime<Utc>,
    }
}

kit::row! {
    pub(super) struct OwnRow {
        own_version: i64,
        own_changed_at: Option<DateTime<Utc>>,
        muted_until: Option<DateTime<Utc>>,
        is_archived: bool,
        is_favourite: bool,
        draft_body: Option<String>,
        draft_reply_to: Option<i64>,
        scheduled_count: i32,
        scheduled_refused_count: i32,
    }
}

/// A chat as a member sees it.
pub(super) struct OwnedChatRow {
    chat: ChatRow,
    own: OwnRow,
}

impl FromRow<'_, PgRow> for OwnedChatRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { chat: ChatRow::from_row(row)?, own: OwnRow::from_row(row)? })
    }
}

pub(super) use place_columns;

/// A chat, with the place that the member has in it.
pub(super) struct MembershipRow {
    chat: OwnedChatRow,
    place: PlaceRow,
}

impl FromRow<'_, PgRow> for MembershipRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { chat: OwnedChatRow::from_row(row)?, place: PlaceRow::from_row(row)? })
    }
}

kit::row! {
    struct PlaceRow {
        joined_at: DateTime<Utc>,
        entry_sender_id: Option<Uuid>,
        entry_key: Option<Uuid>,
        low_user_id: Option<Uuid>,
        high_user_id: Option<Uuid>,
        version: i64,
        is_closed: bool,
    }
}

kit::row! {
    pub(super) struct MemberRow {
        user_id: Uuid,
        role: String,
        joined_at: DateTime<Utc>,
        entry_sender_id: Option<Uuid>,
        entry_key: Option<Uuid>,
        added_by_user_id: Option<Uuid>,
    }
}

kit::row! {
    pub(super) struct SeatRow {
        kind: Option<String>,
        role: Option<String>,
        member_count: Option<i32>,
        is_blocked: Option<bool>,
        slow_mode_seconds: Option<i32>,
        is_restricted: Option<bool>,
    }
}

impl TryFrom<OwnedChatRow> for Chat {
    type Error = sqlx::Error;

    fn try_from(OwnedChatRow { chat: row, own }: OwnedChatRow) -> Result<Self, Self::Error> {
        Ok(Self {
            chat_id: ChatId(row.chat_id),
            kind: kind_of(&row.kind)?,
            title: row.title,
            topic: row.topic,
            history: history_of(&row.history)?,
            visibility: visibility_of(&row.visibility)?,
            slow_mode_seconds: seconds_of(row.slow_mode_seconds),
            message_ttl_seconds: seconds_of(row.message_ttl_seconds),
            avatar: row.avatar,
            role: role_of(&row.role)?,
            own: own.into(),
            member_count: row.member_count.into(),
            created_at: row.created_at,
        })
    }
}

impl From<OwnRow> for OwnState {
    fn from(row: OwnRow) -> Self {
        let OwnRow {
            own_version,
            own_changed_at,
            muted_until,
            is_archived,
            is_favourite,
            draft_body,
            draft_reply_to,
            scheduled_count,
            scheduled_refused_count,
        } = row;
        let count = |count: i32| u32::try_from(count).unwrap_or(0);
        let scheduled =
            ScheduledCounts { waiting: count(scheduled_count), refused: count(scheduled_refused_count) };
        let draft = draft_body.map(|body| Draft { body, reply_to: draft_reply_to });
        Self {
            version: own_version,
            changed_at: own_changed_at,
            muted_until,
            is_archived,
            is_favourite,
            draft,
            scheduled,
        }
    }
}

impl MembershipRow {
    /// Returns the membership of the user whose row it is.
    pub(super) fn of(self, user_id: UserId) -> Result<Membership, sqlx::Error> {
        let Self { chat, place } = self;
        let pair = [place.low_user_id, place.high_user_id].into_iter().flatten().map(UserId);
        Ok(Membership {
            chat: chat.try_into()?,
            other: pair.into_iter().find(|user| *user != user_id),
            joined_at: place.joined_at,
            reads_from: entry_id(place.entry_sender_id, place.entry_key),
            version: place.version,
            is_closed: place.is_closed,
        })
    }
}

pub(super) fn entry_id(sender: Option<Uuid>, key: Option<Uuid>) -> Option<EntryId> {
    Some(EntryId { sender: UserId(sender?), key: MessageKey(key?) })
}

impl TryFrom<SeatRow> for Rights {
    type Error = sqlx::Error;

    fn try_from(row: SeatRow) -> Result<Self, Self::Error> {
        let (Some(kind), Some(role), Some(member_count)) = (row.kind, row.role, row.member_count) else {
            return Ok(Self::NONE);
        };
        if row.is_restricted == Some(true) {
            return Ok(Self::RESTRICTED);
        }
        let is_blocked = row.is_blocked.unwrap_or(false);
        let member_count = usize::try_from(member_count).unwrap_or(0);
        let role = role_of(&role)?;
        let access = Access::of_member(kind_of(&kind)?, role, member_count, is_blocked);
        Ok(Self::of_member(access, role, seconds_of(row.slow_mode_seconds.unwrap_or(0))))
    }
}

impl TryFrom<MemberRow> for Member {
    type Error = sqlx::Error;

    fn try_from(row: MemberRow) -> Result<Self, Self::Error> {
        Ok(Self {
            user_id: UserId(row.user_id),
            role: role_of(&row.role)?,
            joined_at: row.joined_at,
            reads_from: entry_id(row.entry_sender_id, row.entry_key),
            added_by: row.added_by_user_id.map(UserId),
        })
    }
}

pub(super) fn kind_of(text: &str) -> Result<ChatKind, sqlx::Error> {
    ChatKind::parse(text).ok_or_else(|| unknown("kind", text))
}

pub(super) const fn history_text(history: HistoryAccess) -> &'static str {
    match history {
        HistoryAccess::FromEntry => "from_entry",
        HistoryAccess::All => "all",
    }
}

pub(super) fn history_of(text: &str) -> Result<HistoryAccess, sqlx::Error> {
    let known = [HistoryAccess::FromEntry, HistoryAccess::All].into_iter();
    let known = known.into_iter().find(|history| history_text(*history) == text);
    known.ok_or_else(|| unknown("history", text))
}

pub(super) fn visibility_of(text: &str) -> Result<Visibility, sqlx::Error> {
    Visibility::parse(text).ok_or_else(|| unknown("visibility", text))
}

/// Reads a time that no row has below zero.
pub(super) fn seconds_of(seconds: i32) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}

pub(super) fn role_of(text: &str) -> Result<Role, sqlx::Error> {
    Role::parse(text).ok_or_else(|| unknown("role", text))
}

pub(super) fn unknown(column: &str, text: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} has the unknown value {text}").into())
}
