//! Token buckets.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use catalog::Rate;

/// Keys that are remembered by [`Buckets`].
const MAX_REMEMBERED: usize = 50_000;

/// A bucket for each key. A key that is not remembered has a full one: of too many keys those with full buckets are forgotten, and
/// all of them when none is full.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Returns full buckets.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Returns how long to wait for a token of a key; `None` when there is one now.
    pub fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let ready = self.buckets.get(key)?.ready_at(1, now)?;
        Some(ready.saturating_duration_since(now))
    }

    /// Takes a token of a key.
    pub fn take(&mut self, key: K, now: Instant) {
        if self.buckets.len() >= MAX_REMEMBERED && !self.buckets.contains_key(&key) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= MAX_REMEMBERED {
                self.buckets.clear();
            }
        }
        self.buckets.entry(key).or_insert_with(|| Bucket::of(self.rate, now)).take(1, now);
    }

    /// Takes a token of a key, if there is one; an error is the time to wait, and takes nothing.
    pub fn try_take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        match self.wait(&key, now) {
            Some(wait) => Err(wait),
            None => {
                self.take(key, now);
                Ok(())
            }
        }
    }

    /// Gives a token back that was taken for nothing.
    pub fn give_back(&mut self, key: &K, now: Instant) {
        if let Some(bucket) = self.buckets.get_mut(key) {
            bucket.give(1, now);
        }
    }

    /// Fills the bucket of a key.
    pub fn forget(&mut self, key: &K) {
        self.buckets.remove(key);
    }
}

/// [`Buckets`] that several tasks share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedBuckets<K>(Arc<Mutex<Buckets<K>>>);

impl<K: Hash + Eq> SharedBuckets<K> {
    /// Returns full buckets.
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Buckets::new(rate))))
    }

    /// Takes a token of a key, if there is one; an error is the time to wait, and takes nothing.
    pub fn try_take(&self, key: K, now: Instant) -> Result<(), Duration> {
        self.lock().try_take(key, now)
    }

    /// Gives a token back that was taken for nothing.
    pub fn give_back(&self, key: &K, now: Instant) {
        self.lock().give_back(key, now);
    }

    /// A task that panicked while it had the buckets leaves counts that are good enough: no request is refused for it.
    fn lock(&self) -> MutexGuard<'_, Buckets<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allows `burst` immediately and `per_second` in the long run.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Returns a full bucket.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst), tokens: f64::from(burst), at: now }
    }

    /// Returns a full bucket of a rate.
    pub fn of(rate: Rate, now: Instant) -> Self {
        Self { per_second: rate.each_second(), ..Self::new(1, rate.burst(), now) }
    }

    /// Gives tokens back that were taken for nothing.
    pub fn give(&mut self, count: u32, now: Instant) {
        self.tokens = (self.tokens_at(now) + f64::from(count)).min(self.burst);
        self.at = self.at.max(now);
    }

    /// Takes tokens. The bucket may go below zero, by as much as it holds; [`Self::ready_at`] makes up for that.
    pub fn take(&mut self, count: u32, now: Instant) {
        self.tokens = (self.tokens_at(now) - f64::from(count)).max(-self.burst);
        self.at = self.at.max(now);
    }

    /// Returns when there are this many tokens; `None` when they are there now. More than the bucket holds counts as
    /// all that it holds.
    pub fn ready_at(&self, count: u32, now: Instant) -> Option<Instant> {
        let missing = f64::from(count).min(self.burst) - self.tokens;
        // A nanosecond more, or rounding would make the caller wait twice.
        let ready =
            self.at + Duration::from_secs_f64((missing / self.per_second).max(0.0)) + Duration::from_nanos(1);
        (missing > 0.0 && ready > now).then_some(ready)
    }

    /// Returns whether the bucket is as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.tokens_at(now) >= self.burst
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(1, start), None);
            bucket.take(1, start);
        }
        let ready = bucket.ready_at(1, start).expect("the burst is used up");
        assert!((ready - start).abs_diff(Duration::from_millis(100)) < Duration::from_millis(1));
        assert_eq!(bucket.ready_at(1, ready), None);
        bucket.take(1, ready);
        assert!(bucket.ready_at(1, ready).is_some());
        // A long pause gives the burst back and no more.
        let later = ready + Duration::from_secs(60);
        for _ in 0..3 {
            bucket.take(1, later);
        }
        assert!(bucket.ready_at(1, later).is_some());
    }

    #[test]
    fn a_debt_is_made_up_for_and_has_a_bound() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        for _ in 0..1_000 {
            bucket.take(1, start);
        }
        let ready = bucket.ready_at(1, start).expect("a debt");
        assert!((ready - start).abs_diff(Duration::from_millis(400)) < Duration::from_millis(1));
        assert!(!bucket.is_full(start + Duration::from_millis(500)));
        assert!(bucket.is_full(start + Duration::from_millis(700)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut buckets = Buckets::new(Rate::every(Duration::from_secs(30), 5));
        for n in 0..3 * MAX_REMEMBERED {
            buckets.take(n, now);
            assert!(buckets.buckets.len() <= MAX_REMEMBERED);
        }
    }

    #[test]
    fn more_than_the_bucket_holds_waits_until_it_is_full() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        assert_eq!(bucket.ready_at(20, start), None);
        bucket.take(1, start);
        assert!(bucket.ready_at(20, start).is_some());
    }
}
