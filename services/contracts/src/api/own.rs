//! Bodies of what a member changes of how they have a chat.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::word::{object, whole_or_null};

/// Largest draft in bytes of UTF-8. A longer text stays on the device.
pub const MAX_DRAFT_BYTES: usize = 4 * 1024;

/// Latest time until which a chat is muted: the end of the year 9999, for good.
pub const MUTED_FOR_GOOD_MS: i64 = 253_402_300_799_999;

/// `PATCH /api/chats/{chat}/me`: absent fields stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateOwnChatStateRequest {
    /// Milliseconds since the epoch; 0 ends it.
    #[schema(minimum = 0, maximum = 253_402_300_799_999_i64)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub muted_until_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub favourite: Option<bool>,
    /// Replaces the draft as a whole; one with an empty body removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<SetDraft>,
}

/// A draft as it is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SetDraft {
    /// At most 4096 bytes of UTF-8, without U+0000. The schema allows what is short enough in any script.
    #[schema(schema_with = schema::draft)]
    pub body: String,
    /// The seq of the message that it is to reply to.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub reply_to: Option<i64>,
}

object!(SetDraft);
