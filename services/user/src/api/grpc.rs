//! `posthouse.v1.UserService`, for the tenant's other services.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contracts::{
    UserId,
    rpc::{
        self, CheckPresenceRequest, CheckPresenceResponse, CountUsersRequest, CountUsersResponse,
        DeleteUserRequest, DeleteUserResponse, EnsureUserRequest, FindUsersRequest, FindUsersResponse,
        FinishDeletionRequest, FinishDeletionResponse, GetNamedUsersRequest, GetNamedUsersResponse,
        GetUsersRequest, GetUsersResponse, IsNamedRequest, IsNamedResponse, ListDeletionsRequest,
        ListDeletionsResponse, NoteChatsErasedRequest, NoteChatsErasedResponse, User,
        user_service_server::UserService,
    },
};
use kit::{
    error::{InvalidField, status},
    page::PageSizes,
    rpc::id,
    text::Username,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    domain::{ChatsErased, Deletion, DeletionPosition, Newcomer, Profile, ReceiptHash, Search},
    error::Error,
    shown::Shown,
    store::{ProfileStore, StoreError},
};

/// Most profiles of one call: the members of a full chat.
const MAX_IDS: usize = 1000;
const DELETIONS: PageSizes = PageSizes { default: 100, max: 1000 };
const FOUND: PageSizes = PageSizes { default: 20, max: 100 };

/// Serves from the store.
pub struct UserRpc {
    store: Arc<dyn ProfileStore>,
    shown: Shown,
}

impl UserRpc {
    pub fn new(shown: Shown) -> Self {
        Self { store: shown.store().clone(), shown }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "one that is missing would answer `UNIMPLEMENTED`")]
impl UserService for UserRpc {
    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn ensure_user(&self, request: Request<EnsureUserRequest>) -> Result<Response<User>, Status> {
        let request = request.into_inner();
        let user_id = id("user_id", &request.user_id)?;
        let newcomer = Newcomer::parse(user_id, &request.username, &request.display_name);
        let newcomer = newcomer.map_err(|error| status(Error::from(error)))?;
        let profile = self.store.ensure(&newcomer, Utc::now()).await.map_err(|error| match error {
            // About the user, where `unauthenticated` would be about the service that calls.
            StoreError::NameOfDeleted => Status::failed_precondition(error.to_string()),
            error => status(Error::from(error)),
        });
        Ok(Response::new(profile?.into()))
    }

    async fn is_named(&self, request: Request<IsNamedRequest>) -> Result<Response<IsNamedResponse>, Status> {
        let search = Search::holder(&request.into_inner().username);
        let search = search.map_err(|error| status(Error::from(error)))?;
        let found = self.store.search(&search).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(IsNamedResponse { is_named: !found.is_empty() }))
    }

    async fn get_named_users(
        &self,
        request: Request<GetNamedUsersRequest>,
    ) -> Result<Response<GetNamedUsersResponse>, Status> {
        let usernames = request.into_inner().usernames;
        if usernames.len() > MAX_IDS {
            return Err(InvalidField { field: "usernames", problem: format!("at most {MAX_IDS}") }.into());
        }
        // What no username can be has no profile.
        let names: Vec<_> =
            usernames.iter().filter_map(|name| Username::parse("usernames", name).ok()).collect();
        let profiles = self.store.named(&names).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(GetNamedUsersResponse { users: profiles.into_iter().map(User::from).collect() }))
    }

    async fn get_users(
        &self,
        request: Request<GetUsersRequest>,
    ) -> Result<Response<GetUsersResponse>, Status> {
        let ids = ids("user_ids", &request.into_inner().user_ids)?;
        let profiles = self.store.profiles(&ids).await;
        let profiles = profiles.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(GetUsersResponse { users: profiles.into_iter().map(User::from).collect() }))
    }

    async fn find_users(
        &self,
        request: Request<FindUsersRequest>,
    ) -> Result<Response<FindUsersResponse>, Status> {
        let FindUsersRequest { query, among_ids, limit } = request.into_inner();
        let limit = FOUND.of((limit != 0).then_some(i64::from(limit)))?.items();
        let among = if among_ids.is_empty() { None } else { Some(ids("among_ids", &among_ids)?) };
        let search = Search::words(&query, among, limit)?;
        let found = self.store.search(&search).await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(FindUsersResponse { users: found.into_iter().map(User::from).collect() }))
    }

    async fn check_presence(
        &self,
        request: Request<CheckPresenceRequest>,
    ) -> Result<Response<CheckPresenceResponse>, Status> {
        let CheckPresenceRequest { viewer_id, user_ids } = request.into_inner();
        let viewer = id("viewer_id", &viewer_id)?;
        let ids = ids("user_ids", &user_ids)?;
        let shown = self.store.presence_shown(viewer, &ids).await;
        let shown = shown.map_err(|error| status(Error::from(error)))?;
        let shown = shown.into_iter().map(|shown| shown.as_str().to_owned()).collect();
        Ok(Response::new(CheckPresenceResponse { shown }))
    }

    async fn count_users(
        &self,
        _: Request<CountUsersRequest>,
    ) -> Result<Response<CountUsersResponse>, Status> {
        let users = self.store.count().await.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(CountUsersResponse { users }))
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let DeleteUserRequest { user_id, receipt } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        let invalid = |_| InvalidField { field: "receipt", problem: "is no SHA-256".to_owned() };
        let receipt = Some(receipt).filter(|receipt| !receipt.is_empty());
        let receipt =
            receipt.map(|receipt| receipt.try_into().map(ReceiptHash)).transpose().map_err(invalid)?;
        // As precise as the store, so that a place in the order reads back.
        let now = DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).expect("a moment");
        self.store.delete(user_id, receipt, now).await.map_err(|error| status(Error::from(error)))?;
        self.shown.erased(user_id).await.map_err(status)?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn finish_deletion(
        &self,
        request: Request<FinishDeletionRequest>,
    ) -> Result<Response<FinishDeletionResponse>, Status> {
        let user_id: UserId = id("user_id", &request.into_inner().user_id)?;
        let finished = self.store.finish_deletion(user_id, Utc::now()).await;
        finished.map_err(|error| status(Error::from(error)))?;
        // Once more: the cache may not have answered when the deletion began.
        self.shown.erased(user_id).await.map_err(status)?;
        Ok(Response::new(FinishDeletionResponse {}))
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
    async fn note_chats_erased(
        &self,
        request: Request<NoteChatsErasedRequest>,
    ) -> Result<Response<NoteChatsErasedResponse>, Status> {
        let NoteChatsErasedRequest { user_id, chats_left, blocks_lifted, is_settled } = request.into_inner();
        let user_id: UserId = id("user_id", &user_id)?;
        let erased = ChatsErased { left: chats_left.into(), blocks_lifted: blocks_lifted.into(), is_settled };
        let noted = self.store.note_chats_erased(user_id, erased, Utc::now()).await;
        noted.map_err(|error| status(Error::from(error)))?;
        Ok(Response::new(NoteChatsErasedResponse {}))
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the age of what is listed")]
    async fn list_deletions(
        &self,
        request: Request<ListDeletionsRequest>,
    ) -> Result<Response<ListDeletionsResponse>, Status> {
        let ListDeletionsRequest { after, limit, unfinished } = request.into_inner();
        let after = DeletionPosition::parse(&after).map_err(|error| status(Error::from(error)))?;
        let limit = DELETIONS.of((limit != 0).then_some(i64::from(limit)))?.items();
        let listed = if unfinished {
            self.store.unfinished_deletions(limit).await
        } else {
            self.store.deletions(after, limit).await
        };
        let now = Utc::now();
        let deletion = |deletion: Deletion| rpc::Deletion {
            user_id: deletion.user_id.to_string(),
            position: DeletionPosition::of(&deletion).to_string(),
            age_seconds: (now - deletion.began_at).num_seconds(),
        };
        let deletions = listed.map_err(|error| status(Error::from(error)))?.into_iter().map(deletion);
        Ok(Response::new(ListDeletionsResponse { deletions: deletions.collect() }))
    }
}

/// Reads the users of a call.
fn ids(field: &'static str, user_ids: &[String]) -> Result<Vec<UserId>, InvalidField> {
    if user_ids.len() > MAX_IDS {
        return Err(InvalidField { field, problem: format!("at most {MAX_IDS}") });
    }
    user_ids.iter().map(|text| id(field, text)).collect()
}

impl From<Profile> for User {
    fn from(profile: Profile) -> Self {
        Self {
            user_id: profile.user_id.to_string(),
            username: profile.username,
            display_name: profile.display_name,
            deleted: profile.is_deleted,
            contactable_by: profile.contactable_by.as_str().to_owned(),
            hides_read_receipts: !profile.read_receipts,
            about: profile.about,
            status: profile.status.map(|status| rpc::UserStatus {
                text: status.text.unwrap_or_default(),
                emoji: status.emoji.unwrap_or_default(),
                expires_at_ms: status.expires_at.map(|at| at.timestamp_millis()),
            }),
            version: profile.version,
        }
    }
}
