//! Records on the event log. JSON, each with its version; a golden file pins every version.
//!
//! A reader ignores fields that it does not know: for the time of an update, services of two versions run side by side. What a reader
//! must understand comes with another version.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    ChatId, DeviceId, ErrorCode, MessageKey, SessionId, UserId,
    attachment::Attachment,
    own::{OwnChatState, is_zero},
    word::word,
};

/// Version of every record that this build writes.
pub const VERSION: u8 = 1;

/// Why a record is not read. Never quotes it: a record may hold what a user wrote, and so may what its parser says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has no payload")]
    Empty,
    /// The column says where, for a record is one line.
    #[error("it cannot be read at column {0}")]
    Form(usize),
    #[error("its version is {0}")]
    Version(u8),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Form(error.column())
    }
}

/// Refuses a version that this build does not understand.
pub const fn known(version: u8) -> Result<(), Unreadable> {
    if version == VERSION { Ok(()) } else { Err(Unreadable::Version(version)) }
}

/// What an entry of a chat's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A message of a user; a reply when it has a target.
    Text,
    /// The target, a message of the same sender, reads `body` from here on.
    Edit,
    /// The target has no text and no attachments any more, for nobody.
    Delete,
    /// Likewise all texts of `range` that come before it: those of `subject`, or of everyone.
    DeleteRange,
    /// The sender reacts to the target with the emoji in `body`.
    Reaction,
    /// The sender takes that back.
    ReactionRemoved,
    /// The target is among the pinned messages of the chat.
    Pin,
    /// It is not any more.
    Unpin,
    /// `subject` joined. `body` is how many members the chat has from here on; it is empty in entries of before it was kept.
    MemberAdded,
    /// `subject` left or was removed; `body` likewise.
    MemberRemoved,
    /// `subject`, a member, has the role in `body` from here on.
    RoleChanged,
    /// The group has the title in `body` from here on.
    TitleChanged,
    /// The group has the topic in `body` from here on, or none when that is empty.
    TopicChanged,
    /// The group has the picture in `body` from here on, or none when that is empty.
    AvatarChanged,
    /// A plain member waits as many seconds as `body` says after a message, from here on.
    SlowModeChanged,
    /// Texts from here on disappear as many seconds after they were sent as `body` says, or never when it is 0.
    TtlChanged,
}

impl EntryKind {
    pub const ALL: [Self; 16] = [
        Self::Text,
        Self::Edit,
        Self::Delete,
        Self::DeleteRange,
        Self::Reaction,
        Self::ReactionRemoved,
        Self::Pin,
        Self::Unpin,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::RoleChanged,
        Self::TitleChanged,
        Self::TopicChanged,
        Self::AvatarChanged,
        Self::SlowModeChanged,
        Self::TtlChanged,
    ];

    /// Returns the kind as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::DeleteRange => "delete_range",
            Self::Reaction => "reaction",
            Self::ReactionRemoved => "reaction_removed",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::RoleChanged => "role_changed",
            Self::TitleChanged => "title_changed",
            Self::TopicChanged => "topic_changed",
            Self::AvatarChanged => "avatar_changed",
            Self::SlowModeChanged => "slow_mode_changed",
            Self::TtlChanged => "ttl_changed",
        }
    }

    /// Reads the stored form; `None` for a kind that this build does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Returns whether a device of a member sends it. The others are written by the chat service.
    pub const fn is_from_device(self) -> bool {
        match self {
            Self::Text
            | Self::Edit
            | Self::Delete
            | Self::DeleteRange
            | Self::Reaction
            | Self::ReactionRemoved
            | Self::Pin
            | Self::Unpin => true,
            Self::MemberAdded
            | Self::MemberRemoved
            | Self::RoleChanged
            | Self::TitleChanged
            | Self::TopicChanged
            | Self::AvatarChanged
            | Self::SlowModeChanged
            | Self::TtlChanged => false,
        }
    }

    /// Returns whether it says who is in the chat.
    pub const fn is_membership(self) -> bool {
        matches!(self, Self::MemberAdded | Self::MemberRemoved)
    }

    /// Returns whether it says nothing without a target.
    pub const fn needs_target(self) -> bool {
        self.is_from_device() && !matches!(self, Self::Text | Self::DeleteRange)
    }
}

/// Entries of a chat from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeqRange {
    pub from_seq: i64,
    pub to_seq: i64,
}

impl SeqRange {
    /// Returns how many entries it has, at most; 0 for one that ends before it begins.
    pub const fn len(self) -> u64 {
        if self.to_seq < self.from_seq { 0 } else { self.to_seq.abs_diff(self.from_seq).saturating_add(1) }
    }

    /// Returns whether it has no entry.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub const fn contains(self, seq: i64) -> bool {
        self.from_seq <= seq && seq <= self.to_seq
    }

    /// Returns its seqs before another one.
    pub fn before(self, seq: i64) -> std::ops::Range<i64> {
        self.from_seq..self.to_seq.saturating_add(1).min(seq).max(self.from_seq)
    }
}

/// Who wrote a text that is forwarded, and when. Not where: who receives it may not be in that chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forwarded {
    pub sender: UserId,
    /// Milliseconds since the epoch, by the log's clock.
    pub sent_at_ms: i64,
}

/// Names the message that a text repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    pub chat: ChatId,
    pub seq: i64,
}

/// Names an entry of a chat whose seq the log has not said yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryId {
    pub sender: UserId,
    pub key: MessageKey,
}

/// A record of `message.send`: written by gateways (what members send) and by the chat service (who is in a chat, in which role, and
/// what it is called).
///
/// Everything that decides whether and where it lands was decided before it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SendRecord {
    pub v: u8,
    pub chat: ChatId,
    pub sender: UserId,
    /// The sending device; the nil UUID for entries that no device sent.
    pub device: DeviceId,
    pub key: MessageKey,
    pub kind: EntryKind,
    pub body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<UserId>,
    /// The seq of the message that this entry speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_seq: Option<i64>,
    /// Whom a text calls: by name first, then by role alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// How many of `mentions`, the last ones, are called by their role alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub called_by_role: u32,
    /// Those of `mentions` who are not in the chat: they are part of what was said, and are called by nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_members: Vec<UserId>,
    /// The roles that a text calls, as it was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    /// Whether a text calls all members.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mentions_all: bool,
    /// Whether a text calls the members who are connected.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mentions_here: bool,
    /// Whether a text disturbs no user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// The files that a text carries. Their ids are what was said; the rest was found out before the log, and is so for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Whose words a text repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
    /// What a text repeats. It stays in the log, and stands for body and attachments where a key is used again: the source may have
    /// been edited or deleted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What the deletion of a range is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<SeqRange>,
    /// Whether the sender may delete what others wrote.
    #[serde(default, skip_serializing_if = "is_false")]
    pub moderates: bool,
    /// Whether it is for `subject` alone, and for no other member. When a group is deleted, each member learns of their own removal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub subject_only: bool,
    /// Where the history of the sender begins, when whether they read the message that it speaks of is not checked yet: one from before
    /// this entry is none to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_from: Option<EntryId>,
}

impl SendRecord {
    /// Returns a record of this version with its kind alone; what else it says is set in its fields.
    pub const fn new(
        chat: ChatId,
        sender: UserId,
        device: DeviceId,
        key: MessageKey,
        kind: EntryKind,
    ) -> Self {
        Self {
            v: VERSION,
            chat,
            sender,
            device,
            key,
            kind,
            body: String::new(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            called_by_role: 0,
            not_members: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            source: None,
            range: None,
            moderates: false,
            subject_only: false,
            reads_from: None,
        }
    }
}

/// Where a record is in `message.send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPlace {
    pub partition: i32,
    pub offset: i64,
}

/// A record of `message.delivered`: what became of one record of `message.send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveredRecord {
    pub v: u8,
    pub chat: ChatId,
    pub sender: UserId,
    pub device: DeviceId,
    pub key: MessageKey,
    pub outcome: DeliveryOutcome,
}

impl DeliveredRecord {
    /// Reads the payload of a record.
    pub fn read(payload: Option<&[u8]>) -> Result<Self, Unreadable> {
        let record: Self = serde_json::from_slice(payload.ok_or(Unreadable::Empty)?)?;
        known(record.v)?;
        Ok(record)
    }
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// Stored; may be announced more than once, always with the same content.
    Stored {
        seq: i64,
        kind: EntryKind,
        body: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<UserId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_seq: Option<i64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mentions: Vec<UserId>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mention_roles: Vec<Role>,
        #[serde(default, skip_serializing_if = "is_false")]
        mentions_all: bool,
        #[serde(default, skip_serializing_if = "is_false")]
        mentions_here: bool,
        #[serde(default, skip_serializing_if = "is_false")]
        silent: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forwarded: Option<Forwarded>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<SeqRange>,
        /// Milliseconds since the epoch, by the log's clock.
        sent_at_ms: i64,
        /// As in [`SendRecord`].
        #[serde(default, skip_serializing_if = "is_false")]
        subject_only: bool,
        /// When the text disappears.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at_ms: Option<i64>,
        /// Where the record of the entry is; absent in records of before it was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<LogPlace>,
    },
    /// Nothing was sent: the sender has read or received the chat further than before. Device and key are nil. It may be lost.
    Marked {
        read_seq: i64,
        delivered_seq: i64,
        /// What is unread now, and how much of it calls the user: for the user's own devices.
        unread: i64,
        mentions: i64,
        /// The last entry that is counted; 0 in records of before it was kept.
        #[serde(default)]
        counted_seq: i64,
        /// What other members are shown of it; absent when they are not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown_read_seq: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shown_delivered_seq: Option<i64>,
    },
    /// A resend of a stored message: only the sender receives it, and never with the resend's body.
    Repeated { seq: i64 },
    /// Not stored; only the sender receives it.
    Rejected { code: ErrorCode },
}

impl DeliveryOutcome {
    /// Returns that an entry with its kind and body alone is stored.
    pub fn stored(seq: i64, kind: EntryKind, body: impl Into<String>, sent_at_ms: i64) -> Self {
        Self::Stored {
            seq,
            kind,
            body: body.into(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            sent_at_ms,
            subject_only: false,
            expires_at_ms: None,
            place: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

/// A record of `chat.events`: a user's place in a chat from here on. Behind one who is out of the chat comes a record without a payload, so
/// that the log forgets them.
///
/// The records of a chat are numbered. A reader that follows some chats only sees by the number that a record was lost or came late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MembershipRecord {
    pub v: u8,
    pub chat: ChatId,
    pub user: UserId,
    /// Absent for a user who is out of the chat, or who receives nothing there: in a direct chat whose two users have a block between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Absent in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ChatKind>,
    /// 1, 2, 3, ... in the records of a chat; 0 in those of before they were numbered.
    #[serde(default)]
    pub version: i64,
    /// How many members the chat has after the change that this record is of.
    #[serde(default)]
    pub members: u32,
    /// Whether the user's history begins with an entry of the chat's own log, which tells of it in its own time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub from_entry: bool,
}

impl MembershipRecord {
    /// Returns the record key, which is all that is left of a removal.
    pub fn key(chat: ChatId, user: UserId) -> String {
        format!("{chat}/{user}")
    }

    /// Reads a record key back.
    pub fn parse_key(key: &[u8]) -> Option<(ChatId, UserId)> {
        let (chat, user) = str::from_utf8(key).ok()?.split_once('/')?;
        Some((chat.parse().ok()?, user.parse().ok()?))
    }

    /// Reads the payload of a record that has one.
    pub fn read(payload: &[u8]) -> Result<Self, Unreadable> {
        let record: Self = serde_json::from_slice(payload)?;
        known(record.v)?;
        Ok(record)
    }
}

/// A record of `chat.events`: how a user has a chat from here on, for the user's own devices. It is whole, so that of two the one with the
/// greater version counts. Behind it comes a record without a payload, so that the log forgets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnStateRecord {
    pub v: u8,
    pub chat: ChatId,
    pub user: UserId,
    pub own: OwnChatState,
}

impl OwnStateRecord {
    /// What follows the key of the membership.
    const SUFFIX: &str = "/own";

    /// Returns the record key, which is another than that of the membership: neither replaces the other in the log.
    pub fn key(chat: ChatId, user: UserId) -> String {
        MembershipRecord::key(chat, user) + Self::SUFFIX
    }

    /// Reads a record key back.
    pub fn parse_key(key: &[u8]) -> Option<(ChatId, UserId)> {
        MembershipRecord::parse_key(key.strip_suffix(Self::SUFFIX.as_bytes())?)
    }
}

/// A record of `chat.events`: what moderators let a user write has changed, in a chat or everywhere. It does not say to what: the chat service
/// does, in `CheckMembers` and `ListMemberships`, and who reads the record asks before the next send. It may be repeated. Behind it comes a
/// record without a payload, so that the log forgets it.
///
/// By its payload it is a [`MembershipRecord`] that says nothing but whose it is: a registry that has the schema of that one takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestrictionRecord {
    pub v: u8,
    /// The nil UUID for all chats.
    pub chat: ChatId,
    pub user: UserId,
}

impl RestrictionRecord {
    /// What follows the key of the membership.
    const SUFFIX: &str = "/restriction";

    /// Returns the record of a user in a chat or, without one, everywhere.
    pub fn of(chat: Option<ChatId>, user: UserId) -> Self {
        Self { v: VERSION, chat: chat.unwrap_or(ChatId(Uuid::nil())), user }
    }

    /// Returns the chat that it is of; `None` for all of them.
    pub fn place(&self) -> Option<ChatId> {
        (!self.chat.0.is_nil()).then_some(self.chat)
    }

    /// Returns the record key, which is another than that of the membership.
    pub fn key(chat: Option<ChatId>, user: UserId) -> String {
        MembershipRecord::key(chat.unwrap_or(ChatId(Uuid::nil())), user) + Self::SUFFIX
    }

    /// Reads a record key back.
    pub fn parse_key(key: &[u8]) -> Option<(Option<ChatId>, UserId)> {
        let (chat, user) = MembershipRecord::parse_key(key.strip_suffix(Self::SUFFIX.as_bytes())?)?;
        Some(((!chat.0.is_nil()).then_some(chat), user))
    }
}

/// A record of `session.events`: tokens that were issued before it, or later, are not good any more, whatever their expiry.
///
/// What has ended stays so: records may be repeated, and their order does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionEndRecord {
    pub v: u8,
    pub user: UserId,
    pub ended: Ended,
}

impl SessionEndRecord {
    /// Reads the payload of a record.
    pub fn read(payload: Option<&[u8]>) -> Result<Self, Unreadable> {
        let record: Self = serde_json::from_slice(payload.ok_or(Unreadable::Empty)?)?;
        known(record.v)?;
        Ok(record)
    }
}

/// Which sessions of a user have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// This one.
    Session(SessionId),
    /// All of them, and no other begins: the account is deleted.
    Account,
}

/// A record of `presence.changes`: how a user was at a moment who shows it to everyone.
///
/// It is a sample: at most one in an interval, the state at its end, and none where nothing changed. Samples may be missing, and a user
/// who hides their presence has no more of them, so a state says nothing of later moments than its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresenceChangeRecord {
    pub v: u8,
    pub user: UserId,
    pub state: SampledState,
    /// Milliseconds since the epoch, by the clock of the presence service.
    pub sampled_at_ms: i64,
}

/// How a user was at the moment of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampledState {
    Offline,
    Away,
    Online,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ChatKind {
    /// Two users. Created again by either of them, it is the same chat, with both in it.
    Direct,
    /// Any number of users, with a title and roles.
    Group,
    /// A group in which its owner and admins write, and members read and react.
    Channel,
}

word!(ChatKind);

impl ChatKind {
    /// Returns the kind as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Channel => "channel",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Direct, Self::Group, Self::Channel].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What a member may do. Later variants may do less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum Role {
    /// Everything; a group always has one owner.
    Owner,
    /// Adds and removes members.
    Admin,
    /// Reads and writes; in a channel reads and reacts.
    Member,
}

word!(Role);

impl Role {
    /// Returns the role as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Owner, Self::Admin, Self::Member].into_iter().find(|role| role.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, own::Draft};

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn text() -> SendRecord {
        let (chat, sender, device, key) = (ChatId(id(1)), UserId(id(2)), DeviceId(id(3)), MessageKey(id(4)));
        SendRecord { body: "hello".into(), ..SendRecord::new(chat, sender, device, key, EntryKind::Text) }
    }

    fn delivered(outcome: DeliveryOutcome) -> DeliveredRecord {
        let SendRecord { v, chat, sender, device, key, .. } = text();
        DeliveredRecord { v, chat, sender, device, key, outcome }
    }

    fn check<T>(record: &T, golden: &str)
    where
        T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
    {
        assert_eq!(serde_json::to_string(record).expect("json"), golden.trim());
        assert_eq!(&serde_json::from_str::<T>(golden).expect("the golden file is read"), record);
    }

    #[test]
    fn version_1_records_keep_their_form() {
        check(&text(), include_str!("../golden/send.v1.json"));
        check(
            &SendRecord {
                target_seq: Some(7),
                mentions: vec![UserId(id(5))],
                mentions_all: true,
                moderates: true,
                ..text()
            },
            include_str!("../golden/reply.v1.json"),
        );
        check(
            &SendRecord {
                target_seq: Some(7),
                mentions: vec![UserId(id(5)), UserId(id(6))],
                called_by_role: 1,
                not_members: vec![UserId(id(5))],
                mention_roles: vec![Role::Admin],
                mentions_all: true,
                mentions_here: true,
                silent: true,
                forwarded: Some(Forwarded { sender: UserId(id(7)), sent_at_ms: 8 }),
                source: Some(Source { chat: ChatId(id(9)), seq: 3 }),
                range: Some(SeqRange { from_seq: 1, to_seq: 4 }),
                moderates: true,
                ..text()
            },
            include_str!("../golden/called.v1.json"),
        );
        let picture = Attachment {
            name: "two cats.jpg".into(),
            media_type: "image/jpeg".into(),
            size: 48_213,
            width: Some(1_600),
            height: Some(1_200),
            blur: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
            has_thumbnail: true,
            ..Attachment::unknown(FileId(id(6)))
        };
        let sound = Attachment {
            name: "hello.ogg".into(),
            media_type: "audio/ogg".into(),
            size: 9_120,
            duration_ms: Some(2_500),
            ..Attachment::unknown(FileId(id(7)))
        };
        let attachments = vec![picture, sound];
        check(
            &SendRecord { body: String::new(), attachments: attachments.clone(), ..text() },
            include_str!("../golden/files.v1.json"),
        );
        let mut outcome = DeliveryOutcome::stored(8, EntryKind::Text, "", 1_700_000_000_000);
        if let DeliveryOutcome::Stored { attachments: carried, .. } = &mut outcome {
            *carried = attachments;
        }
        check(&delivered(outcome), include_str!("../golden/delivered_files.v1.json"));
        let mut outcome = DeliveryOutcome::stored(7, EntryKind::MemberAdded, "", 1_700_000_000_000);
        if let DeliveryOutcome::Stored { subject, .. } = &mut outcome {
            *subject = Some(UserId(id(5)));
        }
        check(&delivered(outcome), include_str!("../golden/delivered.v1.json"));
        check(
            &DeliveredRecord {
                v: 1,
                chat: ChatId(id(1)),
                sender: UserId(id(2)),
                device: DeviceId(id(0)),
                key: MessageKey(id(0)),
                outcome: DeliveryOutcome::Marked {
                    read_seq: 7,
                    delivered_seq: 9,
                    unread: 2,
                    mentions: 1,
                    counted_seq: 11,
                    shown_read_seq: None,
                    shown_delivered_seq: Some(9),
                },
            },
            include_str!("../golden/marked.v1.json"),
        );
        let added = MembershipRecord {
            v: 1,
            chat: ChatId(id(1)),
            user: UserId(id(2)),
            role: Some(Role::Owner),
            kind: Some(ChatKind::Group),
            version: 3,
            members: 2,
            from_entry: false,
        };
        check(&added, include_str!("../golden/membership.v1.json"));
        check(&MembershipRecord { role: None, ..added }, include_str!("../golden/no_membership.v1.json"));
        let own = OwnChatState {
            version: 5,
            muted_until_ms: Some(1_700_000_000_000),
            archived: true,
            favourite: false,
            draft: Some(Draft { body: "I wi".into(), reply_to: Some(7) }),
            scheduled: 2,
            scheduled_refused: 0,
        };
        check(
            &OwnStateRecord { v: 1, chat: ChatId(id(1)), user: UserId(id(2)), own },
            include_str!("../golden/own_state.v1.json"),
        );
        check(
            &RestrictionRecord { v: 1, chat: ChatId(id(1)), user: UserId(id(2)) },
            include_str!("../golden/restriction.v1.json"),
        );
        let ended = Ended::Session("0190f5a0-7b1e-7c3d-8f00-0123456789ab".parse().expect("an id"));
        check(
            &SessionEndRecord { v: 1, user: UserId(id(2)), ended },
            include_str!("../golden/session_end.v1.json"),
        );
        check(
            &SessionEndRecord { v: 1, user: UserId(id(2)), ended: Ended::Account },
            include_str!("../golden/account_end.v1.json"),
        );
        let (state, sampled_at_ms) = (SampledState::Away, 1_700_000_000_000);
        check(
            &PresenceChangeRecord { v: 1, user: UserId(id(2)), state, sampled_at_ms },
            include_str!("../golden/presence_change.v1.json"),
        );
    }

    #[test]
    fn a_record_of_another_build_is_read() {
        let older = r#"{"v":1,"chat":"00000000-0000-0000-0000-000000000001","user":"00000000-0000-0000-0000-000000000002","role":"member","channel":true}"#;
        let record: MembershipRecord = serde_json::from_str(older).expect("it is read");
        assert_eq!((record.role, record.kind, record.version), (Some(Role::Member), None, 0));
    }

    #[test]
    fn an_unreadable_record_is_not_quoted() {
        let secret = "meet me at nine";
        for payload in
            [format!(r#"{{"v":"{secret}"}}"#), format!(r#"{{"{secret}":1,"v":1,"chat":"{secret}"}}"#)]
        {
            let said = DeliveredRecord::read(Some(payload.as_bytes())).expect_err("a refusal");
            assert!(matches!(said, Unreadable::Form(column) if column > 0), "{said:?}");
            assert!(!format!("{said} {said:?}").contains(secret), "{said:?}");
        }
        let quoted = serde_json::from_str::<DeliveredRecord>(&format!(r#"{{"v":"{secret}"}}"#));
        assert!(
            quoted.expect_err("a refusal").to_string().contains(secret),
            "the parser itself does quote it"
        );
    }

    #[test]
    fn a_membership_key_reads_back() {
        let (chat, user) = (ChatId(id(1)), UserId(id(2)));
        assert_eq!(
            MembershipRecord::parse_key(MembershipRecord::key(chat, user).as_bytes()),
            Some((chat, user))
        );
        assert_eq!(MembershipRecord::parse_key(b"no separator"), None);
        let own = OwnStateRecord::key(chat, user);
        assert_eq!(OwnStateRecord::parse_key(own.as_bytes()), Some((chat, user)));
        assert_eq!(MembershipRecord::parse_key(own.as_bytes()), None, "a reader of before sets it aside");
        assert_eq!(OwnStateRecord::parse_key(MembershipRecord::key(chat, user).as_bytes()), None);
        for chat in [Some(chat), None] {
            let restriction = RestrictionRecord::key(chat, user);
            assert_eq!(RestrictionRecord::parse_key(restriction.as_bytes()), Some((chat, user)));
            assert_eq!(RestrictionRecord::of(chat, user).place(), chat);
            assert_eq!(MembershipRecord::parse_key(restriction.as_bytes()), None);
            assert_eq!(OwnStateRecord::parse_key(restriction.as_bytes()), None);
        }
    }
}
