//! The owner of one partition.

use std::{
    collections::VecDeque,
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use contracts::event::DeliveryOutcome;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use kit::{backoff::Backoff, log::Queue, traces::Parent};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    BACKOFF, Blockers, MAX_BATCH, MAX_BATCH_BYTES, Place,
    announcer::Announcer,
    pipeline::{Decided, Found, Pipeline},
    traced::TracedBatch,
};
use crate::{
    domain::{Generation, Logged, RawRecord, RecordHash, read_record},
    metrics::{Loss, Metrics, Step},
    store::{Partition, Progress, Store, StoreError},
};

/// Heads are written this long after the first change: one round trip less on the path of a message.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);
/// Positions are recorded and committed this often: what a new owner repeats at most.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// What is looked up for the next batch has this long once its own batch is written, which it spares a round trip and no more: a read that is slow,
/// or lost, is begun again in its time.
const LOOK_AHEAD_BEYOND: Duration = Duration::from_millis(200);
/// The queue is looked at this often even when nothing was signalled.
const IDLE: Duration = Duration::from_millis(500);
/// Batches whose announcements may be unacknowledged.
const MAX_UNACKNOWLEDGED: usize = 64;
/// Announcements that take longer make the process unready.
const SLOW_ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);
/// At its end an owner waits this long for acknowledgements.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(1);

/// What an owner is made of.
pub(super) struct OwnerParts<S: Store> {
    pub partition: i32,
    /// The recorded position; `None` starts at the beginning of the log. With its last record, the queue begins at that one.
    pub progress: Option<Progress>,
    pub generation: Generation,
    pub store: Arc<S>,
    pub pipeline: Pipeline<S>,
    pub announcer: Announcer,
    pub metrics: Metrics,
    pub blockers: Arc<Blockers>,
    pub stop: CancellationToken,
    pub position: Arc<AtomicI64>,
    pub queue: Queue,
}

/// Applies the records of one partition in log order until it is stopped.
pub(super) struct Owner<S: Store> {
    parts: OwnerParts<S>,
    /// Signalled when the queue is no longer empty.
    filled: Arc<Notify>,
    /// What is applied; `None` before the first record of a log read from its beginning.
    next: Option<Progress>,
    /// Up to where records are taken from the queue; likewise.
    taken: Option<Progress>,
    /// What was taken while the batch before it was written.
    ahead: Batch,
    /// Up to where heads are stored.
    flushed: Option<Progress>,
    /// Up to where everything is announced.
    acknowledged: Option<Progress>,
    /// Up to where everything is recorded in the store and committed to the group.
    committed: Option<Progress>,
    /// The last record that was applied before, until it was seen again.
    last: Option<RecordHash>,
    last_flush: Instant,
    last_commit: Instant,
    unacknowledged: VecDeque<Unacknowledged>,
    /// Set when the log does not go on: nothing more is taken from it.
    broken: Option<Broken>,
}

/// Records that are applied together.
#[derive(Default)]
struct Batch {
    records: Vec<Logged>,
    /// Of their payloads.
    bytes: usize,
    /// What was read for the first of them.
    found: Found,
    /// Those of them that belong to a span, by their place.
    traced: Vec<(usize, Parent)>,
}

impl Batch {
    fn has_room(&self) -> bool {
        self.records.len() < MAX_BATCH && self.bytes < MAX_BATCH_BYTES
    }

    fn add(&mut self, record: RawRecord<'_>, trace: Option<Parent>) {
        self.traced.extend(trace.map(|trace| (self.records.len(), trace)));
        self.bytes += record.payload.map_or(0, <[u8]>::len);
        self.records.push(read_record(record));
    }
}

struct Unacknowledged {
    /// Where the batch ends.
    next: Progress,
    since: Instant,
    arrived: BoxFuture<'static, ()>,
}

/// The owner was stopped.
struct Stopped;

/// The log does not go on where it was applied. `docs/runbook.md` says what to do about each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    /// Nothing was ever applied here, and the first records are gone: what they said is in no store.
    #[error(
        "nothing of the log is applied, and its records before offset {found} are gone: was retention too short, or the \
         store emptied? See docs/runbook.md#headless"
    )]
    Headless { found: i64 },
    /// It ends before the position, and is read from its beginning: it has lost its end, or is not the log that the position belongs to.
    #[error(
        "the log begins at offset {found} and ends before the applied position {next}: was an unclean leader elected, or the topic \
         recreated? See docs/runbook.md#rewound"
    )]
    Rewound { found: i64, next: i64 },
    /// Records that senders believe safe are gone.
    #[error(
        "the log has lost its records from offset {next} to {found}, which were accepted: was retention too short? See \
         docs/runbook.md#gap"
    )]
    Gap { found: i64, next: i64 },
    /// There is another record where one was applied: what came before it is in the store, and not in the log.
    #[error(
        "the log has another record at offset {offset} than was applied, with which a leader lost records that were accepted: was \
         an unclean one elected, or the topic recreated? See docs/runbook.md#changed"
    )]
    Changed { offset: i64 },
}

impl Broken {
    /// Checks the offset of a record against the one that is next. A log is read from its beginning when no position is recorded, and
    /// the first record that a partition ever has is at offset 0.
    fn check(found: i64, next: Option<i64>) -> Result<(), Self> {
        match next {
            None if found > 0 => Err(Self::Headless { found }),
            Some(next) if found < next => Err(Self::Rewound { found, next }),
            Some(next) if found > next => Err(Self::Gap { found, next }),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns what to count it as.
    const fn loss(&self) -> Loss {
        match self {
            Self::Headless { .. } => Loss::Headless,
            Self::Rewound { .. } => Loss::Rewound,
            Self::Gap { .. } => Loss::Gap,
            Self::Changed { .. } => Loss::Changed,
        }
    }
}

impl<S: Store> OwnerParts<S> {
    /// Writes a batch, however often that takes, and announces it. Returns a future that ends when its announcements are in the log.
    async fn store_and_announce(
        &self,
        records: &[Logged],
        decided: &Decided,
        traced: &mut TracedBatch,
    ) -> BoxFuture<'static, ()> {
        let mut backoff = Backoff::new(BACKOFF);
        let times = loop {
            match self.pipeline.write(records, decided).await {
                Ok(times) => break times,
                Err(error) => self.waits(records, &error),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        };
        traced.step("write");
        let started = Instant::now();
        let announcements = self.pipeline.announcements(records, decided, &times);
        let traces = traced.of_announcements(records);
        for (at, record) in announcements.iter().enumerate() {
            if let DeliveryOutcome::Stored { sent_at_ms, .. } = record.outcome {
                self.metrics.announced(since(sent_at_ms), traces.get(at).copied().flatten());
            }
        }
        let arrived = self.announcer.announce(self.partition, announcements, traces).await.boxed();
        self.metrics.step(Step::Announce, started.elapsed());
        traced.step("announce");
        arrived
    }

    /// Reads what the records behind a batch depend on, while it is written. What fails is read in its time.
    async fn look_ahead(&self, decided: &Decided, next: &[Logged]) -> Found {
        if next.is_empty() {
            return Found::default();
        }
        self.pipeline.look_ahead(decided, next).await.unwrap_or_default()
    }

    /// Says that a batch waits for a backend, and what for.
    fn waits(&self, records: &[Logged], error: &(dyn Error + 'static)) {
        let why = kit::error::chain(error);
        let (partition, offset) = (self.partition, records[0].offset());
        tracing::error!(
            error = why,
            partition,
            offset,
            "partition {partition} waits at offset {offset}: {why}"
        );
        self.blockers.set(Place::Partition(partition), why);
        self.metrics.retried();
    }
}

impl<S: Store> Owner<S> {
    pub(super) fn new(mut parts: OwnerParts<S>) -> Self {
        let filled = Arc::new(Notify::new());
        parts.queue.notify(&filled);
        let start = parts.progress;
        let now = Instant::now();
        Self {
            parts,
            filled,
            next: start,
            taken: start,
            ahead: Batch::default(),
            flushed: start,
            acknowledged: start,
            committed: start,
            last: start.and_then(|progress| progress.last),
            last_flush: now,
            last_commit: now,
            unacknowledged: VecDeque::new(),
            broken: None,
        }
    }

    pub(super) async fn run(mut self) {
        // Ends by itself only when stopped; every step before is repeated until it succeeds.
        while self.step().await.is_ok() {}
        self.finish().await;
    }

    async fn step(&mut self) -> Result<(), Stopped> {
        if self.parts.stop.is_cancelled() {
            return Err(Stopped);
        }
        let batch = std::mem::take(&mut self.ahead);
        let batch = self.drain(batch);
        if let Some(end) = self.taken.filter(|_| !batch.records.is_empty()) {
            self.process(batch, end).await?;
        } else if let Some(broken) = &self.broken {
            // Taking a record of another log for an old one would lose it, taking it for a new one could assign a seq
            // twice, and going on beyond a gap would hide a loss. The operator rolls out the new generation, or an
            // administrator has to decide.
            let partition = self.parts.partition;
            tracing::error!(error = %broken, partition, "partition {partition} stops: {broken}");
            self.parts.blockers.set(Place::Partition(partition), broken.to_string());
            let stopped = self.parts.metrics.stopped(partition, broken.loss());
            self.parts.stop.cancelled().await;
            drop(stopped);
            return Err(Stopped);
        } else {
            self.wait().await?;
        }
        self.collect_acknowledgements();
        self.settle().await
    }

    /// Adds what is there to a batch, as far as it has room.
    fn drain(&mut self, mut batch: Batch) -> Batch {
        let partition = self.parts.partition;
        while batch.has_room() && self.broken.is_none() {
            let record = match self.parts.queue.poll() {
                None => break,
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    tracing::warn!(%error, partition, "partition {partition} reports: {error}");
                    continue;
                }
            };
            let (found, trace) = (record.offset(), record.trace());
            let record = RawRecord {
                offset: found,
                logged_at_ms: record.logged_at_ms(),
                key: record.key(),
                payload: record.payload(),
            };
            let (hash, next) = (record.hash(), self.taken.map(|taken| taken.next_offset));
            // When it is gone by age, the log begins at the position, and there is nothing to compare.
            if let Some(last) = self.last.take()
                && next == Some(found + 1)
            {
                self.broken = (hash != last).then_some(Broken::Changed { offset: found });
                continue;
            }
            if let Err(broken) = Broken::check(found, next) {
                // What came before it is applied first.
                self.broken = Some(broken);
                break;
            }
            batch.add(record, trace);
            self.taken = Some(Progress { next_offset: found + 1, last: Some(hash) });
        }
        batch
    }

    /// Waits for records, for an acknowledgement, or for something that is due.
    async fn wait(&mut self) -> Result<(), Stopped> {
        let mut due = Instant::now() + IDLE;
        if self.flushed != self.next {
            due = due.min(self.last_flush + FLUSH_INTERVAL);
        }
        if self.vouched() != self.committed {
            due = due.min(self.last_commit + COMMIT_INTERVAL);
        }
        let oldest = async {
            match self.unacknowledged.front_mut() {
                Some(oldest) => (&mut oldest.arrived).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.parts.stop.cancelled() => return Err(Stopped),
            () = self.filled.notified() => return Ok(()),
            () = tokio::time::sleep_until(due) => return Ok(()),
            () = oldest => {}
        }
        self.acknowledge_oldest();
        Ok(())
    }

    async fn process(&mut self, batch: Batch, end: Progress) -> Result<(), Stopped> {
        let Batch { records, bytes: _, found, traced } = batch;
        let mut traced = TracedBatch::begin(self.parts.partition, &records, traced);
        let flush = self.last_flush.elapsed() >= FLUSH_INTERVAL;
        let decided = self.decide(&records, found, flush).await?;
        traced.step("look_up");
        // What came meanwhile is looked up beside the write. The batch stays open: what comes until then is added to it.
        let mut ahead = self.drain(Batch::default());
        let parts = &self.parts;
        let both = beside(
            parts.store_and_announce(&records, &decided, &mut traced),
            parts.look_ahead(&decided, &ahead.records),
        );
        let (arrived, found) = tokio::select! {
            () = parts.stop.cancelled() => return Err(Stopped),
            both = both => both,
        };
        drop(traced);
        ahead.found = found;
        self.ahead = ahead;
        self.parts.pipeline.accept(decided);
        self.parts.blockers.clear(Place::Partition(self.parts.partition));
        self.parts.metrics.batch(records.len());
        if flush {
            self.flushed = self.next;
            self.last_flush = Instant::now();
        }
        if self.committed.is_none() {
            // The beginning of the log.
            let first = Some(Progress { next_offset: records[0].offset(), last: None });
            (self.flushed, self.acknowledged, self.committed) = (first, first, first);
        }
        self.next = Some(end);
        self.parts.position.store(end.next_offset, Ordering::Relaxed);
        self.unacknowledged.push_back(Unacknowledged { next: end, since: Instant::now(), arrived });
        self.bound_unacknowledged().await
    }

    async fn decide(
        &mut self,
        records: &[Logged],
        mut found: Found,
        flush: bool,
    ) -> Result<Decided, Stopped> {
        let parts = &mut self.parts;
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let decided = tokio::select! {
                () = parts.stop.cancelled() => return Err(Stopped),
                decided = parts.pipeline.decide(records, &found, flush) => decided,
            };
            match decided {
                Ok(decided) => return Ok(decided),
                Err(error) => parts.waits(records, &error),
            }
            // What was found may be what is wrong.
            found = Found::default();
            pause(&parts.stop, backoff.next_wait()).await?;
        }
    }

    async fn bound_unacknowledged(&mut self) -> Result<(), Stopped> {
        while self.unacknowledged.len() > MAX_UNACKNOWLEDGED {
            let oldest = self.unacknowledged.front_mut().expect("it is longer than its limit");
            let slow = oldest.since + SLOW_ACKNOWLEDGEMENT;
            tokio::select! {
                () = self.parts.stop.cancelled() => return Err(Stopped),
                () = &mut oldest.arrived => self.acknowledge_oldest(),
                () = tokio::time::sleep_until(slow.max(Instant::now() + IDLE)) => self.report_slow_acknowledgement(),
            }
        }
        Ok(())
    }

    fn acknowledge_oldest(&mut self) {
        if let Some(oldest) = self.unacknowledged.pop_front() {
            self.acknowledged = Some(oldest.next);
        }
    }

    fn collect_acknowledgements(&mut self) {
        while let Some(oldest) = self.unacknowledged.front_mut()
            && (&mut oldest.arrived).now_or_never().is_some()
        {
            self.acknowledge_oldest();
        }
        self.report_slow_acknowledgement();
    }

    fn report_slow_acknowledgement(&self) {
        if self.unacknowledged.front().is_some_and(|oldest| oldest.since.elapsed() > SLOW_ACKNOWLEDGEMENT) {
            let place = Place::Announcements(self.parts.partition);
            self.parts.blockers.set(place, "announcements are not acknowledged");
        }
    }

    /// The position up to which everything is durable.
    fn vouched(&self) -> Option<Progress> {
        self.flushed.min(self.acknowledged)
    }

    /// Writes what is due: heads, then the position.
    async fn settle(&mut self) -> Result<(), Stopped> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let settled = tokio::select! {
                () = self.parts.stop.clone().cancelled_owned() => return Err(Stopped),
                settled = self.settle_once(false) => settled,
            };
            let place = Place::Partition(self.parts.partition);
            match settled {
                Ok(()) => {
                    self.parts.blockers.clear(place);
                    return Ok(());
                }
                Err(error) => {
                    let why = kit::error::chain(&error);
                    let partition = self.parts.partition;
                    tracing::error!(error = why, partition, "partition {partition} waits: {why}");
                    self.parts.blockers.set(place, why);
                    self.parts.metrics.retried();
                }
            }
            pause(&self.parts.stop, backoff.next_wait()).await?;
        }
    }

    async fn settle_once(&mut self, now: bool) -> Result<(), StoreError> {
        if self.flushed != self.next && (now || self.last_flush.elapsed() >= FLUSH_INTERVAL) {
            self.parts.pipeline.flush().await?;
            self.flushed = self.next;
            self.last_flush = Instant::now();
        }
        let vouched = self.vouched();
        if let Some(progress) = vouched
            && vouched != self.committed
            && (now || self.last_commit.elapsed() >= COMMIT_INTERVAL)
        {
            let parts = &self.parts;
            parts.store.put_progress(&parts.generation, Partition(parts.partition), progress).await?;
            parts.queue.commit(progress.next_offset);
            self.committed = vouched;
            self.last_commit = Instant::now();
        }
        Ok(())
    }

    /// Records how far this owner came, as far as that is possible now.
    async fn finish(&mut self) {
        let deadline = Instant::now() + LAST_ACKNOWLEDGEMENTS;
        while let Some(oldest) = self.unacknowledged.front_mut() {
            if tokio::time::timeout_at(deadline, &mut oldest.arrived).await.is_err() {
                break;
            }
            self.acknowledge_oldest();
        }
        if let Err(error) = self.settle_once(true).await {
            let (partition, why) = (self.parts.partition, kit::error::chain(&error));
            tracing::warn!(
                error = why,
                partition,
                "partition {partition} is left without its position: {why}"
            );
        }
    }
}

/// Writes, and looks ahead meanwhile and for a moment beyond.
async fn beside<T>(write: impl Future<Output = T>, look_ahead: impl Future<Output = Found>) -> (T, Found) {
    let (write, look_ahead) = (pin!(write), pin!(look_ahead));
    match select(write, look_ahead).await {
        Either::Left((written, look_ahead)) => {
            let found = tokio::time::timeout(LOOK_AHEAD_BEYOND, look_ahead).await;
            (written, found.unwrap_or_default())
        }
        Either::Right((found, write)) => (write.await, found),
    }
}

async fn pause(stop: &CancellationToken, wait: Duration) -> Result<(), Stopped> {
    tokio::select! {
        () = stop.cancelled() => Err(Stopped),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// For a metric only: this clock and the log's may differ.
#[expect(clippy::disallowed_methods, reason = "an edge: only a metric reads it")]
fn since(sent_at_ms: i64) -> Duration {
    let sent_at = UNIX_EPOCH + Duration::from_millis(sent_at_ms.unsigned_abs());
    SystemTime::now().duration_since(sent_at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_where_it_was_applied_or_not_at_all() {
        assert_eq!(Broken::check(7, Some(7)), Ok(()));
        assert_eq!(Broken::check(0, None), Ok(()));
        assert_eq!(Broken::check(7, None), Err(Broken::Headless { found: 7 }), "the first ones were lost");
        assert_eq!(Broken::check(6, Some(7)), Err(Broken::Rewound { found: 6, next: 7 }));
        assert_eq!(Broken::check(8, Some(7)), Err(Broken::Gap { found: 8, next: 7 }));
    }

    #[test]
    fn the_runbook_says_what_to_do_about_each_loss() {
        let runbook = include_str!("../../../../docs/runbook.md");
        let broken = [
            Broken::Headless { found: 7 },
            Broken::Gap { found: 8, next: 7 },
            Broken::Rewound { found: 6, next: 7 },
            Broken::Changed { offset: 6 },
        ];
        assert_eq!(broken.each_ref().map(Broken::loss), Loss::ALL);
        for broken in broken {
            let section = broken.loss().as_str();
            assert!(broken.to_string().ends_with(&format!("docs/runbook.md#{section}")), "{broken}");
            assert!(runbook.contains(&format!("\n## {section}\n")), "no section {section}");
        }
    }
}
