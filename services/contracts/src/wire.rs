//! The WebSocket protocol `posthouse.v1`, whose frames are JSON here; [`crate::cbor`] is the same in fewer bytes.
//!
//! A client frame is `{"id": 7, "<command>": {...}}`; the answer is `{"id": 7, "result": {...}}` or
//! `{"id": 7, "error": {...}}`. A server frame without `id` is a push: `{"message": {...}}`. `id` is chosen by
//! the client per connection and is not the idempotency key of a message.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Number;

pub use crate::changes::{Change, Changes, MAX_LISTED_REACTORS, Reactions};

pub use crate::attachment::{Attachment, MAX_ATTACHMENTS};

use crate::{
    ChatId, DeviceId, Encoded, ErrorCode, FileId, MessageKey, UserId,
    attachment::escaped_bytes,
    cbor,
    changes::UUID_BYTES,
    event::{ChatKind, EntryKind, Forwarded, Role, SeqRange, is_false},
    own::{OwnChatState, is_zero},
    word::word,
};

/// Largest client frame in bytes. JSON may write each byte of a body as an escape of six, which leaves 32 KiB for the rest.
pub const MAX_FRAME_BYTES: usize = 128 * 1024;
/// Longest [`RequestId`] in bytes, when it is a text.
pub const MAX_REQUEST_ID_BYTES: usize = 64;
/// Largest message body in bytes of UTF-8.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// Most users that one message mentions by name.
pub const MAX_MENTIONS: usize = 50;
/// Most members that one message calls by their role alone.
pub const MAX_ROLE_MENTIONS: usize = 100;
/// Most entries of a range that is deleted at once.
pub const MAX_DELETE_RANGE: u64 = 100;
/// Pinned messages of a chat.
pub const MAX_PINS: usize = 1_000;
/// Largest page of `pins` and of `replies`.
pub const MAX_LIST_LIMIT: u32 = 100;
/// Page of `pins` and of `replies` when the client names none.
pub const DEFAULT_LIST_LIMIT: u32 = 50;
/// Largest reaction in bytes of UTF-8: a family of four with skin tones has 41.
pub const MAX_EMOJI_BYTES: usize = 64;
/// Different reactions to one message.
pub const MAX_REACTIONS: usize = 20;
/// Edits of one message.
pub const MAX_EDITS: u32 = 100;
/// Sends that one connection may have unanswered; beyond it the server stops reading the socket.
pub const MAX_INFLIGHT: usize = 256;
/// Largest page of `history`.
pub const MAX_HISTORY_LIMIT: u32 = 500;
/// A page of `history` ends before it has more bytes than this as JSON, unless it is a single entry.
pub const HISTORY_PAGE_BYTES: usize = 128 * 1024;
/// Page of `history` when the client names none.
pub const DEFAULT_HISTORY_LIMIT: u32 = 100;

/// Largest page of `sync`, in chats.
pub const MAX_SYNC_LIMIT: u32 = 200;
/// Page of `sync` when the client names none.
pub const DEFAULT_SYNC_LIMIT: u32 = 50;
/// Most entries of one chat that `sync` returns.
pub const MAX_SYNC_ENTRIES: u32 = 50;
/// Longest cursor of `sync` in bytes.
pub const MAX_CURSOR_BYTES: usize = 4 * 1024;

/// Users that one connection watches.
pub const MAX_WATCHED_USERS: usize = 200;
/// Chats that one connection watches.
pub const MAX_WATCHED_CHATS: usize = 20;
/// Members of the largest chat in which typing is shown.
pub const MAX_TYPING_MEMBERS: usize = 256;
/// Largest chat in which a member is shown how far the others have come.
pub const MAX_RECEIPT_MEMBERS: usize = 256;
/// A user who is typing is shown as such for this long, or until their next message.
pub const TYPING_SECONDS: u64 = 6;

/// The id of a command: a number or a short text that the client chose. The answer repeats it as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    Number(Number),
    Text(String),
}

impl RequestId {
    /// Returns the id when it is a whole number, as our own client chooses them.
    pub fn as_u32(&self) -> Option<u32> {
        match self {
            Self::Number(number) => u32::try_from(number.as_u64()?).ok(),
            Self::Text(_) => None,
        }
    }

    /// Returns the id of what may be no frame at all, so that its refusal can name the command.
    pub fn find_in(frame: Encoded<'_>) -> Option<Self> {
        let mut found = None;
        let search = Search(&mut found);
        // What is wrong with the frame stops the search, and was noticed before.
        match frame {
            Encoded::Json(text) => drop(serde_json::Deserializer::from_str(text).deserialize_map(search)),
            Encoded::Cbor(bytes) => drop(cbor::Reader::new(bytes).deserialize_map(search)),
        }
        found
    }
}

impl From<u32> for RequestId {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyId;

        impl Visitor<'_> for AnyId {
            type Value = RequestId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number or a text of at most {MAX_REQUEST_ID_BYTES} bytes")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number.into()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number.into()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<RequestId, E> {
                Number::from_f64(number)
                    .map(RequestId::Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RequestId, E> {
                if text.len() > MAX_REQUEST_ID_BYTES {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(RequestId::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(AnyId)
    }
}

/// Reads an object up to its `id`.
struct Search<'a>(&'a mut Option<RequestId>);

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<String>()? {
            if field == "id" {
                *self.0 = Some(map.next_value()?);
                break;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// A frame from the client: `{"id": 7, "<command>": {...}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct ClientFrame {
    /// Echoed in the answer. Only a command without an answer may go without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    #[serde(flatten)]
    pub command: Command,
}

/// Defines [`Command`] and how a frame is read. On the wire a command is a field of the frame, and a client could set
/// none or several: the frame is read into optional fields first, so that the refusal can name what is wrong.
macro_rules! commands {
    ($($(#[$doc:meta])* $field:ident: $command:ident($arguments:ty),)+) => {
        /// What a client requests.
        #[derive(Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Command {
            $($(#[$doc])* $command($arguments),)+
        }

        impl Command {
            /// Returns the name of the command: the field of a frame that has it.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$command(_) => stringify!($field),)+
                }
            }
        }

        /// A frame as it is written.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            id: Option<RequestId>,
            $($field: Option<$arguments>,)+
        }

        impl TryFrom<Fields> for ClientFrame {
            type Error = String;

            fn try_from(fields: Fields) -> Result<Self, String> {
                let mut count = 0;
                let mut command = None;
                $(if let Some(arguments) = fields.$field {
                    count += 1;
                    command = Some(Command::$command(arguments));
                })+
                match command {
                    Some(command) if count == 1 && (fields.id.is_some() || !command.has_answer()) => {
                        Ok(Self { id: fields.id, command })
                    }
                    Some(_) if count == 1 => Err("a command has an id".to_owned()),
                    Some(_) | None => Err(format!("a frame has one command, not {count}")),
                }
            }
        }
    };
}

commands! {
    /// Authenticates the connection: its first command, and no later one.
    connect: Connect(Connect),
    send: Send(Send),
    edit: Edit(Edit),
    delete: Delete(Delete),
    delete_range: DeleteRange(DeleteRange),
    forward: Forward(Forward),
    react: React(React),
    pin: Pin(Pin),
    history: History(History),
    pins: Pins(Pins),
    replies: Replies(Replies),
    sync: Sync(Sync),
    read: Read(Mark),
    delivered: Delivered(Mark),
    refresh: Refresh(Refresh),
    /// Answers `ping`, as any other frame does.
    pong: Pong(Empty),
    watch: Watch(Watch),
    activity: Activity(Activity),
    typing: Typing(Typing),
}

impl Command {
    /// Returns whether the server answers the command.
    pub const fn has_answer(&self) -> bool {
        !matches!(self, Self::Pong(_) | Self::Activity(_) | Self::Typing(_))
    }
}

/// The first frame, within five seconds of the upgrade.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// An access token of this tenant's realm. Never in the URL.
    pub token: String,
    pub device: DeviceId,
}

/// Sends a message. Idempotent: a repetition with the same key is the same message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    pub chat: ChatId,
    pub key: MessageKey,
    /// It may be empty beside attachments.
    pub body: String,
    /// The seq of the message that this one replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
    /// Whom the message calls by name, at most [`MAX_MENTIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Whether the message calls all members.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mention_all: bool,
    /// The roles that the message calls, `owner` and `admin`: at most [`MAX_ROLE_MENTIONS`] members have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    /// Whether the message calls the members who are connected when it is pushed. It counts as a call for nobody.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mention_here: bool,
    /// Whether it disturbs no user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// Files that the sender has uploaded for this chat and that are ready: at most [`MAX_ATTACHMENTS`], each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileId>,
    #[serde(default, skip_serializing_if = "is_accepted")]
    pub ack: Ack,
}

/// What answers a send that is taken. One that is refused is answered either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum Ack {
    /// `accepted` at once; `stored` or `rejected` follows.
    #[default]
    Accepted,
    /// `stored` or `rejected` alone: half of the frames, for a client that does nothing between the two.
    Stored,
}

word!(Ack);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_accepted(ack: &Ack) -> bool {
    matches!(ack, Ack::Accepted)
}

impl Send {
    /// Returns a message of a text alone.
    pub fn text(chat: ChatId, key: MessageKey, body: impl Into<String>) -> Self {
        Self {
            chat,
            key,
            body: body.into(),
            reply_to: None,
            mentions: Vec::new(),
            mention_all: false,
            mention_roles: Vec::new(),
            mention_here: false,
            silent: false,
            attachments: Vec::new(),
            ack: Ack::Accepted,
        }
    }
}

/// Sends the text of a message that the caller reads, in this or another chat, with its attachments, who wrote it and when.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Where it goes.
    pub chat: ChatId,
    pub key: MessageKey,
    pub from_chat: ChatId,
    pub from_seq: i64,
}

/// Replaces the text of a message of one's own. Each command that changes a message has a key as `send` has, and is idempotent by it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub chat: ChatId,
    pub key: MessageKey,
    /// The message.
    pub seq: i64,
    pub body: String,
}

/// Removes the text of a message for everyone, and its attachments: of one's own, or of anyone as an owner or admin of the group.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub chat: ChatId,
    pub key: MessageKey,
    pub seq: i64,
}

/// Removes the texts of a range of entries, as `delete` does of each: one's own, or, for an owner or admin of the group, anyone's. What is no
/// text, deleted already or another user's stays as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRange {
    pub chat: ChatId,
    pub key: MessageKey,
    /// An entry that the caller reads.
    pub from_seq: i64,
    /// At most [`MAX_DELETE_RANGE`] entries from `from_seq` on. Entries that come behind this one are not of the range.
    pub to_seq: i64,
    /// Whose messages. Without it, everyone's for an owner or admin, and one's own for everyone else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<UserId>,
}

/// Reacts to a message, or takes a reaction back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct React {
    pub chat: ChatId,
    pub key: MessageKey,
    pub seq: i64,
    /// One emoji, in any form: the entry has the fully-qualified one.
    pub emoji: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub remove: bool,
}

/// Pins a message in its chat, or unpins it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub chat: ChatId,
    pub key: MessageKey,
    pub seq: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub remove: bool,
}

/// Fetches stored entries, in the order of their seq: how a client fills a gap (`after`), reads on into the past (`before`), and
/// opens a chat at one message (`around`). The first of `around`,
/// `before`, `from_ms` and `after` that is there decides; without any, the page begins at the first entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    pub chat: ChatId,
    /// Entries with a greater seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// The last entries with a smaller seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Entries before this seq and from it on, half of a page each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<i64>,
    /// Entries from the first one on that was sent at or after this time, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Lists the pinned messages of a chat, the one that was pinned last first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    pub chat: ChatId,
    /// Those that were pinned before: `changes.pinned_seq` of the last message of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// From 1 to [`MAX_LIST_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Lists the replies to a message in the order of their seq, also those that are deleted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replies {
    pub chat: ChatId,
    /// The message.
    pub seq: i64,
    /// Replies with a greater seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// From 1 to [`MAX_LIST_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl History {
    /// Returns the query for what comes after a seq.
    pub const fn after(chat: ChatId, seq: i64, limit: Option<u32>) -> Self {
        Self { chat, after: Some(seq), before: None, around: None, from_ms: None, limit }
    }
}

/// Fetches what changed in the caller's chats: how a client begins, and how it goes on after it was away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// The cursor of the page before, at most [`MAX_CURSOR_BYTES`]. Without one, all chats are returned, page by page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Chats of the page, from 1 to [`MAX_SYNC_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Last entries of each chat, up to [`MAX_SYNC_ENTRIES`]; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u32>,
}

/// Says how far the user has read a chat, or how far this device has received it. A watermark never goes back: the
/// greatest seq counts. What a user sends, they have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    pub chat: ChatId,
    /// An entry that the user reads.
    pub seq: i64,
}

/// Replaces the token of a connection before it expires. It must name the same user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    pub token: String,
}

/// Replaces what this connection sees of the presence of others: what is on the client's screen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// At most [`MAX_WATCHED_USERS`].
    #[serde(default)]
    pub users: Vec<UserId>,
    /// At most [`MAX_WATCHED_CHATS`]: who is typing there.
    #[serde(default)]
    pub chats: Vec<ChatId>,
}

/// Says whether the user is at this device. A connection begins as `online`. It has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activity {
    pub state: ActivityState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ActivityState {
    Online,
    Away,
}

word!(ActivityState);

/// Says that the user is typing a message. It has no answer, and is dropped without one when it cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    pub chat: ChatId,
}

/// `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A frame from the server: an answer (`id` with `result` or `error`) or a push.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ServerFrame {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
    /// Another user, or another device of the same user, sent a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// A send of this device is stored; may come again after a reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// An accepted send of this device was refused by the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// The client has not received all of this chat, because it reads too slowly or the chat is new to the user: fetch `history`, or
    /// `sync` for a chat that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lagged: Option<Lagged>,
    /// A member has read or received a chat further than before: the user on another device, or another one, unless the chat is
    /// too large for it or they do not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// The user has a chat in another way than before, by whichever device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_state: Option<OwnState>,
    /// Answer `pong`, or the connection is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<Empty>,
    /// Users whom the connection watches are not as they were before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// A user is typing in a chat that the connection watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typing: Option<TypingUser>,
}

/// The result of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Connected(Connected),
    /// The message is in the log (`acks=all`): it cannot be lost any more. Its seq follows as `stored`.
    Accepted(Empty),
    History(HistoryPage),
    /// The messages of `pins` or `replies`.
    Listed(ListPage),
    Synced(SyncPage),
    /// The watermarks of the caller after a `read` or `delivered`.
    Marked(Watermarks),
    Refreshed(Refreshed),
    /// The users of a `watch`, as they are now.
    Watching(Presence),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// Names this connection in logs.
    pub session: String,
    pub user: UserId,
    /// The server pings this often.
    pub ping_seconds: u32,
    /// The client answers a ping within this time.
    pub pong_seconds: u32,
    pub max_inflight: u32,
    pub max_frame_bytes: u32,
    pub max_body_bytes: u32,
    /// Seconds until the token expires; `refresh` before.
    pub token_expires_in_seconds: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    pub token_expires_in_seconds: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    pub chat: ChatId,
    pub messages: Vec<Message>,
    /// The newest seq of the chat. The page is the last one when its last seq equals it.
    pub head_seq: i64,
    /// The first seq that the caller reads: 1, or the one of the entry that added them. Nothing before it is a gap.
    pub from_seq: i64,
}

/// Messages of a list: pinned ones, or replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    pub chat: ChatId,
    pub messages: Vec<Message>,
    /// Whether there are more of them.
    pub more: bool,
}

/// Chats that changed since the cursor, or all of them without one, the most recently active first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPage {
    pub chats: Vec<ChatState>,
    /// Where the next `sync` goes on: with the next page, and after the last one with what changes from now on.
    pub cursor: String,
    /// Whether there are more pages.
    pub more: bool,
    /// All chats of the caller. Present when they are not those of the cursor: whatever else a client has, the user has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_chats: Option<Vec<ChatId>>,
    /// Texts that the user has not read, in all chats.
    pub unread: i64,
    /// How many of them call the user.
    pub mentions: i64,
}

/// A chat as one of its members has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatState {
    pub chat: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What a group is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The id of the picture of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// How long a plain member waits after a message before the next one; 0 for not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_mode_seconds: u32,
    /// How long after it was sent a text disappears; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub message_ttl_seconds: u32,
    /// The other user of a direct chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<UserId>,
    /// The role of the caller.
    pub role: Role,
    /// How the caller has the chat.
    #[serde(default)]
    pub own: OwnChatState,
    pub member_count: i64,
    /// The newest seq of the chat; 0 for one without entries.
    pub head_seq: i64,
    /// The first seq that the caller reads.
    pub from_seq: i64,
    pub watermarks: Watermarks,
    /// How far the other user of a direct chat has read it; absent when they do not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_read_seq: Option<i64>,
    /// How far the other user of a direct chat has received it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_delivered_seq: Option<i64>,
    /// The last entries, in the order of their seq.
    pub entries: Vec<Message>,
    /// Whether the caller reads entries before these.
    pub limited: bool,
}

/// How a user has a chat, for all their devices. Of two, the one with the greater version counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnState {
    pub chat: ChatId,
    pub own: OwnChatState,
}

/// How far a user has read and received a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// 0 when nothing is read.
    pub read_seq: i64,
    /// 0 when nothing is received.
    pub delivered_seq: i64,
    /// Texts behind `read_seq`, up to `counted_seq`.
    pub unread: i64,
    /// How many of them call the user, by name or with all.
    pub mentions: i64,
    /// The last entry that is counted. A client adds the texts that it receives behind it.
    #[serde(default)]
    pub counted_seq: i64,
}

/// How far a member has read or received a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub chat: ChatId,
    pub user: UserId,
    /// Absent for one who does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_seq: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_seq: Option<i64>,
    /// For the user's own devices: what is unread now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<i64>,
    /// Likewise: how much of it calls the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mentions: Option<i64>,
    /// Likewise: the last entry that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_seq: Option<i64>,
}

/// One entry of a chat. (chat, seq) is its identity; seq is 1, 2, 3, ..., gapless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Message {
    pub chat: ChatId,
    pub seq: i64,
    pub sender: UserId,
    pub key: MessageKey,
    pub kind: EntryKind,
    pub body: String,
    /// The user whom a change of members or of a role is about, or whose texts a range loses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<UserId>,
    /// The seq of the message that this entry speaks of: what a reply replies to, what an edit changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_seq: Option<i64>,
    /// Whom a text calls, by name or by their role. Users who were no members are not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// The roles that a text calls, as it was said. Who had them then is in `mentions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    /// Whether a text calls all members.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mentions_all: bool,
    /// Whether a text calls the members who are connected when it is pushed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mentions_here: bool,
    /// Whether a text disturbs no user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// The files that a text carries, as they were when it was sent. Gone with the text, and kept by an edit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Whose words a text repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
    /// What the deletion of a range is about: its texts before this entry, of `subject` or of everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<SeqRange>,
    /// Milliseconds since the epoch, by the log's clock.
    pub sent_at_ms: i64,
    /// When the text disappears, in milliseconds since the epoch: clients forget it then by themselves. Of a text of a chat with
    /// `message_ttl_seconds`, and of an edit of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// The text has disappeared: `body` is empty, and nothing that it carried or that was changed of it is left.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expired: bool,
    /// What later entries changed of a text. `body` is as they left it: the text of the last edit, and empty once it is deleted.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub changes: Changes,
}

impl Message {
    /// What an entry has beside its body, mentions and changes: ids, names, numbers.
    const ENVELOPE_BYTES: usize = 390;
    /// What it has of when its text disappears.
    const EXPIRY_BYTES: usize = 60;

    /// Takes the text away, and what was changed of it, once its time has come. What is left says that there was one.
    pub fn expire(&mut self, now_ms: i64) {
        if self.expires_at_ms.is_none_or(|at_ms| now_ms < at_ms) {
            return;
        }
        self.expired = true;
        self.body.clear();
        self.mentions.clear();
        self.mention_roles.clear();
        (self.mentions_all, self.mentions_here) = (false, false);
        self.forwarded = None;
        self.attachments.clear();
        // That it was deleted is known on: what deletes a range passes over it.
        let Changes { seq, deleted_seq, .. } = self.changes;
        self.changes = match deleted_seq {
            Some(_) => Changes { seq, deleted_seq, ..Changes::default() },
            None => Changes::default(),
        };
    }

    /// Returns how many bytes the entry has as JSON, at most.
    pub fn encoded_bytes(&self) -> usize {
        let mentions = if self.mentions.is_empty() { 0 } else { 16 + UUID_BYTES * self.mentions.len() };
        let roles = if self.mention_roles.is_empty() { 0 } else { 20 + 10 * self.mention_roles.len() };
        // Their names, an id and numbers.
        let forwarded = self.forwarded.map_or(0, |_| 110);
        let range = self.range.map_or(0, |_| 80);
        let attachments = if self.attachments.is_empty() { 0 } else { 17 }
            + self.attachments.iter().map(Attachment::encoded_bytes).sum::<usize>();
        let flags = [self.mentions_here, self.silent].into_iter().filter(|flag| *flag).count() * 23;
        Self::ENVELOPE_BYTES
            + roles
            + forwarded
            + range
            + attachments
            + flags
            + escaped_bytes(&self.body)
            + mentions
            + if self.expires_at_ms.is_some() { Self::EXPIRY_BYTES } else { 0 }
            + self.changes.encoded_bytes()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub chat: ChatId,
    pub key: MessageKey,
    pub seq: i64,
    /// Absent for a resend: query `history` when it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at_ms: Option<i64>,
    /// As in [`Message`], with `sent_at_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub chat: ChatId,
    pub key: MessageKey,
    pub code: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagged {
    pub chat: ChatId,
    pub head_seq: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub users: Vec<UserPresence>,
}

/// How a user is. One whom the caller may not see looks like one who is offline and was never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    pub user: UserId,
    pub state: PresenceState,
    /// Of a user who is offline: when they were connected last, in milliseconds since the epoch. Absent when that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// The messenger does not know at present: show nothing.
    #[default]
    Unknown,
    /// No device is connected.
    Offline,
    /// Devices are connected, and the user is at none of them.
    Away,
    Online,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TypingUser {
    pub chat: ChatId,
    pub user: UserId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    pub code: ErrorCode,
    /// For the reader of a log; never branch on it.
    pub detail: String,
    /// Whether the same command may succeed later.
    pub temporary: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
}

/// Why the server closes. 3000 to 3499: reconnect (with jitter); 3500 to 3999: do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// This server is going away.
    Drain,
    /// The token expired: reconnect with a new one.
    TokenExpired,
    /// The client reads too slowly, or left a message unfinished while the server is short of memory for it.
    Slow,
    /// No frame came in answer to a ping.
    NoPong,
    /// The token is not one of this tenant.
    InvalidToken,
    /// A frame was not of this protocol.
    Malformed,
    /// `connect` did not come in time.
    Stale,
    /// A frame was larger than allowed.
    TooLarge,
    /// The user opened more connections than allowed; this was the oldest.
    Superseded,
    /// The session of the token has ended: the user signed out, a used refresh token was used again, or the account is
    /// deleted.
    SessionEnded,
}

impl CloseCode {
    pub const ALL: [Self; 10] = [
        Self::Drain,
        Self::TokenExpired,
        Self::Slow,
        Self::NoPong,
        Self::InvalidToken,
        Self::Malformed,
        Self::Stale,
        Self::TooLarge,
        Self::Superseded,
        Self::SessionEnded,
    ];

    /// Returns the WebSocket close code.
    pub const fn code(self) -> u16 {
        match self {
            Self::Drain => 3000,
            Self::TokenExpired => 3005,
            Self::Slow => 3008,
            Self::NoPong => 3012,
            Self::InvalidToken => 3500,
            Self::Malformed => 3501,
            Self::Stale => 3502,
            Self::TooLarge => 3503,
            Self::Superseded => 3504,
            Self::SessionEnded => 3505,
        }
    }

    /// Returns the close reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::TokenExpired => "token expired",
            Self::Slow => "slow",
            Self::NoPong => "no pong",
            Self::InvalidToken => "invalid token",
            Self::Malformed => "malformed frame",
            Self::Stale => "stale",
            Self::TooLarge => "frame too large",
            Self::Superseded => "too many connections",
            Self::SessionEnded => "session ended",
        }
    }
}

#[cfg(test)]
mod tests;
