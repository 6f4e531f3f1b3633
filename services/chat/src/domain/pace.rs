//! How fast scheduled messages are sent: as fast as their user may send by hand, and so that others find room.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kit::{
    catalog::{ENTRY_BYTES, Rate},
    config::SendRates,
};

/// All scheduled messages together have one in so many of what a chat and the tenant may take. The rest is left to those who write by hand,
/// whom gateways would refuse: a scheduled message waits.
const SHARE: u32 = 2;

/// What was taken of two buckets, one of entries and one of bytes. Of each it is the time at which it is full again: until then as much is
/// missing as comes in meanwhile. A time that is past is a full bucket, so there is nothing to keep. A `kit::bucket::Bucket` runs by the
/// clock of one process; this is a row that all of them take from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub sends_until: DateTime<Utc>,
    pub bytes_until: DateTime<Utc>,
}

/// What scheduled messages have taken of a user, of a chat and of the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    pub rates: SendRates,
    pub user: Spent,
    pub chat: Spent,
    pub tenant: Spent,
}

/// There is no room for a message until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Its user or its chat has sent enough: others go on.
    Here(DateTime<Utc>),
    /// All have sent enough.
    Anywhere(DateTime<Utc>),
}

/// Rates of entries and of bytes, and how often a message counts for them.
#[derive(Clone, Copy)]
struct Allowance {
    sends: Rate,
    bytes: Rate,
    times: u32,
}

impl Pace {
    /// Takes the room for a text of so many bytes; when there is not enough, none.
    pub fn take(&mut self, body_bytes: usize, now: DateTime<Utc>) -> Result<(), NoRoom> {
        let SendRates { user_sends, user_bytes, chat_sends, chat_bytes, tenant_sends, tenant_bytes } =
            self.rates;
        let user = Allowance { sends: user_sends, bytes: user_bytes, times: 1 };
        let chat = Allowance { sends: chat_sends, bytes: chat_bytes, times: SHARE };
        let tenant = Allowance { sends: tenant_sends, bytes: tenant_bytes, times: SHARE };
        let here = user.ready_at(self.user, body_bytes, now).max(chat.ready_at(self.chat, body_bytes, now));
        if let Some(at) = here {
            return Err(NoRoom::Here(at));
        }
        if let Some(at) = tenant.ready_at(self.tenant, body_bytes, now) {
            return Err(NoRoom::Anywhere(at));
        }
        self.user = user.after(self.user, body_bytes, now);
        self.chat = chat.after(self.chat, body_bytes, now);
        self.tenant = tenant.after(self.tenant, body_bytes, now);
        Ok(())
    }
}

impl Allowance {
    /// Returns when there is room; `None` when there is now.
    fn ready_at(self, spent: Spent, body_bytes: usize, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (sends, bytes) = self.costs(body_bytes);
        let ready = |rate: Rate, until: DateTime<Utc>, cost: u32| {
            // What is more than the bucket holds waits until it is full.
            let rest = rate.burst().saturating_sub(cost);
            Some(until - time(rate, rest)).filter(|ready| *ready > now)
        };
        ready(self.sends, spent.sends_until, sends).max(ready(self.bytes, spent.bytes_until, bytes))
    }

    fn after(self, spent: Spent, body_bytes: usize, now: DateTime<Utc>) -> Spent {
        let (sends, bytes) = self.costs(body_bytes);
        Spent {
            sends_until: spent.sends_until.max(now) + time(self.sends, sends),
            bytes_until: spent.bytes_until.max(now) + time(self.bytes, bytes),
        }
    }

    /// Returns what a text costs, as gateways count it.
    fn costs(self, body_bytes: usize) -> (u32, u32) {
        let bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES);
        (self.times, bytes.saturating_mul(self.times))
    }
}

/// Returns how long so much takes to come in.
fn time(rate: Rate, count: u32) -> TimeDelta {
    let seconds = f64::from(count) / rate.each_second();
    TimeDelta::from_std(Duration::from_secs_f64(seconds)).expect("no rate is that slow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + ms).expect("a moment")
    }

    fn pace(rates: SendRates) -> Pace {
        Pace { rates, ..Pace::default() }
    }

    /// Returns how many short texts there is room for at a moment.
    fn taken(pace: &mut Pace, now: DateTime<Utc>) -> usize {
        std::iter::from_fn(|| pace.take(2, now).ok()).count()
    }

    #[test]
    fn a_user_has_a_burst_and_then_a_rate() {
        let mut pace = pace(SendRates { user_sends: Rate::per_second(10, 20), ..SendRates::DEFAULT });
        assert_eq!(taken(&mut pace, at(0)), 20);
        assert_eq!(pace.take(2, at(0)), Err(NoRoom::Here(at(100))));
        assert_eq!(taken(&mut pace, at(99)), 0);
        assert_eq!(taken(&mut pace, at(100)), 1);
        assert_eq!(taken(&mut pace, at(1_100)), 10);
        assert_eq!(taken(&mut pace, at(60_000)), 20, "a pause gives the burst back and no more");
    }

    #[test]
    fn bytes_count_beside_entries() {
        let mut pace =
            pace(SendRates { user_bytes: Rate::per_second(1_024, 4 * 1_024), ..SendRates::DEFAULT });
        let large = 1_024 - ENTRY_BYTES as usize;
        for _ in 0..4 {
            pace.take(large, at(0)).expect("room");
        }
        assert_eq!(pace.take(large, at(0)), Err(NoRoom::Here(at(1_000))));
        // One that is larger than the bucket waits until it is full, and those behind it for what it took more.
        let huge = 8 * 1_024 - ENTRY_BYTES as usize;
        assert_eq!(pace.take(huge, at(3_000)), Err(NoRoom::Here(at(4_000))));
        pace.take(huge, at(4_000)).expect("a full bucket");
        assert_eq!(pace.take(large, at(4_000)), Err(NoRoom::Here(at(9_000))));
    }

    #[test]
    fn a_share_of_what_a_chat_and_the_tenant_take_is_left_to_others() {
        let rates = SendRates {
            chat_sends: Rate::per_second(10, 40),
            tenant_sends: Rate::per_second(20, 60),
            ..SendRates::DEFAULT
        };
        let mut one = pace(rates);
        assert_eq!(taken(&mut one, at(0)), 20, "half of 40");
        assert_eq!(one.take(2, at(0)), Err(NoRoom::Here(at(200))), "5 a second are half of 10");
        let mut other = Pace { tenant: one.tenant, ..pace(rates) };
        assert_eq!(taken(&mut other, at(0)), 10, "half of 60, less what the first chat took");
        let before = (other.user, other.chat);
        assert_eq!(other.take(2, at(0)), Err(NoRoom::Anywhere(at(100))));
        assert_eq!((other.user, other.chat), before, "what finds no room takes none");
    }
}
