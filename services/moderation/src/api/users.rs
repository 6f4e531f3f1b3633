//! `/api/moderation/users/{user}/sessions`: where a user is signed in.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use contracts::{
    SessionId, UserId,
    api::{Page, UserSession},
};
use kit::{
    clock::now_ms,
    error::ApiError,
    extract::{Json, Path},
};

use super::{
    callers::{Moderators, PacedModerator},
    noted,
    problems::{NotAModerator, NotThere, QueryProblems},
};
use crate::{error::Error, peers::Peers, store::ModerationStore};

/// Lists the sessions of a user that go on, the last used one first.
///
/// Of more than 200 those are listed that were used last. There is never a `next_cursor`. A user who is not known has none. The audit log has who looked.
#[utoipa::path(
    get,
    path = "/api/moderation/users/{user}/sessions",
    operation_id = "list_user_sessions",
    tag = "users",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses((status = OK, description = "The sessions", body = Page<UserSession>), NotAModerator, QueryProblems)
)]
pub(super) async fn list_sessions(
    PacedModerator(by): PacedModerator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(peers): State<Peers>,
    Path(user): Path<UserId>,
) -> Result<Json<Page<UserSession>>, ApiError> {
    // When a user was there is theirs: no moderator looks unseen.
    let note = noted("sessions_read", user, by, Some(user), now_ms());
    store.act(&[note]).await.map_err(Error::from)?;
    Ok(Json(Page { items: peers.sessions(user).await?, next_cursor: None }))
}

/// Ends a session of a user.
///
/// It ends as at a sign-out: it gives no more tokens, its connections are closed with 3505 within 5 seconds, and the user may sign in again. It is `not_found`
/// once it has ended. After `unavailable` repeat the request. It is `permission_denied` for a session of another moderator.
#[utoipa::path(
    delete,
    path = "/api/moderation/users/{user}/sessions/{session}",
    operation_id = "end_user_session",
    tag = "users",
    security(("access_token" = [])),
    params(
        ("user" = UserId, Path, description = "User id"),
        ("session" = String, Path, min_length = 1, max_length = 128, pattern = "^[0-9A-Za-z-]+$",
            description = "Id of a session, as it is listed")
    ),
    responses(
        (status = NO_CONTENT, description = "The session has ended"),
        NotAModerator,
        NotThere,
        QueryProblems,
    )
)]
pub(super) async fn end_session(
    PacedModerator(by): PacedModerator,
    State(moderators): State<Moderators>,
    State(store): State<Arc<dyn ModerationStore>>,
    State(peers): State<Peers>,
    Path((user, session)): Path<(UserId, SessionId)>,
) -> Result<StatusCode, ApiError> {
    // Who was signed out again and again could not stop the one who does it.
    if user != by && moderators.names(user, peers.username(user).await?.as_deref()) {
        return Err(Error::OfModerator.into());
    }
    let sessions = peers.sessions(user).await?;
    if !sessions.iter().any(|listed| listed.session_id == session.as_str()) {
        return Err(Error::NotFound(format!("session {session} of user {user}")).into());
    }
    // Before it is done, in another service: nothing is done that is not noted.
    let note = noted("session_ended", &session, by, Some(user), now_ms());
    store.act(&[note]).await.map_err(Error::from)?;
    peers.end_session(user, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}
