//! Whose accounts are deleted, as the user service knows.

use contracts::{
    UserId,
    rpc::{GetUsersRequest, user_service_client::UserServiceClient},
};
use kit::rpc::InternalChannel;

use crate::error::Error;

/// The user service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Users(UserServiceClient<InternalChannel>);

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

    /// Returns its client.
    pub const fn client(&self) -> &UserServiceClient<InternalChannel> {
        &self.0
    }
}

fn failed(status: tonic::Status) -> Error {
    Error::Peer { peer: "user", source: Box::new(status) }
}
