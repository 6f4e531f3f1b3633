//! What a caller of this service may meet.

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
            Self::Chats(_) => ErrorCode::Unavailable,
            Self::Unreadable(_) => ErrorCode::Internal,
            Self::Index(error) => match error {
                IndexError::TooManySearches | IndexError::TooSlow => ErrorCode::Unavailable,
                _ => ErrorCode::Internal,
            },
        }
    }
}
