//! REST: what a chat's members read.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

pub(crate) mod grpc;

use std::sync::Arc;

use axum::extract::State;
use contracts::{
    ChatId, UserId,
    api::{MessagePage, Problem},
    rpc::{GetMembershipRequest, chat_service_client::ChatServiceClient},
};
use kit::{
    auth::Caller,
    docs::{self, CallerProblems, FaultProblems, OpenApiRouter, ParameterProblems, routes},
    error::{ApiError, InvalidField},
    extract::{Json, Path, Query},
    page::{HISTORY, PageSize},
    rpc::InternalChannel,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    error::Error,
    store::{Archive, History},
};

/// What requests share.
#[derive(Clone)]
pub(crate) struct AppState {
    pub store: Arc<dyn Archive>,
    pub chats: ChatServiceClient<InternalChannel>,
}

/// Returns the REST API with its description.
pub(crate) fn routes(state: AppState) -> OpenApiRouter {
    docs::router().routes(routes!(get_messages)).with_state(state)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Messages with a greater seq are returned; 0 starts at the first one.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
    /// Most messages in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
}

/// Messages of a chat in the order of their seq, for its members.
#[utoipa::path(
    get,
    path = "/api/messages/{chat}",
    tag = "messages",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), PageQuery),
    responses(
        (status = OK, description = "The page is the last one when its last seq is head_seq. It ends at `limit` entries or at 128 KiB", body = MessagePage),
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
    let size = HISTORY.of(page.limit)?;
    require_member(&state, chat, caller.user_id).await?;
    let History { messages, head_seq } = read(&*state.store, chat, page.after, size).await?;
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

async fn read(store: &dyn Archive, chat: ChatId, after: i64, size: PageSize) -> Result<History, Error> {
    if after < 0 {
        return Err(InvalidField { field: "after", problem: "must be 0 or more".to_owned() }.into());
    }
    store.history_of(chat, after, size.items()).await.map_err(|source| Error::History { chat, source })
}
