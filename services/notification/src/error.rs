//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ErrorCode, SubscriptionId, convert::UnreadableField};
use kit::{
    error::{InvalidField, ServiceError},
    mail::MailError,
};
use tonic::Code;

use crate::{channels::SendError, store::StoreError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The same for one of another user.
    #[error("subscription {0} not found")]
    NotFound(SubscriptionId),
    #[error("the link is not good, or not any more")]
    NoLink,
    #[error("this messenger sends no {0}")]
    NoChannel(&'static str),
    #[error("mails to confirm addresses were requested too often: wait")]
    TooManyMails { wait: Duration },
    #[error("the mail server takes no mail for this address ({0}): see whether it is right")]
    AddressRefused(u16),
    #[error("failed to send a mail")]
    Mail(#[source] MailError),
    #[error("too many codes were sent to confirm this number, or numbers of yours: wait")]
    TooManyCodes { wait: Duration },
    #[error("it is not the code that was sent: {left} attempts are left")]
    WrongCode { left: i32 },
    #[error(
        "there is no code that is good: it has ended, or was tried too often. Subscribe the number again to be sent another one"
    )]
    NoCode,
    #[error("no text message can be sent to this number: see whether it is right")]
    NumberRefused,
    #[error("failed to send a text message")]
    TextMessage(#[source] SendError),
    #[error("failed to query the {peer} service")]
    Peer { peer: &'static str, source: Box<tonic::Status> },
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
    /// Nothing is done on its word.
    #[error("the auth service said of sessions what is no answer: {0}")]
    NoAnswer(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Returns whether another service or the store does not answer, which says nothing of what was asked. Other errors are answers, and the same one
    /// comes again: a user has more chats than an answer has room for.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            // The last two are what the transport says of a call that was cut off.
            Self::Peer { source, .. } => matches!(
                source.code(),
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Unauthenticated
                    | Code::Cancelled
                    | Code::Unknown
            ),
            Self::Store(_) => true,
            _ => false,
        }
    }
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotFound(_) | Self::NoLink => ErrorCode::NotFound,
            Self::NoChannel(_) => ErrorCode::NotConfigured,
            Self::TooManyMails { .. } | Self::TooManyCodes { .. } => ErrorCode::RateLimited,
            Self::AddressRefused(_) | Self::NumberRefused | Self::NoCode => ErrorCode::Conflict,
            Self::WrongCode { .. } => ErrorCode::PermissionDenied,
            Self::Mail(_) | Self::TextMessage(_) | Self::Peer { .. } => ErrorCode::Unavailable,
            Self::Unreadable(_) | Self::NoAnswer(_) => ErrorCode::Internal,
            Self::Store(error) => match error {
                StoreError::TooMany => ErrorCode::LimitReached,
                StoreError::SessionOver => ErrorCode::Unauthenticated,
                StoreError::Subscriptions(source)
                | StoreError::Preferences(source)
                | StoreError::Position(source)
                | StoreError::Apply { source, .. }
                | StoreError::List(source)
                | StoreError::Sessions(source)
                | StoreError::Jobs(source)
                | StoreError::Erase(source) => kit::postgres::code(source),
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyMails { wait } | Self::TooManyCodes { wait } => Some(*wait),
            _ => None,
        }
    }
}
