//! Follows `message.delivered`, for texts that users may have missed and for what they took, and `chat.events`, for who is in which chat.
//!
//! The processes of this service share the partitions. How far a partition is read is noted in the transaction of what its records say, so
//! that a process that takes it over goes on where the one before it was.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::event::{DeliveredRecord, Unreadable};
use kit::{
    backoff::Backoff,
    catalog::Topic,
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
    domain::Batch,
    metrics::Metrics,
    store::{NotificationStore, Place, StoreError},
};

/// Records that are noted together.
const BATCH: usize = 500;
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often it is noted how far a partition was read in which nothing is noted.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// A reader that has to go gets this long for what it has in hand.
const HANDOVER: Duration = Duration::from_secs(2);
/// A read of positions that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);

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
        let group = format!("{}.notification.{}", self.tenant, topic.as_str());
        let (log, name, shutdown) = (self.log.clone(), topic.of(&self.tenant), self.shutdown.clone());
        let group_of = Group { shared: self, topic, readers: Mutex::default() };
        log.join(&name, &group, Arc::new(group_of), shutdown)
    }
}

/// The partitions that this process reads.
struct Group {
    shared: Follower,
    topic: Topic,
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
            let why =
                match timeout(POSITION_TIMEOUT, self.shared.store.positions(self.topic, partitions)).await {
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
            shared: self.shared.clone(),
            topic: self.topic,
            stop: stop.clone(),
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
        if let Report::Outside(why) = report {
            tracing::warn!(why, "messages are not followed: {why}");
        }
    }
}

/// Reads one partition.
struct Reader {
    shared: Follower,
    topic: Topic,
    stop: CancellationToken,
    queue: Queue,
    partition: i32,
    /// The first offset that is not noted.
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
            let (batch, read) = self.read();
            let is_due = noted_at.elapsed() >= NOTE_INTERVAL && self.next != self.noted;
            if !batch.is_empty() || is_due {
                if self.note(&batch).await.is_err() {
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
        // What was read since says nothing here; the next reader would read it again.
        if self.next != self.noted {
            let _ = timeout(HANDOVER / 2, self.apply(&Batch::default())).await;
        }
    }

    /// Takes what is there, and returns what it says and how many records it was.
    fn read(&mut self) -> (Batch, usize) {
        let (mut batch, mut read, at) = (Batch::default(), 0, now());
        while read < BATCH {
            match self.queue.poll() {
                None => break,
                Some(Err(error)) => {
                    let partition = self.partition;
                    tracing::warn!(%error, partition, "partition {partition} reports: {error}");
                }
                Some(Ok(record)) => {
                    self.shared.metrics.records.inc();
                    match add(&mut batch, self.topic, &record, at) {
                        Ok(()) | Err(Unreadable::Empty) => {}
                        // It is of a newer version, and says nothing here.
                        Err(why) => {
                            let (partition, offset) = (record.partition(), record.offset());
                            tracing::debug!(%why, partition, offset, "a record is not understood: {why}");
                            self.shared.metrics.skipped.inc();
                        }
                    }
                    self.next = Some(record.offset() + 1);
                    read += 1;
                }
            }
        }
        (batch, read)
    }

    /// Notes what records say until it succeeds. An error means that this reader is to stop.
    async fn note(&mut self, batch: &Batch) -> Result<(), Stopped> {
        let (mut backoff, outage) = (Backoff::new(BACKOFF), Outage::default());
        let what = "noting what users have missed";
        loop {
            let applied = tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                applied = self.apply(batch) => applied,
            };
            match applied {
                Ok(()) => {
                    outage.worked(what);
                    self.noted = self.next;
                    self.queue.commit(self.next.unwrap_or(0));
                    return Ok(());
                }
                Err(error) => outage.failed(what, &error),
            }
            if backoff.pause(&self.stop).await.is_break() {
                return Err(Stopped);
            }
        }
    }

    async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let next_offset = self.next.unwrap_or(0);
        let place = Place { topic: self.topic, partition: self.partition, next_offset };
        self.shared.store.apply(place, batch, self.shared.delay, now()).await
    }
}

/// The reader is to stop.
struct Stopped;

/// Adds what a record says.
fn add(batch: &mut Batch, topic: Topic, record: &Record<'_>, now: DateTime<Utc>) -> Result<(), Unreadable> {
    if topic == Topic::ChatEvents {
        return batch.add_membership(record.key().unwrap_or_default(), record.payload());
    }
    batch.add_delivered(&DeliveredRecord::read(record.payload())?, now);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an edge: how old a text is")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
