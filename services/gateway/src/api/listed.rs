//! Connections on the list of this process.

use std::sync::Arc;

use contracts::ErrorCode;
use kit::error::ApiError;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    domain::{frame::Form, posted::Posted, send_queue::SendQueue},
    registry::Connection,
    state::GatewayState,
};

/// A connection on the list; dropped, it is off the list.
pub(super) struct Listed {
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
}

impl Listed {
    /// Lists a new connection, whose client reads frames of this form and may post frames there, unless this process takes none now.
    #[expect(clippy::disallowed_methods, reason = "an edge: the id of the session")]
    pub(super) fn new(
        gateway: &Arc<GatewayState>,
        form: Form,
        posted: Option<mpsc::Sender<Posted>>,
    ) -> Result<Self, ApiError> {
        let unavailable = |detail: &str| Err(ApiError::new(ErrorCode::Unavailable, detail));
        if gateway.shutdown.is_cancelled() {
            return unavailable("this gateway is going away");
        }
        if !gateway.membership.is_following() || !gateway.ended.is_caught_up() {
            return unavailable("this gateway is starting");
        }
        let open = gateway.registry.len().saturating_add(gateway.sessions.elsewhere());
        if open >= gateway.connections.tenant_connections {
            return unavailable("this messenger has as many connections as it may: try again later");
        }
        let queue = SendQueue::new(gateway.limits.send_queue_bytes, gateway.metrics.queued_bytes.clone());
        let connection = Connection::with_posts(Uuid::now_v7(), queue.of(form), posted);
        if !gateway.registry.add(&connection, gateway.max_connections) {
            return unavailable("this gateway is full");
        }
        gateway.metrics.connections.inc();
        Ok(Self { gateway: gateway.clone(), connection })
    }

    pub(super) fn parts(&self) -> (&Arc<GatewayState>, &Arc<Connection>) {
        (&self.gateway, &self.connection)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.gateway.registry.remove(&self.connection);
        self.gateway.metrics.connections.dec();
        if let Some(identity) = self.connection.identity() {
            self.gateway.membership.closed(identity.user);
            self.gateway.sessions.closed(identity.user, self.connection.session);
            self.gateway.presence.closed(&self.connection);
        }
    }
}
