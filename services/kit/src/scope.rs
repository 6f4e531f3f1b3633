//! What one service of a process has for itself.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::ensure;
use aws_lc_rs::hmac;
use futures_util::FutureExt as _;
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{auth::TokenVerifier, health::Check, process::shared::Shared, rpc::InternalChannel};

/// The place of one service in its process. Checks and metrics carry the service's name, so that services of one process
/// never meet each other's. Cheap to clone.
#[derive(Clone)]
pub struct Scope {
    service: catalog::Service,
    shutdown: CancellationToken,
    process: Arc<Shared>,
}

impl Scope {
    pub(crate) fn new(service: catalog::Service, process: Arc<Shared>) -> Self {
        Self { service, shutdown: process.shutdown.child_token(), process }
    }

    /// Returns the service.
    pub fn service(&self) -> catalog::Service {
        self.service
    }

    /// Returns the id of the tenant.
    pub fn tenant(&self) -> &str {
        &self.process.config.service.tenant
    }

    /// Returns the services that the tenant has, in this process or another one.
    pub fn tenant_services(&self) -> &[catalog::Service] {
        &self.process.config.service.tenant_services
    }

    /// Returns the time that the process has between the shutdown and its end.
    pub fn drain_limit(&self) -> Duration {
        Duration::from_secs(self.process.config.service.drain_seconds)
    }

    /// Returns a key for signatures with this purpose, the same in all processes of the tenant that have the same internal token.
    /// It does not reveal the token, nor the key of another service or purpose.
    pub fn signing_key(&self, purpose: &str) -> hmac::Key {
        let token = self.process.config.service.internal_token.expose_secret();
        let token = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let derived = hmac::sign(&token, format!("{}/{purpose}", self.service).as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// Adds a readiness check, `<service>/<name>`. The process is ready when the checks of all services pass.
    pub fn check(&self, name: &str) -> Check {
        self.process.health.check(format!("{}/{name}", self.service))
    }

    /// Registers metrics, `posthouse_<service>_<name>`, and returns what `add` returns.
    pub fn metrics<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        self.process.metrics.register(self.service, self.tenant(), add)
    }

    /// Spawns a task that ends after [`Self::shutdown`]; the process waits for it, within the drain limit. A task that panics ends
    /// the process: what it did is not done by any other, and a pod that looks well would not be replaced.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (service, shutdown) = (self.service, self.shutdown.clone());
        self.process.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(%service, "a task of {service} panicked, and {service} cannot go on without it");
                shutdown.cancel();
            }
        });
    }

    /// Returns the tracker behind [`Self::spawn`], for what spawns tasks of its own.
    pub fn tasks(&self) -> &TaskTracker {
        &self.process.tasks
    }

    /// Returns the token that is cancelled when the process should end. A service that cannot go on cancels it, and with
    /// it the process.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Returns the verifier of the tenant's access tokens.
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        self.process.verifier.clone()
    }

    /// Returns a channel to another service of the tenant: in process where that service runs in this process, over the
    /// network otherwise.
    pub fn peer(&self, peer: catalog::Service) -> anyhow::Result<InternalChannel> {
        let service = self.service;
        ensure!(service.peers.contains(&peer), "the catalog does not name {peer} as a peer of {service}");
        self.process.channel(peer)
    }

    /// Returns a channel like [`Self::peer`] to a service that the tenant may not have; `None` when it has none.
    pub fn optional_peer(&self, peer: catalog::Service) -> anyhow::Result<Option<InternalChannel>> {
        let service = self.service;
        let is_named = service.optional_peers.contains(&peer);
        ensure!(is_named, "the catalog does not name {peer} as an optional peer of {service}");
        let config = &self.process.config;
        let is_there = config.services.contains(&peer) || config.peers.contains_key(&peer);
        is_there.then(|| self.process.channel(peer)).transpose()
    }
}
