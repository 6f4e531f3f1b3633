//! What happens when a tenant is deleted. The finalizer is always let go within [`DEADLINE`]: what could not be cleaned up
//! by then is named in an Event, in the log and in a metric. No tenant Secret is needed, so it works in a namespace that is
//! itself being deleted.

use std::{sync::Arc, time::Duration};

use catalog::Backend;
use crds::{ConditionType, DeletionPolicy, MessengerTenant, Reason, TenantStatus};
use kube::{ResourceExt, runtime::controller::Action};
use tracing::{info, warn};

use super::{
    cell::admin_secret_name,
    context::{Context, PassError},
};
use crate::{
    apply::{Admin, Login, remove_part},
    backend::{BackendError, Claim, Owner},
    events::reference,
    fleet::Member,
    observe, placement,
    status::{Outcome, Outcomes, conditions},
    tenant::{Cell, tenant_id},
};

/// From the moment of deletion until the finalizer is let go, at the latest. The promise is 60 s; the rest is for the
/// last attempt and the API server.
const DEADLINE: Duration = Duration::from_secs(50);
/// Pods get this long to end, so that nothing writes to what is being removed. They drain for 20 s at most.
const PODS_DEADLINE: Duration = Duration::from_secs(25);
/// One attempt at one system.
const ATTEMPT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn finalize(resource: &MessengerTenant, context: &Context) -> Result<Action, PassError> {
    if !resource.finalizers().iter().any(|name| name == crds::FINALIZER) {
        context.forget(resource);
        return Ok(Action::await_change());
    }
    // Who never owned the name made nothing and may remove nothing.
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
        Left::Behind(parts) => record_leftovers(resource, &parts, context).await,
    }
    context.writer.remove_finalizer(resource).await?;
    context.forget(resource);
    let id = &resource.spec.tenant_id;
    info!(tenant = %id, took_seconds = since_deletion(resource, context).as_secs(), "tenant {id} is let go");
    Ok(Action::await_change())
}

/// What a clean-up has left.
enum Left {
    Nothing,
    /// It goes on in the next pass.
    Waiting(String),
    /// Time is up; system and what it said.
    Behind(Vec<(Backend, String)>),
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
    for (part, result) in remove_all(resource, context).await {
        match result {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => info!(tenant = %id, %part, "removed from {part}: {}", removed.join(", ")),
            Err(said) => failed.push((part, said)),
        }
    }
    Ok(if failed.is_empty() {
        Left::Nothing
    } else if since_deletion(resource, context) < DEADLINE {
        let lines: Vec<_> = failed.iter().map(|(part, said)| format!("{part}: {said}")).collect();
        Left::Waiting(lines.join("; "))
    } else {
        Left::Behind(failed)
    })
}

type Removed = Result<Vec<String>, String>;

/// Removes or releases every part, all at the same time: a dead system must not use up the time of the others.
async fn remove_all(resource: &MessengerTenant, context: &Context) -> Vec<(Backend, Removed)> {
    let name = &resource.spec.cell_ref.name;
    let cell = context.cell(name).and_then(|cell| Some((Cell::new(&cell).ok()?, cell)));
    let Some((cell, cell_resource)) = cell else {
        // A tenant that was never placed has nothing anywhere.
        let was_placed = resource.status.as_ref().is_some_and(|status| status.cell.is_some());
        let said = || Err(format!("MessengerCell {name} does not exist, so its backends are not known"));
        return if was_placed {
            Backend::ALL.iter().map(|part| (*part, said())).collect()
        } else {
            Vec::new()
        };
    };
    let id = tenant_id(resource).expect("checked by the caller");
    let owner = Owner {
        uid: resource.uid().unwrap_or_default(),
        namespace: resource.namespace().unwrap_or_default(),
    };
    let claim = |name: &dyn ToString| Claim { name: name.to_string(), owner: owner.clone() };
    let policy = resource.spec.deletion_policy.unwrap_or_default();
    let one = |part| Removal { part, policy, cell: &cell_resource, context };
    let admins = &context.admins;
    let (kafka, store, database, identity, cache) = tokio::join!(
        one(Backend::Kafka).run(|login| admins.kafka(&cell, login), claim(&id)),
        one(Backend::Cql).run(|login| admins.cql(&cell, login), claim(&id.keyspace())),
        one(Backend::Postgres).run(|login| admins.postgres(&cell, login), claim(&id.database())),
        one(Backend::Keycloak).run(|login| admins.keycloak(&cell, login), claim(&id.realm())),
        one(Backend::Redis).run(|login| admins.redis(&cell, login), claim(&id)),
    );
    vec![
        (Backend::Kafka, kafka),
        (Backend::Cql, store),
        (Backend::Postgres, database),
        (Backend::Keycloak, identity),
        (Backend::Redis, cache),
    ]
}

struct Removal<'a> {
    part: Backend,
    policy: DeletionPolicy,
    cell: &'a crds::MessengerCell,
    context: &'a Context,
}

impl Removal<'_> {
    async fn run<A: Admin>(self, admin: impl FnOnce(&Login) -> Arc<A>, claim: Claim) -> Removed {
        let Self { part, policy, context, .. } = self;
        let secret_name = admin_secret_name(self.cell, part);
        let secret = context.admin_secret(secret_name);
        let login = observe::login(part, &context.config.namespace, secret_name, secret.as_deref())?;
        let admin = admin(&login);
        let work = remove_part(&*admin, part, &claim, policy, &context.writer.fence, &context.metrics);
        match tokio::time::timeout(ATTEMPT, work).await {
            Ok(Ok(removed)) => Ok(removed),
            // Something of that name that was never ours is not ours to remove.
            Ok(Err(error @ BackendError::Conflict { .. })) => {
                warn!(%part, %error, "left alone: {error}");
                Ok(Vec::new())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
        }
    }
}

/// Says what is left behind, where people look: at the tenant while it is there, and at its cell, which stays.
async fn record_leftovers(resource: &MessengerTenant, parts: &[(Backend, String)], context: &Context) {
    let id = &resource.spec.tenant_id;
    let lines: Vec<_> = parts.iter().map(|(part, said)| format!("{part} ({said})")).collect();
    let note = format!("tenant {id} was let go and is not cleaned up in: {}", lines.join("; "));
    warn!(tenant = %id, "{note}");
    for (part, _) in parts {
        context.metrics.left_behind(part.as_str());
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

/// Returns how long ago the deletion was asked for, by this machine's clock.
fn since_deletion(resource: &MessengerTenant, context: &Context) -> Duration {
    let now = (context.now)();
    let asked_at = resource.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    Duration::try_from(now.duration_since(asked_at)).unwrap_or_default()
}
