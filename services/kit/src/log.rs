//! The event log as services use it: producing, following a topic whole, and owning partitions as a member of a group.
//!
//! There are two logs behind one set of types. Kafka is the log of a tenant. The one in memory keeps nothing beyond its
//! process and is for `posthouse dev` and tests. Which of them it is, is decided once, where a [`Log`] is made; a record
//! costs a branch and no allocation for that. [`Sink`] is what most services that own partitions do with their records.

pub(crate) mod delivery;
mod kafka;
mod lasting;
mod memory;
mod sink;

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    Message as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use traces::Parent;

pub use self::{
    delivery::{Delivery, Undelivered},
    lasting::LastingProducer,
    sink::Sink,
};
use crate::{config::KafkaArgs, health::Check, kafka as client};

/// The event log of a tenant. Cheap to clone; nothing is connected before it is used.
#[derive(Clone)]
pub struct Log(Way);

#[derive(Clone)]
enum Way {
    Kafka(KafkaArgs),
    Memory(Arc<memory::Log>),
}

impl Log {
    /// Returns the log that Kafka keeps.
    pub fn kafka(args: KafkaArgs) -> Self {
        Self(Way::Kafka(args))
    }

    /// Creates an empty log that ends with its last handle. Topics appear with their first use.
    pub fn memory() -> Self {
        Self(Way::Memory(Arc::default()))
    }

    /// Creates a producer that gives a record up after this time, or never.
    pub fn producer(&self, give_up_after: Option<Duration>) -> Result<Producer, LogError> {
        match &self.0 {
            Way::Kafka(args) => {
                let mut config = client::producer_config(args);
                let timeout = give_up_after.unwrap_or_default().as_millis();
                config.set("delivery.timeout.ms", timeout.to_string());
                Ok(Producer(Produce::Kafka(client::Producer::new(&config, &args.schema_ids)?)))
            }
            Way::Memory(log) => Ok(Producer(Produce::Memory(log.clone()))),
        }
    }

    /// Follows all partitions of a topic. Tries until it works; `None` when stopped before.
    ///
    /// Kafka's client wants the name of a group even though none is ever joined.
    pub async fn follow(
        &self,
        topic: &str,
        group: &str,
        start: Start,
        check: &Check,
        stop: &CancellationToken,
    ) -> Option<Follower> {
        match &self.0 {
            Way::Kafka(args) => {
                let follower = kafka::follow(args, topic, group, start, check, stop).await?;
                Some(Follower(Follow::Kafka(follower)))
            }
            Way::Memory(log) => Some(Follower(Follow::Memory(log.follow(topic, start)))),
        }
    }

    /// Follows all partitions of a topic from where an earlier reader of them stopped: `next` has the offset that each is read from, and
    /// one that is not in it is read from its beginning. The end of each partition is reported when it is reached. Tries until it
    /// works; `None` when stopped before.
    ///
    /// What the log has forgotten meanwhile is passed over, and a log that was made again is read from its beginning:
    /// [`Follower::starts`] says so.
    pub async fn resume(
        &self,
        topic: &str,
        group: &str,
        next: &BTreeMap<i32, i64>,
        check: &Check,
        stop: &CancellationToken,
    ) -> Option<Follower> {
        match &self.0 {
            Way::Kafka(args) => {
                let follower = kafka::resume(args, topic, group, next, check, stop).await?;
                Some(Follower(Follow::Kafka(follower)))
            }
            Way::Memory(log) => Some(Follower(Follow::Memory(log.resume(topic, next)))),
        }
    }

    /// Joins a group that shares the partitions of a topic. The future ends when the group is left, which happens at
    /// the shutdown; it is cancelled here when this process cannot stay in the group.
    pub fn join(
        &self,
        topic: &str,
        group: &str,
        member: Arc<dyn Member>,
        shutdown: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, JoinError> {
        let membership: Pin<Box<dyn Future<Output = ()> + Send>> = match &self.0 {
            Way::Kafka(args) => Box::pin(kafka::join(args, topic, group, member, shutdown)?),
            Way::Memory(log) => Box::pin(log.topic(topic).share(member, shutdown)),
        };
        Ok(membership)
    }
}

/// An operation of the log failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct LogError(#[from] KafkaError);

impl LogError {
    /// Returns whether the producer has no room; there will be some in a moment.
    pub fn is_queue_full(&self) -> bool {
        self.0.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("failed to join the consumer group {group}")]
    Join { group: String, source: LogError },
    #[error("failed to start the consumer's thread")]
    Thread(#[source] std::io::Error),
}

/// A producer of records, whose outcomes come as futures.
#[derive(Clone)]
pub struct Producer(Produce);

#[derive(Clone)]
enum Produce {
    Kafka(client::Producer),
    Memory(Arc<memory::Log>),
}

impl Producer {
    /// Queues a record; those of one key keep the order of the calls. Without a payload it is a tombstone. What becomes of it belongs to the span that it
    /// is written in.
    pub fn send(&self, topic: &str, key: &str, payload: Option<&[u8]>) -> Result<Delivery, LogError> {
        let trace = traces::current();
        match &self.0 {
            Produce::Kafka(producer) => Ok(producer.send(topic, key, payload, trace)?),
            Produce::Memory(log) => {
                log.topic(topic).append(key, payload, trace);
                Ok(Delivery::delivered())
            }
        }
    }

    /// Queues records of a topic at once, in their order, so that they travel together, each with the span that it belongs to, if any. Returns what
    /// becomes of those that are queued, and why the one behind them is not.
    pub fn send_all<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (&'a str, &'a [u8], Option<Parent>)>,
    ) -> (Vec<Delivery>, Option<LogError>) {
        match &self.0 {
            Produce::Kafka(producer) => {
                let (deliveries, error) = producer.send_all(topic, records);
                (deliveries, error.map(LogError::from))
            }
            Produce::Memory(log) => {
                let topic = log.topic(topic);
                let append = |(key, payload, trace): (&str, &[u8], Option<Parent>)| {
                    topic.append(key, Some(payload), trace);
                    Delivery::delivered()
                };
                (records.into_iter().map(append).collect(), None)
            }
        }
    }

    /// Waits, blocking, until everything queued has its outcome.
    pub fn flush(&self, timeout: Duration) -> Result<(), LogError> {
        match &self.0 {
            Produce::Kafka(producer) => Ok(producer.flush(timeout)?),
            Produce::Memory(_) => Ok(()),
        }
    }

    /// Returns whether this producer has lost its place in the log and only another one can go on.
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Produce::Kafka(producer) => producer.is_lost(),
            Produce::Memory(_) => false,
        }
    }
}

/// Returns where a partition that has offsets from `first` to `end` is read, by one who wants to go on at `next`. Behind its end nothing was
/// ever read of it: it was made again.
fn place_of(next: Option<i64>, (first, end): (i64, i64)) -> i64 {
    next.filter(|next| (first..=end).contains(next)).unwrap_or(first)
}

/// A record that was read.
pub struct Record<'a>(Read<'a>);

enum Read<'a> {
    Kafka(BorrowedMessage<'a>),
    Memory(Arc<memory::Stored>),
}

impl Record<'_> {
    /// Returns the partition.
    pub fn partition(&self) -> i32 {
        match &self.0 {
            Read::Kafka(record) => record.partition(),
            Read::Memory(record) => record.partition,
        }
    }

    /// Returns the place in the partition.
    pub fn offset(&self) -> i64 {
        match &self.0 {
            Read::Kafka(record) => record.offset(),
            Read::Memory(record) => record.offset,
        }
    }

    /// Returns the time of the record in milliseconds since the epoch, by the clock that the topic is set to.
    pub fn logged_at_ms(&self) -> Option<i64> {
        match &self.0 {
            Read::Kafka(record) => record.timestamp().to_millis(),
            Read::Memory(record) => Some(record.logged_at_ms),
        }
    }

    /// Returns the key.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.0 {
            Read::Kafka(record) => record.key(),
            Read::Memory(record) => Some(record.key.as_bytes()),
        }
    }

    /// Returns the payload; a tombstone has none.
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.0 {
            Read::Kafka(record) => record.payload(),
            Read::Memory(record) => record.payload.as_deref(),
        }
    }

    /// Returns the span that the record was written in, if that is recorded.
    pub fn trace(&self) -> Option<Parent> {
        match &self.0 {
            Read::Kafka(record) => client::trace_of(record),
            Read::Memory(record) => record.trace,
        }
    }
}

/// Where following starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record. The end of each partition is reported when it is reached.
    Beginning,
    /// The end as it is now: what is written from then on is read.
    End,
}

/// What a [`Follower`] comes upon.
pub enum Event<'a> {
    Record(Record<'a>),
    /// The end of a partition was reached.
    End(i32),
}

/// A reader of all partitions of a topic.
pub struct Follower(Follow);

enum Follow {
    Kafka(kafka::Follower),
    Memory(memory::Follower),
}

impl Follower {
    /// Returns the partitions.
    pub fn partitions(&self) -> Vec<i32> {
        match &self.0 {
            Follow::Kafka(follower) => follower.partitions().to_vec(),
            Follow::Memory(_) => memory::PARTITIONS.collect(),
        }
    }

    /// Returns the offsets of the first records that are read, as far as they are known: of each partition, but when it was asked for the
    /// beginning of all.
    pub fn starts(&self) -> BTreeMap<i32, i64> {
        match &self.0 {
            Follow::Kafka(follower) => follower.starts().clone(),
            Follow::Memory(follower) => follower.starts(),
        }
    }

    /// Returns what comes next; `None` when stopped. After an outage it goes on where it was.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Event<'_>> {
        match &mut self.0 {
            Follow::Kafka(follower) => follower.next(stop).await,
            Follow::Memory(follower) => follower.next(stop).await,
        }
    }

    /// Returns what is there already, without waiting; what comes later is for [`Self::next`].
    pub fn ready(&mut self) -> Option<Event<'_>> {
        match &mut self.0 {
            Follow::Kafka(follower) => follower.ready(),
            Follow::Memory(follower) => follower.ready(),
        }
    }

    /// Ends the following.
    pub async fn end(self) {
        if let Follow::Kafka(follower) = self.0 {
            follower.end().await;
        }
    }
}

/// What a member of a group does with its partitions. The calls come one after another.
#[async_trait]
pub trait Member: Send + Sync + 'static {
    /// Returns where each of these partitions is to be read from, `None` being its beginning; nothing when shutting
    /// down.
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>>;

    /// Takes a partition over; called where tasks can be spawned.
    fn take(&self, queue: Queue, start: Option<i64>);

    /// Returns the partitions that were taken and not given up.
    fn taken(&self) -> Vec<i32>;

    /// Gives partitions up. Their queues are gone when it returns.
    async fn give_up(&self, partitions: &[i32]);

    /// Receives the state of the group.
    fn report(&self, report: Report);
}

/// What a member receives about its group now and then.
#[derive(Debug)]
pub enum Report {
    /// The group has settled with this member in it.
    Settled,
    /// This member has no part in the group, and why.
    Outside(String),
    /// Whether any broker responds.
    Brokers { answer: bool },
    /// Where a partition ends, and the first offset that it still has: the end again for one that has no record left. Less than none for
    /// one that is not known yet.
    End { partition: i32, first: i64, offset: i64 },
}

/// The records of one partition, for the member that owns it.
pub struct Queue(Take);

enum Take {
    Kafka(kafka::Queue),
    Memory(memory::Cursor),
}

impl Queue {
    /// Returns the partition.
    pub fn partition(&self) -> i32 {
        match &self.0 {
            Take::Kafka(queue) => queue.partition(),
            Take::Memory(cursor) => cursor.partition(),
        }
    }

    /// Lets `filled` be notified whenever the queue is no longer empty.
    pub fn notify(&mut self, filled: &Arc<Notify>) {
        match &mut self.0 {
            Take::Kafka(queue) => queue.notify(filled.clone()),
            Take::Memory(cursor) => cursor.notify(filled),
        }
    }

    /// Returns the next record that is there already.
    pub fn poll(&mut self) -> Option<Result<Record<'_>, LogError>> {
        match &mut self.0 {
            Take::Kafka(queue) => queue.poll(),
            Take::Memory(cursor) => cursor.read().map(|record| Ok(Record(Read::Memory(record)))),
        }
    }

    /// Commits to the group that everything before `offset` is done. Failing is harmless: a member sets itself where it
    /// starts.
    pub fn commit(&self, offset: i64) {
        if let Take::Kafka(queue) = &self.0 {
            queue.commit(offset);
        }
    }
}
