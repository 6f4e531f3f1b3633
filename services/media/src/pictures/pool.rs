//! A few threads for pictures, and a bound on what waits for them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{Limits, Picture, Refused, process};

/// A picture that waits counts for this many bytes at least, which bounds their number.
const LEAST_BYTES: usize = 1024 * 1024;
/// Bytes of one permit of the queue; a semaphore counts no further than 2^29 on 32 bits.
const PERMIT_BYTES: usize = 1024;

/// How much a pool takes on. Its memory is that of `jobs` pictures at their limit, and the files of all.
#[derive(Clone, Copy, Debug)]
pub struct PoolSize {
    /// Pictures that are processed at a time.
    pub jobs: usize,
    /// Bytes of all files that wait or are processed. A file of less than a mebibyte counts as one.
    pub queue_bytes: usize,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self { jobs: 2, queue_bytes: 128 * LEAST_BYTES }
    }
}

impl PoolSize {
    /// Returns what a process takes on that may have so many bytes of memory: no more than half of them, because the process sends files
    /// beside, or has all services of a tenant.
    pub fn within(memory_bytes: u64, limits: &Limits) -> Self {
        let pictures = memory_bytes / 2 / limits.max_memory_bytes;
        if pictures >= 2 { Self::default() } else { Self { jobs: 1, queue_bytes: 48 * LEAST_BYTES } }
    }
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// For good: the file is at fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// For the moment: the queue is full, or the process is about to end. The same file is processed later.
    #[error("too many pictures wait to be processed")]
    Busy,
}

/// Processes pictures on threads of their own, a few at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    limits: Arc<Limits>,
    jobs: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Pool {
    /// Returns a pool of this size, for pictures within these limits.
    pub fn new(size: PoolSize, limits: Limits) -> Self {
        Self {
            limits: Arc::new(limits),
            jobs: Arc::new(Semaphore::new(size.jobs.max(1))),
            queue: Arc::new(Semaphore::new(permits(size.queue_bytes))),
        }
    }

    /// Makes of an uploaded file what others get of it, see [`process`]. Waits for its turn.
    ///
    /// # Errors
    ///
    /// [`Failed::Busy`] immediately when the queue has no room for the file, and [`Failed::Refused`] for a file that is not taken.
    pub async fn process(&self, bytes: Bytes, declared: &str) -> Result<Picture, Failed> {
        self.run(bytes, declared, process).await
    }

    async fn run(
        &self,
        bytes: Bytes,
        declared: &str,
        process: impl FnOnce(&Bytes, &str, &Limits) -> Result<Picture, Refused> + Send + 'static,
    ) -> Result<Picture, Failed> {
        let taken = u32::try_from(permits(bytes.len().max(LEAST_BYTES))).map_err(|_| Failed::Busy)?;
        let place = Arc::clone(&self.queue).try_acquire_many_owned(taken).map_err(|_| Failed::Busy)?;
        let turn = Arc::clone(&self.jobs).acquire_owned().await.map_err(|_| Failed::Busy)?;
        let (limits, declared) = (Arc::clone(&self.limits), declared.to_owned());
        // A thread cannot be stopped: one that is late keeps its place and its turn until it ends.
        let job = spawn_blocking(move || {
            let _held = (place, turn);
            process(&bytes, &declared, &limits)
        });
        match timeout(self.limits.max_time, job).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(error)) if error.is_panic() => {
                // Known of decoders. What they were given is gone with it.
                tracing::warn!("a decoder of pictures panicked; the file is refused as damaged");
                Err(Refused::Damaged.into())
            }
            Ok(Err(_cancelled)) => Err(Failed::Busy),
            Err(_elapsed) => Err(Refused::TookTooLong.into()),
        }
    }
}

fn permits(bytes: usize) -> usize {
    bytes.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::Duration,
    };

    use kit::testing::wait_for;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    type Process = Box<dyn FnOnce(&Bytes, &str, &Limits) -> Result<Picture, Refused> + Send>;

    /// Processing that lasts until it is ended.
    fn held() -> (Sender<()>, Process) {
        let (end, ended): (Sender<()>, Receiver<()>) = channel();
        let process: Process = Box::new(move |_: &Bytes, _: &str, _: &Limits| {
            assert!(ended.recv().is_err(), "nothing is sent, only dropped");
            Err(Refused::Unsupported)
        });
        (end, process)
    }

    fn pool(jobs: usize, places: usize, max_time: Duration) -> Pool {
        let size = PoolSize { jobs, queue_bytes: places * LEAST_BYTES };
        Pool::new(size, Limits { max_time, ..Limits::default() })
    }

    async fn runs(pool: &Pool, count: usize, places: usize) {
        let left = (places - count) * permits(LEAST_BYTES);
        let run = || async move { (pool.queue.available_permits() == left).then_some(()) };
        wait_for("pictures in the queue", PATIENCE, run).await;
    }

    #[test]
    fn a_process_with_little_memory_takes_one_picture_at_a_time() {
        let limits = Limits::default();
        for (mebibytes, jobs) in [(512, 1), (1_024, 1), (2_048, 2), (16_384, 2)] {
            let size = PoolSize::within(mebibytes << 20, &limits);
            assert_eq!(size.jobs, jobs, "{mebibytes} MiB");
            // Two of the largest files are waited for.
            assert!(size.queue_bytes >= 48 << 20);
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_immediately_and_takes_again_what_comes_later() {
        let pool = pool(1, 2, PATIENCE);
        let (end_first, first) = held();
        let (end_second, second) = held();
        let jobs = [
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.run(Bytes::new(), "", first).await }
            }),
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.run(Bytes::new(), "", second).await }
            }),
        ];
        runs(&pool, 2, 2).await;
        assert_eq!(pool.process(Bytes::new(), "").await.unwrap_err(), Failed::Busy);
        drop((end_first, end_second));
        for job in jobs {
            assert_eq!(job.await.unwrap().unwrap_err(), Refused::Unsupported.into());
        }
        assert_eq!(pool.process(Bytes::new(), "").await.unwrap_err(), Refused::Unsupported.into());
    }

    #[tokio::test]
    async fn a_file_larger_than_the_queue_is_busy_rather_than_waiting_forever() {
        let pool = pool(1, 1, PATIENCE);
        let large = Bytes::from(vec![0; LEAST_BYTES + 1]);
        assert_eq!(pool.process(large, "").await.unwrap_err(), Failed::Busy);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_refused_and_holds_its_turn_until_it_ends() {
        let pool = pool(1, 2, Duration::from_millis(20));
        let (end, process) = held();
        let late = pool.run(Bytes::new(), "", process).await;
        assert_eq!(late.unwrap_err(), Refused::TookTooLong.into());
        assert_eq!(pool.jobs.available_permits(), 0, "its thread still has the memory");
        drop(end);
        let free = || async { (pool.jobs.available_permits() == 1).then_some(()) };
        wait_for("the end of the thread", PATIENCE, free).await;
        runs(&pool, 0, 2).await;
    }

    #[tokio::test]
    async fn a_decoder_that_panics_refuses_its_file_and_no_other() {
        let pool = pool(1, 1, PATIENCE);
        let panics = |_: &Bytes, _: &str, _: &Limits| -> Result<Picture, Refused> { panic!("a bad file") };
        assert_eq!(pool.run(Bytes::new(), "", panics).await.unwrap_err(), Refused::Damaged.into());
        assert_eq!(pool.process(Bytes::new(), "").await.unwrap_err(), Refused::Unsupported.into());
    }

    #[tokio::test]
    async fn who_leaves_while_waiting_gives_the_place_to_another() {
        let pool = pool(1, 2, PATIENCE);
        let (end, process) = held();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(Bytes::new(), "", process).await }
        });
        runs(&pool, 1, 2).await;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.process(Bytes::new(), "").await }
        });
        runs(&pool, 2, 2).await;
        waiting.abort();
        runs(&pool, 1, 2).await;
        drop(end);
        assert_eq!(first.await.unwrap().unwrap_err(), Refused::Unsupported.into());
    }
}
