//! `posthouse.v1.AccountService`, for the tenant's other services.

use contracts::{
    SessionId, UserId,
    rpc::{
        AccountSession, EndSessionRequest, EndSessionResponse, GetAccountClosedRequest,
        GetAccountClosedResponse, ListSessionsRequest, ListSessionsResponse, SetAccountClosedRequest,
        SetAccountClosedResponse, account_service_server::AccountService,
    },
};
use kit::{
    error::{InvalidField, status},
    rpc::id,
};
use tonic::{Request, Response, Status, async_trait};

use super::sessions::MAX_LISTED;
use crate::{domain::ListedSession, guard::Guard};

/// Serves from the realm.
pub struct AccountRpc {
    accounts: Guard,
}

impl AccountRpc {
    pub fn new(accounts: Guard) -> Self {
        Self { accounts }
    }
}

#[async_trait]
impl AccountService for AccountRpc {
    async fn set_account_closed(
        &self,
        request: Request<SetAccountClosedRequest>,
    ) -> Result<Response<SetAccountClosedResponse>, Status> {
        let SetAccountClosedRequest { user_id, closed } = request.into_inner();
        self.accounts.set_closed(id("user_id", &user_id)?, closed).await.map_err(status)?;
        Ok(Response::new(SetAccountClosedResponse {}))
    }

    async fn get_account_closed(
        &self,
        request: Request<GetAccountClosedRequest>,
    ) -> Result<Response<GetAccountClosedResponse>, Status> {
        let GetAccountClosedRequest { user_id } = request.into_inner();
        let closed = self.accounts.is_closed(id("user_id", &user_id)?).await.map_err(status)?;
        Ok(Response::new(GetAccountClosedResponse { closed }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let ListSessionsRequest { user_id, session_ids } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        let listed = if session_ids.is_empty() {
            let mut all = self.accounts.sessions_of(user_id).await.map_err(status)?;
            all.truncate(MAX_LISTED);
            all
        } else {
            self.accounts.sessions_among(user_id, &session_ids).await.map_err(status)?
        };
        let session = |session: ListedSession| AccountSession {
            session_id: session.id.to_string(),
            started_at_ms: session.started_at_ms,
            last_used_at_ms: session.last_used_at_ms,
        };
        let sessions = listed.into_iter().map(session).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn end_session(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let EndSessionRequest { user_id, session_id } = request.into_inner();
        let session = session_id.parse::<SessionId>();
        let session =
            session.map_err(|error| InvalidField { field: "session_id", problem: error.to_string() })?;
        self.accounts.end_of(id("user_id", &user_id)?, session).await.map_err(status)?;
        Ok(Response::new(EndSessionResponse {}))
    }
}
