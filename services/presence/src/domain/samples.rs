//! Which users are to be sampled, and by which replica.
//!
//! Every replica learns of every change, so each of them notes all, and one of them publishes. Which one follows from the user and the
//! replicas that are there, without a word between them.

use std::collections::{BTreeSet, HashMap};

use contracts::{UserId, event::SampledState, wire::PresenceState};
use uuid::Uuid;

/// Most users who wait for the end of an interval: as many as may be connected, which is the tenant's limit.
const MAX_WAITING: usize = 100_000;

/// The users who changed and were not sampled yet.
#[derive(Debug, Default)]
pub struct Samples {
    /// Whether one interval has ended since. Another replica was to sample such a user, and may have gone before it did.
    waiting: HashMap<UserId, bool>,
}

impl Samples {
    /// Notes users who are not as they were, and returns how many of them there is no room for.
    pub fn note<'a>(&mut self, users: impl IntoIterator<Item = &'a UserId>) -> u64 {
        let mut dropped = 0;
        for user in users {
            if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(user) {
                self.waiting.insert(*user, false);
            } else {
                dropped += 1;
            }
        }
        dropped
    }

    /// Ends an interval: returns the users whom this replica samples. Those of the others are kept for one more, and returned then if
    /// they are its own by that time.
    pub fn due(&mut self, is_own: impl Fn(UserId) -> bool) -> Vec<UserId> {
        let mut due = Vec::new();
        self.waiting.retain(|user, was_kept| {
            if is_own(*user) {
                due.push(*user);
                return false;
            }
            !std::mem::replace(was_kept, true)
        });
        if self.waiting.capacity() / 4 > self.waiting.len() {
            self.waiting.shrink_to_fit();
        }
        due
    }

    /// Returns how many users wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no user waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Returns a state as a sample has it; nothing for what is not known, which says nothing of the user.
pub fn sampled(state: PresenceState) -> Option<SampledState> {
    match state {
        PresenceState::Online => Some(SampledState::Online),
        PresenceState::Away => Some(SampledState::Away),
        PresenceState::Offline => Some(SampledState::Offline),
        PresenceState::Unknown => None,
    }
}

/// Returns the replica that samples a user: of those that are there, each gets its share, and one that comes or goes takes no more
/// than its own.
pub fn sampler(user: UserId, replicas: &BTreeSet<Uuid>) -> Option<Uuid> {
    replicas.iter().copied().max_by_key(|replica| weight(user.0, *replica))
}

/// Returns a number that is as good as random, and the same in every process and version.
fn weight(user: Uuid, replica: Uuid) -> u64 {
    let (high, low) = user.as_u64_pair();
    let (other_high, other_low) = replica.as_u64_pair();
    [high, low, other_high, other_low].into_iter().fold(0, |sum, part| {
        // The finalizer of SplitMix64.
        let mixed: u64 = sum ^ part;
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn a_user_who_changes_often_is_due_once_and_again_after_the_next_change() {
        let mut samples = Samples::default();
        for _ in 0..3 {
            assert_eq!(samples.note(&[user(1)]), 0);
        }
        assert_eq!(samples.due(|_| true), [user(1)]);
        assert_eq!(samples.due(|_| true), []);
        samples.note(&[user(1)]);
        assert_eq!(samples.due(|_| true), [user(1)]);
        assert!(samples.is_empty());
    }

    #[test]
    fn the_share_of_another_replica_is_kept_for_one_interval() {
        let mut samples = Samples::default();
        samples.note(&[user(1), user(2)]);
        assert_eq!(samples.due(|_| false), []);
        assert_eq!(samples.due(|user| user.0.as_u128() == 1), [user(1)], "the other replica has gone");
        assert!(samples.is_empty(), "the other replica did it");
    }

    #[test]
    fn who_waits_is_bounded_and_who_finds_no_room_is_counted() {
        let mut samples = Samples::default();
        let users: Vec<_> = (0..MAX_WAITING as u128 + 7).map(user).collect();
        assert_eq!(samples.note(&users), 7);
        assert_eq!(samples.note(&users[..10]), 0, "those who wait already");
        assert_eq!(samples.len(), MAX_WAITING);
    }

    #[test]
    fn each_replica_samples_its_share_and_one_that_goes_leaves_the_others_theirs() {
        let three: BTreeSet<Uuid> = [0x11, 0x22, 0x33].map(|n| Uuid::from_u128(n << 64)).into();
        let mut two = three.clone();
        let gone = two.pop_last().expect("a replica");
        let mut shares = HashMap::<Uuid, u32>::new();
        for n in 0..3_000 {
            let own = sampler(user(n), &three).expect("a replica");
            *shares.entry(own).or_default() += 1;
            if own != gone {
                assert_eq!(sampler(user(n), &two), Some(own));
            }
        }
        assert!(shares.len() == 3 && shares.values().all(|share| (800..1_200).contains(share)), "{shares:?}");
        assert_eq!(sampler(user(1), &BTreeSet::new()), None);
    }
}
