//! What a caller of this service may meet.

use contracts::ErrorCode;
use kit::{auth::TokenError, error::ServiceError};

use crate::{domain::InvalidField, store::StoreError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("chat_id: must be a UUID")]
    InvalidChatId,
    #[error("registration is by invitation only: ask an administrator for an account")]
    RegistrationClosed,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to ask the chat service for a membership")]
    Membership(#[source] tonic::Status),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(_) | Self::InvalidChatId => ErrorCode::InvalidArgument,
            Self::RegistrationClosed => ErrorCode::PermissionDenied,
            Self::Token(error) => error.code(),
            Self::Store(error) => match error {
                StoreError::Taken(_) => ErrorCode::Conflict,
                StoreError::Refused(_) => ErrorCode::InvalidArgument,
                StoreError::Rejected | StoreError::InvalidRefreshToken => ErrorCode::Unauthenticated,
                StoreError::Unreachable { .. } | StoreError::Unable { .. } => ErrorCode::Unavailable,
                StoreError::Misconfigured { .. } | StoreError::Unreadable { .. } => ErrorCode::Internal,
            },
            Self::Membership(_) => ErrorCode::Unavailable,
        }
    }
}
