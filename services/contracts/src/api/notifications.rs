//! Bodies of what a user is notified of while no device takes it, and where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use crate::{
    SubscriptionId,
    word::{object, word},
};

/// `POST /api/notifications/subscriptions`: where the caller is notified of messages.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreateSubscriptionRequest {
    /// What a browser returned for `PushManager.subscribe`, with the key of `GET /api/notifications/channels`.
    WebPush(WebPushTarget),
    /// Signed requests to a server of the user.
    Webhook(WebhookTarget),
    /// Mails that sum up what was missed.
    Email(EmailTarget),
    /// An app that Firebase Cloud Messaging reaches.
    Fcm(FcmTarget),
    /// Text messages that say how much was missed. The number counts once its code was confirmed.
    Sms(SmsTarget),
}

/// A subscription as browsers have it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct WebPushTarget {
    /// An https URL on a public address.
    #[schema(schema_with = schema::push_url)]
    pub endpoint: String,
    pub keys: WebPushKeys,
}

object!(WebPushTarget);

/// The keys of such a subscription, in base64url without padding.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct WebPushKeys {
    /// The public key of the browser: a point of P-256, 65 bytes.
    #[schema(schema_with = schema::push_key)]
    pub p256dh: String,
    /// 16 random bytes.
    #[schema(schema_with = schema::push_auth)]
    pub auth: String,
}

object!(WebPushKeys);

/// A server of the user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct WebhookTarget {
    /// An https URL on a public address, without a password.
    #[schema(schema_with = schema::push_url)]
    pub url: String,
}

object!(WebhookTarget);

/// An address of the user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct EmailTarget {
    #[schema(schema_with = schema::email)]
    pub address: String,
}

object!(EmailTarget);

/// An app as Firebase Cloud Messaging knows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct FcmTarget {
    /// What the app received from `FirebaseMessaging.getToken`, in the project of the messenger.
    #[schema(schema_with = schema::registration_token)]
    pub token: String,
}

object!(FcmTarget);

/// A phone of the user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SmsTarget {
    /// In E.164: `+`, the code of the country, and the number, without blanks.
    #[schema(schema_with = schema::phone_number)]
    pub number: String,
}

object!(SmsTarget);

/// How a user is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum NotificationChannel {
    WebPush,
    Webhook,
    Email,
    Fcm,
    Sms,
}

word!(NotificationChannel);

impl NotificationChannel {
    pub const ALL: [Self; 5] = [Self::WebPush, Self::Webhook, Self::Email, Self::Fcm, Self::Sms];

    /// Returns the channel as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebPush => "web_push",
            Self::Webhook => "webhook",
            Self::Email => "email",
            Self::Fcm => "fcm",
            Self::Sms => "sms",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text)
    }
}

/// Where a user is notified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub channel: NotificationChannel,
    /// The host of an endpoint, the address of mails, the number of text messages, or `app`.
    #[schema(example = "push.example")]
    pub name: String,
    /// Nothing is sent to an address or a number before its user confirmed it.
    pub confirmed: bool,
    pub created_at_ms: i64,
    /// Of a new webhook, and never shown again: what its requests are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What the messenger can tell users by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotificationChannels {
    /// The `applicationServerKey` of browsers, in base64url. A browser whose subscription has another one has to subscribe again: nothing reaches it.
    pub web_push_key: String,
    /// Whether the messenger sends mails.
    pub email: bool,
    /// Whether it reaches apps by Firebase Cloud Messaging.
    pub fcm: bool,
    /// Whether it sends text messages.
    pub sms: bool,
}

/// `POST /api/notifications/confirmations`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmSubscriptionRequest {
    /// The token of the link in the mail.
    #[schema(schema_with = schema::subscription_token)]
    pub token: String,
}

/// `POST /api/notifications/subscriptions/{subscription}/confirmation`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmNumberRequest {
    /// The code of the text message.
    #[schema(schema_with = schema::confirmation_code)]
    pub code: String,
}

/// Of what a user is notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum NotificationLevel {
    /// Of every message.
    #[default]
    All,
    /// Of messages that call the user, and of direct chats.
    Mentions,
    /// Of nothing.
    None,
}

word!(NotificationLevel);

impl NotificationLevel {
    pub const ALL: [Self; 3] = [Self::All, Self::Mentions, Self::None];

    /// Returns the level as it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mentions => "mentions",
            Self::None => "none",
        }
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// Of what and when a user is notified. A chat that is muted (`PATCH /api/chats/{chat}/me`) tells nothing, whatever this says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationPreferences {
    pub level: NotificationLevel,
    /// Whether notifications have the text of the message. A mail and a text message never have.
    pub shows_text: bool,
    /// When nothing is sent. What was missed then, and still is, is sent behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
}

impl Default for NotificationPreferences {
    fn default() -> Self {
        Self { level: NotificationLevel::All, shows_text: true, quiet: None }
    }
}

/// Hours of every day. One that ends before it begins lasts over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct QuietHours {
    /// `22:00`
    #[schema(schema_with = schema::time_of_day)]
    pub from: String,
    /// The same time as `from` is never.
    #[schema(schema_with = schema::time_of_day)]
    pub to: String,
    /// A name of the IANA database, such as `Europe/Moscow`.
    #[schema(schema_with = schema::time_zone)]
    pub time_zone: String,
}

object!(QuietHours);
