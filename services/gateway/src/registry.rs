//! The connections of this process: all of them, and by user.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, SessionId, UserId,
    wire::{ActivityState, CloseCode},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    domain::{posted::Posted, send_queue::SendQueue, session::Identity, slow_mode::Turn},
    sharded::Sharded,
};

/// Sends of one connection that are remembered until they are stored. Rates keep a client below it, unless the message
/// service is away; what is beyond it is not measured.
const MAX_REMEMBERED_SENDS: usize = 1_024;

/// A send that is not known to be stored or refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unstored {
    pub(crate) sent_at: Instant,
    /// It is a text, which took its turn where its chat is slow.
    is_text: bool,
    /// It took its sender's turn, and nothing else was sent under its key meanwhile: what becomes of that key is what becomes of it.
    pub(crate) has_turn: bool,
}

/// A send that was refused for a while.
#[derive(Clone, Copy, Debug)]
struct Held {
    key: MessageKey,
    code: ErrorCode,
    /// Nothing waits for it any more from then on.
    until: Instant,
}

/// A client repeats a refused send within this time of the moment from which it may.
const REPEATED_WITHIN: Duration = Duration::from_secs(5);
/// What is behind a refused send waits at least this long.
const BEHIND_PAUSE: Duration = Duration::from_millis(50);

/// A connection as all but its own task see it.
pub(crate) struct Connection {
    pub(crate) session: Uuid,
    pub(crate) queue: SendQueue,
    /// Where frames go that the client posts beside its event stream. A WebSocket has its own way.
    pub(crate) posts: Option<mpsc::Sender<Posted>>,
    /// Set when the user is known.
    identity: OnceLock<Identity>,
    /// The user's session that the last token was issued in.
    token_session: Mutex<Option<SessionId>>,
    /// Whether the user is away from the device.
    is_away: AtomicBool,
    /// What this connection sent and is not stored yet. A key is of one chat: it may be used in another one.
    unstored: Mutex<HashMap<(ChatId, MessageKey), Unstored>>,
    /// By chat, the send that was refused for its rate, and until when those behind it wait for it.
    held_back: Mutex<HashMap<ChatId, Held>>,
}

impl Connection {
    #[cfg(test)]
    pub(crate) fn new(session: Uuid, queue: SendQueue) -> Arc<Self> {
        Self::with_posts(session, queue, None)
    }

    /// Returns a connection without a user, whose client may post frames there.
    pub(crate) fn with_posts(
        session: Uuid,
        queue: SendQueue,
        posts: Option<mpsc::Sender<Posted>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            session,
            queue,
            posts,
            identity: OnceLock::new(),
            token_session: Mutex::default(),
            is_away: AtomicBool::new(false),
            unstored: Mutex::default(),
            held_back: Mutex::default(),
        })
    }

    /// Returns the user's session that the last token was issued in; `None` before the first.
    pub(crate) fn token_session(&self) -> Option<SessionId> {
        self.token_session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a token of this session of the user.
    pub(crate) fn set_token_session(&self, session: SessionId) {
        *self.token_session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    /// Notes that this connection sends an entry; `turn` is that of a text, and nothing for any other one.
    pub(crate) fn sending(&self, send: (ChatId, MessageKey), turn: Option<Turn>, now: Instant) {
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unstored.get(&send).copied();
        if unstored.len() < MAX_REMEMBERED_SENDS {
            let is_text = turn.is_some() || before.is_some_and(|before| before.is_text);
            let has_turn = turn == Some(Turn::Taken) && before.is_none();
            unstored.insert(send, Unstored { sent_at: now, is_text, has_turn });
        }
    }

    /// Returns whether this connection has sent a text that is not known to be stored or refused.
    pub(crate) fn is_sending_text(&self, send: (ChatId, MessageKey)) -> bool {
        let unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        unstored.get(&send).is_some_and(|of| of.is_text)
    }

    /// Returns what this connection sent that was not settled before.
    pub(crate) fn settled(&self, send: (ChatId, MessageKey)) -> Option<Unstored> {
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = unstored.remove(&send);
        if unstored.is_empty() {
            unstored.shrink_to_fit();
        }
        settled
    }

    /// Notes that a send was refused, for a while and with this code. What comes behind it in the chat is refused as well until it has come again, or the
    /// client had time for that: the order in which a client sends is the order of the chat.
    pub(crate) fn hold_back(
        &self,
        (chat, key): (ChatId, MessageKey),
        code: ErrorCode,
        wait: Duration,
        now: Instant,
    ) {
        let mut held_back = self.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        held_back.retain(|_, first| first.until > now);
        if held_back.len() < MAX_REMEMBERED_SENDS {
            held_back.entry(chat).or_insert(Held { key, code, until: now + wait + REPEATED_WITHIN });
        }
    }

    /// Returns how long a send has to wait for one that was refused before it, and why that was.
    pub(crate) fn is_behind(
        &self,
        chat: ChatId,
        key: MessageKey,
        now: Instant,
    ) -> Option<(ErrorCode, Duration)> {
        let mut held_back = self.held_back.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { key: first, code, until } = *held_back.get(&chat)?;
        if first == key || until <= now {
            held_back.remove(&chat);
            if held_back.is_empty() {
                held_back.shrink_to_fit();
            }
            return None;
        }
        let left = until.saturating_duration_since(now).saturating_sub(REPEATED_WITHIN);
        Some((code, left.max(BEHIND_PAUSE)))
    }

    /// Notes whether the user is at the device.
    pub(crate) fn set_activity(&self, state: ActivityState) {
        self.is_away.store(state == ActivityState::Away, Ordering::Relaxed);
    }

    /// Returns whether the user is at the device; at first they are.
    pub(crate) fn activity(&self) -> ActivityState {
        if self.is_away.load(Ordering::Relaxed) { ActivityState::Away } else { ActivityState::Online }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.get().copied()
    }

    /// Returns whether the connection's user signed in on this device.
    pub(crate) fn is_of(&self, device: DeviceId) -> bool {
        self.identity.get().is_some_and(|identity| identity.device == device)
    }
}

/// The connections of this process.
#[derive(Default)]
pub(crate) struct Registry {
    count: AtomicUsize,
    by_session: Sharded<Uuid, Arc<Connection>>,
    by_user: Sharded<UserId, Vec<Arc<Connection>>>,
}

impl Registry {
    /// Lists a connection whose user is not known yet; false when `most` are listed already.
    pub(crate) fn add(&self, connection: &Arc<Connection>, most: usize) -> bool {
        let room = |count: usize| (count < most).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        self.by_session.write(&connection.session).insert(connection.session, connection.clone());
        true
    }

    /// Lists a connection under its user, for pushes from now on. Beyond `most`, the user's oldest connection is
    /// closed.
    pub(crate) fn identify(&self, connection: &Arc<Connection>, identity: Identity, most: usize) {
        if connection.identity.set(identity).is_err() {
            return;
        }
        let mut shard = self.by_user.write(&identity.user);
        let connections = shard.entry(identity.user).or_default();
        connections.push(connection.clone());
        if connections.len() > most {
            connections.remove(0).queue.request_close(CloseCode::Superseded);
        }
    }

    /// Forgets a connection.
    pub(crate) fn remove(&self, connection: &Connection) {
        if self.by_session.write(&connection.session).remove(&connection.session).is_none() {
            return;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        let Some(identity) = connection.identity() else { return };
        let mut shard = self.by_user.write(&identity.user);
        if let Some(connections) = shard.get_mut(&identity.user) {
            connections.retain(|other| other.session != connection.session);
            if connections.is_empty() {
                shard.remove(&identity.user);
            }
        }
    }

    /// Calls `visit` for each of a user's connections.
    pub(crate) fn for_user(&self, user: UserId, visit: impl FnMut(&Arc<Connection>)) {
        if let Some(connections) = self.by_user.read(&user).get(&user) {
            connections.iter().for_each(visit);
        }
    }

    /// Returns a connection.
    pub(crate) fn get(&self, session: Uuid) -> Option<Arc<Connection>> {
        self.by_session.read(&session).get(&session).cloned()
    }

    /// Returns whether a connection is listed.
    pub(crate) fn has(&self, session: Uuid) -> bool {
        self.by_session.read(&session).contains_key(&session)
    }

    /// Returns the number of connections, with a known user or without.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns all connections as they are now.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.by_session.all().flat_map(|shard| shard.values().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(n: u128) -> Arc<Connection> {
        Connection::new(Uuid::from_u128(n), SendQueue::new(100, Arc::default()))
    }

    fn identity(n: u128) -> Identity {
        Identity { user: UserId(Uuid::from_u128(n)), device: DeviceId(Uuid::from_u128(9)) }
    }

    fn sessions(registry: &Registry, user: u128) -> Vec<u128> {
        let mut sessions = Vec::new();
        registry.for_user(identity(user).user, |connection| sessions.push(connection.session.as_u128()));
        sessions
    }

    #[test]
    fn a_user_is_found_by_all_connections_until_they_end() {
        let registry = Registry::default();
        let (one, two) = (connection(1), connection(2));
        assert!(registry.add(&one, 10) && registry.add(&two, 10));
        assert!(sessions(&registry, 5).is_empty(), "no user is known yet");
        registry.identify(&one, identity(5), 10);
        registry.identify(&two, identity(5), 10);
        assert_eq!(sessions(&registry, 5), [1, 2]);
        registry.remove(&one);
        registry.remove(&one);
        assert_eq!((sessions(&registry, 5), registry.len()), (vec![2], 1));
        registry.remove(&two);
        assert_eq!((registry.len(), registry.all().len()), (0, 0));
    }

    #[test]
    fn one_connection_too_many_closes_the_oldest() {
        let registry = Registry::default();
        let connections: Vec<_> = (1..=3).map(connection).collect();
        for connection in &connections {
            assert!(registry.add(connection, 10));
            registry.identify(connection, identity(5), 2);
        }
        assert_eq!(connections[0].queue.close_requested(), Some(CloseCode::Superseded));
        assert_eq!(sessions(&registry, 5), [2, 3]);
        registry.remove(&connections[0]);
        assert_eq!((sessions(&registry, 5), registry.len()), (vec![2, 3], 2));
    }

    #[test]
    fn a_full_process_takes_no_more() {
        let registry = Registry::default();
        assert!(registry.add(&connection(1), 1));
        assert!(!registry.add(&connection(2), 1));
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_key_is_that_of_a_text_in_one_chat() {
        let (one, now) = (connection(1), Instant::now());
        let [chat, other] = [1, 2].map(|n| ChatId(Uuid::from_u128(n)));
        let key = MessageKey(Uuid::from_u128(3));
        one.sending((chat, key), Some(Turn::Taken), now);
        assert!(one.is_sending_text((chat, key)));
        assert!(!one.is_sending_text((other, key)), "another message");
        assert!(one.settled((other, key)).is_none());
        assert!(one.settled((chat, key)).is_some_and(|of| of.has_turn));
        assert!(!one.is_sending_text((chat, key)), "it is stored, or refused");
        // A reaction needs no turn, and lets no text through without one.
        one.sending((chat, key), None, now);
        assert!(!one.is_sending_text((chat, key)));
        one.sending((chat, key), Some(Turn::Taken), now);
        assert!(one.is_sending_text((chat, key)));
        assert!(one.settled((chat, key)).is_some_and(|of| !of.has_turn), "whose outcome it is, is not known");
    }

    #[test]
    fn what_is_behind_a_refused_send_waits_for_it() {
        let (one, now) = (connection(1), Instant::now());
        let [chat, other] = [1, 2].map(|n| ChatId(Uuid::from_u128(n)));
        let [first, second] = [1, 2].map(|n| MessageKey(Uuid::from_u128(n)));
        let wait = Duration::from_secs(1);
        one.hold_back((chat, first), ErrorCode::RateLimited, wait, now);
        assert_eq!(one.is_behind(chat, second, now), Some((ErrorCode::RateLimited, wait)));
        one.hold_back((chat, second), ErrorCode::RateLimited, wait, now);
        assert_eq!(one.is_behind(other, second, now), None, "another chat goes on");
        assert_eq!(one.is_behind(chat, first, now + wait), None, "it comes again");
        assert_eq!(one.is_behind(chat, second, now + wait), None);
        // A client that gives up does not hold up itself.
        one.hold_back((chat, first), ErrorCode::RateLimited, wait, now);
        assert!(one.is_behind(chat, second, now + wait + REPEATED_WITHIN).is_none());
    }
}
