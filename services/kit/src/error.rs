//! From a service's error to what its caller sees.

use std::{error::Error, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contracts::{ErrorCode, api::Problem};
use tonic::Status;

/// An error that a caller may meet.
pub trait ServiceError: Error + Send + Sync + 'static {
    /// Returns the code that the caller branches on.
    fn code(&self) -> ErrorCode;

    /// Returns how long the caller waits before the request is repeated, when that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// A field of a request whose value cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    pub field: &'static str,
    /// What is allowed: "must be 1 to 100".
    pub problem: String,
}

impl ServiceError for InvalidField {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }
}

impl From<InvalidField> for Status {
    fn from(error: InvalidField) -> Self {
        status(error)
    }
}

/// A refusal on its way to the caller.
///
/// A code of the 5xx family shows a fixed text; its cause goes to the log, once, here.
#[derive(Debug)]
pub struct ApiError {
    code: ErrorCode,
    detail: Option<String>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// Returns a refusal whose `detail` the caller may read.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()), retry_after: None }
    }

    /// Adds how long the caller waits before the request is repeated.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Returns a refusal that shows no more than the text of its code.
    pub(crate) fn hidden(code: ErrorCode) -> Self {
        Self { code, detail: None, retry_after: None }
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Returns what the caller reads of this request.
    #[cfg(test)]
    pub(crate) fn detail(&self) -> String {
        self.detail.clone().unwrap_or_default()
    }

    /// Returns the body of the refusal.
    pub fn problem(&self) -> Problem {
        Problem {
            kind: format!("urn:posthouse:error:{}", self.code),
            title: title(self.code).to_owned(),
            status: self.code.http_status(),
            detail: self.detail.clone(),
            code: self.code,
        }
    }
}

impl<E: ServiceError> From<E> for ApiError {
    fn from(error: E) -> Self {
        let code = error.code();
        if code.http_status() < 500 {
            return Self { code, detail: Some(error.to_string()), retry_after: error.retry_after() };
        }
        let cause = chain(&error);
        tracing::error!(%code, cause, "request failed: {cause}");
        Self::hidden(code)
    }
}

/// Returns how many seconds a client is told to wait: whole ones, at least one, and never too few.
pub fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).expect("every code has a valid status");
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code.is_temporary() || self.retry_after.is_some() {
            let seconds = whole_seconds(self.retry_after.unwrap_or_default());
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let detail = error.detail.unwrap_or_else(|| title(error.code).to_owned());
        Self::new(error.code.grpc(), detail)
    }
}

/// Returns the gRPC status of a service error.
pub fn status<E: ServiceError>(error: E) -> Status {
    ApiError::from(error).into()
}

/// Returns an error and its causes on one line: `failed to store: no connection: refused`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Malformed => "The request is not of this protocol",
        ErrorCode::InvalidArgument => "A field has a value that is not allowed",
        ErrorCode::Unauthenticated => "Valid credentials of this tenant are needed",
        ErrorCode::TokenExpired => "The access token has expired",
        ErrorCode::PermissionDenied => "You may not do this",
        ErrorCode::NotAMember => "You are not a member of this chat",
        ErrorCode::ConsentRequired => "A user does not allow this",
        ErrorCode::NotFound => "Not found",
        ErrorCode::NoSuchFile => "The file is not one of yours for this chat, or it is not ready",
        ErrorCode::NotConfigured => "This messenger does not have it",
        ErrorCode::MethodNotAllowed => "This path does not have this method",
        ErrorCode::UnsupportedMediaType => "The body is not of a supported type",
        ErrorCode::Conflict => "This cannot be done as things are",
        ErrorCode::CursorExpired => "This cursor does not count any more; sync without one",
        ErrorCode::LimitReached => "There is no room for it",
        ErrorCode::IdempotencyConflict => "This key was used before with another body",
        ErrorCode::TooLarge => "The request is too large",
        ErrorCode::RateLimited => "Too many requests",
        ErrorCode::SlowMode => "This chat is in slow mode",
        ErrorCode::Unavailable => "Something this service needs is down; try again",
        ErrorCode::Internal => "Internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to read secret table")]
    struct Broken;

    impl ServiceError for Broken {
        fn code(&self) -> ErrorCode {
            ErrorCode::Internal
        }
    }

    #[test]
    fn an_internal_error_reveals_nothing_to_the_caller() {
        let problem = ApiError::from(Broken).problem();
        assert_eq!((problem.status, problem.detail), (500, None));
    }

    #[test]
    fn whoever_knows_how_long_to_wait_says_so() {
        let after = |error: ApiError| error.into_response().headers().get(header::RETRY_AFTER).cloned();
        let slow = || ApiError::new(ErrorCode::SlowMode, "the chat is in slow mode");
        assert_eq!(after(slow().after(Duration::from_millis(2_500))), Some(HeaderValue::from(3)));
        assert_eq!(after(slow().after(Duration::from_secs(2))), Some(HeaderValue::from(2)));
        assert_eq!(after(slow()), None);
        assert_eq!(after(Broken.into()), Some(HeaderValue::from(1)));
    }
}
