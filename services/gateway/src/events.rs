//! The event log: produces `message.send`, follows `message.delivered` and `chat.events`.
//!
//! Both topics are followed whole by every gateway, with partitions assigned by hand: each has its own sockets, and
//! none shares the work.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use contracts::event::SendRecord;
use kit::{
    catalog::Topic,
    health::Check,
    log::{Delivery, Event, Log, LogError, Producer, Record, Start},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    domain::record::{self, Change, Unreadable},
    fanout::Fanout,
    membership::Membership,
};

/// What is in the producer's queue at the end gets this long, beyond the drain of the connections.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The log of sends.
#[derive(Clone)]
pub(crate) struct SendLog(Arc<Inner>);

struct Inner {
    log: Log,
    topic: String,
    give_up_after: Duration,
    producer: RwLock<Producer>,
}

impl SendLog {
    pub(crate) fn new(log: &Log, tenant: &str, limits: &Limits) -> Result<Self, LogError> {
        // The outcome after this is unknown, which is safe: the client repeats with the same key.
        let give_up_after = limits.produce_within;
        let producer = RwLock::new(log.producer(Some(give_up_after))?);
        let topic = Topic::MessageSend.of(tenant);
        Ok(Self(Arc::new(Inner { log: log.clone(), topic, give_up_after, producer })))
    }

    /// Queues a record; the future ends when all replicas have it. Records of one chat keep the order of the calls.
    pub(crate) fn enqueue(&self, record: &SendRecord) -> Result<Delivery, LogError> {
        let payload = serde_json::to_vec(record).expect("a record has no map with other than text keys");
        let key = record.chat.to_string();
        self.producer()?.send(&self.0.topic, &key, Some(&payload))
    }

    /// Returns a producer that can go on. One that has lost its place in the log never does, so another takes its place:
    /// the clients repeat what it did not deliver, with the same keys.
    fn producer(&self) -> Result<Producer, LogError> {
        let Inner { log, give_up_after, producer, .. } = &*self.0;
        let current = producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !current.is_lost() {
            return Ok(current);
        }
        let mut producer = producer.write().unwrap_or_else(PoisonError::into_inner);
        // Another send may have replaced it meanwhile.
        if producer.is_lost() {
            tracing::warn!("the producer has lost its place in the log and is replaced");
            *producer = log.producer(Some(*give_up_after))?;
        }
        Ok(producer.clone())
    }

    /// Waits for what is queued.
    pub(crate) async fn flush(&self) {
        let producer = self.0.producer.read().unwrap_or_else(PoisonError::into_inner).clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the log did not take all records before the end: {error}");
        }
    }
}

/// Follows `message.delivered` from its end; ready when no later record can be missed.
pub(crate) async fn follow_delivered(
    log: Log,
    tenant: String,
    fanout: Fanout,
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::MessageDelivered.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::End, &check, &stop).await;
    let Some(mut follower) = followed else { return };
    check.ok();
    while let Some(event) = follower.next(&stop).await {
        if let Event::Record(record) = event {
            match record::delivered(record.payload()) {
                Ok(delivered) => fanout.deliver(delivered),
                Err(why) => set_aside(&topic, &record, &why),
            }
        }
    }
    follower.end().await;
}

/// Follows `chat.events` from its beginning; ready when all that was there at the start is read.
pub(crate) async fn follow_membership(
    log: Log,
    tenant: String,
    membership: Arc<Membership>,
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::ChatEvents.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::Beginning, &check, &stop).await;
    let Some(mut follower) = followed else { return };
    check.failing("reading the members of chats");
    let mut behind: HashSet<i32> = follower.partitions().into_iter().collect();
    let mut records = 0_u64;
    while let Some(event) = follower.next(&stop).await {
        match event {
            Event::Record(record) => {
                records += 1;
                match record::change(record.key(), record.payload()) {
                    Ok(Change::Added(chat, user)) => membership.added(chat, user),
                    Ok(Change::Removed(chat, user)) => membership.removed(chat, user),
                    Err(why) => set_aside(&topic, &record, &why),
                }
            }
            Event::End(partition) => {
                behind.remove(&partition);
                if behind.is_empty() && !membership.is_caught_up() {
                    membership.set_caught_up();
                    tracing::info!(records, "chat.events is read up to its end");
                    check.ok();
                }
            }
        }
    }
    follower.end().await;
}

/// Reports a record that is not acted on; the log moves on.
fn set_aside(topic: &str, record: &Record<'_>, why: &Unreadable) {
    let (partition, offset) = (record.partition(), record.offset());
    tracing::warn!(topic, partition, offset, %why, "skipped a record of {topic}: {why}");
}

/// No gateway joins it: every one reads everything.
fn group(tenant: &str) -> String {
    format!("{tenant}.gateway")
}
