//! `posthouse.v1.AuthService`, for the tenant's other services.

use std::sync::Arc;

use contracts::{
    ChatId,
    rpc::{
        CheckMembershipRequest, CheckMembershipResponse, CheckTokenRequest, CheckTokenResponse,
        GetMembershipRequest, auth_service_server::AuthService, chat_service_client::ChatServiceClient,
    },
};
use kit::{
    auth::{Claims, TokenVerifier},
    error::status,
    rpc::InternalChannel,
};
use tonic::{Request, Response, Status, async_trait};

use crate::error::Error;

/// Answers from the realm's keys and the chat service.
pub struct AuthRpc {
    verifier: Arc<TokenVerifier>,
    chats: ChatServiceClient<InternalChannel>,
}

impl AuthRpc {
    pub fn new(verifier: Arc<TokenVerifier>, chats: ChatServiceClient<InternalChannel>) -> Self {
        Self { verifier, chats }
    }

    async fn claims(&self, access_token: &str) -> Result<Claims, Status> {
        self.verifier.verify(access_token).await.map_err(|error| status(Error::from(error)))
    }
}

#[async_trait]
impl AuthService for AuthRpc {
    async fn check_token(
        &self,
        request: Request<CheckTokenRequest>,
    ) -> Result<Response<CheckTokenResponse>, Status> {
        let claims = self.claims(&request.into_inner().access_token).await?;
        Ok(Response::new(CheckTokenResponse {
            user_id: claims.user_id.to_string(),
            username: claims.username,
            expires_at: claims.expires_at,
        }))
    }

    async fn check_membership(
        &self,
        request: Request<CheckMembershipRequest>,
    ) -> Result<Response<CheckMembershipResponse>, Status> {
        let CheckMembershipRequest { access_token, chat_id } = request.into_inner();
        let user_id = self.claims(&access_token).await?.user_id.to_string();
        let chat_id: ChatId = chat_id.parse().map_err(|_| status(Error::InvalidChatId))?;
        let question = GetMembershipRequest { chat_id: chat_id.to_string(), user_id: user_id.clone() };
        let answer = self.chats.clone().get_membership(question).await;
        let member = answer.map_err(|error| status(Error::Membership(error)))?.into_inner().member;
        let role = member.map(|member| member.role).unwrap_or_default();
        Ok(Response::new(CheckMembershipResponse { user_id, role }))
    }
}
