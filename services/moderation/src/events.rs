//! Follows `message.delivered` and judges it.
//!
//! The processes of this service share the partitions. What a batch of records gives, all that follows from it, and how far the log is judged are
//! written in one transaction. A verdict depends on the log, on rule sets, which never change, and on what is remembered of the sender, which
//! is written in the same transaction: a log that is read again gives the same.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::{
    RuleSetId, UserId,
    api::RuleSet,
    event::{DeliveredRecord, Unreadable},
};
use kit::{
    backoff::Backoff,
    catalog::Topic,
    clock::now_ms,
    log::{JoinError, Log, Member, Queue, Record, Report},
    outage::Outage,
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use uuid::Uuid;

use crate::{
    carrying_out::Wake,
    domain::{Judge, Post, Verdict},
    metrics::Metrics,
    store::{Batch, ModerationStore, StoreError},
};

/// Records that are judged before what they give is written.
const BATCH: usize = 200;
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often it is noted how far a partition was read in which nothing is judged.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// A reader that has to go gets this long for what it has in hand.
const HANDOVER: Duration = Duration::from_secs(2);
/// A read of positions that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);

/// Deletions are sent in this name. It is of no user, and what it sends is not judged.
pub const SYSTEM: UserId = UserId(Uuid::nil());

/// What following the log needs.
pub struct Follower {
    pub store: Arc<dyn ModerationStore>,
    pub log: Log,
    pub tenant: String,
    pub metrics: Metrics,
    /// Notified of what is to be carried out.
    pub wake: Wake,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group and follows partitions until the shutdown; the future ends when the group is left.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, JoinError> {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.moderation", self.tenant);
        let (log, shutdown) = (self.log.clone(), self.shutdown.clone());
        let group_of = Group { shared: self, judges: Arc::default(), readers: Mutex::default() };
        log.join(&topic, &group, Arc::new(group_of), shutdown)
    }
}

/// The partitions that this process reads.
struct Group {
    shared: Follower,
    judges: Arc<Mutex<Judges>>,
    readers: Mutex<HashMap<i32, Reading>>,
}

struct Reading {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Group {
    fn readers(&self) -> MutexGuard<'_, HashMap<i32, Reading>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Member for Group {
    /// A position that was never noted means the beginning.
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let why = match timeout(POSITION_TIMEOUT, self.shared.store.positions(partitions)).await {
                Ok(Ok(found)) => return Some(found),
                Ok(Err(error)) => kit::error::chain(&error),
                Err(_) => "the store does not answer".to_owned(),
            };
            tracing::warn!(error = why, "cannot take over partitions yet: {why}");
            if backoff.pause(&self.shared.shutdown).await.is_break() {
                return None;
            }
        }
    }

    fn take(&self, queue: Queue, start: Option<i64>) {
        let (partition, stop) = (queue.partition(), self.shared.shutdown.child_token());
        let reader = Reader {
            store: self.shared.store.clone(),
            metrics: self.shared.metrics.clone(),
            wake: self.shared.wake.clone(),
            stop: stop.clone(),
            judges: self.judges.clone(),
            queue,
            partition,
            next: start,
            noted: start,
        };
        let task = tokio::spawn(reader.run());
        self.readers().insert(partition, Reading { stop, task });
    }

    async fn give_up(&self, partitions: &[i32]) {
        let dismissed: Vec<Reading> = {
            let mut readers = self.readers();
            partitions.iter().filter_map(|partition| readers.remove(partition)).collect()
        };
        for reading in &dismissed {
            reading.stop.cancel();
        }
        let deadline = Instant::now() + HANDOVER;
        for mut reading in dismissed {
            if tokio::time::timeout_at(deadline, &mut reading.task).await.is_err() {
                reading.task.abort();
                // Wait for the abort: the partition's queue must not outlive its assignment.
                drop(reading.task.await);
            }
        }
    }

    fn taken(&self) -> Vec<i32> {
        self.readers().keys().copied().collect()
    }

    fn report(&self, report: Report) {
        match report {
            Report::Settled | Report::Brokers { .. } | Report::End { .. } => {}
            Report::Outside(why) => tracing::warn!(why, "messages are not judged: {why}"),
        }
    }
}

/// Rule sets that were compiled. They never change but for the time that they are in force.
#[derive(Default)]
struct Judges(HashMap<RuleSetId, (RuleSet, Arc<Judge>)>);

impl Judges {
    /// Returns the judges of these sets, and forgets all others. None are wanted where there is nothing to judge.
    fn of(&mut self, sets: Vec<RuleSet>) -> Vec<Arc<Judge>> {
        if sets.is_empty() {
            return Vec::new();
        }
        let mut kept = HashMap::with_capacity(sets.len());
        for set in sets {
            let known = self.0.remove(&set.id).filter(|(known, _)| *known == set);
            let judge = known.map_or_else(|| Judge::of(&set).map(Arc::new), |(_, judge)| Ok(judge));
            match judge {
                Ok(judge) => {
                    kept.insert(set.id, (set, judge));
                }
                // It was checked when it was created, by a version with other limits.
                Err(error) => {
                    let rule_set = set.id;
                    tracing::error!(%error, %rule_set, "rule set {rule_set} cannot be judged: {error}");
                }
            }
        }
        self.0 = kept;
        self.0.values().map(|(_, judge)| judge.clone()).collect()
    }
}

/// Reads one partition.
struct Reader {
    store: Arc<dyn ModerationStore>,
    metrics: Metrics,
    wake: Wake,
    stop: CancellationToken,
    judges: Arc<Mutex<Judges>>,
    queue: Queue,
    partition: i32,
    /// The first offset that is not judged.
    next: Option<i64>,
    /// The same as it is noted.
    noted: Option<i64>,
}

impl Reader {
    async fn run(mut self) {
        let filled = Arc::new(Notify::new());
        self.queue.notify(&filled);
        let mut noted_at = Instant::now();
        while !self.stop.is_cancelled() {
            let (posts, read) = self.read();
            let is_due = noted_at.elapsed() >= NOTE_INTERVAL && self.next != self.noted;
            if !posts.is_empty() || is_due {
                if self.carry_out(&posts).await.is_err() {
                    return;
                }
                noted_at = Instant::now();
            }
            if read == BATCH {
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = filled.notified() => {}
                () = tokio::time::sleep(NOTE_INTERVAL) => {}
            }
        }
    }

    /// Takes what is there, and returns what of it is judged and how many records it was.
    fn read(&mut self) -> (Vec<Post>, usize) {
        let (mut posts, mut read) = (Vec::new(), 0);
        while read < BATCH {
            match self.queue.poll() {
                None => break,
                Some(Err(error)) => {
                    let partition = self.partition;
                    tracing::warn!(%error, partition, "partition {partition} reports: {error}");
                }
                Some(Ok(record)) => {
                    posts.extend(post(&record, &self.metrics));
                    self.next = Some(record.offset() + 1);
                    read += 1;
                }
            }
        }
        (posts, read)
    }

    /// Judges posts and writes it until it succeeds. An error means that this reader is to stop.
    async fn carry_out(&mut self, posts: &[Post]) -> Result<(), Stopped> {
        let (mut backoff, outage) = (Backoff::new(BACKOFF), Outage::default());
        let what = "judging messages";
        let stop = self.stop.clone();
        loop {
            let written = tokio::select! {
                () = stop.cancelled() => return Err(Stopped),
                written = self.judge(posts) => written,
            };
            match written {
                Ok(()) => {
                    outage.worked(what);
                    self.noted = self.next;
                    self.queue.commit(self.next.unwrap_or(0));
                    return Ok(());
                }
                Err(error) => outage.failed(what, &error),
            }
            if backoff.pause(&stop).await.is_break() {
                return Err(Stopped);
            }
        }
    }

    async fn judge(&mut self, posts: &[Post]) -> Result<(), StoreError> {
        // Behind the records: a set is enforced from some seconds after it was written, so that what it judges is read after it.
        let sets = match posts.iter().map(|post| post.sent_at_ms).min() {
            Some(oldest_ms) => self.store.rule_sets_from(oldest_ms).await?,
            None => Vec::new(),
        };
        let judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner).of(sets);
        let senders: HashSet<_> = posts.iter().map(|post| (post.chat, post.sender)).collect();
        let senders: Vec<_> = senders.into_iter().collect();
        let mut windows =
            if senders.is_empty() { HashMap::new() } else { self.store.windows(&senders).await? };
        let mut batch = Batch {
            partition: self.partition,
            next_offset: self.next.unwrap_or(0),
            now_ms: now_ms(),
            ..Batch::default()
        };
        for post in posts {
            let window = windows.entry((post.chat, post.sender)).or_default();
            if !window.take(post) {
                continue;
            }
            self.metrics.judged.inc();
            for judge in judges.iter().filter(|judge| judge.is_in_force(post.sent_at_ms)) {
                let judgement = judge.judge(post, window);
                batch.verdicts.extend(judgement.map(|judgement| Verdict::new(judge.id, post, judgement)));
            }
        }
        batch.windows = windows;
        self.store.record(&batch).await?;
        if !batch.verdicts.is_empty() {
            self.note(&batch);
        }
        Ok(())
    }

    fn note(&self, batch: &Batch) {
        self.metrics.verdicts.inc_by(batch.verdicts.len() as u64);
        for verdict in &batch.verdicts {
            let lag_ms = (now_ms() - verdict.evidence.sent_at_ms).max(0);
            self.metrics.lag.observe(Duration::from_millis(lag_ms.unsigned_abs()).as_secs_f64());
        }
        self.wake.notify();
    }
}

/// The reader is to stop.
struct Stopped;

/// Returns what is judged of a record. One that this build does not understand is of a newer version.
pub(crate) fn post(record: &Record<'_>, metrics: &Metrics) -> Option<Post> {
    match DeliveredRecord::read(record.payload()) {
        Ok(delivered) if delivered.sender == SYSTEM => None,
        Ok(delivered) => Post::of(delivered),
        Err(Unreadable::Empty) => None,
        Err(why) => {
            let (partition, offset) = (record.partition(), record.offset());
            tracing::debug!(%why, partition, offset, "a record is not understood: {why}");
            metrics.skipped.inc();
            None
        }
    }
}
