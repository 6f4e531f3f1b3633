//! Providers that take nothing at present.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use contracts::{UserId, api::NotificationChannel};
use tokio::time::Instant;

use super::{Busy, MAX_OF_HOST, Target};

/// After so many failures in a row a provider is down,
const FAILURES: usize = 8;
/// if they are of so many users at least: one whose endpoints fail keeps no other user waiting.
const USERS: usize = 3;
/// How often one job shows whether a provider that is down is back.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Failures at a provider that nobody asked for so long are forgotten.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Which providers fail, as this process sees them. While one is down, its jobs wait where they are: they cost no look at other services and no
/// attempt, and when it is back all of them are due at once.
///
/// A provider is the host of a push service, or all of a channel with one provider. The servers of webhooks are their users' own, and a relay
/// refuses mails one by one: neither is one.
#[derive(Debug, Default)]
pub struct Providers {
    failing: HashMap<String, Failing>,
}

#[derive(Debug)]
struct Failing {
    failures: usize,
    users: BTreeSet<UserId>,
    /// The last failure.
    at: Instant,
}

impl Failing {
    fn is_down(&self) -> bool {
        self.failures >= FAILURES && self.users.len() >= USERS
    }

    /// Returns when it is tried again.
    fn try_at(&self) -> Instant {
        self.at + TRY_EVERY
    }
}

impl Providers {
    /// Notes that what a user is sent was answered, whatever the answer is. Returns the provider that is back.
    pub fn answered(&mut self, target: &Target) -> Option<String> {
        let (provider, failing) = self.failing.remove_entry(provider_of(target)?)?;
        failing.is_down().then_some(provider)
    }

    /// Notes that a provider takes nothing from a user at present. Returns the provider that is down since now.
    pub fn failed(&mut self, target: &Target, user: UserId, now: Instant) -> Option<String> {
        let provider = provider_of(target)?;
        if !self.failing.contains_key(provider) {
            // Users name the hosts: what is kept of them is bounded by what is sent.
            self.failing.retain(|_, failing| now.duration_since(failing.at) < REMEMBERED_FOR);
        }
        let none = || Failing { failures: 0, users: BTreeSet::new(), at: now };
        let failing = self.failing.entry(provider.to_owned()).or_insert_with(none);
        let was_down = failing.is_down();
        failing.failures += 1;
        failing.at = now;
        if failing.users.len() < USERS {
            failing.users.insert(user);
        }
        (failing.is_down() && !was_down).then(|| provider.to_owned())
    }

    /// Notes that a provider is there and takes nothing for one endpoint at present. That says nothing of the others, and while the provider is down,
    /// nothing of whether it is back: the next try waits.
    pub fn limited(&mut self, target: &Target, now: Instant) {
        let failing = provider_of(target).and_then(|provider| self.failing.get_mut(provider));
        if let Some(failing) = failing.filter(|failing| failing.is_down()) {
            failing.at = now;
        }
    }

    /// Returns what is down, and when it is tried again.
    pub fn down(&self) -> BTreeMap<String, Instant> {
        self.all_down().map(|(provider, failing)| (provider.clone(), failing.try_at())).collect()
    }

    fn all_down(&self) -> impl Iterator<Item = (&String, &Failing)> {
        self.failing.iter().filter(|(_, failing)| failing.is_down())
    }

    /// Reports whether those are down who are asked to take what is sent there.
    pub fn is_down(&self, target: &Target) -> bool {
        provider_of(target).and_then(|provider| self.failing.get(provider)).is_some_and(Failing::is_down)
    }

    /// Counts the places of hosts that are down as taken, but for one when it is time to try.
    pub fn hold(&self, busy: &mut Busy, now: Instant) {
        for (provider, failing) in self.all_down() {
            let running = busy.hosts.get(provider).copied().unwrap_or(0);
            let tries = running == 0 && now >= failing.try_at();
            busy.hosts.insert(provider.clone(), MAX_OF_HOST - i64::from(tries));
        }
    }

    /// Returns how many of the free places of a channel are to be used: of one whose only provider is down, one when it is time to try.
    pub fn places(&self, channel: NotificationChannel, free: usize, running: usize, now: Instant) -> usize {
        match self.failing.get(channel.as_str()).filter(|failing| failing.is_down()) {
            None => free,
            Some(failing) => usize::from(running == 0 && now >= failing.try_at()).min(free),
        }
    }
}

/// Returns who is asked to take what is sent there; `None` where that is each user's own.
fn provider_of(target: &Target) -> Option<&str> {
    match target {
        Target::WebPush { .. } => target.host(),
        Target::Fcm { .. } | Target::Sms { .. } => Some(target.channel().as_str()),
        Target::Webhook { .. } | Target::Email { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn push(host: &str) -> Target {
        let endpoint = Url::parse(&format!("https://{host}/send")).unwrap();
        Target::WebPush { endpoint, public_key: vec![], auth: vec![], sender_key: String::new() }
    }

    /// Returns how many jobs to a host have a place beside those that run.
    fn free(providers: &Providers, host: &str, running: i64, now: Instant) -> i64 {
        let mut busy = Busy::default();
        busy.hosts.insert(host.to_owned(), running);
        providers.hold(&mut busy, now);
        MAX_OF_HOST - busy.hosts[host]
    }

    #[tokio::test]
    async fn a_provider_that_fails_for_many_is_tried_now_and_then_until_it_answers() {
        let (mut providers, start) = (Providers::default(), Instant::now());
        let users: Vec<UserId> = (0..USERS).map(|_| UserId::generate()).collect();
        let down =
            (0..FAILURES).filter_map(|n| providers.failed(&push("a.example"), users[n % USERS], start));
        assert_eq!(down.collect::<Vec<_>>(), ["a.example"], "it is said once");
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(free(&providers, "a.example", 0, at(4)), 0);
        assert_eq!(free(&providers, "a.example", 0, at(5)), 1);
        assert_eq!(free(&providers, "a.example", 1, at(5)), 0, "one tries");
        assert_eq!(free(&providers, "b.example", 2, at(5)), MAX_OF_HOST - 2, "the others go on");
        assert!(providers.is_down(&push("a.example")) && !providers.is_down(&push("b.example")));
        assert_eq!(providers.failed(&push("a.example"), users[0], at(5)), None);
        assert_eq!(free(&providers, "a.example", 0, at(9)), 0);
        assert_eq!(providers.answered(&push("a.example")).as_deref(), Some("a.example"));
        assert_eq!(free(&providers, "a.example", 0, at(9)), MAX_OF_HOST);
        assert_eq!(providers.answered(&push("a.example")), None);
    }

    #[tokio::test]
    async fn an_endpoint_that_is_limited_says_nothing_of_the_others() {
        let (mut providers, start) = (Providers::default(), Instant::now());
        for _ in 0..10 * FAILURES {
            providers.limited(&push("a.example"), start);
        }
        assert!(!providers.is_down(&push("a.example")) && providers.down().is_empty());
        for _ in 0..FAILURES {
            providers.failed(&push("a.example"), UserId::generate(), start);
        }
        let down = |at: Instant| BTreeMap::from([("a.example".to_owned(), at + TRY_EVERY)]);
        assert_eq!(providers.down(), down(start));
        // It was tried, and is not back for that.
        let later = start + TRY_EVERY;
        providers.limited(&push("a.example"), later);
        assert!(providers.is_down(&push("a.example")));
        assert_eq!(providers.down(), down(later));
    }

    #[tokio::test]
    async fn what_fails_for_few_users_is_theirs() {
        let (mut providers, now) = (Providers::default(), Instant::now());
        let users: Vec<UserId> = (1..USERS).map(|_| UserId::generate()).collect();
        for n in 0..10 * FAILURES {
            assert_eq!(providers.failed(&push("a.example"), users[n % users.len()], now), None);
        }
        assert_eq!(free(&providers, "a.example", 0, now), MAX_OF_HOST);
        // One answer ends the row.
        providers.answered(&push("a.example"));
        assert_eq!(providers.failed(&push("a.example"), UserId::generate(), now), None);
        assert_eq!(free(&providers, "a.example", 0, now), MAX_OF_HOST);
    }

    #[tokio::test]
    async fn a_channel_with_one_provider_waits_for_it_and_servers_of_users_keep_nobody_waiting() {
        let (mut providers, now) = (Providers::default(), Instant::now());
        let app = Target::Fcm { token: "an app".to_owned() };
        let url = Url::parse("https://hooks.example/").unwrap();
        let hook = Target::Webhook { url, secret: "a secret".to_owned().into() };
        for _ in 0..FAILURES {
            providers.failed(&app, UserId::generate(), now);
            assert_eq!(providers.failed(&hook, UserId::generate(), now), None);
        }
        let (fcm, later) = (NotificationChannel::Fcm, now + TRY_EVERY);
        assert_eq!(providers.places(fcm, 32, 0, now), 0);
        assert_eq!(providers.places(fcm, 32, 0, later), 1);
        assert_eq!(providers.places(fcm, 31, 1, later), 0);
        assert_eq!(providers.places(NotificationChannel::Webhook, 32, 0, now), 32);
        assert_eq!(free(&providers, "hooks.example", 0, now), MAX_OF_HOST);
        assert_eq!(providers.answered(&app).as_deref(), Some("fcm"));
        assert_eq!(providers.places(fcm, 32, 0, now), 32);
    }

    #[tokio::test]
    async fn hosts_that_nobody_asks_any_more_are_forgotten() {
        let (mut providers, now) = (Providers::default(), Instant::now());
        for n in 0..100 {
            providers.failed(&push(&format!("{n}.example")), UserId::generate(), now);
        }
        providers.failed(&push("a.example"), UserId::generate(), now + REMEMBERED_FOR);
        assert_eq!(providers.failing.len(), 1);
    }
}
