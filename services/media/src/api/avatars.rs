//! `/api/media/avatars`: the pictures of users.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]

use axum::extract::State;
use chrono::Utc;
use contracts::{
    UserId, api,
    api::{AvatarsRequest, Page, Problem},
};
use kit::{
    auth::Caller,
    error::{ApiError, InvalidField},
    extract::{Json, Path},
};

use super::{
    Files,
    problems::{QueryProblems, RequestProblems},
};
use crate::error::Error;

/// Users of one request.
const MAX_USERS: usize = 100;

/// Returns the picture of a user: the last one that they uploaded for themselves.
///
/// Every user may read it. It is removed like any file: by the one who uploaded it.
#[utoipa::path(
    get,
    path = "/api/media/avatars/{user}",
    operation_id = "get_avatar",
    tag = "avatars",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses(
        (status = OK, description = "The picture", body = api::File),
        (status = NOT_FOUND, description = "not_found (the user has none)", body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(files): State<Files>,
    Path(user_id): Path<UserId>,
) -> Result<Json<api::File>, ApiError> {
    let avatars = files.store.avatars(&[user_id]).await.map_err(Error::from)?;
    let avatar = avatars.first().ok_or(Error::NoAvatar(user_id))?;
    Ok(Json(files.shown(avatar, caller.user_id, Utc::now())?))
}

/// Returns the pictures of users, as a list shows them: of those who have one, in no order. `owner` says whose each is.
#[utoipa::path(
    post,
    path = "/api/media/avatars",
    operation_id = "find_avatars",
    tag = "avatars",
    security(("access_token" = [])),
    request_body = AvatarsRequest,
    responses(
        (status = OK, description = "The pictures, all of them", body = Page<api::File>),
        RequestProblems,
    )
)]
pub(super) async fn find(
    caller: Caller,
    State(files): State<Files>,
    Json(request): Json<AvatarsRequest>,
) -> Result<Json<Page<api::File>>, ApiError> {
    if request.users.len() > MAX_USERS {
        let problem = format!("at most {MAX_USERS} users at a time");
        return Err(InvalidField { field: "users", problem }.into());
    }
    let now = Utc::now();
    let avatars = files.store.avatars(&request.users).await.map_err(Error::from)?;
    let items: Result<Vec<_>, Error> =
        avatars.iter().map(|avatar| files.shown(avatar, caller.user_id, now)).collect();
    Ok(Json(Page { items: items?, next_cursor: None }))
}
