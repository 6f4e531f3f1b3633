//! Where users are notified, and what is to be sent there.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use contracts::{
    ChatId, SessionId, SubscriptionId, UserId,
    api::{self, CreateSubscriptionRequest, NotificationChannel, WebPushTarget},
};
use kit::{error::InvalidField, mail::Email};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{PhoneNumber, Places, is_of_one_device};

/// Longest endpoint in bytes: those of browsers have a few hundred.
const MAX_URL_BYTES: usize = 1_024;
/// A point of P-256 that is not compressed.
const PUBLIC_KEY_BYTES: usize = 65;
const AUTH_BYTES: usize = 16;
/// Length of what Firebase calls an app: about 160 characters today, and it promises nothing.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 32..=1_024;
/// What an app is shown as: it has no name here.
const APP: &str = "app";

/// Where a user is notified.
#[derive(Clone)]
pub enum Target {
    WebPush {
        endpoint: Url,
        public_key: Vec<u8>,
        auth: Vec<u8>,
        /// The public key of the tenant with which the browser subscribed: its push service takes pushes of no other.
        sender_key: String,
    },
    Webhook {
        url: Url,
        /// What requests are signed with.
        secret: SecretString,
    },
    Email {
        address: Email,
    },
    /// An app, by what Firebase calls it.
    Fcm {
        token: String,
    },
    Sms {
        number: PhoneNumber,
    },
}

/// An endpoint is as good as a password: who has it may send.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.channel().as_str())
    }
}

impl Target {
    /// Reads what a user requests. `sender_key` is the tenant's for browsers, and `secret` that of a webhook.
    pub fn parse(
        request: &CreateSubscriptionRequest,
        sender_key: &str,
        secret: impl FnOnce() -> SecretString,
    ) -> Result<Self, InvalidField> {
        Ok(match request {
            CreateSubscriptionRequest::WebPush(WebPushTarget { endpoint, keys }) => Self::WebPush {
                endpoint: parse_url("web_push.endpoint", endpoint)?,
                public_key: point("web_push.keys.p256dh", &keys.p256dh)?,
                auth: bytes("web_push.keys.auth", &keys.auth, AUTH_BYTES)?,
                sender_key: sender_key.to_owned(),
            },
            CreateSubscriptionRequest::Webhook(target) => {
                Self::Webhook { url: parse_url("webhook.url", &target.url)?, secret: secret() }
            }
            CreateSubscriptionRequest::Email(target) => {
                Self::Email { address: Email::parse("email.address", &target.address)? }
            }
            CreateSubscriptionRequest::Fcm(target) => Self::Fcm { token: parse_token(&target.token)? },
            CreateSubscriptionRequest::Sms(target) => {
                Self::Sms { number: PhoneNumber::parse("sms.number", &target.number)? }
            }
        })
    }

    pub fn channel(&self) -> NotificationChannel {
        match self {
            Self::WebPush { .. } => NotificationChannel::WebPush,
            Self::Webhook { .. } => NotificationChannel::Webhook,
            Self::Email { .. } => NotificationChannel::Email,
            Self::Fcm { .. } => NotificationChannel::Fcm,
            Self::Sms { .. } => NotificationChannel::Sms,
        }
    }

    /// Returns whether it is a device, which is one user's at a time.
    pub fn is_device(&self) -> bool {
        is_of_one_device(self.channel())
    }

    /// Returns the URL, the address, the token or the number, as the store keeps it.
    pub fn endpoint(&self) -> &str {
        match self {
            Self::WebPush { endpoint: url, .. } | Self::Webhook { url, .. } => url.as_str(),
            Self::Email { address } => address.expose(),
            Self::Fcm { token } => token,
            Self::Sms { number } => number.expose(),
        }
    }

    /// Returns the URL that requests go to.
    pub fn url(&self) -> Option<&Url> {
        match self {
            Self::WebPush { endpoint: url, .. } | Self::Webhook { url, .. } => Some(url),
            Self::Email { .. } | Self::Fcm { .. } | Self::Sms { .. } => None,
        }
    }

    /// Returns the tenant's key that a browser subscribed with.
    pub fn sender_key(&self) -> Option<&str> {
        match self {
            Self::WebPush { sender_key, .. } => Some(sender_key),
            Self::Webhook { .. } | Self::Email { .. } | Self::Fcm { .. } | Self::Sms { .. } => None,
        }
    }

    /// Returns the host of an endpoint that a user named.
    pub fn host(&self) -> Option<&str> {
        self.url().and_then(Url::host_str)
    }

    /// Returns what its user knows it by.
    fn name(&self) -> String {
        match (self, self.url()) {
            (_, Some(url)) => url.host_str().unwrap_or_default().to_owned(),
            // A token is as good as a password.
            (Self::Fcm { .. }, None) => APP.to_owned(),
            (_, None) => self.endpoint().to_owned(),
        }
    }
}

/// Reads a URL that is requested later. Whether its host may be reached is checked by who reaches it.
fn parse_url(field: &'static str, text: &str) -> Result<Url, InvalidField> {
    let is_good = |url: &Url| {
        matches!(url.scheme(), "https" | "http")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    let url = Url::parse(text).ok().filter(|url| text.len() <= MAX_URL_BYTES && is_good(url));
    let problem = || format!("must be an https URL of at most {MAX_URL_BYTES} bytes, without a password");
    url.ok_or_else(|| InvalidField { field, problem: problem() })
}

/// Reads what Firebase calls an app.
fn parse_token(text: &str) -> Result<String, InvalidField> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
    if TOKEN_BYTES.contains(&text.len()) && text.bytes().all(is_of_token) {
        return Ok(text.to_owned());
    }
    let problem = format!(
        "must be a registration token of Firebase: {} to {} of A-Z a-z 0-9 : _ -",
        TOKEN_BYTES.start(),
        TOKEN_BYTES.end()
    );
    Err(InvalidField { field: "fcm.token", problem })
}

/// Returns a point of P-256 in its uncompressed form.
fn point(field: &'static str, text: &str) -> Result<Vec<u8>, InvalidField> {
    let point = bytes(field, text, PUBLIC_KEY_BYTES)?;
    let problem = || "must be a point in its uncompressed form, which begins with 0x04".to_owned();
    if point[0] == 4 { Ok(point) } else { Err(InvalidField { field, problem: problem() }) }
}

fn bytes(field: &'static str, text: &str, count: usize) -> Result<Vec<u8>, InvalidField> {
    let read = BASE64_URL_SAFE_NO_PAD.decode(text);
    let problem = || format!("must be {count} bytes in base64url");
    read.ok().filter(|bytes| bytes.len() == count).ok_or_else(|| InvalidField { field, problem: problem() })
}

/// A subscription that a user is about to have.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub id: SubscriptionId,
    pub user_id: UserId,
    /// That of the request. A device is bound to it.
    pub session: SessionId,
    pub target: Target,
    pub created_at: DateTime<Utc>,
}

impl NewSubscription {
    /// Returns the session that it ends with; none where it is the account's.
    pub fn bound_to(&self) -> Option<&SessionId> {
        self.target.is_device().then_some(&self.session)
    }
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub user_id: UserId,
    pub target: Target,
    pub is_confirmed: bool,
    pub created_at: DateTime<Utc>,
}

impl Subscription {
    /// Returns the subscription as its user sees it.
    pub fn shown(&self) -> api::Subscription {
        api::Subscription {
            id: self.id,
            channel: self.target.channel(),
            name: self.target.name(),
            confirmed: self.is_confirmed,
            created_at_ms: self.created_at.timestamp_millis(),
            secret: None,
        }
    }

    /// Returns the subscription with its secret, once.
    pub fn shown_with_secret(&self) -> api::Subscription {
        let secret = match &self.target {
            Target::Webhook { secret, .. } => Some(secret.expose_secret().to_owned()),
            _ => None,
        };
        api::Subscription { secret, ..self.shown() }
    }
}

/// What is to be sent to a subscription. A process has it until its lease ends.
#[derive(Clone, Debug)]
pub struct Job {
    pub subscription: Subscription,
    /// `None` for a digest of all chats.
    pub chat_id: Option<ChatId>,
    /// The last text.
    pub seq: i64,
    pub is_called: bool,
    /// Another one for each time at which there was more to say, and for each job.
    pub version: i64,
    /// How often it was begun, this time included.
    pub attempts: i32,
}

/// Of whom a process sends jobs at this moment, and to where.
#[derive(Clone, Debug, Default)]
pub struct Busy {
    pub users: BTreeMap<UserId, i64>,
    pub hosts: BTreeMap<String, i64>,
}

impl Busy {
    /// Counts those of these subscriptions.
    pub fn with<'a>(subscriptions: impl Iterator<Item = &'a Subscription>) -> Self {
        let mut busy = Self::default();
        for subscription in subscriptions {
            busy.add(subscription);
        }
        busy
    }

    /// Reports whether there is a place for another job.
    pub fn has_place(&self, subscription: &Subscription) -> bool {
        self.has_place_of(subscription, Places::of_process())
    }

    /// Reports the same, where there are so many places of a user and of a host.
    pub fn has_place_of(&self, subscription: &Subscription, places: Places) -> bool {
        let of_user = self.users.get(&subscription.user_id).copied().unwrap_or(0);
        let of_host = subscription.target.host().and_then(|host| self.hosts.get(host)).copied().unwrap_or(0);
        of_user < places.of_user && of_host < places.of_host
    }

    /// Counts one.
    pub fn add(&mut self, subscription: &Subscription) {
        *self.users.entry(subscription.user_id).or_default() += 1;
        if let Some(host) = subscription.target.host() {
            *self.hosts.entry(host.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(request: serde_json::Value) -> Result<Target, InvalidField> {
        let request: CreateSubscriptionRequest = serde_json::from_value(request).unwrap();
        Target::parse(&request, "a key", || "a secret".to_owned().into())
    }

    #[test]
    fn an_endpoint_is_a_plain_url_and_shows_itself_nowhere() {
        let hook = |url: &str| parse(json!({"webhook": {"url": url}}));
        let target = hook("https://hooks.example/a?b=c").unwrap();
        assert_eq!(target.name(), "hooks.example");
        assert_eq!(format!("{target:?}"), "Target(webhook)");
        let long = format!("https://hooks.example/{}", "a".repeat(MAX_URL_BYTES));
        for bad in [
            "",
            "hooks.example",
            "ftp://hooks.example/",
            "https://ann:pw@hooks.example/",
            "https://a.example/#b",
            &long,
        ] {
            assert!(hook(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_app_is_known_by_a_token_that_is_shown_nowhere() {
        let app = |token: &str| parse(json!({"fcm": {"token": token}}));
        let token = format!("cR4-Ab_9:APA91b{}", "x".repeat(130));
        let target = app(&token).unwrap();
        assert_eq!((target.endpoint(), target.name().as_str()), (token.as_str(), "app"));
        assert_eq!(format!("{target:?}"), "Target(fcm)");
        let (short, long) = ("a".repeat(31), "a".repeat(1_025));
        for bad in ["", &short, &long, &format!("{token}/x"), &format!("{token}\r\n"), &format!("{token}ä")]
        {
            assert!(app(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_keys_of_a_browser_have_their_lengths() {
        let push = |p256dh: &str, auth: &str| {
            let keys = json!({"p256dh": p256dh, "auth": auth});
            parse(json!({"web_push": {"endpoint": "https://push.example/1", "keys": keys}}))
        };
        let key = BASE64_URL_SAFE_NO_PAD.encode([4; 65]);
        let auth = BASE64_URL_SAFE_NO_PAD.encode([1; 16]);
        assert!(push(&key, &auth).is_ok());
        assert!(push(&format!("{key}="), &format!("{auth}==")).is_err(), "browsers do not pad");
        assert!(push(&BASE64_URL_SAFE_NO_PAD.encode([5; 65]), &auth).is_err(), "it is no point");
        assert!(push(&auth, &auth).is_err());
        assert!(push(&key, "not base64url!").is_err());
    }
}
