//! Follows `message.delivered`: which messages have which files, and what pictures chats have.
//!
//! The processes of this service share the partitions. How far the log is read is noted behind what its entries change, and what is carried
//! out twice has the same effect, so that a process that takes a partition over goes on where the one before it was.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::event::{DeliveredRecord, Unreadable};
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

use crate::{
    domain::{Change, changes_of},
    metrics::Metrics,
    store::{FileStore, StoreError},
};

/// Records that are read before what they change is carried out.
const BATCH: usize = 500;
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often it is noted how far a partition was read in which nothing changes anything here.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// A reader that has to go gets this long for what it has in hand.
const HANDOVER: Duration = Duration::from_secs(2);
/// A read of positions that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);
/// The end of a partition, as it is reported, may be as old.
const REPORT_AGE: TimeDelta = TimeDelta::seconds(60);

/// What following the log needs.
pub struct Follower {
    pub store: Arc<dyn FileStore>,
    pub log: Log,
    pub tenant: String,
    pub metrics: Metrics,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group and follows partitions until the shutdown; the future ends when the group is left.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, JoinError> {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.media", self.tenant);
        let (log, shutdown) = (self.log.clone(), self.shutdown.clone());
        let brokers = Arc::new(AtomicBool::new(false));
        let group_of = Group { shared: self, brokers, readers: Mutex::default() };
        log.join(&topic, &group, Arc::new(group_of), shutdown)
    }
}

/// The partitions that this process reads.
struct Group {
    shared: Follower,
    /// Whether any broker responds.
    brokers: Arc<AtomicBool>,
    readers: Mutex<HashMap<i32, Reading>>,
}

struct Reading {
    stop: CancellationToken,
    end: Arc<End>,
    task: JoinHandle<()>,
}

/// Where a partition ends.
#[derive(Default)]
struct End {
    /// The first offset that it still has.
    first: AtomicI64,
    offset: AtomicI64,
    /// When that was reported; 0 before it was.
    reported_at_ms: AtomicI64,
}

impl End {
    fn report(&self, first: i64, offset: i64, at_ms: i64) {
        self.first.store(first, Ordering::Relaxed);
        self.offset.store(offset, Ordering::Relaxed);
        self.reported_at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// Returns whether a reader that has read everything before this offset has read all that is there. What the log has forgotten is
    /// there no more, and no record says so to a reader whose partition is quiet.
    fn is_reached(&self, next: i64) -> bool {
        next.max(self.first.load(Ordering::Relaxed)) >= self.offset.load(Ordering::Relaxed)
    }
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
        let end = Arc::new(End::default());
        let reader = Reader {
            store: self.shared.store.clone(),
            metrics: self.shared.metrics.clone(),
            stop: stop.clone(),
            queue,
            partition,
            next: start,
            noted: start,
            end: end.clone(),
            brokers: self.brokers.clone(),
        };
        let task = tokio::spawn(reader.run());
        self.readers().insert(partition, Reading { stop, end, task });
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
            Report::Settled => {}
            Report::Outside(why) => tracing::warn!(why, "messages with files are not followed: {why}"),
            Report::Brokers { answer } => self.brokers.store(answer, Ordering::Relaxed),
            Report::End { partition, first, offset } => {
                if let Some(Reading { end, .. }) = self.readers().get(&partition) {
                    end.report(first, offset, now_ms());
                }
            }
        }
    }
}

/// Reads one partition.
struct Reader {
    store: Arc<dyn FileStore>,
    metrics: Metrics,
    stop: CancellationToken,
    queue: Queue,
    partition: i32,
    /// The first offset whose changes are not carried out.
    next: Option<i64>,
    /// The same as it is noted.
    noted: Option<i64>,
    end: Arc<End>,
    brokers: Arc<AtomicBool>,
}

impl Reader {
    async fn run(mut self) {
        let filled = Arc::new(Notify::new());
        self.queue.notify(&filled);
        let (mut noted_at, mut caught_up_at) = (Instant::now(), None);
        while !self.stop.is_cancelled() {
            let (changes, read) = self.read();
            let is_due = noted_at.elapsed() >= NOTE_INTERVAL && self.next != self.noted;
            if !changes.is_empty() || is_due {
                if self.carry_out(&changes).await.is_err() {
                    return;
                }
                noted_at = Instant::now();
            }
            if read == BATCH {
                continue;
            }
            if self.note_end(&mut caught_up_at).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = filled.notified() => {}
                () = tokio::time::sleep(NOTE_INTERVAL) => {}
            }
        }
        // What was read since changes nothing; the next reader would read it again.
        if self.next != self.noted {
            let _ = timeout(HANDOVER / 2, self.apply(&[])).await;
        }
    }

    /// Takes what is there, and returns what it changes and how many records it was.
    fn read(&mut self) -> (Vec<Change>, usize) {
        let (mut changes, mut read) = (Vec::new(), 0);
        while read < BATCH {
            match self.queue.poll() {
                None => break,
                Some(Err(error)) => {
                    let partition = self.partition;
                    tracing::warn!(%error, partition, "partition {partition} reports: {error}");
                }
                Some(Ok(record)) => {
                    changes.extend(change(&record));
                    self.next = Some(record.offset() + 1);
                    read += 1;
                }
            }
        }
        (changes, read)
    }

    /// Carries changes out until it succeeds. An error means that this reader is to stop.
    async fn carry_out(&mut self, changes: &[Change]) -> Result<(), Stopped> {
        let (mut backoff, outage) = (Backoff::new(BACKOFF), Outage::default());
        let what = "noting which messages have which files";
        loop {
            let applied = tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                applied = self.apply(changes) => applied,
            };
            match applied {
                Ok(()) => {
                    outage.worked(what);
                    self.noted = self.next;
                    self.queue.commit(self.next.unwrap_or(0));
                    self.metrics.changes.inc_by(changes.len() as u64);
                    return Ok(());
                }
                Err(error) => outage.failed(what, &error),
            }
            if backoff.pause(&self.stop).await.is_break() {
                return Err(Stopped);
            }
        }
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.store.apply(self.partition, self.next.unwrap_or(0), changes, now()).await
    }

    /// Notes, now and then, that everything was read that was there.
    async fn note_end(&self, caught_up_at: &mut Option<Instant>) -> Result<(), Stopped> {
        let reported_at_ms = self.end.reported_at_ms.load(Ordering::Relaxed);
        let is_read = self.end.is_reached(self.next.unwrap_or(0));
        let is_due = caught_up_at.is_none_or(|at| at.elapsed() >= NOTE_INTERVAL);
        if reported_at_ms == 0 || !is_read || !is_due || !self.brokers.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(at) = DateTime::from_timestamp_millis(reported_at_ms) else { return Ok(()) };
        let noted = tokio::select! {
            () = self.stop.cancelled() => return Err(Stopped),
            noted = self.store.caught_up(self.partition, at - REPORT_AGE) => noted,
        };
        match noted {
            Ok(()) => *caught_up_at = Some(Instant::now()),
            // The next look notes it.
            Err(error) => tracing::debug!(%error, "failed to note the end of a partition: {error}"),
        }
        Ok(())
    }
}

/// The reader is to stop.
struct Stopped;

/// Returns what a record changes. One that this build does not understand is of a newer version, and changes nothing here.
fn change(record: &Record<'_>) -> Option<Change> {
    match DeliveredRecord::read(record.payload()) {
        Ok(delivered) => changes_of(&delivered),
        Err(Unreadable::Empty) => None,
        Err(why) => {
            let (partition, offset) = (record.partition(), record.offset());
            tracing::debug!(%why, partition, offset, "a record is not understood: {why}");
            None
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of the change")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_when_nothing_is_left_that_was_not() {
        let is_reached = |next, (first, offset)| {
            let end = End::default();
            end.report(first, offset, 1);
            end.is_reached(next)
        };
        assert!(is_reached(0, (0, 0)));
        assert!(is_reached(1_000, (400, 1_000)));
        assert!(!is_reached(999, (400, 1_000)));
        assert!(!is_reached(0, (400, 1_000)), "some of what was not read is forgotten, and some is there");
        assert!(is_reached(0, (1_000, 1_000)), "all is forgotten");
        let unknown = -1_001;
        assert!(!is_reached(0, (unknown, 1_000)));
        assert!(is_reached(1_000, (unknown, 1_000)));
    }
}
