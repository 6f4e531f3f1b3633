//! Idle connections of one administration.

use std::sync::Mutex;

use crate::locks::lock;

/// Idle connections kept per backend; more concurrent passes open more and close them after use.
const IDLE_CONNECTIONS: usize = 4;

/// Open connections that are not in use. A connection is taken out for a call and put back after it went well, so a future
/// dropped half way drops its connection too, and no connection is ever in an unknown state.
pub(super) struct IdlePool<C> {
    idle: Mutex<Vec<C>>,
}

impl<C> Default for IdlePool<C> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<C> IdlePool<C> {
    pub fn take(&self) -> Option<C> {
        lock(&self.idle).pop()
    }

    pub fn put_back(&self, connection: C) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }
}
