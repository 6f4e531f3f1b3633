//! `posthouse.v1.ChatService` and its like, for the tenant's other services.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, UserId,
    api::OwnChatState,
    event::Role,
    rpc::{
        CheckBlocksRequest, CheckBlocksResponse, CheckMembersRequest, CheckMembersResponse, EntryId,
        FindChatsRequest, FindChatsResponse, GetMembershipRequest, GetMembershipResponse,
        ListAcquaintancesRequest, ListAcquaintancesResponse, ListCalledRequest, ListCalledResponse,
        ListChatsRequest, ListChatsResponse, ListMembershipsRequest, ListMembershipsResponse,
        ListPublishedRequest, ListPublishedResponse, Member, Membership, NamedChat, OwnState, PublishedPlace,
        PublishedRecord, RestrictRequest, RestrictResponse, Restriction,
        chat_directory_server::ChatDirectory, chat_restrictions_server::ChatRestrictions,
        chat_service_server::ChatService,
    },
    wire::MAX_ROLE_MENTIONS,
};
use kit::{
    error::{InvalidField, status},
    page::PageSizes,
    rpc::id,
    text::{NameQuery, search_key},
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{self, Access},
    error::Error,
    store::{self, ChatStore, Published},
};

/// Memberships of one `CheckMembers` call, and users of one `CheckBlocks` or `ListAcquaintances` call.
const MAX_CHECKED: usize = 1000;

/// Records of one page of what was published.
const PUBLISHED: usize = 1000;

/// Chats of one page of all of them.
const LISTED: usize = 1000;

/// Chats of a user that a search by their names looks at: more than a list of chats shows anyone.
const NAMED: usize = 10_000;
/// Direct chats that it names, so that their users are looked up in one call.
const NAMED_DIRECT: usize = 1000;
const FOUND: PageSizes = PageSizes { default: 20, max: 100 };

/// Serves from the store.
#[derive(Clone)]
pub struct ChatRpc {
    store: Arc<dyn ChatStore>,
}

impl ChatRpc {
    pub fn new(store: Arc<dyn ChatStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl ChatService for ChatRpc {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let GetMembershipRequest { chat_id, user_id } = request.into_inner();
        let chat_id: ChatId = id("chat_id", &chat_id)?;
        let user: UserId = id("user_id", &user_id)?;
        let found = self.store.membership(chat_id, user).await;
        let Some(found) = found.map_err(|error| status(Error::from(error)))? else {
            return Ok(Response::new(GetMembershipResponse::default()));
        };
        let Membership { other_id, role, reads_from, .. } = found.into();
        let member = Some(Member { user_id: user.to_string(), role, reads_from });
        Ok(Response::new(GetMembershipResponse { member, other_id }))
    }

    async fn check_members(
        &self,
        request: Request<CheckMembersRequest>,
    ) -> Result<Response<CheckMembersResponse>, Status> {
        let memberships = request.into_inner().memberships;
        if memberships.len() > MAX_CHECKED {
            return Err(
                InvalidField { field: "memberships", problem: format!("at most {MAX_CHECKED}") }.into()
            );
        }
        let seats: Vec<(ChatId, UserId)> = memberships
            .iter()
            .map(|seat| Ok((id("chat_id", &seat.chat_id)?, id("user_id", &seat.user_id)?)))
            .collect::<Result<_, InvalidField>>()?;
        let rights = self.store.rights(&seats).await.map_err(|error| status(Error::from(error)))?;
        let accesses: Vec<_> = rights.iter().map(|rights| rights.access).collect();
        let slow_mode_seconds = rights.iter().map(|rights| rights.slow_mode_seconds).collect();
        let is_member = accesses.iter().map(|access| *access != Access::None).collect();
        let may_send = accesses.iter().map(|access| *access == Access::ReadAndSend).collect();
        let may_react = |access: &Access| matches!(access, Access::ReadAndReact | Access::ReadAndSend);
        let may_react = accesses.iter().map(may_react).collect();
        let is_restricted = accesses.iter().map(|access| *access == Access::Restricted).collect();
        let checked =
            CheckMembersResponse { is_member, may_send, may_react, slow_mode_seconds, is_restricted };
        Ok(Response::new(checked))
    }

    async fn check_blocks(
        &self,
        request: Request<CheckBlocksRequest>,
    ) -> Result<Response<CheckBlocksResponse>, Status> {
        let CheckBlocksRequest { user_id, other_ids } = request.into_inner();
        if other_ids.len() > MAX_CHECKED {
            return Err(InvalidField { field: "other_ids", problem: format!("at most {MAX_CHECKED}") }.into());
        }
        let user_id: UserId = id("user_id", &user_id)?;
        let others = other_ids.iter().map(|other| id("other_ids", other));
        let others: Vec<UserId> = others.collect::<Result<_, InvalidField>>()?;
        let blocked =
            self.store.blocked(user_id, &others).await.map_err(|error| status(Error::from(error)))?;
        let is_blocked = others.iter().map(|other| blocked.contains(other)).collect();
        Ok(Response::new(CheckBlocksResponse { is_blocked }))
    }

    async fn list_called(
        &self,
        request: Request<ListCalledRequest>,
    ) -> Result<Response<ListCalledResponse>, Status> {
        let ListCalledRequest { chat_id, user_ids, roles } = request.into_inner();
        let chat_id: ChatId = id("chat_id", &chat_id)?;
        if user_ids.len() > MAX_CHECKED {
            return Err(InvalidField { field: "user_ids", problem: format!("at most {MAX_CHECKED}") }.into());
        }
        let users = user_ids.iter().map(|user| id("user_ids", user));
        let users: BTreeSet<UserId> = users.collect::<Result<_, InvalidField>>()?;
        let failed = |error| status(Error::from(error));
        let members = if users.is_empty() {
            BTreeSet::new()
        } else {
            self.store.present(chat_id, &users).await.map_err(failed)?
        };
        let mut role_members = Vec::new();
        for role in &roles {
            let problem = || "owner and admin".to_owned();
            let role = Role::parse(role).filter(|role| *role != Role::Member);
            let role = role.ok_or_else(|| InvalidField { field: "roles", problem: problem() })?;
            let room = (MAX_ROLE_MENTIONS + 1).saturating_sub(role_members.len());
            role_members.extend(self.store.members(chat_id, Some(role), None, room).await.map_err(failed)?);
        }
        Ok(Response::new(ListCalledResponse {
            member_ids: members.iter().map(UserId::to_string).collect(),
            role_member_ids: role_members.iter().map(|member| member.user_id.to_string()).collect(),
        }))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let ListMembershipsRequest { user_id, chat_ids, seats_only } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        if seats_only {
            let seats = self.store.seats(user_id).await.map_err(|error| status(Error::from(error)))?;
            let memberships = seats.into_iter().map(Membership::from).collect();
            return Ok(Response::new(ListMembershipsResponse { memberships, restrictions: Vec::new() }));
        }
        let among: Vec<ChatId> =
            chat_ids.iter().map(|text| id("chat_ids", text)).collect::<Result<_, InvalidField>>()?;
        let memberships = self.store.memberships(user_id, &among).await;
        let memberships = memberships.map_err(|error| status(Error::from(error)))?;
        let memberships = memberships.into_iter().map(Membership::from).collect();
        let restrictions =
            self.store.restrictions(user_id).await.map_err(|error| status(Error::from(error)))?;
        let restrictions = restrictions.into_iter().map(Restriction::from).collect();
        Ok(Response::new(ListMembershipsResponse { memberships, restrictions }))
    }

    async fn find_chats(
        &self,
        request: Request<FindChatsRequest>,
    ) -> Result<Response<FindChatsResponse>, Status> {
        let FindChatsRequest { user_id, query, limit } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        let query = NameQuery::parse("query", &query)?;
        let limit = FOUND.of((limit != 0).then_some(i64::from(limit)))?.items();
        let names = self.store.names(user_id, NAMED).await.map_err(|error| status(Error::from(error)))?;
        let (mut chats, mut direct_chats) = (Vec::new(), Vec::new());
        for named in names {
            match &named.title {
                None if direct_chats.len() < NAMED_DIRECT => direct_chats.push(named.into()),
                Some(title) if chats.len() < limit && query.finds(&[&search_key(title)]) => {
                    chats.push(named.into());
                }
                _ => {}
            }
        }
        Ok(Response::new(FindChatsResponse { chats, direct_chats }))
    }

    async fn list_published(
        &self,
        request: Request<ListPublishedRequest>,
    ) -> Result<Response<ListPublishedResponse>, Status> {
        let ListPublishedRequest { after, from } = request.into_inner();
        let from = match from {
            Some(PublishedPlace { id, at_us }) => {
                let at = DateTime::from_timestamp_micros(at_us);
                let at =
                    at.ok_or_else(|| InvalidField { field: "from", problem: "it is no time".to_owned() })?;
                Some(store::PublishedPlace { id, at: Some(at) })
            }
            // A gateway of before, during an update.
            None => (after > 0).then_some(store::PublishedPlace { id: after, at: None }),
        };
        let page = self.store.published(from, PUBLISHED).await;
        let Published { records, place, follows, more } = page.map_err(|error| status(Error::from(error)))?;
        let records = records.into_iter().map(|(key, payload)| PublishedRecord { key, payload }).collect();
        let place = place.map(|place| PublishedPlace {
            id: place.id,
            at_us: place.at.map_or(0, |at| at.timestamp_micros()),
        });
        let last = place.map_or(0, |place| place.id);
        Ok(Response::new(ListPublishedResponse { records, last, more, place, follows }))
    }

    async fn list_acquaintances(
        &self,
        request: Request<ListAcquaintancesRequest>,
    ) -> Result<Response<ListAcquaintancesResponse>, Status> {
        let ListAcquaintancesRequest { user_id, other_ids } = request.into_inner();
        if other_ids.len() > MAX_CHECKED {
            return Err(InvalidField { field: "other_ids", problem: format!("at most {MAX_CHECKED}") }.into());
        }
        let user_id: UserId = id("user_id", &user_id)?;
        let others: Vec<UserId> =
            other_ids.iter().map(|text| id("other_ids", text)).collect::<Result<_, InvalidField>>()?;
        let met = self.store.acquaintances(user_id, &others).await;
        let met = met.map_err(|error| status(Error::from(error)))?;
        let user_ids = met.iter().map(UserId::to_string).collect();
        Ok(Response::new(ListAcquaintancesResponse { user_ids }))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl ChatDirectory for ChatRpc {
    async fn list_chats(
        &self,
        request: Request<ListChatsRequest>,
    ) -> Result<Response<ListChatsResponse>, Status> {
        let ListChatsRequest { after_id, limit } = request.into_inner();
        let after = match after_id.as_str() {
            "" => None,
            text => Some(id("after_id", text)?),
        };
        // 0 stands for an absent limit.
        let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(LISTED).min(LISTED);
        let failed = |error| status(Error::from(error));
        let chats = self.store.all_chats(after, limit).await.map_err(failed)?;
        let total = self.store.count_chats().await.map_err(failed)?;
        let chat_ids = chats.iter().map(ChatId::to_string).collect();
        Ok(Response::new(ListChatsResponse { chat_ids, total }))
    }
}

#[async_trait]
impl ChatRestrictions for ChatRpc {
    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn restrict(
        &self,
        request: Request<RestrictRequest>,
    ) -> Result<Response<RestrictResponse>, Status> {
        let RestrictRequest { user_id, chat_id, until_ms, remove, ban } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        let chat_id: Option<ChatId> = match chat_id.as_str() {
            "" => None,
            text => Some(id("chat_id", text)?),
        };
        let until = match until_ms {
            0 => None,
            until_ms => Some(
                DateTime::from_timestamp_millis(until_ms)
                    .ok_or_else(|| InvalidField { field: "until_ms", problem: "it is no time".to_owned() })?,
            ),
        };
        let failed = |error| status(Error::from(error));
        // Before the removal: a user who is back at once writes nothing either.
        let restriction =
            until.map(|until| domain::Restriction { chat_id, until, is_ban: ban && chat_id.is_none() });
        self.store.restrict(user_id, chat_id, restriction).await.map_err(failed)?;
        if let Some(chat_id) = chat_id.filter(|_| remove) {
            self.store.depart(chat_id, user_id, Utc::now()).await.map_err(failed)?;
        }
        Ok(Response::new(RestrictResponse {}))
    }
}

impl From<domain::Membership> for Membership {
    fn from(membership: domain::Membership) -> Self {
        let domain::Membership { chat, other, joined_at, reads_from, version, is_closed } = membership;
        let changed_at_ms = chat.own.changed_at.map_or(0, |at| at.timestamp_millis());
        let own = OwnState { changed_at_ms, ..OwnChatState::from(chat.own).into() };
        Self {
            chat_id: chat.chat_id.to_string(),
            kind: chat.kind.as_str().to_owned(),
            title: chat.title.unwrap_or_default(),
            topic: chat.topic.unwrap_or_default(),
            avatar: chat.avatar.unwrap_or_default(),
            slow_mode_seconds: chat.slow_mode_seconds,
            message_ttl_seconds: chat.message_ttl_seconds,
            own: Some(own),
            other_id: other.map(|user| user.to_string()).unwrap_or_default(),
            role: chat.role.as_str().to_owned(),
            reads_from: reads_from.map(EntryId::from),
            member_count: chat.member_count,
            joined_at_ms: joined_at.timestamp_millis(),
            version,
            is_closed,
        }
    }
}

impl From<domain::NamedChat> for NamedChat {
    fn from(named: domain::NamedChat) -> Self {
        let domain::NamedChat { chat_id, kind, title, other } = named;
        Self {
            chat_id: chat_id.to_string(),
            kind: kind.as_str().to_owned(),
            title: title.unwrap_or_default(),
            other_id: other.map(|user| user.to_string()).unwrap_or_default(),
        }
    }
}

impl From<domain::Seat> for Membership {
    fn from(seat: domain::Seat) -> Self {
        let domain::Seat { chat_id, joined_at, reads_from, own_changed_at } = seat;
        let changed_at_ms = own_changed_at.map_or(0, |at| at.timestamp_millis());
        Self {
            chat_id: chat_id.to_string(),
            reads_from: reads_from.map(EntryId::from),
            joined_at_ms: joined_at.timestamp_millis(),
            own: Some(OwnState { changed_at_ms, ..OwnState::default() }),
            ..Self::default()
        }
    }
}

impl From<domain::Restriction> for Restriction {
    fn from(restriction: domain::Restriction) -> Self {
        let domain::Restriction { chat_id, until, is_ban } = restriction;
        Self {
            chat_id: chat_id.map(|chat| chat.to_string()).unwrap_or_default(),
            until_ms: until.timestamp_millis(),
            ban: is_ban,
        }
    }
}

impl From<domain::EntryId> for EntryId {
    fn from(entry: domain::EntryId) -> Self {
        Self { sender_id: entry.sender.to_string(), key: entry.key.to_string() }
    }
}
