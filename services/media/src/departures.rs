//! Files of users whose accounts are deleted: what no message and no chat has goes, and so does their picture. What messages have stays
//! with those whom they were written to, as the messages do.
//! Every process follows the list of deletions, see [`kit::deletions`].

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use contracts::{UserId, rpc::user_service_client::UserServiceClient};
use kit::{
    deletions::{self, CatchUpError, Departures, Position},
    rpc::InternalChannel,
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    store::{FileStore, StoreError},
    users::Users,
};

/// How often deletions are listed.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the deletions until the shutdown.
pub async fn follow(users: Users, store: Arc<dyn FileStore>, shutdown: CancellationToken) {
    deletions::follow(Erasing { users: &users, store: &*store }, INTERVAL, &shutdown).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up(users: &Users, store: &dyn FileStore) -> Result<(), CatchUpError<StoreError>> {
    deletions::catch_up(&Erasing { users, store }).await
}

struct Erasing<'a> {
    users: &'a Users,
    store: &'a dyn FileStore,
}

#[async_trait]
impl Departures for Erasing<'_> {
    type Error = StoreError;

    fn users(&self) -> &UserServiceClient<InternalChannel> {
        self.users.client()
    }

    fn position(&self) -> Position {
        self.store.deletions_position()
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), StoreError> {
        let erased = self.store.erase(user_id, Utc::now()).await?;
        if erased > 0 {
            tracing::info!(user = %user_id, erased, "removing {erased} files of a deleted account");
        }
        Ok(())
    }
}
