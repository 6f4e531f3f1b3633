//! `posthouse.v1.UserService`, for the tenant's other services.

use std::sync::Arc;

use chrono::Utc;
use contracts::{
    UserId,
    rpc::{
        EnsureUserRequest, GetUsersRequest, GetUsersResponse, IsNamedRequest, IsNamedResponse, User,
        user_service_server::UserService,
    },
};
use kit::{
    error::{InvalidField, status},
    rpc::id,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{Newcomer, Profile, Search},
    error::Error,
    store::ProfileStore,
};

/// Most profiles of one call: the members of a full chat.
const MAX_IDS: usize = 1000;

/// Serves from the store.
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
    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn ensure_user(&self, request: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        let request = request.into_inner();
        let user_id = id("user_id", &request.user_id)?;
        let newcomer = Newcomer::parse(user_id, &request.username, &request.display_name);
        let newcomer = newcomer.map_err(|error| status(Error::from(error)))?;
        let profile = self.store.ensure(&newcomer, Utc::now()).await;
        Ok(Response::new(profile.map_err(|error| status(Error::from(error)))?.into()))
    }

    async fn is_named(&self, request: Request<IsNamedRequest>) -> Result<Response<IsNamedResponse>, Status> {
        let username = request.into_inner().username;
        let search = Search::parse(None, Some(&username), None, 1);
        let search = search.map_err(|error| status(Error::from(error)))?;
        let found = self.store.search(&search).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(IsNamedResponse { is_named: !found.is_empty() }))
    }

    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let ids = request.into_inner().user_ids;
        if ids.len() > MAX_IDS {
            let problem = format!("at most {MAX_IDS}");
            return Err(InvalidField { field: "user_ids", problem }.into());
        }
        let ids: Vec<UserId> = ids.iter().map(|text| id("user_ids", text)).collect::<Result<_, _>>()?;
        let profiles = self.store.profiles(&ids).await;
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
            contactable_by: profile.contactable_by.as_str().to_owned(),
        }
    }
}
