//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ChatId, ErrorCode, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};
use tonic::Status;

use crate::store::IndexError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("you are not a member of chat {0}")]
    NotAMember(ChatId),
    #[error("failed to query the chat service for the chats of a user")]
    Chats(#[source] Box<Status>),
    #[error("failed to query the user service for names")]
    Users(#[source] Box<Status>),
    #[error("failed to read from the message service what was found")]
    Messages(#[source] Box<Status>),
    #[error("you search too often: wait")]
    TooOften { wait: Duration },
    #[error("showing what was found was cancelled")]
    Cancelled,
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::Chats(_) | Self::Users(_) | Self::Messages(_) => ErrorCode::Unavailable,
            Self::TooOften { .. } => ErrorCode::RateLimited,
            Self::Unreadable(_) | Self::Cancelled => ErrorCode::Internal,
            Self::Index(error) => match error {
                IndexError::TooManySearches | IndexError::TooSlow | IndexError::Server { .. } => {
                    ErrorCode::Unavailable
                }
                _ => ErrorCode::Internal,
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooOften { wait } => Some(*wait),
            _ => None,
        }
    }
}
