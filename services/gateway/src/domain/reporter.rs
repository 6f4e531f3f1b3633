//! What the presence service learns of the users of this gateway: changes only, and a user who leaves for a moment has not left.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use contracts::{UserId, presence::pack, rpc::UserChanges, wire::ActivityState};

/// A user without a connection may come back within this time, from another network or to another gateway.
const LINGER: Duration = Duration::from_secs(3);

/// The users of this gateway as they were reported.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    users: HashMap<UserId, ActivityState>,
    /// When users without a connection have left.
    leaving: HashMap<UserId, Instant>,
    /// Users who are not as they were reported.
    changed: HashSet<UserId>,
}

impl Reporter {
    /// Notes how a user is; `None` for one without a connection.
    pub(crate) fn note(&mut self, user: UserId, state: Option<ActivityState>, now: Instant) {
        match state {
            Some(state) => {
                self.leaving.remove(&user);
                if self.users.insert(user, state) != Some(state) {
                    self.changed.insert(user);
                }
            }
            None if self.users.contains_key(&user) => {
                self.leaving.entry(user).or_insert(now + LINGER);
            }
            None => {}
        }
    }

    /// Takes what changed.
    pub(crate) fn take(&mut self, now: Instant) -> Option<UserChanges> {
        let gone: Vec<UserId> =
            self.leaving.iter().filter(|(_, at)| **at <= now).map(|(user, _)| *user).collect();
        for user in gone {
            self.leaving.remove(&user);
            self.users.remove(&user);
            self.changed.insert(user);
        }
        if self.changed.is_empty() {
            return None;
        }
        let changed: Vec<_> = self.changed.drain().collect();
        let users = &self.users;
        let are = |state| changed.iter().filter(move |user| users.get(user).copied() == state);
        Some(UserChanges {
            is_all: false,
            online: pack(are(Some(ActivityState::Online)).map(|user| user.0)),
            away: pack(are(Some(ActivityState::Away)).map(|user| user.0)),
            offline: pack(are(None).map(|user| user.0)),
        })
    }

    /// Takes all users, as the first report.
    pub(crate) fn take_all(&mut self) -> UserChanges {
        self.changed.clear();
        let are = |state| self.users.iter().filter(move |(_, of)| **of == state).map(|(user, _)| user.0);
        UserChanges {
            is_all: true,
            online: pack(are(ActivityState::Online)),
            away: pack(are(ActivityState::Away)),
            offline: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::presence::unpack;
    use uuid::Uuid;

    use super::*;

    const ANN: UserId = UserId(Uuid::from_u128(1));
    const BEN: UserId = UserId(Uuid::from_u128(2));

    fn counts(changes: &UserChanges) -> [usize; 3] {
        [&changes.online, &changes.away, &changes.offline].map(|ids| unpack("ids", ids).expect("ids").len())
    }

    #[test]
    fn only_changes_are_reported() {
        let (mut reporter, now) = (Reporter::default(), Instant::now());
        assert_eq!(reporter.take(now), None);
        reporter.note(ANN, Some(ActivityState::Online), now);
        reporter.note(BEN, Some(ActivityState::Away), now);
        assert_eq!(counts(&reporter.take(now).expect("changes")), [1, 1, 0]);
        reporter.note(ANN, Some(ActivityState::Online), now);
        assert_eq!(reporter.take(now), None);
        reporter.note(ANN, Some(ActivityState::Away), now);
        assert_eq!(counts(&reporter.take(now).expect("a change")), [0, 1, 0]);
        assert_eq!(counts(&reporter.take_all()), [0, 2, 0]);
    }

    #[test]
    fn who_comes_back_in_a_moment_has_not_left() {
        let (mut reporter, start) = (Reporter::default(), Instant::now());
        reporter.note(ANN, Some(ActivityState::Online), start);
        reporter.take(start);
        reporter.note(ANN, None, start);
        reporter.note(BEN, None, start);
        assert_eq!(reporter.take(start + LINGER / 2), None);
        reporter.note(ANN, Some(ActivityState::Online), start + LINGER / 2);
        assert_eq!(reporter.take(start + 2 * LINGER), None);
        reporter.note(ANN, None, start + 2 * LINGER);
        assert_eq!(counts(&reporter.take(start + 3 * LINGER).expect("a change")), [0, 0, 1]);
        assert!(reporter.users.is_empty() && reporter.leaving.is_empty());
    }
}
