//! Sends what is due: one task for each channel, so that a provider that is down delays its own channel alone. Within a channel, the endpoints of one
//! user and those at one host have a part of its places.
//!
//! Whether a user is notified is decided when the job is sent, from what the other services say at that moment: a message that a device took while
//! the job waited is sent nowhere. A process has a job until its lease ends; one that is killed leaves it to another.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId,
    api::{NotificationChannel, NotificationLevel},
    event::ChatKind,
};
use kit::{backoff::Backoff, error::chain, outage::Outage};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    carrier::{Carried, Carrier, Receipt},
    channels::{Channel, Content, SendError},
    domain::{Busy, Job, MAX_AT_ONCE, MAX_ATTEMPTS, Notice, Providers, Subscription, wait_after},
    error::Error,
    metrics::Metrics,
    peers::{Peers, Standing},
    store::{NotificationStore, StoreError},
};

/// Between the end of a job and the look for others, which is a statement for all places that are free by then.
pub(crate) const GATHER: Duration = Duration::from_millis(20);
/// A job takes no longer: a few calls to other services and one request to a provider.
const JOB_LIMIT: Duration = Duration::from_secs(45);
/// Longer than a job takes.
pub(crate) const LEASE: TimeDelta = TimeDelta::seconds(60);
/// What became of a job can be noted for so long after the claim: another process has it when the lease ends.
const NOTE_FOR: Duration = Duration::from_secs(55);
/// Between attempts to note it.
const NOTE_BACKOFF: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(2);
/// While another service does not answer, a job waits for so long, and one is tried so often. One that is put back waits as long. Neither is
/// counted.
const PEER_WAIT: Duration = Duration::from_secs(5);

/// Sends by one channel. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    pub store: Arc<dyn NotificationStore>,
    pub peers: Peers,
    pub name: NotificationChannel,
    pub channel: Arc<dyn Channel>,
    pub metrics: Metrics,
}

/// What outages are called in the log.
const CLAIMING: &str = "claiming jobs";
const DECIDING: &str = "deciding whether users are notified";

/// What becomes of a job whose user wants no notifications at all.
const TURNED_OFF: &str = "turned_off";

/// What fails for many jobs at once: it is two lines of the log, and not one for each of them.
struct Outages {
    deciding: Outage,
    /// The last failure to decide.
    undecided_at: Mutex<Option<Instant>>,
    /// What the tenant has set up for the channel is not taken.
    taking: Outage,
    /// What that is called.
    what: String,
}

impl Outages {
    /// Returns for how many jobs there is a place beside those that run. While other services do not answer, one shows now and then whether they do
    /// again, and the others wait where they are.
    fn places(&self, running: usize) -> usize {
        if !self.deciding.is_on() {
            return MAX_AT_ONCE.saturating_sub(running);
        }
        let failed_at = *self.undecided_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = failed_at.is_none_or(|at| at.elapsed() >= PEER_WAIT);
        usize::from(running == 0 && is_time)
    }

    fn undecided(&self, error: &Error) {
        *self.undecided_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.deciding.failed(DECIDING, error);
    }
}

/// What is to be done with a job.
enum Decision {
    Send(Content),
    /// It is not sent: the outcome for the metrics.
    Drop(&'static str),
    /// It is quiet for so long.
    Wait(TimeDelta),
}

impl Sender {
    /// Sends what a carrier brings until the shutdown, and finishes what was begun.
    pub async fn run(self, mut carrier: impl Carrier, shutdown: CancellationToken) {
        let claiming = Outage::default();
        let outages = Arc::new(Outages {
            deciding: Outage::default(),
            undecided_at: Mutex::default(),
            taking: Outage::default(),
            what: format!("sending by {}", self.name.as_str()),
        });
        let mut running: JoinSet<Option<Shown>> = JoinSet::new();
        // What they send to.
        let mut held: HashMap<Id, Subscription> = HashMap::new();
        let mut providers = Providers::default();
        while !shutdown.is_cancelled() {
            let (mut busy, at) = (Busy::with(held.values()), Instant::now());
            providers.hold(&mut busy, at);
            carrier.note_down(providers.down());
            let limit = providers.places(self.name, outages.places(running.len()), running.len(), at);
            let taken = if limit == 0 {
                Vec::new()
            } else {
                match carrier.take(limit, &busy).await {
                    Ok(taken) => {
                        claiming.worked(CLAIMING);
                        taken
                    }
                    Err(error) => {
                        claiming.failed(CLAIMING, &error);
                        Vec::new()
                    }
                }
            };
            let may_be_more = !taken.is_empty();
            for carried in taken {
                let (sender, outages) = (self.clone(), outages.clone());
                let to = carried.job.subscription.clone();
                // A queue brings what any process found due, and this one sees who is down.
                let waits = providers.is_down(&to.target) && !busy.has_place(&to);
                busy.add(&to);
                let task = running.spawn(async move {
                    if waits {
                        sender.put_back(carried).await;
                        return None;
                    }
                    sender.carry_out(carried, &outages).await
                });
                held.insert(task.id(), to);
            }
            if may_be_more && running.len() < MAX_AT_ONCE && !outages.deciding.is_on() {
                continue;
            }
            let free = outages.places(running.len());
            let has_place = providers.places(self.name, free, running.len(), Instant::now()) > 0;
            tokio::select! {
                () = shutdown.cancelled() => {}
                // A place is free: there may be more for it.
                Some(ended) = running.join_next_with_id() => {
                    note_ended(&ended, &mut held, &mut providers);
                    // What ends with it shares one look for others.
                    sleep(GATHER).await;
                }
                () = carrier.wait(), if has_place => {}
                () = sleep(PEER_WAIT), if !has_place => {}
            }
            while let Some(ended) = running.try_join_next_with_id() {
                note_ended(&ended, &mut held, &mut providers);
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Puts a job back that came while its provider is down. That is no attempt.
    async fn put_back(&self, Carried { job, receipt }: Carried) {
        self.end(&job, receipt, &End::put_back(), Instant::now() + NOTE_FOR).await;
    }

    /// Notes what became of a job, and tells it where the job came from.
    async fn end(&self, job: &Job, receipt: Receipt, end: &End, until: Instant) {
        let noted = persist(until, || self.note(job, end)).await;
        // What is not noted is done again, as another message.
        receipt.settle(noted.is_ok() && matches!(end, End::Dead(_))).await;
        if let Err(error) = noted {
            let cause = chain(&error);
            tracing::warn!(cause, "failed to note what became of a job, which is done again: {cause}");
        }
    }

    /// Carries out a job that was taken just now, and notes what became of it. Returns what it shows of its provider, where it was asked.
    async fn carry_out(&self, Carried { job, receipt }: Carried, outages: &Outages) -> Option<Shown> {
        let job = &job;
        let note_until = Instant::now() + NOTE_FOR;
        let done = timeout(JOB_LIMIT, self.send(job)).await;
        // What the user's own preferences decide shows nothing of other services.
        let has_asked = match &done {
            Ok(Ok(Ok(outcome))) => *outcome != TURNED_OFF,
            Ok(Err(Failure::Unsent(_))) => true,
            _ => false,
        };
        if has_asked {
            outages.deciding.worked(DECIDING);
        }
        match &done {
            Ok(Ok(Ok("sent"))) => outages.taking.worked(&outages.what),
            Ok(Err(Failure::Unsent(error @ SendError::Misconfigured(_)))) => {
                outages.taking.failed(&outages.what, error);
            }
            _ => {}
        }
        let shown = match &done {
            Ok(Ok(Ok("sent")) | Err(Failure::Unsent(SendError::Gone | SendError::Refused(_)))) => {
                Some(Shown::Answers)
            }
            Ok(Err(Failure::Unsent(SendError::Limited { .. }))) => Some(Shown::Limits),
            Ok(Err(Failure::Unsent(SendError::Later { .. }))) => Some(Shown::Fails),
            _ => None,
        };
        let (outcome, end) = match done {
            Ok(Ok(Ok(outcome))) => (outcome, End::Done { is_sent: outcome == "sent" }),
            Ok(Ok(Err(wait))) => ("quiet", End::Wait { wait, is_counted: false }),
            Ok(Err(Failure::Undecided(error))) => {
                if error.is_outage() {
                    outages.undecided(&error);
                }
                undecided(job, &error)
            }
            Ok(Err(Failure::Unsent(error))) => unsent(job, error),
            Err(_) => {
                let error = SendError::Later { why: "it took too long".to_owned(), after: None };
                unsent(job, error)
            }
        };
        self.metrics.job(self.name, outcome);
        self.end(job, receipt, &end, note_until).await;
        shown
    }

    async fn note(&self, job: &Job, end: &End) -> Result<(), StoreError> {
        let now = now();
        match end {
            End::Done { is_sent } => {
                let next_at = (*is_sent && job.chat_id.is_none()).then(|| now + self.channel.digest_every());
                self.store.finish(job, now, next_at).await
            }
            End::Wait { wait, is_counted } => self.store.put_off(job, now + *wait, *is_counted).await,
            End::Gone => self.store.unsubscribe(job.subscription.id, None).await.map(drop),
            End::Dead(why) => self.store.bury(job, now, why).await,
        }
    }

    /// Decides and sends. Returns what became of it, or how long to wait.
    async fn send(&self, job: &Job) -> Result<Result<&'static str, TimeDelta>, Failure> {
        let content = match self.decide(job).await.map_err(Failure::Undecided)? {
            Decision::Send(content) => content,
            Decision::Drop(outcome) => return Ok(Ok(outcome)),
            Decision::Wait(wait) => return Ok(Err(wait)),
        };
        let begun = Instant::now();
        let sent = self.channel.send(&job.subscription, &content).await;
        self.metrics.send.observe(begun.elapsed().as_secs_f64());
        sent.map_err(Failure::Unsent)?;
        Ok(Ok("sent"))
    }

    async fn decide(&self, job: &Job) -> Result<Decision, Error> {
        let (user_id, now) = (job.subscription.user_id, now());
        let now_ms = now.timestamp_millis();
        let (preferences, minute) = self.store.preferences(user_id, now).await?;
        if preferences.level == NotificationLevel::None {
            return Ok(Decision::Drop(TURNED_OFF));
        }
        let quiet = preferences.quiet.as_ref().zip(minute).and_then(|(quiet, minute)| quiet.left(minute));
        if let Some(wait) = quiet {
            return Ok(Decision::Wait(wait));
        }
        let Some(chat) = job.chat_id else {
            let mut digest = self.peers.digest(user_id, now_ms).await?;
            if digest.chats.is_empty() {
                return Ok(Decision::Drop("taken"));
            }
            if preferences.level == NotificationLevel::Mentions {
                digest.keep_called();
            }
            if digest.chats.is_empty() {
                return Ok(Decision::Drop("not_wanted"));
            }
            let id = format!("{}.{}", job.subscription.id, job.version);
            return Ok(Decision::Send(Content::Digest { id, digest }));
        };
        let Some(standing) = self.peers.standing(user_id, chat, now_ms).await? else {
            return Ok(Decision::Drop("not_a_member"));
        };
        // A device of the user has it, or it is the user's own.
        if standing.taken_seq >= job.seq || standing.unread == 0 {
            return Ok(Decision::Drop("taken"));
        }
        // What called the user may have been read since: what is left may call nobody.
        let is_called = (job.is_called && standing.mentions > 0) || standing.kind == ChatKind::Direct;
        if standing.is_muted || (preferences.level == NotificationLevel::Mentions && !is_called) {
            return Ok(Decision::Drop("not_wanted"));
        }
        let notice = self.notice(job, chat, standing, preferences.shows_text).await?;
        Ok(Decision::Send(Content::Notice(notice)))
    }

    async fn notice(
        &self,
        job: &Job,
        chat: ChatId,
        standing: Standing,
        shows_text: bool,
    ) -> Result<Notice, Error> {
        let message = if shows_text { self.peers.text(chat, job.seq).await? } else { None };
        let badge = self.peers.badge(job.subscription.user_id).await?;
        Ok(Notice {
            chat,
            kind: standing.kind.as_str().to_owned(),
            title: standing.title,
            seq: job.seq,
            message,
            unread: standing.unread,
            mentions: standing.mentions,
            badge,
        })
    }
}

/// Returns what becomes of a job of which it could not be decided whether its user is notified. What is no outage is of this job alone: it is tried as
/// often as what a provider does not take.
fn undecided(job: &Job, error: &Error) -> (&'static str, End) {
    let (subscription, attempts) = (job.subscription.id, job.attempts);
    if error.is_outage() {
        return ("undecided", End::put_back());
    }
    let why = chain(error);
    if attempts < MAX_ATTEMPTS {
        tracing::debug!(%subscription, attempts, why, "it cannot be decided about a job, which is tried again: {why}");
        return ("undecidable", End::Wait { wait: wait_after(attempts), is_counted: true });
    }
    tracing::warn!(%subscription, attempts, why, "a job of subscription {subscription} is given up: {why}");
    ("dead", End::Dead(why))
}

/// Returns what becomes of a job that the provider did not take, for the metrics and for the store.
fn unsent(job: &Job, error: SendError) -> (&'static str, End) {
    let (subscription, attempts) = (job.subscription.id, job.attempts);
    let why = error.to_string();
    match error {
        SendError::Gone => {
            tracing::info!(%subscription, "the endpoint of subscription {subscription} is gone: it is forgotten");
            ("gone", End::Gone)
        }
        SendError::Later { after, .. } | SendError::Limited { after, .. } if attempts < MAX_ATTEMPTS => {
            tracing::debug!(%subscription, attempts, why, "a job is tried again: {why}");
            let asked = after.and_then(|after| TimeDelta::from_std(after).ok());
            let wait = asked.unwrap_or_default().max(wait_after(attempts));
            ("later", End::Wait { wait, is_counted: true })
        }
        SendError::Misconfigured(_) if attempts < MAX_ATTEMPTS => {
            ("misconfigured", End::Wait { wait: wait_after(attempts), is_counted: true })
        }
        SendError::Later { .. }
        | SendError::Limited { .. }
        | SendError::Misconfigured(_)
        | SendError::Refused(_) => {
            tracing::warn!(%subscription, attempts, why, "a job of subscription {subscription} is given up: {why}");
            ("dead", End::Dead(why))
        }
    }
}

/// Notes something, and tries it again after a failure until a moment at which it is too late: what was sent and is not noted is sent again.
async fn persist<F: Future<Output = Result<(), StoreError>>>(
    until: Instant,
    mut note: impl FnMut() -> F,
) -> Result<(), StoreError> {
    let mut backoff = Backoff::new(NOTE_BACKOFF);
    loop {
        let Err(error) = note().await else { return Ok(()) };
        let wait = backoff.next_wait();
        if Instant::now() + wait >= until {
            return Err(error);
        }
        sleep(wait).await;
    }
}

/// Notes that a job ended, and what it shows of its provider.
fn note_ended(
    ended: &Result<(Id, Option<Shown>), JoinError>,
    held: &mut HashMap<Id, Subscription>,
    providers: &mut Providers,
) {
    let (id, shown) = match ended {
        Ok((id, shown)) => (*id, *shown),
        Err(error) => (error.id(), None),
    };
    let (Some(to), Some(shown)) = (held.remove(&id), shown) else { return };
    match shown {
        Shown::Answers => {
            if let Some(provider) = providers.answered(&to.target) {
                tracing::info!(provider, "{provider} takes notifications again");
            }
        }
        Shown::Limits => providers.limited(&to.target, Instant::now()),
        Shown::Fails => {
            if let Some(provider) = providers.failed(&to.target, to.user_id, Instant::now()) {
                tracing::warn!(
                    provider,
                    "{provider} takes no notifications at present: they wait, and one tries now and then"
                );
            }
        }
    }
}

/// What a job shows of its provider.
#[derive(Clone, Copy)]
enum Shown {
    /// It answered for this endpoint, whatever the answer was.
    Answers,
    /// It takes nothing for this endpoint at present.
    Limits,
    Fails,
}

/// What becomes of a job.
enum End {
    Done {
        is_sent: bool,
    },
    /// It is due again then. An attempt that is not counted was none.
    Wait {
        wait: TimeDelta,
        is_counted: bool,
    },
    /// With its subscription.
    Gone,
    /// It is given up, and why.
    Dead(String),
}

impl End {
    /// It is due again soon, and there was no attempt.
    fn put_back() -> Self {
        Self::Wait { wait: TimeDelta::from_std(PEER_WAIT).unwrap_or_default(), is_counted: false }
    }
}

/// Why a job is not done.
enum Failure {
    /// Another service does not answer, or not what it is decided by.
    Undecided(Error),
    Unsent(SendError),
}

#[expect(clippy::disallowed_methods, reason = "an edge: what is due")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use contracts::{SubscriptionId, UserId, convert::UnreadableField};
    use tonic::Status;

    use super::*;
    use crate::domain::Target;

    fn failed() -> StoreError {
        StoreError::Jobs(sqlx::Error::PoolTimedOut)
    }

    fn job(attempts: i32) -> Job {
        let subscription = Subscription {
            id: SubscriptionId::generate(),
            user_id: UserId::generate(),
            target: Target::Fcm { token: "an app".to_owned() },
            is_confirmed: true,
            created_at: DateTime::UNIX_EPOCH,
        };
        Job { subscription, chat_id: None, seq: 1, is_called: false, version: 1, attempts }
    }

    #[test]
    fn what_can_never_be_decided_is_given_up_and_an_outage_is_waited_for() {
        let peer = |status| Error::Peer { peer: "chat", source: Box::new(status) };
        for error in [
            peer(Status::unavailable("")),
            peer(Status::deadline_exceeded("")),
            peer(Status::unauthenticated("")),
            peer(Status::unknown("cut off")),
            failed().into(),
        ] {
            let (outcome, end) = undecided(&job(MAX_ATTEMPTS), &error);
            assert_eq!(outcome, "undecided", "{error:?}");
            assert!(matches!(end, End::Wait { is_counted: false, .. }), "{error:?}");
        }
        for error in [peer(Status::out_of_range("too large")), UnreadableField("kind").into()] {
            let (outcome, end) = undecided(&job(MAX_ATTEMPTS - 1), &error);
            assert_eq!(outcome, "undecidable", "{error:?}");
            assert!(matches!(end, End::Wait { is_counted: true, .. }), "{error:?}");
            let (outcome, end) = undecided(&job(MAX_ATTEMPTS), &error);
            assert!(outcome == "dead" && matches!(end, End::Dead(_)), "{error:?}");
        }
    }

    /// Ends so many jobs of as many users in the same way, and returns what is down then.
    async fn down_after(shown: Shown) -> usize {
        let (mut running, mut held, mut providers) = (JoinSet::new(), HashMap::new(), Providers::default());
        for _ in 0..20 {
            let task = running.spawn(async move { Some(shown) });
            held.insert(task.id(), job(1).subscription);
        }
        while let Some(ended) = running.join_next_with_id().await {
            note_ended(&ended, &mut held, &mut providers);
        }
        assert!(held.is_empty());
        providers.down().len()
    }

    #[tokio::test]
    async fn endpoints_that_are_limited_do_not_close_their_provider_for_others() {
        assert_eq!(down_after(Shown::Limits).await, 0);
        assert_eq!(down_after(Shown::Fails).await, 1);
        assert_eq!(down_after(Shown::Answers).await, 0);
        let after = Some(Duration::from_secs(600));
        let (outcome, end) = unsent(&job(1), SendError::Limited { why: "status 429".to_owned(), after });
        assert_eq!(outcome, "later");
        assert!(matches!(end, End::Wait { wait, is_counted: true } if wait == TimeDelta::minutes(10)));
    }

    #[tokio::test]
    async fn what_became_of_a_job_is_noted_once_the_store_takes_it() {
        let attempts = Cell::new(0);
        let note = || {
            attempts.set(attempts.get() + 1);
            let is_down = attempts.get() < 3;
            async move { if is_down { Err(failed()) } else { Ok(()) } }
        };
        persist(Instant::now() + NOTE_FOR, note).await.unwrap();
        assert_eq!(attempts.get(), 3);
    }

    #[tokio::test]
    async fn what_cannot_be_noted_is_left_before_another_process_has_the_job() {
        assert!(JOB_LIMIT < NOTE_FOR && NOTE_FOR < LEASE.to_std().unwrap());
        let until = Instant::now() + Duration::from_millis(500);
        persist(until, || async { Err(failed()) }).await.unwrap_err();
    }
}
