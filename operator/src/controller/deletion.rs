//! What happens when a tenant is deleted. The finalizer is always removed within [`DEADLINE`]: what could not be cleaned up
//! by then is named in an Event, in the log and in a metric. No tenant Secret is needed, so it works in a namespace that is
//! itself being deleted.

use std::time::Duration;

use crds::{ConditionType, MessengerTenant, Reason, TenantStatus};
use futures_util::future::join_all;
use kube::{ResourceExt, runtime::controller::Action};
use tracing::{info, warn};

use super::context::{Context, PassError};
use crate::{
    backend::{self, AnyBackend, BackendError, Owner},
    events::reference,
    fleet::Member,
    observe, placement,
    status::{Outcome, Outcomes, conditions},
    tenant::{Cell, tenant_id},
    time_limit::within,
};

/// From the moment of deletion until the finalizer is removed, at the latest. The promise is 60 s; the rest is for the
/// last attempt and the API server.
const DEADLINE: Duration = Duration::from_secs(50);
/// Pods get this long to end, so that nothing writes to what is being removed. They drain for 20 s at most.
const PODS_DEADLINE: Duration = Duration::from_secs(25);
/// One attempt at one backend.
const ATTEMPT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn finalize(resource: &MessengerTenant, context: &Context) -> Result<Action, PassError> {
    if !resource.finalizers().iter().any(|name| name == crds::FINALIZER) {
        context.forget(resource);
        return Ok(Action::await_change());
    }
    // A tenant that never owned this id created nothing, so nothing is deleted.
    let owns_name = placement::rival(&Member::of(resource), &context.fleet()).is_none();
    let left = match tenant_id(resource) {
        Ok(_) if owns_name => clean_up(resource, context).await?,
        Ok(_) | Err(_) => Left::Nothing,
    };
    match left {
        Left::Nothing => {}
        Left::Waiting(message) => {
            report(resource, message, context).await?;
            return Ok(Action::requeue(LOOK_AGAIN));
        }
        Left::Behind(failed) => record_leftovers(resource, &failed, context).await,
    }
    context.writer.remove_finalizer(resource).await?;
    context.forget(resource);
    let id = &resource.spec.tenant_id;
    info!(tenant = %id, took_seconds = since_deletion(resource, context).as_secs(), "finalizer of tenant {id} removed");
    Ok(Action::await_change())
}

/// What a clean-up has left.
enum Left {
    Nothing,
    /// It goes on in the next pass.
    Waiting(String),
    /// Time is up; each backend and its error.
    Behind(Vec<(catalog::Backend, String)>),
}

async fn clean_up(resource: &MessengerTenant, context: &Context) -> Result<Left, PassError> {
    let namespace = resource.namespace().unwrap_or_default();
    let id = &resource.spec.tenant_id;
    context.writer.stop_workloads(&namespace, &observe::selector(id)).await?;
    let pods = observe::pod_count(&context.client, &namespace, id).await?;
    if pods > 0 && since_deletion(resource, context) < PODS_DEADLINE {
        return Ok(Left::Waiting(format!("{pods} pods are ending")));
    }
    let mut failed = Vec::new();
    for (backend, result) in remove_all(resource, context).await {
        match result {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                info!(tenant = %id, %backend, "removed from {backend}: {}", removed.join(", "));
            }
            Err(error) => failed.push((backend, error)),
        }
    }
    Ok(if failed.is_empty() {
        Left::Nothing
    } else if since_deletion(resource, context) < DEADLINE {
        let lines: Vec<_> = failed.iter().map(|(backend, error)| format!("{backend}: {error}")).collect();
        Left::Waiting(lines.join("; "))
    } else {
        Left::Behind(failed)
    })
}

type Removed = Result<Vec<String>, String>;

/// Removes or releases the tenant's part of every backend, all at the same time: a dead one must not use up the time of the
/// others.
async fn remove_all(resource: &MessengerTenant, context: &Context) -> Vec<(catalog::Backend, Removed)> {
    let name = &resource.spec.cell_ref.name;
    let Some(cell) = context.cell(name).and_then(|cell| Cell::new(&cell).ok()) else {
        // A tenant that was never placed has nothing anywhere.
        let was_placed = resource.status.as_ref().is_some_and(|status| status.cell.is_some());
        let unknown = || Err(format!("MessengerCell {name} does not exist, so its backends are not known"));
        let left = catalog::Backend::ALL.iter().filter(|_| was_placed);
        return left.map(|backend| (*backend, unknown())).collect();
    };
    let one = |backend: &&'static dyn AnyBackend| {
        let (backend, cell) = (*backend, &cell);
        async move { (backend.entry(), remove(backend, cell, resource, context).await) }
    };
    join_all(backend::ALL.iter().map(one)).await
}

async fn remove(
    backend: &dyn AnyBackend,
    cell: &Cell,
    resource: &MessengerTenant,
    context: &Context,
) -> Removed {
    let id = tenant_id(resource).map_err(|invalid| invalid.to_string())?;
    let owner = Owner {
        uid: resource.uid().unwrap_or_default(),
        namespace: resource.namespace().unwrap_or_default(),
    };
    let policy = resource.spec.deletion_policy.unwrap_or_default();
    let login = context.login(backend, cell)?;
    let work = backend.clean_up(context.target(cell, &login), &id, owner, policy);
    match within(ATTEMPT, work).await.map_err(|late| late.to_string())? {
        Ok(removed) => Ok(removed),
        // Something of that name that was never ours is not ours to remove.
        Err(error @ BackendError::Conflict { .. }) => {
            warn!(backend = %backend.entry(), %error, "left alone: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Reports what is left behind, where administrators look: at the tenant while it is there, and at its cell, which stays.
async fn record_leftovers(
    resource: &MessengerTenant,
    failed: &[(catalog::Backend, String)],
    context: &Context,
) {
    let id = &resource.spec.tenant_id;
    let lines: Vec<_> = failed.iter().map(|(backend, error)| format!("{backend} ({error})")).collect();
    let note = format!("tenant {id}: finalizer removed; resources left behind in: {}", lines.join("; "));
    warn!(tenant = %id, "{note}");
    for (backend, _) in failed {
        context.metrics.left_behind(backend.as_str());
    }
    context.events.warning(&reference(resource), Reason::LeftBehind, &note).await;
    if let Some(cell) = context.cell(&resource.spec.cell_ref.name) {
        context.events.warning(&reference(&cell), Reason::LeftBehind, &note).await;
    }
}

async fn report(resource: &MessengerTenant, message: String, context: &Context) -> Result<(), PassError> {
    let previous = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation;
    let outcome = Outcome::waiting(Reason::Terminating, message);
    let conditions =
        conditions(&previous.conditions, &Outcomes::new(), &outcome, generation, (context.now)());
    debug_assert!(conditions.iter().any(|condition| condition.type_ == ConditionType::Ready.as_str()));
    let status = TenantStatus { observed_generation: generation, conditions, ..previous.clone() };
    if status != previous {
        let version = context.writer.tenant_status(resource, &status).await?;
        context.memory.remember_status(resource, version, status);
    }
    Ok(())
}

/// Returns how long ago the deletion was requested, by this machine's clock.
fn since_deletion(resource: &MessengerTenant, context: &Context) -> Duration {
    let now = (context.now)();
    let asked_at = resource.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Duration::try_from(now.duration_since(asked_at)).unwrap_or_default()
}
