//! `/api/chats/public`, `/api/chats/{chat}/join`, `/api/chats/{chat}/requests`: how users join chats by themselves.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::{sync::Arc, time::Instant};

use axum::{extract::State, http::StatusCode};
use chrono::Utc;
use contracts::{
    ChatId, UserId,
    api::{self, ChatMember, Page, Problem},
    event::Role,
};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path, Query},
    page::PageSizes,
    text::search_key,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Patience, Users,
    changes::{Changes, ChangingCaller},
    members::published,
    problems::{NotAManager, QueryProblems},
};
use crate::{
    domain::{JoinRequest, PublicChat, Refusal},
    error::Error,
    store::{ChatStore, Publication},
};

const PUBLIC_SIZES: PageSizes = PageSizes { default: 50, max: 100 };
const REQUEST_SIZES: PageSizes = PageSizes { default: 100, max: 500 };

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PublicParameters {
    /// Chats with this text in the title or the topic, in any case. All of them when absent or empty.
    #[param(max_length = 128, example = "board games")]
    q: Option<String>,
    /// Most chats in the response.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<ChatId>,
}

/// Lists the public groups and channels of the tenant, the newest first.
///
/// Every user may, and joins them with `POST /api/chats/{chat}/join`. Those in which the caller is are listed too.
#[utoipa::path(
    get,
    path = "/api/chats/public",
    operation_id = "list_public_chats",
    tag = "joining",
    security(("access_token" = [])),
    params(PublicParameters),
    responses(
        (status = OK, description = "One page", body = Page<api::PublicChat>),
        QueryProblems,
    )
)]
pub(super) async fn public(
    _: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Query(PublicParameters { q, limit, cursor }): Query<PublicParameters>,
) -> Result<Json<Page<api::PublicChat>>, ApiError> {
    const MAX_CHARS: usize = 128;
    let size = PUBLIC_SIZES.of(limit)?;
    let text = q.unwrap_or_default();
    if text.chars().count() > MAX_CHARS {
        let problem = format!("must have at most {MAX_CHARS} characters");
        return Err(kit::error::InvalidField { field: "q", problem }.into());
    }
    // No key has it, and PostgreSQL takes no text with it.
    let search = search_key(&text).replace('\0', "\u{fffd}");
    let chats = store.public_chats(search.trim(), cursor, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(chats, |chat| chat.chat_id.to_string())))
}

/// Joins a public group or channel.
///
/// The caller becomes a plain member, and the entry of the chat that says so has the caller as its sender. A member is answered the same way. A
/// user who was removed joins again after 24 hours at the earliest, or is added by an owner or admin. A user joins 30 chats at once and 2 a
/// minute after that, one chat 5 times and once a minute, on each server; links count too, and so does a join that is refused.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/join",
    operation_id = "join_chat",
    tag = "joining",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = OK, description = "The chat, as the caller sees it who is in it", body = api::Chat),
        (status = FORBIDDEN, description = "not_a_member (there is no such public chat), permission_denied (the caller was removed \
            in the last 24 hours)", body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "limit_reached (the chat is full, or the caller has as many memberships by themselves as one \
            user may, or all chats have; `detail` says which and what makes room)", body = Problem,
            content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or changes or joins of the caller)",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn join(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(changes): State<Changes>,
    State(patience): State<Patience>,
    Path(chat_id): Path<ChatId>,
) -> Result<Json<api::Chat>, ApiError> {
    users.require_account(caller.user_id).await?;
    if let Some(chat) = enter(&*store, &changes, &caller, chat_id).await? {
        return Ok(Json(chat));
    }
    let publication = store.join(chat_id, caller.user_id, Utc::now()).await.map_err(Error::from)?;
    Ok(Json(joined(&*store, patience, &caller, publication).await?))
}

/// Returns the chat to a caller who is in it, and counts every other one who comes by themselves, whether it is public or they have a link.
pub(super) async fn enter(
    store: &dyn ChatStore,
    changes: &Changes,
    caller: &Caller,
    chat_id: ChatId,
) -> Result<Option<api::Chat>, Error> {
    // Without the turn that changes of the chat take: repeated, it would keep others waiting.
    if let Some(chat) = store.chat(chat_id, caller.user_id).await? {
        return Ok(Some(chat.into()));
    }
    changes.join(caller.user_id, chat_id, Instant::now())?;
    Ok(None)
}

/// Waits until it is in the event log that the caller has joined, and returns the chat as they see it.
pub(super) async fn joined(
    store: &dyn ChatStore,
    patience: Patience,
    caller: &Caller,
    publication: Publication,
) -> Result<api::Chat, Error> {
    let chat_id = publication.chat_id;
    published(store, patience, chat_id, publication).await?;
    let chat = store.chat(chat_id, caller.user_id).await?;
    Ok(chat.ok_or(Error::NotAMember(chat_id))?.into())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RequestParameters {
    /// Most requests in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<UserId>,
}

/// Lists who asks to join a chat, by the id of the user. Its owner and admins may.
#[utoipa::path(
    get,
    path = "/api/chats/{chat}/requests",
    operation_id = "list_join_requests",
    tag = "joining",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), RequestParameters),
    responses(
        (status = OK, description = "One page", body = Page<api::JoinRequest>),
        NotAManager,
        QueryProblems,
    )
)]
pub(super) async fn requests(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
    Query(RequestParameters { limit, cursor }): Query<RequestParameters>,
) -> Result<Json<Page<api::JoinRequest>>, ApiError> {
    let size = REQUEST_SIZES.of(limit)?;
    require_manager(&*store, chat_id, &caller).await?;
    let requests = store.requests(chat_id, cursor, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(requests, |request| request.user_id.to_string())))
}

/// Lets a user in who asks to join.
///
/// An owner and an admin may. The user becomes a plain member, also within 24 hours of a removal. One who is in the chat is answered the
/// same way.
#[utoipa::path(
    put,
    path = "/api/chats/{chat}/requests/{user}",
    operation_id = "approve_join_request",
    tag = "joining",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ("user" = UserId, Path, description = "User id")),
    responses(
        (status = OK, description = "The member", body = ChatMember),
        (status = FORBIDDEN, description = "not_a_member, permission_denied (role too low, or a direct chat), consent_required (the \
            user and the caller have a block between them)", body = Problem, content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_found (the user does not ask to join, or has deleted the account)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "limit_reached (the chat is full, or the user has as many memberships by themselves as one \
            user may, or all chats have; `detail` says which and what makes room)", body = Problem,
            content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn approve(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    Path((chat_id, user_id)): Path<(ChatId, UserId)>,
) -> Result<Json<ChatMember>, ApiError> {
    require_manager(&*store, chat_id, &caller).await?;
    let member = store.member(chat_id, user_id).await.map_err(Error::from)?;
    if member.is_none() {
        users.require_exists(caller.user_id, user_id).await?;
        let blocked = store.blocked(caller.user_id, &[user_id]).await.map_err(Error::from)?;
        if !blocked.is_empty() {
            return Err(Error::from(Refusal::Unwanted(user_id)).into());
        }
    }
    let approved = store.approve(chat_id, caller.user_id, user_id, Utc::now());
    published(&*store, patience, chat_id, approved.await.map_err(Error::from)?).await?;
    Ok(Json(ChatMember { user_id, role: member.map_or(Role::Member, |member| member.role) }))
}

/// Declines the request of a user to join, or withdraws one's own.
///
/// An owner and an admin decline, and the user is not told. What is not there is answered the same way.
#[utoipa::path(
    delete,
    path = "/api/chats/{chat}/requests/{user}",
    operation_id = "remove_join_request",
    tag = "joining",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ("user" = UserId, Path, description = "User id")),
    responses(
        (status = NO_CONTENT, description = "The user does not ask to join"),
        (status = FORBIDDEN, description = "not_a_member, permission_denied (role too low, or a direct chat); not of one's own request",
            body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn decline(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    Path((chat_id, user_id)): Path<(ChatId, UserId)>,
) -> Result<StatusCode, ApiError> {
    store.withdraw(chat_id, caller.user_id, user_id, Utc::now()).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a caller who does not manage who comes into a chat.
pub(super) async fn require_manager(
    store: &dyn ChatStore,
    chat_id: ChatId,
    caller: &Caller,
) -> Result<(), Error> {
    let chat = store.chat(chat_id, caller.user_id).await?.ok_or(Error::NotAMember(chat_id))?;
    if chat.takes_members() { Ok(()) } else { Err(chat.refusal().into()) }
}

impl From<PublicChat> for api::PublicChat {
    fn from(chat: PublicChat) -> Self {
        let PublicChat { chat_id, kind, title, topic, member_count } = chat;
        Self { chat_id, kind, title, topic, member_count }
    }
}

impl From<JoinRequest> for api::JoinRequest {
    fn from(request: JoinRequest) -> Self {
        let JoinRequest { chat_id, user_id, requested_at } = request;
        Self { chat_id, user_id, requested_at_ms: requested_at.timestamp_millis() }
    }
}
