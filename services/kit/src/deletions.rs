//! Accounts that are deleted, for services that keep something of their users.
//!
//! The user service lists deletions in their order. Every process of a service follows the list from a place that the store of that
//! service keeps; what is done twice changes nothing, so none of them leads.

use std::{error::Error, ops::RangeInclusive, time::Duration};

use contracts::{
    UserId,
    rpc::{self, ListDeletionsRequest, user_service_client::UserServiceClient},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, async_trait};

use crate::{
    backoff::Backoff,
    rounds,
    rpc::{InternalChannel, id},
};

/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// A deletion is looked at again for this long: a request that began before it may still make something of the user, and a deletion that
/// began earlier may be listed after it.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// A user whose account is deleted.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub user_id: UserId,
    /// Its place in the order.
    pub position: String,
    pub age: Duration,
}

/// What a service does for deleted accounts.
#[async_trait]
pub trait Departures: Sync {
    type Error;

    /// Returns the place that the store keeps.
    async fn position(&self) -> Result<Option<String>, Self::Error>;

    /// Moves the place that the store keeps.
    async fn set_position(&self, position: &str) -> Result<(), Self::Error>;

    /// Returns the deletions behind a place, or the first ones, see [`list`].
    async fn list(&self, after: String) -> Result<Vec<Deletion>, Self::Error>;

    /// Removes what there is of a user. `is_settled` when it is for the last time.
    async fn erase(&self, user_id: UserId, is_settled: bool) -> Result<(), Self::Error>;
}

/// Catches up at this interval until `stop` is cancelled.
pub async fn follow<D>(departures: D, interval: Duration, stop: &CancellationToken)
where
    D: Departures,
    D::Error: Error,
{
    let what = "following the deletion of accounts";
    rounds::repeat(what, interval, Backoff::new(BACKOFF), stop, || catch_up(&departures)).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up<D: Departures>(departures: &D) -> Result<(), D::Error> {
    let mut after = departures.position().await?.unwrap_or_default();
    let mut is_settled = true;
    loop {
        let page = departures.list(after).await?;
        let Some(last) = page.last().map(|deletion| deletion.position.clone()) else { return Ok(()) };
        let mut settled = None;
        for Deletion { user_id, position, age } in page {
            // What comes behind one that is not settled waits for it.
            is_settled &= age >= SETTLED_AFTER;
            departures.erase(user_id, is_settled).await?;
            if is_settled {
                settled = Some(position);
            }
        }
        // Only what is done is behind the place: a process that is killed does it again.
        if let Some(settled) = settled {
            departures.set_position(&settled).await?;
        }
        after = last;
    }
}

/// Returns the deletions behind a place in their order, or the first ones, as the user service has them.
pub async fn list(
    users: &UserServiceClient<InternalChannel>,
    after: String,
) -> Result<Vec<Deletion>, Status> {
    let request = ListDeletionsRequest { after, limit: 0, unfinished: false };
    let listed = users.clone().list_deletions(request).await?.into_inner().deletions;
    let deletion = |deletion: rpc::Deletion| {
        Ok(Deletion {
            user_id: id("user_id", &deletion.user_id)?,
            position: deletion.position,
            age: Duration::from_secs(u64::try_from(deletion.age_seconds).unwrap_or(0)),
        })
    };
    listed.into_iter().map(deletion).collect()
}
