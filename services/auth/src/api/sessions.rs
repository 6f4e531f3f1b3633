//! `/api/auth/sign-in`, `/refresh`, `/sign-out` and `/sessions`: sessions.

use axum::{extract::State, http::StatusCode};
use contracts::{
    SessionId,
    api::{AuthSession, Page, Problem, RefreshRequest, SignInRequest, Tokens},
};
use kit::{
    auth::Caller,
    docs::{BodyProblems, CallerProblems, FaultProblems, QueryProblems},
    error::ApiError,
    extract::{ClientAddress, Json, Path},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    deletions::Deletions,
    domain::{self, Credentials, Grant, Session},
    error::Error,
    guard::Guard,
    metrics::{Metrics, Way},
    store::StoreError,
};

/// Sessions in the response to a list.
pub(super) const MAX_LISTED: usize = 200;

/// Signs in with a username and a password.
///
/// The username is taken in any case and with spaces around it, and both with letters composed or not (NFC). An unknown
/// username, a wrong password and an account that the realm has blocked are refused alike. After five wrong passwords for one
/// username from one address, or a hundred from one address, a sign-in there is `rate_limited` for as long as `retry-after`
/// says; from other addresses the account is not held up.
#[utoipa::path(
    post,
    path = "/api/auth/sign-in",
    tag = "sessions",
    request_body = SignInRequest,
    responses(
        (status = OK, description = "Tokens of a new session", body = Tokens),
        (status = UNAUTHORIZED, description = "unauthenticated", body = Problem,
            content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn sign_in(
    State(accounts): State<Guard>,
    State(metrics): State<Metrics>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<SignInRequest>,
) -> Result<Json<Tokens>, ApiError> {
    let credentials = Credentials::parse(request).map_err(Error::from)?;
    let grant = metrics.sign_in(Way::Password, accounts.sign_in(address, &credentials)).await?;
    Ok(Json(grant.into()))
}

/// Exchanges a refresh token for new tokens of the same session.
///
/// A refresh token is good for one refresh, and the response has the next one. Requests with the same token within ten
/// seconds receive the same tokens, so that windows of one client may refresh at once and a lost response may be fetched
/// again. Used later, it was stolen, or its thief was first: the session ends, and its connections are closed. Sign in again.
#[utoipa::path(
    post,
    path = "/api/auth/refresh",
    tag = "sessions",
    request_body = RefreshRequest,
    responses(
        (status = OK, description = "New tokens", body = Tokens),
        (status = UNAUTHORIZED, description = "unauthenticated (sign in again)", body = Problem,
            content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn refresh(
    State(accounts): State<Guard>,
    State(deletions): State<Deletions>,
    State(metrics): State<Metrics>,
    Json(request): Json<RefreshRequest>,
) -> Result<Json<Tokens>, ApiError> {
    let token = refresh_token(request)?;
    let refreshed = metrics.sign_in(Way::Refresh, accounts.refresh(&token)).await;
    if let Some(user_id) = refreshed.as_ref().err().and_then(Error::user_of_ended_session) {
        deletions.look_after(user_id).await?;
    }
    Ok(Json(refreshed?.into()))
}

/// Ends the session of a refresh token; ending it again is answered the same way.
///
/// Its connections are closed with 3505 within 5 seconds, and its access tokens open no other. REST requests with them are
/// served until they expire, which is soon. Other sessions of the user go on. After `unavailable` repeat the request: the
/// session gives no more tokens, and its connections may be open still.
#[utoipa::path(
    post,
    path = "/api/auth/sign-out",
    tag = "sessions",
    request_body = RefreshRequest,
    responses(
        (status = NO_CONTENT, description = "The session has ended"),
        (status = UNAUTHORIZED, description = "unauthenticated (not a refresh token of this realm)",
            body = Problem, content_type = "application/problem+json"),
        BodyProblems,
        FaultProblems,
    )
)]
pub(super) async fn sign_out(
    State(accounts): State<Guard>,
    Json(request): Json<RefreshRequest>,
) -> Result<StatusCode, ApiError> {
    accounts.sign_out(&refresh_token(request)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<&Caller> for Session {
    fn from(caller: &Caller) -> Self {
        Self { user_id: caller.user_id, id: caller.session.clone() }
    }
}

/// Lists the caller's sessions that go on, the last used one first.
///
/// A session begins with a sign-in, and its refreshes go on with it: usually there is one for each device. Of more than 200 those are
/// listed that were used last. There is never a `next_cursor`.
#[utoipa::path(
    get,
    path = "/api/auth/sessions",
    operation_id = "list_sessions",
    tag = "sessions",
    security(("access_token" = [])),
    responses(
        (status = OK, description = "The sessions", body = Page<AuthSession>),
        CallerProblems,
        FaultProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(accounts): State<Guard>,
) -> Result<Json<Page<AuthSession>>, ApiError> {
    let caller = Session::from(&caller);
    let sessions = accounts.sessions(&caller).await?.into_iter().take(MAX_LISTED);
    let items = sessions.map(|session| AuthSession {
        is_current: session.id == caller.id,
        session_id: session.id.to_string(),
        started_at_ms: session.started_at_ms,
        last_used_at_ms: session.last_used_at_ms,
    });
    Ok(Json(Page { items: items.collect(), next_cursor: None }))
}

/// Ends one of the caller's sessions.
///
/// It ends as at a sign-out: it gives no more tokens, its connections are closed with 3505 within 5 seconds, and its access tokens
/// open no other. After `unavailable` repeat the request; it is `not_found` once the session has ended.
#[utoipa::path(
    delete,
    path = "/api/auth/sessions/{session}",
    operation_id = "end_session",
    tag = "sessions",
    security(("access_token" = [])),
    params((
        "session" = String, Path, min_length = 1, max_length = 128, pattern = "^[0-9A-Za-z-]+$",
        description = "Id of a session, as it is listed"
    )),
    responses(
        (status = NO_CONTENT, description = "The session has ended"),
        (status = NOT_FOUND, description = "not_found (the caller has no such session; it may have ended)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn end(
    caller: Caller,
    State(accounts): State<Guard>,
    Path(session): Path<SessionId>,
) -> Result<StatusCode, ApiError> {
    let caller = Session::from(&caller);
    accounts.end(&caller, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all of the caller's sessions but the one of this request's access token.
///
/// Each ends as at a sign-out. After `unavailable` repeat the request: some have ended.
#[utoipa::path(
    delete,
    path = "/api/auth/sessions",
    operation_id = "end_other_sessions",
    tag = "sessions",
    security(("access_token" = [])),
    responses(
        (status = NO_CONTENT, description = "The caller has no other session"),
        CallerProblems,
        FaultProblems,
    )
)]
pub(super) async fn end_others(
    caller: Caller,
    State(accounts): State<Guard>,
) -> Result<StatusCode, ApiError> {
    let caller = Session::from(&caller);
    accounts.end_others(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refresh_token(request: RefreshRequest) -> Result<SecretString, Error> {
    domain::refresh_token(request.refresh_token).ok_or(Error::Store(StoreError::InvalidRefreshToken))
}

impl From<Grant> for Tokens {
    fn from(grant: Grant) -> Self {
        Self {
            access_token: grant.access_token.expose_secret().to_owned(),
            expires_in_seconds: grant.expires_in_seconds,
            refresh_token: grant.refresh_token.expose_secret().to_owned(),
            refresh_expires_in_seconds: grant.refresh_expires_in_seconds,
        }
    }
}
