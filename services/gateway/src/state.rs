//! What every connection of this process shares.

use std::sync::Arc;

use contracts::rpc::message_service_client::MessageServiceClient;
use kit::{auth::TokenVerifier, outage::Outage, rpc::InternalChannel};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Limits, events::SendLog, membership::Membership, metrics::Metrics, registry::Registry,
    store::SessionsHandle,
};

pub(crate) struct Gateway {
    pub(crate) limits: Arc<Limits>,
    pub(crate) max_connections: usize,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) log: SendLog,
    pub(crate) history: MessageServiceClient<InternalChannel>,
    pub(crate) sessions: SessionsHandle,
    pub(crate) metrics: Metrics,
    pub(crate) troubles: Troubles,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the process should end: no upgrades from then on.
    pub(crate) shutdown: CancellationToken,
}

/// Whether the things that commands need work, so that an outage is two log lines and not one per command.
#[derive(Default)]
pub(crate) struct Troubles {
    pub(crate) log: Outage,
    pub(crate) chat: Outage,
    pub(crate) history: Outage,
}
