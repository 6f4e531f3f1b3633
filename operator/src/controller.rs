//! Watches, and what happens on each: `pass` for a tenant, `deletion` for one that goes, `cell` for a cell.
//!
//! A pass does what can be done now, reports what it waits for, and is called again.
//!
//! Watched: MessengerTenant -> owned objects of `Kind::LISTED`; MessengerCell and the Secrets in the operator's own
//! namespace -> all tenants. Tenants' Secrets are read, never watched. A kind that is not installed is watched once it is. The waker has a pass made over a
//! tenant that is asked for.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use crds::{MessengerCell, MessengerTenant};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
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
    api,
    apply::Writer,
    backend::{self, Pool},
    config::{Config, OPERATOR_NAME},
    desired::Kind,
    events::Events,
    fleet::Fleet,
    leader::Fence,
    locks::write,
    metrics::Metrics,
    observe::{self, Prober},
    retry::Retries,
    secrets::random_credential,
    status::Urgency,
    text::one_line,
    time_limit::within,
    waker::Waker,
    watched::Watched,
};

mod backends;
mod cell;
mod children;
mod context;
mod deletion;
mod monitoring;
mod pass;
mod report;
#[cfg(test)]
mod simulation;
mod succession;
mod suspension;
mod unreadable;

/// Bursts of changes to one tenant (five Deployments that come up) are one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long the API server has to say whether it knows a kind, and how long until it is asked again.
const ASK_LIMIT: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A kind that is not installed is looked for again after this time.
const LOOK_FOR_KIND: Duration = Duration::from_secs(15);
/// A pass gets this long, then it is given up and tried again: the runtime begins no other pass over the same resource before. It is
/// a multiple of the time that everything a pass waits for has.
const PASS_LIMIT: Duration = Duration::from_secs(120);

/// Runs until `shutdown`, then lets passes that are under way end. `identity` names this replica in Events; every write checks
/// `fence` first. `waker` answers by the tenants that are known from now on.
#[expect(clippy::disallowed_methods, reason = "an edge: the jitter of retries comes from here")]
pub async fn run(
    client: Client,
    config: Config,
    identity: &str,
    fence: Fence,
    metrics: Arc<Metrics>,
    waker: Waker,
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
    let something_shared_changed = stream::select(
        cell_events.predicate_filter(predicates::generation, Default::default()).filter_map(logged),
        secret_events.predicate_filter(predicates::resource_version, Default::default()).filter_map(logged),
    );

    let runtime = RuntimeConfig::default().concurrency(config.concurrency).debounce(DEBOUNCE);
    let watched = Arc::new(RwLock::new(Watched::default()));
    let mut controller = Controller::for_stream(tenant_events, tenants)
        .with_config(runtime.clone())
        .reconcile_all_on(something_shared_changed)
        .reconcile_on(waker.lead(fleet.clone()))
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    for kind in Kind::LISTED {
        let events = children(&client, kind, watched.clone());
        controller = controller.owns_stream_with(events, kind.api_resource());
    }

    let writer = Writer { client: client.clone(), fence: fence.clone(), metrics: metrics.clone() };
    let context = Arc::new(Context {
        prober: Box::new(Prober::new()?),
        events: Events::new(client.clone(), identity, fence, metrics.clone()),
        all_backends: backend::ALL,
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
        waker,
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
        Err(invalid) => return contained(unreadable::report::<MessengerTenant>(invalid, &context)).await,
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
    context.metrics.reconciled(result, began.elapsed(), span.parent());
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
/// tenants; a pass that never ends would be the last one over its resource. A pass is large, and lives on the heap: what holds its future by value
/// may hold it twice, and so on in each function around that.
fn contained<T>(
    pass: impl Future<Output = Result<T, PassError>> + Send,
) -> impl Future<Output = Result<T, PassError>> + Send {
    contained_within(PASS_LIMIT, Box::pin(pass))
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
    context.metrics.reconciled("error", Duration::ZERO, None);
    Action::requeue(context.retries.next(&uid, generation, urgency))
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
            metrics.set_tenants(fleet.counts());
            changed.send_replace(());
        }
    });
    let changes =
        stream::unfold(changes, async |mut changes| changes.changed().await.ok().map(|()| ((), changes)));
    let events = reflector(writer, events).inspect(move |event| first_list.observe(event));
    (reader, events.applied_objects(), changes)
}

/// Keeps the children of one kind where passes find them, and returns the stream of those that changed. One failing watch slows all
/// of them down, so a kind that the API server does not know is not watched, and looked for instead: whatever brings it may be
/// installed at any time, and removed again.
fn children(
    client: &Client,
    kind: Kind,
    watched: Arc<RwLock<Watched>>,
) -> impl Stream<Item = watcher::Result<DynamicObject>> + Send + use<> {
    let lives = stream::repeat((client.clone(), watched)).then(move |(client, watched)| async move {
        until_known(&client, kind, &watched).await;
        while_known(client, kind, watched)
    });
    lives.flatten()
}

/// Waits until the API server knows a kind.
async fn until_known(client: &Client, kind: Kind, watched: &RwLock<Watched>) {
    loop {
        let error = match within(ASK_LIMIT, observe::knows(client, kind)).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => {
                let is_news = write(watched).miss(kind);
                if is_news {
                    info!("the API server knows no {}; it is watched once it is installed", kind.as_str());
                }
                tokio::time::sleep(LOOK_FOR_KIND).await;
                continue;
            }
            Ok(Err(error)) => one_line(error),
            Err(late) => one_line(late),
        };
        warn!(
            error,
            "the API server does not say whether it knows {}, and is asked again: {error}",
            kind.as_str()
        );
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Watches the children of one kind until the API server does not know it any more.
fn while_known(
    client: Client,
    kind: Kind,
    watched: Arc<RwLock<Watched>>,
) -> impl Stream<Item = watcher::Result<DynamicObject>> + Send {
    let api = Api::all_with(client, &kind.api_resource());
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={OPERATOR_NAME}"));
    watcher(api, ours)
        .default_backoff()
        .take_while(|event| std::future::ready(!is_removed(event)))
        // The managers of fields are never read, and they are half of an object.
        .modify(|object: &mut DynamicObject| object.managed_fields_mut().clear())
        .filter(move |event| {
            let concerns_passes = event.as_ref().map_or(true, |event| write(&watched).observe(kind, event));
            std::future::ready(concerns_passes)
        })
        .touched_objects()
}

/// Reports whether a watch failed because its kind is not installed any more.
fn is_removed(event: &watcher::Result<watcher::Event<DynamicObject>>) -> bool {
    match event {
        Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
            api::is_unknown(error)
        }
        _ => false,
    }
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
