//! How a member has a chat: for all devices of the member, and seen by no one else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a member has a chat: on all their devices, and seen by no one else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnChatState {
    /// Grows with each change, and when a user comes back to the chat: of two states the one with the greater version is the later one.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(crate) const fn is_zero(value: &u32) -> bool {
    *value == 0
}
