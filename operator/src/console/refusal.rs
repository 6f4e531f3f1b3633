//! What the console itself refuses, in the form of the API server's own refusals.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Why a call does not reach the API server, or its response does not come back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "a bearer token of Kubernetes is required, for example of `kubectl create token ACCOUNT -n NAMESPACE`"
    )]
    NoToken,
    #[error("a page of another address called; only the console's own page may")]
    CrossSite,
    #[error("the console makes no such call; use kubectl")]
    NotForwarded,
    #[error("the query is not one of this call: {0}")]
    Query(String),
    #[error("the console makes as many calls as it may at this moment; call again in a second")]
    Busy,
    #[error("the caller watches as much at once as one caller may; close another window of the console")]
    TooManyWatches,
    #[error("what is to be watched cannot be: {0}")]
    Watch(String),
    #[error("the caller may not watch {0} any more")]
    Revoked(String),
    #[error("the call took too long to arrive or to be answered; call again")]
    Late,
    #[error("the content type of a change is application/apply-patch+yaml or application/merge-patch+json")]
    ContentType,
    #[error(
        "the API server is not reached: {0}; call again, and look at the log of the console if it stays so"
    )]
    Unreachable(String),
}

impl Refusal {
    /// Returns the status, and the reason as Kubernetes names it.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::CrossSite | Self::Revoked(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotForwarded => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Busy | Self::TooManyWatches => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "Timeout"),
            Self::Query(_) | Self::Watch(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::Unreachable(_) => (StatusCode::BAD_GATEWAY, "ServiceUnavailable"),
        }
    }

    /// Returns it as Kubernetes words refusals.
    pub(super) fn body(&self) -> Value {
        let (status, reason) = self.status();
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status.as_u16(),
            "message": format!("console: {self}")})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, _) = self.status();
        let head = [(header::CACHE_CONTROL, "no-store")];
        let mut response = (status, head, Json(self.body())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
