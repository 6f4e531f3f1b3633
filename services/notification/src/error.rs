//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ErrorCode, SubscriptionId, convert::UnreadableField};
use kit::{
    error::{InvalidField, ServiceError},
    mail::MailError,
};

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The same for one of another user.
    #[error("subscription {0} not found")]
    NotFound(SubscriptionId),
    #[error("the link is not good, or not any more")]
    NoLink,
    #[error("this messenger sends no mails")]
    NoMail,
    #[error("mails to confirm addresses were requested too often: wait")]
    TooManyMails { wait: Duration },
    #[error("the mail server takes no mail for this address ({0}): see whether it is right")]
    AddressRefused(u16),
    #[error("failed to send a mail")]
    Mail(#[source] MailError),
    #[error("failed to query the {peer} service")]
    Peer { peer: &'static str, source: Box<tonic::Status> },
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotFound(_) | Self::NoLink => ErrorCode::NotFound,
            Self::NoMail => ErrorCode::NotConfigured,
            Self::TooManyMails { .. } => ErrorCode::RateLimited,
            Self::AddressRefused(_) => ErrorCode::Conflict,
            Self::Mail(_) | Self::Peer { .. } => ErrorCode::Unavailable,
            Self::Unreadable(_) => ErrorCode::Internal,
            Self::Store(error) => match error {
                StoreError::TooMany => ErrorCode::LimitReached,
                StoreError::Subscriptions(source)
                | StoreError::Preferences(source)
                | StoreError::Position(source)
                | StoreError::Apply { source, .. }
                | StoreError::List(source)
                | StoreError::Jobs(source)
                | StoreError::Erase(source) => kit::postgres::code(source),
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyMails { wait } => Some(*wait),
            _ => None,
        }
    }
}
