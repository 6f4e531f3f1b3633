//! Whose accounts are deleted, as the user service knows.

use std::time::Duration;

use contracts::{
    UserId,
    rpc::{GetUsersRequest, ListDeletionsRequest, user_service_client::UserServiceClient},
};
use kit::rpc::{self, InternalChannel};

use crate::error::Error;

/// The user service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Users(UserServiceClient<InternalChannel>);

/// A user whose account is deleted.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) user_id: UserId,
    /// Its place in the order.
    pub(crate) position: String,
    pub(crate) age: Duration,
}

impl Users {
    /// Returns the user service behind a channel.
    pub fn new(channel: InternalChannel) -> Self {
        Self(UserServiceClient::new(channel))
    }

    /// Refuses a caller who has deleted the account and has a token still.
    pub(crate) async fn require_account(&self, caller: UserId) -> Result<(), Error> {
        let request = GetUsersRequest { user_ids: vec![caller.to_string()] };
        let found = self.0.clone().get_users(request).await.map_err(failed)?.into_inner().users;
        // The profile of a caller may not be there yet.
        if found.iter().any(|user| user.deleted) { Err(Error::CallerDeleted) } else { Ok(()) }
    }

    /// Returns the deletions behind a place in their order, or the first ones.
    pub(crate) async fn deletions(&self, after: String) -> Result<Vec<Deletion>, Error> {
        let request = ListDeletionsRequest { after, limit: 0, unfinished: false };
        let listed = self.0.clone().list_deletions(request).await.map_err(failed)?.into_inner().deletions;
        let deletion = |deletion: contracts::rpc::Deletion| {
            Ok(Deletion {
                user_id: rpc::id("user_id", &deletion.user_id).map_err(|error| failed(error.into()))?,
                position: deletion.position,
                age: Duration::from_secs(u64::try_from(deletion.age_seconds).unwrap_or(0)),
            })
        };
        listed.into_iter().map(deletion).collect()
    }
}

fn failed(status: tonic::Status) -> Error {
    Error::Peer { peer: "user", source: Box::new(status) }
}
