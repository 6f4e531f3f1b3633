//! Follows `message.delivered`: which messages have which files, and what pictures chats have.
//!
//! The processes of this service share the partitions. How far the log is read is noted behind what its entries change, and what is carried
//! out twice has the same effect, so that a process that takes a partition over goes on where the one before it was.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use contracts::event::{DeliveredRecord, Unreadable};
use kit::{
    catalog::Topic,
    log::{JoinError, Log, Record, Sink},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    domain::{Change, changes_of},
    metrics::Metrics,
    store::{FileStore, StoreError},
};

/// What following the log needs.
pub struct Follower {
    pub store: Arc<dyn FileStore>,
    pub log: Log,
    pub tenant: String,
    pub metrics: Metrics,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group and follows partitions until the shutdown; the future ends when the group is left.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, JoinError> {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.media", self.tenant);
        let Self { store, log, metrics, shutdown, .. } = self;
        log.feed(&topic, &group, References { store, metrics }, shutdown)
    }
}

/// What messages and chats have of files.
struct References {
    store: Arc<dyn FileStore>,
    metrics: Metrics,
}

#[async_trait]
impl Sink for References {
    type Batch = Vec<Change>;
    type Error = StoreError;

    const WORK: &'static str = "noting which messages have which files";
    const IDLE: &'static str = "messages with files are not followed";

    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        self.store.positions(partitions).await
    }

    fn add(&self, changes: &mut Self::Batch, record: &Record<'_>) -> Result<(), Unreadable> {
        changes.extend(changes_of(&DeliveredRecord::read(record.payload())?));
        Ok(())
    }

    fn is_empty(changes: &Self::Batch) -> bool {
        changes.is_empty()
    }

    async fn apply(&self, partition: i32, next_offset: i64, changes: &Self::Batch) -> Result<(), StoreError> {
        self.store.apply(partition, next_offset, changes, now()).await?;
        self.metrics.changes.inc_by(changes.len() as u64);
        Ok(())
    }

    /// A file that nothing refers to goes, if the log is read up to a moment that is late enough.
    async fn caught_up(&self, partition: i32, at_ms: i64) -> Result<(), StoreError> {
        let Some(at) = DateTime::from_timestamp_millis(at_ms) else { return Ok(()) };
        self.store.caught_up(partition, at).await
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
