//! Users whose accounts are deleted: nothing is known of them any more.
//! Every process follows the list of deletions, see [`kit::deletions`].

use std::{sync::Arc, time::Duration};

use contracts::{UserId, rpc::user_service_client::UserServiceClient};
use kit::{
    deletions::{self, CatchUpError, Departures, Position},
    rpc::InternalChannel,
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    peers::Peers,
    store::{NotificationStore, StoreError},
};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the deletions until the shutdown.
pub async fn follow(peers: Peers, store: Arc<dyn NotificationStore>, shutdown: CancellationToken) {
    deletions::follow(Forgetting { peers: &peers, store: &*store }, INTERVAL, &shutdown).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(peers: &Peers, store: &dyn NotificationStore) -> Result<(), CatchUpError<StoreError>> {
    deletions::catch_up(&Forgetting { peers, store }).await
}

struct Forgetting<'a> {
    peers: &'a Peers,
    store: &'a dyn NotificationStore,
}

#[async_trait]
impl Departures for Forgetting<'_> {
    type Error = StoreError;

    fn users(&self) -> &UserServiceClient<InternalChannel> {
        self.peers.users()
    }

    fn position(&self) -> Position {
        self.store.deletions_position()
    }

    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), StoreError> {
        if self.store.erase(user_id).await? {
            tracing::info!(user = %user_id, "a deleted account is notified of nothing any more");
        }
        Ok(())
    }
}
