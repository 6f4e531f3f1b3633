//! A cache that the processes of a tenant share: in Redis, in memory, or none.
//!
//! It is never a source of truth. What is kept has the version of the datum that it was made from, so that a reader who was slow never puts an old
//! value over a newer one. It is used for a short time that its [`Policy`] says, and replaced before a change is answered that came through this
//! messenger. While Redis is slow or away, readers go to the truth, after some milliseconds at first and immediately from then on.
//!
//! Nothing is kept here by which it is decided who may do or read something (`docs/adr/0059-caches.md`).

mod kept;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod shelf;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::{Serialize, de::DeserializeOwned};

use self::kept::{Content, Effort, Kept};
pub use self::shelf::Shelf;
use crate::{
    bucket::Bucket,
    clock::now_ms,
    flights::{Flights, How},
};

/// The longest value that is kept, in bytes of JSON: the memory of Redis is that of all tenants of a cell.
const MAX_VALUE_BYTES: usize = 8 * 1024;
/// What readers of one process add to a cache, so that none of them fills that memory by reading all there is. With values of 500 bytes and a
/// minute for which they are kept, it is 3.5 MB.
const FILLS_PER_SECOND: u32 = 100;
const FILLS_AT_ONCE: u32 = 1_000;
/// A read at the truth takes no longer: calls between services end before.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// In this part of its time a value is read again, by one reader, so that one that is used all the time never ends for all readers at once.
const LAST_PART: u32 = 4;

/// What a cache keeps, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Its name in keys and metrics.
    pub name: &'static str,
    /// The number of what its values look like: processes of two releases that differ in it share nothing.
    pub format: u32,
    /// A value is used for no longer after it was read.
    pub keep: Duration,
    /// That there is no value is used for so long; it is not kept when absent.
    pub keep_absence: Option<Duration>,
}

/// A value with the version of the datum that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    pub value: T,
    /// Grows with each change, from 1 on. A value whose version is not known has 0, and is not kept.
    pub version: i64,
}

/// What is found at the truth; `None` when it has no value for the key.
pub type Loaded<T, E> = Result<Option<Versioned<T>>, E>;

/// A cache of one kind of values. `E` is why they cannot be read at the truth. Cheap to clone.
pub struct Cache<T: Clone, E: Clone>(Arc<Inner<T, E>>);

struct Inner<T: Clone, E: Clone> {
    policy: Policy,
    shelf: Shelf,
    metrics: Metrics,
    flights: Flights<String, Answer<T, E>>,
    fills: Mutex<Bucket>,
}

type Answer<T, E> = (Result<Option<T>, E>, Outcome);

impl<T: Clone, E: Clone> Clone for Cache<T, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What is kept of a key and is good.
struct Found<T> {
    value: Option<T>,
    /// It ends soon.
    is_due: bool,
}

impl<T, E> Cache<T, E>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Returns a cache on a shelf that it may share with others of other names.
    pub fn new(policy: Policy, shelf: Shelf, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            policy,
            shelf,
            metrics,
            flights: Flights::default(),
            fills: Mutex::new(Bucket::new(FILLS_PER_SECOND, FILLS_AT_ONCE, Instant::now())),
        }))
    }

    /// Returns what is kept of a key, or what `load` finds at the truth, which is kept then. `None` when the truth has no value for it.
    ///
    /// Readers of one key in this process share their way: however many come, one of them loads. An answer was read after its reader came.
    ///
    /// # Errors
    ///
    /// The value is not kept, and the truth cannot be read.
    pub async fn get<F>(
        &self,
        key: impl Display,
        load: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Option<T>, E>
    where
        F: Future<Output = Loaded<T, E>> + Send + 'static,
    {
        let (inner, name) = (self.0.clone(), self.0.name(key));
        let read = {
            let name = name.clone();
            move || async move { inner.read(&name, load).await }.boxed()
        };
        let ((answer, outcome), how) = self.0.flights.share(name, read).await;
        self.0.metrics.count(self.0.policy.name, outcome.of(how), 1);
        answer
    }

    /// Returns what is kept of some keys, at most a thousand, and what `load` finds of the others at the truth. Keys of which there is nothing are
    /// left out.
    ///
    /// # Errors
    ///
    /// Not all of them are kept, and the truth cannot be read.
    pub async fn get_many<K, F>(&self, keys: &[K], load: impl FnOnce(Vec<K>) -> F) -> Result<HashMap<K, T>, E>
    where
        K: Clone + Display + Eq + Hash,
        F: Future<Output = Result<Vec<(K, Versioned<T>)>, E>>,
    {
        let wanted: Vec<K> = keys.iter().cloned().collect::<HashSet<_>>().into_iter().collect();
        let mut answers = HashMap::with_capacity(wanted.len());
        if wanted.is_empty() {
            return Ok(answers);
        }
        let names: Vec<String> = wanted.iter().map(|key| self.0.name(key)).collect();
        let (is_there, kept) = match self.0.shelf.read(&names).await {
            Some(kept) => (true, kept),
            None => (false, vec![None; wanted.len()]),
        };
        let mut missing = Vec::new();
        let mut hits = 0;
        for (key, kept) in wanted.into_iter().zip(kept) {
            match kept.and_then(|kept| self.0.open(&kept)) {
                Some(Found { value, .. }) => {
                    hits += 1;
                    answers.extend(value.map(|value| (key, value)));
                }
                None => missing.push(key),
            }
        }
        let of_missing = if is_there { Outcome::Miss } else { Outcome::Bypassed };
        self.0.metrics.count(self.0.policy.name, Outcome::Hit, hits);
        self.0.metrics.count(self.0.policy.name, of_missing, missing.len());
        if missing.is_empty() {
            return Ok(answers);
        }
        let loaded = load(missing.clone()).await?;
        if is_there {
            let found: HashMap<&K, &Versioned<T>> =
                loaded.iter().map(|loaded| (&loaded.0, &loaded.1)).collect();
            let fills = missing.iter().map(|key| (self.0.name(key), found.get(key).copied())).collect();
            self.0.keep(fills).await;
        }
        answers.extend(loaded.into_iter().map(|(key, versioned)| (key, versioned.value)));
        Ok(answers)
    }

    /// Replaces what is kept of a key, after a change and before it is answered. What other readers read before the change is not kept over it.
    ///
    /// While Redis is away nothing is replaced: what is kept there ends by itself.
    pub async fn put(&self, key: impl Display, new: &Versioned<T>) {
        // One that is not to be kept takes the place of what was before it all the same.
        let kept = self.0.kept(Some(new)).unwrap_or_else(|| self.0.gone());
        self.0.shelf.write(&[(self.0.name(key), new.version, kept)], Effort::Change).await;
    }

    /// Removes what is kept of a key that was made from this version or an older one. What readers have read of it until now is not kept either.
    ///
    /// While Redis is away nothing is removed: what is kept there ends by itself.
    pub async fn forget(&self, key: impl Display, version: i64) {
        self.0.shelf.write(&[(self.0.name(key), version, self.0.gone())], Effort::Change).await;
    }
}

impl<T, E> Inner<T, E>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn name(&self, key: impl Display) -> String {
        let Policy { name, format, .. } = self.policy;
        format!("cache:{name}.{format}:{key}")
    }

    async fn read<F>(&self, name: &str, load: impl FnOnce() -> F + Send) -> Answer<T, E>
    where
        F: Future<Output = Loaded<T, E>> + Send,
    {
        let Some(kept) = self.shelf.read(&[name.to_owned()]).await else {
            return (load().await.map(value), Outcome::Bypassed);
        };
        let found = kept.into_iter().next().flatten().and_then(|kept| self.open(&kept));
        let is_ours = match &found {
            None => true,
            Some(found) => found.is_due && self.shelf.take_turn(name).await,
        };
        match (found, is_ours) {
            (Some(found), false) => (Ok(found.value), Outcome::Hit),
            (found, _) => match (load().await, found) {
                (Ok(loaded), found) => {
                    self.keep(vec![(name.to_owned(), loaded.as_ref())]).await;
                    (Ok(value(loaded)), if found.is_some() { Outcome::Renewed } else { Outcome::Miss })
                }
                // It is good for a moment more.
                (Err(_), Some(found)) => (Ok(found.value), Outcome::Hit),
                (Err(error), None) => (Err(error), Outcome::Miss),
            },
        }
    }

    /// Keeps what was loaded, as far as there is room.
    async fn keep(&self, loaded: Vec<(String, Option<&Versioned<T>>)>) {
        let entries = self.entries(loaded);
        if !entries.is_empty() {
            self.shelf.write(&entries, Effort::Fill).await;
        }
    }

    fn entries(&self, loaded: Vec<(String, Option<&Versioned<T>>)>) -> Vec<(String, i64, Kept)> {
        let (mut fills, now) = (self.fills.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let mut entries = Vec::new();
        for (name, loaded) in loaded {
            let Some(kept) = self.kept(loaded) else { continue };
            if fills.ready_at(1, now).is_some() {
                break;
            }
            fills.take(1, now);
            // The version of an absence is below that of every value: what comes into being replaces it.
            entries.push((name, loaded.map_or(0, |loaded| loaded.version), kept));
        }
        entries
    }

    /// Returns what is kept of a value or of an absence; `None` where nothing is to be kept.
    fn kept(&self, loaded: Option<&Versioned<T>>) -> Option<Kept> {
        let Some(Versioned { value, version }) = loaded else {
            let keep = self.policy.keep_absence?;
            return Some(Kept { until_ms: self.until(keep), content: Content::Absent });
        };
        let json = serde_json::to_string(value).ok()?;
        let is_fit = *version > 0 && json.len() <= MAX_VALUE_BYTES;
        is_fit.then(|| Kept { until_ms: self.until(self.policy.keep), content: Content::Value(json) })
    }

    /// Returns what is kept of something that is to be read at the truth: for longer than a read that has begun may take.
    fn gone(&self) -> Kept {
        Kept { until_ms: self.until(self.policy.keep.max(READ_WITHIN)), content: Content::Gone }
    }

    /// Returns what is kept, while it is good.
    fn open(&self, kept: &Kept) -> Option<Found<T>> {
        let left = kept.until_ms.checked_sub(now_ms()).filter(|left| *left > 0)?;
        match &kept.content {
            Content::Gone => None,
            Content::Absent => Some(Found { value: None, is_due: false }),
            Content::Value(json) => {
                // What another release wrote under the same format and this one cannot read is read again.
                let value = serde_json::from_str(json).ok()?;
                let is_due = left < milliseconds(self.policy.keep / LAST_PART);
                Some(Found { value: Some(value), is_due })
            }
        }
    }

    fn until(&self, keep: Duration) -> i64 {
        now_ms().saturating_add(milliseconds(keep))
    }
}

fn value<T>(loaded: Option<Versioned<T>>) -> Option<T> {
    loaded.map(|loaded| loaded.value)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// How a reader got an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was kept.
    Hit,
    /// It was kept and would have ended soon: it was read at the truth again.
    Renewed,
    /// It was not kept, and is read at the truth.
    Miss,
    /// It was not kept, and another reader of this process read it at the truth.
    Shared,
    /// It is read at the truth: there is no cache, or it does not answer.
    Bypassed,
}

impl Outcome {
    /// Returns its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Renewed => "renewed",
            Self::Miss => "miss",
            Self::Shared => "shared",
            Self::Bypassed => "bypassed",
        }
    }

    /// Returns the outcome of one who had it by itself or with others.
    const fn of(self, how: How) -> Self {
        match (self, how) {
            (Self::Miss | Self::Renewed | Self::Bypassed, How::Shared) => Self::Shared,
            (outcome, _) => outcome,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cache: &'static str,
    outcome: &'static str,
}

/// The figures of all caches of a service, `posthouse_<service>_cache_requests_total`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
}

impl Metrics {
    /// Returns the metrics, added to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Reads of what processes share, by cache and how they were answered";
        registry.register("cache_requests", help, metrics.requests.clone());
        metrics
    }

    /// Returns how many reads of a cache had an outcome.
    pub fn counted(&self, cache: &'static str, outcome: Outcome) -> u64 {
        self.requests.get_or_create(&Labels { cache, outcome: outcome.as_str() }).get()
    }

    fn count(&self, cache: &'static str, outcome: Outcome, reads: usize) {
        if reads > 0 {
            let counter = self.requests.get_or_create(&Labels { cache, outcome: outcome.as_str() });
            counter.inc_by(u64::try_from(reads).unwrap_or(u64::MAX));
        }
    }
}
