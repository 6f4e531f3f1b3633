//! What searches return.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ChatId, UserId};

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
    /// A part of the text around what was found, in order. Together the parts are that part, as plain text.
    pub excerpt: Vec<ExcerptPart>,
}

/// A part of an excerpt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExcerptPart {
    pub text: String,
    /// Whether it is what the search was for.
    pub found: bool,
}

/// `GET /api/search/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchStatus {
    /// Whether every message of the tenant can be found, but for those of the last seconds.
    pub complete: bool,
    /// How much of the chats of the tenant is read into the index: 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    pub percent: u8,
}
