//! The user service that this one calls, on a loopback port.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use contracts::rpc::{
    DeleteUserRequest, DeleteUserResponse, Deletion, EnsureUserRequest, FinishDeletionRequest,
    FinishDeletionResponse, GetUsersRequest, GetUsersResponse, IsNamedRequest, IsNamedResponse,
    ListDeletionsRequest, ListDeletionsResponse, User,
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
    /// The usernames of all profiles.
    pub names: Arc<Mutex<BTreeSet<String>>>,
    /// Usernames for which it makes no profile.
    pub refused: Arc<Mutex<BTreeSet<String>>>,
    /// Ids of users whose deletion has begun.
    pub deleted: Arc<Mutex<BTreeSet<String>>>,
    /// Hashes of the receipts that were given for them.
    pub receipts: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Ids of those whose deletion is finished.
    pub finished: Arc<Mutex<BTreeSet<String>>>,
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
        let request = request.into_inner();
        if self.refused.lock().expect("no panic").contains(&request.username) {
            return Err(Status::failed_precondition("its name was that of another account"));
        }
        self.names.lock().expect("no panic").insert(request.username.clone());
        self.ensured.lock().expect("no panic").push(request);
        Ok(Response::new(User::default()))
    }

    async fn is_named(&self, request: Request<IsNamedRequest>) -> Result<Response<IsNamedResponse>, Status> {
        let username = request.into_inner().username;
        let is_named = self.names.lock().expect("no panic").contains(&username);
        Ok(Response::new(IsNamedResponse { is_named }))
    }

    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let ids = request.into_inner().user_ids;
        let ensured = self.ensured.lock().expect("no panic");
        let known = ensured.iter().filter(|user| ids.contains(&user.user_id));
        let user = |user: &EnsureUserRequest| User { user_id: user.user_id.clone(), ..User::default() };
        Ok(Response::new(GetUsersResponse { users: known.map(user).collect() }))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let DeleteUserRequest { user_id, receipt } = request.into_inner();
        self.deleted.lock().expect("no panic").insert(user_id);
        self.receipts.lock().expect("no panic").push(receipt);
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn finish_deletion(
        &self,
        request: Request<FinishDeletionRequest>,
    ) -> Result<Response<FinishDeletionResponse>, Status> {
        self.finished.lock().expect("no panic").insert(request.into_inner().user_id);
        Ok(Response::new(FinishDeletionResponse {}))
    }

    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        assert!(request.into_inner().unfinished, "this service finishes deletions");
        let (deleted, finished) =
            (self.deleted.lock().expect("no panic"), self.finished.lock().expect("no panic"));
        let deletion = |user_id: &String| Deletion { user_id: user_id.clone(), ..Deletion::default() };
        Ok(Response::new(ListDeletionsResponse {
            deletions: deleted.difference(&finished).map(deletion).collect(),
        }))
    }
}
