//! The user service that this one calls, on a loopback port.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use chat::api::Users;
use contracts::{
    UserId,
    api::ContactableBy,
    rpc::{
        Deletion, GetUsersRequest, GetUsersResponse, ListDeletionsRequest, ListDeletionsResponse,
        NoteChatsErasedRequest, NoteChatsErasedResponse, User,
        user_service_server::{UserService, UserServiceServer},
    },
};
use kit::testing::{serve_peer, unreachable_peer};
use tonic::{Request, Response, Status, async_trait, service::Routes};

/// A user service to which every user exists, but for some.
#[derive(Clone, Default)]
pub struct Peer {
    unknown: Arc<Mutex<BTreeSet<String>>>,
    /// Deleted users in their order, each with the seconds since.
    deletions: Arc<Mutex<Vec<(UserId, i64)>>>,
    settings: Arc<Mutex<BTreeMap<String, ContactableBy>>>,
    pub calls: Arc<AtomicUsize>,
    /// What was done for deleted users.
    pub erased: Arc<Mutex<Vec<NoteChatsErasedRequest>>>,
}

impl Peer {
    /// Serves until the test ends.
    pub async fn start(&self) -> Users {
        Users::new(serve_peer(Routes::new(UserServiceServer::new(self.clone()))).await)
    }

    /// Notes that a user has deleted the account, so many seconds ago.
    pub fn delete(&self, user: UserId, age_seconds: i64) {
        self.deletions.lock().expect("no panic").push((user, age_seconds));
    }

    /// Sets who may contact a user; all others are contactable by everyone.
    pub fn set(&self, user: UserId, contactable_by: ContactableBy) {
        self.settings.lock().expect("no panic").insert(user.to_string(), contactable_by);
    }

    /// Returns a user who does not exist.
    pub fn stranger(&self) -> UserId {
        let user = UserId::generate();
        self.forget(user);
        user
    }

    /// Lets a user not exist.
    pub fn forget(&self, user: UserId) {
        self.unknown.lock().expect("no panic").insert(user.to_string());
    }
}

/// Returns a user service that is down.
pub fn unreachable() -> Users {
    Users::new(unreachable_peer())
}

#[async_trait]
impl UserService for Peer {
    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let unknown = self.unknown.lock().expect("no panic");
        let known = request.into_inner().user_ids.into_iter().filter(|user_id| !unknown.contains(user_id));
        let (settings, deletions) =
            (self.settings.lock().expect("no panic"), self.deletions.lock().expect("no panic"));
        let user = |user_id: String| User {
            deleted: deletions.iter().any(|(user, _)| user.to_string() == user_id),
            contactable_by: settings.get(&user_id).map(|of| of.as_str().to_owned()).unwrap_or_default(),
            user_id,
            ..User::default()
        };
        let users = known.map(user).collect();
        Ok(Response::new(GetUsersResponse { users }))
    }

    /// The position of a deletion is its number.
    async fn note_chats_erased(
        &self,
        request: Request<NoteChatsErasedRequest>,
    ) -> Result<Response<NoteChatsErasedResponse>, Status> {
        let request = request.into_inner();
        self.erased.lock().expect("no panic").push(request);
        Ok(Response::new(NoteChatsErasedResponse {}))
    }

    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        const PAGE: usize = 2;
        let after = request.into_inner().after;
        let skipped = if after.is_empty() { 0 } else { after.parse().expect("a place of this list") };
        let deletions = self.deletions.lock().expect("no panic");
        let listed = deletions.iter().enumerate().skip(skipped).take(PAGE);
        let deletion = |(at, (user, age_seconds)): (usize, &(UserId, i64))| Deletion {
            user_id: user.to_string(),
            position: (at + 1).to_string(),
            age_seconds: *age_seconds,
        };
        Ok(Response::new(ListDeletionsResponse { deletions: listed.map(deletion).collect() }))
    }
}
