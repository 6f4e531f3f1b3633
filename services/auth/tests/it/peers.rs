//! The user service that this one calls, on a loopback port.

use std::sync::{Arc, Mutex};

use contracts::rpc::{
    EnsureUserRequest, GetUsersRequest, GetUsersResponse, User,
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use kit::{
    rpc::InternalChannel,
    testing::{serve_peer, unreachable_peer},
};
use tonic::{Request, Response, Status, async_trait, service::Routes};

/// A user service that remembers its calls.
#[derive(Clone, Default)]
pub struct Peers {
    pub ensured: Arc<Mutex<Vec<EnsureUserRequest>>>,
}

impl Peers {
    /// Serves until the test ends.
    pub async fn start(&self) -> UserServiceClient<InternalChannel> {
        UserServiceClient::new(serve_peer(Routes::new(UserServiceServer::new(self.clone()))).await)
    }
}

/// Returns a client of a service that is down.
pub fn unreachable() -> UserServiceClient<InternalChannel> {
    UserServiceClient::new(unreachable_peer())
}

#[async_trait]
impl UserService for Peers {
    async fn ensure_user(&self, request: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        self.ensured.lock().expect("no panic").push(request.into_inner());
        Ok(Response::new(User::default()))
    }

    async fn get_users(
        &self,
        _request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        Err(Status::unimplemented("not asked by this service"))
    }
}
