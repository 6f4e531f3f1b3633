//! Removes what no user needs any more: files that nothing refers to, and what uploads left.
//!
//! Every process does rounds, and what is done twice changes nothing. The row of a file goes after its objects, so that what a process
//! that is killed leaves is found by the next round. A request of an upload outlives the removal of its file: the row stays until none can
//! write any more, and the objects are removed once more then.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use kit::{backoff::Backoff, rounds};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{File, Variant},
    error::Error,
    metrics::Metrics,
    objects::Objects,
    store::FileStore,
};

/// Between rounds. A file that a user removes is removed with the next one.
const INTERVAL: Duration = Duration::from_secs(30);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// Files of one step.
const STEP: usize = 100;

/// What collecting needs. Cheap to clone.
#[derive(Clone)]
pub struct Collector {
    pub store: Arc<dyn FileStore>,
    pub objects: Arc<dyn Objects>,
    pub metrics: Metrics,
    /// Notified of what can be removed immediately.
    pub wake: Arc<Notify>,
}

impl Collector {
    /// Collects until the shutdown.
    #[expect(clippy::disallowed_methods, reason = "an edge: the time of the round")]
    pub async fn run(self, shutdown: CancellationToken) {
        let what = "removing files that are not needed";
        let (backoff, round) = (Backoff::new(BACKOFF), || self.collect(Utc::now()));
        rounds::repeat_woken(what, INTERVAL, backoff, &shutdown, &self.wake, round).await;
    }

    /// Does a round: removes all that can be at `now`.
    pub async fn collect(&self, now: DateTime<Utc>) -> Result<(), Error> {
        while self.store.expire(now, STEP).await? {}
        loop {
            let files = self.store.collect(now, STEP).await?;
            for file in &files {
                self.remove(file, now).await?;
            }
            if files.len() < STEP {
                break;
            }
        }
        loop {
            let files = self.store.uploaded(now, STEP).await?;
            for file in &files {
                self.objects.remove(&file.upload_key()).await?;
                self.store.forget_upload(file.file_id).await?;
            }
            if files.len() < STEP {
                break;
            }
        }
        self.metrics.used_bytes.set(self.store.used_bytes().await?);
        Ok(())
    }

    /// Removes the objects of a file whose removal has begun, and then the file, if nothing can write any more.
    async fn remove(&self, file: &File, now: DateTime<Utc>) -> Result<(), Error> {
        if let Some(upload) = &file.multipart_id {
            self.objects.abort_parts(&file.key(Variant::Content), upload).await?;
        }
        for key in [file.upload_key(), file.key(Variant::Content), file.key(Variant::Thumbnail)] {
            self.objects.remove(&key).await?;
        }
        if self.store.forget(file.file_id, now).await? {
            self.metrics.collected.inc();
            tracing::debug!(file = %file.file_id, "removed file {}", file.file_id);
        }
        Ok(())
    }
}
