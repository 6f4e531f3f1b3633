//! Text messages, by a hook of the tenant: it knows a provider, and Posthouse knows none.

use chrono::TimeDelta;
use http::StatusCode;
use kit::traces::Server;
use secrecy::SecretString;
use serde_json::json;
use tonic::async_trait;
use url::Url;

use super::{Channel, Content, Outside, SendError, misplaced, outcome, webhook::signed};
use crate::domain::{PhoneNumber, Subscription, Target, digest_text};

/// The hook. Cheap to clone.
#[derive(Clone)]
pub struct SmsHook {
    outside: Outside,
    url: Url,
    key: SecretString,
}

impl SmsHook {
    /// Returns the hook at a URL, whose requests are signed with a key.
    pub fn new(outside: Outside, url: Url, key: SecretString) -> Self {
        Self { outside, url, key }
    }

    /// Hands a text message over. `id` is the same for every attempt at one.
    ///
    /// # Errors
    ///
    /// [`SendError::Refused`] when the hook takes no message for this number, and never [`SendError::Gone`]: the hook is of all numbers.
    pub async fn send(&self, id: &str, to: &PhoneNumber, text: &str) -> Result<(), SendError> {
        let body = json!({"id": id, "to": to.expose(), "text": text}).to_string().into_bytes();
        let headers = signed(&self.key, id, &body)?;
        let sent = self.outside.request(Server::Sms, &self.url, headers, body).await;
        let response = sent.map_err(|unanswered| unanswered.of_tenant("spec.notifications.sms.url"))?;
        let status = response.status();
        match (status, outcome(&response)) {
            (_, sent @ (Ok(()) | Err(SendError::Later { .. } | SendError::Limited { .. }))) => sent,
            (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, _) => {
                Err(SendError::Refused(format!("status {}", status.as_u16())))
            }
            _ => Err(SendError::Misconfigured(format!(
                "the hook of spec.notifications.sms answers with status {}",
                status.as_u16()
            ))),
        }
    }
}

/// The channel of text messages.
pub struct SmsChannel {
    hook: SmsHook,
    /// The tenant's address.
    origin: String,
    every: TimeDelta,
}

impl SmsChannel {
    /// Returns the channel, which sends a user a text message in so long.
    pub fn new(hook: SmsHook, origin: String, every: TimeDelta) -> Self {
        Self { hook, origin, every }
    }
}

#[async_trait]
impl Channel for SmsChannel {
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError> {
        let (Target::Sms { number }, Content::Digest { id, digest }) = (&to.target, content) else {
            return Err(misplaced());
        };
        self.hook.send(id, number, &digest_text(digest, &self.origin)).await
    }

    fn digest_every(&self) -> TimeDelta {
        self.every
    }
}
