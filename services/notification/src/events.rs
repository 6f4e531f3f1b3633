//! Follows `message.delivered`, for texts that users may have missed and for what they took, and `chat.events`, for who is in which chat.
//!
//! The processes of this service share the partitions. How far a partition is read is noted in the transaction of what its records say, so
//! that a process that takes it over goes on where the one before it was.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::event::{DeliveredRecord, Unreadable};
use kit::{
    catalog::Topic,
    log::{JoinError, Log, Record, Sink},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    domain::Batch,
    metrics::Metrics,
    store::{NotificationStore, Place, StoreError},
};

/// What following the log needs. Cheap to clone.
#[derive(Clone)]
pub struct Follower {
    pub store: Arc<dyn NotificationStore>,
    pub log: Log,
    pub tenant: String,
    /// A device has so long to take a message before its user is notified.
    pub delay: TimeDelta,
    pub metrics: Metrics,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group of a topic and follows partitions until the shutdown; the future ends when the group is left.
    pub fn follow(self, topic: Topic) -> Result<impl Future<Output = ()> + Send + 'static, JoinError> {
        let name = topic.of(&self.tenant);
        let group = format!("{}.notification.{}", self.tenant, topic.as_str());
        let Self { store, log, delay, metrics, shutdown, .. } = self;
        log.feed(&name, &group, Notes { store, topic, delay, metrics }, shutdown)
    }
}

/// What is noted of a topic.
struct Notes {
    store: Arc<dyn NotificationStore>,
    topic: Topic,
    delay: TimeDelta,
    metrics: Metrics,
}

#[async_trait]
impl Sink for Notes {
    type Batch = Batch;
    type Error = StoreError;

    const WORK: &'static str = "noting what users have missed";
    const IDLE: &'static str = "messages are not followed";

    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        self.store.positions(self.topic, partitions).await
    }

    fn add(&self, batch: &mut Batch, record: &Record<'_>) -> Result<(), Unreadable> {
        self.metrics.records.inc();
        if self.topic == Topic::ChatEvents {
            return batch.add_membership(record.key().unwrap_or_default(), record.payload());
        }
        batch.add_delivered(&DeliveredRecord::read(record.payload())?, now());
        Ok(())
    }

    fn skipped(&self) {
        self.metrics.skipped.inc();
    }

    fn is_empty(batch: &Batch) -> bool {
        batch.is_empty()
    }

    async fn apply(&self, partition: i32, next_offset: i64, batch: &Batch) -> Result<(), StoreError> {
        let place = Place { topic: self.topic, partition, next_offset };
        self.store.apply(place, batch, self.delay, now()).await
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: how old a text is")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
