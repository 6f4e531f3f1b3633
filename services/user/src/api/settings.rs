//! `/api/users/me/settings`: what the clients of a user share between their devices.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use contracts::{
    ErrorCode,
    api::{self, Problem, SettingsConflict},
};
use kit::{
    auth::Caller,
    docs::{CallerProblems, FaultProblems, RequestProblems},
    error::ApiError,
    extract::Json,
};

use super::ensured;
use crate::{
    domain::Settings,
    error::Error,
    store::{ProfileStore, PutSettings},
};

/// Returns what the caller's clients share.
///
/// The messenger does not read it. Before the first change it is empty, with version 0.
#[utoipa::path(
    get,
    path = "/api/users/me/settings",
    operation_id = "get_settings",
    tag = "me",
    security(("access_token" = [])),
    responses(
        (status = OK, description = "The settings", body = api::Settings),
        CallerProblems,
        FaultProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
) -> Result<Json<api::Settings>, ApiError> {
    ensured(&store, &caller).await?;
    Ok(Json(store.settings(caller.user_id).await.map_err(Error::from)?.into()))
}

/// Replaces what the caller's clients share, when `version` is the one that is stored.
///
/// Otherwise another device was first: the refusal has what is stored, as `current`. Merge with it, and repeat with its version.
/// A request that is repeated because its response was lost is answered like the first one.
///
/// The version is a field and no ETag: a client stores it with the settings, in whatever form it syncs them, and a proxy that
/// compresses the response does not weaken it.
#[utoipa::path(
    put,
    path = "/api/users/me/settings",
    operation_id = "put_settings",
    tag = "me",
    security(("access_token" = [])),
    request_body = api::Settings,
    responses(
        (status = OK, description = "The settings, with their new version", body = api::Settings),
        (status = CONFLICT, description = "conflict (they are of another version; `current` has them)",
            body = SettingsConflict, content_type = "application/problem+json"),
        (status = PAYLOAD_TOO_LARGE, description = "too_large (more than 64 KiB as JSON)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn put(
    caller: Caller,
    State(store): State<Arc<dyn ProfileStore>>,
    Json(api::Settings { version, settings }): Json<api::Settings>,
) -> Result<Response, ApiError> {
    ensured(&store, &caller).await?;
    let new = Settings { version, settings };
    match store.put_settings(caller.user_id, &new).await.map_err(Error::from)? {
        PutSettings::Put(settings) => Ok(Json(api::Settings::from(settings)).into_response()),
        PutSettings::Conflict(current) => Ok(conflict(current)),
        PutSettings::NoUser => Err(Error::Deleted.into()),
    }
}

fn conflict(current: Settings) -> Response {
    let detail = format!("the settings are of version {}: merge with them, and repeat", current.version);
    let problem = ApiError::new(ErrorCode::Conflict, detail).problem();
    let body = SettingsConflict { problem, current: current.into() };
    let mut response = (StatusCode::CONFLICT, Json(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

impl From<Settings> for api::Settings {
    fn from(Settings { version, settings }: Settings) -> Self {
        Self { version, settings }
    }
}
