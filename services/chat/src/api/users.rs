//! Which users exist, as the user service knows.

use std::collections::BTreeSet;

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

    /// Refuses users who do not exist: every gateway would keep their memberships, and no one could ever use them. One
    /// call, whatever their number.
    pub(super) async fn require(&self, users: BTreeSet<UserId>) -> Result<(), Error> {
        if users.is_empty() {
            return Ok(());
        }
        let user_ids = users.iter().map(UserId::to_string).collect();
        let answer = self.0.clone().get_users(GetUsersRequest { user_ids }).await;
        let found = answer.map_err(|status| Error::Users(Box::new(status)))?.into_inner().users;
        let found: BTreeSet<_> = found.into_iter().map(|user| user.user_id).collect();
        match users.iter().find(|user| !found.contains(&user.to_string())) {
            Some(unknown) => Err(Error::UnknownUser(*unknown)),
            None => Ok(()),
        }
    }
}
