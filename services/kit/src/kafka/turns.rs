//! Which records a producer hands to librdkafka, and which wait for their turn.
//!
//! An idempotent producer of librdkafka sends up to five records of a partition before it waits for an outcome, whole batches counted
//! by their records. On what it has beyond them it does not sleep: its thread polls without a pause and takes a whole core (seen with
//! 2.12; confluentinc/librdkafka#3692). So it is given nothing that it cannot send. A batch goes as a whole, and what comes meanwhile waits
//! here and is the next batch. That is no later than librdkafka would send it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Beside so many records under way there is room for another one, whatever their partitions.
const FEW: usize = 4;
/// A batch takes records for so long after its first one. It is less than `linger.ms` of the producers, so that librdkafka has them all when
/// it sends.
const OPEN: Duration = Duration::from_micros(300);
/// What waits has at most so many bytes, as librdkafka's own queue.
const MAX_BYTES: usize = 16 << 20;

/// The records of a producer that are under way, counted, and those that wait.
#[derive(Debug)]
pub(super) struct Turns<T> {
    under_way: usize,
    /// When the first of those under way was handed over.
    began: Instant,
    waiting: VecDeque<Turn<T>>,
    waiting_bytes: usize,
}

/// A record in the queue, and since when it is there.
#[derive(Debug)]
struct Turn<T> {
    record: T,
    bytes: usize,
    since: Instant,
}

impl<T> Turns<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { under_way: 0, began: now, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Returns whether a record is handed over now, or several at once. None is before one that waits.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let has_begun_now = || now.saturating_duration_since(self.began) < OPEN;
        self.waiting.is_empty() && (self.under_way < FEW || has_begun_now())
    }

    /// Counts a record that was handed over.
    pub(super) fn hand_over(&mut self, now: Instant) {
        if self.under_way == 0 {
            self.began = now;
        }
        self.under_way += 1;
    }

    /// Lets a record wait; gives it back when too much waits.
    pub(super) fn wait(&mut self, record: T, bytes: usize, now: Instant) -> Result<(), T> {
        if self.waiting_bytes.saturating_add(bytes) > MAX_BYTES {
            return Err(record);
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(Turn { record, bytes, since: now });
        Ok(())
    }

    /// Counts an outcome. Returns whether it is the turn of those that wait: nothing else is under way.
    pub(super) fn settle(&mut self) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.under_way == 0
    }

    /// Takes the record that waits longest.
    pub(super) fn next(&mut self) -> Option<T> {
        let Turn { record, bytes, .. } = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        Some(record)
    }

    /// Takes the records that have waited for so long.
    pub(super) fn expire(&mut self, patience: Duration, now: Instant) -> Vec<T> {
        let is_over = |turn: &Turn<T>| now.saturating_duration_since(turn.since) >= patience;
        let mut expired = Vec::new();
        while self.waiting.front().is_some_and(is_over) {
            expired.extend(self.next());
        }
        expired
    }

    /// Returns whether no record waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers records at a moment, and returns those that are handed over.
    fn offer(turns: &mut Turns<u32>, records: impl IntoIterator<Item = u32>, now: Instant) -> Vec<u32> {
        let mut handed_over = Vec::new();
        for record in records {
            if turns.is_open(now) {
                turns.hand_over(now);
                handed_over.push(record);
            } else {
                turns.wait(record, 100, now).expect("there is room");
            }
        }
        handed_over
    }

    fn batch(turns: &mut Turns<u32>, now: Instant) -> Vec<u32> {
        let mut batch = Vec::new();
        while let Some(record) = turns.next() {
            turns.hand_over(now);
            batch.push(record);
        }
        batch
    }

    #[test]
    fn what_comes_while_a_batch_is_under_way_is_the_next_one_in_its_order() {
        let began = Instant::now();
        let mut turns = Turns::new(began);
        assert_eq!(offer(&mut turns, 0..10, began), (0..10).collect::<Vec<_>>(), "one batch");
        let later = began + Duration::from_millis(1);
        assert_eq!(offer(&mut turns, 10..13, later), [0; 0]);
        for _ in 0..9 {
            assert!(!turns.settle());
            assert_eq!(offer(&mut turns, [], later), [0; 0]);
        }
        assert_eq!(offer(&mut turns, [13], later), [0; 0], "not before those that wait");
        assert!(turns.settle());
        assert_eq!(batch(&mut turns, later), [10, 11, 12, 13]);
        assert_eq!(offer(&mut turns, [14], later), [14], "it joins the batch that has just begun");
        assert!(turns.is_empty());
    }

    #[test]
    fn a_few_wait_for_nothing() {
        let began = Instant::now();
        let mut turns = Turns::new(began);
        let at = |millis| began + Duration::from_millis(millis);
        for record in 0..4 {
            assert_eq!(offer(&mut turns, [record], at(record.into())), [record]);
        }
        assert_eq!(offer(&mut turns, [4], at(4)), [0; 0], "librdkafka could not send it");
    }

    #[test]
    fn what_waits_is_bounded_and_given_up() {
        let began = Instant::now();
        let mut turns = Turns::new(began);
        turns.wait(1, MAX_BYTES / 2, began).expect("there is room");
        let later = began + Duration::from_secs(1);
        turns.wait(2, MAX_BYTES / 2, later).expect("there is room");
        assert_eq!(turns.wait(3, 1, later), Err(3));
        assert_eq!(turns.expire(Duration::from_secs(2), began + Duration::from_secs(2)), [1]);
        turns.wait(3, 1, later).expect("there is room again");
        assert_eq!((turns.next(), turns.next(), turns.next()), (Some(2), Some(3), None));
    }
}
