//! `/api/chats/{chat}/members`: the members of a chat and their roles.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use axum::{extract::State, http::StatusCode};
use chrono::Utc;
use contracts::{
    ChatId, UserId,
    api::{
        ADDED_MEMBERS, AddMembersRequest, AddedMembers, ChatMember, Page, Problem, PutMemberRequest,
        RefusedMember,
    },
    event::Role,
};
use kit::{
    auth::Caller,
    backoff::Backoff,
    error::{ApiError, InvalidField, ServiceError as _},
    extract::{Json, Path, Query},
    page::PageSizes,
};
use serde::Deserialize;
use utoipa::IntoParams;

use tokio::time::{sleep, timeout};

use super::{
    Patience, Users,
    changes::ChangingCaller,
    problems::{NotAManager, NotAMember, QueryProblems, RequestProblems},
};
use crate::{
    domain::{Command, Member, Refusal},
    error::Error,
    store::{ChatStore, Publication},
};

/// A page has every member of most chats.
const PAGE_SIZES: PageSizes = PageSizes { default: 1000, max: 1000 };

/// Between two looks at whether a change is published.
const PUBLISHED_PAUSES: RangeInclusive<Duration> = Duration::from_millis(4)..=Duration::from_millis(100);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Most members in the response.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<UserId>,
    /// Members with this role only.
    #[param(inline)]
    role: Option<Role>,
}

/// Lists the members of a chat, by id.
#[utoipa::path(
    get,
    path = "/api/chats/{chat}/members",
    operation_id = "list_members",
    tag = "members",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ListParameters),
    responses(
        (status = OK, description = "One page", body = Page<ChatMember>),
        NotAMember,
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
    Query(ListParameters { limit, cursor, role }): Query<ListParameters>,
) -> Result<Json<Page<ChatMember>>, ApiError> {
    let size = PAGE_SIZES.of(limit)?;
    let own = store.member(chat_id, caller.user_id).await.map_err(Error::from)?;
    own.ok_or(Error::NotAMember(chat_id))?;
    let members = store.members(chat_id, role, cursor, size.with_next()).await.map_err(Error::from)?;
    Ok(Json(size.page(members, |member| member.user_id.to_string())))
}

/// Adds plain members: up to 500 at once.
///
/// An owner and an admin may. Each user is added or not by themselves: those whom the caller cannot add are named in `refused`, and
/// all others are in the chat then. Who was in it keeps the role. A request that is repeated is answered the same way. When the chat
/// or the messenger has no room for all who can be added, none is.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/members",
    operation_id = "add_members",
    tag = "members",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    request_body = AddMembersRequest,
    responses(
        (status = OK, description = "Who was not added, and why: not_found (there is no such user), consent_required (the user does \
            not let the caller add them, or not yet again)", body = AddedMembers),
        NotAManager,
        (status = CONFLICT, description = "limit_reached (the chat would be too full, or as many members were added as the caller may \
            add, or as all chats may have; `detail` says which and what makes room)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn add(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    Path(chat_id): Path<ChatId>,
    Json(AddMembersRequest { user_ids }): Json<AddMembersRequest>,
) -> Result<Json<AddedMembers>, ApiError> {
    if user_ids.is_empty() || user_ids.len() > ADDED_MEMBERS {
        let problem = format!("must be 1 to {ADDED_MEMBERS}");
        return Err(InvalidField { field: "user_ids", problem }.into());
    }
    let mut wanted: BTreeSet<_> = user_ids.into_iter().collect();
    let mut refused = BTreeMap::new();
    // A caller who may not add members is refused below, and learns of no user.
    let chat = store.chat(chat_id, caller.user_id).await.map_err(Error::from)?;
    if chat.is_some_and(|chat| chat.takes_members()) {
        let present = store.present(chat_id, &wanted).await.map_err(Error::from)?;
        let newcomers = &wanted - &present;
        for (user_id, error) in users.unwilling(&*store, caller.user_id, newcomers).await? {
            wanted.remove(&user_id);
            refused.insert(user_id, error.code());
        }
    }
    let added = store.add(chat_id, caller.user_id, &wanted, Utc::now()).await.map_err(Error::from)?;
    let unwanted = added.unwanted.iter().map(|user| (*user, Error::from(Refusal::Unwanted(*user)).code()));
    refused.extend(unwanted);
    published(&*store, patience, chat_id, added.publication).await?;
    let refused = refused.into_iter().map(|(user_id, code)| RefusedMember { user_id, code });
    Ok(Json(AddedMembers { refused: refused.collect() }))
}

/// Adds a member, or changes a member's role.
///
/// An owner may do both with any user; making another member the owner makes the old one an admin. An admin may add
/// plain members. What is so already is answered the same way.
///
/// A user decides by `contactable_by` of their profile who adds them. One who has left the group is added again by no one for
/// 24 hours, and one who was removed not by the user who removed them. The response is the same, whichever of these it is.
#[utoipa::path(
    put,
    path = "/api/chats/{chat}/members/{user}",
    operation_id = "put_member",
    tag = "members",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ("user" = UserId, Path, description = "User id")),
    request_body = PutMemberRequest,
    responses(
        (status = OK, description = "The member as requested", body = ChatMember),
        (status = FORBIDDEN, description = "not_a_member, permission_denied (role too low, or a direct chat), \
            consent_required (the user does not let the caller add them, or not yet again)",
            body = Problem, content_type = "application/problem+json"),
        (status = NOT_FOUND, description = "not_found (there is no such user)", body = Problem,
            content_type = "application/problem+json"),
        (status = CONFLICT, description = "conflict (an owner would step down alone), limit_reached (the chat is full, or as many \
            members were added as the caller may add, or as all chats may have; `detail` says which and what makes room)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn put(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    Path((chat_id, user_id)): Path<(ChatId, UserId)>,
    Json(PutMemberRequest { role }): Json<PutMemberRequest>,
) -> Result<Json<ChatMember>, ApiError> {
    // A caller who may not add members is refused below, and a member was checked when added: neither needs the user
    // service.
    let chat = store.chat(chat_id, caller.user_id).await.map_err(Error::from)?;
    if chat.is_some_and(|chat| chat.takes_members())
        && store.member(chat_id, user_id).await.map_err(Error::from)?.is_none()
    {
        users.require_consent(&*store, caller.user_id, BTreeSet::from([user_id])).await?;
    }
    let command = Command::Put { user_id, role };
    change(&*store, patience, chat_id, caller.user_id, command).await?;
    Ok(Json(ChatMember { user_id, role }))
}

/// Removes a member; of oneself it is the same as leaving.
///
/// An owner may remove any member, an admin plain members. A user who is not in the chat is answered the same way, so that
/// a removal can be repeated.
#[utoipa::path(
    delete,
    path = "/api/chats/{chat}/members/{user}",
    operation_id = "remove_member",
    tag = "members",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ("user" = UserId, Path, description = "User id")),
    responses(
        (status = NO_CONTENT, description = "The user is no member any more"),
        NotAManager,
        QueryProblems,
    )
)]
pub(super) async fn remove(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path((chat_id, user_id)): Path<(ChatId, UserId)>,
) -> Result<StatusCode, ApiError> {
    let command = Command::Remove { user_id };
    change(&*store, patience, chat_id, caller.user_id, command).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leaves a chat.
///
/// A direct chat that one of the two has left is not in their list any more, and no message can be sent to it. It is open
/// again, with the same id, when either of them creates it again: the one who left at any time, the other after 24 hours, if the
/// one who left lets them.
///
/// An owner who leaves hands over to the admin, or else the member, who has been there longest. A group that all
/// members have left stays empty. A caller who is not in the chat is answered the same way, so that leaving can be repeated.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/leave",
    operation_id = "leave_chat",
    tag = "members",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = NO_CONTENT, description = "The caller is no member any more"),
        QueryProblems,
    )
)]
pub(super) async fn leave(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(patience): State<Patience>,
    Path(chat_id): Path<ChatId>,
) -> Result<StatusCode, ApiError> {
    change(&*store, patience, chat_id, caller.user_id, Command::Leave).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a change and waits until it is in the event log.
///
/// From then on nothing that a removed user sends can be stored, whichever gateway takes it: its record comes behind the
/// removal in the chat's log. And nothing that an added user sends comes before the addition.
pub(super) async fn change(
    store: &dyn ChatStore,
    patience: Patience,
    chat: ChatId,
    actor: UserId,
    command: Command,
) -> Result<(), Error> {
    let publication = store.change(chat, actor, command, Utc::now()).await?;
    published(store, patience, chat, publication).await
}

/// Waits until it is in the event log.
pub(super) async fn published(
    store: &dyn ChatStore,
    patience: Patience,
    chat: ChatId,
    publication: Publication,
) -> Result<(), Error> {
    let published = async {
        let mut backoff = Backoff::new(PUBLISHED_PAUSES);
        while !store.is_published(publication).await? {
            sleep(backoff.next_wait()).await;
        }
        Ok::<_, Error>(())
    };
    timeout(patience.0, published).await.unwrap_or(Err(Error::Unpublished(chat)))
}

impl From<Member> for ChatMember {
    fn from(member: Member) -> Self {
        Self { user_id: member.user_id, role: member.role }
    }
}
