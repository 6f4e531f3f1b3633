//! Puts what is done for one seat in a row.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::SeatId;

/// Enough that two users seldom wait for each other.
const STRIPES: usize = 256;

/// Locks, each for some of all seats.
#[derive(Clone)]
pub(crate) struct Turns {
    hasher: RandomState,
    stripes: Arc<[Mutex<()>]>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { hasher: RandomState::new(), stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }
}

impl Turns {
    /// Waits until nothing else is done for this seat; the turn ends with the guard.
    pub(crate) async fn of(&self, seat: SeatId) -> MutexGuard<'_, ()> {
        let at = self.hasher.hash_one(seat) % STRIPES as u64;
        self.stripes[at as usize].lock().await
    }
}
