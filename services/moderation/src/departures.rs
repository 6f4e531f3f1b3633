//! Users whose accounts are deleted: what is remembered of them goes, and what was decided about them stays, lifted.
//! Every process follows the list of deletions, see [`kit::deletions`].

use std::{sync::Arc, time::Duration};

use contracts::{UserId, rpc::user_service_client::UserServiceClient};
use kit::{
    clock::now_ms,
    deletions::{self, CatchUpError, Departures, Position},
    rpc::InternalChannel,
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    peers::Peers,
    store::{ModerationStore, StoreError},
};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the deletions until the shutdown.
pub async fn follow(peers: Peers, store: Arc<dyn ModerationStore>, shutdown: CancellationToken) {
    deletions::follow(Forgetting { peers: &peers, store: &*store }, INTERVAL, &shutdown).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(peers: &Peers, store: &dyn ModerationStore) -> Result<(), CatchUpError<StoreError>> {
    deletions::catch_up(&Forgetting { peers, store }).await
}

struct Forgetting<'a> {
    peers: &'a Peers,
    store: &'a dyn ModerationStore,
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
        self.store.erase(user_id, now_ms()).await
    }
}
