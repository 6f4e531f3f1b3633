//! Checks files that were uploaded, and makes of pictures what others get.
//!
//! What was uploaded with one request lies where that request may write again for a while. A picture is read from there once, and what is
//! served is what was made of it; any other file is copied, and the copy is checked. So nothing is served that was not checked.
//!
//! A file that a process has claimed and did not finish is claimed by another one, and each step may be done twice.

use std::{io, ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ErrorCode,
    api::{FileRefusal, FileState},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kit::{
    backoff::Backoff,
    error::{ServiceError as _, chain},
    outage::Outage,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    domain::{
        Checksum, Facts, File, MAX_ATTEMPTS, MediaType, Outcome, PartPlan, Thumbnail, Variant, WHOLE_BYTES,
    },
    error::Error,
    films::{Films, Seen},
    metrics::Metrics,
    objects::{Objects, StoredPart, has_part, read_whole},
    pictures::{self, Encoded, Pool},
    scan::{ScanError, Scanner, Verdict},
    sniff::{SNIFFED_BYTES, sniff},
    store::{Claimed, FileStore},
};

/// Files that one process checks at once. Of pictures the pool decides.
const JOBS: usize = 4;
/// How long a process has a file before another one takes it: the largest one is joined, read and scanned in less.
const CLAIM: TimeDelta = TimeDelta::minutes(30);
/// After a failure, and while the pool of pictures is full.
const RETRY: TimeDelta = TimeDelta::seconds(10);
/// How often files are looked for that no process has.
const INTERVAL: Duration = Duration::from_secs(5);
/// After a failure to look.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(10);

/// What checks files. Cheap to clone.
#[derive(Clone)]
pub struct Processor {
    pub store: Arc<dyn FileStore>,
    pub objects: Arc<dyn Objects>,
    pub pool: Pool,
    /// Where the messenger has one.
    pub scanner: Option<Scanner>,
    /// Where the process has ffmpeg.
    pub films: Option<Films>,
    pub metrics: Metrics,
    /// Notified of files whose upload is completed.
    pub wake: Arc<Notify>,
    /// Notifies all who wait for the end of a check.
    pub done: Arc<Notify>,
}

/// Why a check is repeated.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("too many pictures wait to be processed")]
    Busy,
    #[error("failed to scan the file")]
    Scan(#[source] ScanError),
    #[error(transparent)]
    Other(#[from] Error),
}

macro_rules! from {
    ($($error:ty,)+) => {$(
        impl From<$error> for Failed {
            fn from(error: $error) -> Self {
                Self::Other(error.into())
            }
        }
    )+};
}

from! {
    crate::store::StoreError,
    crate::objects::ObjectError,
}

impl Failed {
    /// Returns whether the file has no part in it: the pool, the scanner, the database or the object store had no time for it.
    fn is_of_the_moment(&self) -> bool {
        match self {
            Self::Busy | Self::Scan(_) => true,
            Self::Other(error) => error.code() == ErrorCode::Unavailable,
        }
    }
}

impl Processor {
    /// Checks files until the shutdown.
    pub async fn run(self, tasks: TaskTracker, shutdown: CancellationToken) {
        let (slots, mut backoff) = (Arc::new(Semaphore::new(JOBS)), Backoff::new(BACKOFF));
        let (what, outage) = ("looking for files to check", Outage::default());
        loop {
            let slot = tokio::select! {
                () = shutdown.cancelled() => return,
                slot = slots.clone().acquire_owned() => slot.expect("it is never closed"),
            };
            let woken = self.wake.notified();
            match self.store.claim(now(), now() + CLAIM).await {
                Ok(Some(claimed)) => {
                    outage.worked(what);
                    backoff.reset();
                    let (this, shutdown) = (self.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        this.work(claimed, &shutdown).await;
                        drop(slot);
                    });
                }
                Ok(None) => {
                    outage.worked(what);
                    backoff.reset();
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = woken => {}
                        () = tokio::time::sleep(INTERVAL) => {}
                    }
                }
                Err(error) => {
                    outage.failed(what, &error);
                    if backoff.pause(&shutdown).await.is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Checks a file that this process has claimed. At the shutdown, and after a failure, it is left to the next look.
    async fn work(&self, claimed: Claimed, shutdown: &CancellationToken) {
        let file = &claimed.file;
        self.metrics.in_processing.inc();
        let outcome = tokio::select! {
            () = shutdown.cancelled() => None,
            outcome = self.process(&claimed) => Some(outcome),
        };
        self.metrics.in_processing.dec();
        let (again_at, is_counted) = match outcome {
            Some(Ok(())) => {
                self.done.notify_waiters();
                return;
            }
            Some(Err(error)) => {
                self.metrics.retried.inc();
                let cause = chain(&error);
                tracing::warn!(file = %file.file_id, cause, "the check of file {} is repeated: {cause}", file.file_id);
                (now() + RETRY, !error.is_of_the_moment())
            }
            None => (now(), false),
        };
        if let Err(error) = self.store.give_claim_back(file.file_id, again_at, is_counted).await {
            tracing::debug!(%error, "a claim is left to its end: {error}");
        }
    }

    /// Checks a file and notes what became of it.
    async fn process(&self, Claimed { file, attempts }: &Claimed) -> Result<(), Failed> {
        let outcome = match *attempts > MAX_ATTEMPTS {
            true => Outcome::Refused(FileRefusal::CheckFailed),
            false => self.outcome(file).await?,
        };
        let noted = self.store.finish(file.file_id, &outcome, now()).await?;
        // What is noted decides: another process may have been faster, and a file may have been removed meanwhile.
        let state = noted.and_then(|file| file.state.shown());
        if matches!(state, None | Some(FileState::Refused)) {
            self.objects.remove(&file.key(Variant::Content)).await?;
            self.objects.remove(&file.key(Variant::Thumbnail)).await?;
        }
        if !file.is_in_parts() {
            // Once more when the request for it is good no longer: see `collecting`.
            self.objects.remove(&file.upload_key()).await?;
        }
        if let Some(state) = state {
            self.metrics.processed(state);
            tracing::debug!(file = %file.file_id, ?state, "checked file {}", file.file_id);
        }
        Ok(())
    }

    async fn outcome(&self, file: &File) -> Result<Outcome, Failed> {
        if file.is_in_parts() {
            return match self.join(file).await? {
                true => self.check_stored(file).await,
                false => Ok(Outcome::Refused(FileRefusal::SizeMismatch)),
            };
        }
        if file.declared.media_type.is_picture() {
            return self.check_picture(file).await;
        }
        match self.objects.copy(&file.upload_key(), &file.key(Variant::Content)).await? {
            true => self.check_stored(file).await,
            false => Ok(Outcome::Refused(FileRefusal::SizeMismatch)),
        }
    }

    /// Makes one object of the parts of a file. Returns whether there is one.
    async fn join(&self, file: &File) -> Result<bool, Failed> {
        let key = file.key(Variant::Content);
        if let Some(upload) = &file.multipart_id
            && let Some(stored) = self.objects.parts(&key, upload).await?
        {
            if !missing_parts(file, &stored).is_empty() {
                return Ok(false);
            }
            self.objects.complete_parts(&key, upload, &stored).await?;
        }
        // Another process may have joined them before.
        Ok(self.objects.size(&key).await?.is_some())
    }

    /// Reads a picture, and makes of it what others get.
    async fn check_picture(&self, file: &File) -> Result<Outcome, Failed> {
        // What is larger has not the size that it must have either.
        let most = usize::try_from(file.declared.bytes.min(WHOLE_BYTES)).unwrap_or(0);
        let Some(bytes) = read_whole(&*self.objects, &file.upload_key(), most).await? else {
            return Ok(Outcome::Refused(FileRefusal::SizeMismatch));
        };
        let digest = Sha256::digest(&bytes).into();
        if let Some(refusal) = mismatch(file, bytes.len(), digest) {
            return Ok(Outcome::Refused(refusal));
        }
        if let Some(scanner) = &self.scanner {
            let whole = stream::iter([Ok(bytes.clone())]);
            match verdict(scanner.scan(whole).await)? {
                Scanned::Clean => {}
                Scanned::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
                Scanned::Found(name) => {
                    self.objects.copy(&file.upload_key(), &file.key(Variant::Content)).await?;
                    return Ok(quarantined(file, &name));
                }
            }
        }
        let declared = file.declared.media_type.as_str();
        let picture = match self.pool.process(bytes, declared).await {
            Ok(picture) => picture,
            Err(pictures::Failed::Busy) => return Err(Failed::Busy),
            Err(pictures::Failed::Refused(refused)) => return Ok(Outcome::Refused(refusal(&refused))),
        };
        let (media_type, bytes) = (MediaType::of(picture.main.content_type), bytes_of(&picture.main.bytes));
        self.objects.write(&file.key(Variant::Content), &media_type, picture.main.bytes).await?;
        let thumbnail = self.write_thumbnail(file, &picture.thumbnail).await?;
        Ok(Outcome::Ready(Facts {
            media_type,
            bytes,
            width: Some(picture.width),
            height: Some(picture.height),
            duration_ms: None,
            blur: Some(picture.blur),
            thumbnail: Some(thumbnail),
        }))
    }

    async fn write_thumbnail(&self, file: &File, small: &Encoded) -> Result<Thumbnail, Failed> {
        let media_type = MediaType::of(small.content_type);
        self.objects.write(&file.key(Variant::Thumbnail), &media_type, small.bytes.clone()).await?;
        Ok(Thumbnail { media_type, bytes: bytes_of(&small.bytes) })
    }

    /// Checks the object of any other file, which is read piece by piece.
    async fn check_stored(&self, file: &File) -> Result<Outcome, Failed> {
        if file.declared.media_type.is_picture() {
            // Larger than a picture may be. It is refused before it is uploaded.
            return Ok(Outcome::Refused(FileRefusal::PictureTooLarge));
        }
        let key = file.key(Variant::Content);
        let Some(mut pieces) = self.objects.read(&key, None).await? else {
            return Ok(Outcome::Refused(FileRefusal::SizeMismatch));
        };
        let (mut hash, mut start, mut read) = (Sha256::new(), Vec::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hash.update(&piece);
            let room = SNIFFED_BYTES - start.len();
            start.extend_from_slice(&piece[..piece.len().min(room)]);
            read += piece.len();
        }
        if let Some(refusal) = mismatch(file, read, hash.finalize().into()) {
            return Ok(Outcome::Refused(refusal));
        }
        let kind = sniff(&start);
        if !kind.agrees_with(file.declared.media_type.as_str()) {
            return Ok(Outcome::Refused(FileRefusal::TypeMismatch));
        }
        if let Some(scanner) = &self.scanner
            && let Some(pieces) = self.objects.read(&key, None).await?
        {
            match verdict(scanner.scan(pieces.map_err(io::Error::other)).await)? {
                Scanned::Clean => {}
                Scanned::Refused(refusal) => return Ok(Outcome::Refused(refusal)),
                Scanned::Found(name) => return Ok(quarantined(file, &name)),
            }
        }
        let seen = match &self.films {
            Some(films) if file.declared.media_type.is_medium() => {
                films.see(&*self.objects, &key, kind, file.declared.bytes, &self.pool).await
            }
            Some(_) | None => Seen::default(),
        };
        let thumbnail = match &seen.poster {
            Some(poster) => Some(self.write_thumbnail(file, &poster.thumbnail).await?),
            None => None,
        };
        let [width, height] = seen.facts.size.map_or([None; 2], |size| size.map(Some));
        Ok(Outcome::Ready(Facts {
            media_type: MediaType::of(kind.content_type()),
            bytes: file.declared.bytes,
            width,
            height,
            duration_ms: seen.facts.duration_ms.and_then(|milliseconds| i64::try_from(milliseconds).ok()),
            blur: seen.poster.map(|poster| poster.blur),
            thumbnail,
        }))
    }
}

/// Returns the parts of a file that are not there as they must be, by their numbers.
pub(crate) fn missing_parts(file: &File, stored: &[StoredPart]) -> Vec<u16> {
    let plan = PartPlan::of(file.declared.bytes).parts();
    plan.filter(|part| !has_part(stored, *part)).map(|part| part.number).collect()
}

/// Returns what is wrong with the bytes of a file.
fn mismatch(file: &File, bytes: usize, digest: Checksum) -> Option<FileRefusal> {
    if i64::try_from(bytes) != Ok(file.declared.bytes) {
        return Some(FileRefusal::SizeMismatch);
    }
    let is_other = file.declared.checksum.is_some_and(|declared| declared != digest);
    is_other.then_some(FileRefusal::ChecksumMismatch)
}

/// What a scan says of a file.
enum Scanned {
    Clean,
    Refused(FileRefusal),
    /// The name of what was found.
    Found(String),
}

/// Reads the verdict of a scan. A file that cannot be scanned for the moment waits: none is let through.
fn verdict(scanned: Result<Verdict, ScanError>) -> Result<Scanned, Failed> {
    match scanned {
        Ok(Verdict::Clean) => Ok(Scanned::Clean),
        Ok(Verdict::Found(name)) => Ok(Scanned::Found(name)),
        Err(ScanError::TooLarge) => Ok(Scanned::Refused(FileRefusal::TooLargeToScan)),
        Err(error) => Err(Failed::Scan(error)),
    }
}

fn quarantined(file: &File, found: &str) -> Outcome {
    tracing::warn!(file = %file.file_id, user = %file.owner, found, "the scanner found {found} in file {}", file.file_id);
    Outcome::Quarantined
}

/// Returns the reason that users read for a picture which is refused.
fn refusal(refused: &pictures::Refused) -> FileRefusal {
    match refused {
        pictures::Refused::OtherType { .. } => FileRefusal::TypeMismatch,
        pictures::Refused::Unsupported => FileRefusal::UnsupportedPicture,
        pictures::Refused::Damaged => FileRefusal::DamagedPicture,
        pictures::Refused::TooLarge { .. } => FileRefusal::PictureTooLarge,
        pictures::Refused::AnimationTooLong => FileRefusal::AnimationTooLong,
        pictures::Refused::TookTooLong => FileRefusal::PictureTookTooLong,
    }
}

fn bytes_of(bytes: &Bytes) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "an edge: the time of a claim")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
