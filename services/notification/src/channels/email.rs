//! Mails that sum up what was missed.

use std::sync::Arc;

use kit::mail::{MailError, Mailer};
use tonic::async_trait;

use super::{Channel, Content, SendError, misplaced};
use crate::{
    api::Tokens,
    domain::{Subscription, Target, digest_mail},
};

/// The channel of mails.
pub struct EmailChannel {
    mailer: Arc<Mailer>,
    /// The tenant's address.
    origin: String,
    tokens: Tokens,
}

impl EmailChannel {
    pub fn new(mailer: Arc<Mailer>, origin: String, tokens: Tokens) -> Self {
        Self { mailer, origin, tokens }
    }
}

#[async_trait]
impl Channel for EmailChannel {
    async fn send(&self, to: &Subscription, content: &Content) -> Result<(), SendError> {
        let (Target::Email { address }, Content::Digest { digest, .. }) = (&to.target, content) else {
            return Err(misplaced());
        };
        let mail = digest_mail(digest, &self.origin, &self.tokens.ending(to.id));
        self.mailer.send(address, mail).await.map_err(|error| match error {
            MailError::NoSuchAddress(_) => SendError::Gone,
            // It may be of the sender: then every address would be forgotten.
            MailError::Refused(_) | MailError::Unwritable => SendError::Refused(error.to_string()),
            error => SendError::Later { why: error.to_string(), after: None },
        })
    }
}
