//! How much users and chats may send, and less of it while the messenger lags.
//!
//! Every gateway counts twice. It counts what it takes from its own clients when it takes it. And it counts what any
//! gateway took when that comes back on `message.delivered`, which each of them reads whole. A send needs room in both
//! counts. The first bounds a burst at once. The second bounds the sum over all gateways: what the others took is a
//! debt here, so a user who sends through several gateways is held to the rate of one, without a store that every send
//! would wait for.

use std::{
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::{ChatId, UserId};
use kit::bucket::Bucket;

use super::limits::{Rate, SendRates};
use crate::sharded::Sharded;

/// A send that takes longer until it is stored shows that more comes in than the messenger handles.
const LAG: Duration = Duration::from_secs(2);
/// How long a send that took too long counts.
const LAG_REMEMBERED: Duration = Duration::from_secs(2);
/// What a send costs while the messenger lags: who sends much is held back before those who send now and then.
const LAGGING_COST: u32 = 10;
/// Room of the second count in bursts: records of a burst come back bunched, which must not look like a second burst.
const RETURNING_BURSTS: u32 = 2;
/// A shard of at least this many keys is cleaned of idle ones as it doubles.
const SMALLEST_CLEANED: usize = 64;

/// The rates of all users and chats that sent lately.
pub(crate) struct Rates {
    users: Counters<UserId>,
    chats: Counters<ChatId>,
    lagging_until: Mutex<Option<Instant>>,
}

impl Rates {
    pub(crate) fn new(rates: &SendRates) -> Self {
        Self {
            users: Counters::new(rates.user()),
            chats: Counters::new(rates.chat()),
            lagging_until: Mutex::default(),
        }
    }

    /// Counts a send of a user; an error is the time to wait, and counts nothing.
    pub(crate) fn take_user(&self, user: UserId, now: Instant) -> Result<(), Duration> {
        self.users.take(user, self.cost(now), now)
    }

    /// Counts a send into a chat, of a member: another user must not use up what the members have.
    pub(crate) fn take_chat(&self, chat: ChatId, now: Instant) -> Result<(), Duration> {
        self.chats.take(chat, self.cost(now), now)
    }

    /// Counts a send that came back on `message.delivered`, whichever gateway took it.
    pub(crate) fn returned(&self, chat: ChatId, user: UserId, now: Instant) {
        self.users.returned(user, now);
        self.chats.returned(chat, now);
    }

    /// Notes how long a send of this gateway took until it came back.
    pub(crate) fn took(&self, time: Duration, now: Instant) {
        if time >= LAG {
            *self.lagging_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + LAG_REMEMBERED);
        }
    }

    fn cost(&self, now: Instant) -> u32 {
        let until = *self.lagging_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| now < until) { LAGGING_COST } else { 1 }
    }
}

/// A pair of counts for each key. A key whose buckets are full is not kept: there are as many as sent in the time that
/// a bucket takes to fill.
struct Counters<K> {
    rate: Rate,
    counts: Sharded<K, Counts>,
}

struct Counts {
    /// What this gateway took.
    taken: Bucket,
    /// What came back, of all gateways.
    returned: Bucket,
}

impl<K: Copy + Eq + Hash> Counters<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, counts: Sharded::default() }
    }

    fn take(&self, key: K, cost: u32, now: Instant) -> Result<(), Duration> {
        self.with(key, now, |counts| {
            let ready = counts.taken.ready_at(cost, now).max(counts.returned.ready_at(1, now));
            if let Some(ready) = ready {
                return Err(ready.saturating_duration_since(now));
            }
            counts.taken.take(cost, now);
            Ok(())
        })
    }

    fn returned(&self, key: K, now: Instant) {
        self.with(key, now, |counts| counts.returned.take(1, now));
    }

    fn with<T>(&self, key: K, now: Instant, change: impl FnOnce(&mut Counts) -> T) -> T {
        let mut shard = self.counts.write(&key);
        if shard.len() >= SMALLEST_CLEANED && shard.len().is_power_of_two() && !shard.contains_key(&key) {
            shard.retain(|_, counts| !(counts.taken.is_full(now) && counts.returned.is_full(now)));
        }
        let Rate { per_second, burst } = self.rate;
        change(shard.entry(key).or_insert_with(|| Counts {
            taken: Bucket::new(per_second, burst, now),
            returned: Bucket::new(per_second, burst.saturating_mul(RETURNING_BURSTS), now),
        }))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn chat() -> ChatId {
        ChatId(Uuid::from_u128(1))
    }

    fn rates() -> Rates {
        Rates::new(&SendRates {
            user_sends_per_second: 10,
            user_sends_burst: 20,
            chat_sends_per_second: 30,
            chat_sends_burst: 30,
        })
    }

    /// Returns how many sends of a user are taken now.
    fn taken(rates: &Rates, n: u128, now: Instant) -> usize {
        std::iter::from_fn(|| rates.take_user(user(n), now).ok()).count()
    }

    #[test]
    fn a_user_has_a_burst_then_a_rate_and_the_time_to_wait() {
        let (rates, start) = (rates(), Instant::now());
        assert_eq!(taken(&rates, 1, start), 20);
        let wait = rates.take_user(user(1), start).expect_err("the burst is used up");
        assert!(wait.abs_diff(Duration::from_millis(100)) < Duration::from_millis(1), "{wait:?}");
        assert_eq!(taken(&rates, 2, start), 20, "another user is not held back");
        assert_eq!(taken(&rates, 1, start + wait), 1);
    }

    #[test]
    fn a_chat_has_a_rate_over_all_its_members() {
        let (rates, start) = (rates(), Instant::now());
        assert_eq!(std::iter::from_fn(|| rates.take_chat(chat(), start).ok()).count(), 30);
        assert!(rates.take_chat(ChatId(Uuid::from_u128(2)), start).is_ok());
    }

    #[test]
    fn what_other_gateways_took_holds_a_user_to_the_rate_of_one() {
        // Two gateways, one user, a tenth of a second until a send is back at both.
        let (one, two, start) = (rates(), rates(), Instant::now());
        let mut back = std::collections::VecDeque::new();
        let mut total = 0;
        const SECONDS: u64 = 60;
        for step in 0..SECONDS * 100 {
            let now = start + Duration::from_millis(step * 10);
            while back.front().is_some_and(|due| *due <= now) {
                back.pop_front();
                one.returned(chat(), user(1), now);
                two.returned(chat(), user(1), now);
            }
            for gateway in [&one, &two] {
                for _ in 0..taken(gateway, 1, now) {
                    total += 1;
                    back.push_back(now + Duration::from_millis(100));
                }
            }
        }
        let allowed = 10 * SECONDS + 3 * 20;
        assert!((10 * SECONDS..=allowed).contains(&total), "{total} sends");
    }

    #[test]
    fn one_gateway_alone_is_not_held_back_by_its_own_sends() {
        let (rates, start) = (rates(), Instant::now());
        let mut total = 0;
        let mut back = 0;
        // A second until a send is back, all of a second bunched.
        for step in 0..600 {
            let now = start + Duration::from_millis(step * 100);
            if step % 10 == 0 {
                for _ in 0..std::mem::take(&mut back) {
                    rates.returned(chat(), user(1), now);
                }
            }
            let count = taken(&rates, 1, now);
            total += count;
            back += count;
        }
        assert!(total >= 600, "{total} sends in 60 s");
    }

    #[test]
    fn while_the_messenger_lags_who_sends_much_is_held_back_first() {
        let (rates, start) = (rates(), Instant::now());
        rates.took(LAG - Duration::from_millis(1), start);
        assert!(rates.take_user(user(1), start).is_ok());
        rates.took(LAG, start);
        assert_eq!(taken(&rates, 1, start), 1, "19 are left, and a send costs 10");
        assert_eq!(taken(&rates, 2, start), 2, "a user who was quiet sends on");
        let over = start + LAG_REMEMBERED;
        assert_eq!(taken(&rates, 2, over), 20, "and it is over as soon as nothing lags");
    }

    #[test]
    fn idle_users_are_forgotten() {
        let (rates, start) = (rates(), Instant::now());
        let later = start + Duration::from_secs(60);
        for n in 0..100_000 {
            let now = if n < 50_000 { start } else { later };
            rates.take_user(user(n), now).expect("a full bucket");
        }
        for n in 100_000..200_000 {
            rates.take_user(user(n), later + Duration::from_secs(60)).expect("a full bucket");
        }
        let kept: usize = rates.users.counts.all().map(|shard| shard.len()).sum();
        assert!(kept < 180_000, "{kept} of 200,000 are kept");
    }
}
