//! The user service that this one calls, on a loopback port.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use contracts::rpc::{
    EnsureUserRequest, GetUsersRequest, GetUsersResponse, User,
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use kit::rpc::InternalChannel;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

/// A user service that remembers its calls.
#[derive(Clone, Default)]
pub struct Peers {
    pub ensured: Arc<Mutex<Vec<EnsureUserRequest>>>,
}

impl Peers {
    /// Serves until the test ends.
    pub async fn start(&self) -> UserServiceClient<InternalChannel> {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let server = Server::builder()
            .add_service(UserServiceServer::new(self.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        client(&format!("http://{addr}"))
    }
}

/// Returns a client of a service that is down.
pub fn unreachable() -> UserServiceClient<InternalChannel> {
    // Port 9 (discard) of loopback: nothing listens there.
    client("http://127.0.0.1:9")
}

fn client(url: &str) -> UserServiceClient<InternalChannel> {
    UserServiceClient::new(kit::rpc::connect(url, &"token".to_owned().into()).expect("a channel"))
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
