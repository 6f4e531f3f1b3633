//! The task that fills one generation of the index.

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contracts::event::{DeliveredRecord, Unreadable};
use kit::{
    backoff::Backoff,
    catalog::Topic,
    clock::now_ms,
    log::{Event, Follower, Record, Start},
    outage::Outage,
    tasks::joined,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Come, Indexer, build::Reading};
use crate::{
    domain::{Batch, Build, Document, Entry, Progress},
    metrics::Metrics,
    store::{Index, IndexError, Write},
};

/// Entries and documents, and bytes of their texts, that are written without a wait for more.
const FULL: Held = Held { items: 2_000, bytes: 4 << 20 };
/// Most that is held while the index takes none; more by one page at most.
const MOST: Held = Held { items: 4 * FULL.items, bytes: 4 * FULL.bytes };
/// After a write that failed.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(15);
/// What outages are called in the log.
const WRITING: &str = "writing to the index";
const OPENING: &str = "opening the index";

/// A generation of the index that is filled. The task ends with [`Self::end`].
pub(super) struct Filler {
    pub(super) index: Arc<dyn Index>,
    pub(super) come: watch::Receiver<Come>,
    /// Whether searches use it: the figures of searches are of that one.
    is_served: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Filler {
    /// Starts the task, which also ends with `until`.
    pub(super) fn start(
        of: &Arc<Indexer>,
        until: &CancellationToken,
        index: Arc<dyn Index>,
        is_served: bool,
    ) -> Self {
        let (shows, come) = watch::channel(Come::default());
        let (is_served, stop) = (Arc::new(AtomicBool::new(is_served)), until.child_token());
        let fill = Fill {
            of: of.clone(),
            index: index.clone(),
            shows,
            is_served: is_served.clone(),
            stop: stop.clone(),
        };
        Self { index, come, is_served, stop, task: tokio::spawn(fill.run()) }
    }

    /// Notes that searches use it from now on.
    pub(super) fn serve(&self) {
        self.is_served.store(true, Ordering::Relaxed);
    }

    /// Ends the task. What has come is written before.
    pub(super) async fn end(self) {
        self.stop.cancel();
        joined(self.task.await);
    }
}

/// What the task of a [`Filler`] has.
struct Fill {
    of: Arc<Indexer>,
    index: Arc<dyn Index>,
    shows: watch::Sender<Come>,
    is_served: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Fill {
    /// Follows the log until stopped.
    ///
    /// No group is joined, though it names one: who fills an index reads all partitions.
    async fn run(self) {
        let Some(progress) = self.opened().await else { return };
        let Indexer { tenant, log, check, .. } = &*self.of;
        let (topic, group) = (Topic::MessageDelivered.of(tenant), format!("{tenant}.search"));
        let followed = match &progress {
            // What is stored before this moment is read from the store.
            None => log.follow(&topic, &group, Start::End, check, &self.stop).await,
            Some(progress) => log.resume(&topic, &group, &progress.next, check, &self.stop).await,
        };
        let Some(follower) = followed else { return };
        check.ok();
        // A new index follows from the end, which it need not reach.
        let behind = if progress.is_some() { follower.partitions() } else { Vec::new() };
        let mut filling = Filling::new(&self, progress, behind.into_iter().collect());
        filling.begin(&topic, follower.starts());
        filling.run(follower, &topic).await;
    }

    /// Returns how far the index has come; nothing when stopped.
    async fn opened(&self) -> Option<Option<Progress>> {
        let (outage, mut backoff) = (Outage::default(), Backoff::new(BACKOFF));
        loop {
            match self.index.progress().await {
                Ok(progress) => return Some(progress),
                Err(error) => {
                    outage.failed(OPENING, &error);
                    // What needs no index is answered all the same, and so is all else in the process.
                    self.of.check.ok();
                }
            }
            if backoff.pause(&self.stop).await.is_break() {
                return None;
            }
        }
    }

    fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Relaxed)
    }
}

/// How much has come and is not written yet.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    items: usize,
    bytes: usize,
}

impl Held {
    fn add(&mut self, items: usize, bytes: usize) {
        self.items += items;
        self.bytes += bytes;
    }

    /// Returns whether it is as much as a bound in one of both.
    const fn reaches(self, bound: Self) -> bool {
        self.items >= bound.items || self.bytes >= bound.bytes
    }
}

/// What has come and is not written yet.
struct Filling<'a> {
    of: &'a Fill,
    /// As it will be written.
    progress: Progress,
    /// As it was written last.
    written: Progress,
    /// Partitions whose end was not reached yet.
    behind: HashSet<i32>,
    reading: Reading,
    pages: Vec<Document>,
    entries: Vec<Entry>,
    /// How much both are.
    held: Held,
    /// When the index is written; `None` while nothing has changed.
    write_at: Option<Instant>,
    forgets: bool,
    outage: Outage,
    backoff: Backoff,
}

impl<'a> Filling<'a> {
    fn new(of: &'a Fill, progress: Option<Progress>, behind: HashSet<i32>) -> Self {
        let progress = progress.unwrap_or_default();
        if progress.build == Build::default() {
            of.of.metrics.builds.inc();
        }
        Self {
            reading: Reading::new(of.of.source.clone(), progress.build),
            of,
            written: progress.clone(),
            progress,
            behind,
            pages: Vec::new(),
            entries: Vec::new(),
            held: Held::default(),
            write_at: None,
            forgets: false,
            outage: Outage::default(),
            backoff: Backoff::new(BACKOFF),
        }
    }

    /// Begins to follow the log at these offsets.
    fn begin(&mut self, topic: &str, starts: BTreeMap<i32, i64>) {
        let is_new = self.progress.next.is_empty();
        let expected = std::mem::replace(&mut self.progress.next, starts);
        // A partition that was not there yet is read from its first record on.
        let expected = |partition| expected.get(partition).copied().unwrap_or(0);
        let lost = self.progress.next.iter().find(|(partition, start)| expected(partition) != **start);
        // A new index reads all chats anyway.
        if let Some((&partition, &start)) = lost.filter(|_| !is_new) {
            self.read_again(topic, partition, (expected(&partition), start));
        }
        self.show();
    }

    /// Reads all chats again: records were not to be had, and what they said is in the store.
    fn read_again(&mut self, topic: &str, partition: i32, (expected, offset): (i64, i64)) {
        tracing::warn!(
            partition,
            expected,
            offset,
            "{topic} does not have records that were not read: all chats are read again"
        );
        self.metrics().builds.inc();
        self.reading.restart();
        self.progress.build = self.reading.build();
        self.changed();
    }

    fn metrics(&self) -> &'a Metrics {
        &self.of.of.metrics
    }

    async fn run(mut self, mut follower: Follower, topic: &str) {
        let mut forgetting = interval(self.of.of.times.forget_every);
        forgetting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = &self.of.stop;
        loop {
            if self.held.reaches(FULL) && !self.outage.is_on() {
                self.write().await;
                continue;
            }
            let has_room = !self.held.reaches(MOST);
            let write_at = self.write_at;
            tokio::select! {
                event = follower.next(stop), if has_room => match event {
                    Some(Event::Record(record)) => self.record(topic, &record),
                    Some(Event::End(partition)) => {
                        self.behind.remove(&partition);
                        self.show();
                    }
                    None => break,
                },
                step = self.reading.next(), if has_room => {
                    let documents = self.reading.take(step);
                    self.held.add(documents.len(), documents.iter().map(Document::text_bytes).sum());
                    self.pages.extend(documents);
                    self.progress.build = self.reading.build();
                    self.changed();
                }
                () = sleep_until(write_at.unwrap_or_else(Instant::now)), if write_at.is_some() => self.write().await,
                _ = forgetting.tick() => {
                    self.forgets = true;
                    self.changed();
                }
                () = stop.cancelled() => break,
            }
        }
        if self.write_at.is_some() {
            self.write().await;
        }
        follower.end().await;
    }

    fn changed(&mut self) {
        self.write_at.get_or_insert(Instant::now() + self.of.of.times.write_after);
    }

    fn record(&mut self, topic: &str, record: &Record<'_>) {
        let (partition, offset) = (record.partition(), record.offset());
        let expected = self.progress.next.insert(partition, offset + 1);
        if let Some(expected) = expected.filter(|expected| *expected < offset) {
            self.read_again(topic, partition, (expected, offset));
        }
        match DeliveredRecord::read(record.payload()) {
            Ok(delivered) => {
                if let Some(entry) = Entry::of_record(delivered) {
                    if self.of.is_served() {
                        self.metrics().entries.inc();
                    }
                    self.held.add(1, record.payload().map_or(0, <[u8]>::len));
                    self.entries.push(entry);
                }
            }
            Err(Unreadable::Empty) => {}
            Err(why) => {
                self.metrics().skipped.inc();
                tracing::warn!(%why, partition, offset, "skipped a record of {topic}: {why}");
            }
        }
        self.changed();
    }

    /// Writes all that has come. What failed stays, and is written later.
    async fn write(&mut self) {
        match self.try_write().await {
            Ok(()) => {
                self.outage.worked(WRITING);
                self.backoff.reset();
                self.write_at = None;
            }
            Err(error) => {
                self.outage.failed(WRITING, &error);
                self.write_at = Some(Instant::now() + self.backoff.next_wait());
            }
        }
        self.show();
    }

    async fn try_write(&mut self) -> Result<(), IndexError> {
        let ids = self.pages.iter().map(Document::id).chain(self.entries.iter().flat_map(Entry::needs));
        let ids: HashSet<_> = ids.collect();
        let mut batch = Batch::new(self.of.index.documents(ids.into_iter().collect()).await?);
        for page in &self.pages {
            batch.merge(page.clone());
        }
        let mut missed = Vec::new();
        for entry in &self.entries {
            let chat = entry.id.chat;
            if !batch.apply(entry.clone()) {
                missed.push(chat);
            }
        }
        let documents = batch.into_changed();
        let written = documents.len();
        let expired_at_ms = self.forgets.then(now_ms);
        let progress = self.progress.clone();
        self.of.index.write(Write { documents, progress: progress.clone(), expired_at_ms }).await?;

        self.written = progress;
        let metrics = self.metrics();
        metrics.documents.inc_by(written as u64);
        let now_ms = now_ms();
        for entry in self.entries.iter().filter(|_| self.of.is_served()) {
            let waited = Duration::from_millis(now_ms.saturating_sub(entry.sent_at_ms).max(0).unsigned_abs());
            metrics.lag.observe(waited.as_secs_f64());
        }
        for chat in missed {
            self.reading.missed(chat);
        }
        self.pages.clear();
        self.entries.clear();
        self.held = Held::default();
        self.forgets = false;
        Ok(())
    }

    /// Shows how far the index has come.
    fn show(&self) {
        let build = self.progress.build;
        // What was read last may not be written yet.
        let is_read = build == Build::Done && self.written.build == Build::Done;
        let complete = is_read && self.behind.is_empty() && !self.outage.is_on();
        self.of.shows.send_replace(Come { complete, build, written: self.written.next.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_bounded_as_well_as_many() {
        for (items, bytes, is_full, is_most) in [
            (1_999, 100, false, false),
            (2_000, 100, true, false),
            (100, 4 << 20, true, false),
            (100, 16 << 20, true, true),
            (8_000, 100, true, true),
        ] {
            let mut held = Held::default();
            held.add(items - 1, 0);
            held.add(1, bytes);
            assert_eq!((held.reaches(FULL), held.reaches(MOST)), (is_full, is_most), "{held:?}");
        }
    }
}
