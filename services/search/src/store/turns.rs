//! How many searches run at one time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contracts::UserId;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::IndexError;

/// Turns of searches: so many at one time, and one of each reader.
pub(super) struct Turns {
    free: Arc<Semaphore>,
    readers: Arc<Readers>,
    patience: Duration,
}

#[derive(Default)]
struct Readers {
    searching: Mutex<HashSet<UserId>>,
    ended: Notify,
}

/// A reader whose search runs or waits for its turn.
struct Searching {
    reader: UserId,
    readers: Arc<Readers>,
}

/// A turn of a reader. It ends when it is dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    _searching: Searching,
}

impl Turns {
    /// Returns turns for so many searches at one time; a search waits so long for its turn.
    pub(super) fn new(searches: usize, patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(searches)), readers: Arc::default(), patience }
    }

    /// Runs what blocks, in a turn of a reader. The turn ends with the work, and not before when its client has left: the core
    /// is as busy then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        reader: UserId,
        work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let turn = self.begin(reader).await?;
        let working = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.unwrap_or(Err(IndexError::Cancelled))
    }

    /// Returns a turn of a reader, which ends when it is dropped.
    pub(super) async fn begin(&self, reader: UserId) -> Result<Turn, IndexError> {
        let turn = timeout(self.patience, self.turn(reader)).await;
        turn.map_err(|_| IndexError::TooManySearches)?
    }

    async fn turn(&self, reader: UserId) -> Result<Turn, IndexError> {
        let searching = self.readers.clone().begin(reader).await;
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.map_err(|_| IndexError::Cancelled)?;
        Ok(Turn { _permit: permit, _searching: searching })
    }
}

impl Readers {
    fn searching(&self) -> MutexGuard<'_, HashSet<UserId>> {
        self.searching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other search of a reader runs.
    async fn begin(self: Arc<Self>, reader: UserId) -> Searching {
        loop {
            let ended = self.ended.notified();
            if self.searching().insert(reader) {
                break;
            }
            ended.await;
        }
        Searching { reader, readers: self }
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        self.readers.searching().remove(&self.reader);
        self.readers.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use uuid::Uuid;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    /// Begins a search of a user that lasts until the sender is dropped. Its client leaves at once.
    async fn leave_a_search(turns: &Arc<Turns>, user: UserId) -> mpsc::Sender<()> {
        let (until, gone) = mpsc::channel::<()>();
        let (runs, running) = tokio::sync::oneshot::channel();
        let of = turns.clone();
        let client = tokio::spawn(async move {
            of.run(user, move || {
                runs.send(()).expect("it is waited for");
                assert!(gone.recv().is_err(), "nothing is sent, only dropped");
                Ok(())
            })
            .await
        });
        running.await.expect("it runs");
        client.abort();
        assert!(client.await.is_err_and(|error| error.is_cancelled()));
        until
    }

    #[tokio::test]
    async fn a_search_whose_client_left_keeps_its_turn_until_it_ends() {
        let turns = Arc::new(Turns::new(1, PATIENCE));
        let first = leave_a_search(&turns, user(1)).await;
        let second = turns.run(user(2), || Ok(())).await;
        assert!(matches!(second, Err(IndexError::TooManySearches)), "{second:?}");
        drop(first);
        let patient =
            Turns { patience: Duration::from_secs(30), ..Arc::into_inner(turns).expect("one handle") };
        patient.run(user(2), || Ok(())).await.expect("a turn");
    }

    #[tokio::test]
    async fn a_reader_searches_once_at_a_time_and_holds_nobody_else_up() {
        let turns = Arc::new(Turns::new(2, PATIENCE));
        let first = leave_a_search(&turns, user(1)).await;
        let second = turns.run(user(1), || Ok(())).await;
        assert!(matches!(second, Err(IndexError::TooManySearches)), "{second:?}");
        turns.run(user(2), || Ok(())).await.expect("a turn");
        let waiting = {
            let turns = Arc::into_inner(turns).expect("one handle");
            tokio::spawn(async move {
                let turns = Turns { patience: Duration::from_secs(30), ..turns };
                turns.run(user(1), || Ok(())).await
            })
        };
        drop(first);
        waiting.await.expect("no panic").expect("the turn comes when the first search ends");
    }
}
