//! Follows `message.delivered` and judges it.
//!
//! The processes of this service share the partitions. What a batch of records gives, all that follows from it, and how far the log is judged are
//! written in one transaction. A verdict depends on the log, on rule sets, which never change, and, where a rule counts messages, on what is remembered of the
//! sender, which is written in the same transaction: a log that is read again gives the same. A rule counts what was sent since it is in force.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::{
    ChatId, RuleSetId, UserId,
    api::RuleSet,
    event::{DeliveredRecord, Unreadable},
};
use kit::{
    catalog::Topic,
    clock::now_ms,
    log::{self, Log, Record, Sink},
};
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use crate::{
    carrying_out::Wake,
    domain::{Judge, Post, Question, SYSTEM, Verdict, Window, counts},
    metrics::Metrics,
    store::{Batch, ModerationStore, StoreError},
};

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
    /// Whether there is a classifier to ask.
    pub has_classifier: bool,
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Joins the group and follows partitions until the shutdown; the future ends when the group is left.
    pub fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, log::JoinError> {
        let topic = Topic::MessageDelivered.of(&self.tenant);
        let group = format!("{}.moderation", self.tenant);
        let Self { store, log, metrics, wake, has_classifier, shutdown, .. } = self;
        let enforcement = Enforcement::new(store, metrics, wake, shutdown.clone());
        let enforcement = Enforcement { has_classifier, ..enforcement };
        log.feed(&topic, &group, enforcement, shutdown)
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
    judges: Arc<Mutex<Judges>>,
    /// One batch is judged at a time, on a thread of its own: what patterns remember of a text is there once.
    turn: Semaphore,
    has_classifier: bool,
    stop: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum EnforcementError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the process is stopping")]
    Stopping,
    #[error("judging has failed")]
    Judging(#[from] JoinError),
}

/// What is judged on a thread of its own.
struct Work {
    posts: Vec<Arc<Post>>,
    sets: Vec<RuleSet>,
    /// What is remembered of the senders; absent when no rule counts messages.
    windows: Option<HashMap<(ChatId, UserId), Window>>,
}

/// What comes of it.
#[derive(Default)]
struct Judged {
    windows: HashMap<(ChatId, UserId), Window>,
    verdicts: Vec<Verdict>,
    /// What the classifier is asked: no other rule waits for it.
    questions: Vec<Question>,
    posts: u64,
}

impl Work {
    /// Judges post by post; `None` when it is stopped before the last.
    fn judge(self, judges: &Mutex<Judges>, stop: &CancellationToken) -> Option<Judged> {
        let judges = judges.lock().unwrap_or_else(PoisonError::into_inner).of(self.sets);
        let mut judged = Judged::default();
        let mut windows = self.windows;
        for post in &self.posts {
            if stop.is_cancelled() {
                return None;
            }
            let mut uncounted = Window::default();
            let window = match &mut windows {
                Some(windows) => windows.entry((post.chat, post.sender)).or_default(),
                None => &mut uncounted,
            };
            if !window.take(post) {
                continue;
            }
            judged.posts += 1;
            let mut is_asked = false;
            for judge in judges.iter().filter(|judge| judge.is_in_force(post.sent_at_ms)) {
                let judgement = judge.judge(post, window);
                judged.verdicts.extend(judgement.map(|judgement| Verdict::new(judge.id, post, judgement)));
                is_asked |= judge.asks();
            }
            judged.questions.extend(is_asked.then(|| Question::of(post)));
        }
        judged.windows = windows.unwrap_or_default();
        Some(judged)
    }
}

#[async_trait]
impl Sink for Enforcement {
    type Batch = Vec<Arc<Post>>;
    type Error = EnforcementError;

    /// Each is judged by all rule sets, and what follows from them is one transaction.
    const BATCH: usize = 200;
    const WORK: &'static str = "judging messages";
    const IDLE: &'static str = "messages are not judged";

    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, EnforcementError> {
        Ok(self.store.positions(partitions).await?)
    }

    fn add(&self, posts: &mut Self::Batch, record: &Record<'_>) -> Result<(), Unreadable> {
        posts.extend(post(record)?.map(Arc::new));
        Ok(())
    }

    fn skipped(&self) {
        self.metrics.skipped.inc();
    }

    fn is_empty(posts: &Self::Batch) -> bool {
        posts.is_empty()
    }

    async fn apply(
        &self,
        partition: i32,
        next_offset: i64,
        posts: &Self::Batch,
    ) -> Result<(), EnforcementError> {
        // Behind the records: a set is enforced from some seconds after it was written, so that what it judges is read after it.
        let sets = match posts.iter().map(|post| post.sent_at_ms).min() {
            Some(oldest_ms) => self.store.rule_sets_from(oldest_ms).await?,
            None => Vec::new(),
        };
        let windows = if counts(&sets) {
            let senders: HashSet<_> = posts.iter().map(|post| (post.chat, post.sender)).collect();
            Some(self.store.windows(&senders.into_iter().collect::<Vec<_>>()).await?)
        } else {
            None
        };
        let Judged { windows, verdicts, mut questions, posts } =
            self.judge(Work { posts: posts.clone(), sets, windows }).await?;
        self.metrics.judged.inc_by(posts);
        if !self.has_classifier {
            // A set is in force that was enforced while there was one.
            self.metrics.unclassified.inc_by(questions.len() as u64);
            questions.clear();
        }
        let batch = Batch { partition, next_offset, windows, verdicts, questions, now_ms: now_ms() };
        self.store.record(&batch).await?;
        if !batch.questions.is_empty() {
            self.wake.ask();
        }
        if !batch.verdicts.is_empty() {
            self.note(&batch);
        }
        Ok(())
    }
}

impl Enforcement {
    fn new(store: Arc<dyn ModerationStore>, metrics: Metrics, wake: Wake, stop: CancellationToken) -> Self {
        let (judges, turn) = (Arc::default(), Semaphore::new(1));
        Self { store, metrics, wake, judges, turn, has_classifier: false, stop }
    }

    async fn judge(&self, work: Work) -> Result<Judged, EnforcementError> {
        if work.posts.is_empty() {
            return Ok(Judged::default());
        }
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        let (judges, stop) = (self.judges.clone(), self.stop.clone());
        spawn_blocking(move || work.judge(&judges, &stop)).await?.ok_or(EnforcementError::Stopping)
    }

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
    use contracts::{
        DeviceId, MessageKey,
        api::{PatternRule, RateRule, Rule, RuleAction, RuleSetState, RuleTest},
        event::{DeliveryOutcome, EntryKind},
    };
    use futures_util::poll;

    use uuid::Uuid;

    use super::*;
    use crate::{domain::Change, store::MemoryStore};

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

    /// Returns a text that takes a while to judge.
    fn long_post(seq: i64) -> Arc<Post> {
        let outcome =
            DeliveryOutcome::stored(seq, EntryKind::Text, "nothing of it is here ".repeat(700), 1_000);
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
        let (chat, sender) = (ChatId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let record = DeliveredRecord { v: 1, chat, sender, device, key, outcome };
        Arc::new(Post::of(record).expect("a text"))
    }

    fn pattern_set() -> RuleSet {
        let rule = |n: usize| Rule {
            name: n.to_string(),
            test: RuleTest::Pattern(PatternRule { pattern: format!("(what|who|how)+ {n}") }),
            action: RuleAction { delete: true, ..RuleAction::default() },
        };
        RuleSet { rules: (0..20).map(rule).collect(), ..set() }
    }

    #[tokio::test]
    async fn other_tasks_run_while_messages_are_judged() {
        let store = Arc::new(MemoryStore::default());
        store.act(&[Change::RuleSetCreated(pattern_set())]).await.expect("it is created");
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let enforcement = Enforcement::new(store.clone(), metrics, Wake::default(), stop);
        let posts: Vec<_> = (1..=20).map(long_post).collect();
        let mut applying = enforcement.apply(0, 20, &posts);
        assert!(poll!(&mut applying).is_pending(), "this thread waits for no judge");
        applying.await.expect("they are judged");
        assert_eq!(store.positions(&[0]).await.expect("a read")[&0], Some(20));
    }

    #[tokio::test]
    async fn senders_are_remembered_while_a_rule_counts() {
        let of = [(ChatId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)))];
        let rate = RuleTest::Rate(RateRule { messages: 1, seconds: 60 });
        let counting = RuleSet {
            rules: vec![Rule { name: "rate".to_owned(), test: rate, action: RuleAction::default() }],
            ..set()
        };
        for (set, remembered) in [(pattern_set(), 0), (counting, 1)] {
            let store = Arc::new(MemoryStore::default());
            store.act(&[Change::RuleSetCreated(set)]).await.expect("it is created");
            let (metrics, stop) = (Metrics::default(), CancellationToken::new());
            let enforcement = Enforcement::new(store.clone(), metrics, Wake::default(), stop);
            enforcement.apply(0, 1, &vec![long_post(1)]).await.expect("it is judged");
            assert_eq!(store.windows(&of).await.expect("a read").len(), remembered);
        }
    }

    #[test]
    fn judging_stops_between_two_messages() {
        let stop = CancellationToken::new();
        let work = || Work { posts: vec![long_post(1)], sets: vec![pattern_set()], windows: None };
        assert_eq!(work().judge(&Mutex::default(), &stop).map(|judged| judged.posts), Some(1));
        stop.cancel();
        assert!(work().judge(&Mutex::default(), &stop).is_none());
    }
}
