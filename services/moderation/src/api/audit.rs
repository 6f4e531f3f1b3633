//! `GET /api/moderation/audit`: who did what.

#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::extract::State;
use contracts::api::{AuditEntry, Page};
use kit::{
    error::ApiError,
    extract::{Json, Query},
};

use super::{
    NewestFirst, PAGE_SIZES,
    callers::Moderator,
    page,
    problems::{NotAModerator, QueryProblems},
};
use crate::{error::Error, store::ModerationStore};

/// Lists what was done and by whom, the newest first.
#[utoipa::path(
    get,
    path = "/api/moderation/audit",
    operation_id = "list_audit",
    tag = "audit",
    security(("access_token" = [])),
    params(NewestFirst),
    responses((status = OK, description = "One page", body = Page<AuditEntry>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    Query(query): Query<NewestFirst>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let size = PAGE_SIZES.of(query.limit)?;
    let entries = store.audit(query.before(), size.with_next()).await.map_err(Error::from)?;
    Ok(Json(page(size, entries.into_iter().map(|entry| (entry.id, entry)).collect())))
}
