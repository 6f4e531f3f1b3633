//! What a caller of this service may meet.

use contracts::ErrorCode;
use kit::error::{InvalidField, ServiceError};

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("registration is by invitation only: ask an administrator for an account")]
    RegistrationClosed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::RegistrationClosed => ErrorCode::PermissionDenied,
            Self::Store(error) => match error {
                StoreError::Taken(_) => ErrorCode::Conflict,
                StoreError::Refused(_) => ErrorCode::InvalidArgument,
                StoreError::Rejected | StoreError::InvalidRefreshToken => ErrorCode::Unauthenticated,
                StoreError::Unreachable { .. } | StoreError::Unable { .. } => ErrorCode::Unavailable,
                StoreError::Misconfigured { .. } | StoreError::Unreadable { .. } => ErrorCode::Internal,
            },
        }
    }
}
