//! When to look at a tenant again.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use crate::{locks::lock, status::Urgency};

/// What is under way (a pod that starts) is looked at often at first: it usually takes a few seconds.
const WAITING: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// What failed is retried with exponential backoff, and never more rarely than an administrator would.
const FAILED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Waits of about two minutes.
const YOUNG: u32 = 20;

/// Counts per tenant. A backoff starts over when the tenant is edited, and when it is steady.
pub(crate) struct Retries {
    drift: Duration,
    /// Returns a number from 0 to 1 by chance.
    chance: fn() -> f64,
    counts: Mutex<HashMap<String, Count>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    generation: i64,
    waited: u32,
    failed: u32,
}

impl Retries {
    /// `drift` is how often a steady tenant is compared with cluster and backends; `chance` returns a number from 0 to 1.
    pub fn new(drift: Duration, chance: fn() -> f64) -> Self {
        Self { drift, chance, counts: Mutex::default() }
    }

    /// Returns how long to wait before the next pass. Jitter keeps tenants that failed together from coming back together.
    pub fn next(&self, uid: &str, generation: i64, urgency: Urgency) -> Duration {
        let delay = self.delay(uid, generation, urgency);
        let jitter = match urgency {
            Urgency::Steady | Urgency::ActionRequired => 0.1,
            Urgency::Retry | Urgency::Waiting => 0.25,
        };
        delay.mul_f64(1.0 + jitter * (2.0 * (self.chance)() - 1.0))
    }

    /// Reports whether the tenant was waited for only a few times: what was just set up may not have propagated yet.
    pub fn is_young(&self, uid: &str) -> bool {
        let counts = lock(&self.counts);
        counts.get(uid).is_none_or(|count| count.waited < YOUNG)
    }

    /// Reports whether the tenant was waited for, and not often, since it was steady last.
    pub fn is_under_way(&self, uid: &str) -> bool {
        lock(&self.counts).get(uid).is_some_and(|count| (1..YOUNG).contains(&count.waited))
    }

    /// Returns how many passes in a row ended with a failure.
    pub fn failures(&self, uid: &str) -> u32 {
        lock(&self.counts).get(uid).map_or(0, |count| count.failed)
    }

    pub fn forget(&self, uid: &str) {
        lock(&self.counts).remove(uid);
    }

    fn delay(&self, uid: &str, generation: i64, urgency: Urgency) -> Duration {
        let mut counts = lock(&self.counts);
        let count = counts.entry(uid.to_owned()).or_default();
        if count.generation != generation {
            *count = Count { generation, ..Count::default() };
        }
        match urgency {
            Urgency::Steady | Urgency::ActionRequired => {
                (count.waited, count.failed) = (0, 0);
                self.drift
            }
            Urgency::Retry => {
                count.failed += 1;
                doubled(FAILED, 2.0, count.failed)
            }
            Urgency::Waiting => {
                count.waited += 1;
                doubled(WAITING, 1.3, count.waited)
            }
        }
    }
}

/// Returns `first * factor^(times-1)`, at most `last`.
fn doubled((first, last): (Duration, Duration), factor: f64, times: u32) -> Duration {
    // Beyond 32 times both series have long reached their end.
    let exponent = i32::try_from(times.clamp(1, 32) - 1).expect("at most 31");
    first.mul_f64(factor.powi(exponent)).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries() -> Retries {
        Retries::new(Duration::from_secs(60), || 0.5)
    }

    #[test]
    fn failures_back_off_and_an_edit_starts_over() {
        let retries = retries();
        let delays: Vec<_> = (0..9).map(|_| retries.delay("a", 1, Urgency::Retry).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retries.delay("a", 2, Urgency::Retry).as_secs(), 1);
        assert_eq!(retries.delay("b", 1, Urgency::Retry).as_secs(), 1);
    }

    #[test]
    fn a_steady_tenant_is_looked_at_in_its_time_give_or_take_a_tenth() {
        let next = |chance: fn() -> f64| {
            let delay = Retries::new(Duration::from_secs(60), chance).next("a", 1, Urgency::Steady);
            delay.as_secs_f64().round()
        };
        assert_eq!((next(|| 0.0), next(|| 0.5), next(|| 1.0)), (54.0, 60.0, 66.0));
    }

    #[test]
    fn a_tenant_is_under_way_from_its_first_wait_until_it_is_steady_or_takes_too_long() {
        let retries = retries();
        assert!(!retries.is_under_way("a"));
        retries.delay("a", 1, Urgency::Waiting);
        assert!(retries.is_under_way("a"));
        retries.delay("a", 1, Urgency::Steady);
        retries.delay("a", 1, Urgency::Retry);
        assert!(!retries.is_under_way("a"));
        (0..40).for_each(|_| _ = retries.delay("a", 1, Urgency::Waiting));
        assert!(!retries.is_under_way("a"));
    }

    #[test]
    fn what_is_under_way_is_asked_soon_and_never_rarely() {
        let retries = retries();
        let delays: Vec<_> = (0..40).map(|_| retries.delay("a", 1, Urgency::Waiting)).collect();
        assert_eq!(delays[0], Duration::from_millis(500));
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(10)));
    }
}
