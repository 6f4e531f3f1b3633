//! How a member has a chat: for all devices of the member, and seen by no one else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::{
    event::is_zero,
    word::{object, whole_or_null},
};

/// How a member has a chat: on all their devices, and seen by no one else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnChatState {
    /// Counts the changes since the member is in the chat: of two states the one with the greater version is the later one.
    pub version: i64,
    /// Milliseconds since the epoch: until then clients do not notify of messages. Absent when the chat was not muted; one that is past
    /// mutes nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until_ms: Option<i64>,
    /// Clients keep the chat out of the list that they show first.
    pub archived: bool,
    /// Clients keep the chat at the top of their list.
    pub favourite: bool,
    /// What the member has written and not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
    /// Messages of the member that wait for their time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scheduled: u32,
    /// Scheduled messages that were refused at their time, and wait for the member to decide.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scheduled_refused: u32,
}

/// A message that a member has written and not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Draft {
    pub body: String,
    /// The seq of the message that it is to reply to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
}

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
