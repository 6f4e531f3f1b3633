//! The task that fills the generations of the index, and lets one take the place of the other.

use std::{future::pending, ops::RangeInclusive, sync::Arc, time::Duration};

use kit::{backoff::Backoff, error::chain, outage::Outage};
use tokio::{
    sync::watch::{self, error::RecvError},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Come, Indexer, filling::Filler};
use crate::{
    domain::Build,
    store::{Index, IndexError},
};

/// After a generation that could not be begun, or could not take the place of the one before.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// How often a process that does not fill the index looks how far it is.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What outages are called in the log.
const BEGINNING: &str = "beginning to build the index again";
const SWITCHING: &str = "letting searches use the index that was built again";

/// What is to be done with the next generation, and when.
struct Plan {
    /// One is to be begun.
    wanted: bool,
    /// Not before this.
    at: Instant,
    /// Why it could not be begun at the last attempt.
    waits: Option<String>,
    backoff: Backoff,
    beginning: Outage,
    switching: Outage,
}

#[derive(Debug, thiserror::Error)]
enum SwitchError {
    #[error("the new index does not have in time what the one before has")]
    TooSlow,
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Indexer {
    /// Fills the index until stopped, whenever it is this process that does so.
    pub async fn run(self) {
        let of = Arc::new(self);
        while let Some(lead) = of.lead().await {
            of.fill(&lead).await;
            lead.cancel();
        }
    }

    /// Waits until this process is the one that fills the index; `None` when stopped. Meanwhile it shows how far the one that does so has come.
    async fn lead(&self) -> Option<CancellationToken> {
        let (shows, come) = watch::channel(Come::default());
        self.standing.set(come, None, None);
        let mut looking = interval(LOOK_EVERY);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leading = self.generations.lead(&self.stop);
        tokio::pin!(leading);
        loop {
            tokio::select! {
                biased;
                lead = &mut leading => return lead,
                // One that came just before the lease ended.
                () = self.standing.requested() => tracing::info!("an index that was requested is not built here"),
                _ = looking.tick() => {
                    // Requests for what needs no index are answered, whichever process fills it.
                    self.check.ok();
                    let served = self.generations.served();
                    let progress = timeout(LOOK_EVERY, served.progress()).await.ok().and_then(Result::ok);
                    let come = progress.flatten().map(Come::of_other).unwrap_or_default();
                    self.metrics.complete.set(come.complete.into());
                    shows.send_replace(come);
                }
            }
        }
    }

    /// Fills the generation that searches use until the token is cancelled. Another one is built beside it when that one is of an older form, and when one
    /// is requested, and takes its place.
    async fn fill(self: &Arc<Self>, lead: &CancellationToken) {
        let of = self;
        let mut served = Filler::start(of, lead, of.generations.served(), true);
        let mut next = of.generations.next().map(|index| Filler::start(of, lead, index, false));
        let mut plan = Plan {
            wanted: next.is_none() && of.generations.is_outdated(),
            at: Instant::now(),
            waits: None,
            backoff: Backoff::new(BACKOFF),
            beginning: Outage::default(),
            switching: Outage::default(),
        };
        loop {
            of.show(&served, next.as_ref(), &plan);
            let is_next_complete = next.as_ref().is_some_and(|next| next.come.borrow().complete);
            let is_due = is_next_complete || (plan.wanted && next.is_none());
            tokio::select! {
                () = lead.cancelled() => break,
                () = sleep_until(plan.at), if is_due => match next.take() {
                    None => next = of.begin(lead, &mut plan).await,
                    Some(built) => (served, next) = of.switch(lead, served, built, &mut plan).await,
                },
                () = of.standing.requested(), if next.is_none() && !plan.wanted => plan.wanted = true,
                // A task that ended without a stop has panicked: its end says so.
                changed = served.come.changed() => if changed.is_err() { break },
                changed = next_changed(next.as_mut()) => if changed.is_err() { break },
            }
        }
        served.end().await;
        if let Some(next) = next {
            next.end().await;
        }
    }

    async fn begin(self: &Arc<Self>, lead: &CancellationToken, plan: &mut Plan) -> Option<Filler> {
        match self.generations.begin().await {
            Ok(index) => {
                tracing::info!("the index is built again, beside the one that searches use");
                plan.beginning.worked(BEGINNING);
                plan.backoff.reset();
                plan.wanted = false;
                plan.waits = None;
                Some(Filler::start(self, lead, index, false))
            }
            Err(error) => {
                plan.beginning.failed(BEGINNING, &error);
                plan.waits = Some(chain(&error));
                plan.at = Instant::now() + plan.backoff.next_wait();
                None
            }
        }
    }

    /// Lets searches use the generation that was built. Returns what is filled then: it alone, or both as before when that failed.
    async fn switch(
        self: &Arc<Self>,
        lead: &CancellationToken,
        served: Filler,
        mut built: Filler,
        plan: &mut Plan,
    ) -> (Filler, Option<Filler>) {
        let before = served.index.clone();
        // What is not written into it any more is not found in it either, so that nothing that was found is missing afterwards.
        served.end().await;
        match self.try_switch(&*before, &mut built).await {
            Ok(()) => {
                tracing::info!("searches use the index that was built again");
                plan.switching.worked(SWITCHING);
                plan.backoff.reset();
                self.metrics.rebuilt.inc();
                built.serve();
                (built, None)
            }
            Err(error) => {
                plan.switching.failed(SWITCHING, &error);
                plan.at = Instant::now() + plan.backoff.next_wait();
                (Filler::start(self, lead, before, true), Some(built))
            }
        }
    }

    async fn try_switch(&self, before: &dyn Index, built: &mut Filler) -> Result<(), SwitchError> {
        let reached = before.progress().await?.map(|progress| progress.next).unwrap_or_default();
        let caught_up =
            async { built.come.wait_for(|come| come.complete && come.has(&reached)).await.map(drop) };
        match timeout(self.times.switch_within, caught_up).await {
            Ok(Ok(())) => Ok(self.generations.switch().await?),
            Ok(Err(_)) | Err(_) => Err(SwitchError::TooSlow),
        }
    }

    /// Shows how far the generations have come.
    fn show(&self, served: &Filler, next: Option<&Filler>, plan: &Plan) {
        self.standing.set(served.come.clone(), next.map(|next| next.come.clone()), plan.waits.clone());
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let metrics = &self.metrics;
        let come = served.come.borrow();
        metrics.complete.set(come.complete.into());
        if let Build::Reading { read, of, .. } = come.build {
            metrics.chats_read.set(gauge(read));
            metrics.chats.set(gauge(of));
        }
        metrics.rebuilding.set(next.is_some().into());
        let build = next.map(|next| next.come.borrow().build);
        let (read, of) = match build {
            Some(Build::Reading { read, of, .. }) => (read, of),
            Some(Build::Done) | None => (0, 0),
        };
        metrics.rebuild_chats_read.set(gauge(read));
        metrics.rebuild_chats.set(gauge(of));
    }
}

/// Waits until the next generation has come further; forever without one.
async fn next_changed(of: Option<&mut Filler>) -> Result<(), RecvError> {
    match of {
        Some(filler) => filler.come.changed().await,
        None => pending().await,
    }
}
