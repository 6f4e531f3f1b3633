//! How the time is divided among the parts.

use std::time::{Duration, Instant};

/// The time that is left to the parts that are left. Each has a share of it, by how long a round of it takes: what one leaves is for those behind
/// it, and none takes from them.
pub struct Shares {
    end: Instant,
    /// How long a round of each part that is left takes, together.
    seconds: u64,
}

impl Shares {
    /// Returns the shares of parts until a time. A round of all of them takes so many seconds, about.
    pub const fn new(end: Instant, seconds: u64) -> Self {
        Self { end, seconds }
    }

    /// Returns when the share of the next part is over, a round of which takes so many seconds, about.
    pub fn next(&mut self, seconds: u64) -> Instant {
        let now = Instant::now();
        let left = self.end.saturating_duration_since(now).as_secs_f64();
        let share = left * seconds as f64 / self.seconds.max(1) as f64;
        self.seconds = self.seconds.saturating_sub(seconds);
        now + Duration::from_secs_f64(share)
    }
}
