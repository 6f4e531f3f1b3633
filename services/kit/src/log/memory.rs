//! A log in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use traces::Parent;

use crate::clock::now_ms;

use super::{Event, Member, Queue, Read, Record, Report, Start, Take, place_of};

/// Partitions of every topic.
pub(super) const PARTITIONS: Range<i32> = 0..4;
/// Records that a partition keeps; the oldest go first. A reader that falls behind them goes on at the oldest kept.
const KEPT_RECORDS: usize = 10_000;
/// How often a member receives the ends of its partitions.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// The topics by name.
#[derive(Default)]
pub(super) struct Log {
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

#[derive(Default)]
pub(super) struct Topic {
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    partitions: [Partition; PARTITIONS.end as usize],
    /// The members that wait for records.
    readers: Vec<Weak<Notify>>,
}

#[derive(Default)]
struct Partition {
    /// The offset of the oldest record kept.
    first: i64,
    records: VecDeque<Arc<Stored>>,
}

/// A record of the log.
pub(super) struct Stored {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) logged_at_ms: i64,
    pub(super) key: String,
    pub(super) payload: Option<Box<[u8]>>,
    pub(super) trace: Option<Parent>,
}

impl Log {
    /// Returns a topic.
    pub(super) fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        topics.entry(name.to_owned()).or_default().clone()
    }

    pub(super) fn follow(&self, topic: &str, start: Start) -> Follower {
        let topic = self.topic(topic);
        let place = |partition| {
            let (first, end) = topic.bounds(partition);
            if start == Start::End { end } else { first }
        };
        Follower::new(&topic, place, start == Start::End)
    }

    pub(super) fn resume(&self, topic: &str, next: &BTreeMap<i32, i64>) -> Follower {
        let topic = self.topic(topic);
        let place = |partition| place_of(next.get(&partition).copied(), topic.bounds(partition));
        Follower::new(&topic, place, false)
    }
}

impl Topic {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record. Those of one key share a partition.
    pub(super) fn append(&self, key: &str, payload: Option<&[u8]>, trace: Option<Parent>) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let mut contents = self.contents();
        let index = hasher.finish() % contents.partitions.len() as u64;
        let partition = i32::try_from(index).expect("partitions are few");
        let kept = contents.partition(partition);
        let record = Stored {
            partition,
            offset: kept.end(),
            logged_at_ms: now_ms(),
            key: key.to_owned(),
            payload: payload.map(Box::from),
            trace,
        };
        kept.push(record);
        contents.readers.retain(|reader| match reader.upgrade() {
            Some(filled) => {
                filled.notify_one();
                true
            }
            None => false,
        });
    }

    #[cfg(test)]
    fn end(&self, partition: i32) -> i64 {
        self.bounds(partition).1
    }

    /// Returns the offsets of the oldest record kept and behind the newest.
    fn bounds(&self, partition: i32) -> (i64, i64) {
        let mut contents = self.contents();
        let kept = contents.partition(partition);
        (kept.first, kept.end())
    }

    /// Gives all partitions to the one member of the group, until the shutdown.
    pub(super) async fn share(self: Arc<Self>, member: Arc<dyn Member>, shutdown: CancellationToken) {
        let partitions: Vec<i32> = PARTITIONS.collect();
        let Some(starts) = member.starts(&partitions).await else { return };
        for (partition, start) in starts {
            member.take(Queue(Take::Memory(Cursor::new(self.clone(), partition, start))), start);
        }
        member.report(Report::Brokers { answer: true });
        member.report(Report::Settled);
        let mut reports = tokio::time::interval(REPORT_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = reports.tick() => {}
            }
            for partition in member.taken() {
                let (first, offset) = self.bounds(partition);
                member.report(Report::End { partition, first, offset });
            }
        }
        member.give_up(&member.taken()).await;
    }
}

impl Contents {
    fn partition(&mut self, partition: i32) -> &mut Partition {
        &mut self.partitions[usize::try_from(partition).expect("partitions are counted from 0")]
    }
}

impl Partition {
    fn end(&self) -> i64 {
        self.first + i64::try_from(self.records.len()).expect("records are few")
    }

    fn push(&mut self, record: Stored) {
        if self.records.len() == KEPT_RECORDS {
            self.records.pop_front();
            self.first += 1;
        }
        self.records.push_back(Arc::new(record));
    }

    fn get(&self, offset: i64) -> Option<&Arc<Stored>> {
        self.records.get(usize::try_from(offset - self.first).ok()?)
    }
}

/// A place in a partition.
pub(super) struct Cursor {
    topic: Arc<Topic>,
    partition: i32,
    next: i64,
}

impl Cursor {
    fn new(topic: Arc<Topic>, partition: i32, next: Option<i64>) -> Self {
        Self { topic, partition, next: next.unwrap_or(0) }
    }

    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn notify(&mut self, filled: &Arc<Notify>) {
        self.topic.contents().readers.push(Arc::downgrade(filled));
        // What is there already counts.
        filled.notify_one();
    }

    pub(super) fn read(&mut self) -> Option<Arc<Stored>> {
        let mut contents = self.topic.contents();
        let kept = contents.partition(self.partition);
        let record = kept.get(self.next.max(kept.first))?.clone();
        self.next = record.offset + 1;
        Some(record)
    }
}

/// A reader of all partitions.
pub(super) struct Follower {
    starts: BTreeMap<i32, i64>,
    /// Each with whether its end was reported.
    cursors: VecDeque<(Cursor, bool)>,
    filled: Arc<Notify>,
}

impl Follower {
    /// Returns a reader of each partition from an offset.
    fn new(topic: &Arc<Topic>, place: impl Fn(i32) -> i64, is_end_told: bool) -> Self {
        let filled = Arc::new(Notify::new());
        let starts: BTreeMap<i32, i64> = PARTITIONS.map(|partition| (partition, place(partition))).collect();
        let cursors = starts
            .iter()
            .map(|(partition, start)| {
                let mut cursor = Cursor::new(topic.clone(), *partition, Some(*start));
                cursor.notify(&filled);
                (cursor, is_end_told)
            })
            .collect();
        Self { starts, cursors, filled }
    }

    pub(super) fn starts(&self) -> BTreeMap<i32, i64> {
        self.starts.clone()
    }

    pub(super) async fn next(&mut self, stop: &CancellationToken) -> Option<Event<'static>> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            if let Some(event) = self.look() {
                return Some(event);
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.filled.notified() => {}
            }
        }
    }

    /// Returns what is there already.
    pub(super) fn ready(&mut self) -> Option<Event<'static>> {
        self.look()
    }

    fn look(&mut self) -> Option<Event<'static>> {
        for _ in PARTITIONS {
            // The next look begins with the next partition, so that a busy one does not hold the others up.
            self.cursors.rotate_left(1);
            let (cursor, is_end_told) = self.cursors.front_mut().expect("a topic has partitions");
            match cursor.read() {
                Some(record) => return Some(Event::Record(Record(Read::Memory(record)))),
                None if !*is_end_told => {
                    *is_end_told = true;
                    return Some(Event::End(cursor.partition()));
                }
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_goes_on_where_another_stopped() {
        let (log, stop) = (Log::default(), CancellationToken::new());
        let topic = log.topic("news");
        for number in 0..4 {
            topic.append("key", Some(number.to_string().as_bytes()), None);
        }
        let partition = PARTITIONS.into_iter().find(|of| topic.end(*of) > 0).expect("a partition");
        let mut follower = log.resume("news", &BTreeMap::from([(partition, 2)]));
        let (mut offsets, mut ends) = (Vec::new(), 0);
        while ends < PARTITIONS.len() {
            match follower.next(&stop).await.expect("an event") {
                Event::Record(record) => offsets.push(record.offset()),
                Event::End(_) => ends += 1,
            }
        }
        assert_eq!(offsets, [2, 3]);
    }

    #[tokio::test]
    async fn a_follower_takes_what_is_there_and_waits_for_nothing() {
        let (log, stop) = (Log::default(), CancellationToken::new());
        let topic = log.topic("news");
        let mut follower = log.follow("news", Start::End);
        assert!(follower.ready().is_none());
        for number in 0..3 {
            topic.append("key", Some(number.to_string().as_bytes()), None);
        }
        let offset = |event: Option<Event<'_>>| match event {
            Some(Event::Record(record)) => Some(record.offset()),
            Some(Event::End(_)) | None => None,
        };
        assert_eq!(offset(follower.next(&stop).await), Some(0));
        assert_eq!([(); 3].map(|()| offset(follower.ready())), [Some(1), Some(2), None]);
        // What comes later is not missed by one who waits again.
        topic.append("key", Some(b"3"), None);
        assert_eq!(offset(follower.next(&stop).await), Some(3));
    }

    #[tokio::test]
    async fn a_follower_says_from_where_on_it_reads() {
        let log = Log::default();
        let topic = log.topic("news");
        let more = i64::try_from(KEPT_RECORDS).expect("few") + 3;
        for number in 0..more {
            topic.append("key", Some(number.to_string().as_bytes()), None);
        }
        let partition = PARTITIONS.into_iter().find(|of| topic.end(*of) > 0).expect("a partition");
        for (next, expected) in [
            (Some(5), 5),
            (Some(more), more),
            // It has forgotten what comes next.
            (Some(2), 3),
            (None, 3),
            // It is not the log that was read before.
            (Some(more + 1), 3),
        ] {
            let next = next.map(|next| (partition, next)).into_iter().collect();
            assert_eq!(log.resume("news", &next).starts()[&partition], expected, "{next:?}");
        }
        assert_eq!(log.follow("news", Start::End).starts()[&partition], more);
    }

    #[test]
    fn a_partition_keeps_its_newest_records_and_their_offsets() {
        let topic = Arc::new(Topic::default());
        let more = i64::try_from(KEPT_RECORDS).expect("few") + 3;
        for number in 0..more {
            topic.append("key", Some(number.to_string().as_bytes()), None);
        }
        let partition =
            PARTITIONS.into_iter().find(|partition| topic.end(*partition) > 0).expect("a partition");
        assert_eq!(topic.end(partition), more);
        let mut cursor = Cursor::new(topic, partition, None);
        let first = cursor.read().expect("a record");
        assert_eq!((first.offset, first.payload.as_deref()), (3, Some(b"3".as_slice())));
        assert_eq!(cursor.read().expect("a record").offset, 4);
    }
}
