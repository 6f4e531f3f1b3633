//! How the index comes to have what is in the chats: it follows `message.delivered`, and reads what was before from the message service.
//!
//! One task does both for each generation of the index, so that no two writes meet. What a page of a chat says and what the log says are put
//! together by `domain::Batch`, in whichever order they come. How far both have come is written with the documents, in one step: after
//! a kill the task goes on where the index is.
//!
//! Where several processes share an index, one of them does all of it at a time.
//!
//! A generation that is built beside the one that searches use is filled in the same way, by a task of its own. It takes the other's place when it
//! has all that was found in it.

mod build;
mod filling;
mod indexer;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use kit::{health::Check, log::Log};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::build::Source;
use crate::{
    domain::{Build, Progress},
    metrics::Metrics,
    store::Generations,
};

/// Fills the index of a tenant.
pub struct Indexer {
    pub tenant: String,
    pub log: Log,
    pub generations: Arc<dyn Generations>,
    pub source: Source,
    pub standing: Arc<Standing>,
    pub metrics: Metrics,
    /// Passes while the log is followed, and while this process has not to follow it or cannot write to the index.
    pub check: Check,
    pub stop: CancellationToken,
    pub times: Times,
}

/// How far a generation has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Come {
    /// Every message can be found, but for those of the last seconds.
    pub(crate) complete: bool,
    pub(crate) build: Build,
    /// The first offset of each partition that searches may not find.
    pub(crate) written: BTreeMap<i32, i64>,
}

impl Come {
    /// Returns how far an index has come that another process fills. Whether that one is behind at the moment, only it knows.
    fn of_other(progress: Progress) -> Self {
        let Progress { next, build } = progress;
        Self { complete: build == Build::Done, build, written: next }
    }

    /// Returns whether searches find all that is before these offsets.
    fn has(&self, next: &BTreeMap<i32, i64>) -> bool {
        next.iter().all(|(partition, next)| self.written.get(partition).is_some_and(|own| own >= next))
    }
}

/// How far the index has come, for those who ask, and whether another one is requested.
#[derive(Debug, Default)]
pub struct Standing {
    shown: Mutex<Shown>,
    requested: Notify,
}

#[derive(Debug, Default)]
struct Shown {
    served: Option<watch::Receiver<Come>>,
    next: Option<watch::Receiver<Come>>,
    waits: Option<String>,
}

impl Standing {
    fn set(&self, served: watch::Receiver<Come>, next: Option<watch::Receiver<Come>>, waits: Option<String>) {
        let mut shown = self.shown();
        *shown = Shown { served: Some(served), next, waits };
        if shown.next.is_some() {
            // What was requested until now is this one.
            _ = self.requested.notified().now_or_never();
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> Come {
        self.shown().served.as_ref().map(|served| served.borrow().clone()).unwrap_or_default()
    }

    /// Returns whether every message can be found, but for those of the last seconds.
    pub fn is_complete(&self) -> bool {
        self.served().complete
    }

    /// Returns how much of all chats is read, from 0 to 100.
    pub fn percent(&self) -> u8 {
        self.served().build.percent()
    }

    /// Returns whether the next generation is complete, and how much of all chats is read into it; `None` when none is built.
    pub fn next(&self) -> Option<(bool, u8)> {
        let shown = self.shown();
        let come = shown.next.as_ref()?.borrow();
        Some((come.complete, come.build.percent()))
    }

    /// Returns why the next generation is not begun though it is wanted; `None` when it is not wanted, or is built.
    pub fn waits(&self) -> Option<String> {
        self.shown().waits.clone()
    }

    /// Requests that the index is built again. One that is being built already goes on, and no other one is begun for the request.
    pub fn rebuild(&self) {
        let shown = self.shown();
        if shown.next.is_none() {
            self.requested.notify_one();
        }
    }

    async fn requested(&self) {
        self.requested.notified().await;
    }
}

/// The times of the indexer.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What has come is written this long after the first of it: a commit costs the same for one document as for many.
    pub write_after: Duration,
    /// How often texts that have disappeared are forgotten. They are not found before.
    pub forget_every: Duration,
    /// How long a generation may take to have the last of what is found in the one before. Nothing is written into that one meanwhile.
    pub switch_within: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            write_after: Duration::from_millis(500),
            forget_every: Duration::from_secs(60),
            switch_within: Duration::from_secs(10),
        }
    }
}
