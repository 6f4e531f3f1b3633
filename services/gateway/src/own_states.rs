//! Pushes how a user has a chat to the user's own connections.

use std::sync::Arc;

use contracts::{
    UserId,
    wire::{OwnState, ServerFrame},
};

use crate::{
    domain::frame::Shared,
    metrics::{Metrics, Push},
    registry::Registry,
};

/// The connections to push to.
#[derive(Clone)]
pub(crate) struct OwnStates {
    registry: Arc<Registry>,
    metrics: Metrics,
}

impl OwnStates {
    pub(crate) fn new(registry: Arc<Registry>, metrics: Metrics) -> Self {
        Self { registry, metrics }
    }

    /// Pushes to every connection of the user, that of the device which made the change too. A client that does not read is closed rather
    /// than left without it: nothing tells a connected client that one is missing, and the sync of the next connection has it.
    pub(crate) fn push(&self, user: UserId, own_state: OwnState) {
        let mut frame = Shared::new(|| ServerFrame { own_state: Some(own_state), ..ServerFrame::default() });
        self.registry.for_user(user, |connection| {
            let pushed = connection.queue.push(frame.encoded(connection.queue.form()));
            self.metrics.count_push(Push::OwnState, pushed);
        });
    }
}
