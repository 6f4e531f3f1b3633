//! What a caller of this service may meet.

use std::sync::Arc;

use contracts::{ErrorCode, UserId};
use kit::error::{InvalidField, ServiceError};

use crate::{domain::MAX_CONTACTS, store::StoreError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such receipt, or it is older than 90 days")]
    NoReceipt,
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("user {0} not found")]
    NotFound(UserId),
    #[error("you are not a contact of your own")]
    ContactOfOneself,
    #[error("you have {MAX_CONTACTS} contacts, which is the most: remove one that is not needed")]
    TooManyContacts,
    #[error("your account is deleted")]
    Deleted,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Several requests read together.
    #[error(transparent)]
    Read(#[from] Arc<StoreError>),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotFound(_) | Self::NoReceipt => ErrorCode::NotFound,
            Self::ContactOfOneself => ErrorCode::Conflict,
            Self::TooManyContacts => ErrorCode::LimitReached,
            Self::Deleted => ErrorCode::Unauthenticated,
            Self::Store(error) => code(error),
            Self::Read(error) => code(error),
        }
    }
}

fn code(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::TooLong(_) => ErrorCode::TooLarge,
        // Like an account that is deleted: it opens nothing here.
        StoreError::NameOfDeleted => ErrorCode::Unauthenticated,
        StoreError::TooManySearches => ErrorCode::Unavailable,
        StoreError::Settings { source, .. }
        | StoreError::Contacts { source, .. }
        | StoreError::Ensure { source, .. }
        | StoreError::Update { source, .. }
        | StoreError::Delete { source, .. }
        | StoreError::Words(source)
        | StoreError::Read(source) => kit::postgres::code(source),
    }
}
