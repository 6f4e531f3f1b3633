//! `posthouse.v1.UserService`, for the tenant's other services.

use std::sync::Arc;

use chrono::Utc;
use contracts::{
    UserId,
    rpc::{EnsureUserRequest, GetUsersRequest, GetUsersResponse, User, user_service_server::UserService},
};
use kit::error::status;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{Newcomer, Profile},
    error::Error,
    store::ProfileStore,
};

/// Most profiles that one call asks for: the members of a full chat.
const MAX_IDS: usize = 1000;

/// Answers from the store.
pub struct UserRpc {
    store: Arc<dyn ProfileStore>,
}

impl UserRpc {
    pub fn new(store: Arc<dyn ProfileStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl UserService for UserRpc {
    async fn ensure_user(&self, request: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        let request = request.into_inner();
        let user_id = id("user_id", &request.user_id).map_err(status)?;
        let newcomer = Newcomer::parse(user_id, &request.username, &request.display_name);
        let newcomer = newcomer.map_err(|error| status(Error::from(error)))?;
        let profile = self.store.ensure(&newcomer, Utc::now()).await;
        Ok(Response::new(profile.map_err(|error| status(Error::from(error)))?.into()))
    }

    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let ids = request.into_inner().user_ids;
        if ids.len() > MAX_IDS {
            let problem = format!("at most {MAX_IDS}");
            return Err(status(Error::InvalidParameter { field: "user_ids", problem }));
        }
        let ids = ids.iter().map(|text| id("user_ids", text)).collect::<Result<Vec<_>, _>>();
        let profiles = self.store.profiles(&ids.map_err(status)?).await;
        let profiles = profiles.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(GetUsersResponse { users: profiles.into_iter().map(User::from).collect() }))
    }
}

impl From<Profile> for User {
    fn from(profile: Profile) -> Self {
        Self {
            user_id: profile.user_id.to_string(),
            username: profile.username,
            display_name: profile.display_name,
        }
    }
}

fn id(field: &'static str, text: &str) -> Result<UserId, Error> {
    text.parse().map_err(|_| Error::InvalidParameter { field, problem: "must be a UUID".to_owned() })
}
