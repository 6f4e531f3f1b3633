//! Files of users whose accounts are deleted: what no message and no chat has goes, and so does their picture. What messages have stays
//! with those whom they were written to, as the messages do.
//! Every process follows the list of deletions, see [`kit::deletions`].

use chrono::Utc;
use contracts::UserId;
use kit::deletions::{Departures, Position};
use tonic::async_trait;

use crate::store::{FileStore, StoreError};

#[async_trait]
impl Departures for dyn FileStore {
    type Error = StoreError;

    fn position(&self) -> Position {
        self.deletions_position()
    }

    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), StoreError> {
        let erased = FileStore::erase(self, user_id, Utc::now()).await?;
        if erased > 0 {
            tracing::info!(user = %user_id, erased, "removing {erased} files of a deleted account");
        }
        Ok(())
    }
}
