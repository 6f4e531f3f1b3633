//! Membership in the consumer group: partitions come and go, and an owner task comes and goes with each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use kit::{
    backoff::Backoff,
    catalog::Topic,
    log::{JoinError, Log, LogError, Member, Queue, Report},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use super::{
    BACKOFF, Blockers, Place,
    announcer::Announcer,
    owner::{Owner, OwnerParts},
    pipeline::Pipeline,
};
use crate::{
    domain::Generation,
    metrics::Metrics,
    store::{Partition, Progress, Store, StoreError},
};

/// An owner that has to go gets this long to record how far it came. Without it the next owner repeats more.
const HANDOVER: Duration = Duration::from_secs(2);
/// A read of a position that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);

#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error("failed to create the producer of announcements")]
    Producer(#[source] LogError),
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// What an owner needs, the same for all partitions.
pub struct Consumer<S> {
    pub(crate) tenant: String,
    pub(crate) log: Log,
    pub(crate) generation: Generation,
    pub(crate) store: Arc<S>,
    pub(crate) metrics: Metrics,
    pub(crate) blockers: Arc<Blockers>,
    pub(crate) shutdown: CancellationToken,
}

impl<S: Store> Consumer<S> {
    /// Joins the group and owns partitions until shutdown; the future ends when the group is left.
    pub(crate) fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, ConsumerError> {
        let announcer = Announcer::new(&self.log, &self.tenant, self.blockers.clone(), self.shutdown.clone())
            .map_err(ConsumerError::Producer)?;
        let group = format!("{}.message", self.tenant);
        let topic = Topic::MessageSend.of(&self.tenant);
        let (log, shutdown) = (self.log.clone(), self.shutdown.clone());
        let member = Group {
            shared: self,
            announcer,
            topic: topic.clone(),
            progress: Mutex::default(),
            owners: Mutex::default(),
        };
        Ok(log.join(&topic, &group, Arc::new(member), shutdown)?)
    }
}

/// The owners of this process.
struct Group<S: Store> {
    shared: Consumer<S>,
    announcer: Announcer,
    topic: String,
    /// How far the partitions were applied that are about to be taken.
    progress: Mutex<HashMap<i32, Progress>>,
    owners: Mutex<HashMap<i32, Owned>>,
}

struct Owned {
    stop: CancellationToken,
    /// The first offset that the owner has not applied.
    position: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl<S: Store> Group<S> {
    /// Notes how far partitions were applied. Returns where each is to be read from.
    fn start_at(&self, found: Vec<(i32, Option<Progress>)>) -> HashMap<i32, Option<i64>> {
        let mut noted = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut starts = HashMap::with_capacity(found.len());
        for (partition, progress) in found {
            noted.remove(&partition);
            let Some(progress) = progress else {
                starts.insert(partition, None);
                continue;
            };
            noted.insert(partition, progress);
            starts.insert(partition, Some(progress.next_offset - i64::from(progress.last.is_some())));
        }
        starts
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<i32, Owned>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Store> Member for Group<S> {
    /// A position that was never recorded means the beginning: reading again what is stored changes nothing,
    /// and a store that lost everything is filled again from the log. The group's committed offsets are for
    /// the display of lag; they may be ahead of a store that lost its last seconds.
    ///
    /// The record before the position is read once more, so that the owner sees whether the log is the one that it was.
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let read = partitions.iter().map(|&partition| async move {
                let shared = &self.shared;
                let progress = shared.store.progress(&shared.generation, Partition(partition)).await?;
                Ok::<_, StoreError>((partition, progress))
            });
            let why = match tokio::time::timeout(POSITION_TIMEOUT, try_join_all(read)).await {
                Ok(Ok(found)) => return Some(self.start_at(found)),
                Ok(Err(error)) => kit::error::chain(&error),
                Err(_) => "the store does not answer".to_owned(),
            };
            tracing::warn!(error = why, "cannot take over partitions yet: {why}");
            self.shared.blockers.set(Place::Group, why);
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return None,
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    fn take(&self, queue: Queue, _: Option<i64>) {
        let (shared, partition) = (&self.shared, queue.partition());
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        let start = progress.map(|progress| progress.next_offset);
        let (stop, position) = (shared.shutdown.child_token(), Arc::new(AtomicI64::new(start.unwrap_or(0))));
        let owner = Owner::new(OwnerParts {
            partition,
            progress,
            generation: shared.generation.clone(),
            store: shared.store.clone(),
            pipeline: Pipeline::new(
                shared.generation.clone(),
                Partition(partition),
                shared.store.clone(),
                shared.metrics.clone(),
            ),
            announcer: self.announcer.clone(),
            metrics: shared.metrics.clone(),
            blockers: shared.blockers.clone(),
            stop: stop.clone(),
            position: position.clone(),
            queue,
        });
        shared.metrics.owns(partition);
        tracing::info!(partition, start, "owns partition {partition} of {}", self.topic);
        let task = tokio::spawn(owner.run());
        self.owners().insert(partition, Owned { stop, position, task });
    }

    /// Lets the owners end, waiting a little for what they have in hand.
    async fn give_up(&self, partitions: &[i32]) {
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
            self.shared.blockers.clear(Place::Partition(partition));
            self.shared.blockers.clear(Place::Announcements(partition));
            self.shared.metrics.owns_no_more(partition);
            tracing::info!(partition, "owns partition {partition} of {} no more", self.topic);
        }
    }

    fn taken(&self) -> Vec<i32> {
        self.owners().keys().copied().collect()
    }

    fn report(&self, report: Report) {
        let blockers = &self.shared.blockers;
        match report {
            Report::Settled => blockers.clear(Place::Group),
            Report::Outside(why) => blockers.set(Place::Group, why),
            Report::Brokers { answer: true } => blockers.clear(Place::Brokers),
            Report::Brokers { answer: false } => blockers.set(Place::Brokers, "no Kafka broker responds"),
            Report::End { partition, offset, .. } => {
                if let Some(owned) = self.owners().get(&partition) {
                    let lag = offset - owned.position.load(Ordering::Relaxed);
                    self.shared.metrics.lag(partition, lag.max(0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        ChatId, DeviceId, MessageKey, UserId,
        event::{DeliveredRecord, DeliveryOutcome, EntryKind, SendRecord},
    };
    use kit::{
        health::Health,
        log::{Event, Follower, Start},
        testing::wait_for,
    };
    use prometheus_client::registry::Registry;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;
    use crate::events::flaky::Flaky;

    const TENANT: &str = "t";
    const OWNERS: usize = 3;
    const WAVES: usize = 20;
    const WAVE: usize = 10;
    /// Longer than anything here takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn consumer(log: &Log, store: &Arc<Flaky>, shutdown: &CancellationToken) -> Consumer<Flaky> {
        Consumer {
            tenant: TENANT.to_owned(),
            log: log.clone(),
            generation: Generation::new("g1"),
            store: store.clone(),
            metrics: Metrics::register(&mut Registry::default()),
            blockers: Arc::new(Blockers::new(Health::default().check("log"))),
            shutdown: shutdown.clone(),
        }
    }

    async fn follow_announcements(log: &Log) -> Follower {
        let (check, never) = (Health::default().check("announcements"), CancellationToken::new());
        let delivered = Topic::MessageDelivered.of(TENANT);
        let announcements = log.follow(&delivered, "reader", Start::Beginning, &check, &never).await;
        announcements.expect("a follower")
    }

    /// Reads announcements until so many messages have a seq. One that comes again has the same.
    async fn read(announcements: &mut Follower, seqs: &mut HashMap<MessageKey, i64>, messages: usize) {
        let stop = CancellationToken::new();
        while seqs.len() < messages {
            let event = timeout(PATIENCE, announcements.next(&stop)).await.expect("an announcement in time");
            let Some(Event::Record(record)) = event else { continue };
            let announced = DeliveredRecord::read(record.payload()).expect("an announcement");
            let DeliveryOutcome::Stored { seq, .. } = announced.outcome else { panic!("{announced:?}") };
            assert_eq!(*seqs.entry(announced.key).or_insert(seq), seq, "{announced:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn owners_that_go_and_a_store_that_fails_leave_the_order_as_it_was_sent() {
        let (log, store) = (Log::memory(), Flaky::failing(64));
        let (producer, sends) = (log.producer(None).expect("a producer"), Topic::MessageSend.of(TENANT));
        let mut announcements = follow_announcements(&log).await;
        let chats = [(); 3].map(|()| ChatId::generate());
        let (user, device) = (UserId::generate(), DeviceId::generate());
        let mut sent: HashMap<ChatId, Vec<MessageKey>> = HashMap::new();
        let mut seqs = HashMap::new();
        for owner in 1..=OWNERS {
            let shutdown = CancellationToken::new();
            let membership = consumer(&log, &store, &shutdown).start().expect("a member of the group");
            let membership = tokio::spawn(membership);
            for wave in 1..=WAVES {
                for n in 0..WAVE {
                    let (chat, key) = (chats[(wave + n) % chats.len()], MessageKey::generate());
                    let record = SendRecord::new(chat, user, device, key, EntryKind::Text);
                    let payload = serde_json::to_vec(&record).expect("json");
                    drop(producer.send(&sends, &chat.to_string(), Some(payload.as_slice())).expect("room"));
                    sent.entry(chat).or_default().push(key);
                }
                // The next wave comes while this one is anywhere, and so does the end of the owner.
                let all: usize = sent.values().map(Vec::len).sum();
                let is_last = (owner, wave) == (OWNERS, WAVES);
                let expected = if is_last { all } else { all - WAVE };
                read(&mut announcements, &mut seqs, expected).await;
            }
            shutdown.cancel();
            timeout(PATIENCE, membership).await.expect("the owner ends in time").expect("no panic");
        }
        for (chat, keys) in sent {
            let expected: Vec<i64> = (1..).take(keys.len()).collect();
            let found: Vec<i64> = keys.iter().map(|key| seqs[key]).collect();
            assert_eq!(found, expected, "{chat}");
        }
    }

    /// The second message comes while the first one is decided, so it is looked up while that is written.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_read_ahead_that_never_ends_holds_up_neither_its_batch_nor_the_one_before_it() {
        // Keys without an order are looked up.
        let keys = [1, 2].map(|n| MessageKey(Uuid::from_u128(n)));
        let (log, store, shutdown) = (Log::memory(), Flaky::losing(keys[1]), CancellationToken::new());
        let (producer, sends) = (log.producer(None).expect("a producer"), Topic::MessageSend.of(TENANT));
        let mut announcements = follow_announcements(&log).await;
        let (chat, user, device) = (ChatId::generate(), UserId::generate(), DeviceId::generate());
        let send = |key| {
            let record = SendRecord::new(chat, user, device, key, EntryKind::Text);
            let payload = serde_json::to_vec(&record).expect("json");
            drop(producer.send(&sends, &chat.to_string(), Some(payload.as_slice())).expect("room"));
        };
        let membership =
            tokio::spawn(consumer(&log, &store, &shutdown).start().expect("a member of the group"));
        send(keys[0]);
        let is_deciding = || async { (store.head_reads() > 0).then_some(()) };
        wait_for("the first message to be decided", PATIENCE, is_deciding).await;
        send(keys[1]);
        store.read_heads();
        let mut seqs = HashMap::new();
        read(&mut announcements, &mut seqs, 2).await;
        assert_eq!(keys.map(|key| seqs[&key]), [1, 2]);
        assert_eq!(store.key_reads(), 3, "the second one was looked up twice");
        shutdown.cancel();
        timeout(PATIENCE, membership).await.expect("the owner ends in time").expect("no panic");
    }
}
