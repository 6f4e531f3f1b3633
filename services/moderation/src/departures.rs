//! Users whose accounts are deleted: what is remembered of them goes, and what was decided about them stays, lifted.
//! Every process follows the list of deletions, see [`kit::deletions`].

use std::{sync::Arc, time::Duration};

use contracts::UserId;
use kit::{
    clock::now_ms,
    deletions::{self, Deletion, Departures},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{error::Error, peers::Peers, store::ModerationStore};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the deletions until the shutdown.
pub async fn follow(peers: Peers, store: Arc<dyn ModerationStore>, shutdown: CancellationToken) {
    deletions::follow(Forgetting { peers: &peers, store: &*store }, INTERVAL, &shutdown).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(peers: &Peers, store: &dyn ModerationStore) -> Result<(), Error> {
    deletions::catch_up(&Forgetting { peers, store }).await
}

struct Forgetting<'a> {
    peers: &'a Peers,
    store: &'a dyn ModerationStore,
}

#[async_trait]
impl Departures for Forgetting<'_> {
    type Error = Error;

    async fn position(&self) -> Result<Option<String>, Error> {
        Ok(self.store.deletions_position().await?)
    }

    async fn set_position(&self, position: &str) -> Result<(), Error> {
        Ok(self.store.set_deletions_position(position).await?)
    }

    async fn list(&self, after: String) -> Result<Vec<Deletion>, Error> {
        self.peers.deletions(after).await
    }

    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), Error> {
        Ok(self.store.erase(user_id, now_ms()).await?)
    }
}
