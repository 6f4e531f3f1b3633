//! `GET /api/moderation/audit`: who did what.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::{
    UserId,
    api::{AuditEntry, Page},
};
use kit::{
    error::{ApiError, InvalidField},
    extract::{Json, Query},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    PAGE_SIZES,
    callers::Moderator,
    problems::{NotAModerator, QueryProblems},
};
use crate::{
    error::Error,
    store::{AuditFilter, ModerationStore},
};

/// Longest name of an action in bytes.
const MAX_ACTION_BYTES: usize = 64;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most items in the response.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(minimum = 1)]
    cursor: Option<i64>,
    /// Done by this moderator or user only.
    #[param(inline)]
    by: Option<UserId>,
    /// About this user only.
    #[param(inline)]
    user: Option<UserId>,
    /// Of this kind only, such as `sanction_created`.
    #[param(min_length = 1, max_length = 64, pattern = "^[a-z_]+$")]
    action: Option<String>,
    /// Done at this time or later, in milliseconds since the epoch.
    from_ms: Option<i64>,
    /// Done before this time, likewise.
    to_ms: Option<i64>,
}

/// Refuses what is the name of no action. One that no entry has finds nothing.
fn check_action(action: &str) -> Result<(), InvalidField> {
    let is_name = (1..=MAX_ACTION_BYTES).contains(&action.len())
        && action.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name {
        return Ok(());
    }
    let problem = format!("must be 1 to {MAX_ACTION_BYTES} of a-z and _");
    Err(InvalidField { field: "action", problem })
}

/// Lists what was done and by whom, the newest first.
#[utoipa::path(
    get,
    path = "/api/moderation/audit",
    operation_id = "list_audit",
    tag = "audit",
    security(("access_token" = [])),
    params(ListParameters),
    responses((status = OK, description = "One page", body = Page<AuditEntry>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Query(ListParameters { limit, cursor, by, user, action, from_ms, to_ms }): Query<ListParameters>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    action.as_deref().map_or(Ok(()), check_action)?;
    let filter = AuditFilter { by, user, action, from_ms, to_ms };
    let before = cursor.unwrap_or(i64::MAX);
    let entries = store.audit(&filter, before, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(entries, |entry| entry.id.to_string())))
}
