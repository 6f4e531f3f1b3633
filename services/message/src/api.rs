//! REST: what a chat's members read, and what a user wrote.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

pub(crate) mod grpc;
mod syncs;
mod turns;

use std::{
    collections::{HashMap, HashSet},
    iter::repeat,
    sync::Arc,
};

use axum::extract::State;
use contracts::{
    ChatId, UserId,
    api::{MessagePage, Page, Problem},
    convert::UnreadableField,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, EntryId, GetMembershipRequest, GetUsersRequest,
        chat_service_client::ChatServiceClient, user_service_client::UserServiceClient,
    },
    wire::Message,
};
use futures_util::try_join;
use kit::{
    auth::Caller,
    docs::{self, OpenApiRouter, QueryProblems, routes},
    error::{ApiError, InvalidField},
    extract::{Json, Path, Query},
    page::{HISTORY, PageSize, Span},
    rpc::InternalChannel,
};
use serde::Deserialize;
use utoipa::IntoParams;

pub(crate) use self::turns::Turns;
use crate::{
    domain::{KeyId, SeatId, TargetId},
    error::Error,
    history::{Archive, Beginning, History, List, OwnTexts},
    pages::Pages,
    receipts::{Receipts, Shown},
    sync::Syncing,
};

/// What requests share.
#[derive(Clone)]
pub(crate) struct AppState {
    pub store: Arc<dyn Archive>,
    pub syncing: Arc<dyn Syncing>,
    pub chats: ChatServiceClient<InternalChannel>,
    pub users: UserServiceClient<InternalChannel>,
    pub receipts: Receipts,
    pub turns: Turns,
    pub pages: Arc<Pages>,
}

/// Returns the REST API with its description.
pub(crate) fn routes(state: AppState) -> OpenApiRouter {
    docs::router().routes(routes!(get_messages)).routes(routes!(list_own)).with_state(state)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Entries with a greater seq are returned; 0 starts at the first one that the caller reads, and so does the absence of all
    /// three. Beside `before` it has no effect.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// The last entries with a smaller seq are returned. Beside `around` it has no effect.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Entries before this seq and from it on are returned, half of a page each.
    #[param(minimum = 1)]
    around: Option<i64>,
    /// Entries from the first one on that was sent at or after this time, in milliseconds since the epoch. Beside
    /// `around` and `before` it has no effect, and `after` has none beside it.
    #[param(minimum = 0)]
    from_ms: Option<i64>,
    /// Most messages in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
}

impl PageQuery {
    fn span(&self) -> Result<Span, InvalidField> {
        Span::of(self.after, self.before, self.around, self.from_ms)
    }
}

/// Messages of a chat in the order of their seq, for its members.
///
/// A member who was added to a group, or is back, reads from the entry that added them, unless the group gave the whole history
/// to those who were added at that time. `from_seq` is where the history of the caller begins.
#[utoipa::path(
    get,
    path = "/api/messages/{chat}",
    tag = "messages",
    security(("access_token" = [])),
    params(("chat" = ChatId, Path, description = "Chat id"), PageQuery),
    responses(
        (status = OK, description = "The page is the last one when its last seq is head_seq. It ends at `limit` entries or at 128 KiB", body = MessagePage),
        (status = FORBIDDEN, description = "not_a_member", body = Problem, content_type = "application/problem+json"),
        QueryProblems,
    )
)]
async fn get_messages(
    State(state): State<AppState>,
    caller: Caller,
    Path(chat): Path<ChatId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<MessagePage>, ApiError> {
    let size = HISTORY.of(page.limit)?;
    let History { messages, head_seq, from_seq } =
        state.read(chat, caller.user_id, None, page.span()?, size).await?;
    Ok(Json(MessagePage { messages, head_seq, from_seq }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OwnQuery {
    /// Most messages in the response.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\.[0-9]{1,18}$")]
    cursor: Option<String>,
}

/// Lists what the caller wrote, by chat and seq: also in chats that they have left or were removed from, and before the history that
/// they read now begins.
///
/// Messages are as they are now: edited, deleted, or `expired`. Reactions, replies and pins of others are not among it. A page ends at
/// `limit` messages or at 128 KiB, or after some thousand entries of others: it may be empty and have a `next_cursor`.
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "list_own_messages",
    tag = "messages",
    security(("access_token" = [])),
    params(OwnQuery),
    responses(
        (status = OK, description = "One page", body = Page<Message>),
        QueryProblems,
    )
)]
async fn list_own(
    State(state): State<AppState>,
    caller: Caller,
    Query(OwnQuery { limit, cursor }): Query<OwnQuery>,
) -> Result<Json<Page<Message>>, ApiError> {
    let size = HISTORY.of(limit)?;
    let invalid = || InvalidField { field: "cursor", problem: "must be one of this service".to_owned() };
    let behind = cursor.map(|cursor| entry(&cursor).ok_or_else(invalid)).transpose()?;
    let own = state.store.own_texts_of(caller.user_id, behind, size.items()).await;
    let OwnTexts { messages, last } = own.map_err(Error::OwnTexts)?;
    let next_cursor = last.map(|TargetId { chat, seq }| format!("{chat}.{seq}"));
    Ok(Json(Page { items: messages, next_cursor }))
}

/// Reads the entry in a cursor.
fn entry(cursor: &str) -> Option<TargetId> {
    let (chat, seq) = cursor.split_once('.')?;
    Some(TargetId { chat: chat.parse().ok()?, seq: seq.parse::<i64>().ok().filter(|seq| *seq >= 0)? })
}

impl AppState {
    /// Reads for a member of the chat, as the chat service knows; it is not called when the beginning is known.
    async fn read(
        &self,
        chat: ChatId,
        user: UserId,
        known_from_seq: Option<i64>,
        span: Span,
        size: PageSize,
    ) -> Result<History, Error> {
        let beginning = match known_from_seq {
            Some(seq) => Beginning::Seq(seq),
            None => self.beginning(chat, user).await?,
        };
        let reader = SeatId { chat, user };
        let history = self.pages.page(reader, beginning, span, size.items()).await;
        history.map_err(|source| Error::History { chat, source })
    }

    /// Lists what is pinned, for a member of the chat.
    async fn pins(&self, reader: SeatId, before: Option<i64>, size: PageSize) -> Result<List, Error> {
        let SeatId { chat, user } = reader;
        let beginning = self.beginning(chat, user).await?;
        let list = async {
            let Some(from_seq) = self.store.beginning_of(beginning).await? else {
                return Ok(List::default());
            };
            self.store.pins_of(reader, from_seq, before, size.items()).await
        };
        list.await.map_err(|source| Error::History { chat, source: Arc::new(source) })
    }

    /// Lists the replies to a message, for a member of the chat.
    async fn replies(&self, reader: SeatId, (seq, after): (i64, i64), size: PageSize) -> Result<List, Error> {
        let SeatId { chat, user } = reader;
        let beginning = self.beginning(chat, user).await?;
        let list = async {
            let Some(from_seq) = self.store.beginning_of(beginning).await? else { return Ok(None) };
            self.store.replies_of(reader, from_seq, (seq, after), size.items()).await
        };
        let list = list.await.map_err(|source| Error::History { chat, source: Arc::new(source) })?;
        list.ok_or(Error::NoEntry { chat, seq })
    }

    /// Reads one entry for a member of the chat.
    async fn entry(&self, chat: ChatId, user: UserId, seq: i64) -> Result<Message, Error> {
        // One that is not positive is of no entry, and neither is one behind the last.
        let after = seq.checked_sub(1).filter(|after| *after >= 0).ok_or(Error::NoEntry { chat, seq })?;
        let page = self.read(chat, user, None, Span::After(after), PageSize::ONE).await?;
        page.messages.into_iter().find(|entry| entry.seq == seq).ok_or(Error::NoEntry { chat, seq })
    }

    /// Returns where the history of a member begins.
    ///
    /// The chat service names the entry that added the member, and not its seq: the membership is known before the entry is
    /// stored, and the new member must not read what is before it in the meantime.
    async fn beginning(&self, chat: ChatId, user: UserId) -> Result<Beginning, Error> {
        Ok(self.membership(chat, user).await?.0)
    }

    /// Returns where the history of a member begins, and the other user of a direct chat.
    async fn membership(&self, chat: ChatId, user: UserId) -> Result<(Beginning, Option<UserId>), Error> {
        let request = GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() };
        let answer = self.chats.clone().get_membership(request).await;
        let answer = answer.map_err(|status| Error::Membership(Box::new(status)))?.into_inner();
        let member = answer.member.ok_or(Error::NotAMember(chat))?;
        let other = match answer.other_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|_| UnreadableField("other_id"))?),
        };
        Ok((beginning(chat, member.reads_from)?, other))
    }

    /// Returns what is shown of these users in these chats; nothing when that is not known.
    async fn shown(&self, seats: &[SeatId]) -> Vec<Shown> {
        if seats.is_empty() {
            return Vec::new();
        }
        let user_ids: HashSet<String> = seats.iter().map(|seat| seat.user.to_string()).collect();
        let memberships = seats.iter().map(|SeatId { chat, user }| GetMembershipRequest {
            chat_id: chat.to_string(),
            user_id: user.to_string(),
        });
        let (mut users, mut chats) = (self.users.clone(), self.chats.clone());
        let answers = try_join!(
            users.get_users(GetUsersRequest { user_ids: user_ids.into_iter().collect() }),
            chats.check_members(CheckMembersRequest { memberships: memberships.collect() })
        );
        let (users, checked) = match answers {
            Ok((users, checked)) => {
                let CheckMembersResponse { may_send, may_react, .. } = checked.into_inner();
                // An older chat service, during an update, does not say who may react.
                let takes_part = if may_react.is_empty() { may_send } else { may_react };
                (users.into_inner().users, takes_part)
            }
            Err(error) => {
                tracing::debug!(%error, "nobody's reading is shown: {error}");
                return vec![Shown::Nothing; seats.len()];
            }
        };
        let hides: HashMap<&str, bool> =
            users.iter().map(|user| (user.user_id.as_str(), user.hides_read_receipts)).collect();
        let shown = |(seat, takes_part): (&SeatId, bool)| match hides.get(seat.user.to_string().as_str()) {
            Some(false) if takes_part => Shown::All,
            Some(false) => Shown::AsBefore,
            Some(true) | None => Shown::Nothing,
        };
        seats.iter().zip(checked.into_iter().chain(repeat(false))).map(shown).collect()
    }
}

/// Reads where a history begins from what the chat service says.
fn beginning(chat: ChatId, reads_from: Option<EntryId>) -> Result<Beginning, UnreadableField> {
    let Some(EntryId { sender_id, key }) = reads_from else { return Ok(Beginning::Seq(1)) };
    Ok(Beginning::Entry(KeyId {
        chat,
        sender: sender_id.parse().map_err(|_| UnreadableField("sender_id"))?,
        key: key.parse().map_err(|_| UnreadableField("key"))?,
    }))
}
