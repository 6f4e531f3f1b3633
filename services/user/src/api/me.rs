//! `/api/users/me`: one's own profile.

use std::sync::Arc;

use axum::extract::State;
use chrono::Utc;
use contracts::api::{OwnProfile, UpdateProfileRequest};
use kit::{
    auth::Caller,
    docs::{CallerProblems, FaultProblems, RequestProblems},
    error::ApiError,
    extract::Json,
};

use super::ensured;
use crate::{domain::ProfileUpdate, error::Error, shown::Shown, store::ProfileStore};

/// Returns the caller's profile.
#[utoipa::path(
    get,
    path = "/api/users/me",
    operation_id = "get_me",
    tag = "me",
    security(("access_token" = [])),
    responses(
        (status = OK, description = "The caller's profile", body = OwnProfile),
        CallerProblems,
        FaultProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
) -> Result<Json<OwnProfile>, ApiError> {
    Ok(Json(ensured(&store, &caller).await?.into()))
}

/// Changes the caller's profile; absent fields stay.
#[utoipa::path(
    patch,
    path = "/api/users/me",
    operation_id = "update_me",
    tag = "me",
    security(("access_token" = [])),
    request_body = UpdateProfileRequest,
    responses(
        (status = OK, description = "The profile after the change", body = OwnProfile),
        RequestProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn update(
    caller: Caller,
    State(shown): State<Shown>,
    Json(request): Json<UpdateProfileRequest>,
) -> Result<Json<OwnProfile>, ApiError> {
    let update = ProfileUpdate::parse(request, Utc::now()).map_err(Error::from)?;
    ensured(shown.store(), &caller).await?;
    let profile = shown.store().update(caller.user_id, &update).await.map_err(Error::from)?;
    let profile = profile.ok_or(Error::NotFound(caller.user_id))?;
    shown.changed(&profile).await;
    Ok(Json(profile.into()))
}
