//! Bodies of what lets users join a chat by themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ChatId, InviteId, UserId,
    event::ChatKind,
    word::{whole_or_null, word},
};

/// Who finds a group or channel and joins it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum Visibility {
    /// Those who are added, or have an invite link.
    #[default]
    Private,
    /// Every user of the tenant.
    Public,
}

word!(Visibility);

impl Visibility {
    /// Returns it as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Private, Self::Public].into_iter().find(|of| of.as_str() == text)
    }
}

/// A public group or channel, as users see it who are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublicChat {
    pub chat_id: ChatId,
    /// `group` or `channel`.
    pub kind: ChatKind,
    #[schema(example = "Board games")]
    pub title: String,
    #[schema(example = "on Fridays")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[schema(example = 42)]
    pub member_count: i64,
}

/// Longest validity of an invite link in seconds: a year.
pub const MAX_INVITE_SECONDS: u32 = 31_536_000;
/// Most uses of an invite link that has a limit.
pub const MAX_INVITE_USES: u32 = 10_000;

/// `POST /api/chats/{chat}/invites`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInviteRequest {
    /// For how long the link is good, at most a year; until it is revoked when absent.
    #[schema(minimum = 1, maximum = 31_536_000, example = 604_800)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub expires_in_seconds: Option<u32>,
    /// How many users come by it; as many as the chat has room for when absent.
    #[schema(minimum = 1, maximum = 10_000, example = 10)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub max_uses: Option<u32>,
    /// Whether an owner or admin decides on each user who comes by it. `false` when absent.
    #[schema(example = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_approval: Option<bool>,
}

/// An invite link, as the owner and the admins of the chat see it. Its code is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    pub invite_id: InviteId,
    /// Who made it. It is good for as long as they are owner or admin.
    pub made_by: UserId,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the epoch. Absent when it is good until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
    /// How many users came by it, or asked to.
    #[schema(example = 3)]
    pub uses: u32,
    pub needs_approval: bool,
}

/// Response to `POST /api/chats/{chat}/invites`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedInvite {
    #[serde(flatten)]
    pub invite: Invite,
    /// What the link carries, 128 random bits. It is shown here and never again.
    #[schema(example = "4fT0b0m8Qx2d7cVq1sYw3A")]
    pub code: String,
}

/// `GET /api/invites/{code}`: where a link leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitePreview {
    #[schema(example = "Board games")]
    pub title: String,
    #[schema(example = 42)]
    pub member_count: i64,
    /// Whether an owner or admin decides on who comes by it.
    pub needs_approval: bool,
    /// To a caller who is in the chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<ChatId>,
}

/// That a user asks to join a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    pub chat_id: ChatId,
    pub user_id: UserId,
    /// Milliseconds since the epoch.
    pub requested_at_ms: i64,
}
