//! Ends the pods of a suspended tenant, and notes that a request has woken it. That comes before all else in a pass: neither a backend that is away nor a manifest that
//! cannot be carried out keeps a pod.

use catalog::Service;
use crds::{ConditionType, Reason, TenantStatus};
use kube::ResourceExt;
use tracing::info;

use super::{
    context::{Pass, PassError},
    monitoring::connections_of,
    report::write_facts,
};
use crate::{
    desired::Kind,
    events::reference,
    mode::Mode,
    observe,
    previous::was_because,
    suspension::{Pods, asks_for_pods, storing_deployment},
    wake,
};

/// Notes in the status that a suspended tenant is awake because a request came for it, or that it sleeps again. Reports whether that is news: the pass that this starts
/// goes on with it.
pub(super) async fn settle_wake(pass: Pass<'_>) -> Result<bool, PassError> {
    let Pass { resource, mode, context, .. } = pass;
    let is_requested = context.waker.take(&resource.uid().unwrap_or_default());
    if mode == Mode::DryRun {
        // The request is over with this pass: a tenant that goes on later is not woken by it.
        return Ok(false);
    }
    let before = wake::recorded(resource);
    let connections = before.and_then(|_| connections_of(resource, context));
    let wake = wake::next(resource, is_requested, connections, (context.now)());
    if wake.as_ref() == before {
        return Ok(false);
    }
    let (was_awake, is_awake) = (before.is_some(), wake.is_some());
    let mut status = TenantStatus { wake, ..resource.status.clone().unwrap_or_default() };
    if was_awake != is_awake {
        // The rest of the status is about children that are to be others now: what is different about them is no edit of another client.
        status.observed_generation = None;
    }
    write_facts(resource, status, context).await?;
    if is_awake && !was_awake {
        info!(tenant = %resource.spec.tenant_id, "woken by a request");
        context.metrics.woken();
        let note = "a request came while it slept: its pods start; spec.suspended stays true";
        context.events.normal(&reference(resource), Reason::Woken, note).await;
    }
    Ok(true)
}

/// Ends the pods of a suspended tenant, as far as that can be done now. Returns how far it is, or nothing when Deployments were scaled down. Nothing is asked of the API
/// server for one that has none since earlier passes.
pub(super) async fn end_pods(pass: Pass<'_>) -> Result<Option<Pods>, PassError> {
    let Pass { resource, mode, context, .. } = pass;
    if mode == Mode::DryRun {
        // What runs is found to be different from what is declared.
        return Ok(Some(Pods::Gone));
    }
    let children = match context.watched_children(resource) {
        Some(view) => view.children,
        None => observe::owned_children(&context.client, resource, &[Kind::Deployment]).await?,
    };
    let uid = resource.uid().unwrap_or_default();
    let running = children.into_iter().filter(|((kind, _), found)| {
        *kind == Kind::Deployment && observe::is_owned_by(found, &uid) && asks_for_pods(found)
    });
    let last = storing_deployment(&resource.name_any());
    let (storing, others): (Vec<_>, Vec<_>) =
        running.map(|((_, name), _)| name).partition(|name| *name == last);
    let were_gone = was_because(resource, ConditionType::WorkloadsReady, Reason::Suspended);
    if !others.is_empty() {
        return scale_down(pass, &others, were_gone).await;
    }
    if !storing.is_empty() {
        let feeding = observe::pod_count(&context.client, resource, Some(Service::Message.as_str())).await?;
        return if feeding > 0 {
            Ok(Some(Pods::Feeding(feeding)))
        } else {
            scale_down(pass, &storing, were_gone).await
        };
    }
    if were_gone {
        return Ok(Some(Pods::Gone));
    }
    Ok(Some(match observe::pod_count(&context.client, resource, None).await? {
        0 => Pods::Gone,
        pods => Pods::Ending(pods),
    }))
}

/// Scales Deployments down. Those that had no pods before were changed by another client. Where none of them stays so, there is nothing to be waited for.
async fn scale_down(pass: Pass<'_>, names: &[String], were_gone: bool) -> Result<Option<Pods>, PassError> {
    let Pass { resource, context, .. } = pass;
    context.memory.forget_children(&resource.uid().unwrap_or_default());
    let mut is_scaled = false;
    for name in names {
        is_scaled |= context.writer.scale_to_zero(&resource.namespace().unwrap_or_default(), name).await?;
    }
    let line = format!("scale to no pods: {}", names.join(", "));
    if were_gone {
        context.drift_repaired(resource, "kubernetes", &line).await;
    } else {
        info!(tenant = %resource.spec.tenant_id, "{line}");
    }
    Ok((!is_scaled).then_some(Pods::PutBack))
}
