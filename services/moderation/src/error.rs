//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ChatId, ErrorCode, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};

use crate::{
    domain::{MAX_ENFORCED_PATTERNS, MAX_ENFORCED_PROGRAM_BYTES},
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("this is for moderators")]
    NotAModerator,
    #[error(
        "sessions of another moderator are not ended here: ban the user, or ask who administers the tenant"
    )]
    OfModerator,
    /// The same for an unknown chat.
    #[error("you are not a member of chat {0}, or there is no such chat")]
    NotAMember(ChatId),
    #[error("there is no message {seq} in chat {chat} that you read")]
    NoMessage { chat: ChatId, seq: i64 },
    /// Such as "report 0190f5a0-...".
    #[error("{0} not found")]
    NotFound(String),
    #[error("there are as many rule sets as there may be, {0}: remove drafts, or sets that are retired")]
    TooManyRuleSets(usize),
    #[error("as many rule sets are enforced as may be, {0}: retire one first")]
    TooManyEnforced(usize),
    #[error(
        "the patterns of all rule sets that are enforced, or were until a day ago, would be too many or too large: {MAX_ENFORCED_PATTERNS} at most, whose programs have {} MiB together; retire a set and wait for a day, or repeat less and use classes of fewer letters in the patterns of another one",
        MAX_ENFORCED_PROGRAM_BYTES >> 20
    )]
    TooLargeTogether,
    #[error(
        "the messenger has no classifier, which a rule of the set names a label of: set spec.moderation.classifier of the tenant"
    )]
    NoClassifier,
    #[error("failed to check what is enforced")]
    Check(#[source] tokio::task::JoinError),
    #[error("the idempotency-key was used for something else")]
    KeyReused,
    #[error("a shadow run is under way: wait until it is done")]
    ShadowBusy,
    #[error("you do this too often: wait")]
    TooOften { wait: Duration },
    #[error("failed to query the {peer} service")]
    Peer { peer: &'static str, source: Box<tonic::Status> },
    #[error(transparent)]
    Unreadable(#[from] UnreadableField),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotAModerator | Self::OfModerator => ErrorCode::PermissionDenied,
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::NoMessage { .. } | Self::NotFound(_) => ErrorCode::NotFound,
            Self::TooManyRuleSets(_) | Self::TooManyEnforced(_) | Self::TooLargeTogether => {
                ErrorCode::LimitReached
            }
            Self::NoClassifier => ErrorCode::NotConfigured,
            Self::KeyReused => ErrorCode::IdempotencyConflict,
            Self::ShadowBusy => ErrorCode::Conflict,
            Self::TooOften { .. } => ErrorCode::RateLimited,
            Self::Peer { .. } => ErrorCode::Unavailable,
            Self::Unreadable(_) | Self::Check(_) => ErrorCode::Internal,
            Self::Store(error) => match error {
                StoreError::Refused(_) => ErrorCode::Conflict,
                StoreError::Record { source, .. }
                | StoreError::Write(source)
                | StoreError::Work(source)
                | StoreError::Read(source) => kit::postgres::code(source),
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooOften { wait } => Some(*wait),
            _ => None,
        }
    }
}
