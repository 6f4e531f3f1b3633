//! Follows `message.delivered` and judges it.
//!
//! The processes of this service share the partitions. What a batch of records gives, all that follows from it, and how far the log is judged are
//! written in one transaction. A verdict depends on the log, on rule sets, which never change, and on what is remembered of the sender, which
//! is written in the same transaction: a log that is read again gives the same.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::{
    RuleSetId, UserId,
    api::RuleSet,
    event::{DeliveredRecord, Unreadable},
};
use kit::{
    catalog::Topic,
    clock::now_ms,
    log::{JoinError, Log, Record, Sink},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use uuid::Uuid;

use crate::{
    carrying_out::Wake,
    domain::{Judge, Post, Verdict},
    metrics::Metrics,
    store::{Batch, ModerationStore, StoreError},
};

/// Deletions are sent in this name. It is of no user, and what it sends is not judged.
pub const SYSTEM: UserId = UserId(Uuid::nil());

/// A compiled rule set is forgotten after so many batches that it is not for. Partitions are not equally far: one that is behind the retirement of
/// a set takes turns with others that have passed it.
const KEPT_BATCHES: usize = 50;

/// What following the log needs.
pub struct Follower {
    pub store: Arc<dyn ModerationStore>,
    pub log: Log,
    pub tenant: String,
    pub metrics: Metrics,
    /// Notified of what is to be carried out.
    pub wake: Wake,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group and follows partitions until the shutdown; the future ends when the group is left.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, JoinError> {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.moderation", self.tenant);
        let Self { store, log, metrics, wake, shutdown, .. } = self;
        log.feed(&topic, &group, Enforcement { store, metrics, wake, judges: Mutex::default() }, shutdown)
    }
}

/// Rule sets that were compiled. They never change but for the time that they are in force.
#[derive(Default)]
struct Judges(HashMap<RuleSetId, Compiled>);

struct Compiled {
    set: RuleSet,
    judge: Arc<Judge>,
    /// Batches since the last that it was for.
    unused: usize,
}

impl Judges {
    /// Returns the judges of these sets. None are wanted where there is nothing to judge.
    fn of(&mut self, sets: Vec<RuleSet>) -> Vec<Arc<Judge>> {
        if sets.is_empty() {
            return Vec::new();
        }
        for compiled in self.0.values_mut() {
            compiled.unused += 1;
        }
        let mut judges = Vec::with_capacity(sets.len());
        for set in sets {
            let rule_set = set.id;
            let known = self.0.remove(&rule_set).filter(|known| known.set == set);
            let judge = known.map_or_else(|| Judge::of(&set).map(Arc::new), |known| Ok(known.judge));
            match judge {
                Ok(judge) => {
                    judges.push(judge.clone());
                    self.0.insert(rule_set, Compiled { set, judge, unused: 0 });
                }
                // It was checked when it was created, by a version with other limits.
                Err(error) => {
                    tracing::error!(%error, %rule_set, "rule set {rule_set} cannot be judged: {error}");
                }
            }
        }
        self.0.retain(|_, compiled| compiled.unused < KEPT_BATCHES);
        judges
    }
}

/// What is judged of the log.
struct Enforcement {
    store: Arc<dyn ModerationStore>,
    metrics: Metrics,
    wake: Wake,
    judges: Mutex<Judges>,
}

#[async_trait]
impl Sink for Enforcement {
    type Batch = Vec<Post>;
    type Error = StoreError;

    /// Each is judged by all rule sets, and what follows from them is one transaction.
    const BATCH: usize = 200;
    const WORK: &'static str = "judging messages";
    const IDLE: &'static str = "messages are not judged";

    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        self.store.positions(partitions).await
    }

    fn add(&self, posts: &mut Self::Batch, record: &Record<'_>) -> Result<(), Unreadable> {
        posts.extend(post(record)?);
        Ok(())
    }

    fn skipped(&self) {
        self.metrics.skipped.inc();
    }

    fn is_empty(posts: &Self::Batch) -> bool {
        posts.is_empty()
    }

    async fn apply(&self, partition: i32, next_offset: i64, posts: &Self::Batch) -> Result<(), StoreError> {
        // Behind the records: a set is enforced from some seconds after it was written, so that what it judges is read after it.
        let sets = match posts.iter().map(|post| post.sent_at_ms).min() {
            Some(oldest_ms) => self.store.rule_sets_from(oldest_ms).await?,
            None => Vec::new(),
        };
        let judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner).of(sets);
        let senders: HashSet<_> = posts.iter().map(|post| (post.chat, post.sender)).collect();
        let senders: Vec<_> = senders.into_iter().collect();
        let mut windows =
            if senders.is_empty() { HashMap::new() } else { self.store.windows(&senders).await? };
        let mut batch = Batch { partition, next_offset, now_ms: now_ms(), ..Batch::default() };
        for post in posts {
            let window = windows.entry((post.chat, post.sender)).or_default();
            if !window.take(post) {
                continue;
            }
            self.metrics.judged.inc();
            for judge in judges.iter().filter(|judge| judge.is_in_force(post.sent_at_ms)) {
                let judgement = judge.judge(post, window);
                batch.verdicts.extend(judgement.map(|judgement| Verdict::new(judge.id, post, judgement)));
            }
        }
        batch.windows = windows;
        self.store.record(&batch).await?;
        if !batch.verdicts.is_empty() {
            self.note(&batch);
        }
        Ok(())
    }
}

impl Enforcement {
    fn note(&self, batch: &Batch) {
        self.metrics.verdicts.inc_by(batch.verdicts.len() as u64);
        for verdict in &batch.verdicts {
            let lag_ms = (now_ms() - verdict.evidence.sent_at_ms).max(0);
            self.metrics.lag.observe(Duration::from_millis(lag_ms.unsigned_abs()).as_secs_f64());
        }
        self.wake.notify();
    }
}

/// Returns what is judged of a record.
pub(crate) fn post(record: &Record<'_>) -> Result<Option<Post>, Unreadable> {
    let delivered = DeliveredRecord::read(record.payload())?;
    Ok(if delivered.sender == SYSTEM { None } else { Post::of(delivered) })
}

#[cfg(test)]
mod tests {
    use contracts::api::RuleSetState;

    use super::*;

    fn set() -> RuleSet {
        RuleSet {
            id: RuleSetId::generate(),
            name: "set".to_owned(),
            rules: Vec::new(),
            state: RuleSetState::Enforced,
            created_by: SYSTEM,
            created_at_ms: 1,
            enforced_from_ms: Some(1),
            retired_from_ms: None,
        }
    }

    #[test]
    fn a_set_is_compiled_once_until_it_changes_or_no_batch_is_for_it_any_more() {
        let (old, new) = (set(), set());
        let mut judges = Judges::default();
        let first = judges.of(vec![old.clone(), new.clone()]);
        assert_eq!(first.iter().map(|judge| judge.id).collect::<Vec<_>>(), [old.id, new.id]);
        for _ in 1..KEPT_BATCHES {
            judges.of(vec![new.clone()]);
        }
        let again = judges.of(vec![old.clone(), new.clone()]);
        assert!(Arc::ptr_eq(&first[0], &again[0]) && Arc::ptr_eq(&first[1], &again[1]));
        let retired = RuleSet { retired_from_ms: Some(5), ..old.clone() };
        assert!(!judges.of(vec![retired])[0].is_in_force(5));
        for _ in 0..KEPT_BATCHES {
            judges.of(vec![new.clone()]);
        }
        assert_eq!(judges.0.into_keys().collect::<Vec<_>>(), [new.id]);
    }
}
