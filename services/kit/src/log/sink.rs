//! Feeding a store with what a topic says: for services that share the partitions of a topic among their processes, and write what they make
//! of its records with how far they have read.

use std::{
    collections::HashMap,
    error::Error,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use contracts::event::Unreadable;
use tokio::{
    sync::Notify,
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use traces::{Span, SpanKind, within};

use super::{JoinError, Log, Member, Queue, Record, Report};
use crate::{backoff::Backoff, clock::now_ms, error::chain, outage::Outage};

/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often it is noted how far a partition was read whose records say nothing, and that its end was reached.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// A reader that has to go gets this long for what it has in hand.
const HANDOVER: Duration = Duration::from_secs(2);
/// A read of positions that takes longer is given up and tried again.
const POSITION_TIMEOUT: Duration = Duration::from_secs(6);
/// The end of a partition, as it is reported, may be as old.
const REPORT_AGE_MS: i64 = 60_000;

/// What a service makes of the records of a topic.
///
/// How far a partition was read is written with what its records say, or behind it, and what is written twice has the same effect: a process
/// that takes a partition over goes on where the one before it was, and may read again what that one had in hand.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// What records say, put together; the default says nothing.
    type Batch: Default + Send + Sync;
    type Error: Error + Send + Sync + 'static;

    /// Records that are read before what they say is written.
    const BATCH: usize = 500;
    /// What an outage of the store is called in the log, such as "judging messages".
    const WORK: &'static str;
    /// What the log says while this process has no part in the group, such as "messages are not judged".
    const IDLE: &'static str;

    /// Returns how far partitions were read. `None` is for one of which that was never noted: it is read from its beginning.
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, Self::Error>;

    /// Adds what a record says to a batch. One that cannot be read is of a newer version and says nothing here; neither does one that is
    /// [`Unreadable::Empty`], which is the rule for some topics and is not logged.
    fn add(&self, batch: &mut Self::Batch, record: &Record<'_>) -> Result<(), Unreadable>;

    /// Counts a record that cannot be read.
    fn skipped(&self) {}

    /// Returns whether a batch says nothing. It is not written, and neither is how far the partition was read, before some seconds have
    /// passed.
    fn is_empty(batch: &Self::Batch) -> bool;

    /// Writes what a batch says, and that the partition was read up to `next_offset`, which is not in it. Repeated until it succeeds.
    async fn apply(&self, partition: i32, next_offset: i64, batch: &Self::Batch) -> Result<(), Self::Error>;

    /// Notes that everything was read that was in a partition at a time, in milliseconds since the epoch. It is called every few seconds, for
    /// a service that acts on what the log does not say; one that fails is not repeated before the next.
    async fn caught_up(&self, _partition: i32, _at_ms: i64) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl Log {
    /// Joins a group that shares the partitions of a topic, and feeds a sink with those of this process until the shutdown. The future ends
    /// when the group is left.
    pub fn feed<S: Sink>(
        &self,
        topic: &str,
        group: &str,
        sink: S,
        shutdown: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + 'static + use<S>, JoinError> {
        let feed = Feed::new(group, sink, NOTE_INTERVAL, shutdown.clone());
        self.join(topic, group, Arc::new(feed), shutdown)
    }
}

/// The partitions that this process reads.
struct Feed<S> {
    group: Arc<str>,
    sink: Arc<S>,
    note_interval: Duration,
    shutdown: CancellationToken,
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

impl<S> Feed<S> {
    fn new(group: &str, sink: S, note_interval: Duration, shutdown: CancellationToken) -> Self {
        Self {
            group: group.into(),
            sink: Arc::new(sink),
            note_interval,
            shutdown,
            brokers: Arc::default(),
            readers: Mutex::default(),
        }
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<i32, Reading>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Sink> Member for Feed<S> {
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>> {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let why = match timeout(POSITION_TIMEOUT, self.sink.positions(partitions)).await {
                Ok(Ok(found)) => return Some(found),
                Ok(Err(error)) => chain(&error),
                Err(_) => "the store does not answer".to_owned(),
            };
            let group = &*self.group;
            tracing::warn!(group, error = why, "cannot take over partitions yet: {why}");
            if backoff.pause(&self.shutdown).await.is_break() {
                return None;
            }
        }
    }

    fn take(&self, queue: Queue, start: Option<i64>) {
        let (partition, stop) = (queue.partition(), self.shutdown.child_token());
        let end = Arc::new(End::default());
        let reader = Reader {
            group: self.group.clone(),
            sink: self.sink.clone(),
            note_interval: self.note_interval,
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

    fn taken(&self) -> Vec<i32> {
        self.readers().keys().copied().collect()
    }

    /// Lets the readers end, waiting a little for what they have in hand.
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
            if timeout_at(deadline, &mut reading.task).await.is_err() {
                reading.task.abort();
                // Wait for the abort: the partition's queue must not outlive its assignment.
                drop(reading.task.await);
            }
        }
    }

    fn report(&self, report: Report) {
        match report {
            Report::Settled => {}
            Report::Outside(why) => {
                let group = &*self.group;
                tracing::warn!(group, why, "{}: {why}", S::IDLE);
            }
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
struct Reader<S> {
    group: Arc<str>,
    sink: Arc<S>,
    note_interval: Duration,
    stop: CancellationToken,
    queue: Queue,
    partition: i32,
    /// The first offset whose record is not written.
    next: Option<i64>,
    /// The same as it is noted.
    noted: Option<i64>,
    end: Arc<End>,
    brokers: Arc<AtomicBool>,
}

impl<S: Sink> Reader<S> {
    async fn run(mut self) {
        let filled = Arc::new(Notify::new());
        self.queue.notify(&filled);
        let (mut noted_at, mut caught_up_at) = (Instant::now(), None);
        while !self.stop.is_cancelled() {
            let (batch, read, spans) = self.read();
            let is_due = noted_at.elapsed() >= self.note_interval && self.next != self.noted;
            if !S::is_empty(&batch) || is_due {
                let traced = spans.iter().filter_map(Span::parent);
                let whole = Span::of_many("batch", SpanKind::Consumer, traced);
                if within(whole.parent(), self.write(&batch)).await.is_err() {
                    return;
                }
                noted_at = Instant::now();
            }
            drop(spans);
            if read == S::BATCH {
                // Nothing is waited for between batches that say nothing; other tasks run there all the same.
                yield_now().await;
                continue;
            }
            self.note_end(&mut caught_up_at).await;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = filled.notified() => {}
                () = sleep(self.note_interval) => {}
            }
        }
        // What was read since says nothing; the next reader would read it again.
        if self.next != self.noted {
            let nothing = S::Batch::default();
            let noting = self.sink.apply(self.partition, self.next.unwrap_or(0), &nothing);
            let _ = timeout(HANDOVER / 2, noting).await;
        }
    }

    /// Takes what is there, and returns what it says, how many records it was, and the spans of those that are traced.
    fn read(&mut self) -> (S::Batch, usize, Vec<Span>) {
        let (mut batch, mut read, mut spans) = (S::Batch::default(), 0, Vec::new());
        let (group, partition) = (&*self.group, self.partition);
        while read < S::BATCH {
            match self.queue.poll() {
                None => break,
                Some(Err(error)) => {
                    tracing::warn!(%error, group, partition, "partition {partition} reports: {error}");
                }
                Some(Ok(record)) => {
                    let offset = record.offset();
                    let apply = |parent| Span::of_record(parent, "apply", partition, offset);
                    spans.extend(record.trace().map(apply));
                    match self.sink.add(&mut batch, &record) {
                        Ok(()) | Err(Unreadable::Empty) => {}
                        Err(why) => {
                            tracing::debug!(%why, group, partition, offset, "a record is not understood: {why}");
                            self.sink.skipped();
                        }
                    }
                    self.next = Some(offset + 1);
                    read += 1;
                }
            }
        }
        (batch, read, spans)
    }

    /// Writes a batch until it succeeds. An error means that this reader is to stop.
    async fn write(&mut self, batch: &S::Batch) -> Result<(), Stopped> {
        let (mut backoff, outage) = (Backoff::new(BACKOFF), Outage::default());
        let next = self.next.unwrap_or(0);
        loop {
            let applied = tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                applied = self.sink.apply(self.partition, next, batch) => applied,
            };
            match applied {
                Ok(()) => {
                    outage.worked(S::WORK);
                    self.noted = self.next;
                    self.queue.commit(next);
                    return Ok(());
                }
                Err(error) => outage.failed(S::WORK, &error),
            }
            if backoff.pause(&self.stop).await.is_break() {
                return Err(Stopped);
            }
        }
    }

    /// Notes, now and then, that everything was read that was there.
    async fn note_end(&self, caught_up_at: &mut Option<Instant>) {
        let reported_at_ms = self.end.reported_at_ms.load(Ordering::Relaxed);
        let is_read = self.end.is_reached(self.next.unwrap_or(0));
        let is_due = caught_up_at.is_none_or(|at| at.elapsed() >= self.note_interval);
        if reported_at_ms == 0 || !is_read || !is_due || !self.brokers.load(Ordering::Relaxed) {
            return;
        }
        let noted = tokio::select! {
            () = self.stop.cancelled() => return,
            noted = self.sink.caught_up(self.partition, reported_at_ms - REPORT_AGE_MS) => noted,
        };
        match noted {
            Ok(()) => *caught_up_at = Some(Instant::now()),
            // The next look notes it.
            Err(error) => tracing::debug!(%error, "failed to note the end of a partition: {error}"),
        }
    }
}

/// The reader is to stop.
struct Stopped;

#[cfg(test)]
mod tests {
    use std::{future::pending, io};

    use super::*;
    use crate::testing::wait_for;

    const PATIENCE: Duration = Duration::from_secs(30);
    const MOMENT: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const TOPIC: &str = "news";

    /// A store of texts. Cheap to clone.
    #[derive(Clone, Default)]
    struct Texts(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        texts: Vec<String>,
        positions: HashMap<i32, i64>,
        writes: usize,
        /// The partitions of writes that were tried.
        tried: Vec<i32>,
        /// Calls that failed.
        failures: usize,
        read: usize,
        skipped: usize,
        ends: usize,
        is_down: bool,
        hangs: bool,
    }

    impl Texts {
        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().expect("no panic")
        }

        fn up(&self) -> io::Result<MutexGuard<'_, State>> {
            let mut state = self.state();
            if state.is_down {
                state.failures += 1;
                return Err(io::Error::other("it is down"));
            }
            Ok(state)
        }

        /// Returns the texts, how far partitions were read, and how often it was written.
        fn written(&self) -> (String, Vec<i64>, usize) {
            let state = self.state();
            (state.texts.join(" "), state.positions.values().copied().collect(), state.writes)
        }

        async fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
            wait_for(what, PATIENCE, || async { is_so(&self.state()).then_some(()) }).await;
        }
    }

    #[async_trait]
    impl Sink for Texts {
        type Batch = Vec<String>;
        type Error = io::Error;

        const BATCH: usize = 3;
        const WORK: &'static str = "noting texts";
        const IDLE: &'static str = "texts are not noted";

        async fn positions(&self, partitions: &[i32]) -> io::Result<HashMap<i32, Option<i64>>> {
            let state = self.up()?;
            let position = |partition: &i32| (*partition, state.positions.get(partition).copied());
            Ok(partitions.iter().map(position).collect())
        }

        fn add(&self, batch: &mut Self::Batch, record: &Record<'_>) -> Result<(), Unreadable> {
            self.state().read += 1;
            match record.payload().ok_or(Unreadable::Empty)? {
                b"nothing" => {}
                b"newer" => return Err(Unreadable::Version(2)),
                text => batch.push(String::from_utf8_lossy(text).into_owned()),
            }
            Ok(())
        }

        fn skipped(&self) {
            self.state().skipped += 1;
        }

        fn is_empty(batch: &Self::Batch) -> bool {
            batch.is_empty()
        }

        async fn apply(&self, partition: i32, next_offset: i64, batch: &Self::Batch) -> io::Result<()> {
            let hangs = {
                let mut state = self.state();
                state.tried.push(partition);
                state.hangs
            };
            if hangs {
                pending::<()>().await;
            }
            let mut state = self.up()?;
            state.texts.extend(batch.iter().cloned());
            state.positions.insert(partition, next_offset);
            state.writes += 1;
            Ok(())
        }

        async fn caught_up(&self, _partition: i32, _at_ms: i64) -> io::Result<()> {
            self.state().ends += 1;
            Ok(())
        }
    }

    /// A process that is the only one of its group.
    struct Process {
        feed: Arc<Feed<Texts>>,
        stop: CancellationToken,
        membership: JoinHandle<()>,
    }

    impl Process {
        fn start(log: &Log, texts: &Texts, note_interval: Duration) -> Self {
            let stop = CancellationToken::new();
            let feed = Arc::new(Feed::new("group", texts.clone(), note_interval, stop.clone()));
            let membership = log.join(TOPIC, "group", feed.clone(), stop.clone()).expect("it joins");
            Self { feed, stop, membership: tokio::spawn(membership) }
        }

        async fn end(self) {
            self.stop.cancel();
            timeout(PATIENCE, self.membership).await.expect("in time").expect("no panic");
        }
    }

    /// Appends records to one partition; without a text, one that has no payload.
    fn send(log: &Log, texts: &[Option<&str>]) {
        let producer = log.producer(None).expect("a producer");
        for text in texts {
            drop(producer.send(TOPIC, "key", text.map(str::as_bytes)).expect("it is sent"));
        }
    }

    #[tokio::test]
    async fn a_position_that_was_never_noted_is_the_beginning() {
        let (log, texts) = (Log::memory(), Texts::default());
        send(&log, &[Some("a"), Some("b")]);
        let first = Process::start(&log, &texts, HOUR);
        texts.wait("the texts", |state| state.texts.len() == 2).await;
        first.end().await;
        assert_eq!(texts.written(), ("a b".to_owned(), vec![2], 1), "of the others nothing is to be noted");
        send(&log, &[Some("c")]);
        let second = Process::start(&log, &texts, HOUR);
        texts.wait("another text", |state| state.texts.len() == 3).await;
        second.end().await;
        assert_eq!(texts.written(), ("a b c".to_owned(), vec![3], 2), "it went on where the first one was");
    }

    #[tokio::test]
    async fn a_store_that_comes_back_has_everything_once_and_in_order() {
        let (log, texts) = (Log::memory(), Texts::default());
        texts.state().is_down = true;
        send(&log, &[Some("a")]);
        let process = Process::start(&log, &texts, HOUR);
        texts.wait("a failure to read positions", |state| state.failures > 0).await;
        assert!(process.feed.taken().is_empty(), "it does not know where to begin");
        texts.state().is_down = false;
        texts.wait("the first text", |state| state.texts.len() == 1).await;

        let failures = {
            let mut state = texts.state();
            state.is_down = true;
            state.failures
        };
        send(&log, &[Some("b"), Some("c")]);
        texts.wait("writes that fail", |state| state.failures >= failures + 2).await;
        send(&log, &[Some("d"), Some("e"), Some("f"), Some("g")]);
        texts.state().is_down = false;
        texts.wait("all texts", |state| state.texts.len() == 7).await;
        let (all, positions, _) = texts.written();
        assert_eq!((all.as_str(), positions), ("a b c d e f g", vec![7]));
        process.end().await;
    }

    #[tokio::test]
    async fn a_partition_that_is_given_up_during_a_write_is_read_again_from_there() {
        let (log, texts) = (Log::memory(), Texts::default());
        texts.state().hangs = true;
        let process = Process::start(&log, &texts, HOUR);
        send(&log, &[Some("a"), Some("b")]);
        texts.wait("a write that hangs", |state| !state.tried.is_empty()).await;
        // Whatever is written from here on works, and what hangs goes on hanging.
        let partition = {
            let mut state = texts.state();
            state.hangs = false;
            state.tried[0]
        };
        timeout(PATIENCE, process.feed.give_up(&[partition])).await.expect("no wait for the store");
        assert_eq!(texts.written(), (String::new(), vec![], 0), "nothing is noted that was not written");
        let taken = process.feed.taken();
        assert!(!taken.is_empty() && !taken.contains(&partition), "the others go on: {taken:?}");
        process.end().await;
        let next = Process::start(&log, &texts, HOUR);
        texts.wait("the texts", |state| state.texts.len() == 2).await;
        next.end().await;
        let (all, positions, _) = texts.written();
        assert_eq!((all.as_str(), positions), ("a b", vec![2]));
    }

    #[tokio::test]
    async fn what_says_nothing_is_noted_at_intervals_and_what_did_not_change_is_not() {
        let (log, texts) = (Log::memory(), Texts::default());
        let process = Process::start(&log, &texts, HOUR);
        // More than a batch.
        send(&log, &[Some("nothing"), Some("newer"), None, Some("nothing")]);
        texts.wait("the records", |state| state.read == 4).await;
        assert_eq!(texts.written(), (String::new(), vec![], 0), "it is not time yet");
        process.end().await;
        assert_eq!(texts.written(), (String::new(), vec![4], 1), "the next process need not read it again");
        assert_eq!(texts.state().skipped, 1, "only one of them could not be read");

        let process = Process::start(&log, &texts, MOMENT);
        send(&log, &[Some("nothing")]);
        texts.wait("the position", |state| state.positions.values().eq([&5])).await;
        let ends = texts.state().ends;
        texts.wait("further looks", |state| state.ends >= ends + 100).await;
        process.end().await;
        assert_eq!(texts.written(), (String::new(), vec![5], 2), "a quiet topic writes nothing");
    }

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
