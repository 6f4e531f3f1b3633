//! Why a request is refused.

use contracts::{ChatId, ErrorCode, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};

use crate::store::StoreError;

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
    History { chat: ChatId, source: StoreError },
    #[error("failed to read heads")]
    Heads(#[source] StoreError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::NoEntry { .. } => ErrorCode::NotFound,
            Self::InvalidField(error) => error.code(),
            Self::UnreadableMembership(_) => ErrorCode::Internal,
            Self::Membership(_) | Self::History { .. } | Self::Heads(_) => ErrorCode::Unavailable,
        }
    }
}
