//! `posthouse.v1.ChatService`, for the tenant's other services.

use std::sync::Arc;

use contracts::{
    ChatId, UserId,
    rpc::{
        GetMembershipRequest, GetMembershipResponse, ListMembersRequest, ListMembersResponse, Member,
        chat_service_server::ChatService,
    },
};
use kit::{error::status, rpc::id};
use tonic::{Request, Response, Status, async_trait};

use crate::{error::Error, store::ChatStore};

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
        let role = self.store.role(chat_id, member).await.map_err(|error| status(Error::from(error)))?;
        let member = role.map(|role| Member { user_id, role: role.as_str().to_owned() });
        Ok(Response::new(GetMembershipResponse { member }))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let chat_id: ChatId = id("chat_id", &request.into_inner().chat_id)?;
        let members = self.store.members(chat_id).await.map_err(|error| status(Error::from(error)))?;
        let member = |member: crate::domain::Member| Member {
            user_id: member.user_id.to_string(),
            role: member.role.as_str().to_owned(),
        };
        Ok(Response::new(ListMembersResponse { members: members.into_iter().map(member).collect() }))
    }
}
