//! Watches, and what happens on each: [`pass`] for a tenant, [`deletion`] for one that goes, [`cell`] for a cell.
//!
//! A pass is six steps, **observe -> validate -> desired -> plan -> apply -> status**; only the first and the fifth do
//! I/O. It does what can be done now, reports what it waits for, and is called again.
//!
//! Watched: MessengerTenant -> owned Deployments, Services, ServiceAccounts, NetworkPolicies, IngressRoutes, Middlewares;
//! MessengerCell and the Secrets in the operator's own namespace -> all tenants. Tenants' Secrets are read, never watched.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crds::{MessengerCell, MessengerTenant, TenantStatus};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::DeserializeGuard,
    runtime::{
        Config as RuntimeConfig, Controller, WatchStreamExt,
        controller::{Action, Error as ControllerError},
        predicates, reflector,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    apply::{Admins, WriteError, Writer},
    config::Config,
    desired::{IngressRoute, Kind, MANAGED_BY, Middleware},
    events::Events,
    metrics::Metrics,
    observe::{Prober, ReadError},
    retry::Retries,
    status::Urgency,
};

mod cell;
mod deletion;
mod parts;
mod pass;
mod workloads;

/// Bursts of changes to one tenant (five Deployments that come up) are one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What every pass needs.
pub struct Context {
    pub client: Client,
    pub config: Config,
    pub writer: Writer,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    pub admins: Admins,
    pub prober: Prober,
    tenants: Store<DeserializeGuard<MessengerTenant>>,
    cells: Store<DeserializeGuard<MessengerCell>>,
    admin_secrets: Store<Secret>,
    retries: Retries,
    /// The last status written, by UID, with the resource version that has it: the watch may lag behind.
    written: Mutex<HashMap<String, (String, TenantStatus)>>,
    /// Children this process has seen, by UID of the tenant: one of them that is missing was deleted by somebody else.
    seen: Mutex<HashMap<String, HashSet<(Kind, String)>>>,
}

/// Why a pass ended early. It is logged once, by the controller, and tried again.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Context {
    /// Returns all tenants that can be read.
    fn tenants(&self) -> Vec<MessengerTenant> {
        self.tenants.state().iter().filter_map(|guarded| guarded.0.as_ref().ok().cloned()).collect()
    }

    /// Waits for the first lists of cells and Secrets: before them everything looks missing.
    async fn stores_ready(&self) {
        // A store that ended means that the process ends.
        _ = self.cells.wait_until_ready().await;
        _ = self.admin_secrets.wait_until_ready().await;
    }

    fn cell(&self, name: &str) -> Option<MessengerCell> {
        self.cells.get(&ObjectRef::new(name)).and_then(|guarded| guarded.0.as_ref().ok().cloned())
    }

    fn admin_secret(&self, name: &str) -> Option<Arc<Secret>> {
        self.admin_secrets.get(&ObjectRef::new(name).within(&self.config.namespace))
    }

    /// Returns the resource with the newest status known: what we wrote ourselves may not have come back yet.
    fn with_written_status(&self, resource: &MessengerTenant) -> MessengerTenant {
        let mut resource = resource.clone();
        let written = self.written.lock().expect("no code panics while holding it");
        if let Some((version, status)) = resource.uid().and_then(|uid| written.get(&uid)) {
            let number = |version: &str| version.parse::<u128>().unwrap_or_default();
            if number(version) > number(resource.resource_version().as_deref().unwrap_or_default()) {
                resource.status = Some(status.clone());
            }
        }
        resource
    }

    fn remember_status(&self, resource: &MessengerTenant, version: Option<String>, status: TenantStatus) {
        if let (Some(uid), Some(version)) = (resource.uid(), version) {
            let mut written = self.written.lock().expect("no code panics while holding it");
            written.insert(uid, (version, status));
        }
    }

    fn has_seen(&self, uid: &str, child: &(Kind, String)) -> bool {
        let seen = self.seen.lock().expect("no code panics while holding it");
        seen.get(uid).is_some_and(|children| children.contains(child))
    }

    fn remember_children(&self, uid: &str, children: HashSet<(Kind, String)>) {
        self.seen.lock().expect("no code panics while holding it").insert(uid.to_owned(), children);
    }

    fn forget(&self, resource: &MessengerTenant) {
        if let Some(uid) = resource.uid() {
            self.written.lock().expect("no code panics while holding it").remove(&uid);
            self.seen.lock().expect("no code panics while holding it").remove(&uid);
            self.retries.forget(&uid);
        }
    }
}

/// Runs until `shutdown`, then lets passes that are under way end.
pub async fn run(
    client: Client,
    config: Config,
    writer: Writer,
    metrics: Arc<Metrics>,
    events: Events,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let all_tenants: Api<DeserializeGuard<MessengerTenant>> = Api::all(client.clone());
    let all_cells: Api<DeserializeGuard<MessengerCell>> = Api::all(client.clone());
    let own_secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);

    let (cells, cell_events) = kept(all_cells.clone());
    let (admin_secrets, secret_events) = kept(own_secrets);
    let something_shared_changed = futures_util::stream::select(
        cell_events.predicate_filter(predicates::generation, Default::default()).filter_map(logged),
        secret_events.predicate_filter(predicates::resource_version, Default::default()).filter_map(logged),
    );

    let runtime = RuntimeConfig::default().concurrency(config.concurrency).debounce(DEBOUNCE);
    let children =
        || watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGED_BY}"));
    let mut controller = Controller::new(all_tenants.clone(), watcher::Config::default())
        .with_config(runtime.clone())
        .owns(Api::<Deployment>::all(client.clone()), children())
        .owns(Api::<Service>::all(client.clone()), children())
        .owns(Api::<ServiceAccount>::all(client.clone()), children())
        .owns(Api::<NetworkPolicy>::all(client.clone()), children())
        .reconcile_all_on(something_shared_changed)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    // One failing watch slows all of them down, so a kind that does not exist is not watched.
    let routes = Api::<IngressRoute>::all(client.clone());
    if routes.list_metadata(&ListParams::default().limit(1)).await.is_ok() {
        controller =
            controller.owns(routes, children()).owns(Api::<Middleware>::all(client.clone()), children());
    } else {
        warn!(
            "Traefik's CRDs are not installed: no tenant can be reached until they are and the operator restarts"
        );
    }

    let context = Arc::new(Context {
        prober: Prober::new()?,
        tenants: controller.store(),
        cells,
        admin_secrets,
        admins: Admins::default(),
        retries: Retries::new(config.drift_seconds),
        written: Mutex::default(),
        seen: Mutex::default(),
        client,
        config,
        writer,
        metrics,
        events,
    });
    let of_cell = |tenant: DeserializeGuard<MessengerTenant>| {
        tenant.0.ok().map(|tenant| ObjectRef::new(&tenant.spec.cell_ref.name))
    };
    let cells = Controller::new(all_cells, watcher::Config::default())
        .with_config(runtime)
        .watches(all_tenants, watcher::Config::default(), of_cell)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(cell::reconcile, cell::error_policy, context.clone())
        .for_each(|result| async { log(result) });
    let tenants = controller.run(reconcile, error_policy, context).for_each(|result| async { log(result) });
    futures_util::future::join(tenants, cells).await;
    info!("every pass has ended");
    Ok(())
}

async fn reconcile(
    guarded: Arc<DeserializeGuard<MessengerTenant>>,
    context: Arc<Context>,
) -> Result<Action, PassError> {
    let resource = match &guarded.0 {
        Ok(resource) => context.with_written_status(resource),
        Err(invalid) => {
            // The API server let it in before a rule was added. Its status cannot be written, because nothing is known of it.
            warn!(name = invalid.metadata.name, error = %invalid, "a tenant cannot be read and is left alone");
            return Ok(Action::await_change());
        }
    };
    context.stores_ready().await;
    let began = Instant::now();
    if resource.meta().deletion_timestamp.is_some() {
        let action = deletion::finalize(&resource, &context).await?;
        context.metrics.reconciled("deleting", began.elapsed());
        return Ok(action);
    }
    let urgency = pass::pass(&resource, &context).await?;
    let result = if urgency == Urgency::Steady { "ready" } else { "not_ready" };
    context.metrics.reconciled(result, began.elapsed());
    let uid = resource.uid().unwrap_or_default();
    let generation = resource.meta().generation.unwrap_or_default();
    Ok(Action::requeue(context.retries.next(&uid, generation, urgency)))
}

fn error_policy(
    guarded: Arc<DeserializeGuard<MessengerTenant>>,
    error: &PassError,
    context: Arc<Context>,
) -> Action {
    let uid = guarded.meta().uid.clone().unwrap_or_default();
    let generation = guarded.meta().generation.unwrap_or_default();
    let urgency = match error {
        PassError::Write(error) if error.is_stale() => Urgency::Waiting,
        PassError::Write(_) | PassError::Read(_) => Urgency::Retry,
    };
    context.metrics.reconciled("error", Duration::ZERO);
    Action::requeue(context.retries.next(&uid, generation, urgency))
}

/// Keeps all objects of an API in a store, and returns the store with the stream that fills it.
fn kept<K>(api: Api<K>) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send)
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = reflector::store();
    let events =
        reflector(writer, watcher(api, watcher::Config::default())).default_backoff().touched_objects();
    (reader, events)
}

async fn logged<K>(event: watcher::Result<K>) -> Option<()> {
    match event {
        Ok(_) => Some(()),
        Err(error) => {
            warn!(%error, "a watch failed and is started again");
            None
        }
    }
}

fn log<K: Resource, E: std::error::Error + 'static>(
    result: Result<(ObjectRef<K>, Action), ControllerError<E, watcher::Error>>,
) where
    K::DynamicType: std::fmt::Debug,
{
    match result {
        Ok((object, action)) => debug!(tenant = %object.name, ?action, "looked at {}", object.name),
        Err(ControllerError::ObjectNotFound(_)) => {}
        Err(ControllerError::ReconcilerFailed(error, object)) => {
            warn!(name = %object.name, %error, "a pass over {} failed and is tried again", object.name);
        }
        Err(ControllerError::QueueError(error)) => warn!(%error, "a watch failed and is started again"),
        Err(error @ ControllerError::RunnerError(_)) => error!(%error, "the controller failed"),
    }
}
