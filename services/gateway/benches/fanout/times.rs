//! The clock of the measurement, and how long deliveries took.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns microseconds since the measurement began.
pub fn now_us() -> u64 {
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Below twice this, every microsecond is a step; above, each doubling has this many.
const STEPS: usize = 32;
/// Enough for 19 hours.
const MOST: usize = STEPS * 33;

/// How often each time was seen, to a thirtieth.
pub struct Times(Vec<AtomicU32>);

impl Times {
    pub fn new() -> Self {
        Self((0..MOST).map(|_| AtomicU32::new(0)).collect())
    }

    pub fn add(&self, us: u64) {
        self.0[step(us).min(MOST - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the time, in milliseconds, that this share of all did not exceed.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return least_us(at) as f64 / 1_000.0;
            }
        }
        f64::NAN
    }
}

fn step(us: u64) -> usize {
    let bits = us.checked_ilog2().unwrap_or(0) as usize;
    let doublings = bits.saturating_sub(STEPS.ilog2() as usize);
    doublings * STEPS + (us >> doublings) as usize
}

/// Returns the least time of a step.
const fn least_us(step: usize) -> u64 {
    if step < 2 * STEPS {
        return step as u64;
    }
    let doublings = step / STEPS - 1;
    ((step - doublings * STEPS) as u64) << doublings
}
