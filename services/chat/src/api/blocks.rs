//! `/api/blocks`: whom the caller blocks.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use chrono::Utc;
use contracts::{
    UserId,
    api::{self, Page, Problem},
};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path, Query},
    page::PageSizes,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Patience, Users, changes::ChangingCaller, members::published, problems::QueryProblems};
use crate::{
    domain::Block,
    error::Error,
    store::{ChatStore, Publication},
};

const PAGE_SIZES: PageSizes = PageSizes { default: 100, max: 500 };

/// Blocks a user.
///
/// A block acts in both directions. Neither of the two opens a direct chat with the other or adds the other to a group, and in
/// the direct chat that they have both still read, and neither sends. Groups that both are in stay as they are. Every
/// request that begins after the response is treated so.
///
/// The blocked user is not notified, and receives the refusals of a user who does not let others add them. A user who is blocked
/// already is answered the same way. At most 1000 users are blocked at a time; the blocks of a deleted account, and those against
/// it, go with it.
#[utoipa::path(
    put,
    path = "/api/blocks/{user}",
    operation_id = "block_user",
    tag = "blocks",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses(
        (status = NO_CONTENT, description = "The user is blocked"),
        (status = NOT_FOUND, description = "not_found (there is no such user, or the account is deleted; never of a user with whom the \
            caller is in a chat)", body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (the caller themselves), limit_reached (1000 users are blocked)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn block(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    Path(blocked): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    if blocked == caller.user_id {
        return Err(Error::BlockOfOneself.into());
    }
    users.require_blockable(&*store, caller.user_id, blocked).await?;
    let publication = store.block(caller.user_id, blocked, Utc::now()).await.map_err(Error::from)?;
    in_force(&*store, patience, publication).await
}

/// Lifts a block.
///
/// A block of the other user against the caller stays. A user who is not blocked is answered the same way.
#[utoipa::path(
    delete,
    path = "/api/blocks/{user}",
    operation_id = "unblock_user",
    tag = "blocks",
    security(("access_token" = [])),
    params(("user" = UserId, Path, description = "User id")),
    responses(
        (status = NO_CONTENT, description = "The caller does not block the user"),
        QueryProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn unblock(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path(blocked): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    let publication = store.unblock(caller.user_id, blocked, Utc::now()).await.map_err(Error::from)?;
    in_force(&*store, patience, publication).await
}

/// Waits until what is published of a change of blocks is in the event log.
async fn in_force(
    store: &dyn ChatStore,
    patience: Patience,
    publication: Option<Publication>,
) -> Result<StatusCode, ApiError> {
    if let Some(publication) = publication {
        published(store, patience, publication.chat_id, publication).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most users in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<UserId>,
}

/// Lists whom the caller blocks, by id. Who blocks the caller is not listed anywhere.
#[utoipa::path(
    get,
    path = "/api/blocks",
    operation_id = "list_blocks",
    tag = "blocks",
    security(("access_token" = [])),
    params(ListParameters),
    responses(
        (status = OK, description = "One page", body = Page<api::Block>),
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<Page<api::Block>>, ApiError> {
    let size = PAGE_SIZES.of(parameters.limit)?;
    let blocks = store.blocks(caller.user_id, parameters.cursor, size.with_next());
    let blocks = blocks.await.map_err(Error::from)?;
    Ok(Json(size.page(blocks, |block| block.user_id.to_string())))
}

impl From<Block> for api::Block {
    fn from(block: Block) -> Self {
        Self { user_id: block.user_id, blocked_at_ms: block.blocked_at.timestamp_millis() }
    }
}
