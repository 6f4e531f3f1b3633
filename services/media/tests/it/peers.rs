//! The chat and the user service in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use contracts::{
    ChatId, UserId,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, Deletion, GetMembershipRequest, GetMembershipResponse,
        GetUsersRequest, GetUsersResponse, ListDeletionsRequest, ListDeletionsResponse, Member, User,
        chat_service_server::{ChatService, ChatServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::{rpc::InternalChannel, testing::serve_peer};
use tonic::{Request, Response, Status, service::Routes};

/// Both services. Cheap to clone.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The roles of members.
    roles: BTreeMap<(String, String), &'static str>,
    /// Those who are in a chat and may not send there.
    silent: BTreeSet<(String, String)>,
    /// Users whose accounts are deleted, in that order, with the age of the deletion in seconds.
    deleted: Vec<(String, i64)>,
}

impl Peers {
    /// Serves both until the test ends.
    pub async fn channel(&self) -> InternalChannel {
        let routes = Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(UserServiceServer::new(self.clone()));
        serve_peer(routes).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("no panic")
    }

    /// Puts a user into a chat: "owner", "admin" or "member".
    pub fn join(&self, chat: ChatId, user: UserId, role: &'static str) {
        self.known().roles.insert((chat.to_string(), user.to_string()), role);
    }

    pub fn leave(&self, chat: ChatId, user: UserId) {
        self.known().roles.remove(&(chat.to_string(), user.to_string()));
    }

    /// Lets a member read only.
    pub fn silence(&self, chat: ChatId, user: UserId) {
        self.known().silent.insert((chat.to_string(), user.to_string()));
    }

    pub fn delete(&self, user: UserId, age_seconds: i64) {
        self.known().deleted.push((user.to_string(), age_seconds));
    }
}

#[tonic::async_trait]
impl ChatService for Peers {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let GetMembershipRequest { chat_id, user_id } = request.into_inner();
        let role = self.known().roles.get(&(chat_id, user_id.clone())).copied();
        let member = role.map(|role| Member { user_id, role: role.to_owned(), reads_from: None });
        Ok(Response::new(GetMembershipResponse { member, ..GetMembershipResponse::default() }))
    }

    async fn check_members(
        &self,
        request: Request<CheckMembersRequest>,
    ) -> Result<Response<CheckMembersResponse>, Status> {
        let known = self.known();
        let mut checked = CheckMembersResponse::default();
        for GetMembershipRequest { chat_id, user_id } in request.into_inner().memberships {
            let seat = (chat_id, user_id);
            let is_member = known.roles.contains_key(&seat);
            checked.is_member.push(is_member);
            checked.may_send.push(is_member && !known.silent.contains(&seat));
        }
        Ok(Response::new(checked))
    }
}

#[tonic::async_trait]
impl UserService for Peers {
    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let known = self.known();
        let user = |user_id: String| {
            let deleted = known.deleted.iter().any(|(user, _)| *user == user_id);
            User { user_id, deleted, ..User::default() }
        };
        let users = request.into_inner().user_ids.into_iter().map(user).collect();
        Ok(Response::new(GetUsersResponse { users }))
    }

    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        let after = request.into_inner().after.parse().unwrap_or(0);
        let deletion = |(at, (user_id, age_seconds)): (usize, &(String, i64))| Deletion {
            user_id: user_id.clone(),
            position: (at + 1).to_string(),
            age_seconds: *age_seconds,
        };
        let deletions = self.known().deleted.iter().enumerate().skip(after).map(deletion).collect();
        Ok(Response::new(ListDeletionsResponse { deletions }))
    }
}
