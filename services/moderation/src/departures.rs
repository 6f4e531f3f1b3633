//! Users whose accounts are deleted: what is remembered of them goes, and what was decided about them stays, lifted.
//! Every process follows the list of deletions, see [`kit::deletions`].

use contracts::UserId;
use kit::{
    clock::now_ms,
    deletions::{Departures, Position},
};
use tonic::async_trait;

use crate::store::{ModerationStore, StoreError};

#[async_trait]
impl Departures for dyn ModerationStore {
    type Error = StoreError;

    fn position(&self) -> Position {
        self.deletions_position()
    }

    async fn erase(&self, user_id: UserId, _is_settled: bool) -> Result<(), StoreError> {
        ModerationStore::erase(self, user_id, now_ms()).await
    }
}
