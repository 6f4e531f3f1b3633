//! REST bodies, shared with clients written in Rust.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    files::{
        AvatarsRequest, CreateFileRequest, File, FileLinks, FilePurpose, FileRefusal, FileState, FileUpload,
        PartsUpload, UploadPart, WholeUpload,
    },
    joining::{
        CreateInviteRequest, CreatedInvite, Invite, InvitePreview, JoinRequest, MAX_INVITE_SECONDS,
        MAX_INVITE_USES, PublicChat, Visibility,
    },
    moderation::{
        Appeal, AppealState, AttachmentsRule, AuditEntry, ClassifierRule, CreateAppealRequest,
        CreateReportRequest, CreateRuleSetRequest, CreateSanctionRequest, DecideAppealRequest,
        DecideReportRequest, Decision, Evidence, Figures, LiftRequest, LinksRule, NamedModerator,
        OwnModeration, PatternRule, RateRule, Report, ReportReason, ReportState, Rule, RuleAction,
        RuleFigures, RuleSet, RuleSetState, RuleTest, Sample, Sanction, SanctionKind, SanctionTerms,
        ShadowRequest, ShadowRun, ShadowState, TenantUsage, UserSession, WordsRule,
    },
    notifications::{
        ConfirmNumberRequest, ConfirmSubscriptionRequest, CreateSubscriptionRequest, EmailTarget, FcmTarget,
        NotificationChannel, NotificationChannels, NotificationLevel, NotificationPreferences, QuietHours,
        SmsTarget, Subscription, WebPushKeys, WebPushTarget, WebhookTarget,
    },
    own::{MAX_DRAFT_BYTES, MUTED_FOR_GOOD_MS, SetDraft, UpdateOwnChatStateRequest},
    previews::{LinkPicture, LinkPreview, PreviewRequest},
    scheduled::{MAX_AHEAD_SECONDS, MAX_SCHEDULED, RescheduleRequest, ScheduleRequest, ScheduledMessage},
    schema::{FOUNDED_MEMBERS, TypedUsername},
    search::{
        ExcerptPart, FoundChat, FoundChats, FoundFile, FoundMessage, FoundMessages, FoundUser, FoundUsers,
        SearchStatus,
    },
};
pub use crate::own::{Draft, OwnChatState};
use crate::{
    ChatId, UserId,
    event::{ChatKind, Role},
    wire::Message,
    word::{object, whole, whole_or_null, word},
};

mod files;
mod joining;
mod moderation;
mod notifications;
mod own;
mod previews;
mod scheduled;
mod schema;
mod search;

/// `POST /api/auth/register`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// 3 to 32 of `a-z 0-9 . _ -`, starting with a letter. Capitals, full-width letters and spaces around it are mapped.
    #[schema(schema_with = schema::new_username)]
    pub username: String,
    /// At least 8 characters, at most 256 bytes of UTF-8, no control characters; the realm's policy decides. Composed and
    /// decomposed letters are the same. Not the username. The schema allows what is short enough in any script.
    #[schema(schema_with = schema::new_password)]
    pub password: String,
    /// 1 to 64 characters on one line, of which one is visible, without bidirectional formatting; the username when absent.
    #[schema(schema_with = schema::display_name)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    pub user_id: UserId,
    pub username: String,
}

/// `POST /api/auth/sign-in`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInRequest {
    /// In any case, spaces around it do not count.
    #[schema(schema_with = schema::username)]
    pub username: String,
    /// At most 256 bytes of UTF-8.
    #[schema(schema_with = schema::password)]
    pub password: String,
}

/// `POST /api/auth/refresh` and `POST /api/auth/sign-out`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// What the last sign-in or refresh gave.
    #[schema(schema_with = schema::refresh_token)]
    pub refresh_token: String,
}

/// `POST /api/auth/change-password`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    /// At most 256 bytes of UTF-8.
    #[schema(schema_with = schema::password)]
    pub current_password: String,
    /// At least 8 characters, at most 256 bytes of UTF-8, no control characters; the realm's policy decides. Composed and
    /// decomposed letters are the same. Not the username. The schema allows what is short enough in any script.
    #[schema(schema_with = schema::new_password)]
    pub new_password: String,
}

/// The password is changed, and all other sessions have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PasswordChanged {
    /// The confirmed address to which a link for a new password is sent. Clients show it: who knew the password of before may have
    /// confirmed one of their own, and `PUT /api/auth/email` puts that of the user in its place. Absent when no link is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// An external identity provider that users may sign in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthProvider {
    /// As in `/api/auth/login/{alias}`.
    pub alias: String,
    /// What users read on the button.
    pub display_name: String,
}

/// `POST /api/auth/login`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginCodeRequest {
    /// The `login_code` that the browser came back with.
    #[schema(min_length = 1, max_length = 1024, pattern = "^[A-Za-z0-9._~-]+$")]
    pub code: String,
}

/// `POST /api/auth/password/forgot`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgotPasswordRequest {
    /// In any case.
    #[schema(schema_with = schema::email)]
    pub email: String,
}

/// `POST /api/auth/password/reset`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPasswordRequest {
    /// From the link.
    #[schema(schema_with = schema::link_token)]
    pub token: String,
    /// As `new_password` of a change.
    #[schema(schema_with = schema::new_password)]
    pub password: String,
}

/// `PUT /api/auth/email`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEmailRequest {
    /// In ASCII, in any case.
    #[schema(schema_with = schema::email)]
    pub email: String,
    /// At most 256 bytes of UTF-8.
    #[schema(schema_with = schema::password)]
    pub current_password: String,
}

/// `POST /api/auth/email/confirm`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmEmailRequest {
    /// From the link.
    #[schema(schema_with = schema::link_token)]
    pub token: String,
}

/// The e-mail address of the caller's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnEmailAddress {
    /// Absent when the account has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The user has shown that they read mail there. A link for a new password is sent to no other address.
    pub is_confirmed: bool,
}

/// The account is deleted, or its deletion goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountDeleted {
    /// Shows at `GET /api/users/erasures/{receipt}` what is erased and when, without an account, for 90 days. It is given here and
    /// nowhere else.
    pub receipt: ReceiptToken,
}

/// A receipt: it cannot be guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptToken(pub String);

impl utoipa::PartialSchema for ReceiptToken {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        schema::link_token().into()
    }
}

impl ToSchema for ReceiptToken {}

/// What of a deleted account is erased. It names no user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErasureReceipt {
    /// Milliseconds since the epoch, like all times here.
    pub began_at_ms: i64,
    /// Absent while a part is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    /// Until then the receipt is shown.
    pub shown_until_ms: i64,
    pub parts: Vec<ErasurePart>,
}

/// One part of what a messenger keeps about a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErasurePart {
    pub part: ErasedPart,
    pub state: ErasureState,
    /// When it was erased, or when it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
    /// How many chats or blocks there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
}

/// What is erased: the `profile` with settings and contacts, of which the username stays, so that it is not given out again; the
/// `account` with password, e-mail address and links to identity providers; its `sessions`; its places in `chats`, and requests to join;
/// `blocks` by and of the user; when it was `last_seen`; and `messages`, which stay with those whom they were written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasedPart {
    Profile,
    Account,
    Sessions,
    Chats,
    Blocks,
    LastSeen,
    Messages,
}

/// How far a part has come: `erased`, `pending` (it is done by itself), `expires` (by itself, shown to no user), or `kept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureState {
    Erased,
    Pending,
    Expires,
    Kept,
}

/// A session of the caller that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthSession {
    pub session_id: String,
    /// When it was signed in, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// When it was signed in or refreshed last, in milliseconds since the epoch.
    pub last_used_at_ms: i64,
    /// The session of the access token that the request came with.
    pub is_current: bool,
}

/// Response to a sign-in or a refresh.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// For `authorization: Bearer` and for `connect`. REST requests with it are served until it expires, also after the session
    /// has ended; connections end with the session.
    pub access_token: String,
    /// Refresh when a fifth of it is left, or 30 seconds, whichever is more.
    pub expires_in_seconds: i64,
    /// Good for one refresh: the response has the next one.
    pub refresh_token: String,
    /// The session ends when it is not refreshed for this long.
    pub refresh_expires_in_seconds: i64,
}

/// A user as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserProfile {
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
    /// Free text, at most 500 characters.
    pub about: String,
    /// Until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<UserStatus>,
    /// The account is deleted. The username stays, and is not given out again; nothing else is left of the profile.
    #[serde(default)]
    pub deleted: bool,
}

/// Who may add a user to a group, or open a direct chat with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ContactableBy {
    /// Every user of the tenant.
    #[default]
    Everyone,
    /// Users who are in a chat with them.
    SharedChats,
    /// No one. Chats in which they are go on, and they open chats themselves.
    Nobody,
}

word!(ContactableBy);

impl ContactableBy {
    /// Returns the setting as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::SharedChats => "shared_chats",
            Self::Nobody => "nobody",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Everyone, Self::SharedChats, Self::Nobody].into_iter().find(|of| of.as_str() == text)
    }
}

/// What a user is doing at present: a text, an emoji, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// Milliseconds since the epoch. Without it the status stays until it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

/// Who sees when a user is online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum PresenceVisibleTo {
    /// Every user of the tenant.
    #[default]
    Everyone,
    /// Users who are in a chat with them.
    SharedChats,
    /// Users whom they have in their contacts.
    Contacts,
    /// No one.
    Nobody,
}

word!(PresenceVisibleTo);

impl PresenceVisibleTo {
    /// Returns the setting as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::SharedChats => "shared_chats",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Everyone, Self::SharedChats, Self::Contacts, Self::Nobody];
        all.into_iter().find(|of| of.as_str() == text)
    }
}

/// A user as they see themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnProfile {
    #[serde(flatten)]
    pub profile: UserProfile,
    /// Who may add this user to a group, or open a direct chat with them. Others do not see it.
    pub contactable_by: ContactableBy,
    /// Who sees when this user is online. Others do not see it.
    #[serde(default)]
    pub presence_visible_to: PresenceVisibleTo,
    /// Whether others learn what this user has read. Others do not see the setting.
    #[serde(default = "yes")]
    pub read_receipts: bool,
}

const fn yes() -> bool {
    true
}

/// `PATCH /api/users/me`: absent fields stay.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateProfileRequest {
    /// 1 to 64 characters on one line, of which one is visible, without bidirectional formatting.
    #[schema(schema_with = schema::display_name)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// At most 500 characters, without bidirectional formatting. Every line break becomes LF.
    #[schema(schema_with = schema::about)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contactable_by: Option<ContactableBy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_visible_to: Option<PresenceVisibleTo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_receipts: Option<bool>,
    /// Replaces the status as a whole; one with neither text nor emoji removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<SetStatus>,
}

/// A status as it is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SetStatus {
    /// 1 to 100 characters on one line, of which one is visible, without bidirectional formatting.
    #[schema(schema_with = schema::status_text)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// One emoji, of at most 16 characters. The schema allows some of them.
    #[schema(schema_with = schema::emoji)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// For how long it is shown, at most a year; until it is changed when absent.
    #[schema(minimum = 1, maximum = 31_536_000)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub expires_in_seconds: Option<u32>,
}

object!(SetStatus);

/// What clients of one user share between their devices, and the messenger does not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Counts the changes; 0 before the first one. A change names the version that it was made from.
    #[schema(minimum = 0)]
    #[serde(deserialize_with = "whole")]
    pub version: i64,
    /// A JSON object of at most 64 KiB, at most 100 deep, without U+0000. Numbers are those of I-JSON (RFC 7493), and the order of the
    /// fields is not kept.
    #[schema(value_type = schema::SettingsObject)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// The refusal of settings that were made from another version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsConflict {
    #[serde(flatten)]
    pub problem: Problem,
    /// What is stored, to merge with.
    pub current: Settings,
}

/// `PUT /api/users/me/contacts/{user}`
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutContactRequest {
    /// The caller's own name for the user, which no one else sees: 1 to 64 characters on one line, of which one is visible,
    /// without bidirectional formatting. Absent: none.
    #[schema(schema_with = schema::display_name)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A user in the caller's contacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contact {
    /// The profile at present, that of a deleted account too.
    pub profile: UserProfile,
    /// The caller's own name for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Milliseconds since the epoch.
    pub added_at_ms: i64,
}

/// One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What members who are added to a group read of its history. Founding members read all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum HistoryAccess {
    /// From the entry that adds them.
    #[default]
    FromEntry,
    /// From the first entry of the group.
    All,
}

word!(HistoryAccess);

/// `POST /api/chats`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateChatRequest {
    pub kind: ChatKind,
    /// Not of direct chats, and needed elsewhere: 1 to 128 characters on one line, of which one is visible, without bidirectional
    /// formatting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Not of direct chats: what members who are added later read. When absent, `from_entry` in a group and `all` in a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryAccess>,
    /// Not of direct chats: who finds it and joins it. `private` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// The others: exactly one for a direct chat, at most 999 for a group or a channel. The caller is always a member.
    pub members: Vec<UserId>,
}

impl CreateChatRequest {
    /// Returns the request for the direct chat with another user.
    pub fn direct(other: UserId) -> Self {
        Self { kind: ChatKind::Direct, title: None, history: None, visibility: None, members: vec![other] }
    }

    /// Returns the request for a group with others.
    pub fn group(title: impl Into<String>, others: Vec<UserId>) -> Self {
        Self {
            kind: ChatKind::Group,
            title: Some(title.into()),
            history: None,
            visibility: None,
            members: others,
        }
    }

    /// Returns the request for a channel with others.
    pub fn channel(title: impl Into<String>, others: Vec<UserId>) -> Self {
        Self { kind: ChatKind::Channel, ..Self::group(title, others) }
    }
}

/// Longest slow mode of a chat in seconds.
pub const MAX_SLOW_MODE_SECONDS: u32 = 3600;

/// Shortest time after which texts of a chat disappear, in seconds.
pub const MIN_TTL_SECONDS: u32 = 60;
/// Longest, a year.
pub const MAX_TTL_SECONDS: u32 = 31_536_000;

/// `PATCH /api/chats/{chat}`: absent fields stay.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateChatRequest {
    /// 1 to 128 characters on one line, of which one is visible, without bidirectional formatting.
    #[schema(schema_with = schema::new_title)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the group is for: at most 500 characters, without bidirectional formatting. Every line break becomes LF. An empty one
    /// removes it.
    #[schema(schema_with = schema::about)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What members who are added from now on read. What a present member reads stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryAccess>,
    /// Who finds the group and joins it. The owner alone changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// How long a plain member waits after a message before the next one; 0 ends it.
    #[schema(minimum = 0, maximum = 3600)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub slow_mode_seconds: Option<u32>,
    /// How long after it was sent a text disappears, from now on: 60 seconds to a year, or 0 for never. In a direct chat either of the two
    /// changes it.
    #[schema(schema_with = schema::ttl_seconds)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub message_ttl_seconds: Option<u32>,
    /// The id of a picture, 1 to 128 of `A-Z a-z 0-9 _ -`, which the messenger does not read. An empty one removes it.
    #[schema(max_length = 128, pattern = "^[A-Za-z0-9_-]*$")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Chat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What a group is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Absent in a direct chat: what members who are added read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryAccess>,
    /// Who finds it and joins it; always `private` of a direct chat.
    #[serde(default)]
    pub visibility: Visibility,
    /// How long a plain member waits after a message before the next one; 0 for not at all. Owners and admins do not wait.
    #[serde(default)]
    pub slow_mode_seconds: u32,
    /// How long after it was sent a text disappears; 0 for never.
    #[serde(default)]
    pub message_ttl_seconds: u32,
    /// The id of the picture of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// The caller's role.
    pub role: Role,
    /// How the caller has the chat.
    #[serde(default)]
    pub own: OwnChatState,
    /// 1 in a direct chat that the other user has left: no message can be sent until it is created again.
    pub member_count: i64,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatMember {
    pub user_id: UserId,
    pub role: Role,
}

/// `POST /api/chats/{chat}/members`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMembersRequest {
    /// Users of this tenant. One who is named twice is added once.
    #[schema(min_items = 1, max_items = 500)]
    pub user_ids: Vec<UserId>,
}

/// Most users whom one request adds to a chat that is there.
pub const ADDED_MEMBERS: usize = 500;

/// Response to `POST /api/chats/{chat}/members`: all others are in the chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedMembers {
    pub refused: Vec<RefusedMember>,
}

/// A user who was not added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedMember {
    pub user_id: UserId,
    /// `not_found` or `consent_required`.
    pub code: crate::ErrorCode,
}

/// `PUT /api/chats/{chat}/members/{user}`: adds the member or changes the role.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutMemberRequest {
    pub role: Role,
}

/// A user whom the caller blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    pub user_id: UserId,
    /// Milliseconds since the epoch.
    pub blocked_at_ms: i64,
}

/// `GET /api/messages/{chat}`
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MessagePage {
    pub messages: Vec<Message>,
    /// The newest seq of the chat.
    pub head_seq: i64,
    /// The first seq that the caller reads: 1, or the one of the entry that added them. Nothing before it is a gap.
    pub from_seq: i64,
}

/// The body of every refusal, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:posthouse:error:<code>`
    #[serde(rename = "type")]
    pub kind: String,
    /// Human-readable text, the same for every problem of this code.
    pub title: String,
    pub status: u16,
    /// What is wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub code: crate::ErrorCode,
}
