//! What can go wrong with a command or an upgrade.

use std::{sync::Arc, time::Duration};

use contracts::{ChatId, ErrorCode, FileId, convert::UnreadableField, event::EntryKind};
use kit::{error::ServiceError, log::LogError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("the caller is not in chat {chat}")]
    NotAMember { chat: ChatId },
    #[error("the other user of direct chat {chat} has left it, or a block has closed it")]
    NoRecipient { chat: ChatId },
    #[error("moderators let the caller write nothing in chat {chat}")]
    Restricted { chat: ChatId },
    #[error("the caller is a plain member of channel {chat}")]
    ReadsOnly { chat: ChatId },
    #[error("a member of chat {chat} waits between two messages")]
    SlowMode { chat: ChatId, wait: Duration },
    #[error("chat {chat} has no message {seq} that the caller may speak of")]
    NoTarget { chat: ChatId, seq: i64 },
    #[error("message {seq} of chat {chat} is another user's")]
    NotTheirs { chat: ChatId, seq: i64 },
    #[error("message {seq} of chat {chat} is as the caller wants it")]
    NoChange { chat: ChatId, seq: i64, kind: EntryKind },
    #[error("message {seq} of chat {chat} has as many changes as it may have")]
    TooManyChanges { chat: ChatId, seq: i64, kind: EntryKind },
    #[error("chat {chat} has no message {seq} that the caller may forward")]
    NoSource { chat: ChatId, seq: i64 },
    #[error("chat {chat} has as many pinned messages as it may have")]
    TooManyPins { chat: ChatId },
    #[error("too many members of chat {chat} have the roles that are called")]
    TooManyCalled { chat: ChatId },
    #[error("a message to chat {chat} carries a file that its sender may not send there")]
    NoSuchFile { chat: ChatId },
    #[error("the tenant has no media service, and a message to chat {chat} carries a file")]
    NoMedia { chat: ChatId },
    #[error("failed to query the media service for chat {chat}")]
    Media { chat: ChatId, source: Arc<tonic::Status> },
    #[error("the media service answered something else of file {file} than what it is")]
    File { file: FileId, source: UnreadableField },
    #[error("failed to query the chat service for chat {chat}")]
    Membership { chat: ChatId, source: Arc<tonic::Status> },
    #[error("failed to query the message service for chat {chat}")]
    History { chat: ChatId, source: Arc<tonic::Status> },
    #[error("the message service answered an entry of chat {chat} that cannot be read")]
    Entry { chat: ChatId, source: UnreadableField },
    #[error("chat {chat} has no entry {seq} that the caller reads")]
    NoEntry { chat: ChatId, seq: i64 },
    #[error("the cursor does not count any more")]
    CursorExpired,
    #[error("failed to query the message service for the chats of a user")]
    Sync { source: Arc<tonic::Status> },
    #[error("the message service answered a sync that cannot be read")]
    SyncPage { source: UnreadableField },
    #[error("the log did not take a record of chat {chat}")]
    Produce { chat: ChatId, source: LogError },
}

impl ServiceError for GatewayError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotAMember { .. } => ErrorCode::NotAMember,
            Self::NoRecipient { .. }
            | Self::Restricted { .. }
            | Self::ReadsOnly { .. }
            | Self::NotTheirs { .. } => ErrorCode::PermissionDenied,
            Self::NoTarget { .. } | Self::NoEntry { .. } | Self::NoSource { .. } => ErrorCode::NotFound,
            Self::NoSuchFile { .. } => ErrorCode::NoSuchFile,
            Self::NoMedia { .. } => ErrorCode::NotConfigured,
            Self::SlowMode { .. } => ErrorCode::SlowMode,
            Self::CursorExpired => ErrorCode::CursorExpired,
            Self::NoChange { .. } => ErrorCode::Conflict,
            Self::TooManyChanges { .. } | Self::TooManyPins { .. } | Self::TooManyCalled { .. } => {
                ErrorCode::LimitReached
            }
            Self::Membership { .. }
            | Self::History { .. }
            | Self::Media { .. }
            | Self::Sync { .. }
            | Self::Produce { .. } => ErrorCode::Unavailable,
            Self::Entry { .. } | Self::SyncPage { .. } | Self::File { .. } => ErrorCode::Internal,
        }
    }
}
