//! Which users exist, as the user service knows.

use std::{collections::BTreeSet, time::Duration};

use contracts::{
    UserId,
    rpc::{GetUsersRequest, ListDeletionsRequest, User, user_service_client::UserServiceClient},
};
use kit::rpc::{self, InternalChannel};

use crate::error::Error;

/// The user service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Users(UserServiceClient<InternalChannel>);

impl Users {
    /// Returns the user service behind a channel.
    pub fn new(channel: InternalChannel) -> Self {
        Self(UserServiceClient::new(channel))
    }

    /// Refuses users who do not exist: every gateway would keep their memberships, and no one could ever use them. Deleted
    /// accounts do not exist; a caller may still have a token of one. One call, whatever their number.
    pub(super) async fn require(&self, caller: UserId, others: &BTreeSet<UserId>) -> Result<(), Error> {
        if others.is_empty() {
            return Ok(());
        }
        let user_ids = others.iter().chain([&caller]).map(UserId::to_string).collect();
        let answer = self.0.clone().get_users(GetUsersRequest { user_ids }).await;
        let found = answer.map_err(|status| Error::Users(Box::new(status)))?.into_inner().users;
        let (gone, found): (Vec<User>, Vec<User>) = found.into_iter().partition(|user| user.deleted);
        let ids = |users: Vec<User>| users.into_iter().map(|user| user.user_id).collect::<BTreeSet<_>>();
        let (gone, found) = (ids(gone), ids(found));
        // The profile of a caller may not be there yet.
        if gone.contains(&caller.to_string()) {
            return Err(Error::CallerDeleted);
        }
        match others.iter().find(|user| !found.contains(&user.to_string())) {
            Some(unknown) => Err(Error::UnknownUser(*unknown)),
            None => Ok(()),
        }
    }

    /// Returns the deletions behind a place in their order, or the first ones.
    pub(crate) async fn deletions(&self, after: String) -> Result<Vec<Deletion>, Error> {
        let failed = |status| Error::Users(Box::new(status));
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

/// A user whose account is deleted.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) user_id: UserId,
    /// Its place in the order.
    pub(crate) position: String,
    pub(crate) age: Duration,
}
