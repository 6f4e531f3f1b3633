//! `GET /api/moderation/usage`: how much there is.

use std::sync::Arc;

use axum::extract::State;
use contracts::api::TenantUsage;
use kit::{clock::now_ms, error::ApiError, extract::Json};

use super::{
    callers::Moderator,
    problems::{NotAModerator, QueryProblems},
};
use crate::{
    error::Error,
    peers::Peers,
    store::{Counts, ModerationStore},
};

/// Returns how many users there are, and how much of what moderators have to do with.
#[utoipa::path(
    get,
    path = "/api/moderation/usage",
    operation_id = "get_usage",
    tag = "usage",
    security(("access_token" = [])),
    responses((status = OK, description = "The figures", body = TenantUsage), NotAModerator, QueryProblems)
)]
pub(super) async fn get(
    _: Moderator,
    State(store): State<Arc<dyn ModerationStore>>,
    State(peers): State<Peers>,
) -> Result<Json<TenantUsage>, ApiError> {
    let users = peers.count_users().await?;
    let counts = store.counts(now_ms()).await.map_err(Error::from)?;
    let Counts { open_reports, open_appeals, muted_users, banned_users, enforced_rule_sets, caught } = counts;
    Ok(Json(TenantUsage {
        users,
        open_reports,
        open_appeals,
        muted_users,
        banned_users,
        enforced_rule_sets,
        caught,
    }))
}
