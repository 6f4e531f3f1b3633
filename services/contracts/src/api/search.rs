//! What searches return.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ChatId, FileId, UserId, event::ChatKind};

/// `GET /api/search/messages`. `next_cursor` is absent on the last page; pass it back as `cursor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundMessages {
    /// The newest first.
    pub items: Vec<FoundMessage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Whether everything that the caller reads was searched. While the index is built, older messages may be missing; see
    /// `GET /api/search/status`.
    pub complete: bool,
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundMessage {
    pub chat_id: ChatId,
    pub seq: i64,
    pub sender: UserId,
    /// Milliseconds since the epoch, by the log's clock.
    pub sent_at_ms: i64,
    /// The seq of the message that it replies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
    /// Whether the text is another one than was sent first.
    pub edited: bool,
    /// A part of the text around what was found, in order. Together the parts are that part, as plain text. It is the beginning of the text when nothing
    /// was found there, and empty for a message that has files alone.
    pub excerpt: Vec<ExcerptPart>,
    /// The files of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FoundFile>,
}

/// A file of a message that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundFile {
    pub file: FileId,
    /// The name, in parts as an excerpt is.
    pub name: Vec<ExcerptPart>,
    /// The media type.
    #[serde(rename = "type")]
    pub media_type: String,
    /// In bytes.
    pub size: i64,
}

/// A part of an excerpt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExcerptPart {
    pub text: String,
    /// Whether it is what the search was for.
    pub found: bool,
}

/// `GET /api/search/chats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundChats {
    /// The newest first.
    pub items: Vec<FoundChat>,
}

/// A chat of the caller whose name was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundChat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// The title; of a direct chat, the display name of the other user.
    pub name: String,
    /// The other user of a direct chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<UserId>,
}

/// `GET /api/search/users`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundUsers {
    /// In the order of their usernames.
    pub items: Vec<FoundUser>,
}

/// A user whose name was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundUser {
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
}

/// `GET /api/search/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchStatus {
    /// Whether every message of the tenant can be found, but for those of the last seconds.
    pub complete: bool,
    /// How much of the chats of the tenant is read into the index: 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    pub percent: u8,
    /// How much of the chats is read into an index that is built to take the place of the one that searches use, which goes on meanwhile: 0 to 100. Absent
    /// when none is built.
    #[schema(minimum = 0, maximum = 100)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild_percent: Option<u8>,
}
