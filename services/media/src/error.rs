//! What a caller of this service may meet.

use std::time::Duration;

use contracts::{ChatId, ErrorCode, FileId, UserId, convert::UnreadableField};
use kit::error::{InvalidField, ServiceError};

use crate::{
    objects::ObjectError,
    store::{Refusal, StoreError},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The same for a file that the caller may not read, which a stranger cannot tell from one that is not there.
    #[error("file {0} not found")]
    NotFound(FileId),
    #[error("the link is not good, or not any more: get another one with the file")]
    NoLink,
    #[error("user {0} has no picture")]
    NoAvatar(UserId),
    /// The same for an unknown chat.
    #[error("you are not a member of chat {0}, or there is no such chat")]
    NotAMember(ChatId),
    #[error("you may not send to chat {0}")]
    MayNotSend(ChatId),
    #[error("the picture of chat {0} is for its owner and admins, and a direct chat has none")]
    NotAManager(ChatId),
    #[error("nothing was uploaded yet: send the file with the request in `upload`, and complete it then")]
    NotUploaded,
    #[error(
        "part {first} is missing or has another size than it must have, and so have {others} others: `upload` has them"
    )]
    PartsMissing { first: u16, others: usize },
    #[error(
        "the file is attached to a message, or the picture of a chat: delete the message, or change the picture"
    )]
    InUse,
    #[error("you begin uploads too often: wait")]
    TooManyUploads { wait: Duration },
    #[error("too many files are being sent at present")]
    TooManyStreams,
    #[error("the link is not followed, or leads to nothing that can be shown")]
    NoPreview,
    #[error("too many links are being followed at present")]
    PreviewsBusy,
    #[error("you have links followed too often: wait")]
    TooManyPreviews { wait: Duration },
    #[error("your account is deleted")]
    CallerDeleted,
    #[error("failed to query the {peer} service")]
    Peer { peer: &'static str, source: Box<tonic::Status> },
    #[error("failed to read the answer of a service")]
    Unreadable(#[from] UnreadableField),
    #[error("the content of file {0} is missing from the object store")]
    ContentMissing(FileId),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Store(refusal.into())
    }
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::NotFound(_) | Self::NoLink | Self::NoAvatar(_) | Self::NoPreview => ErrorCode::NotFound,
            Self::NotAMember(_) => ErrorCode::NotAMember,
            Self::MayNotSend(_) | Self::NotAManager(_) => ErrorCode::PermissionDenied,
            Self::NotUploaded | Self::PartsMissing { .. } | Self::InUse => ErrorCode::Conflict,
            Self::CallerDeleted => ErrorCode::Unauthenticated,
            Self::TooManyUploads { .. } | Self::TooManyPreviews { .. } => ErrorCode::RateLimited,
            Self::TooManyStreams | Self::PreviewsBusy | Self::Peer { .. } => ErrorCode::Unavailable,
            Self::ContentMissing(_) | Self::Unreadable(_) => ErrorCode::Internal,
            Self::Objects(error) => error.code(),
            Self::Store(error) => match error {
                StoreError::Refused(refusal) => match refusal {
                    Refusal::FileTooLarge(_)
                    | Refusal::PictureTooLarge
                    | Refusal::AvatarTooLarge
                    | Refusal::UserFull(_)
                    | Refusal::TenantFull
                    | Refusal::TooManyFree => ErrorCode::LimitReached,
                    Refusal::KeyReused => ErrorCode::IdempotencyConflict,
                },
                StoreError::Create { source, .. }
                | StoreError::Change { source, .. }
                | StoreError::Apply { source, .. }
                | StoreError::Remove(source)
                | StoreError::Position(source)
                | StoreError::Read(source) => kit::postgres::code(source),
            },
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyUploads { wait } | Self::TooManyPreviews { wait } => Some(*wait),
            _ => None,
        }
    }
}
