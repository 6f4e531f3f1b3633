//! What the bodies of requests hold while they come in. Any client may send one, known or not, and as slowly as it likes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Bytes of all bodies of a process that are not whole.
const BUDGET_BYTES: usize = 32 * 1024 * 1024;
/// A body may have this part of what is left of it, so the largest ones meet the limit first.
const PART_OF_FREE: usize = 8;
/// What a body may have however little is left: more than nearly all of them have.
const SMALLEST_BYTES: usize = 8 * 1024;
/// A body is read within this time, which is what Traefik gives a request.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// The bodies of a process that are not whole.
pub(super) struct Bodies {
    bytes: AtomicUsize,
    budget: usize,
    pub(super) within: Duration,
}

impl Bodies {
    pub(super) fn new(budget: usize, within: Duration) -> Self {
        Self { bytes: AtomicUsize::new(0), budget, within }
    }

    /// Returns the room of a body, with nothing in it.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        Room { bodies: self.clone(), bytes: 0 }
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(BUDGET_BYTES, READ_WITHIN)
    }
}

/// What a body holds, until it is dropped.
pub(super) struct Room {
    bodies: Arc<Bodies>,
    bytes: usize,
}

impl Room {
    /// Counts that it has grown to so many bytes. False when they are more than one body may have at the moment; they count all the same.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let all = self.bodies.bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.bytes += more;
        let free = self.bodies.budget.saturating_sub(all);
        self.bytes <= (free / PART_OF_FREE).max(SMALLEST_BYTES)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn the_largest_bodies_meet_the_limit_first_and_small_ones_never() {
        let bodies = Arc::new(Bodies::new(1024 * KIB, READ_WITHIN));
        // Clients that send the most of a body and stop.
        let grown = |bytes| {
            let mut room = bodies.room();
            (room.grow(bytes), room)
        };
        let held: Vec<_> = (0..20).map(|_| grown(64 * KIB)).collect();
        assert_eq!(held.iter().take_while(|(has_room, _)| *has_room).count(), 8);
        assert!(grown(SMALLEST_BYTES).0);
        assert!(!grown(SMALLEST_BYTES + 1).0);
        drop(held);
        assert!(grown(64 * KIB).0, "theirs is free again");
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
    }
}
