//! Requests to the identity provider.

use crate::tls::Untrusted;

/// A request to the identity provider got no response, or none that could be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the identity provider is not trusted: {why}")]
    Untrusted { why: Untrusted, source: reqwest::Error },
    #[error(transparent)]
    Other(reqwest::Error),
}

impl From<reqwest::Error> for IdentityError {
    fn from(error: reqwest::Error) -> Self {
        match Untrusted::of(&error) {
            Some(why) => Self::Untrusted { why, source: error },
            None => Self::Other(error),
        }
    }
}
