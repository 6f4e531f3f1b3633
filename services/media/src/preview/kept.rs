//! Previews that were fetched lately: a link that a chat shows is fetched once for all its members.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contracts::UserId;
use kit::bucket::{Rate, SharedBuckets};
use tokio::sync::OnceCell;

use super::{Fetcher, Preview, PreviewError};

/// A user who opens a chat with many links is not held up, and none lets this service call sites without a pause.
const RATE: Rate = Rate::every(Duration::from_secs(1), 60);
/// Pages change.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// A site that was not there may come back.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(60);
/// Each has some ten KiB, nearly all of it a picture.
const MAX_KEPT: usize = 128;
/// A larger picture is left out of its preview: it is in the response, and kept.
const MAX_PICTURE_BYTES: usize = 128 * 1024;

/// What links lead to, for those who may ask. Cheap to clone.
#[derive(Clone)]
pub struct Previews(Arc<Inner>);

struct Inner {
    /// None where the process has no TLS.
    fetcher: Option<Fetcher>,
    asked: SharedBuckets<UserId>,
    kept: Mutex<HashMap<String, Kept>>,
}

/// A preview that is fetched, or was.
#[derive(Clone)]
struct Kept {
    begun_at: Instant,
    fetched: Arc<OnceCell<Result<Preview, PreviewError>>>,
}

impl Kept {
    fn begin(now: Instant) -> Self {
        Self { begun_at: now, fetched: Arc::default() }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.begun_at);
        match self.fetched.get() {
            None | Some(Ok(_)) => age < KEPT_FOR,
            Some(Err(PreviewError::Busy)) => false,
            Some(Err(_)) => age < FAILURE_KEPT_FOR,
        }
    }
}

impl Previews {
    /// Returns previews that this fetcher fetches, or none.
    pub fn new(fetcher: Option<Fetcher>) -> Self {
        let asked = SharedBuckets::new(RATE);
        Self(Arc::new(Inner { fetcher, asked, kept: Mutex::default() }))
    }

    /// Counts a request of a user. An error is the time to wait for the next one.
    pub(crate) fn count(&self, user: UserId, now: Instant) -> Result<(), Duration> {
        self.0.asked.try_take(user, now)
    }

    /// Returns what `of` makes of the preview of a link. All who ask for one at the same time wait for one fetch.
    pub(crate) async fn get<T>(
        &self,
        link: &str,
        now: Instant,
        of: impl FnOnce(&Preview) -> T,
    ) -> Result<T, NoPreview> {
        let fetcher = self.0.fetcher.as_ref().ok_or(NoPreview::None)?;
        let fetched = self.kept(link, now).fetched;
        let preview = fetched.get_or_init(|| async { fetcher.fetch(link).await.map(small) }).await;
        preview.as_ref().map(of).map_err(|error| match error {
            PreviewError::Busy => NoPreview::Busy,
            _ => NoPreview::None,
        })
    }

    fn kept(&self, link: &str, now: Instant) -> Kept {
        let mut kept = lock(&self.0.kept);
        if let Some(fresh) = kept.get(link).filter(|kept| kept.is_fresh(now)) {
            return fresh.clone();
        }
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, kept| kept.is_fresh(now));
        }
        if kept.len() >= MAX_KEPT {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.begun_at).map(|(link, _)| link.clone());
            oldest.map(|oldest| kept.remove(&oldest));
        }
        let begun = Kept::begin(now);
        kept.insert(link.to_owned(), begun.clone());
        begun
    }
}

/// Why a user gets no preview. Which of all reasons it has is not said: it would tell what there is on networks that the user does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPreview {
    None,
    Busy,
}

fn small(preview: Preview) -> Preview {
    let picture = preview.picture.filter(|picture| picture.thumbnail.bytes.len() <= MAX_PICTURE_BYTES);
    Preview { picture, ..preview }
}

fn lock(kept: &Mutex<HashMap<String, Kept>>) -> MutexGuard<'_, HashMap<String, Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a preview that came to an end at `begun_at`, or is being fetched.
    fn kept(begun_at: Instant, end: Option<PreviewError>) -> Kept {
        let kept = Kept::begin(begun_at);
        if let Some(error) = end {
            kept.fetched.set(Err(error)).expect("it is set once");
        }
        kept
    }

    #[test]
    fn a_failure_is_kept_for_a_moment_and_a_full_queue_not_at_all() {
        let begun_at = Instant::now();
        let is_fresh = |end, after: Duration| kept(begun_at, end).is_fresh(begun_at + after);
        assert!(is_fresh(None, KEPT_FOR - Duration::from_secs(1)));
        assert!(!is_fresh(None, KEPT_FOR));
        assert!(is_fresh(Some(PreviewError::TookTooLong), FAILURE_KEPT_FOR - Duration::from_secs(1)));
        assert!(!is_fresh(Some(PreviewError::TookTooLong), FAILURE_KEPT_FOR));
        assert!(!is_fresh(Some(PreviewError::Busy), Duration::ZERO));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for_and_the_oldest_goes() {
        let (previews, began) = (Previews::new(None), Instant::now());
        for number in 0..=MAX_KEPT as u64 {
            previews.kept(&number.to_string(), began + Duration::from_millis(number));
        }
        let kept = lock(&previews.0.kept);
        assert_eq!(kept.len(), MAX_KEPT);
        assert!(!kept.contains_key("0") && kept.contains_key("1"));
    }
}
