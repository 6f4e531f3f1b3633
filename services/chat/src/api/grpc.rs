//! `posthouse.v1.ChatService`, for the tenant's other services.

use std::sync::Arc;

use contracts::{
    ChatId, UserId,
    rpc::{
        CheckBlocksRequest, CheckBlocksResponse, CheckMembersRequest, CheckMembersResponse, EntryId,
        GetMembershipRequest, GetMembershipResponse, ListAcquaintancesRequest, ListAcquaintancesResponse,
        ListMembersRequest, ListMembersResponse, Member, chat_service_server::ChatService,
    },
};
use kit::{
    error::{InvalidField, status},
    rpc::id,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{self, Access},
    error::Error,
    store::ChatStore,
};

/// Memberships of one `CheckMembers` call, and users of one `CheckBlocks` or `ListAcquaintances` call.
const MAX_CHECKED: usize = 1000;

/// Serves from the store.
pub struct ChatRpc {
    store: Arc<dyn ChatStore>,
}

impl ChatRpc {
    pub fn new(store: Arc<dyn ChatStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl ChatService for ChatRpc {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let GetMembershipRequest { chat_id, user_id } = request.into_inner();
        let chat_id: ChatId = id("chat_id", &chat_id)?;
        let member: UserId = id("user_id", &user_id)?;
        let member = self.store.member(chat_id, member).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(GetMembershipResponse { member: member.map(Member::from) }))
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
        let accesses = self.store.accesses(&seats).await.map_err(|error| status(Error::from(error)))?;
        let is_member = accesses.iter().map(|access| *access != Access::None).collect();
        let may_send = accesses.iter().map(|access| *access == Access::ReadAndSend).collect();
        Ok(Response::new(CheckMembersResponse { is_member, may_send }))
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

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let chat_id: ChatId = id("chat_id", &request.into_inner().chat_id)?;
        let members = self.store.members(chat_id).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(ListMembersResponse { members: members.into_iter().map(Member::from).collect() }))
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

impl From<domain::Member> for Member {
    fn from(member: domain::Member) -> Self {
        Self {
            user_id: member.user_id.to_string(),
            role: member.role.as_str().to_owned(),
            reads_from: member
                .reads_from
                .map(|entry| EntryId { sender_id: entry.sender.to_string(), key: entry.key.to_string() }),
        }
    }
}
