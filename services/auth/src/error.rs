//! What a caller of this service may meet.

use std::{sync::Arc, time::Duration};

use contracts::{ErrorCode, UserId};
use kit::{
    error::{InvalidField, ServiceError, whole_seconds},
    log::LogError,
    mail::MailError,
    traces::Outcome,
};

use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    #[error("registration is by invitation only: ask an administrator for an account")]
    RegistrationClosed,
    #[error("failed to call the user service")]
    Users(#[source] Box<tonic::Status>),
    /// Of this user.
    #[error("the session has ended, or its refresh token was used before: sign in again")]
    SessionOver(UserId),
    /// The same for a session of another user.
    #[error("you have no such session: it has ended, or is not yours")]
    NoSession,
    #[error("there is no such identity provider: GET /api/auth/providers lists them")]
    NoProvider,
    #[error("this browser has begun no such sign-in, or too long ago: begin again")]
    NotBegun,
    #[error(
        "the identity provider gave the username of an account that was deleted, and it is not given out again: have it changed there"
    )]
    NameOfDeleted,
    /// In a form in which no character does anything.
    #[error(
        "the identity provider gave the username {0:.64?}, and a username {rule}: ask an administrator to rename the account",
        rule = kit::catalog::USERNAME_RULE
    )]
    UnusableName(String),
    #[error("this messenger sends no mail: ask an administrator for a new password")]
    NoMail,
    #[error("the link has expired, or another one was sent after it: request another")]
    NoLink,
    #[error("the link was used before: request another if it was not you")]
    LinkUsed,
    /// With this reply.
    #[error("the mail server takes no mail for this address ({0}): see whether it is right")]
    AddressRefused(u16),
    #[error("failed to send a mail")]
    Mail(#[source] MailError),
    #[error("the current password is wrong")]
    WrongPassword,
    #[error(
        "this account has no password, because it signs in with an identity provider: ask an administrator of the messenger to make this change"
    )]
    NoPassword,
    #[error("failed to publish the end of a session")]
    Log(#[source] LogError),
    #[error("the event log did not take the end of a session in time")]
    Unpublished,
    #[error("too many attempts: wait {} s", whole_seconds(*.0))]
    Limited(Duration),
    #[error("too many users sign in at this moment: try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of another request with the same token.
    #[error(transparent)]
    Shared(Arc<Error>),
}

impl Error {
    /// Returns how what was asked for has ended. That too many sign in at one moment is no fault of the one who is turned away.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Busy => Outcome::Failed,
            Self::Shared(error) => error.outcome(),
            error if error.code().is_fault() => Outcome::Failed,
            _ => Outcome::Refused,
        }
    }

    /// Reports whether the realm refused a code.
    pub(crate) fn is_invalid_code(&self) -> bool {
        match self {
            Self::Store(StoreError::InvalidCode) => true,
            Self::Shared(error) => error.is_invalid_code(),
            _ => false,
        }
    }

    /// Returns the user whose session has ended; `None` for all other errors.
    pub(crate) fn user_of_ended_session(&self) -> Option<UserId> {
        match self {
            Self::SessionOver(user_id) => Some(*user_id),
            Self::Shared(error) => error.user_of_ended_session(),
            _ => None,
        }
    }
}

impl ServiceError for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidField(error) => error.code(),
            Self::RegistrationClosed | Self::WrongPassword | Self::NoPassword => ErrorCode::PermissionDenied,
            Self::NoMail => ErrorCode::NotConfigured,
            Self::NoSession | Self::NoProvider | Self::NoLink => ErrorCode::NotFound,
            Self::NameOfDeleted | Self::UnusableName(_) | Self::LinkUsed | Self::AddressRefused(_) => {
                ErrorCode::Conflict
            }
            Self::SessionOver(_) | Self::NotBegun => ErrorCode::Unauthenticated,
            Self::Limited(_) | Self::Busy => ErrorCode::RateLimited,
            Self::Shared(error) => error.code(),
            Self::Users(_) | Self::Log(_) | Self::Unpublished | Self::Mail(_) => ErrorCode::Unavailable,
            Self::Store(error) => match error {
                StoreError::Taken(_) | StoreError::EmailTaken => ErrorCode::Conflict,
                StoreError::Refused(_) => ErrorCode::InvalidArgument,
                StoreError::Rejected
                | StoreError::InvalidCode
                | StoreError::InvalidRefreshToken
                | StoreError::SessionOver => ErrorCode::Unauthenticated,
                StoreError::Unreachable { .. } | StoreError::Unable { .. } | StoreError::Links(_) => {
                    ErrorCode::Unavailable
                }
                StoreError::Misconfigured { .. } | StoreError::Unreadable { .. } => ErrorCode::Internal,
            },
        }
    }
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(wait) => Some(*wait),
            Self::Shared(error) => error.retry_after(),
            Self::InvalidField(_)
            | Self::RegistrationClosed
            | Self::NoSession
            | Self::NoProvider
            | Self::NotBegun
            | Self::NameOfDeleted
            | Self::UnusableName(_)
            | Self::NoMail
            | Self::NoLink
            | Self::LinkUsed
            | Self::AddressRefused(_)
            | Self::Mail(_)
            | Self::WrongPassword
            | Self::NoPassword
            | Self::Busy
            | Self::SessionOver(_)
            | Self::Users(_)
            | Self::Log(_)
            | Self::Unpublished
            | Self::Store(_) => None,
        }
    }
}
