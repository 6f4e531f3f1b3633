//! Shadow runs: what a rule set would have done with the log of the last days, before it is enforced.
//!
//! A run reads the same records as enforcement, in the same order, and decides with the same function. It reads the log and not the histories: those have
//! texts as they are now, without what was edited or deleted since. It asks no classifier: the texts of days would be a flood to it.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::{
    RuleSetId, UserId,
    api::{Figures, RuleSet, ShadowRun, ShadowState},
};
use kit::{
    catalog::Topic,
    clock::now_ms,
    health::Health,
    log::{Event, Log, Start},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    DAY_MS,
    domain::{Audit, Change, Judge, Post, Shadow},
    error::Error,
    events::post,
    store::ModerationStore,
};

/// A run that takes longer has failed.
const RUN_WITHIN: Duration = Duration::from_secs(3_600);
/// One that is older and has no end was of a process that is gone.
const GONE_AFTER_MS: i64 = 2 * 3_600 * 1_000;
/// Posts that are judged at once, on a thread of its own.
const AT_ONCE: usize = 100;

/// Runs of this process, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Shadows {
    pub store: Arc<dyn ModerationStore>,
    pub log: Log,
    pub tenant: String,
    pub tasks: TaskTracker,
    pub shutdown: CancellationToken,
    turn: Arc<Semaphore>,
}

impl Shadows {
    /// Returns runs of a tenant, of which none was begun.
    pub fn new(
        store: Arc<dyn ModerationStore>,
        log: Log,
        tenant: &str,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self { store, log, tenant: tenant.to_owned(), tasks, shutdown, turn }
    }

    /// Begins a run over the log of the last days for a moderator, and returns it. Its samples show messages to the moderator: it begins when the audit
    /// log has it.
    pub(crate) async fn begin(&self, set: &RuleSet, days: u32, by: UserId) -> Result<ShadowRun, Error> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| Error::ShadowBusy)?;
        let started_at_ms = now_ms();
        let judge = Judge::of(set)?;
        let shadow = Shadow::new(judge, started_at_ms - i64::from(days) * DAY_MS, started_at_ms);
        let run = ShadowRun {
            rule_set: set.id,
            state: ShadowState::Running,
            days,
            started_at_ms,
            finished_at_ms: None,
            from_ms: None,
            judged: 0,
            unjudged: 0,
            figures: Figures::default(),
            samples: Vec::new(),
        };
        let audit = Audit {
            at_ms: started_at_ms,
            by: Some(by),
            action: "shadow_run_begun",
            subject: set.id.to_string(),
            user: None,
        };
        self.store.act(&[Change::Noted(audit)]).await?;
        self.store.put_shadow_run(&run).await?;
        self.tasks.spawn(self.clone().run(run.clone(), shadow, turn));
        Ok(run)
    }

    /// Returns the last run of a rule set.
    pub(crate) async fn last(&self, id: RuleSetId) -> Result<Option<ShadowRun>, Error> {
        let mut run = self.store.shadow_run(id).await?;
        if let Some(run) = &mut run {
            let is_gone = now_ms() - run.started_at_ms > GONE_AFTER_MS;
            if run.state == ShadowState::Running && is_gone {
                run.state = ShadowState::Failed;
            }
        }
        Ok(run)
    }

    async fn run(self, mut run: ShadowRun, shadow: Shadow, _turn: OwnedSemaphorePermit) {
        let shadow = Arc::new(Mutex::new(shadow));
        let is_done = tokio::time::timeout(RUN_WITHIN, self.read(&shadow)).await.is_ok_and(|done| done);
        run.state = if is_done { ShadowState::Done } else { ShadowState::Failed };
        run.finished_at_ms = Some(now_ms());
        {
            let mut shadow = lock(&shadow);
            run.from_ms = shadow.first_ms;
            run.judged = shadow.judged;
            run.unjudged = shadow.unjudged;
            run.figures = mem::take(&mut shadow.tally).into();
            run.samples = mem::take(&mut shadow.samples);
        }
        if let Err(error) = self.store.put_shadow_run(&run).await {
            let rule_set = run.rule_set;
            tracing::warn!(%error, %rule_set, "the shadow run of {rule_set} is lost: {error}");
        }
    }

    /// Reads the log up to its end as it is now. Returns whether that was reached.
    async fn read(&self, shadow: &Arc<Mutex<Shadow>>) -> bool {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.moderation.shadow", self.tenant);
        // A check of its own: the service is ready whatever becomes of a run.
        let check = Health::default().check("shadow");
        let follower = self.log.follow(&topic, &group, Start::Beginning, &check, &self.shutdown).await;
        let Some(mut follower) = follower else { return false };
        let mut open: HashSet<i32> = follower.partitions().into_iter().collect();
        let mut posts = Vec::with_capacity(AT_ONCE);
        while !open.is_empty() {
            match follower.next(&self.shutdown).await {
                None => return false,
                Some(Event::End(partition)) => {
                    open.remove(&partition);
                }
                // What cannot be read is judged by no rule. Enforcement says so in the log.
                Some(Event::Record(record)) => {
                    let partition = record.partition();
                    posts.extend(post(&record).ok().flatten().map(|post| (partition, post)));
                }
            }
            let is_full = posts.len() >= AT_ONCE || open.is_empty();
            if is_full && !self.judge(shadow, mem::take(&mut posts)).await {
                return false;
            }
        }
        follower.end().await;
        true
    }

    /// Judges posts on a thread of its own. Returns whether all of them were.
    async fn judge(&self, shadow: &Arc<Mutex<Shadow>>, posts: Vec<(i32, Post)>) -> bool {
        let (shadow, shutdown) = (shadow.clone(), self.shutdown.clone());
        let judging = spawn_blocking(move || {
            let mut shadow = lock(&shadow);
            posts.iter().all(|(partition, post)| {
                shadow.add(*partition, post);
                !shutdown.is_cancelled()
            })
        });
        judging.await.unwrap_or(false)
    }
}

fn lock(shadow: &Mutex<Shadow>) -> MutexGuard<'_, Shadow> {
    shadow.lock().unwrap_or_else(PoisonError::into_inner)
}
