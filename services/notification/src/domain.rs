//! Who is notified of what, without I/O.

mod batch;
mod hours;
mod notice;
mod phone;
mod providers;
mod session;
mod subscription;
mod ticket;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::api::NotificationChannel;

pub use self::{
    batch::{Batch, News, Seat},
    hours::{Quiet, time_of_day},
    notice::{
        Digest, Missed, Notice, NoticeText, code_text, confirmation_mail, digest_mail, digest_text, excerpt,
    },
    phone::{
        CODE_DIGITS, CODE_FOR, CODES_COUNT_FOR, CodeOutcome, MAX_CODES, MAX_TRIES, NewCode, PhoneNumber,
    },
    providers::Providers,
    session::{BOUND_WITHIN, ENDS_ARE_KEPT_FOR, ENDS_COUNT_FOR, SEEN_FOR, Unseen},
    subscription::{Busy, Job, NewSubscription, Subscription, Target},
    ticket::{Places, Taken, Ticket},
};

/// Subscriptions of one user.
pub const MAX_SUBSCRIPTIONS: usize = 20;
/// What is older is told to nobody: after an outage of days, users find it by themselves.
pub const TOLD_FOR: TimeDelta = TimeDelta::hours(24);
/// A digest comes so long after the first text that was missed.
pub const DIGEST_AFTER: TimeDelta = TimeDelta::minutes(30);
/// The next mail comes so long after it, at the earliest.
pub const DIGEST_EVERY: TimeDelta = TimeDelta::hours(4);
/// A job that was given up is kept for so long, for administrators.
pub const DEAD_DAYS: i64 = 7;
/// A job is given up after so many attempts: with the waits between them, after half a day.
pub const MAX_ATTEMPTS: i32 = 20;
/// Jobs that one process sends at once by one channel.
pub const MAX_AT_ONCE: usize = 32;
/// Those of one user among them: endpoints that do not answer are no means to keep others waiting.
pub const MAX_OF_USER: i64 = 4;
/// Those to one host among them. Most browsers have one of three push services: while one of them hangs, the others go on.
pub const MAX_OF_HOST: i64 = 16;
/// How often it is looked for what is due, at least and at most. What is due earlier is known by then, or its process is woken.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5);
/// Waits between attempts: twice as long each time, from the first to the last of these.
const FIRST_WAIT_SECONDS: i64 = 5;
const LAST_WAIT_SECONDS: i64 = 3600;

/// Returns whether a channel sums up all chats, in place of a notice for each of them.
pub const fn is_of_digests(channel: NotificationChannel) -> bool {
    matches!(channel, NotificationChannel::Email | NotificationChannel::Sms)
}

/// Returns whether what a channel sends to is a device, which is one user's at a time: the one who signed in last.
pub const fn is_of_one_device(channel: NotificationChannel) -> bool {
    matches!(channel, NotificationChannel::WebPush | NotificationChannel::Fcm)
}

/// Returns whether nothing is sent before the user has shown that what a channel sends to is theirs.
pub const fn needs_confirmation(channel: NotificationChannel) -> bool {
    matches!(channel, NotificationChannel::Email | NotificationChannel::Sms)
}

/// Returns how long to wait before it is looked again for what is due, where the first of all is due then. Past moments are those of what another process
/// has, or of what has no place.
pub fn pause_until(next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let pause = next.map(|at| (at - now).to_std().unwrap_or_default());
    pause.unwrap_or(Duration::MAX).clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end())
}

/// Returns how long to wait after so many attempts have failed.
pub fn wait_after(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(16);
    TimeDelta::seconds((FIRST_WAIT_SECONDS << doublings).min(LAST_WAIT_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_what_is_due_when_it_is_and_seldom_otherwise() {
        let now = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let pause = |ms: i64| pause_until(Some(now + TimeDelta::milliseconds(ms)), now).as_millis();
        assert_eq!([-60_000, 0, 700, 5_000, 60_000].map(pause), [500, 500, 700, 5_000, 5_000]);
        assert_eq!(pause_until(None, now).as_millis(), 5_000);
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        let waits: Vec<i64> = [0, 1, 2, 3, 11, 20, i32::MAX].map(|n| wait_after(n).num_seconds()).into();
        assert_eq!(waits, [5, 5, 10, 20, 3600, 3600, 3600]);
        let all: i64 = (1..MAX_ATTEMPTS).map(|n| wait_after(n).num_hours()).sum();
        assert!((8..14).contains(&all), "{all} h");
    }
}
