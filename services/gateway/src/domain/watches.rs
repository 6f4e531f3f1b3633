//! What the connections of this gateway see of the presence of others.
//!
//! A connection asks for users and chats, and sees of those users whom its user may see. The gateway follows what any
//! connection sees. A user whom a connection may not see looks like one who is offline and was never seen.

use std::collections::{HashMap, HashSet};

use contracts::{
    ChatId, UserId,
    presence::pack,
    rpc::WatchChanges,
    wire::{PresenceState, UserPresence},
};
use uuid::Uuid;

/// What connections are to receive.
pub(crate) type Pushes = HashMap<Uuid, Vec<UserPresence>>;

/// What the connections of this gateway watch.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// How a user is who is connected to no gateway.
    absent: PresenceState,
    sessions: HashMap<Uuid, Watch>,
    users: HashMap<UserId, Watched>,
    chats: HashMap<ChatId, HashSet<Uuid>>,
    followed_users: Followed<UserId>,
    followed_chats: Followed<ChatId>,
}

/// What one connection watches.
#[derive(Debug)]
struct Watch {
    number: u64,
    viewer: UserId,
    /// What it asked for, and whether it may see it.
    users: HashMap<UserId, bool>,
    chats: Vec<ChatId>,
}

/// A user whom connections see.
#[derive(Debug)]
struct Watched {
    presence: UserPresence,
    sessions: HashSet<Uuid>,
}

/// What the presence service knows of what is watched here.
#[derive(Debug)]
struct Followed<T> {
    sent: HashSet<T>,
    /// What may be watched now and was not, or the other way round.
    touched: HashSet<T>,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self { sent: HashSet::new(), touched: HashSet::new() }
    }
}

/// A request to watch.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Greater than those of the requests before it.
    pub(crate) number: u64,
    pub(crate) viewer: UserId,
    pub(crate) users: Vec<UserId>,
    pub(crate) chats: Vec<ChatId>,
}

/// The users of a connection, to look again whom of them it may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) session: Uuid,
    pub(crate) number: u64,
    pub(crate) viewer: UserId,
    pub(crate) users: Vec<UserId>,
}

impl Watches {
    /// Replaces what a connection watches, unless it has requested something else since. `visible` is how the users are whom
    /// it may see. Returns how all users of the request are, as the connection sees them.
    pub(crate) fn set(
        &mut self,
        session: Uuid,
        request: Request,
        visible: &[UserPresence],
    ) -> Vec<UserPresence> {
        let Request { number, viewer, users, chats } = request;
        if self.sessions.get(&session).is_some_and(|watch| watch.number > number) {
            let visible: HashMap<UserId, UserPresence> = visible.iter().map(|of| (of.user, *of)).collect();
            // Who may not be seen looks offline here too: whatever else it were would tell.
            let looked_up = |user| visible.get(user).copied().unwrap_or_else(|| self.absent_user(*user));
            return users.iter().map(looked_up).collect();
        }
        self.remove(session);
        let mut watch =
            Watch { number, viewer, users: users.iter().map(|user| (*user, false)).collect(), chats };
        for presence in visible {
            if let Some(is_visible) = watch.users.get_mut(&presence.user) {
                *is_visible = true;
                self.show(session, presence);
            }
        }
        for chat in &watch.chats {
            self.chats.entry(*chat).or_default().insert(session);
            self.followed_chats.touched.insert(*chat);
        }
        self.sessions.insert(session, watch);
        users.iter().map(|user| self.seen(session, *user)).collect()
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, session: Uuid) {
        let Some(watch) = self.sessions.remove(&session) else { return };
        for (user, is_visible) in watch.users {
            if is_visible {
                self.hide(session, user);
            }
        }
        for chat in watch.chats {
            let Some(sessions) = self.chats.get_mut(&chat) else { continue };
            sessions.remove(&session);
            if sessions.is_empty() {
                self.chats.remove(&chat);
                self.followed_chats.touched.insert(chat);
            }
        }
    }

    /// Notes how users are, and how absent ones are. Returns what connections are to receive.
    pub(crate) fn update(&mut self, absent: PresenceState, users: &[UserPresence]) -> Pushes {
        let mut pushes = Pushes::new();
        for presence in users {
            let Some(watched) = self.users.get_mut(&presence.user) else { continue };
            if watched.presence != *presence {
                watched.presence = *presence;
                for session in &watched.sessions {
                    pushes.entry(*session).or_default().push(*presence);
                }
            }
        }
        if absent != self.absent {
            self.absent = absent;
            for (session, watch) in &self.sessions {
                let hidden = watch.users.iter().filter(|(_, is_visible)| !**is_visible);
                let hidden =
                    hidden.map(|(user, _)| UserPresence { user: *user, state: absent, last_seen_ms: None });
                let mut hidden = hidden.peekable();
                if hidden.peek().is_some() {
                    pushes.entry(*session).or_default().extend(hidden);
                }
            }
        }
        pushes
    }

    /// Notes that nothing is known of any user. Returns what connections are to receive.
    pub(crate) fn lost(&mut self) -> Pushes {
        let unknown =
            |user: &UserId| UserPresence { user: *user, state: PresenceState::Unknown, last_seen_ms: None };
        let users: Vec<UserPresence> = self.users.keys().map(unknown).collect();
        self.update(PresenceState::Unknown, &users)
    }

    /// Notes whom a connection may see now. Returns those whom it sees in another way than before.
    pub(crate) fn look_again(&mut self, view: &View, visible: &[UserPresence]) -> Vec<UserPresence> {
        let View { session, number, .. } = *view;
        let Some(watch) = self.sessions.get_mut(&session).filter(|watch| watch.number == number) else {
            return Vec::new();
        };
        let now_visible: HashMap<UserId, &UserPresence> = visible.iter().map(|of| (of.user, of)).collect();
        let mut changed = Vec::new();
        let looked_at = watch.users.iter_mut().filter(|(user, _)| **user != view.viewer);
        for (user, is_visible) in looked_at {
            if *is_visible != now_visible.contains_key(user) {
                *is_visible = !*is_visible;
                changed.push(*user);
            }
        }
        let before = |this: &Self, user: UserId| this.users.get(&user).map(|watched| watched.presence);
        let mut pushed = Vec::new();
        for user in changed {
            let absent = self.absent_user(user);
            let shown = match now_visible.get(&user) {
                Some(presence) => {
                    self.show(session, presence);
                    (absent, self.seen(session, user))
                }
                None => {
                    let shown = before(self, user).unwrap_or(absent);
                    self.hide(session, user);
                    (shown, absent)
                }
            };
            if shown.0 != shown.1 {
                pushed.push(shown.1);
            }
        }
        pushed
    }

    /// Returns the connections that watch a chat.
    pub(crate) fn of_chat(&self, chat: ChatId) -> impl Iterator<Item = Uuid> {
        self.chats.get(&chat).into_iter().flatten().copied()
    }

    /// Returns how everything is that a connection watches.
    pub(crate) fn all(&self, session: Uuid) -> Vec<UserPresence> {
        let users = self.sessions.get(&session).into_iter().flat_map(|watch| watch.users.keys());
        users.map(|user| self.seen(session, *user)).collect()
    }

    /// Returns what to look at again: the users of every connection, but for its own.
    pub(crate) fn views(&self) -> Vec<View> {
        let view = |(session, watch): (&Uuid, &Watch)| {
            let users = watch.users.keys().copied().filter(|user| *user != watch.viewer).collect();
            View { session: *session, number: watch.number, viewer: watch.viewer, users }
        };
        self.sessions.iter().map(view).filter(|view| !view.users.is_empty()).collect()
    }

    /// Takes what to follow from now on, and what no more.
    pub(crate) fn take_changes(&mut self) -> Option<WatchChanges> {
        let (added_users, removed_users) = self.followed_users.take(|user| self.users.contains_key(user));
        let (added_chats, removed_chats) = self.followed_chats.take(|chat| self.chats.contains_key(chat));
        let users = |users: Vec<UserId>| pack(users.into_iter().map(|user| user.0));
        let chats = |chats: Vec<ChatId>| pack(chats.into_iter().map(|chat| chat.0));
        let changes = WatchChanges {
            added_users: users(added_users),
            removed_users: users(removed_users),
            added_chats: chats(added_chats),
            removed_chats: chats(removed_chats),
        };
        (changes != WatchChanges::default()).then_some(changes)
    }

    /// Notes that nothing is followed: the presence service, or its replica, is another one.
    pub(crate) fn follow_again(&mut self) {
        self.followed_users.sent.clear();
        self.followed_users.touched.extend(self.users.keys());
        self.followed_chats.sent.clear();
        self.followed_chats.touched.extend(self.chats.keys());
    }

    /// Lets a connection see a user. What is followed is known better than what was looked up.
    fn show(&mut self, session: Uuid, presence: &UserPresence) {
        let user = presence.user;
        let watched = self
            .users
            .entry(user)
            .or_insert_with(|| Watched { presence: *presence, sessions: HashSet::new() });
        watched.sessions.insert(session);
        self.followed_users.touched.insert(user);
    }

    fn hide(&mut self, session: Uuid, user: UserId) {
        let Some(watched) = self.users.get_mut(&user) else { return };
        watched.sessions.remove(&session);
        if watched.sessions.is_empty() {
            self.users.remove(&user);
            self.followed_users.touched.insert(user);
        }
    }

    /// Returns how a connection sees a user.
    fn seen(&self, session: Uuid, user: UserId) -> UserPresence {
        let watched = self.users.get(&user).filter(|watched| watched.sessions.contains(&session));
        watched.map_or_else(|| self.absent_user(user), |watched| watched.presence)
    }

    fn absent_user(&self, user: UserId) -> UserPresence {
        UserPresence { user, state: self.absent, last_seen_ms: None }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Followed<T> {
    /// Returns what is watched and was not sent, and what was sent and is not watched.
    fn take(&mut self, is_watched: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for touched in self.touched.drain() {
            if is_watched(&touched) {
                if self.sent.insert(touched) {
                    added.push(touched);
                }
            } else if self.sent.remove(&touched) {
                removed.push(touched);
            }
        }
        (added, removed)
    }
}

#[cfg(test)]
mod tests {
    use contracts::presence::unpack;

    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);
    const ANN: UserId = UserId(Uuid::from_u128(11));
    const BEN: UserId = UserId(Uuid::from_u128(12));
    const EVE: UserId = UserId(Uuid::from_u128(13));
    const CHAT: ChatId = ChatId(Uuid::from_u128(21));

    fn is(user: UserId, state: PresenceState) -> UserPresence {
        UserPresence { user, state, last_seen_ms: None }
    }

    fn seen_at(user: UserId, ms: i64) -> UserPresence {
        UserPresence { user, state: PresenceState::Offline, last_seen_ms: Some(ms) }
    }

    fn request(number: u64, viewer: UserId, users: &[UserId], chats: &[ChatId]) -> Request {
        Request { number, viewer, users: users.to_vec(), chats: chats.to_vec() }
    }

    fn known() -> Watches {
        let mut watches = Watches::default();
        assert!(watches.update(PresenceState::Offline, &[]).is_empty());
        watches
    }

    fn users(bytes: &[u8]) -> Vec<UserId> {
        let mut users: Vec<UserId> = unpack("users", bytes).expect("ids").into_iter().map(UserId).collect();
        users.sort();
        users
    }

    #[test]
    fn a_connection_receives_the_changes_of_whom_it_may_see() {
        let mut watches = known();
        let answer = watches.set(ONE, request(1, EVE, &[ANN, BEN], &[]), &[is(ANN, PresenceState::Online)]);
        assert_eq!(answer, [is(ANN, PresenceState::Online), is(BEN, PresenceState::Offline)]);
        watches.set(TWO, request(2, EVE, &[BEN], &[]), &[seen_at(BEN, 5)]);
        let now =
            [is(ANN, PresenceState::Away), is(BEN, PresenceState::Online), is(EVE, PresenceState::Online)];
        let pushes = watches.update(PresenceState::Offline, &now);
        assert_eq!(
            pushes,
            Pushes::from([
                (ONE, vec![is(ANN, PresenceState::Away)]),
                (TWO, vec![is(BEN, PresenceState::Online)]),
            ])
        );
        assert!(watches.update(PresenceState::Offline, &now).is_empty(), "the same again is no change");
        watches.remove(ONE);
        assert!(watches.update(PresenceState::Offline, &[is(ANN, PresenceState::Online)]).is_empty());
    }

    #[test]
    fn whom_a_connection_may_not_see_looks_offline_whatever_happens() {
        let mut watches = known();
        let answer = watches.set(ONE, request(1, EVE, &[ANN, BEN], &[]), &[is(BEN, PresenceState::Offline)]);
        assert_eq!(answer, [is(ANN, PresenceState::Offline), is(BEN, PresenceState::Offline)]);
        watches.set(TWO, request(2, BEN, &[ANN], &[]), &[is(ANN, PresenceState::Online)]);
        // Both become unknown in one frame, and offline again in one.
        for state in [PresenceState::Unknown, PresenceState::Offline] {
            let pushes = watches.update(state, &[is(BEN, state), is(ANN, state)]);
            let mut pushed = pushes[&ONE].clone();
            pushed.sort_by_key(|of| of.user);
            assert_eq!(pushed, [is(ANN, state), is(BEN, state)]);
        }
        assert!(
            !watches.update(PresenceState::Offline, &[is(ANN, PresenceState::Online)]).contains_key(&ONE)
        );
        assert_eq!(watches.lost()[&ONE].len(), 2);
        assert_eq!(watches.all(ONE).len(), 2);
    }

    #[test]
    fn what_a_connection_may_see_is_looked_at_again() {
        let mut watches = known();
        let visible = [is(ANN, PresenceState::Online), is(EVE, PresenceState::Online)];
        watches.set(ONE, request(1, EVE, &[ANN, EVE], &[]), &visible);
        let [view] = watches.views().try_into().expect("one view");
        assert_eq!((view.viewer, view.users.as_slice()), (EVE, [ANN].as_slice()));
        assert_eq!(watches.look_again(&view, &[is(ANN, PresenceState::Online)]), []);
        assert_eq!(watches.look_again(&view, &[]), [is(ANN, PresenceState::Offline)]);
        assert!(watches.update(PresenceState::Offline, &[is(ANN, PresenceState::Away)]).is_empty());
        assert_eq!(
            watches.look_again(&view, &[is(ANN, PresenceState::Away)]),
            [is(ANN, PresenceState::Away)]
        );
        watches.set(ONE, request(2, EVE, &[BEN], &[]), &[]);
        assert_eq!(watches.look_again(&view, &[is(ANN, PresenceState::Away)]), [], "it watches others since");
    }

    #[test]
    fn an_older_request_does_not_replace_a_newer_one() {
        let mut watches = known();
        watches.set(ONE, request(2, EVE, &[ANN], &[]), &[is(ANN, PresenceState::Online)]);
        let late = watches.set(ONE, request(1, EVE, &[BEN, ANN], &[CHAT]), &[is(BEN, PresenceState::Online)]);
        let expected = [is(BEN, PresenceState::Online), is(ANN, PresenceState::Offline)];
        assert_eq!(late, expected, "it is answered with what was looked up for it");
        assert_eq!(watches.all(ONE), [is(ANN, PresenceState::Online)]);
        assert_eq!(watches.of_chat(CHAT).count(), 0);
    }

    #[test]
    fn the_gateway_follows_what_any_connection_sees() {
        let mut watches = known();
        assert_eq!(watches.take_changes(), None);
        watches.set(ONE, request(1, EVE, &[ANN, BEN], &[CHAT]), &[is(ANN, PresenceState::Online)]);
        watches.set(TWO, request(2, EVE, &[ANN], &[CHAT]), &[is(ANN, PresenceState::Online)]);
        let changes = watches.take_changes().expect("changes");
        assert_eq!((users(&changes.added_users), changes.added_chats.len()), (vec![ANN], 16));
        assert_eq!(watches.of_chat(CHAT).count(), 2);
        watches.remove(ONE);
        assert_eq!(watches.take_changes(), None, "the other connection still watches");
        watches.set(TWO, request(3, EVE, &[BEN], &[]), &[is(BEN, PresenceState::Online)]);
        let changes = watches.take_changes().expect("changes");
        assert_eq!((users(&changes.added_users), users(&changes.removed_users)), (vec![BEN], vec![ANN]));
        assert_eq!(changes.removed_chats.len(), 16);
        watches.follow_again();
        assert_eq!(users(&watches.take_changes().expect("all").added_users), [BEN]);
        watches.remove(TWO);
        assert_eq!(users(&watches.take_changes().expect("changes").removed_users), [BEN]);
        assert!(watches.users.is_empty() && watches.chats.is_empty() && watches.sessions.is_empty());
        assert!(watches.followed_users.sent.is_empty());
    }
}
