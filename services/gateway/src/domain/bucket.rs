//! A token bucket.

use std::time::{Duration, Instant};

/// Allows `burst` immediately and `per_second` in the long run.
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Returns a full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst), tokens: f64::from(burst), at: now }
    }

    /// Takes one token; the bucket may go below zero, which [`Self::empty_until`] makes up for.
    pub(crate) fn take(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst) - 1.0;
        self.at = now;
    }

    /// Returns when there is a token again; `None` when there is one now.
    pub(crate) fn empty_until(&self, now: Instant) -> Option<Instant> {
        let missing = 1.0 - self.tokens;
        // A nanosecond more, or rounding would make the caller wait twice.
        let ready =
            self.at + Duration::from_secs_f64((missing / self.per_second).max(0.0)) + Duration::from_nanos(1);
        (missing > 0.0 && ready > now).then_some(ready)
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
            assert_eq!(bucket.empty_until(start), None);
            bucket.take(start);
        }
        let ready = bucket.empty_until(start).expect("the burst is used up");
        assert!((ready - start).abs_diff(Duration::from_millis(100)) < Duration::from_millis(1));
        assert_eq!(bucket.empty_until(ready), None);
        bucket.take(ready);
        assert!(bucket.empty_until(ready).is_some());
        // A long pause gives the burst back and no more.
        let later = ready + Duration::from_secs(60);
        for _ in 0..3 {
            bucket.take(later);
        }
        assert!(bucket.empty_until(later).is_some());
    }
}
