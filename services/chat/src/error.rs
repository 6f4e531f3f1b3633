//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ChatId, ErrorCode, MessageKey, UserId};
use kit::error::ServiceError;

use crate::{
    domain::{InvalidChat, Refusal},
    store::StoreError,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidChat(#[from] InvalidChat),
    /// The same for an unknown chat: a user who is not in it does not learn that it exists.
    #[error("you are not a member of chat {0}, or there is no such chat")]
    NotAMember(ChatId),
    #[error("you have no scheduled message {key} in chat {chat_id}: it was sent or cancelled, or never was")]
    NotScheduled { chat_id: ChatId, key: MessageKey },
    #[error("user {0} not found")]
    UnknownUser(UserId),
    #[error("you cannot block yourself")]
    BlockOfOneself,
    #[error("your account is deleted")]
    CallerDeleted,
    #[error("the change of chat {0} is made and not yet in the event log")]
    Unpublished(ChatId),
    #[error("you change chats too often: wait")]
    TooManyChanges { wait: Duration },
    #[error("you join chats too often: wait")]
    TooManyJoins { wait: Duration },
    #[error("you change drafts too often: wait")]
    TooManyDrafts { wait: Duration },
    #[error("you try too many invite links that are not good: wait")]
    TooManyGuesses { wait: Duration },
    #[error("failed to query the user service")]
    Users(#[source] Box<tonic::Status>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Store(refusal.into())
    }
}

impl Error {
    /// Returns whether there is no such invite link for the caller.
    pub fn is_no_invite(&self) -> bool {
        matches!(self, Self::Store(StoreError::Refused(Refusal::NoSuchInvite)))
    }
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidChat(InvalidChat::DirectWithOneself) | Self::BlockOfOneself => ErrorCode::Conflict,
            Self::InvalidChat(_) => ErrorCode::InvalidArgument,
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::UnknownUser(_) | Self::NotScheduled { .. } => ErrorCode::NotFound,
            Self::CallerDeleted => ErrorCode::Unauthenticated,
            Self::TooManyChanges { .. }
            | Self::TooManyJoins { .. }
            | Self::TooManyDrafts { .. }
            | Self::TooManyGuesses { .. } => ErrorCode::RateLimited,
            Self::Unpublished(_) | Self::Users(_) => ErrorCode::Unavailable,
            Self::Store(error) => match error {
                StoreError::Refused(refusal) => match refusal {
                    Refusal::NotAMember(_) => ErrorCode::NotAMember,
                    Refusal::DirectIsFixed
                    | Refusal::RoleTooLow(_)
                    | Refusal::RemovedLately
                    | Refusal::MayNotWrite => ErrorCode::PermissionDenied,
                    Refusal::NoSuchInvite | Refusal::NoSuchRequest(_) => ErrorCode::NotFound,
                    Refusal::Unwanted(_) => ErrorCode::ConsentRequired,
                    Refusal::OwnerStays | Refusal::InviteRevoked => ErrorCode::Conflict,
                    Refusal::Full
                    | Refusal::TooManyChats(_)
                    | Refusal::TooManyAdded
                    | Refusal::TooManyBlocks
                    | Refusal::TooManyDrafts
                    | Refusal::TooManyScheduled
                    | Refusal::TooManyCalled
                    | Refusal::TooManyInvites
                    | Refusal::TooManyRequests
                    | Refusal::TenantFull => ErrorCode::LimitReached,
                    Refusal::TooManyChatsLately { .. } | Refusal::TooManySent { .. } => {
                        ErrorCode::RateLimited
                    }
                    Refusal::SlowMode { .. } => ErrorCode::SlowMode,
                    Refusal::TimeIsPast | Refusal::TooFarAhead => ErrorCode::Conflict,
                    Refusal::KeyReused | Refusal::InviteKeyReused | Refusal::ScheduledKeyReused => {
                        ErrorCode::IdempotencyConflict
                    }
                },
                StoreError::Create { source, .. }
                | StoreError::Change { source, .. }
                | StoreError::Block { source, .. }
                | StoreError::Restrict { source, .. }
                | StoreError::Requests(source)
                | StoreError::Position(source)
                | StoreError::Read(source) => kit::postgres::code(source),
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyChanges { wait }
            | Self::TooManyJoins { wait }
            | Self::TooManyDrafts { wait }
            | Self::TooManyGuesses { wait }
            | Self::Store(StoreError::Refused(
                Refusal::TooManyChatsLately { wait, .. }
                | Refusal::TooManySent { wait }
                | Refusal::SlowMode { wait },
            )) => Some(*wait),
            _ => None,
        }
    }
}
