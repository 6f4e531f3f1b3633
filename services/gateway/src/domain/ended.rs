//! Which sessions and accounts have ended, for as long as their tokens would be good.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use contracts::{SessionId, UserId, event::Ended};
use kit::catalog::MAX_ACCESS_TOKEN_SECONDS;

/// Tokens of an ended session have expired by then, whatever their lifetime and the differences of clocks.
const REMEMBERED: Duration = Duration::from_secs(MAX_ACCESS_TOKEN_SECONDS + 60);
/// Ends that are remembered; of more, the oldest are forgotten, and their tokens taken again until they expire. A session
/// begins with a password, of which a realm checks about ten in a second: fewer end within an hour.
const MAX_REMEMBERED: usize = 100_000;

/// Ends that still matter.
#[derive(Default)]
pub(crate) struct EndedSet {
    ends: HashSet<End>,
    /// In the order in which they came, which is nearly that in which they cease to matter.
    queue: VecDeque<(Instant, End)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum End {
    Session(SessionId),
    Account(UserId),
}

/// What became of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is remembered from now on.
    New,
    /// It was remembered before, or its tokens have expired.
    Old,
    /// It is remembered, and another one was forgotten for it.
    InPlaceOfOldest,
}

impl EndedSet {
    /// Notes what has ended some time ago.
    pub(crate) fn note(&mut self, user: UserId, ended: Ended, age: Duration, now: Instant) -> Noted {
        self.forget(now);
        let Some(left) = REMEMBERED.checked_sub(age).filter(|left| !left.is_zero()) else {
            return Noted::Old;
        };
        let end = match ended {
            Ended::Session(session) => End::Session(session),
            Ended::Account => End::Account(user),
        };
        if !self.ends.insert(end.clone()) {
            return Noted::Old;
        }
        self.queue.push_back((now + left, end));
        if self.queue.len() <= MAX_REMEMBERED {
            return Noted::New;
        }
        self.forget_first();
        Noted::InPlaceOfOldest
    }

    /// Returns whether tokens of a user's session are not good any more.
    pub(crate) fn has(&self, user: UserId, session: &SessionId) -> bool {
        // Nearly always nothing has ended: no copy is made then.
        !self.ends.is_empty()
            && (self.ends.contains(&End::Account(user)) || self.ends.contains(&End::Session(session.clone())))
    }

    fn forget(&mut self, now: Instant) {
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, end)) = self.queue.pop_front() {
            self.ends.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW_ENDED: Duration = Duration::ZERO;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn session(n: usize) -> SessionId {
        format!("session-{n}").parse().expect("an id")
    }

    #[test]
    fn a_session_ends_alone_and_an_account_with_all_its_sessions() {
        let (mut ended, now) = (EndedSet::default(), Instant::now());
        assert!(!ended.has(user(1), &session(1)));
        assert_eq!(ended.note(user(1), Ended::Session(session(1)), NOW_ENDED, now), Noted::New);
        assert_eq!(ended.note(user(1), Ended::Session(session(1)), NOW_ENDED, now), Noted::Old);
        assert!(ended.has(user(1), &session(1)) && !ended.has(user(1), &session(2)));
        assert_eq!(ended.note(user(1), Ended::Account, NOW_ENDED, now), Noted::New);
        assert!(ended.has(user(1), &session(2)) && ended.has(user(1), &session(3)));
        assert!(!ended.has(user(2), &session(4)));
    }

    #[test]
    fn an_end_is_remembered_until_its_tokens_have_expired() {
        let (mut ended, now) = (EndedSet::default(), Instant::now());
        assert_eq!(ended.note(user(1), Ended::Session(session(1)), REMEMBERED, now), Noted::Old);
        assert!(!ended.has(user(1), &session(1)), "it ended so long ago");
        ended.note(user(1), Ended::Session(session(2)), REMEMBERED / 2, now);
        ended.note(user(1), Ended::Session(session(3)), NOW_ENDED, now);
        ended.note(user(2), Ended::Session(session(9)), NOW_ENDED, now + REMEMBERED / 2);
        assert!(!ended.has(user(1), &session(2)) && ended.has(user(1), &session(3)));
        ended.note(user(2), Ended::Account, NOW_ENDED, now + 2 * REMEMBERED);
        assert_eq!((ended.ends.len(), ended.queue.len()), (1, 1), "nothing is left of what does not matter");
    }

    #[test]
    fn many_ends_are_bounded_and_the_latest_stay() {
        let (mut ended, now) = (EndedSet::default(), Instant::now());
        for n in 0..MAX_REMEMBERED {
            assert_eq!(ended.note(user(1), Ended::Session(session(n)), NOW_ENDED, now), Noted::New);
        }
        let more = Ended::Session(session(MAX_REMEMBERED));
        assert_eq!(ended.note(user(1), more, NOW_ENDED, now), Noted::InPlaceOfOldest);
        assert_eq!((ended.ends.len(), ended.queue.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        assert!(!ended.has(user(1), &session(0)) && ended.has(user(1), &session(MAX_REMEMBERED)));
    }
}
