//! Requests to servers of users, signed so that the server knows who sent them and when.

use http::HeaderMap;
pub use kit::hook::SIGNATURE_HEADER;
use kit::traces::Server;
use secrecy::SecretString;
use tonic::async_trait;

use super::{Channel, Content, Outside, SendError, misplaced};
use crate::domain::{Subscription, Target};

/// The channel of webhooks.
pub struct WebhookChannel {
    outside: Outside,
}

impl WebhookChannel {
    pub fn new(outside: Outside) -> Self {
        Self { outside }
    }
}

#[async_trait]
impl Channel for WebhookChannel {
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError> {
        let (Target::Webhook { url, secret }, Content::Notice(notice)) = (&to.target, content) else {
            return Err(misplaced());
        };
        let body = serde_json::to_vec(notice).map_err(|_| misplaced())?;
        let id = format!("{}.{}.{}", to.id, notice.chat, notice.seq);
        self.outside.post(Server::Webhook, url, signed(secret, &id, &body)?, body).await
    }
}

/// Returns the headers of a request with JSON whose receiver has the same secret.
pub(super) fn signed(secret: &SecretString, id: &str, body: &[u8]) -> Result<HeaderMap, SendError> {
    kit::hook::signed(secret, id, body).map_err(|_| misplaced())
}
