//! Sessions and accounts that have ended: their connections are closed, and their tokens refused.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::{SessionId, UserId, event::Ended, wire::CloseCode};

use crate::{
    domain::ended::{EndedSet, Noted},
    registry::{Connection, Registry},
};

/// What `session.events` has ended.
pub(crate) struct EndedSessions {
    registry: Arc<Registry>,
    set: RwLock<EndedSet>,
    caught_up: AtomicBool,
}

impl EndedSessions {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, set: RwLock::default(), caught_up: AtomicBool::new(false) }
    }

    /// Returns whether all that had ended when the process started is known.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn set_caught_up(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// Notes what has ended some time ago, and closes the connections that were opened with its tokens.
    pub(crate) fn end(&self, user: UserId, ended: Ended, age: Duration, now: Instant) {
        // Noted before connections are looked at, as a connection is listed before it is checked: one of the two finds it.
        let noted = self.set.write().unwrap_or_else(PoisonError::into_inner).note(user, ended, age, now);
        match noted {
            Noted::New => {}
            Noted::Old => return,
            Noted::InPlaceOfOldest => {
                tracing::warn!(
                    "more sessions have ended than are remembered: tokens of the oldest are taken again"
                );
            }
        }
        self.registry.for_user(user, |connection| self.check(user, connection));
    }

    /// Returns whether tokens of a user's session are not good any more.
    pub(crate) fn has(&self, user: UserId, session: &SessionId) -> bool {
        self.set.read().unwrap_or_else(PoisonError::into_inner).has(user, session)
    }

    /// Closes a connection whose session has ended. Called once it is listed, and once its token was replaced.
    pub(crate) fn check(&self, user: UserId, connection: &Connection) {
        if connection.token_session().is_some_and(|session| self.has(user, &session)) {
            connection.queue.request_close(CloseCode::SessionEnded);
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::DeviceId;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{send_queue::SendQueue, session::Identity};

    const USER: UserId = UserId(Uuid::from_u128(5));

    fn session(name: &str) -> SessionId {
        name.parse().expect("an id")
    }

    fn connection(registry: &Registry, n: u128, of: &str) -> Arc<Connection> {
        let connection = Connection::new(Uuid::from_u128(n), SendQueue::new(100, Arc::default()));
        assert!(registry.add(&connection, 10));
        connection.set_token_session(session(of));
        registry.identify(&connection, Identity { user: USER, device: DeviceId(Uuid::from_u128(n)) }, 10);
        connection
    }

    #[test]
    fn the_connections_of_an_ended_session_close_and_no_other() {
        let registry = Arc::<Registry>::default();
        let ended = EndedSessions::new(registry.clone());
        let [phone, window, desk] =
            [(1, "phone"), (2, "phone"), (3, "desk")].map(|(n, of)| connection(&registry, n, of));
        let closes = |connection: &Connection| connection.queue.close_requested();
        ended.end(USER, Ended::Session(session("phone")), Duration::ZERO, Instant::now());
        assert_eq!([&phone, &window].map(|of| closes(of)), [Some(CloseCode::SessionEnded); 2]);
        assert_eq!(closes(&desk), None);
        ended.end(UserId(Uuid::from_u128(6)), Ended::Account, Duration::ZERO, Instant::now());
        assert_eq!(closes(&desk), None, "another user's");
        ended.end(USER, Ended::Account, Duration::ZERO, Instant::now());
        assert_eq!(closes(&desk), Some(CloseCode::SessionEnded));
    }

    #[test]
    fn a_connection_that_was_opened_meanwhile_is_closed_when_it_is_checked() {
        let registry = Arc::<Registry>::default();
        let ended = EndedSessions::new(registry.clone());
        ended.end(USER, Ended::Session(session("phone")), Duration::ZERO, Instant::now());
        let late = connection(&registry, 1, "phone");
        ended.check(USER, &late);
        assert_eq!(late.queue.close_requested(), Some(CloseCode::SessionEnded));
        // A token of another session makes the connection that session's.
        let moved = connection(&registry, 2, "desk");
        ended.check(USER, &moved);
        assert_eq!(moved.queue.close_requested(), None);
        moved.set_token_session(session("phone"));
        ended.check(USER, &moved);
        assert_eq!(moved.queue.close_requested(), Some(CloseCode::SessionEnded));
    }
}
