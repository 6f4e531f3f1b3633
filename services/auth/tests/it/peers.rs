//! The services that this one asks, on a loopback port.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use contracts::rpc::{
    EnsureUserRequest, GetMembershipRequest, GetMembershipResponse, GetUsersRequest, GetUsersResponse,
    ListMembersRequest, ListMembersResponse, Member, User,
    chat_service_client::ChatServiceClient,
    chat_service_server::{ChatService, ChatServiceServer},
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use kit::rpc::InternalChannel;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

/// A chat and a user service that remember what they were told.
#[derive(Clone, Default)]
pub struct Peers {
    pub ensured: Arc<Mutex<Vec<EnsureUserRequest>>>,
    /// The one membership there is: chat, user, role.
    pub membership: Arc<Mutex<Option<(String, String, String)>>>,
}

/// Clients of them.
pub struct Clients {
    pub chats: ChatServiceClient<InternalChannel>,
    pub users: UserServiceClient<InternalChannel>,
}

impl Peers {
    /// Serves until the test ends.
    pub async fn start(&self) -> Clients {
        let listener =
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a loopback port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let server = Server::builder()
            .add_service(ChatServiceServer::new(self.clone()))
            .add_service(UserServiceServer::new(self.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        clients(&format!("http://{addr}"))
    }
}

/// Returns clients of services that are down.
pub fn unreachable() -> Clients {
    // Port 9 (discard) of loopback: nobody listens there.
    clients("http://127.0.0.1:9")
}

fn clients(url: &str) -> Clients {
    let channel = kit::rpc::connect(url, &"token".to_owned().into()).expect("a channel");
    Clients { chats: ChatServiceClient::new(channel.clone()), users: UserServiceClient::new(channel) }
}

#[async_trait]
impl ChatService for Peers {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let asked = request.into_inner();
        let membership = self.membership.lock().expect("no panic").clone();
        let member = membership
            .filter(|(chat, user, _)| *chat == asked.chat_id && *user == asked.user_id)
            .map(|(_, user_id, role)| Member { user_id, role });
        Ok(Response::new(GetMembershipResponse { member }))
    }

    async fn list_members(
        &self,
        _request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Err(Status::unimplemented("not asked by this service"))
    }
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
