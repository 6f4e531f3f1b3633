//! How much users, chats and the tenant may send, and less of it while the messenger lags.
//!
//! Every gateway counts twice, entries and bytes. It counts what it takes from its own clients when it takes it. And it counts what any
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
use kit::{
    bucket::{Bucket, Buckets},
    catalog::{ENTRY_BYTES, Limit, Rate},
};

use super::limits::RateLimits;
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

/// The rates of the tenant, and of all users and chats that sent lately.
pub(crate) struct Rates {
    users: Counters<UserId>,
    chats: Counters<ChatId>,
    tenant: (Allowance, Mutex<Counts>),
    queries: Mutex<Buckets<UserId>>,
    lagging_until: Mutex<Option<Instant>>,
}

/// More than a limit allows was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) limit: Limit,
    pub(crate) wait: Duration,
}

impl Exceeded {
    /// Returns what to tell the user.
    pub(crate) const fn detail(self) -> &'static str {
        match self.limit {
            Limit::UserSends => "you send too much; wait before you send more",
            Limit::UserBytes => "you send too many bytes; wait before you send more",
            Limit::ChatSends => "too much is sent to this chat; wait before you send more",
            Limit::ChatBytes => "too many bytes are sent to this chat; wait before you send more",
            Limit::TenantSends | Limit::TenantBytes => {
                "too much is sent by all users together; wait before you send more"
            }
            Limit::UserQueries => "you ask for too much; wait before you ask for more",
        }
    }
}

/// What something sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    sends: u32,
    bytes: u32,
}

impl Cost {
    fn of(body: usize) -> Self {
        Self { sends: 1, bytes: u32::try_from(body).unwrap_or(u32::MAX).saturating_add(ENTRY_BYTES) }
    }

    fn times(self, factor: u32) -> Self {
        Self { sends: self.sends * factor, ..self }
    }
}

impl Rates {
    pub(crate) fn new(limits: &RateLimits, now: Instant) -> Self {
        let RateLimits { sends, user_queries } = limits;
        let allowance = |sends: (Limit, Rate), bytes: (Limit, Rate)| Allowance { sends, bytes };
        let tenant =
            allowance((Limit::TenantSends, sends.tenant_sends), (Limit::TenantBytes, sends.tenant_bytes));
        Self {
            users: Counters::new(allowance(
                (Limit::UserSends, sends.user_sends),
                (Limit::UserBytes, sends.user_bytes),
            )),
            chats: Counters::new(allowance(
                (Limit::ChatSends, sends.chat_sends),
                (Limit::ChatBytes, sends.chat_bytes),
            )),
            tenant: (tenant, Mutex::new(Counts::new(&tenant, now))),
            queries: Mutex::new(Buckets::new(*user_queries)),
            lagging_until: Mutex::default(),
        }
    }

    /// Counts a send of a user with a body of so many bytes; what exceeds a limit counts nothing.
    pub(crate) fn take_user(&self, user: UserId, body: usize, now: Instant) -> Result<(), Exceeded> {
        let cost = Cost::of(body).times(self.factor(now));
        self.users.with(user, now, |allowance, counts| {
            counts.check(allowance, cost, now)?;
            counts.taken.take(cost, now);
            Ok(())
        })
    }

    /// Counts a send into a chat, of a member: another user must not use up what the members have. It counts for the tenant too.
    pub(crate) fn take_chat(&self, chat: ChatId, body: usize, now: Instant) -> Result<(), Exceeded> {
        let (tenant, all) = &self.tenant;
        let cost = Cost::of(body);
        let of_chat = cost.times(self.factor(now));
        self.chats.with(chat, now, |allowance, counts| {
            counts.check(allowance, of_chat, now)?;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.check(tenant, cost, now)?;
            all.taken.take(cost, now);
            counts.taken.take(of_chat, now);
            Ok(())
        })
    }

    /// Counts a send that came back on `message.delivered`, whichever gateway took it.
    pub(crate) fn returned(&self, chat: ChatId, user: UserId, body: usize, now: Instant) {
        let cost = Cost::of(body);
        self.users.with(user, now, |_, counts| counts.returned.take(cost, now));
        self.chats.with(chat, now, |_, counts| counts.returned.take(cost, now));
        self.tenant.1.lock().unwrap_or_else(PoisonError::into_inner).returned.take(cost, now);
    }

    /// Counts a query of a user: the work is done for this gateway, which counts alone.
    pub(crate) fn take_query(&self, user: UserId, now: Instant) -> Result<(), Exceeded> {
        let taken = self.queries.lock().unwrap_or_else(PoisonError::into_inner).try_take(user, now);
        taken.map_err(|wait| Exceeded { limit: Limit::UserQueries, wait })
    }

    /// Notes how long a send of this gateway took until it came back.
    pub(crate) fn took(&self, time: Duration, now: Instant) {
        if time >= LAG {
            *self.lagging_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + LAG_REMEMBERED);
        }
    }

    /// Returns how often a send counts now.
    fn factor(&self, now: Instant) -> u32 {
        let until = *self.lagging_until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| now < until) { LAGGING_COST } else { 1 }
    }
}

/// What something may send.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    sends: (Limit, Rate),
    bytes: (Limit, Rate),
}

/// A pair of counts for each key. A key whose buckets are full is not kept: there are as many as sent in the time that
/// a bucket takes to fill.
struct Counters<K> {
    allowance: Allowance,
    counts: Sharded<K, Counts>,
}

struct Counts {
    /// What this gateway took.
    taken: Spent,
    /// What came back, of all gateways.
    returned: Spent,
}

/// A bucket of entries, and one of bytes.
struct Spent {
    sends: Bucket,
    bytes: Bucket,
}

impl Spent {
    fn take(&mut self, cost: Cost, now: Instant) {
        self.sends.take(cost.sends, now);
        self.bytes.take(cost.bytes, now);
    }

    fn is_full(&self, now: Instant) -> bool {
        self.sends.is_full(now) && self.bytes.is_full(now)
    }
}

impl Counts {
    fn new(allowance: &Allowance, now: Instant) -> Self {
        let bucket = |(_, rate): (Limit, Rate), bursts: u32| Bucket::of(rate.with_bursts(bursts), now);
        let spent =
            |bursts| Spent { sends: bucket(allowance.sends, bursts), bytes: bucket(allowance.bytes, bursts) };
        Self { taken: spent(1), returned: spent(RETURNING_BURSTS) }
    }

    /// Refuses what there is no room for.
    fn check(&self, allowance: &Allowance, cost: Cost, now: Instant) -> Result<(), Exceeded> {
        let ready = |of: fn(&Spent) -> &Bucket, cost| {
            of(&self.taken).ready_at(cost, now).max(of(&self.returned).ready_at(1, now))
        };
        let sends = ready(|spent| &spent.sends, cost.sends).map(|at| (at, allowance.sends.0));
        let bytes = ready(|spent| &spent.bytes, cost.bytes).map(|at| (at, allowance.bytes.0));
        match sends.max(bytes) {
            None => Ok(()),
            Some((at, limit)) => Err(Exceeded { limit, wait: at.saturating_duration_since(now) }),
        }
    }
}

impl<K: Copy + Eq + Hash> Counters<K> {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, counts: Sharded::default() }
    }

    fn with<T>(&self, key: K, now: Instant, change: impl FnOnce(&Allowance, &mut Counts) -> T) -> T {
        let mut shard = self.counts.write(&key);
        if shard.len() >= SMALLEST_CLEANED && shard.len().is_power_of_two() && !shard.contains_key(&key) {
            shard.retain(|_, counts| !(counts.taken.is_full(now) && counts.returned.is_full(now)));
        }
        let counts = shard.entry(key).or_insert_with(|| Counts::new(&self.allowance, now));
        change(&self.allowance, counts)
    }
}

#[cfg(test)]
mod tests {
    use kit::config::SendRates;
    use uuid::Uuid;

    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn chat() -> ChatId {
        ChatId(Uuid::from_u128(1))
    }

    const fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::per_second(per_second, burst)
    }

    fn rates() -> Rates {
        let sends = SendRates { user_sends: rate(10, 20), chat_sends: rate(30, 30), ..SendRates::default() };
        Rates::new(&RateLimits { sends, user_queries: rate(5, 10) }, Instant::now())
    }

    /// Returns how many sends of a user are taken now.
    fn taken(rates: &Rates, n: u128, now: Instant) -> usize {
        std::iter::from_fn(|| rates.take_user(user(n), 2, now).ok()).count()
    }

    #[test]
    fn a_user_has_a_burst_then_a_rate_and_the_time_to_wait() {
        let (rates, start) = (rates(), Instant::now());
        assert_eq!(taken(&rates, 1, start), 20);
        let Exceeded { limit, wait } = rates.take_user(user(1), 2, start).expect_err("the burst is used up");
        assert_eq!(limit, Limit::UserSends);
        assert!(wait.abs_diff(Duration::from_millis(100)) < Duration::from_millis(1), "{wait:?}");
        assert_eq!(taken(&rates, 2, start), 20, "another user is not held back");
        assert_eq!(taken(&rates, 1, start + wait), 1);
    }

    #[test]
    fn a_chat_has_a_rate_over_all_its_members() {
        let (rates, start) = (rates(), Instant::now());
        assert_eq!(std::iter::from_fn(|| rates.take_chat(chat(), 2, start).ok()).count(), 30);
        assert!(rates.take_chat(ChatId(Uuid::from_u128(2)), 2, start).is_ok());
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
                one.returned(chat(), user(1), 2, now);
                two.returned(chat(), user(1), 2, now);
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
                    rates.returned(chat(), user(1), 2, now);
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
        assert!(rates.take_user(user(1), 2, start).is_ok());
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
            rates.take_user(user(n), 2, now).expect("a full bucket");
        }
        for n in 100_000..200_000 {
            rates.take_user(user(n), 2, later + Duration::from_secs(60)).expect("a full bucket");
        }
        let kept: usize = rates.users.counts.all().map(|shard| shard.len()).sum();
        assert!(kept < 180_000, "{kept} of 200,000 are kept");
    }

    #[test]
    fn bytes_count_beside_entries_and_the_refusal_says_which() {
        const LARGE: usize = 16 * 1024;
        let sends = SendRates {
            user_bytes: rate(1_024, 64 * 1024),
            chat_bytes: rate(1_024, 128 * 1024),
            ..SendRates::default()
        };
        let limits = RateLimits { sends, ..RateLimits::default() };
        let start = Instant::now();
        let rates = Rates::new(&limits, start);
        let take =
            |n| rates.take_user(user(n), LARGE, start).and_then(|()| rates.take_chat(chat(), LARGE, start));
        assert_eq!((0..3).map(|_| take(1)).filter(Result::is_ok).count(), 3);
        let refused = take(1).expect_err("what counts beside the text is too much for a fourth");
        assert_eq!(refused.limit, Limit::UserBytes);
        assert!(refused.wait < Duration::from_secs(2), "{refused:?}");
        assert!(rates.take_user(user(1), 100, start).is_ok(), "a short one has room");
        assert_eq!(
            (2..9).map(take).filter_map(Result::err).map(|of| of.limit).next(),
            Some(Limit::ChatBytes)
        );
    }

    #[test]
    fn a_tenant_has_a_limit_of_its_own_and_a_refusal_counts_for_nobody() {
        let sends = SendRates { tenant_sends: rate(1, 50), ..SendRates::default() };
        let limits = RateLimits { sends, ..RateLimits::default() };
        let start = Instant::now();
        let rates = Rates::new(&limits, start);
        let chat = |n| ChatId(Uuid::from_u128(n));
        assert_eq!((0..80).filter(|n| rates.take_chat(chat(*n), 2, start).is_ok()).count(), 50);
        let refused = rates.take_chat(chat(99), 2, start).expect_err("the tenant has sent enough");
        assert_eq!(refused.limit, Limit::TenantSends);
        // What another gateway took counts here too.
        let other = Rates::new(&limits, start);
        for n in 0..100 {
            other.returned(chat(n), user(n), 2, start);
        }
        assert_eq!(other.take_chat(chat(1), 2, start).expect_err("a debt").limit, Limit::TenantSends);
        let is_full = |n| rates.chats.counts.read(&chat(n))[&chat(n)].taken.is_full(start);
        assert!(is_full(99) && !is_full(1));
    }

    #[test]
    fn a_user_asks_for_so_much_and_waits() {
        let (rates, start) = (rates(), Instant::now());
        assert_eq!((0..20).filter(|_| rates.take_query(user(1), start).is_ok()).count(), 10);
        let Exceeded { wait, .. } = rates.take_query(user(1), start).expect_err("all are used up");
        assert!(rates.take_query(user(2), start).is_ok());
        assert!(rates.take_query(user(1), start + wait).is_ok());
    }
}
