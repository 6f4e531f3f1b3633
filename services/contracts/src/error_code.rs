//! The closed set of error codes that clients meet, over REST, gRPC and WebSocket alike.

use std::fmt;

use serde::{Deserialize, Serialize};
use tonic::Code;
use utoipa::ToSchema;

/// Why a request was refused. Stable: a client may branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The bytes are not a frame or a body of this protocol.
    Malformed,
    /// A field has a value that is not allowed.
    InvalidArgument,
    /// The token or password is missing, wrong, or of another tenant.
    Unauthenticated,
    /// The token was good once; get a new one and repeat.
    TokenExpired,
    /// The caller may not do this here. A message is refused so in a channel of which the caller is a plain member, once the other user has left the direct chat, or while a block is
    /// between the two.
    PermissionDenied,
    /// The caller is not in this chat, or there is no such chat.
    NotAMember,
    /// A user whom this concerns does not let the caller do it, or not yet again.
    ConsentRequired,
    /// Not found.
    NotFound,
    /// A file that a message is to carry is not one that the caller uploaded for this chat, or not one that is ready.
    NoSuchFile,
    /// The messenger does not have this: its administrators would have to set it up.
    NotConfigured,
    /// The path is there, and does not have this method.
    MethodNotAllowed,
    /// The body has a content type or encoding that is not read here.
    UnsupportedMediaType,
    /// It cannot be done as things are: it exists already, changed meanwhile, or the caller cannot do it to themselves. `detail` says
    /// which.
    Conflict,
    /// The cursor of `sync` is too old, or of another user: sync without one.
    CursorExpired,
    /// There are as many chats or members as there may be. `detail` says which of them, and what makes room.
    LimitReached,
    /// The idempotency key was used before with another body.
    IdempotencyConflict,
    /// The frame or body is larger than allowed.
    TooLarge,
    /// Too many requests; wait before repeating.
    RateLimited,
    /// The chat is in slow mode, and the caller has sent a message lately. Nothing else has to wait, and it is for the user to send it again.
    SlowMode,
    /// Something this service needs is down; repeat later.
    Unavailable,
    /// A fault of ours; the log has the cause.
    Internal,
}

impl ErrorCode {
    /// All codes, in the order of their declaration.
    pub const ALL: [Self; 21] = [
        Self::Malformed,
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::PermissionDenied,
        Self::NotAMember,
        Self::ConsentRequired,
        Self::NotFound,
        Self::NoSuchFile,
        Self::NotConfigured,
        Self::MethodNotAllowed,
        Self::UnsupportedMediaType,
        Self::Conflict,
        Self::CursorExpired,
        Self::LimitReached,
        Self::IdempotencyConflict,
        Self::TooLarge,
        Self::RateLimited,
        Self::SlowMode,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Returns the code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::PermissionDenied => "permission_denied",
            Self::NotAMember => "not_a_member",
            Self::ConsentRequired => "consent_required",
            Self::NotFound => "not_found",
            Self::NoSuchFile => "no_such_file",
            Self::NotConfigured => "not_configured",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Conflict => "conflict",
            Self::CursorExpired => "cursor_expired",
            Self::LimitReached => "limit_reached",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::SlowMode => "slow_mode",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Returns the HTTP status that carries this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Malformed | Self::InvalidArgument => 400,
            Self::Unauthenticated | Self::TokenExpired => 401,
            Self::PermissionDenied | Self::NotAMember | Self::ConsentRequired => 403,
            Self::NotFound | Self::NoSuchFile | Self::NotConfigured => 404,
            Self::CursorExpired => 410,
            Self::MethodNotAllowed => 405,
            Self::UnsupportedMediaType => 415,
            Self::Conflict | Self::LimitReached => 409,
            Self::IdempotencyConflict => 422,
            Self::TooLarge => 413,
            Self::RateLimited | Self::SlowMode => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// Returns the gRPC status that carries this code.
    pub const fn grpc(self) -> Code {
        match self {
            Self::Malformed | Self::InvalidArgument | Self::UnsupportedMediaType | Self::TooLarge => {
                Code::InvalidArgument
            }
            Self::MethodNotAllowed => Code::Unimplemented,
            Self::Unauthenticated | Self::TokenExpired => Code::Unauthenticated,
            Self::PermissionDenied | Self::NotAMember | Self::ConsentRequired => Code::PermissionDenied,
            Self::NotFound | Self::NoSuchFile => Code::NotFound,
            Self::Conflict | Self::IdempotencyConflict => Code::AlreadyExists,
            Self::CursorExpired | Self::NotConfigured => Code::FailedPrecondition,
            Self::LimitReached | Self::RateLimited | Self::SlowMode => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }

    /// Returns whether the messenger is at fault, and not who asked.
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Unavailable | Self::Internal)
    }

    /// Returns whether the same request may succeed later without a change.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_the_serialized_form() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("json"), code.as_str());
        }
    }
}
