//! Follows `message.delivered`, for texts that users may have missed and for what they took, `chat.events`, for who is in which chat, and
//! `session.events`, for sessions that have ended.
//!
//! The processes of this service share the partitions. How far a partition is read is noted in the transaction of what its records say, so
//! that a process that takes it over goes on where the one before it was.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::event::{DeliveredRecord, Unreadable};
use kit::{
    catalog::Topic,
    log::{JoinError, Log, Record, Sink},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    domain::{Batch, ENDS_ARE_KEPT_FOR},
    metrics::Metrics,
    store::{NotificationStore, Place, StoreError},
};

/// How often it is noted up to when the ends of sessions are read: a small part of the time for which they are kept.
const NOTE_ENDS_EVERY: TimeDelta = TimeDelta::minutes(1);

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
        let notes = Notes { store, topic, delay, metrics, ends_read_at: Mutex::default() };
        log.feed(&name, &group, notes, shutdown)
    }
}

/// What is noted of a topic.
struct Notes {
    store: Arc<dyn NotificationStore>,
    topic: Topic,
    delay: TimeDelta,
    metrics: Metrics,
    /// Up to when the ends of sessions are read, by partition, as it was noted last.
    ends_read_at: Mutex<HashMap<i32, DateTime<Utc>>>,
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
        match self.topic {
            Topic::ChatEvents => batch.add_membership(record.key().unwrap_or_default(), record.payload()),
            Topic::SessionEvents => batch.add_session_end(record.payload()),
            Topic::MessageSend | Topic::MessageDelivered | Topic::PresenceChanges => {
                batch.add_delivered(&DeliveredRecord::read(record.payload())?, now());
                Ok(())
            }
        }
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

    /// The topic forgets ends after hours: who has not read it for longer asks for every session.
    async fn caught_up(&self, partition: i32, at_ms: i64) -> Result<(), StoreError> {
        let at = DateTime::from_timestamp_millis(at_ms).filter(|_| self.topic == Topic::SessionEvents);
        let Some(at) = at else { return Ok(()) };
        let noted_at = self.ends_read_at().get(&partition).copied();
        if noted_at.is_some_and(|noted_at| at - noted_at < NOTE_ENDS_EVERY) {
            return Ok(());
        }
        let doubtful = self.store.ends_read(partition, at, at - ENDS_ARE_KEPT_FOR).await?;
        if doubtful > 0 {
            tracing::warn!(
                partition,
                doubtful,
                "ends of sessions may have been missed: the auth service is asked for the sessions of {doubtful} devices"
            );
        }
        self.ends_read_at().insert(partition, at);
        Ok(())
    }
}

impl Notes {
    fn ends_read_at(&self) -> MutexGuard<'_, HashMap<i32, DateTime<Utc>>> {
        self.ends_read_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: how old a text is")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
