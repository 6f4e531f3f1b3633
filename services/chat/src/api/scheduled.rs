//! `/api/chats/{chat}/scheduled`: messages that are sent at a time.

use std::sync::Arc;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use contracts::{
    ChatId, MessageKey,
    api::{Page, Problem, RescheduleRequest, ScheduleRequest, ScheduledMessage},
};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path},
};

use super::{
    Patience,
    changes::ChangingCaller,
    members::published,
    problems::{NotAMember, NotScheduled, QueryProblems, RequestProblems},
};
use crate::{domain::Scheduled, error::Error, scheduled::Alarm, store::ChatStore};

/// Schedules a message.
///
/// At its time it is sent as a text of the caller, under the key that the request has: it is one message, however often a server
/// begins again. It is never sent before its time by the clock of the database, and usually within a second after it. Its place among what the
/// caller sends by hand is where the chat's log has it.
///
/// Whether the caller may write is decided then. Who is a plain member of a channel by then, or has no recipient in a direct chat, keeps the
/// message with `refused`; the caller's devices learn of it by `scheduled_refused` in `own_state`. What a member has scheduled goes with the
/// membership, and with the account. The messages of a member in a chat are sent in the order of their times. In slow mode those of a plain member
/// wait for one another; what the member sent by hand before does not hold them up, and what they send behind waits as after any message. The
/// roles that a message calls are those of the time at which it is sent. What the server fails to send, it tries again for about an hour, and
/// then keeps with `refused`; what comes behind it waits meanwhile. A message that replies to one that is deleted by then, or is from before the history of
/// the caller begins, is not stored, and all connections of the caller receive `rejected`.
///
/// What is sent counts for the rates of the caller, the chat and the tenant as all messages do. Scheduled messages of a user are sent at the rate
/// of that user, and those of all users together at half of the rates of a chat and of the tenant: what comes at once beyond that is sent
/// later, in its order, and not refused. A user has at most 100 scheduled messages, in all chats. Each change is one of `own` of the chat. A request that is repeated within a week after its message
/// was sent is answered as before.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/scheduled",
    operation_id = "schedule_message",
    tag = "scheduled",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    request_body = ScheduleRequest,
    responses(
        (status = CREATED, description = "The message, which waits for its time", body = ScheduledMessage),
        (status = OK, description = "The message that was scheduled with this key, and waits or was sent", body = ScheduledMessage),
        NotAMember,
        (status = CONFLICT, description = "limit_reached (the caller has 100 scheduled messages), conflict (the time is not later than now, or \
            more than 366 days ahead)", body = Problem,
            content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (another message waits under this key, or was sent)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(alarm): State<Alarm>,
    Path(chat_id): Path<ChatId>,
    Json(request): Json<ScheduleRequest>,
) -> Result<Response, ApiError> {
    let new = Scheduled::parse(chat_id, caller.user_id, request)?;
    let scheduled = store.schedule(&new).await.map_err(Error::from)?;
    let (scheduled, is_new) = scheduled.ok_or(Error::NotAMember(chat_id))?;
    alarm.wake();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ScheduledMessage::from(scheduled))).into_response())
}

/// Lists the messages that the caller has scheduled in a chat, the next one first. One page has all of them.
#[utoipa::path(
    get,
    path = "/api/chats/{chat}/scheduled",
    operation_id = "list_scheduled_messages",
    tag = "scheduled",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = OK, description = "Those that wait, and those that were refused at their time", body = Page<ScheduledMessage>),
        NotAMember,
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
) -> Result<Json<Page<ScheduledMessage>>, ApiError> {
    let scheduled = store.scheduled(chat_id, caller.user_id).await.map_err(Error::from)?;
    let scheduled = scheduled.ok_or(Error::NotAMember(chat_id))?;
    Ok(Json(Page { items: scheduled.into_iter().map(Into::into).collect(), next_cursor: None }))
}

/// Replaces a scheduled message, its time included.
///
/// One that was refused waits for its time again.
#[utoipa::path(
    put,
    path = "/api/chats/{chat}/scheduled/{key}",
    operation_id = "replace_scheduled_message",
    tag = "scheduled",
    security(("access_token" = [])),
    params(
        ("chat" = ChatId, Path, description = "Chat id"),
        ("key" = MessageKey, Path, description = "The key with which it was scheduled")
    ),
    request_body = RescheduleRequest,
    responses(
        (status = OK, description = "The message as it is now", body = ScheduledMessage),
        NotScheduled,
        (status = CONFLICT, description = "conflict (the time is not later than now, or more than 366 days ahead)", body = Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn replace(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(alarm): State<Alarm>,
    Path((chat_id, key)): Path<(ChatId, MessageKey)>,
    Json(request): Json<RescheduleRequest>,
) -> Result<Json<ScheduledMessage>, ApiError> {
    let scheduled = Scheduled::parse_keyed(chat_id, caller.user_id, key, request)?;
    if !store.reschedule(&scheduled).await.map_err(Error::from)? {
        return Err(Error::NotScheduled { chat_id, key }.into());
    }
    alarm.wake();
    Ok(Json(scheduled.into()))
}

/// Cancels a scheduled message.
#[utoipa::path(
    delete,
    path = "/api/chats/{chat}/scheduled/{key}",
    operation_id = "cancel_scheduled_message",
    tag = "scheduled",
    security(("access_token" = [])),
    params(
        ("chat" = ChatId, Path, description = "Chat id"),
        ("key" = MessageKey, Path, description = "The key with which it was scheduled")
    ),
    responses(
        (status = NO_CONTENT, description = "It is not sent"),
        NotScheduled,
        QueryProblems,
    )
)]
pub(super) async fn cancel(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    Path((chat_id, key)): Path<(ChatId, MessageKey)>,
) -> Result<StatusCode, ApiError> {
    match store.unschedule(chat_id, caller.user_id, key).await.map_err(Error::from)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Error::NotScheduled { chat_id, key }.into()),
    }
}

/// Sends a scheduled message at once.
///
/// In slow mode, and at the rates of scheduled messages, it waits as one whose time has come, and the refusal says how long. It comes before those
/// that wait. What is refused stays as it was. While others send very much it may be `unavailable`: repeat the request then.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/scheduled/{key}/send",
    operation_id = "send_scheduled_message",
    tag = "scheduled",
    security(("access_token" = [])),
    params(
        ("chat" = ChatId, Path, description = "Chat id"),
        ("key" = MessageKey, Path, description = "The key with which it was scheduled")
    ),
    responses(
        (status = NO_CONTENT, description = "It is in the log"),
        (status = FORBIDDEN, description = "permission_denied (the caller may not write there)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "limit_reached (more than 100 members have the roles that it calls)", body = Problem,
            content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "slow_mode (another scheduled message of the caller was sent a moment ago), rate_limited \
            (requests of the client's address, changes of the caller, or scheduled messages of the caller, the chat or the tenant)",
            body = Problem, content_type = "application/problem+json"),
        NotScheduled,
        QueryProblems,
    )
)]
pub(super) async fn send(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path((chat_id, key)): Path<(ChatId, MessageKey)>,
) -> Result<StatusCode, ApiError> {
    let publication = store.send_now(chat_id, caller.user_id, key).await.map_err(Error::from)?;
    let publication = publication.ok_or(Error::NotScheduled { chat_id, key })?;
    published(&*store, patience, chat_id, publication).await?;
    Ok(StatusCode::NO_CONTENT)
}
