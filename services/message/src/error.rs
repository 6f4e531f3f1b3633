//! Why a request is refused.

use std::sync::Arc;

use contracts::{ChatId, ErrorCode, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};

use crate::{store::StoreError, sync::CURSOR_LIFETIME};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("you are not a member of chat {0}")]
    NotAMember(ChatId),
    #[error("chat {chat} has no entry {seq} that you read")]
    NoEntry { chat: ChatId, seq: i64 },
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("failed to query the chat service for a membership")]
    Membership(#[source] Box<tonic::Status>),
    #[error("the chat service answered a membership that cannot be read")]
    UnreadableMembership(#[from] UnreadableField),
    #[error("failed to read the history of chat {chat}")]
    History { chat: ChatId, source: Arc<StoreError> },
    #[error("the cursor is not one of yours, or older than {} days: sync without a cursor", CURSOR_LIFETIME.as_secs() / 86_400)]
    CursorExpired,
    #[error("failed to read what a user wrote")]
    OwnTexts(#[source] StoreError),
    #[error("failed to read entries by their places")]
    Entries(#[source] StoreError),
    #[error("failed to sync the chats of a user")]
    Sync(#[source] StoreError),
    #[error("failed to note what a user has read of chat {chat}")]
    Mark { chat: ChatId, source: StoreError },
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::NoEntry { .. } => ErrorCode::NotFound,
            Self::InvalidField(error) => error.code(),
            Self::UnreadableMembership(_) => ErrorCode::Internal,
            Self::CursorExpired => ErrorCode::CursorExpired,
            Self::Membership(_)
            | Self::History { .. }
            | Self::OwnTexts(_)
            | Self::Entries(_)
            | Self::Sync(_)
            | Self::Mark { .. } => ErrorCode::Unavailable,
        }
    }
}
