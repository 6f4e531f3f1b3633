//! The log that Kafka keeps.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, OnceLock, Weak},
    thread,
    time::Duration,
};

use futures_util::FutureExt as _;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, Statistics, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol,
        base_consumer::PartitionQueue,
    },
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionListElem,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{Event, JoinError, LogError, Member, Read, Record, Report, Start, Take, place_of};
use crate::{backoff::Backoff, config::KafkaArgs, health::Check, kafka, outage::Outage};

/// Metadata and watermarks at the start.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to start.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(2);
/// Group events are served at least this often; records do not wait for it.
const POLL: Duration = Duration::from_millis(100);
/// How often the client reports its lag and the state of its brokers.
const STATISTICS_INTERVAL: &str = "2000";

/// A consumer with all partitions of a topic assigned.
pub(super) struct Follower {
    consumer: Arc<kafka::Consumer>,
    topic: String,
    partitions: Vec<i32>,
    /// Those that are known.
    starts: BTreeMap<i32, i64>,
    outage: Outage,
}

/// Where partitions are read from.
#[derive(Clone)]
enum Places {
    Start(Start),
    /// From these offsets on, and the others from their beginnings.
    Next(BTreeMap<i32, i64>),
}

/// Tries until it works; `None` when stopped before.
pub(super) async fn follow(
    args: &KafkaArgs,
    topic: &str,
    group: &str,
    start: Start,
    check: &Check,
    stop: &CancellationToken,
) -> Option<Follower> {
    let mut config = kafka::consumer_config(args, group);
    match start {
        Start::Beginning => config.set("enable.partition.eof", "true"),
        Start::End => config.set("auto.offset.reset", "latest"),
    };
    follow_from(config, topic, Places::Start(start), check, stop).await
}

/// Likewise, from where another reader stopped.
pub(super) async fn resume(
    args: &KafkaArgs,
    topic: &str,
    group: &str,
    next: &BTreeMap<i32, i64>,
    check: &Check,
    stop: &CancellationToken,
) -> Option<Follower> {
    let mut config = kafka::consumer_config(args, group);
    config.set("enable.partition.eof", "true");
    follow_from(config, topic, Places::Next(next.clone()), check, stop).await
}

async fn follow_from(
    config: ClientConfig,
    topic: &str,
    places: Places,
    check: &Check,
    stop: &CancellationToken,
) -> Option<Follower> {
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        match assigned(config.clone(), topic.to_owned(), places.clone()).await {
            Ok(follower) => return Some(follower),
            Err(error) => check.failing(format!("topic {topic}: {error}")),
        }
        if backoff.pause(stop).await.is_break() {
            return None;
        }
    }
}

impl Follower {
    pub(super) fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    pub(super) fn starts(&self) -> &BTreeMap<i32, i64> {
        &self.starts
    }

    /// Returns what comes next; `None` when stopped. The client reconnects by itself and goes on where it was.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Option<Event<'_>> {
        let topic = &self.topic;
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return None,
                received = self.consumer.recv() => received,
            };
            match received {
                Ok(record) => {
                    self.outage.worked(topic);
                    return Some(Event::Record(Record(Read::Kafka(record))));
                }
                Err(KafkaError::PartitionEOF(partition)) => return Some(Event::End(partition)),
                // A report, not a failed attempt: a lost broker leaves dozens of them before the next record.
                Err(error) => self.outage.failed(topic, &error),
            }
        }
    }

    /// Returns what is there already; what comes later is for [`Self::next`].
    pub(super) fn ready(&mut self) -> Option<Event<'_>> {
        match self.consumer.recv().now_or_never()? {
            Ok(record) => {
                self.outage.worked(&self.topic);
                Some(Event::Record(Record(Read::Kafka(record))))
            }
            Err(KafkaError::PartitionEOF(partition)) => Some(Event::End(partition)),
            Err(error) => {
                self.outage.failed(&self.topic, &error);
                None
            }
        }
    }

    pub(super) async fn end(self) {
        dispose(self.consumer).await;
    }
}

async fn assigned(config: ClientConfig, topic: String, places: Places) -> KafkaResult<Follower> {
    // Creation wants the runtime, the questions after it block.
    let consumer = Arc::new(kafka::consumer(&config)?);
    let (asking, name) = (consumer.clone(), topic.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let topic = name;
        let metadata = asking.fetch_metadata(Some(&topic), ASK_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let partitions: Vec<i32> =
            found.map(|topic| topic.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let mut starts = BTreeMap::new();
        for partition in &partitions {
            let watermarks = || asking.fetch_watermarks(&topic, *partition, ASK_TIMEOUT);
            let start = match &places {
                Places::Start(Start::Beginning) => None,
                Places::Start(Start::End) => Some(watermarks()?.1),
                Places::Next(next) => Some(place_of(next.get(partition).copied(), watermarks()?)),
            };
            starts.extend(start.map(|start| (*partition, start)));
            list.add_partition_offset(&topic, *partition, start.map_or(Offset::Beginning, Offset::Offset))?;
        }
        asking.assign(&list)?;
        Ok((partitions, starts))
    })
    .await
    .unwrap_or(Err(KafkaError::Canceled));
    match asked {
        Ok((partitions, starts)) => {
            Ok(Follower { consumer, topic, partitions, starts, outage: Outage::default() })
        }
        Err(error) => {
            dispose(consumer).await;
            Err(error)
        }
    }
}

/// Drops a consumer where blocking is allowed: it leaves its group and its brokers.
async fn dispose(consumer: Arc<kafka::Consumer>) {
    drop(tokio::task::spawn_blocking(move || drop(consumer)).await);
}

/// Joins a group; the future ends when it is left.
pub(super) fn join(
    args: &KafkaArgs,
    topic: &str,
    group: &str,
    member: Arc<dyn Member>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, JoinError> {
    let mut config = kafka::consumer_config(args, group);
    config
        .set("group.protocol", "classic")
        // Partitions that stay where they are go on during a rebalance.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("statistics.interval.ms", STATISTICS_INTERVAL);
    let context = Group {
        member: member.clone(),
        topic: topic.into(),
        runtime: Handle::current(),
        consumer: OnceLock::new(),
    };
    let join_error = |source: KafkaError| JoinError::Join { group: group.to_owned(), source: source.into() };
    let consumer: Arc<BaseConsumer<Group>> =
        Arc::new(config.create_with_context(context).map_err(join_error)?);
    // A weak reference, or the consumer would keep itself alive.
    consumer.context().consumer.set(Arc::downgrade(&consumer)).expect("set once");
    consumer.subscribe(&[topic]).map_err(join_error)?;

    let (ended, end) = oneshot::channel();
    // A thread of its own: the group's callbacks wait for the member.
    thread::Builder::new()
        .name("group".to_owned())
        .spawn(move || {
            poll(&consumer, &*member, &shutdown);
            drop(consumer);
            // No task waits for it when the drain limit has passed.
            let _ = ended.send(());
        })
        .map_err(JoinError::Thread)?;
    Ok(async move { end.await.unwrap_or_default() })
}

fn poll(consumer: &BaseConsumer<Group>, member: &dyn Member, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        match consumer.poll(POLL) {
            None => {}
            // Every partition gets its own queue before it is assigned. A record here has no owner that could
            // keep its order, so this process starts again from the recorded positions.
            Some(Ok(record)) => {
                let (partition, offset) = (record.partition(), record.offset());
                tracing::error!(partition, offset, "a record came outside of its partition's queue");
                shutdown.cancel();
            }
            Some(Err(error)) => {
                // A report, not a failed attempt: the client goes on by itself. A lost broker leaves dozens of them in
                // the queue before the group's next assignment, so none of them is waited for.
                tracing::warn!(%error, "the consumer group reports: {error}");
                if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                    member.report(Report::Outside(format!("cannot stay in the consumer group: {error}")));
                    shutdown.cancel();
                }
            }
        }
    }
    // Hands the partitions over now instead of after the session's end.
    consumer.unsubscribe();
    consumer.context().runtime.block_on(member.give_up(&member.taken()));
}

/// What librdkafka calls back; runs on the group's thread.
pub(super) struct Group {
    member: Arc<dyn Member>,
    topic: Arc<str>,
    runtime: Handle,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
}

impl Group {
    /// Takes the partitions over. Their queues are split off before they are assigned, so no record goes astray.
    fn take(&self, consumer: &BaseConsumer<Self>, assigned: &mut TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions(assigned);
        let starts = self.runtime.block_on(self.member.starts(&partitions));
        let (Some(starts), Some(shared)) = (starts, self.consumer.get().and_then(Weak::upgrade)) else {
            // Shutting down; nothing is taken.
            *assigned = TopicPartitionList::new();
            return assign(consumer, assigned);
        };
        let _runtime = self.runtime.enter();
        for (&partition, &start) in &starts {
            assigned.set_partition_offset(
                &self.topic,
                partition,
                start.map_or(Offset::Beginning, Offset::Offset),
            )?;
            let records = shared
                .split_partition_queue(&self.topic, partition)
                .expect("a topic name has no NUL and a consumer has queues");
            let (consumer, topic) = (shared.clone(), self.topic.clone());
            let queue = Queue { partition, topic, records, consumer };
            self.member.take(super::Queue(Take::Kafka(queue)), start);
        }
        assign(consumer, assigned)
    }

    fn give_up(&self, partitions: &[i32]) {
        self.runtime.block_on(self.member.give_up(partitions));
    }
}

impl ClientContext for Group {
    /// Every error comes by `poll` as well, where it is reported.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the event log's client: {reason}");
    }

    fn stats(&self, statistics: Statistics) {
        let mut brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        self.member.report(Report::Brokers { answer: brokers.any(|broker| broker.state == "UP") });
        if statistics.cgrp.is_some_and(|group| group.state == "up" && group.join_state == "steady") {
            self.member.report(Report::Settled);
        }
        let Some(topic) = statistics.topics.get(&*self.topic) else { return };
        for partition in self.member.taken() {
            if let Some(known) = topic.partitions.get(&partition)
                && known.hi_offset >= 0
            {
                let (first, offset) = (known.lo_offset, known.hi_offset);
                self.member.report(Report::End { partition, first, offset });
            }
        }
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions_of_event: &mut TopicPartitionList,
    ) {
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let taken = self.take(consumer, partitions_of_event);
                if taken.is_ok() {
                    self.member.report(Report::Settled);
                }
                taken
            }
            _ => {
                self.give_up(&partitions(partitions_of_event));
                unassign(consumer, partitions_of_event)
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "failed to follow a rebalance: {error}");
            self.give_up(&partitions(partitions_of_event));
            self.member.report(Report::Outside(format!("failed to follow a rebalance: {error}")));
        }
    }
}

/// The queue of one assigned partition.
pub(super) struct Queue {
    partition: i32,
    topic: Arc<str>,
    records: PartitionQueue<Group>,
    consumer: Arc<BaseConsumer<Group>>,
}

impl Queue {
    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn notify(&mut self, filled: Arc<Notify>) {
        self.records.set_nonempty_callback(move || filled.notify_one());
    }

    pub(super) fn poll(&self) -> Option<Result<Record<'_>, LogError>> {
        let polled = self.records.poll(Duration::ZERO)?;
        Some(polled.map(|record| Record(Read::Kafka(record))).map_err(LogError::from))
    }

    pub(super) fn commit(&self, offset: i64) {
        let mut position = TopicPartitionList::new();
        let committed = position
            .add_partition_offset(&self.topic, self.partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.commit(&position, CommitMode::Async));
        if let Err(error) = committed {
            tracing::debug!(%error, partition = self.partition, "failed to commit offset {offset}: {error}");
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

fn assign(consumer: &BaseConsumer<Group>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    }
}

fn unassign(consumer: &BaseConsumer<Group>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}
