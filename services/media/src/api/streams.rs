//! Files that are being sent: how many at once, to one user and to all, and for how long to a client that takes nothing.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::BoxError;
use bytes::Bytes;
use contracts::UserId;
use futures_util::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, metrics::Metrics, objects::Pieces};

/// Files that one process sends at once: each takes some hundred KiB.
const MAX_STREAMS: usize = 256;
/// To one user of them: a page of pictures takes a few, and no user takes those of all others.
const MAX_STREAMS_OF_USER: usize = 16;
/// A client that takes nothing for so long is gone. Sockets and proxies on the way hold some MiB, and what takes 20 KB/s makes room in them only
/// about once a minute.
const STALLED_AFTER: Duration = Duration::from_secs(120);
/// How often it is looked for those.
const INTERVAL: Duration = Duration::from_secs(5);

/// The files that this process is sending. Cheap to clone.
#[derive(Clone, Default)]
pub struct Streams(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many places are taken, by user.
    places: Mutex<HashMap<UserId, usize>>,
    sending: Mutex<Vec<Weak<Mutex<State>>>>,
}

/// A place that is taken for a file. It is free when this is dropped.
pub(super) struct Place {
    streams: Streams,
    user: UserId,
}

/// A file that is being sent, piece by piece as its client takes them.
pub(super) struct Sent(Arc<Mutex<State>>);

enum State {
    Sending(Sending),
    /// It came to its end.
    Done,
    /// Its client took nothing for too long.
    Stalled,
}

struct Sending {
    pieces: Pieces,
    taken_at: Instant,
    metrics: Metrics,
    _place: Place,
}

/// A client took nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the client took nothing for {STALLED_AFTER:?}")]
struct Stalled;

impl Streams {
    /// Takes a place for a file that is sent to a user.
    pub(super) fn begin(&self, user: UserId) -> Result<Place, Error> {
        let mut places = lock(&self.0.places);
        let (all, own) = (places.values().sum::<usize>(), places.get(&user).copied().unwrap_or(0));
        if all >= MAX_STREAMS || own >= MAX_STREAMS_OF_USER {
            return Err(Error::TooManyStreams);
        }
        places.insert(user, own + 1);
        Ok(Place { streams: self.clone(), user })
    }

    /// Ends what stalls until the shutdown. Nothing else would: a client that takes nothing asks for nothing.
    pub async fn watch(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => self.end_stalled(Instant::now()),
            }
        }
    }

    /// Ends what has stalled at `now`: its place is free, and what it had in hand is gone.
    fn end_stalled(&self, now: Instant) {
        lock(&self.0.sending).retain(|sending| {
            let Some(state) = sending.upgrade() else { return false };
            let mut state = lock(&state);
            let State::Sending(Sending { taken_at, .. }) = &*state else { return false };
            let is_stalled = now.saturating_duration_since(*taken_at) >= STALLED_AFTER;
            if is_stalled {
                *state = State::Stalled;
            }
            !is_stalled
        });
    }
}

impl Place {
    /// Sends a file from this place.
    pub(super) fn send(self, pieces: Pieces, metrics: Metrics) -> Sent {
        metrics.streams.inc();
        let streams = self.streams.clone();
        let sending = Sending { pieces, taken_at: Instant::now(), metrics, _place: self };
        let state = Arc::new(Mutex::new(State::Sending(sending)));
        lock(&streams.0.sending).push(Arc::downgrade(&state));
        Sent(state)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.streams.0.places);
        if let Some(taken) = places.get_mut(&self.user) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.user);
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.metrics.streams.dec();
    }
}

impl Stream for Sent {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.0);
        let sending = match &mut *state {
            State::Sending(sending) => sending,
            State::Done => return Poll::Ready(None),
            State::Stalled => return Poll::Ready(Some(Err(Stalled.into()))),
        };
        let piece = ready!(sending.pieces.poll_next_unpin(context));
        if let Some(Ok(piece)) = &piece {
            sending.taken_at = Instant::now();
            sending.metrics.served_bytes.inc_by(piece.len() as u64);
        } else {
            *state = State::Done;
        }
        Poll::Ready(piece.map(|piece| piece.map_err(BoxError::from)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use uuid::Uuid;

    use super::*;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn send(streams: &Streams, user: UserId) -> Sent {
        let pieces = stream::iter([Bytes::from_static(b"two"), Bytes::from_static(b"cats")].map(Ok));
        streams.begin(user).expect("a place").send(pieces.boxed(), Metrics::default())
    }

    #[test]
    fn a_user_who_takes_many_files_leaves_places_to_others() {
        let streams = Streams::default();
        let taken: Vec<_> = (0..MAX_STREAMS_OF_USER).map(|_| streams.begin(user(1)).expect("one")).collect();
        assert!(matches!(streams.begin(user(1)), Err(Error::TooManyStreams)));
        drop(streams.begin(user(2)).expect("one for another user"));
        drop(taken);
        streams.begin(user(1)).expect("there is room again");
        let of_many: Vec<_> =
            (0..MAX_STREAMS as u128).map(|number| streams.begin(user(number)).expect("one")).collect();
        assert!(matches!(streams.begin(user(1_000)), Err(Error::TooManyStreams)), "of all users");
        drop(of_many);
        assert!(lock(&streams.0.places).is_empty());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_loses_its_place_and_gets_an_error() {
        let streams = Streams::default();
        let [mut slow, mut quick] = [1, 2].map(|number| send(&streams, user(number)));
        assert_eq!(slow.next().await.expect("a piece").expect("bytes"), "two");
        streams.end_stalled(Instant::now());
        assert_eq!(quick.next().await.expect("a piece").expect("bytes"), "two");
        assert_eq!(quick.next().await.expect("a piece").expect("bytes"), "cats");
        assert!(quick.next().await.is_none());
        assert_eq!(lock(&streams.0.places).len(), 1, "what came to its end has no place");
        streams.end_stalled(Instant::now() + STALLED_AFTER);
        assert!(lock(&streams.0.places).is_empty());
        assert!(slow.next().await.expect("an answer").is_err(), "a part is not taken for the whole");
        assert!(quick.next().await.is_none());
    }

    #[test]
    fn a_client_that_leaves_frees_its_place() {
        let streams = Streams::default();
        drop(send(&streams, user(1)));
        assert!(lock(&streams.0.places).is_empty());
        streams.end_stalled(Instant::now());
        assert!(lock(&streams.0.sending).is_empty());
    }
}
