//! What happens when a tenant is deleted. The finalizer is always removed within [`DEADLINE`] of the first attempt: what could
//! not be cleaned up by then is named in an Event, in the log and in a metric, and recorded in the status of the cell, whose
//! passes go on with it. What a tenant Secret holds is not needed, so it works in a namespace that is itself being deleted.
//!
//! Time counts from the first attempt of this process, by its own clock. The age of the deletion says nothing: the operator may
//! have been away, and the API server's clock is another one.

use std::{collections::BTreeSet, time::Duration};

use crds::{ConditionType, Leftover, MessengerTenant, Reason, TenantId, TenantStatus};
use futures_util::future::join_all;
use kube::{ResourceExt, runtime::controller::Action};
use tracing::{info, warn};

use super::context::{Context, PassError};
use crate::{
    backend::{AnyBackend, BackendError, Owner},
    events::reference,
    observe,
    status::{Outcome, Outcomes, conditions},
    tenant::{Cell, tenant_id},
    workload::{Workload, has_part},
};

/// From the first attempt until the finalizer is removed, at the latest. The promise is 60 s; the rest is for the last attempt
/// and the API server.
const DEADLINE: Duration = Duration::from_secs(50);
/// Attempts at the backends before anything is left behind: one that came when pods had just ended proves nothing.
const LEAST_ATTEMPTS: u32 = 2;
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
    let left = match tenant_id(resource) {
        Ok(_) => clean_up(resource, context).await?,
        Err(_) => Remainder::Nothing,
    };
    match left {
        Remainder::Nothing => {}
        Remainder::Waiting(message) => {
            report(resource, message, context).await?;
            return Ok(Action::requeue(LOOK_AGAIN));
        }
        Remainder::Behind(failed) => record_leftovers(resource, &failed, context).await?,
    }
    let took = context.memory.deletion(resource).began.elapsed();
    context.writer.remove_finalizer(resource).await?;
    context.forget(resource);
    let id = &resource.spec.tenant_id;
    info!(tenant = %id, took_seconds = took.as_secs(), "finalizer of tenant {id} removed");
    Ok(Action::await_change())
}

/// What a clean-up has left.
enum Remainder {
    Nothing,
    /// It goes on in the next pass.
    Waiting(String),
    /// Time is up; each backend and its error.
    Behind(Vec<(catalog::Backend, String)>),
}

async fn clean_up(resource: &MessengerTenant, context: &Context) -> Result<Remainder, PassError> {
    let namespace = resource.namespace().unwrap_or_default();
    let id = &resource.spec.tenant_id;
    context.writer.stop_workloads(&namespace, &observe::own_selector(resource)).await?;
    let pods = observe::pod_count(&context.client, resource, None).await?;
    let began = context.memory.deletion(resource).began;
    if pods > 0 && began.elapsed() < PODS_DEADLINE {
        return Ok(Remainder::Waiting(format!("{pods} pods are ending")));
    }
    let mut failed = Vec::new();
    let results = remove_all(resource, context).await;
    let attempts = context.memory.attempted_deletion(resource);
    for (backend, result) in results {
        match result {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                info!(tenant = %id, %backend, "removed from {backend}: {}", removed.join(", "));
            }
            Err(error) => failed.push((backend, error)),
        }
    }
    Ok(if failed.is_empty() {
        Remainder::Nothing
    } else if began.elapsed() < DEADLINE || attempts < LEAST_ATTEMPTS {
        let lines: Vec<_> = failed.iter().map(|(backend, error)| format!("{backend}: {error}")).collect();
        Remainder::Waiting(lines.join("; "))
    } else {
        Remainder::Behind(failed)
    })
}

type Removed = Result<Vec<String>, String>;

/// Removes or releases the tenant's part of every backend.
async fn remove_all(resource: &MessengerTenant, context: &Context) -> Vec<(catalog::Backend, Removed)> {
    let name = &resource.spec.cell_ref.name;
    let parts = may_have(resource, context).await;
    let Some(cell) = context.cell(name).and_then(|cell| Cell::new(&cell).ok()) else {
        // A tenant that was never placed has nothing anywhere.
        let was_placed = resource.status.as_ref().is_some_and(|status| status.cell.is_some());
        let unknown = || Err(format!("MessengerCell {name} does not exist, so its backends are not known"));
        // Whether the cell had what comes with it, only the status says.
        let may_have = |backend: catalog::Backend| {
            if backend.comes_with_cell() { has_data(resource, backend) } else { parts.contains(&backend) }
        };
        let left = catalog::Backend::ALL.iter().filter(|backend| was_placed && may_have(**backend));
        return left.map(|backend| (*backend, unknown())).collect();
    };
    let used = |backend: &&&'static dyn AnyBackend| {
        let entry = backend.entry();
        // An extra holds no data, and its Secret may be gone: the backend knows.
        (parts.contains(&entry) || entry.is_extra()) && (backend.is_of(&cell) || has_data(resource, entry))
    };
    let backends: Vec<_> = context.all_backends.iter().filter(used).copied().collect();
    remove_departed(&departed(resource), &backends, &cell, context).await
}

/// Returns the backends that a tenant may have a part of: optional ones when it requests a service that needs them, or had a part before.
async fn may_have(resource: &MessengerTenant, context: &Context) -> BTreeSet<catalog::Backend> {
    let workloads = &Workload::of(&resource.spec);
    let one = |backend: &catalog::Backend| {
        let backend = *backend;
        async move {
            let may_have = has_part(workloads, backend)
                || has_data(resource, backend)
                || has_secret(resource, backend, context).await;
            may_have.then_some(backend)
        }
    };
    join_all(catalog::Backend::ALL.iter().map(one)).await.into_iter().flatten().collect()
}

/// Reports whether a tenant has the Secret of its account in a backend: there may be an account where no data is recorded, because what was
/// made after it failed. A Secret that cannot be read counts: the backend knows.
async fn has_secret(resource: &MessengerTenant, backend: catalog::Backend, context: &Context) -> bool {
    match backend.secret {
        Some(secret) => observe::has_secret(&context.client, resource, secret).await.unwrap_or(true),
        None => false,
    }
}

/// Reports whether the status records that a backend held something of the tenant.
fn has_data(resource: &MessengerTenant, backend: catalog::Backend) -> bool {
    resource.status.as_ref().is_some_and(|status| {
        let has_schemas = backend == catalog::Backend::Registry && !status.schema_ids.is_empty();
        has_schemas || status.generations.contains_key(backend.as_str())
    })
}

/// Returns what has to be known of a tenant to clean up after it.
fn departed(resource: &MessengerTenant) -> Leftover {
    Leftover {
        tenant_id: resource.spec.tenant_id.clone(),
        namespace: resource.namespace().unwrap_or_default(),
        name: resource.name_any(),
        uid: resource.uid().unwrap_or_default(),
        deletion_policy: resource.spec.deletion_policy.unwrap_or_default(),
        backends: Vec::new(),
    }
}

/// Tries once more to clean up what former deletions left behind in a cell. Returns what is still left.
pub(super) async fn retry_leftovers(leftovers: &[Leftover], cell: &Cell, context: &Context) -> Vec<Leftover> {
    let mut left = Vec::new();
    for leftover in leftovers {
        let named = |backend: &&&'static dyn AnyBackend| {
            leftover.backends.iter().any(|name| name == backend.entry().as_str())
        };
        let backends: Vec<_> = context.all_backends.iter().filter(named).copied().collect();
        let results = remove_departed(leftover, &backends, cell, context).await;
        let id = &leftover.tenant_id;
        let mut failed = Vec::new();
        for (backend, result) in results {
            match result {
                Ok(_) => {
                    info!(tenant = %id, %backend, "what tenant {id} had left behind in {backend} is cleaned up")
                }
                Err(error) => {
                    warn!(tenant = %id, %backend, %error, "{backend} of the deleted tenant {id} is tried again");
                    failed.push(backend.to_string());
                }
            }
        }
        if !failed.is_empty() {
            left.push(Leftover { backends: failed, ..leftover.clone() });
        }
    }
    left
}

/// Removes or releases one tenant's part of some backends, all at the same time: a dead one must not use up the time of the
/// others.
async fn remove_departed(
    departed: &Leftover,
    backends: &[&'static dyn AnyBackend],
    cell: &Cell,
    context: &Context,
) -> Vec<(catalog::Backend, Removed)> {
    let one = |backend: &&'static dyn AnyBackend| {
        let backend = *backend;
        async move { (backend.entry(), remove(backend, cell, departed, context).await) }
    };
    join_all(backends.iter().map(one)).await
}

async fn remove(backend: &dyn AnyBackend, cell: &Cell, departed: &Leftover, context: &Context) -> Removed {
    let id = departed.tenant_id.parse::<TenantId>().map_err(|invalid| invalid.to_string())?;
    let Leftover { uid, namespace, name, .. } = departed.clone();
    let owner = Owner { uid, namespace, name, heir_of: Vec::new() };
    if !backend.is_of(cell) {
        let entry = backend.entry();
        return Err(format!(
            "MessengerCell {} has no {}; set its spec.{} again",
            cell.name, entry.title, entry.field
        ));
    }
    let login = context.login(backend, cell)?;
    let work = backend.clean_up(context.target(cell, &login), &id, owner, departed.deletion_policy);
    let endpoint = backend.endpoint(cell);
    match context.backends.call(&cell.name, backend.entry(), endpoint, ATTEMPT, work).await {
        Ok(removed) => Ok(removed),
        // Something of that name that was never ours is not ours to remove.
        Err(error @ BackendError::Conflict { .. }) => {
            warn!(backend = %backend.entry(), %error, "left alone: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Reports what is left behind, where administrators look: at the tenant while it is there, and at its cell, which stays and
/// goes on with it.
async fn record_leftovers(
    resource: &MessengerTenant,
    failed: &[(catalog::Backend, String)],
    context: &Context,
) -> Result<(), PassError> {
    let cell = context.cell(&resource.spec.cell_ref.name);
    if let Some(cell) = &cell {
        let backends = failed.iter().map(|(backend, _)| backend.to_string()).collect();
        let leftover = Leftover { backends, ..departed(resource) };
        let mut status = cell.status.clone().unwrap_or_default();
        status.leftovers.retain(|other| other.uid != leftover.uid);
        status.leftovers.push(leftover);
        context.writer.cell_status(cell, &status).await?;
    }
    let id = &resource.spec.tenant_id;
    let lines: Vec<_> = failed.iter().map(|(backend, error)| format!("{backend} ({error})")).collect();
    let note = format!("tenant {id}: finalizer removed; resources left behind in: {}", lines.join("; "));
    warn!(tenant = %id, "{note}");
    for (backend, _) in failed {
        context.metrics.left_behind(backend.as_str());
    }
    context.events.warning(&reference(resource), Reason::LeftBehind, &note).await;
    if let Some(cell) = &cell {
        context.events.warning(&reference(cell), Reason::LeftBehind, &note).await;
    }
    Ok(())
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
