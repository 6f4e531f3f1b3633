//! The deletion of accounts, over three systems: the profile, the account in the realm, and the connections.
//!
//! The user service keeps that a deletion has begun. From then on it is finished, by the request that began it or by any
//! process of this service, whatever is killed or down meanwhile. Chats follow the list of the user service.

use std::{ops::RangeInclusive, time::Duration};

use contracts::{
    UserId,
    rpc::{
        DeleteUserRequest, EnsureUserRequest, FinishDeletionRequest, ListDeletionsRequest,
        user_service_client::UserServiceClient,
    },
};
use kit::{
    backoff::Backoff,
    rounds,
    rpc::{self, InternalChannel},
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{domain::TokenDigest, error::Error, guard::Guard, sealed::random_word};

/// How often deletions that are not finished are listed. Normally there are none.
const INTERVAL: Duration = Duration::from_secs(10);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// A user waits no longer for the user service.
pub(crate) const USER_SERVICE_WITHIN: Duration = Duration::from_secs(2);

/// Deletes accounts. Cheap to clone.
#[derive(Clone)]
pub struct Deletions {
    accounts: Guard,
    users: UserServiceClient<InternalChannel>,
}

impl Deletions {
    pub fn new(accounts: Guard, users: UserServiceClient<InternalChannel>) -> Self {
        Self { accounts, users }
    }

    /// Deletes the account of a user with this name. An error before the deletion has begun leaves everything as it was;
    /// after that, the deletion is finished later. Returns the receipt.
    pub(crate) async fn delete(&self, user_id: UserId, username: &str) -> Result<SecretString, Error> {
        // The profile keeps the name taken, so there has to be one.
        let request = EnsureUserRequest {
            user_id: user_id.to_string(),
            username: username.to_owned(),
            display_name: String::new(),
        };
        let receipt = random_word();
        match called(self.users.clone().ensure_user(request)).await {
            Ok(_) => {}
            // With a name that no profile gets, such as that of an account that was deleted, it took part in nothing: it is all that there is.
            Err(Error::Users(status))
                if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument) =>
            {
                self.accounts.delete(user_id).await?;
                tracing::info!(user = %user_id, "the account of {user_id} is deleted, which had no profile");
                return Ok(receipt);
            }
            Err(error) => return Err(error),
        }
        self.begin(user_id, TokenDigest::of(&receipt).as_bytes().to_vec()).await?;
        self.finish(user_id).await?;
        Ok(receipt)
    }

    /// Looks after a session that the realm has ended: if that is because the account is gone, an administrator has deleted
    /// it, and profile and chats follow.
    pub(crate) async fn look_after(&self, user_id: UserId) -> Result<(), Error> {
        if self.accounts.exists(user_id).await? {
            return Ok(());
        }
        self.begin(user_id, Vec::new()).await?;
        self.finish(user_id).await
    }

    /// `receipt` is the hash of the one that the user is given, if any.
    async fn begin(&self, user_id: UserId, receipt: Vec<u8>) -> Result<(), Error> {
        let request = DeleteUserRequest { user_id: user_id.to_string(), receipt };
        called(self.users.clone().delete_user(request)).await?;
        tracing::info!(user = %user_id, "the deletion of {user_id} has begun");
        Ok(())
    }

    /// Carries out what has begun; what is done already is done again.
    async fn finish(&self, user_id: UserId) -> Result<(), Error> {
        self.accounts.delete(user_id).await?;
        let request = FinishDeletionRequest { user_id: user_id.to_string() };
        called(self.users.clone().finish_deletion(request)).await?;
        tracing::info!(user = %user_id, "the account of {user_id} is deleted");
        Ok(())
    }

    /// Finishes the deletions that have begun. One that fails does not keep the others waiting, and is the error.
    pub async fn finish_all(&self) -> Result<(), Error> {
        let request = ListDeletionsRequest { unfinished: true, ..ListDeletionsRequest::default() };
        let listed = called(self.users.clone().list_deletions(request)).await?.deletions;
        let mut outcome = Ok(());
        for deletion in listed {
            let unreadable = |_| Error::Users(Box::new(Status::internal("a deletion has no user id")));
            let finished = match deletion.user_id.parse().map_err(unreadable) {
                Ok(user_id) => self.finish(user_id).await,
                Err(error) => Err(error),
            };
            outcome = outcome.and(finished);
        }
        outcome
    }

    /// Finishes what others have begun, until the shutdown.
    pub(crate) async fn keep_finishing(self, shutdown: CancellationToken) {
        let what = "finishing the deletion of accounts";
        rounds::repeat(what, INTERVAL, Backoff::new(BACKOFF), &shutdown, || self.finish_all()).await;
    }
}

/// Calls the user service.
pub(crate) async fn called<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
) -> Result<T, Error> {
    rpc::within(USER_SERVICE_WITHIN, call).await.map_err(|status| Error::Users(Box::new(status)))
}
