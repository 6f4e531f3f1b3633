//! `/api/notifications/preferences`: of what and when a user is notified.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use contracts::api::NotificationPreferences;
use kit::{auth::Caller, error::ApiError, extract::Json};

use super::problems::{QueryProblems, RequestProblems};
use crate::{
    domain::Quiet,
    error::Error,
    store::{NotificationStore, Preferences},
};

/// Returns of what and when the caller is notified.
#[utoipa::path(
    get,
    path = "/api/notifications/preferences",
    operation_id = "get_notification_preferences",
    tag = "notifications",
    security(("access_token" = [])),
    responses((status = OK, description = "The preferences", body = NotificationPreferences), QueryProblems)
)]
pub(super) async fn get(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
) -> Result<Json<NotificationPreferences>, ApiError> {
    let (preferences, _) = store.preferences(caller.user_id, now()).await.map_err(Error::from)?;
    Ok(Json(shown(&preferences)))
}

/// Says of what and when the caller is notified, from now on and by every channel.
#[utoipa::path(
    put,
    path = "/api/notifications/preferences",
    operation_id = "set_notification_preferences",
    tag = "notifications",
    security(("access_token" = [])),
    request_body = NotificationPreferences,
    responses((status = OK, description = "The preferences", body = NotificationPreferences), RequestProblems)
)]
pub(super) async fn set(
    caller: Caller,
    State(store): State<Arc<dyn NotificationStore>>,
    Json(request): Json<NotificationPreferences>,
) -> Result<Json<NotificationPreferences>, ApiError> {
    let quiet = request.quiet.as_ref().map(Quiet::parse).transpose().map_err(Error::from)?;
    if let Some(quiet) = &quiet
        && !store.knows_time_zone(&quiet.time_zone).await.map_err(Error::from)?
    {
        return Err(Quiet::no_such_zone().into());
    }
    let preferences = Preferences { level: request.level, shows_text: request.shows_text, quiet };
    store.set_preferences(caller.user_id, &preferences).await.map_err(Error::from)?;
    Ok(Json(shown(&preferences)))
}

fn shown(preferences: &Preferences) -> NotificationPreferences {
    NotificationPreferences {
        level: preferences.level,
        shows_text: preferences.shows_text,
        quiet: preferences.quiet.as_ref().map(Quiet::shown),
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
