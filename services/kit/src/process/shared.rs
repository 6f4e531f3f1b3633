//! What the services of a process share.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    auth::TokenVerifier,
    config::{OidcArgs, ServiceArgs},
    health::Health,
    metrics::Metrics,
    rpc::{self, InternalChannel},
};

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    pub service: ServiceArgs,
    pub oidc: OidcArgs,
    /// The services of this process. They call each other in process.
    pub services: Vec<catalog::Service>,
    /// URLs of the gRPC APIs of services elsewhere.
    pub peers: BTreeMap<catalog::Service, String>,
}

/// What the services of a process share.
pub(crate) struct Shared {
    pub(crate) config: ProcessConfig,
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// Cancelled when the process should end; every spawned task watches it.
    pub(crate) shutdown: CancellationToken,
    /// Every spawned task is spawned on it, so that the process ends after its tasks.
    pub(crate) tasks: TaskTracker,
    /// The gRPC APIs of the services in this process, from the moment it serves.
    pub(crate) routes: Arc<OnceLock<Routes>>,
}

impl Shared {
    /// Returns a channel to a service of the tenant.
    pub(crate) fn channel(&self, peer: catalog::Service) -> anyhow::Result<InternalChannel> {
        if self.config.services.contains(&peer) {
            return Ok(rpc::in_process(&self.routes));
        }
        let url = self.config.peers.get(&peer).with_context(|| format!("no URL of {peer} is set"))?;
        Ok(rpc::connect(url, &self.config.service.internal_token)?)
    }
}
