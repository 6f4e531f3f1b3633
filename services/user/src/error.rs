//! What a caller of this service may meet.

use contracts::{ErrorCode, UserId};
use kit::error::{InvalidField, ServiceError};

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("user {0} not found")]
    NotFound(UserId),
    #[error("your account is deleted")]
    Deleted,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Deleted => ErrorCode::Unauthenticated,
            Self::Store(error) => match error {
                StoreError::TooLong(_) => ErrorCode::TooLarge,
                StoreError::Settings { source, .. }
                | StoreError::Ensure { source, .. }
                | StoreError::Update { source, .. }
                | StoreError::Delete { source, .. }
                | StoreError::Read(source) => kit::postgres::code(source),
            },
        }
    }
}
