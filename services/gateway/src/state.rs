//! What every connection of this process shares.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use contracts::rpc::message_service_client::MessageServiceClient;
use kit::{auth::TokenVerifier, rpc::InternalChannel};
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
    pub(crate) log: Trouble,
    pub(crate) chat: Trouble,
    pub(crate) history: Trouble,
}

#[derive(Default)]
pub(crate) struct Trouble(AtomicBool);

impl Trouble {
    /// Notes a failure; the first of a row is logged.
    pub(crate) fn failed(&self, what: &'static str, error: &dyn std::error::Error) {
        let cause = kit::error::chain(error);
        if self.0.swap(true, Ordering::Relaxed) {
            tracing::debug!(what, cause, "{what} still fails: {cause}");
        } else {
            tracing::warn!(what, cause, "{what} fails: {cause}");
        }
    }

    /// Notes a success; the first after failures is logged.
    pub(crate) fn worked(&self, what: &'static str) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            tracing::info!(what, "{what} works again");
        }
    }
}
