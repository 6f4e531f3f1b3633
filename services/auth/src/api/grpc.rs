//! `posthouse.v1.AccountService`, for the tenant's other services.

use contracts::rpc::{
    GetAccountClosedRequest, GetAccountClosedResponse, SetAccountClosedRequest, SetAccountClosedResponse,
    account_service_server::AccountService,
};
use kit::{error::status, rpc::id};
use tonic::{Request, Response, Status, async_trait};

use crate::guard::Guard;

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
}
