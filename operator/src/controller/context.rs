//! What every pass needs, and what passes remember for the next one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, RwLock, RwLockReadGuard},
};

use crds::{MessengerCell, MessengerTenant, Reason, TenantStatus};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Client, ResourceExt,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tracing::warn;

use crate::{
    apply::{WriteError, Writer},
    backend::{AnyBackend, Login, Pool, Target},
    config::Config,
    desired::ChildKey,
    domains::Installation,
    events::{Events, reference},
    fleet::Fleet,
    locks::{lock, read},
    metrics::Metrics,
    mode::Mode,
    observe::{Children, Prober, ReadError},
    retry::Retries,
    tenant::Cell,
    watched::{Versions, Watched},
};

/// What every pass needs.
pub(crate) struct Context {
    pub client: Client,
    pub config: Config,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    pub backends: Pool,
    pub prober: Prober,
    pub retries: Retries,
    /// The wall clock.
    pub now: fn() -> Timestamp,
    /// Returns a fresh credential.
    pub credential: fn() -> String,
    pub fleet: Arc<RwLock<Fleet>>,
    pub watched: Arc<RwLock<Watched>>,
    pub tenants: Store<DeserializeGuard<MessengerTenant>>,
    pub cells: Store<DeserializeGuard<MessengerCell>>,
    pub admin_secrets: Store<Secret>,
    pub memory: Memory,
}

/// What passes remember for the next one. Lost at restart, which costs nothing but an Event.
#[derive(Default)]
pub(crate) struct Memory {
    /// The last status written, by UID, with the resource version that has it: the watch may lag behind.
    written: Mutex<HashMap<String, (String, TenantStatus)>>,
    /// The children as the last pass left them, by UID of the tenant.
    children: Mutex<HashMap<String, Versions>>,
}

/// Why a pass ended early. It is logged once, by the controller, and retried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Context {
    /// Returns the index of all tenants. Held for a look-up only, never over an await.
    pub fn fleet(&self) -> RwLockReadGuard<'_, Fleet> {
        read(&self.fleet)
    }

    /// Returns the children of a tenant as their watches show them, or nothing while they lag behind the last pass.
    pub fn watched_children(&self, resource: &MessengerTenant) -> Option<Children> {
        let known = self.memory.known_children(resource.uid()?.as_str())?;
        let watched = read(&self.watched);
        watched.children(resource.namespace()?.as_str(), &resource.spec.tenant_id, &known)
    }

    /// Waits for the first lists of tenants, cells and Secrets: before them everything looks missing.
    pub async fn stores_ready(&self) {
        // A store that ended means that the process ends.
        _ = self.tenants.wait_until_ready().await;
        _ = self.cells.wait_until_ready().await;
        _ = self.admin_secrets.wait_until_ready().await;
    }

    pub fn cell(&self, name: &str) -> Option<MessengerCell> {
        self.cells.get(&ObjectRef::new(name)).and_then(|guarded| guarded.0.as_ref().ok().cloned())
    }

    /// Returns what belongs to the installation, as all cells declare it.
    pub fn installation(&self) -> Installation {
        let cells = self.cells.state();
        Installation::of(cells.iter().filter_map(|guarded| Some(&guarded.0.as_ref().ok()?.spec)))
    }

    fn admin_secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.admin_secrets.get(&ObjectRef::new(name).within(&self.config.namespace))
    }

    /// Reads the operator's account on a cell's backend. The error names what is missing where.
    pub fn login(&self, backend: &dyn AnyBackend, cell: &Cell) -> Result<Login, String> {
        let name = backend.admin_secret(cell);
        let secret = self.admin_secret(name);
        Login::read(backend.entry(), &self.config.namespace, name, secret.as_deref())
    }

    /// Returns what a call to a cell's backend needs.
    pub fn target<'a>(&'a self, cell: &'a Cell, login: &'a Login) -> Target<'a> {
        let (fence, metrics) = (&self.writer.fence, &self.metrics);
        Target { cell, login, pool: &self.backends, fence, metrics }
    }

    /// Records that something changed by hand was put back.
    pub async fn drift_repaired(&self, resource: &MessengerTenant, part: &'static str, line: &str) {
        warn!(tenant = %resource.spec.tenant_id, part, "repaired what was changed by hand: {line}");
        self.metrics.repaired(part);
        self.events.warning(&reference(resource), Reason::DriftRepaired, &format!("{part}: {line}")).await;
    }

    /// Forgets a tenant that is gone.
    pub fn forget(&self, resource: &MessengerTenant) {
        if let Some(uid) = resource.uid() {
            self.memory.forget(&uid);
            self.retries.forget(&uid);
        }
    }
}

impl Memory {
    /// Returns the resource with the newest status known: what we wrote ourselves may not have come back yet.
    pub fn with_written_status(&self, resource: &MessengerTenant) -> MessengerTenant {
        let mut resource = resource.clone();
        let written = lock(&self.written);
        if let Some((version, status)) = resource.uid().and_then(|uid| written.get(&uid)) {
            let number = |version: &str| version.parse::<u128>().unwrap_or_default();
            if number(version) > number(resource.resource_version().as_deref().unwrap_or_default()) {
                resource.status = Some(status.clone());
            }
        }
        resource
    }

    pub fn remember_status(&self, resource: &MessengerTenant, version: Option<String>, status: TenantStatus) {
        if let (Some(uid), Some(version)) = (resource.uid(), version) {
            let mut written = lock(&self.written);
            written.insert(uid, (version, status));
        }
    }

    /// Reports whether the last pass left a child: when it is missing now, another client deleted it. Nothing is known before
    /// the first pass of this process.
    pub fn has_left(&self, uid: &str, child: &ChildKey) -> Option<bool> {
        let children = lock(&self.children);
        children.get(uid).map(|children| children.contains_key(child))
    }

    pub fn remember_children(&self, uid: &str, versions: Versions) {
        lock(&self.children).insert(uid.to_owned(), versions);
    }

    fn known_children(&self, uid: &str) -> Option<Versions> {
        lock(&self.children).get(uid).cloned()
    }

    fn forget(&self, uid: &str) {
        lock(&self.written).remove(uid);
        lock(&self.children).remove(uid);
    }
}

/// One pass: a tenant, and whether it may be changed.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub resource: &'a MessengerTenant,
    pub mode: Mode,
    pub context: &'a Context,
}
