//! `/api/chats/{chat}/invites` and `/api/invites/{code}`: invite links.

#![expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use contracts::{
    ChatId, InviteId, UserId,
    api::{self, CreateInviteRequest, CreatedInvite, InvitePreview, Page, Problem},
};
use kit::{
    auth::Caller,
    bucket::{Rate, SharedBuckets},
    error::ApiError,
    extract::{Json, Path},
    idempotency::IdempotencyKey,
};

use super::{
    Patience, Users,
    changes::{Changes, ChangingCaller},
    joining::{enter, joined, require_manager},
    problems::{NoSuchInvite, NotAManager, QueryProblems, RequestProblems},
};
use crate::{
    domain::{Code, Invite, NewInvite, Preview, Refusal},
    error::Error,
    store::{ChatStore, Invited},
};

/// Codes that lead nowhere, of one user. One of 128 bits is not guessed; a user who tries is held up before the database is.
const RATE: Rate = Rate::every(Duration::from_secs(3), 20);

/// The codes that users tried lately through this process and that led nowhere. Cheap to clone.
#[derive(Clone)]
pub struct Guesses(SharedBuckets<UserId>);

impl Guesses {
    /// Returns guesses of which none was made.
    pub fn new(rate: Rate) -> Self {
        Self(SharedBuckets::new(rate))
    }

    /// Takes what a lookup gives for one of the user's guesses, unless it leads somewhere.
    async fn count<T>(
        &self,
        user: UserId,
        lookup: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.0.try_take(user, Instant::now()).map_err(|wait| Error::TooManyGuesses { wait })?;
        let found = lookup.await;
        if !matches!(&found, Err(error) if error.is_no_invite()) {
            self.0.give_back(&user, Instant::now());
        }
        found
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self::new(RATE)
    }
}

/// Makes an invite link.
///
/// An owner and an admin may. The response has the code of the link, which is kept by no one else: it is not shown again. A request that is
/// repeated with its `idempotency-key` returns the same link with another code, and the code before it is not good any more; one for a link that
/// was revoked in the last 24 hours makes no other one. A chat has at most 100 links that are good. A link goes with the role of the one who made it.
/// Each user takes one use of it, however often they leave and come again.
#[utoipa::path(
    post,
    path = "/api/chats/{chat}/invites",
    operation_id = "create_invite",
    tag = "invites",
    security(("access_token" = [])),
    params(
        ("chat" = ChatId, Path, description = "Chat id"),
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 128, pattern = "^[!-~]+$",
            description = "1 to 128 visible ASCII characters, chosen once for a link and repeated with every retry")
    ),
    request_body = CreateInviteRequest,
    responses(
        (status = CREATED, description = "The new link, with its code", body = CreatedInvite),
        (status = OK, description = "The link that was made with this idempotency-key, with a new code", body = CreatedInvite),
        NotAManager,
        (status = CONFLICT, description = "limit_reached (the chat has 100 links), conflict (the link that was made with this \
            idempotency-key is revoked)", body = Problem,
            content_type = "application/problem+json"),
        (status = UNPROCESSABLE_ENTITY, description = "idempotency_conflict (the idempotency-key was used for another link)",
            body = Problem, content_type = "application/problem+json"),
        RequestProblems,
    )
)]
pub(super) async fn create(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
    key: Option<IdempotencyKey>,
    Json(request): Json<CreateInviteRequest>,
) -> Result<Response, ApiError> {
    let ids = (InviteId::generate(), chat_id);
    let invite = Invite::parse(ids, caller.user_id, &request, Utc::now())?;
    let mut bytes = [0; 16];
    rand::fill(&mut bytes);
    let code = Code::of(bytes);
    let new = NewInvite { invite, code_hash: code.hash(), key };
    let (invite, is_new) = store.create_invite(&new).await.map_err(Error::from)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let body = CreatedInvite { invite: invite.into(), code: code.as_str().to_owned() };
    Ok((status, Json(body)).into_response())
}

/// Lists the invite links of a chat that are good, without their codes, the oldest first.
///
/// Its owner and admins may. There are at most 100, and one page has them all.
#[utoipa::path(
    get,
    path = "/api/chats/{chat}/invites",
    operation_id = "list_invites",
    tag = "invites",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id")),
    responses(
        (status = OK, description = "Every link", body = Page<api::Invite>),
        NotAManager,
        QueryProblems,
    )
)]
pub(super) async fn list(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    Path(chat_id): Path<ChatId>,
) -> Result<Json<Page<api::Invite>>, ApiError> {
    require_manager(&*store, chat_id, &caller).await?;
    let invites = store.invites(chat_id, Utc::now()).await.map_err(Error::from)?;
    Ok(Json(Page { items: invites.into_iter().map(api::Invite::from).collect(), next_cursor: None }))
}

/// Revokes an invite link.
///
/// An owner and an admin may, also when another one made it. Who came by it stays in the chat, and who asks to join goes on to ask. A link that is not
/// there is answered the same way.
#[utoipa::path(
    delete,
    path = "/api/chats/{chat}/invites/{invite}",
    operation_id = "revoke_invite",
    tag = "invites",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), ("invite" = InviteId, Path, description = "Invite id, not the code")),
    responses(
        (status = NO_CONTENT, description = "The link is not good any more"),
        NotAManager,
        QueryProblems,
    )
)]
pub(super) async fn revoke(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    Path((chat_id, invite_id)): Path<(ChatId, InviteId)>,
) -> Result<StatusCode, ApiError> {
    store.revoke_invite(chat_id, caller.user_id, invite_id, Utc::now()).await.map_err(Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns where an invite link leads: the title and the number of members, and nothing else to a caller who is not in the chat.
#[utoipa::path(
    get,
    path = "/api/invites/{code}",
    operation_id = "get_invite",
    tag = "invites",
    security(("access_token" = [])),
    params(("code" = String, Path, description = "The code of the link", example = "4fT0b0m8Qx2d7cVq1sYw3A")),
    responses(
        (status = OK, description = "Where it leads", body = InvitePreview),
        NoSuchInvite,
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, or links of the caller that led \
            nowhere)", body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn preview(
    caller: Caller,
    State(store): State<Arc<dyn ChatStore>>,
    State(guesses): State<Guesses>,
    Path(code): Path<String>,
) -> Result<Json<InvitePreview>, ApiError> {
    let preview = guesses.count(caller.user_id, async {
        let code = Code::parse(&code).ok_or(Refusal::NoSuchInvite)?;
        let preview = store.preview(code.hash(), caller.user_id, Utc::now()).await?;
        Ok(preview.ok_or(Refusal::NoSuchInvite)?)
    });
    Ok(Json(preview.await?.into()))
}

/// Joins a chat by an invite link, or asks to join it when the link needs an approval.
///
/// The caller becomes a plain member, and the entry of the chat that says so has the caller as its sender. A member, and a caller who asks
/// already, are answered the same way and take no use of the link. A user who was removed joins again after 24 hours at the earliest,
/// unless an owner or admin adds them or says yes to their request. Joins and requests to join count as those of public chats.
#[utoipa::path(
    post,
    path = "/api/invites/{code}/join",
    operation_id = "join_by_invite",
    tag = "invites",
    security(("access_token" = [])),
    params(("code" = String, Path, description = "The code of the link", example = "4fT0b0m8Qx2d7cVq1sYw3A")),
    responses(
        (status = OK, description = "The chat, as the caller sees it who is in it", body = api::Chat),
        (status = ACCEPTED, description = "The caller asks to join, and an owner or admin decides", body = api::JoinRequest),
        (status = FORBIDDEN, description = "permission_denied (the caller was removed in the last 24 hours)", body = Problem,
            content_type = "application/problem+json"),
        NoSuchInvite,
        (status = CONFLICT, description = "limit_reached (the chat is full, or too many ask to join it, or the caller has as many \
            memberships by themselves as one user may, or all chats have; `detail` says which and what makes room)", body = Problem,
            content_type = "application/problem+json"),
        (status = TOO_MANY_REQUESTS, description = "rate_limited (requests of the client's address, changes or joins of the caller, or \
            links of the caller that led nowhere)", body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
pub(super) async fn join(
    ChangingCaller(caller): ChangingCaller,
    State(store): State<Arc<dyn ChatStore>>,
    State(guesses): State<Guesses>,
    State(changes): State<Changes>,
    State(users): State<Users>,
    State(patience): State<Patience>,
    Path(code): Path<String>,
) -> Result<Response, ApiError> {
    let come = guesses.count(caller.user_id, async {
        let code = Code::parse(&code).ok_or(Refusal::NoSuchInvite)?;
        users.require_account(caller.user_id).await?;
        let chat_id = store.invited_to(code.hash()).await?.ok_or(Refusal::NoSuchInvite)?;
        if let Some(chat) = enter(&*store, &changes, &caller, chat_id).await? {
            return Ok(Come::Present(Box::new(chat)));
        }
        Ok(Come::Invited(store.join_by_invite(code.hash(), caller.user_id, Utc::now()).await?))
    });
    let chat = match come.await? {
        Come::Present(chat) => *chat,
        Come::Invited(Invited::Member(publication)) => {
            joined(&*store, patience, &caller, publication).await?
        }
        Come::Invited(Invited::Asked(request)) => {
            return Ok((StatusCode::ACCEPTED, Json(api::JoinRequest::from(request))).into_response());
        }
    };
    Ok((StatusCode::OK, Json(chat)).into_response())
}

/// What becomes of a user who comes by a link.
enum Come {
    /// They are in the chat already.
    Present(Box<api::Chat>),
    Invited(Invited),
}

impl From<Invite> for api::Invite {
    fn from(invite: Invite) -> Self {
        Self {
            invite_id: invite.invite_id,
            made_by: invite.made_by,
            created_at_ms: invite.created_at.timestamp_millis(),
            expires_at_ms: invite.expires_at.map(|at| at.timestamp_millis()),
            max_uses: invite.max_uses,
            uses: invite.uses,
            needs_approval: invite.needs_approval,
        }
    }
}

impl From<Preview> for InvitePreview {
    fn from(preview: Preview) -> Self {
        let Preview { invite, title, member_count, is_member } = preview;
        Self {
            title,
            member_count,
            needs_approval: invite.needs_approval,
            chat_id: is_member.then_some(invite.chat_id),
        }
    }
}
