//! How many commands users send without a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::UserId;
use kit::bucket::Bucket;

use super::limits::Limits;

/// The time to wait when as many commands of a user as may be are unanswered.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Users of at least this number are searched for those who are idle, as it doubles.
const SMALLEST_CLEANED: usize = 64;

/// Commands without a connection: a user has as many unanswered as they may have connections, and sends as many as one connection
/// may.
pub(crate) struct Exchanges {
    limits: Arc<Limits>,
    users: Mutex<HashMap<UserId, OfUser>>,
}

struct OfUser {
    unanswered: usize,
    bucket: Bucket,
}

impl Exchanges {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, users: Mutex::default() }
    }

    /// Begins a command of a user; an error is the time to wait.
    pub(crate) fn begin(self: &Arc<Self>, user: UserId, now: Instant) -> Result<Exchange, Duration> {
        let mut users = self.lock();
        if users.len() >= SMALLEST_CLEANED && users.len().is_power_of_two() && !users.contains_key(&user) {
            users.retain(|_, of| of.unanswered > 0 || !of.bucket.is_full(now));
        }
        let Limits { frames_per_second, frames_burst, commands_per_user, .. } = *self.limits;
        let of = users.entry(user).or_insert_with(|| OfUser {
            unanswered: 0,
            bucket: Bucket::new(frames_per_second, frames_burst, now),
        });
        if let Some(ready) = of.bucket.ready_at(1, now) {
            return Err(ready.saturating_duration_since(now));
        }
        if of.unanswered >= commands_per_user {
            return Err(RETRY_AFTER);
        }
        of.unanswered += 1;
        of.bucket.take(1, now);
        Ok(Exchange { exchanges: self.clone(), user })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, OfUser>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that is unanswered until this is dropped.
pub(crate) struct Exchange {
    exchanges: Arc<Exchanges>,
    user: UserId,
}

impl Exchange {
    /// Notes that the command was not as it should be.
    pub(crate) fn fault(&self, now: Instant) {
        if let Some(of) = self.exchanges.lock().get_mut(&self.user) {
            of.bucket.take(self.exchanges.limits.fault_frames, now);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(of) = self.exchanges.lock().get_mut(&self.user) {
            of.unanswered -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn exchanges() -> Arc<Exchanges> {
        let limits = Limits {
            frames_per_second: 10,
            frames_burst: 30,
            commands_per_user: 2,
            fault_frames: 20,
            ..Limits::default()
        };
        Arc::new(Exchanges::new(Arc::new(limits)))
    }

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn a_user_has_so_many_unanswered_and_another_one_is_not_held_back() {
        let (exchanges, now) = (exchanges(), Instant::now());
        let begin = |n| exchanges.begin(user(n), now);
        let (first, _second) = (begin(1).expect("room"), begin(1).expect("room"));
        assert_eq!(begin(1).err(), Some(RETRY_AFTER));
        assert!(begin(2).is_ok());
        drop(first);
        assert!(begin(1).is_ok());
    }

    #[test]
    fn a_user_has_the_rate_of_one_connection_and_a_fault_costs_more() {
        let (exchanges, now) = (exchanges(), Instant::now());
        let taken = || std::iter::from_fn(|| exchanges.begin(user(1), now).ok()).map(drop).count();
        exchanges.begin(user(1), now).expect("a full bucket").fault(now);
        assert_eq!(taken(), 9, "20 and 1 of 30 are gone");
        let wait = exchanges.begin(user(1), now).err().expect("the burst is used up");
        assert!(wait.abs_diff(Duration::from_millis(100)) < Duration::from_millis(1), "{wait:?}");
    }

    #[test]
    fn idle_users_are_forgotten() {
        let (exchanges, start) = (exchanges(), Instant::now());
        for n in 0..10_000 {
            let now = start + Duration::from_millis(10) * n;
            drop(exchanges.begin(user(n.into()), now).expect("a full bucket"));
        }
        let kept = exchanges.lock().len();
        assert!(kept < 9_000, "{kept} of 10,000 are kept");
    }
}
