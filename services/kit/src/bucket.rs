//! A token bucket.

use std::time::{Duration, Instant};

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

    /// Returns a full bucket that gets a token in each interval.
    pub fn every(interval: Duration, burst: u32, now: Instant) -> Self {
        Self { per_second: interval.as_secs_f64().recip(), ..Self::new(1, burst, now) }
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
    fn more_than_the_bucket_holds_waits_until_it_is_full() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        assert_eq!(bucket.ready_at(20, start), None);
        bucket.take(1, start);
        assert!(bucket.ready_at(20, start).is_some());
    }
}
