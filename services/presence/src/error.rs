//! What a caller of this service may meet.

use contracts::{ErrorCode, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};
use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
    #[error("failed to query the user service for whom users show their presence to")]
    Users(#[source] Box<Status>),
    #[error("failed to query the chat service for users who share a chat")]
    Chats(#[source] Box<Status>),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::Unreadable(_) => ErrorCode::InvalidArgument,
            Self::Users(_) | Self::Chats(_) => ErrorCode::Unavailable,
        }
    }
}
