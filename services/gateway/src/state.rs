//! The state that all connections share.

use std::sync::Arc;

use contracts::rpc::message_service_client::MessageServiceClient;
use kit::{auth::TokenVerifier, outage::Outage, rpc::InternalChannel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{ConnectionLimits, Limits},
    domain::{exchanges::Exchanges, rates::Rates},
    ended::EndedSessions,
    events::SendLog,
    files::Files,
    membership::Membership,
    metrics::Metrics,
    positions::Positions,
    presence::Presence,
    registry::Registry,
    store::SessionsHandle,
};

/// What every connection of this process shares.
pub(crate) struct GatewayState {
    pub(crate) limits: Arc<Limits>,
    pub(crate) max_connections: usize,
    pub(crate) connections: ConnectionLimits,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) ended: Arc<EndedSessions>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) exchanges: Arc<Exchanges>,
    pub(crate) log: SendLog,
    pub(crate) history: MessageServiceClient<InternalChannel>,
    pub(crate) files: Files,
    pub(crate) positions: Arc<Positions>,
    pub(crate) sessions: SessionsHandle,
    pub(crate) presence: Arc<Presence>,
    pub(crate) metrics: Metrics,
    pub(crate) outages: Outages,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the process should end: no upgrades from then on.
    pub(crate) shutdown: CancellationToken,
}

/// The outages of what commands need, so that each is two log lines and not one per command.
#[derive(Default)]
pub(crate) struct Outages {
    pub(crate) log: Outage,
    pub(crate) chat: Outage,
    pub(crate) history: Outage,
    pub(crate) media: Outage,
}
