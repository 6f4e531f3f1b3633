//! The chat, the message and the user service in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use contracts::{
    ChatId, UserId,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, Deletion, EntryId, GetMembershipRequest,
        GetMembershipResponse, GetUsersRequest, GetUsersResponse, HistoryRequest, HistoryResponse,
        ListDeletionsRequest, ListDeletionsResponse, ListMembershipsRequest, ListMembershipsResponse, Member,
        Membership, User,
        chat_service_server::{ChatService, ChatServiceServer},
        message_service_server::{MessageService, MessageServiceServer},
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::{rpc::InternalChannel, testing::serve_peer};
use tonic::{Request, Response, Status, service::Routes};

/// All of them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// The roles of members.
    roles: BTreeMap<(String, String), &'static str>,
    /// Those who are in a chat and may not send there.
    silent: BTreeSet<(String, String)>,
    /// The seqs of the entries with which histories begin, of members who came later.
    beginnings: BTreeMap<(String, String), i64>,
    /// The last seq of every chat.
    head_seq: i64,
    /// How often a history was read.
    histories: usize,
    /// Users whose accounts are deleted, in that order, with the age of the deletion in seconds.
    deleted: Vec<(String, i64)>,
}

impl Peers {
    /// Serves them until the test ends.
    pub async fn channel(&self) -> InternalChannel {
        let routes = Routes::new(ChatServiceServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
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

    /// Puts a user into a chat with the entry that has this seq, which the message service knows once the head is there.
    pub fn join_later(&self, chat: ChatId, user: UserId, seq: i64) {
        self.join(chat, user, "member");
        self.known().beginnings.insert((chat.to_string(), user.to_string()), seq);
    }

    pub fn set_head(&self, seq: i64) {
        self.known().head_seq = seq;
    }

    /// Returns how often a history was read.
    pub fn histories(&self) -> usize {
        self.known().histories
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

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let (known, request) = (self.known(), request.into_inner());
        let is_asked = |chat: &String| request.chat_ids.is_empty() || request.chat_ids.contains(chat);
        let own = known.roles.keys().filter(|(chat, user)| *user == request.user_id && is_asked(chat));
        let memberships = own.map(|seat| Membership {
            chat_id: seat.0.clone(),
            reads_from: known
                .beginnings
                .get(seat)
                .map(|seq| EntryId { sender_id: seat.1.clone(), key: seq.to_string() }),
            ..Membership::default()
        });
        let memberships = memberships.collect();
        Ok(Response::new(ListMembershipsResponse { memberships, ..ListMembershipsResponse::default() }))
    }
}

#[tonic::async_trait]
impl MessageService for Peers {
    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let HistoryRequest { chat_id, user_id, .. } = request.into_inner();
        let (mut known, seat) = (self.known(), (chat_id, user_id));
        if !known.roles.contains_key(&seat) {
            return Err(Status::permission_denied("not a member"));
        }
        known.histories += 1;
        let (head_seq, begins_at) = (known.head_seq, known.beginnings.get(&seat).copied().unwrap_or(1));
        // An entry behind the head is not stored yet.
        let from_seq = begins_at.min(head_seq + 1);
        Ok(Response::new(HistoryResponse { messages: Vec::new(), head_seq, from_seq }))
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
