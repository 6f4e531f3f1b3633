//! Bytes of what clients have begun to send and have not ended. Any client may begin something, known or not, and go on as slowly as it likes.
//!
//! Each may hold a part of what is left, so the limit of all shrinks as they grow, and the largest meet it first (dynamic thresholds, as switches share their
//! buffer).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// One may hold this part of what is left.
pub const PART_OF_FREE: usize = 8;

/// What all of one kind may hold in this process.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicUsize,
    all: usize,
    smallest: usize,
}

impl Budget {
    /// Returns a budget of so many bytes, of which one may have `smallest` however little is left.
    pub const fn new(all: usize, smallest: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), all, smallest }
    }

    /// Returns what it is when nothing is held.
    pub const fn all(&self) -> usize {
        self.all
    }

    /// Returns the bytes that are held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the room of one, with nothing in it.
    pub fn room(self: &Arc<Self>) -> Room {
        Room { budget: self.clone(), bytes: 0 }
    }
}

/// What one holds, until it is dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Room {
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts that it has so many bytes now. False when it has grown beyond what one may have at the moment; it counts all the same.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let has_grown = bytes > self.bytes;
        if has_grown {
            self.budget.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        !has_grown || self.fits()
    }

    /// Reports whether one may have so much at the moment.
    pub fn fits(&self) -> bool {
        let free = self.budget.all.saturating_sub(self.budget.bytes());
        self.bytes <= (free / PART_OF_FREE).max(self.budget.smallest)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const SMALLEST: usize = 8 * KIB;

    #[test]
    fn the_largest_meet_the_limit_first_and_small_ones_never() {
        let budget = Arc::new(Budget::new(1024 * KIB, SMALLEST));
        // Clients that send the most of something and stop.
        let grown = |bytes| {
            let mut room = budget.room();
            (room.resize(bytes), room)
        };
        let held: Vec<_> = (0..20).map(|_| grown(64 * KIB)).collect();
        assert_eq!(held.iter().take_while(|(has_room, _)| *has_room).count(), 8);
        assert!(grown(SMALLEST).0);
        assert!(!grown(SMALLEST + 1).0);
        drop(held);
        assert!(grown(64 * KIB).0, "theirs is free again");
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn what_does_not_grow_is_never_refused_for_it() {
        let budget = Arc::new(Budget::new(1024 * KIB, SMALLEST));
        let mut first = budget.room();
        assert!(first.resize(100 * KIB) && first.fits());
        let mut others = budget.room();
        assert!(!others.resize(1024 * KIB));
        assert!(first.resize(100 * KIB) && first.resize(50 * KIB) && !first.fits());
        assert!(!first.resize(51 * KIB));
        assert_eq!((first.bytes(), budget.bytes()), (51 * KIB, 1075 * KIB));
    }
}
