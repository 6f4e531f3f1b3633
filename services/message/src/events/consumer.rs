//! Membership in the consumer group: partitions come and go, and an owner task comes and goes with each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use contracts::topic::{MESSAGE_SEND, tenant_topic};
use futures_util::future::try_join_all;
use kit::{backoff::Backoff, config::KafkaArgs};
use rdkafka::{
    ClientContext, Message as _, Offset, Statistics, TopicPartitionList,
    consumer::{
        BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol, base_consumer::PartitionQueue,
    },
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaRespErr,
};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    BACKOFF, Obstacles, Place,
    announcer::Announcer,
    owner::{Owner, OwnerParts},
    pipeline::Pipeline,
};
use crate::{
    domain::Generation,
    metrics::Metrics,
    store::{Partition, Store, StoreError},
};

/// Group events are served at least this often; records do not wait for it.
const POLL: Duration = Duration::from_millis(100);
/// An owner that has to go gets this long to record how far it came. Without it the next owner repeats more.
const HANDOVER: Duration = Duration::from_secs(2);
/// How often the client reports its lag and the state of its brokers.
const STATISTICS_INTERVAL: &str = "2000";
/// A read of a position that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);

#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error("failed to create the producer of announcements")]
    Producer(#[source] KafkaError),
    #[error("failed to join the consumer group {group}")]
    Join { group: String, source: KafkaError },
    #[error("failed to start the consumer's thread")]
    Thread(#[source] std::io::Error),
}

/// What an owner needs, the same for all partitions.
pub struct Consumer<S> {
    pub(crate) tenant: String,
    pub(crate) kafka: KafkaArgs,
    pub(crate) generation: Generation,
    pub(crate) store: Arc<S>,
    pub(crate) metrics: Metrics,
    pub(crate) obstacles: Arc<Obstacles>,
    pub(crate) shutdown: CancellationToken,
}

impl<S: Store> Consumer<S> {
    /// Joins the group and owns partitions until shutdown; the future ends when the group is left.
    pub(crate) fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, ConsumerError> {
        let announcer =
            Announcer::new(&self.kafka, &self.tenant, self.obstacles.clone(), self.shutdown.clone())
                .map_err(ConsumerError::Producer)?;
        let group = format!("{}.message", self.tenant);
        let topic = tenant_topic(&self.tenant, MESSAGE_SEND);
        let mut config = kit::kafka::consumer_config(&self.kafka, &group);
        config
            .set("group.protocol", "classic")
            // Partitions that stay where they are go on during a rebalance.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("statistics.interval.ms", STATISTICS_INTERVAL);
        let (obstacles, shutdown) = (self.obstacles.clone(), self.shutdown.clone());
        let context = Group {
            shared: self,
            announcer,
            topic: topic.clone(),
            runtime: Handle::current(),
            consumer: OnceLock::new(),
            owners: Mutex::default(),
        };
        let join_error = |source| ConsumerError::Join { group: group.clone(), source };
        let consumer: Arc<BaseConsumer<Group<S>>> =
            Arc::new(config.create_with_context(context).map_err(join_error)?);
        // A weak reference, or the consumer would keep itself alive.
        consumer.context().consumer.set(Arc::downgrade(&consumer)).expect("set once");
        consumer.subscribe(&[&topic]).map_err(join_error)?;

        let (ended, end) = oneshot::channel();
        // A thread of its own: the group's callbacks wait for owners and for the store.
        thread::Builder::new()
            .name("group".to_owned())
            .spawn(move || {
                poll(&consumer, &obstacles, &shutdown);
                drop(consumer);
                // Nobody waits for it when the drain limit has passed.
                let _ = ended.send(());
            })
            .map_err(ConsumerError::Thread)?;
        Ok(async move { end.await.unwrap_or_default() })
    }
}

fn poll<S: Store>(consumer: &BaseConsumer<Group<S>>, obstacles: &Obstacles, shutdown: &CancellationToken) {
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
                    obstacles.set(Place::Group, format!("cannot stay in the consumer group: {error}"));
                    shutdown.cancel();
                }
            }
        }
    }
    // Hands the partitions over now instead of after the session's end.
    consumer.unsubscribe();
    let group = consumer.context();
    let partitions: Vec<i32> = group.owners().keys().copied().collect();
    group.runtime.block_on(group.dismiss(&partitions));
}

/// What librdkafka calls back; runs on the group's thread.
struct Group<S: Store> {
    shared: Consumer<S>,
    announcer: Announcer,
    topic: String,
    runtime: Handle,
    consumer: OnceLock<Weak<BaseConsumer<Self>>>,
    owners: Mutex<HashMap<i32, Owned>>,
}

struct Owned {
    stop: CancellationToken,
    /// The first offset that the owner has not applied.
    position: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl<S: Store> Group<S> {
    fn owners(&self) -> MutexGuard<'_, HashMap<i32, Owned>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where to start, by partition; `None` at shutdown.
    ///
    /// A position that was never recorded means the beginning: reading again what is stored changes nothing,
    /// and a store that lost everything is filled again from the log. The group's committed offsets are for
    /// people who look at lag; they may be ahead of a store that lost its last seconds.
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let read = partitions.iter().map(|&partition| async move {
                let shared = &self.shared;
                let offset = shared.store.next_offset(&shared.generation, Partition(partition)).await?;
                Ok::<_, StoreError>((partition, offset))
            });
            let why = match tokio::time::timeout(POSITION_TIMEOUT, try_join_all(read)).await {
                Ok(Ok(starts)) => return Some(starts.into_iter().collect()),
                Ok(Err(error)) => kit::error::chain(&error),
                Err(_) => "the store does not answer".to_owned(),
            };
            tracing::warn!(error = why, "cannot take over partitions yet: {why}");
            self.shared.obstacles.set(Place::Group, why);
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return None,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    /// Takes the partitions over. Their queues are split off before they are assigned, so no record goes astray.
    fn take(&self, consumer: &BaseConsumer<Self>, assigned: &mut TopicPartitionList) -> KafkaResult<()> {
        let partitions = partitions(assigned);
        let (Some(starts), Some(shared_consumer)) =
            (self.runtime.block_on(self.starts(&partitions)), self.consumer.get().and_then(Weak::upgrade))
        else {
            // Shutting down; nothing is taken.
            *assigned = TopicPartitionList::new();
            return assign(consumer, assigned);
        };
        for (&partition, &start) in &starts {
            assigned.set_partition_offset(
                &self.topic,
                partition,
                start.map_or(Offset::Beginning, Offset::Offset),
            )?;
            let queue = shared_consumer
                .split_partition_queue(&self.topic, partition)
                .expect("a topic name has no NUL and a consumer has queues");
            self.own(shared_consumer.clone(), partition, start, queue);
        }
        assign(consumer, assigned)
    }

    fn own(
        &self,
        consumer: Arc<BaseConsumer<Self>>,
        partition: i32,
        start: Option<i64>,
        queue: PartitionQueue<Self>,
    ) {
        let shared = &self.shared;
        let (stop, position) = (shared.shutdown.child_token(), Arc::new(AtomicI64::new(start.unwrap_or(0))));
        let owner = Owner::new(OwnerParts {
            partition,
            start,
            generation: shared.generation.clone(),
            topic: self.topic.clone(),
            store: shared.store.clone(),
            pipeline: Pipeline::new(shared.generation.clone(), shared.store.clone(), shared.metrics.clone()),
            announcer: self.announcer.clone(),
            metrics: shared.metrics.clone(),
            obstacles: shared.obstacles.clone(),
            stop: stop.clone(),
            position: position.clone(),
            consumer,
            queue,
        });
        shared.metrics.owns(partition);
        tracing::info!(partition, start, "owns partition {partition} of {}", self.topic);
        let task = self.runtime.spawn(owner.run());
        self.owners().insert(partition, Owned { stop, position, task });
    }

    /// Lets the owners of these partitions end, waiting a little for what they have in hand.
    async fn dismiss(&self, partitions: &[i32]) {
        let dismissed: Vec<(i32, Owned)> = {
            let mut owners = self.owners();
            partitions.iter().filter_map(|partition| owners.remove_entry(partition)).collect()
        };
        for (_, owned) in &dismissed {
            owned.stop.cancel();
        }
        let deadline = tokio::time::Instant::now() + HANDOVER;
        for (partition, mut owned) in dismissed {
            let ended = tokio::time::timeout_at(deadline, &mut owned.task).await;
            if ended.is_err() {
                owned.task.abort();
                // Wait for the abort: the partition's queue must not outlive its assignment.
                drop(owned.task.await);
            }
            self.shared.obstacles.clear(Place::Partition(partition));
            self.shared.obstacles.clear(Place::Announcements(partition));
            self.shared.metrics.owns_no_more(partition);
            tracing::info!(partition, "owns partition {partition} of {} no more", self.topic);
        }
    }
}

impl<S: Store> ClientContext for Group<S> {
    /// Every error comes by `poll` as well, where it is told.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the event log's client: {reason}");
    }

    fn stats(&self, statistics: Statistics) {
        let brokers = statistics.brokers.values().filter(|broker| broker.nodeid >= 0);
        if brokers.into_iter().any(|broker| broker.state == "UP") {
            self.shared.obstacles.clear(Place::Brokers);
        } else {
            self.shared.obstacles.set(Place::Brokers, "no Kafka broker answers");
        }
        if statistics.cgrp.is_some_and(|group| group.state == "up" && group.join_state == "steady") {
            self.shared.obstacles.clear(Place::Group);
        }
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for (&partition, owned) in self.owners().iter() {
            if let Some(known) = topic.partitions.get(&partition)
                && known.hi_offset >= 0
            {
                let lag = known.hi_offset - owned.position.load(Ordering::Relaxed);
                self.shared.metrics.lag(partition, lag.max(0));
            }
        }
    }
}

impl<S: Store> ConsumerContext for Group<S> {
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
                    self.shared.obstacles.clear(Place::Group);
                }
                taken
            }
            _ => {
                self.runtime.block_on(self.dismiss(&partitions(partitions_of_event)));
                unassign(consumer, partitions_of_event)
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "failed to follow a rebalance: {error}");
            self.runtime.block_on(self.dismiss(&partitions(partitions_of_event)));
            self.shared.obstacles.set(Place::Group, format!("failed to follow a rebalance: {error}"));
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(TopicPartitionListElem::partition).collect()
}

fn assign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions),
    }
}

fn unassign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}
