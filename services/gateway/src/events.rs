//! The event log: produces `message.send`, follows `message.delivered` and `chat.events`.
//!
//! Both topics are followed whole by every gateway, with partitions assigned by hand: each has its own sockets, and
//! none shares the work.

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use contracts::{
    event::{DeliveredRecord, MembershipRecord, SendRecord, VERSION},
    topic,
};
use kit::{backoff::Backoff, config::KafkaArgs, health::Check, kafka, outage::Outage};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use tokio_util::sync::CancellationToken;

use crate::{config::Limits, fanout::Fanout, membership::Membership};

/// Metadata and watermarks at the start.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to start.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(2);
/// What is in the producer's queue at the end gets this long, beyond the drain of the connections.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The log of sends.
#[derive(Clone)]
pub(crate) struct SendLog {
    producer: kafka::Producer,
    topic: String,
}

impl SendLog {
    pub(crate) fn new(args: &KafkaArgs, tenant: &str, limits: &Limits) -> KafkaResult<Self> {
        let mut config = kafka::producer_config(args);
        // The outcome after this is unknown, which is safe: the client repeats with the same key.
        config.set("delivery.timeout.ms", limits.produce_within.as_millis().to_string());
        let producer = kafka::Producer::new(&config)?;
        Ok(Self { producer, topic: topic::tenant_topic(tenant, topic::MESSAGE_SEND) })
    }

    /// Queues a record; the future ends when all replicas have it. Records of one chat keep the order of the calls.
    pub(crate) fn enqueue(&self, record: &SendRecord) -> KafkaResult<kafka::Delivery> {
        let payload = serde_json::to_vec(record).expect("a record has no map with other than text keys");
        let key = record.chat.to_string();
        self.producer.send(&self.topic, &key, Some(&payload))
    }

    /// Waits for what is queued.
    pub(crate) async fn flush(&self) {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the log did not take all records before the end: {error}");
        }
    }
}

/// Follows `message.delivered` from its end; ready when no later record can be missed.
pub(crate) async fn follow_delivered(
    args: KafkaArgs,
    tenant: String,
    fanout: Fanout,
    check: Check,
    stop: CancellationToken,
) {
    let topic = topic::tenant_topic(&tenant, topic::MESSAGE_DELIVERED);
    let mut config = kafka::consumer_config(&args, &group(&tenant));
    config.set("auto.offset.reset", "latest");
    let Some(mut follower) = Follower::start(config, topic, Start::End, &check, &stop).await else { return };
    check.ok();
    while let Some(event) = follower.next(&stop).await {
        if let Event::Record(record) = event
            && let Some(record) = delivered(&record)
        {
            fanout.deliver(record);
        }
    }
    follower.end().await;
}

/// Follows `chat.events` from its beginning; ready when all that was there at the start is read.
pub(crate) async fn follow_membership(
    args: KafkaArgs,
    tenant: String,
    membership: Arc<Membership>,
    check: Check,
    stop: CancellationToken,
) {
    let topic = topic::tenant_topic(&tenant, topic::CHAT_EVENTS);
    let mut config = kafka::consumer_config(&args, &group(&tenant));
    config.set("enable.partition.eof", "true");
    let Some(mut follower) = Follower::start(config, topic, Start::Beginning, &check, &stop).await else {
        return;
    };
    check.failing("reading who is in which chat");
    let mut behind: HashSet<i32> = follower.partitions.iter().copied().collect();
    let mut records = 0_u64;
    while let Some(event) = follower.next(&stop).await {
        match event {
            Event::Record(record) => {
                records += 1;
                apply(&membership, &record);
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

fn delivered(record: &BorrowedMessage<'_>) -> Option<DeliveredRecord> {
    let parsed = serde_json::from_slice::<DeliveredRecord>(record.payload()?);
    match parsed {
        Ok(delivered) if delivered.v == VERSION => Some(delivered),
        Ok(delivered) => {
            skipped(record, &format!("its version is {}", delivered.v));
            None
        }
        Err(error) => {
            // The text of the error could quote the body.
            skipped(record, &format!("it cannot be read at column {}", error.column()));
            None
        }
    }
}

fn apply(membership: &Membership, record: &BorrowedMessage<'_>) {
    let Some((chat, user)) = record.key().and_then(MembershipRecord::parse_key) else {
        return skipped(record, "its key is not a chat and a person");
    };
    match record.payload().map(serde_json::from_slice::<MembershipRecord>) {
        None => membership.removed(chat, user),
        Some(Ok(member)) if member.v == VERSION && (member.chat, member.user) == (chat, user) => {
            membership.added(chat, user);
        }
        Some(Ok(_)) => skipped(record, "its version or ids are not those of its key"),
        Some(Err(error)) => skipped(record, &error.to_string()),
    }
}

fn skipped(record: &BorrowedMessage<'_>, why: &str) {
    let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
    tracing::warn!(topic, partition, offset, why, "skipped a record of {topic}: {why}");
}

#[derive(Clone, Copy)]
enum Start {
    Beginning,
    /// The end as it is now: what is written after the assignment is read.
    End,
}

enum Event<'a> {
    Record(BorrowedMessage<'a>),
    /// The end of a partition was reached.
    End(i32),
}

/// A consumer with all partitions of a topic assigned.
struct Follower {
    consumer: Arc<kafka::Consumer>,
    topic: String,
    partitions: Vec<i32>,
    outage: Outage,
}

impl Follower {
    /// Tries until it works; `None` when stopped before.
    async fn start(
        config: rdkafka::ClientConfig,
        topic: String,
        start: Start,
        check: &Check,
        stop: &CancellationToken,
    ) -> Option<Self> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            match assigned(config.clone(), topic.clone(), start).await {
                Ok((consumer, partitions)) => {
                    return Some(Self { consumer, topic, partitions, outage: Outage::default() });
                }
                Err(error) => check.failing(format!("topic {topic}: {error}")),
            }
            if backoff.pause(stop).await.is_break() {
                return None;
            }
        }
    }

    /// Returns what comes next; `None` when stopped. The client reconnects by itself and goes on where it was.
    async fn next(&mut self, stop: &CancellationToken) -> Option<Event<'_>> {
        let topic = &self.topic;
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return None,
                received = self.consumer.recv() => received,
            };
            match received {
                Ok(record) => {
                    self.outage.worked(topic);
                    return Some(Event::Record(record));
                }
                Err(KafkaError::PartitionEOF(partition)) => return Some(Event::End(partition)),
                // A report, not a failed attempt: a lost broker leaves dozens of them before the next record.
                Err(error) => self.outage.failed(topic, &error),
            }
        }
    }

    async fn end(self) {
        dispose(self.consumer).await;
    }
}

async fn assigned(
    config: rdkafka::ClientConfig,
    topic: String,
    start: Start,
) -> KafkaResult<(Arc<kafka::Consumer>, Vec<i32>)> {
    // Creation wants the runtime, the questions after it block.
    let consumer = Arc::new(kafka::consumer(&config)?);
    let asking = consumer.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = asking.fetch_metadata(Some(&topic), ASK_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let partitions: Vec<i32> =
            found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in &partitions {
            let offset = match start {
                Start::Beginning => Offset::Beginning,
                Start::End => Offset::Offset(asking.fetch_watermarks(&topic, *partition, ASK_TIMEOUT)?.1),
            };
            list.add_partition_offset(&topic, *partition, offset)?;
        }
        asking.assign(&list)?;
        Ok(partitions)
    })
    .await
    .unwrap_or(Err(KafkaError::Canceled));
    match asked {
        Ok(partitions) => Ok((consumer, partitions)),
        Err(error) => {
            dispose(consumer).await;
            Err(error)
        }
    }
}

/// Drops a consumer where blocking is allowed: it says goodbye to its brokers.
async fn dispose(consumer: Arc<kafka::Consumer>) {
    drop(tokio::task::spawn_blocking(move || drop(consumer)).await);
}

/// The client wants a group even when it is assigned by hand; none is ever joined.
fn group(tenant: &str) -> String {
    format!("{tenant}.gateway")
}
