//! Who is notified of what, without I/O.

mod batch;
mod hours;
mod notice;
mod subscription;

use chrono::TimeDelta;

pub use self::{
    batch::{Batch, News, Seat},
    hours::{Quiet, time_of_day},
    notice::{Digest, Notice, NoticeText, confirmation_mail, digest_mail, excerpt},
    subscription::{Job, NewSubscription, Subscription, Target},
};

/// Subscriptions of one user.
pub const MAX_SUBSCRIPTIONS: usize = 20;
/// What is older is told to nobody: after an outage of days, users find it by themselves.
pub const TOLD_FOR: TimeDelta = TimeDelta::hours(24);
/// A digest comes so long after the first text that was missed.
pub const DIGEST_AFTER: TimeDelta = TimeDelta::minutes(30);
/// The next one comes so long after it, at the earliest.
pub const DIGEST_EVERY: TimeDelta = TimeDelta::hours(4);
/// A job that was given up is kept for so long, for administrators.
pub const DEAD_DAYS: i64 = 7;
/// A job is given up after so many attempts: with the waits between them, after half a day.
pub const MAX_ATTEMPTS: i32 = 20;
/// Waits between attempts: twice as long each time, from the first to the last of these.
const FIRST_WAIT_SECONDS: i64 = 5;
const LAST_WAIT_SECONDS: i64 = 3600;

/// Returns how long to wait after so many attempts have failed.
pub fn wait_after(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    TimeDelta::seconds((FIRST_WAIT_SECONDS << doublings).min(LAST_WAIT_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour() {
        let waits: Vec<i64> = [0, 1, 2, 3, 11, 20, i32::MAX].map(|n| wait_after(n).num_seconds()).into();
        assert_eq!(waits, [5, 5, 10, 20, 3600, 3600, 3600]);
        let all: i64 = (1..MAX_ATTEMPTS).map(|n| wait_after(n).num_hours()).sum();
        assert!((8..14).contains(&all), "{all} h");
    }
}
