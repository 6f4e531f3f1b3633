//! How users are notified: one implementation of a trait for each channel.

mod email;
mod fcm;
mod sms;
pub mod web_push;
mod webhook;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::TimeDelta;
use contracts::api::NotificationChannel;
use http::{HeaderMap, StatusCode, header};
use kit::{
    reach::{NotPublic, Reach},
    traces::{Server, sent},
};
use reqwest::{Client, Response};
use tonic::async_trait;
use url::Url;

pub use self::{
    email::EmailChannel,
    fcm::{AccountError, FcmChannel, GOOGLE, ServiceAccount},
    sms::{SmsChannel, SmsHook},
    web_push::{VapidKey, WebPushChannel},
    webhook::{SIGNATURE_HEADER, WebhookChannel},
};
use crate::domain::{DIGEST_EVERY, Digest, Notice, Subscription};

/// A provider that takes longer is tried again later.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait that a provider can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Most that is read of what a provider answers.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// What providers read of who sends.
const USER_AGENT: &str = concat!("Posthouse/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Of one chat.
    Notice(Notice),
    /// Of all chats.
    Digest {
        /// The same for every attempt at one digest.
        id: String,
        digest: Digest,
    },
}

/// One way to tell users.
#[async_trait]
pub trait Channel: Send + Sync + 'static {
    /// Sends, and returns once the provider has it. What is sent again replaces what was sent of the same chat, as far as the channel can.
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError>;

    /// Returns how long after a digest the next one may follow.
    fn digest_every(&self) -> TimeDelta {
        DIGEST_EVERY
    }
}

/// The channels that a tenant has.
pub type Channels = BTreeMap<NotificationChannel, Arc<dyn Channel>>;

/// Why something was not sent. Says nothing of where it was to go: an endpoint is as good as a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The subscription is not there any more, and is forgotten.
    #[error("the endpoint is gone")]
    Gone,
    /// It would be refused again.
    #[error("it was refused: {0}")]
    Refused(String),
    /// It is tried again.
    #[error("the provider is not there at present: {why}")]
    Later { why: String, after: Option<Duration> },
    /// Likewise: the provider is there, and takes nothing for this endpoint at present.
    #[error("the endpoint takes nothing at present: {why}")]
    Limited { why: String, after: Option<Duration> },
    /// Likewise: an administrator of the tenant has to do something first, and no subscription is at fault.
    #[error("what the tenant has set up is not taken: {0}")]
    Misconfigured(String),
}

/// Why there is no response.
enum Unanswered {
    /// The address is not public: no request was made.
    NotPublic,
    /// It is tried again.
    Failed(String),
}

impl From<Unanswered> for SendError {
    /// As it is for an endpoint that a user named.
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NotPublic => Self::Refused(NOT_PUBLIC.to_owned()),
            Unanswered::Failed(why) => Self::Later { why, after: None },
        }
    }
}

impl Unanswered {
    /// Returns what it is for an address that the tenant named.
    fn of_tenant(self, what: &str) -> SendError {
        match self {
            Self::NotPublic => SendError::Misconfigured(format!("{what}: {NOT_PUBLIC}")),
            Self::Failed(why) => SendError::Later { why, after: None },
        }
    }
}

/// Why an address is not requested.
const NOT_PUBLIC: &str = "the address is not an https URL on port 443 of a public address";

/// The way to addresses that users and the tenant named. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    client: Client,
    reach: Reach,
    /// Only a test takes endpoints without TLS.
    allows_plain: bool,
}

impl Outside {
    /// Returns the way to the public Internet.
    ///
    /// # Errors
    ///
    /// There is no TLS on this system.
    pub fn internet() -> Result<Self, reqwest::Error> {
        Self::new(Reach { port: |port| port == 443, ..Reach::internet() }, false)
    }

    /// Returns the way to what may be reached.
    ///
    /// # Errors
    ///
    /// There is no TLS on this system.
    pub fn new(reach: Reach, allows_plain: bool) -> Result<Self, reqwest::Error> {
        let client = reach.client().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT);
        Ok(Self { client: client.timeout(REQUEST_TIMEOUT).build()?, reach, allows_plain })
    }

    /// Reports whether an endpoint may be reached, as far as its URL says.
    pub fn allows(&self, url: &Url) -> bool {
        (url.scheme() == "https" || self.allows_plain)
            && url.port_or_known_default().is_some_and(self.reach.port)
            && self.reach.allows(url)
    }

    /// Posts a body to an endpoint of a user.
    async fn post(&self, to: Server, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<(), SendError> {
        outcome(&self.request(to, url, headers, body).await?)
    }

    /// Posts a body, and returns the response whatever its status is.
    async fn request(
        &self,
        to: Server,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, Unanswered> {
        // What may be reached may be less than when the subscription was made.
        if !self.allows(url) {
            return Err(Unanswered::NotPublic);
        }
        let request = self.client.post(url.clone()).headers(headers).body(body);
        sent(to, "POST", request.send()).await.map_err(|error| match NotPublic::caused(&error) {
            true => Unanswered::NotPublic,
            // The URL does not belong into a log.
            false => Unanswered::Failed(kit::error::chain(&error.without_url())),
        })
    }
}

/// Returns what a response means.
fn outcome(response: &Response) -> Result<(), SendError> {
    let status = response.status();
    let why = || format!("status {}", status.as_u16());
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(SendError::Gone),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Err(SendError::Limited { why: why(), after: retry_after(response.headers()) })
        }
        _ if status.is_server_error() => {
            Err(SendError::Later { why: why(), after: retry_after(response.headers()) })
        }
        // A redirect is one, too: it may lead anywhere.
        _ => Err(SendError::Refused(why())),
    }
}

/// Returns what a response begins with. One that ends early is as good as one that says less.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let left = MAX_ANSWER_BYTES - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
    }
    bytes
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// A payload of another channel came here.
fn misplaced() -> SendError {
    SendError::Refused("the channel does not send this".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_one_endpoint_is_no_outage_of_its_provider() {
        let outcome = |status: u16| {
            let response = http::Response::builder().status(status).header(header::RETRY_AFTER, "7").body("");
            outcome(&Response::from(response.expect("a response")))
        };
        let (why, after) = (|status: u16| format!("status {status}"), Some(Duration::from_secs(7)));
        for status in [408, 425, 429] {
            assert_eq!(outcome(status), Err(SendError::Limited { why: why(status), after }));
        }
        for status in [500, 502, 503, 504] {
            assert_eq!(outcome(status), Err(SendError::Later { why: why(status), after }));
        }
    }
}
