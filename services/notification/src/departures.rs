//! Users whose accounts are deleted: nothing is known of them any more.
//! Every process follows the list of deletions, see [`kit::deletions`].

use contracts::UserId;
use kit::deletions::{Departures, Position};
use tonic::async_trait;

use crate::store::{NotificationStore, StoreError};

#[async_trait]
impl Departures for dyn NotificationStore {
    type Error = StoreError;

    fn position(&self) -> Position {
        self.deletions_position()
    }

    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), StoreError> {
        if NotificationStore::erase(self, user_id).await? {
            tracing::info!(user = %user_id, "a deleted account is notified of nothing any more");
        }
        Ok(())
    }
}
