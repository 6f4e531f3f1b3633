//! Requests for the same at the same time share one answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

/// Reads on their way, by what they read. What a request receives was read after the request came: one that comes while a read runs
/// waits for the next one, with all who come until that begins. So however many ask, there are two reads at a time.
pub struct Flights<K, V: Clone> {
    by_key: Mutex<HashMap<K, Flight<V>>>,
}

type Read<V> = Shared<BoxFuture<'static, V>>;

struct Flight<V: Clone> {
    running: Read<V>,
    /// It begins when the running one has ended.
    next: Option<Read<V>>,
    /// Requests that wait.
    requests: usize,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was read for this request.
    Read,
    /// It was read for another one.
    Shared,
}

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { by_key: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Returns what `read` reads, or what the same read for another request returns that begins from now on.
    pub async fn share(&self, key: K, read: impl FnOnce() -> BoxFuture<'static, V>) -> (V, How) {
        let (answer, how) = self.join(&key, read);
        let _request = Request { flights: self, key };
        (answer.await, how)
    }

    fn join(&self, key: &K, read: impl FnOnce() -> BoxFuture<'static, V>) -> (Read<V>, How) {
        let mut by_key = self.lock();
        let Some(flight) = by_key.get_mut(key) else {
            let running = read().shared();
            let flight = Flight { running: running.clone(), next: None, requests: 1 };
            by_key.insert(key.clone(), flight);
            return (running, How::Read);
        };
        flight.requests += 1;
        if flight.running.peek().is_some()
            && let Some(next) = flight.next.take()
        {
            // It may have begun.
            flight.running = next;
        }
        if let Some(next) = &flight.next {
            return (next.clone(), How::Shared);
        }
        let (before, read) = (flight.running.clone(), read());
        let next = async move {
            before.await;
            read.await
        };
        let next = next.boxed().shared();
        flight.next = Some(next.clone());
        (next, How::Read)
    }
}

impl<K, V: Clone> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits; the last one takes the flight with it.
struct Request<'a, K: Clone + Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    key: K,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Request<'_, K, V> {
    fn drop(&mut self) {
        let mut by_key = self.flights.lock();
        if let Some(flight) = by_key.get_mut(&self.key) {
            flight.requests -= 1;
            if flight.requests == 0 {
                by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::{future::join_all, poll};
    use tokio::sync::Semaphore;

    use super::*;

    /// Counts reads. Each waits until it is let through, and returns which one it is.
    #[derive(Clone)]
    struct Source {
        reads: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl Source {
        fn new() -> Self {
            Self { reads: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
        }

        fn read(&self) -> BoxFuture<'static, usize> {
            let this = self.clone();
            async move {
                let read = this.reads.fetch_add(1, Ordering::SeqCst) + 1;
                this.gate.acquire().await.expect("it stays open").forget();
                read
            }
            .boxed()
        }
    }

    #[tokio::test]
    async fn requests_for_the_same_share_the_next_read() {
        let (flights, source) = (Flights::<u8, usize>::default(), Source::new());
        let mut first = Box::pin(flights.share(1, || source.read()));
        assert!(poll!(&mut first).is_pending());
        let later: Vec<_> = (0..100).map(|_| Box::pin(flights.share(1, || source.read()))).collect();
        let mut later = Box::pin(join_all(later));
        assert!(poll!(&mut later).is_pending());
        assert_eq!(source.reads.load(Ordering::SeqCst), 1, "the others wait for the next one");
        source.gate.add_permits(2);
        assert_eq!(first.await, (1, How::Read));
        let later = later.await;
        assert!(later.iter().all(|(read, _)| *read == 2));
        assert_eq!(later.iter().filter(|(_, how)| *how == How::Read).count(), 1);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn requests_for_something_else_share_nothing() {
        let (flights, source) = (Flights::<u8, usize>::default(), Source::new());
        source.gate.add_permits(2);
        let both = join_all([1, 2].map(|key| flights.share(key, || source.read()))).await;
        assert_eq!(both, [(1, How::Read), (2, How::Read)]);
    }

    #[tokio::test]
    async fn a_request_that_goes_away_takes_no_other_with_it() {
        let (flights, source) = (Flights::<u8, usize>::default(), Source::new());
        let mut first = Box::pin(flights.share(1, || source.read()));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.share(1, || source.read()));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        source.gate.add_permits(2);
        assert_eq!(second.await, (2, How::Read));
        assert!(flights.lock().is_empty());

        let mut last = Box::pin(flights.share(1, || source.read()));
        assert!(poll!(&mut last).is_pending());
        drop(last);
        assert!(flights.lock().is_empty());
    }
}
