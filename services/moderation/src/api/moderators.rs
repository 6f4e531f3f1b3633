//! `GET /api/moderation/moderators`: who the moderators are.

use axum::extract::State;
use contracts::api::{NamedModerator, Page};
use kit::{error::ApiError, extract::Json};
use tokio::try_join;

use super::{
    callers::{Moderator, Moderators, Named},
    problems::{NotAModerator, QueryProblems},
};
use crate::peers::Peers;

/// Lists the moderators of the tenant in the order of its manifest, which alone decides who they are.
///
/// There are at most 100, and never a `next_cursor`. A change of the manifest is seen once the pods of this service are replaced.
#[utoipa::path(
    get,
    path = "/api/moderation/moderators",
    operation_id = "list_moderators",
    tag = "moderators",
    security(("access_token" = [])),
    responses((status = OK, description = "The moderators", body = Page<NamedModerator>), NotAModerator, QueryProblems)
)]
pub(super) async fn list(
    _: Moderator,
    State(moderators): State<Moderators>,
    State(peers): State<Peers>,
) -> Result<Json<Page<NamedModerator>>, ApiError> {
    let (mut ids, mut usernames) = (Vec::new(), Vec::new());
    for named in moderators.named() {
        match named {
            Named::Id(id) => ids.push(*id),
            Named::Username(username) => usernames.push(username.clone()),
        }
    }
    let (known, by_username) = try_join!(peers.known(&ids), peers.named(usernames))?;
    let item = |named: &Named| {
        let user = match named {
            Named::Id(id) => known.get(id).copied(),
            Named::Username(username) => by_username.get(username).copied(),
        };
        NamedModerator { named: named.to_string(), user }
    };
    Ok(Json(Page { items: moderators.named().iter().map(item).collect(), next_cursor: None }))
}
