//! Bodies of messages that are sent at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::{Role, is_false},
    word::{whole, whole_or_null},
};

/// Messages that wait for their time or were refused then, of one user.
pub const MAX_SCHEDULED: usize = 100;
/// A message is scheduled at most so far ahead: a leap year.
pub const MAX_AHEAD_SECONDS: i64 = 366 * 24 * 60 * 60;

/// `POST /api/chats/{chat}/scheduled`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// The idempotency key of the message, as that of `send`: a request that is repeated with it schedules once, and what is sent in
    /// the end is one message.
    pub key: MessageKey,
    /// 1 to 16384 bytes of UTF-8, without U+0000. The schema allows what is short enough in any script.
    #[schema(schema_with = schema::body)]
    pub body: String,
    /// The seq of the message that it replies to.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub reply_to: Option<i64>,
    /// Whom it calls by name.
    #[schema(max_items = 50)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Whether it calls all members.
    #[serde(default)]
    pub mention_all: bool,
    /// The roles that it calls, `owner` and `admin`, each once: those who have them at its time, at most 100 members.
    #[schema(schema_with = schema::called_roles)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    /// Whether it calls the members who are connected when it is pushed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mention_here: bool,
    /// Whether it disturbs no user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// Milliseconds since the epoch, later than now and at most 366 days ahead.
    #[schema(minimum = 0, maximum = 253_402_300_799_999_i64)]
    #[serde(deserialize_with = "whole")]
    pub send_at_ms: i64,
}

impl ScheduleRequest {
    /// Returns a request for a text alone, which replies to nothing and calls nobody.
    pub fn text(key: MessageKey, body: impl Into<String>, send_at_ms: i64) -> Self {
        Self {
            key,
            body: body.into(),
            reply_to: None,
            mentions: Vec::new(),
            mention_all: false,
            mention_roles: Vec::new(),
            mention_here: false,
            silent: false,
            send_at_ms,
        }
    }
}

/// `PUT /api/chats/{chat}/scheduled/{key}`: the message as it is to be sent, as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RescheduleRequest {
    /// 1 to 16384 bytes of UTF-8, without U+0000. The schema allows what is short enough in any script.
    #[schema(schema_with = schema::body)]
    pub body: String,
    /// The seq of the message that it replies to.
    #[schema(minimum = 1)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub reply_to: Option<i64>,
    /// Whom it calls by name.
    #[schema(max_items = 50)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// Whether it calls all members.
    #[serde(default)]
    pub mention_all: bool,
    /// The roles that it calls, `owner` and `admin`, each once: those who have them at its time, at most 100 members.
    #[schema(schema_with = schema::called_roles)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    /// Whether it calls the members who are connected when it is pushed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mention_here: bool,
    /// Whether it disturbs no user.
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// Milliseconds since the epoch, later than now and at most 366 days ahead.
    #[schema(minimum = 0, maximum = 253_402_300_799_999_i64)]
    #[serde(deserialize_with = "whole")]
    pub send_at_ms: i64,
}

/// A message that waits for its time, or was refused then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduledMessage {
    pub chat_id: ChatId,
    pub key: MessageKey,
    pub body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    #[serde(default)]
    pub mention_all: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mention_roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub mention_here: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub silent: bool,
    /// Milliseconds since the epoch: for when it was scheduled.
    pub send_at_ms: i64,
    /// When it is tried, if that is later: in slow mode, when more is to be sent at once than there is room for, and after a failure of the
    /// server. Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_off_until_ms: Option<i64>,
    /// Why it was not sent at its time: `permission_denied`, `limit_reached` (more than 100 members have the roles that it calls), or `internal`
    /// (the server failed to for about an hour). It is not tried again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<ErrorCode>,
}
