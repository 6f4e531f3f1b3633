//! Makes jobs of what is due, keeps the chats of users, and removes devices whose sessions do not go on: what processes of this service do beside
//! sending. None of them leads: what two of them begin at once, the store lets one do.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{SessionId, UserId, api::NotificationChannel};
use kit::{backoff::Backoff, error::chain, rounds};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{BOUND_WITHIN, CODES_COUNT_FOR, DEAD_DAYS, ENDS_COUNT_FOR, SEEN_FOR, Unseen, pause_until},
    error::Error,
    metrics::Metrics,
    peers::Peers,
    store::{NotificationStore, StoreError},
};

/// Chats whose news one transaction takes.
const SPREAD_CHATS: usize = 20;
/// How often it is looked for users whose chats are to be listed. One who subscribes does not wait for it.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
/// The chats of a user are listed again after so long: `chat.events` may have lost a record.
const LISTED_FOR: TimeDelta = TimeDelta::hours(6);
/// Users whose chats are listed in one round.
const LIST_USERS: usize = 50;
/// One for whom it fails comes again after so long, behind the others.
const LIST_AGAIN: TimeDelta = TimeDelta::seconds(30);
/// When it fails for so many in a row, it is no user's fault: the round ends.
const LIST_FAILURES: usize = 3;
/// Devices whose sessions are asked for in one round, each user's with one call, one after the other: the realm serves all tenants of a cell.
const LOOK_DEVICES: usize = 20;
/// Between two rounds while more are due, and otherwise.
const LOOK_PACE: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// A process has devices for so long, and they come again after it where nothing was noted of them.
const LOOK_LEASE: TimeDelta = TimeDelta::minutes(5);
/// How often jobs and devices without a session are counted, and jobs forgotten that were given up, with codes and ends of sessions that count no more.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(15);

/// What the tasks need. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    pub store: Arc<dyn NotificationStore>,
    pub peers: Peers,
    pub metrics: Metrics,
    /// There is a user whose chats are to be listed.
    pub wake: Arc<Notify>,
    /// A device has so long to take a message before its user is notified.
    pub delay: TimeDelta,
    /// The senders of this process: there are jobs.
    pub senders: Vec<Arc<Notify>>,
}

impl Maker {
    /// Makes jobs until the shutdown.
    pub async fn make(self, shutdown: CancellationToken) {
        // News of other processes are due after the delay: none of them is before the next look.
        let longest = self.delay.to_std().unwrap_or_default();
        let never = Notify::new();
        let round = || async {
            // What is left is there for the next process.
            while !shutdown.is_cancelled() && self.store.spread(now(), SPREAD_CHATS).await? > 0 {
                self.senders.iter().for_each(|sender| sender.notify_one());
            }
            Ok::<_, StoreError>(pause_until(self.store.next_news().await?, now()).min(longest))
        };
        rounds::repeat_timed("making jobs", Backoff::new(BACKOFF), &shutdown, &never, round).await;
    }

    /// Keeps the chats of users until the shutdown.
    pub async fn list(self, shutdown: CancellationToken) {
        let round = || async {
            while !shutdown.is_cancelled() && self.list_some().await? == LIST_USERS {}
            Ok::<_, Error>(())
        };
        let (what, backoff) = ("listing the chats of users", Backoff::new(BACKOFF));
        rounds::repeat_woken(what, LIST_INTERVAL, backoff, &shutdown, &self.wake, round).await;
    }

    /// Lists the chats of some users for whom it is time. Returns how many there were.
    pub async fn list_some(&self) -> Result<usize, Error> {
        let due = self.store.unlisted(now() - LISTED_FOR, LIST_USERS).await?;
        let mut failures = 0;
        for user in &due {
            let listed_at = now();
            let Err(error) = self.list_one(*user, listed_at).await else {
                failures = 0;
                continue;
            };
            failures += 1;
            self.store.list_again(*user, listed_at - LISTED_FOR + LIST_AGAIN).await?;
            if failures == LIST_FAILURES {
                return Err(error);
            }
            let cause = chain(&error);
            tracing::warn!(%user, cause, "failed to list the chats of a user, which is tried again: {cause}");
        }
        Ok(due.len())
    }

    async fn list_one(&self, user: UserId, listed_at: DateTime<Utc>) -> Result<(), Error> {
        let chats = self.peers.chats(user).await?;
        Ok(self.store.list(user, &chats, listed_at).await?)
    }

    /// Looks until the shutdown whether the sessions of devices go on.
    pub async fn look(self, shutdown: CancellationToken) {
        let never = Notify::new();
        let round = || async {
            // A realm that hangs keeps no process from its end: what was not noted comes again.
            let looked = shutdown.run_until_cancelled(self.look_at_some()).await.transpose()?;
            Ok::<_, Error>(if looked == Some(LOOK_DEVICES) { LOOK_PACE } else { LOOK_INTERVAL })
        };
        let (what, backoff) = ("asking for the sessions of devices", Backoff::new(BACKOFF));
        rounds::repeat_timed(what, backoff, &shutdown, &never, round).await;
    }

    /// Asks for the sessions of some devices that were not seen for a day, and removes those whose sessions do not go on. Returns how many there were. A user
    /// of whom it cannot be learned keeps no other waiting, and is the error.
    pub async fn look_at_some(&self) -> Result<usize, Error> {
        let looked_at = now();
        let since = looked_at - SEEN_FOR;
        let due = self.store.take_unseen(since, since + LOOK_LEASE, LOOK_DEVICES).await?;
        let count = due.len();
        let mut of_users: BTreeMap<UserId, Vec<Unseen>> = BTreeMap::new();
        for device in due {
            of_users.entry(device.user_id).or_default().push(device);
        }
        let mut outcome = Ok(count);
        for (user, devices) in of_users {
            match self.look_at(user, &devices, looked_at).await {
                Ok(()) => self.metrics.look("answered"),
                Err(error) => {
                    self.metrics.look(failed_look(user, &error));
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    async fn look_at(&self, user: UserId, devices: &[Unseen], looked_at: DateTime<Utc>) -> Result<(), Error> {
        let asked: Vec<SessionId> = devices.iter().filter_map(|device| device.session.clone()).collect();
        let going_on = self.peers.sessions(user, &asked).await?;
        for device in devices {
            if device.session.as_ref().is_some_and(|session| going_on.contains(session)) {
                self.store.note_seen(device, looked_at).await?;
            } else if self.store.end_unseen(device, now()).await? {
                let id = device.id;
                let why =
                    if device.session.is_some() { "its session is over" } else { "no session has bound it" };
                tracing::info!(subscription = %id, why, "subscription {id} is forgotten: {why}");
            }
        }
        Ok(())
    }

    /// Counts devices that are bound to no session, whose pushes end with none: a host learns of them, and they are forgotten after a month.
    pub async fn note_unbound(&self) -> Result<(), StoreError> {
        let unbound = self.store.note_unbound(now() + (BOUND_WITHIN - SEEN_FOR)).await?;
        if self.metrics.unbound(unbound) {
            let days = BOUND_WITHIN.num_days();
            tracing::warn!(
                unbound,
                "{unbound} browsers and apps are bound to no session: an earlier release subscribed them. Each is bound when the messenger is opened there, or forgotten \
                 after {days} days"
            );
        }
        Ok(())
    }

    /// Counts jobs until the shutdown, and forgets what is over.
    pub async fn count(self, shutdown: CancellationToken) {
        let round = || async {
            self.store.forget_dead(now() - TimeDelta::days(DEAD_DAYS)).await?;
            self.store.forget_codes(now() - CODES_COUNT_FOR).await?;
            self.store.forget_ends(now() - ENDS_COUNT_FOR).await?;
            let counts = self.store.counts().await?;
            for channel in NotificationChannel::ALL {
                self.metrics.counts(channel, counts.get(&channel).copied().unwrap_or_default());
            }
            self.note_unbound().await
        };
        rounds::repeat("counting jobs", COUNT_INTERVAL, Backoff::new(BACKOFF), &shutdown, round).await;
    }
}

/// Notes that it could not be learned which sessions of a user go on, and returns the outcome for the metrics. An outage is one line of the log for all
/// users, which is written by who repeats the looks.
fn failed_look(user: UserId, error: &Error) -> &'static str {
    let cause = chain(error);
    if matches!(error, Error::NoAnswer(_)) {
        tracing::error!(%user, cause, "no device of user {user} is forgotten on an answer that is none: {cause}");
        return "refused";
    }
    if error.is_outage() {
        tracing::debug!(%user, cause, "failed to list the sessions of a user: {cause}");
    } else {
        tracing::warn!(%user, cause, "failed to list the sessions of a user, which is tried again: {cause}");
    }
    "failed"
}

#[expect(clippy::disallowed_methods, reason = "an edge: what is due")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
