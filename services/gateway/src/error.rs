//! What can go wrong with a command or an upgrade.

use std::sync::Arc;

use contracts::{ChatId, ErrorCode, convert::UnreadableField};
use kit::{error::ServiceError, log::LogError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("the caller is not in chat {chat}")]
    NotAMember { chat: ChatId },
    #[error("the other user of direct chat {chat} has left it")]
    NoRecipient { chat: ChatId },
    #[error("failed to query the chat service for chat {chat}")]
    Membership { chat: ChatId, source: Arc<tonic::Status> },
    #[error("failed to query the message service for chat {chat}")]
    History { chat: ChatId, source: Arc<tonic::Status> },
    #[error("the message service answered an entry of chat {chat} that cannot be read")]
    Entry { chat: ChatId, source: UnreadableField },
    #[error("the log did not take a record of chat {chat}")]
    Produce { chat: ChatId, source: LogError },
}

impl ServiceError for GatewayError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotAMember { .. } => ErrorCode::NotAMember,
            Self::NoRecipient { .. } => ErrorCode::PermissionDenied,
            Self::Membership { .. } | Self::History { .. } | Self::Produce { .. } => ErrorCode::Unavailable,
            Self::Entry { .. } => ErrorCode::Internal,
        }
    }
}
