//! The user service, as far as every process calls it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contracts::{
    UserId,
    rpc::{
        EnsureUserRequest, User,
        user_service_server::{UserService, UserServiceServer},
    },
};
use tonic::{Code, Request, Response, Status, async_trait};

/// A user service that makes a profile for every user, but for some. Clones are the same one.
#[derive(Clone, Default)]
pub struct TestUsers(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Names by id, of all who have a profile.
    profiles: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
    /// Those who can have none.
    refused: BTreeSet<String>,
    calls: usize,
    failing: Option<Code>,
}

impl TestUsers {
    /// Returns the gRPC API.
    pub fn server(&self) -> UserServiceServer<Self> {
        UserServiceServer::new(self.clone())
    }

    /// Lets a user have no profile, as one with the name of a deleted account.
    pub fn refuse(&self, user: UserId) {
        self.known().refused.insert(user.to_string());
    }

    /// Lets a user have deleted the account.
    pub fn delete(&self, user: UserId) {
        self.known().deleted.insert(user.to_string());
    }

    /// Fails every call with this code, or none.
    pub fn fail(&self, with: Option<Code>) {
        self.known().failing = with;
    }

    /// Returns the name in a user's profile.
    pub fn name(&self, user: UserId) -> Option<String> {
        self.known().profiles.get(&user.to_string()).cloned()
    }

    /// Returns how many calls came.
    pub fn calls(&self) -> usize {
        self.known().calls
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl UserService for TestUsers {
    async fn ensure_user(&self, request: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        let EnsureUserRequest { user_id, username, .. } = request.into_inner();
        let mut known = self.known();
        known.calls += 1;
        if let Some(code) = known.failing {
            return Err(Status::new(code, "a fault of this test"));
        }
        if known.refused.contains(&user_id) {
            return Err(Status::failed_precondition("its name was that of another account"));
        }
        known.profiles.insert(user_id.clone(), username.clone());
        let deleted = known.deleted.contains(&user_id);
        Ok(Response::new(User { user_id, username, deleted, ..User::default() }))
    }
}
