//! `/api/chats`: chats as their members see them.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::{sync::Arc, time::Instant};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use contracts::{
    ChatId,
    api::{self, CreateChatRequest, OwnChatState, Page, UpdateChatRequest, UpdateOwnChatStateRequest},
    event::ChatKind,
};
use kit::{
    auth::Caller,
    error::ApiError,
    extract::{Json, Path, Query},
    idempotency::IdempotencyKey,
    page::PageSizes,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Patience, Users,
    changes::{ChangingCaller, Drafts},
    members::{change, published},
    problems::{NotAManager, NotAMember, QueryProblems, RequestProblems},
};
use crate::{
    deletions,
    domain::{self, Command, Founding, NewChat, OwnUpdate, Update},
    error::Error,
    store::ChatStore,
};

const PAGE_SIZES: PageSizes = PageSizes { default: 50, max: 100 };

/// Creates a chat.
///
/// A direct chat with a user is one chat forever: creating it again, from either side, returns the same one. Who has left it
/// is in it again then. The members of a new group are plain members, its creator is the owner. With an `idempotency-key`, a
/// request for a group that is repeated returns the group that the first one created. The members must be users of this tenant.
///
/// In a channel only its owner and admins write, edit and pin. Its plain members read and react. A channel is as a group is in all other
/// respects, and what this says of groups is so of channels.
///
/// A tenant limits the members of all its chats, and how many of them one user has added: less, the less room is left. It limits the
/// chats with members that one user has created, 1000 by default, and as many may be created in 24 hours. What is there already is
/// returned, whatever the limits.
///
/// A user decides by `contactable_by` of their profile who creates a chat with them. One who has left a direct chat is brought back
/// into it by the other after 24 hours at the earliest. The response is the same, whichever of these it is.
#[utoipa::path(
    post,
    path = "/api/chats",
    operation_id = "create_chat",
    tag = "chats",
    security(("access_token" = [])),
    params((
        "idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
        description = "1 to 128 visible ASCII characters, chosen once for a group and repeated with every retry"
    )),
    request_body = CreateChatRequest,
    responses(
        (status = CREATED, description = "The new chat", body = api::Chat),
        (status = OK, description = "The direct chat that the two have already, or the group that was created with this \
            idempotency-key", body = api::Chat),
        (status = FORBIDDEN, description = "not_a_member (of the group that was created with this idempotency-key), \
            consent_required (a member does not let the caller create a chat with them, or not yet again; `detail` names one)",
            body = api::Problem, content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_found (a member is not a user, or has deleted the account)", body = api::Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (a direct chat with oneself), limit_reached (of the chats that the caller has \
            created, of the members that they have added, or of the members of all chats; `detail` says of which and what \
            makes room)",
            body = api::Problem, content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or chats that the caller has \
            created in 24 hours)",
            body = api::Problem, content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (the idempotency-key was used for another group)",
            body = api::Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn create(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CreateChatRequest>,
) -> Result<Response, ApiError> {
    let founding = Founding::parse(caller.user_id, request).map_err(Error::from)?;
    let (chat_id, founder) = (ChatId::generate(), caller.user_id);
    let new = NewChat { chat_id, founder, founding, key, created_at: Utc::now() };
    let newcomers = store.newcomers(&new).await.map_err(Error::from)?;
    if newcomers.is_empty() {
        users.refuse_deleted(founder).await?;
    }
    users.require_consent(&*store, founder, newcomers).await?;
    let created = store.create(&new).await.map_err(Error::from)?;
    published(&*store, patience, created.chat.chat_id, created.publication).await?;
    let status = if created.fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(api::Chat::from(created.chat))).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most chats in the response.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<ChatId>,
}

/// Lists the caller's chats, the newest first.
#[utoipa::path(
    get,
    path = "/api/chats",
    operation_id = "list_chats",
    tag = "chats",
    security(("access_token" = [])),
    params(ListParameters),
    responses(
        (status = OK, description = "One page", body = Page<api::Chat>),
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<Page<api::Chat>>, ApiError> {
    let size = PAGE_SIZES.of(parameters.limit)?;
    let chats =
        store.chats(caller.user_id, parameters.cursor, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(chats, |chat| chat.chat_id.to_string())))
}

/// Returns one chat.
#[utoipa::path(
    get,
    path = "/api/chats/{chat}",
    operation_id = "get_chat",
    tag = "chats",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = OK, description = "The chat", body = api::Chat),
        NotAMember,
        QueryProblems,
    )
)]
pub(super) async fn get(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
) -> Result<Json<api::Chat>, ApiError> {
    let chat = store.chat(chat_id, caller.user_id).await.map_err(Error::from)?;
    Ok(Json(chat.ok_or(Error::NotAMember(chat_id))?.into()))
}

/// Changes what a group is called and for, what members who are added read, who finds it, how fast its members write, and its picture.
///
/// An owner and an admin may, and the owner alone changes the visibility. A new title, topic, picture and slow mode
/// are entries of the chat, `title_changed`, `topic_changed`, `avatar_changed` and `slow_mode_changed`, and reach all devices as messages do.
///
/// `message_ttl_seconds` is of direct chats too, where each of the two changes it, and is the entry `ttl_changed`. It holds for texts that come behind that entry in the chat:
/// those of before stay as they were. Such a text has `expires_at_ms`; then its `body` is gone for everyone, edits of it included, and the entry is left with
/// `expired`. Devices forget it by themselves. The log of the messenger has it for some days longer, where no user reads it. A member who
/// forwards it before takes it to a chat with another rule, and there it stays as long as that one says. What is so already is answered the same way, without an entry. The history concerns members
/// who are added from then on: those who are in the group read what they read before.
#[utoipa::path(
    patch,
    path = "/api/chats/{chat}",
    operation_id = "update_chat",
    tag = "chats",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    request_body = UpdateChatRequest,
    responses(
        (status = OK, description = "The group after the change", body = api::Chat),
        NotAManager,
        RequestProblems,
    )
)]
pub(super) async fn update(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path(chat_id): Path<ChatId>,
    Json(request): Json<UpdateChatRequest>,
) -> Result<Json<api::Chat>, ApiError> {
    let update = Update::parse(&request)?;
    change(&*store, patience, chat_id, caller.user_id, Command::Update(update)).await?;
    let chat = store.chat(chat_id, caller.user_id).await.map_err(Error::from)?;
    Ok(Json(chat.ok_or(Error::NotAMember(chat_id))?.into()))
}

/// Changes how the caller has a chat: muted, archived, favourite, and what they have written there and not sent.
///
/// It holds for all devices of the caller and is seen by no one else. Lists of chats and `sync` have it in `own`, and connected devices of
/// the caller receive it as `own_state`. Of two states, the one with the greater version counts, so of two devices that change the same
/// at one time the last one wins. It goes with the membership: a user who comes back has the chat as any other.
///
/// A draft is removed by the client that sends it. A user has drafts in at most 100 chats, and changes drafts twice a second.
#[utoipa::path(
    patch,
    path = "/api/chats/{chat}/me",
    operation_id = "update_own_chat_state",
    tag = "chats",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    request_body = UpdateOwnChatStateRequest,
    responses(
        (status = OK, description = "How the caller has the chat after the change", body = OwnChatState),
        NotAMember,
        (status = CONFLICT, description = "limit_reached (of drafts)", body = api::Problem,
            content_type = "application/problem+json"),
        RequestProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn update_own(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(Drafts(drafts)): State<Drafts>,
    Path(chat_id): Path<ChatId>,
    Json(request): Json<UpdateOwnChatStateRequest>,
) -> Result<Json<OwnChatState>, ApiError> {
    let update = OwnUpdate::parse(request)?;
    if update.draft.is_some() {
        drafts.take(caller.user_id, Instant::now()).map_err(|wait| Error::TooManyDrafts { wait })?;
    }
    let own = store.update_own(chat_id, caller.user_id, &update, Utc::now()).await.map_err(Error::from)?;
    Ok(Json(own.ok_or(Error::NotAMember(chat_id))?.into()))
}

/// Deletes a group.
///
/// Its owner may. All members are removed, in the order in which they came and the owner last, and each receives the
/// `member_removed` entry of their own removal: the group is in no list any more, takes no messages, and no one joins it. Its messages
/// are read by no one, and stay stored for as long as the messenger keeps messages. There is no way back. From its
/// beginning on the group takes no changes, and a deletion that is cut off goes on by itself; one that the owner repeats is answered
/// the same way. To end a direct chat, leave it.
#[utoipa::path(
    delete,
    path = "/api/chats/{chat}",
    operation_id = "delete_chat",
    tag = "chats",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = NO_CONTENT, description = "The group is deleted"),
        NotAManager,
        QueryProblems,
    )
)]
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
pub(super) async fn delete(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path(chat_id): Path<ChatId>,
) -> Result<StatusCode, ApiError> {
    let begun = store.change(chat_id, caller.user_id, Command::Delete, Utc::now());
    let begun = begun.await.map_err(Error::from)?;
    let emptied = deletions::empty(&*store, chat_id).await.map_err(Error::from)?;
    published(&*store, patience, chat_id, emptied.unwrap_or(begun)).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<domain::Chat> for api::Chat {
    fn from(chat: domain::Chat) -> Self {
        Self {
            chat_id: chat.chat_id,
            kind: chat.kind,
            title: chat.title,
            topic: chat.topic,
            history: (chat.kind != ChatKind::Direct).then_some(chat.history),
            visibility: chat.visibility,
            slow_mode_seconds: chat.slow_mode_seconds,
            message_ttl_seconds: chat.message_ttl_seconds,
            avatar: chat.avatar,
            role: chat.role,
            own: chat.own.into(),
            member_count: chat.member_count,
            created_at_ms: chat.created_at.timestamp_millis(),
        }
    }
}
