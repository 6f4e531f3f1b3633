//! `GET /api/moderation/audit`: who did what.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::api::{AuditEntry, Page};
use kit::{
    error::ApiError,
    extract::{Json, Query},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    PAGE_SIZES,
    callers::Moderator,
    problems::{NotAModerator, QueryProblems},
};
use crate::{error::Error, store::ModerationStore};

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
    Query(ListParameters { limit, cursor }): Query<ListParameters>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    let entries = store.audit(cursor.unwrap_or(i64::MAX), size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(entries, |entry| entry.id.to_string())))
}
