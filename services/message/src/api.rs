//! REST: what a chat's members read.

pub(crate) mod grpc;

use axum::extract::State;
use contracts::{
    ChatId, UserId,
    api::{MessagePage, Problem},
    rpc::GetMembershipRequest,
    wire::{DEFAULT_HISTORY_LIMIT, MAX_HISTORY_LIMIT},
};
use kit::{
    auth::Caller,
    docs::{self, CallerProblems, FaultProblems, ParameterProblems},
    error::ApiError,
    extract::{Json, Path, Query},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::Error,
    state::AppState,
    store::{History, Store, history},
};

/// Returns the REST API with its description.
pub(crate) fn routes(state: AppState) -> OpenApiRouter {
    OpenApiRouter::with_openapi(docs::openapi()).routes(routes!(get_messages)).with_state(state)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Messages with a greater seq are answered; 0 starts at the first one.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
    /// 1 and up; more than 500 is answered like 500.
    #[param(minimum = 1, default = 100)]
    limit: Option<u32>,
}

/// Messages of a chat in the order of their seq, for its members.
#[utoipa::path(
    get,
    path = "/api/messages/{chat}",
    tag = "messages",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = OK, description = "The page is the last one when its last seq is head_seq", body = MessagePage),
        (status = FORBIDDEN, description = "not_a_member", body = Problem, content_type = "application/problem+json"),
        ParameterProblems,
        CallerProblems,
        FaultProblems,
    )
)]
async fn get_messages(
    State(state): State<AppState>,
    caller: Caller,
    Path(chat): Path<ChatId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<MessagePage>, ApiError> {
    let limit = page_size(page.limit)?;
    require_member(&state, chat, caller.user_id).await?;
    let History { messages, head_seq } = read(&*state.store, chat, page.after, limit).await?;
    Ok(Json(MessagePage { messages, head_seq }))
}

async fn require_member(state: &AppState, chat: ChatId, user: UserId) -> Result<(), Error> {
    let request = GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() };
    let answer = state.chats.clone().get_membership(request).await;
    match answer.map_err(|status| Error::Membership(Box::new(status)))?.into_inner().member {
        Some(_) => Ok(()),
        None => Err(Error::NotAMember(chat)),
    }
}

/// Returns how many messages a page holds.
fn page_size(limit: Option<u32>) -> Result<usize, Error> {
    match limit.unwrap_or(DEFAULT_HISTORY_LIMIT) {
        0 => Err(Error::InvalidArgument("limit is at least 1")),
        limit => Ok(limit.min(MAX_HISTORY_LIMIT) as usize),
    }
}

async fn read<S: Store>(store: &S, chat: ChatId, after: i64, limit: usize) -> Result<History, Error> {
    if after < 0 {
        return Err(Error::InvalidArgument("after is at least 0"));
    }
    history(store, chat, after, limit).await.map_err(|source| Error::History { chat, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_default_and_a_largest_size() {
        assert_eq!(page_size(None).expect("a size"), 100);
        assert_eq!(page_size(Some(1)).expect("a size"), 1);
        assert_eq!(page_size(Some(u32::MAX)).expect("a size"), 500);
        assert!(page_size(Some(0)).is_err());
    }
}
