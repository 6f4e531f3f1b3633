//! Watches, and what happens on each: `pass` for a tenant, `deletion` for one that goes, `cell` for a cell.
//!
//! A pass does what can be done now, reports what it waits for, and is called again.
//!
//! Watched: MessengerTenant -> owned objects of `Kind::LISTED`; MessengerCell and the Secrets in the operator's own
//! namespace -> all tenants. Tenants' Secrets are read, never watched.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use crds::{MessengerCell, MessengerTenant};
use futures_util::{FutureExt, Stream, StreamExt};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    core::{DeserializeGuard, DynamicObject},
    runtime::{
        Config as RuntimeConfig, Controller, WatchStreamExt,
        controller::{Action, Error as ControllerError},
        predicates, reflector,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;
use traces::{Span, SpanKind};
use tracing::{debug, error, info, warn};

use self::{
    context::{Context, FirstList, FirstLists, Memory, PassError},
    report::report_failure,
};
use crate::{
    apply::Writer,
    backend::Pool,
    config::{Config, OPERATOR_NAME},
    desired::{IngressRoute, Kind},
    events::Events,
    fleet::Fleet,
    leader::Fence,
    locks::write,
    metrics::Metrics,
    observe::Prober,
    retry::Retries,
    secrets::random_credential,
    status::Urgency,
    text::one_line,
    time_limit::within,
    watched::Watched,
};

mod backends;
mod cell;
mod children;
mod context;
mod deletion;
mod pass;
mod report;
mod succession;
mod unreadable;

/// Bursts of changes to one tenant (five Deployments that come up) are one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// What is asked before the controllers start, and how long until it is asked again.
const ASK_LIMIT: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A pass gets this long, then it is given up and tried again: the runtime begins no other pass over the same resource before. It is
/// a multiple of the time that everything a pass waits for has.
const PASS_LIMIT: Duration = Duration::from_secs(120);

/// Runs until `shutdown`, then lets passes that are under way end. `identity` names this replica in Events; every write checks
/// `fence` first.
#[expect(clippy::disallowed_methods, reason = "an edge: the jitter of retries comes from here")]
pub async fn run(
    client: Client,
    config: Config,
    identity: &str,
    fence: Fence,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let all_cells: Api<DeserializeGuard<MessengerCell>> = Api::all(client.clone());
    let own_secrets: Api<Secret> = Api::namespaced(client.clone(), &config.namespace);

    let fleet = Arc::new(RwLock::new(Fleet::default()));
    metrics.show(fleet.clone());
    let first_lists = FirstLists::default();
    let (tenants, tenant_events, fleet_changed) =
        indexed(Api::all(client.clone()), first_lists.tenants.clone(), fleet.clone(), metrics.clone());
    let (cells, cell_events) = kept(all_cells.clone(), first_lists.cells.clone());
    let (admin_secrets, secret_events) = kept(own_secrets, first_lists.admin_secrets.clone());
    let something_shared_changed = futures_util::stream::select(
        cell_events.predicate_filter(predicates::generation, Default::default()).filter_map(logged),
        secret_events.predicate_filter(predicates::resource_version, Default::default()).filter_map(logged),
    );

    let runtime = RuntimeConfig::default().concurrency(config.concurrency).debounce(DEBOUNCE);
    let watched = Arc::new(RwLock::new(Watched::default()));
    let mut controller = Controller::for_stream(tenant_events, tenants)
        .with_config(runtime.clone())
        .reconcile_all_on(something_shared_changed)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    // One failing watch slows all of them down, so a kind that does not exist is not watched.
    let Some(has_routes) = shutdown.run_until_cancelled(has_routes(&client)).await else { return Ok(()) };
    if !has_routes {
        warn!(
            "Traefik's CRDs are not installed: no tenant can be reached until they are and the operator restarts"
        );
    }
    for kind in Kind::LISTED.into_iter().filter(|kind| has_routes || !kind.is_route()) {
        let events = children(&client, kind, watched.clone());
        controller = controller.owns_stream_with(events, kind.api_resource());
    }

    let writer = Writer { client: client.clone(), fence: fence.clone(), metrics: metrics.clone() };
    let context = Arc::new(Context {
        prober: Prober::new()?,
        events: Events::new(client.clone(), identity, fence, metrics.clone()),
        backends: Pool::default(),
        retries: Retries::new(config.drift_seconds, rand::random),
        now: Timestamp::now,
        credential: random_credential,
        first_lists,
        memory: Memory::default(),
        fleet,
        watched,
        cells,
        admin_secrets,
        client,
        config,
        writer,
        metrics,
    });
    let cells = Controller::new(all_cells, watcher::Config::default())
        .with_config(runtime)
        .reconcile_all_on(fleet_changed)
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
        Ok(resource) => context.memory.with_written_status(resource),
        Err(invalid) => return unreadable::report::<MessengerTenant>(invalid, &context).await,
    };
    let began = Instant::now();
    let mut span = Span::root("pass", SpanKind::Internal);
    span.set("tenant", resource.spec.tenant_id.clone());
    span.set("namespace", resource.namespace().unwrap_or_default());
    let pass = traces::within(span.parent(), contained(look_at(&resource, &context)));
    let (result, action) = match pass.await {
        Ok(looked) => looked,
        Err(error) => {
            span.fail(error.reason().as_str());
            report_failure(&resource, &error, &context).await;
            return Err(error);
        }
    };
    span.set("result", result);
    context.metrics.reconciled(result, began.elapsed());
    Ok(action)
}

/// Makes one pass. Returns the label of its metric and when to come back.
async fn look_at(resource: &MessengerTenant, context: &Context) -> Result<(&'static str, Action), PassError> {
    context.stores_ready().await;
    if resource.meta().deletion_timestamp.is_some() {
        return Ok(("deleting", deletion::finalize(resource, context).await?));
    }
    let urgency = pass::pass(resource, context).await?;
    let result = if urgency == Urgency::Steady { "ready" } else { "not_ready" };
    let uid = resource.uid().unwrap_or_default();
    let generation = resource.meta().generation.unwrap_or_default();
    Ok((result, Action::requeue(context.retries.next(&uid, generation, urgency))))
}

/// Runs a pass so that what goes wrong in it ends this pass alone. A panic would end the process, and with it the passes of all
/// tenants; a pass that never ends would be the last one over its resource.
async fn contained<T>(pass: impl Future<Output = Result<T, PassError>>) -> Result<T, PassError> {
    contained_within(PASS_LIMIT, pass).await
}

async fn contained_within<T>(
    limit: Duration,
    pass: impl Future<Output = Result<T, PassError>>,
) -> Result<T, PassError> {
    let result = within(limit, AssertUnwindSafe(pass).catch_unwind()).await.map_err(PassError::Late)?;
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(PassError::Panicked(one_line(text.unwrap_or("it panicked"))))
    })
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
        PassError::Write(_) | PassError::Read(_) | PassError::Late(_) | PassError::Panicked(_) => {
            Urgency::Retry
        }
    };
    context.metrics.reconciled("error", Duration::ZERO);
    Action::requeue(context.retries.next(&uid, generation, urgency))
}

/// Returns whether the API server knows routes, once it has answered.
async fn has_routes(client: &Client) -> bool {
    let routes = Api::<IngressRoute>::all(client.clone());
    loop {
        let error = match within(ASK_LIMIT, routes.list_metadata(&ListParams::default().limit(1))).await {
            Ok(Ok(_)) => return true,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return false,
            Ok(Err(error)) => one_line(error),
            Err(late) => one_line(late),
        };
        warn!(
            error,
            "the API server does not say whether it knows Traefik's routes, and is asked again: {error}"
        );
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Keeps all tenants in a store and what they have to do with each other in an index. Returns the store, the stream that fills
/// both, and a stream that yields after the index changed.
fn indexed(
    api: Api<DeserializeGuard<MessengerTenant>>,
    first_list: FirstList,
    fleet: Arc<RwLock<Fleet>>,
    metrics: Arc<Metrics>,
) -> (
    Store<DeserializeGuard<MessengerTenant>>,
    impl Stream<Item = watcher::Result<DeserializeGuard<MessengerTenant>>> + Send,
    impl Stream<Item = ()> + Send,
) {
    let (reader, writer) = reflector::store();
    let (changed, changes) = tokio::sync::watch::channel(());
    let events = watcher(api, watcher::Config::default()).default_backoff().inspect(move |event| {
        if let Ok(event) = event {
            let mut fleet = write(&fleet);
            fleet.observe(event);
            let (ready, not_ready) = fleet.ready_and_not();
            metrics.set_tenants(ready, not_ready);
            changed.send_replace(());
        }
    });
    let changes = futures_util::stream::unfold(changes, async |mut changes| {
        changes.changed().await.ok().map(|()| ((), changes))
    });
    let events = reflector(writer, events).inspect(move |event| first_list.observe(event));
    (reader, events.applied_objects(), changes)
}

/// Keeps the children of one kind where passes find them, and returns the stream of those that changed.
fn children(
    client: &Client,
    kind: Kind,
    watched: Arc<RwLock<Watched>>,
) -> impl Stream<Item = watcher::Result<DynamicObject>> + Send + use<> {
    let api = Api::all_with(client.clone(), &kind.api_resource());
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={OPERATOR_NAME}"));
    watcher(api, ours)
        .default_backoff()
        // The managers of fields are never read, and they are half of an object.
        .modify(|object: &mut DynamicObject| object.managed_fields_mut().clear())
        .inspect(move |event| {
            if let Ok(event) = event {
                write(&watched).observe(kind, event);
            }
        })
        .touched_objects()
}

/// Keeps all objects of an API in a store, and returns the store with the stream that fills it.
fn kept<K>(api: Api<K>, first_list: FirstList) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send)
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
    let events = reflector(writer, watcher(api, watcher::Config::default()).default_backoff())
        .inspect(move |event| first_list.observe(event));
    (reader, events.touched_objects())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_pass_and_is_worth_a_report() {
        let panicked: Result<(), PassError> = contained(async { panic!("at tenant {}", 7) }).await;
        let error = panicked.expect_err("it panicked");
        assert_eq!(
            error.to_string(),
            "the operator failed at this resource: at tenant 7; report it, with the operator's log"
        );
        assert!(error.is_lasting(0));
        assert!(contained(async { Ok(7) }).await.is_ok_and(|seven| seven == 7));
    }

    #[tokio::test]
    async fn a_pass_that_waits_for_ever_is_given_up_and_is_worth_a_report() {
        let forever = std::future::pending::<Result<(), PassError>>();
        let late = contained_within(Duration::from_millis(10), forever).await.expect_err("it is late");
        assert_eq!(late.to_string(), "a pass over this resource did not end: no answer within 0 s");
        assert!(late.is_lasting(0));
    }
}
