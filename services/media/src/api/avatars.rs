//! `/api/media/avatars`: the pictures of users.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]

use axum::extract::State;
use chrono::Utc;
use contracts::{UserId, api, api::Problem};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path},
};

use super::{Files, problems::QueryProblems};
use crate::error::Error;

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
    let avatar = files.store.avatar(user_id).await.map_err(Error::from)?;
    let avatar = avatar.ok_or(Error::NoAvatar(user_id))?;
    Ok(Json(files.shown(&avatar, caller.user_id, Utc::now())?))
}
