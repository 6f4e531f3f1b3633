//! Who is in which chat, as the chat service knows.

use contracts::{
    ChatId, UserId,
    event::Role,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, GetMembershipRequest,
        chat_service_client::ChatServiceClient,
    },
};
use kit::rpc::InternalChannel;

use crate::error::Error;

/// The chat service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Chats(ChatServiceClient<InternalChannel>);

impl Chats {
    /// Returns the chat service behind a channel.
    pub fn new(channel: InternalChannel) -> Self {
        Self(ChatServiceClient::new(channel))
    }

    /// Reports whether a user is in any of these chats, as of a moment after the call began.
    pub async fn is_in_any(&self, user_id: UserId, chats: &[ChatId]) -> Result<bool, Error> {
        if chats.is_empty() {
            return Ok(false);
        }
        Ok(self.check(user_id, chats).await?.is_member.contains(&true))
    }

    /// Refuses a user who may not send to a chat.
    pub async fn require_sender(&self, user_id: UserId, chat: ChatId) -> Result<(), Error> {
        let answer = self.check(user_id, &[chat]).await?;
        match (answer.is_member.first(), answer.may_send.first()) {
            (Some(true), Some(true)) => Ok(()),
            (Some(true), _) => Err(Error::MayNotSend(chat)),
            _ => Err(Error::NotAMember(chat)),
        }
    }

    /// Refuses a user who may not change the picture of a chat: that is for its owner and admins, and no direct chat has one.
    pub async fn require_manager(&self, user_id: UserId, chat: ChatId) -> Result<(), Error> {
        let answer = self.0.clone().get_membership(membership(chat, user_id)).await;
        let answer = answer.map_err(failed)?.into_inner();
        let member = answer.member.ok_or(Error::NotAMember(chat))?;
        let is_manager = matches!(Role::parse(&member.role), Some(Role::Owner | Role::Admin));
        if is_manager && answer.other_id.is_empty() { Ok(()) } else { Err(Error::NotAManager(chat)) }
    }

    async fn check(&self, user_id: UserId, chats: &[ChatId]) -> Result<CheckMembersResponse, Error> {
        let memberships = chats.iter().map(|chat| membership(*chat, user_id)).collect();
        let answer = self.0.clone().check_members(CheckMembersRequest { memberships }).await;
        Ok(answer.map_err(failed)?.into_inner())
    }
}

fn membership(chat: ChatId, user: UserId) -> GetMembershipRequest {
    GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() }
}

fn failed(status: tonic::Status) -> Error {
    Error::Peer { peer: "chat", source: Box::new(status) }
}
