//! The status phase of a pass: conditions are written when they changed, and Events report the change.

use std::time::Duration;

use crds::{ConditionType, MessengerTenant, Reason, TenantStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use tracing::{info, warn};

use super::{
    contained_within,
    context::{Context, PassError},
    monitoring,
};
use crate::{
    events::reference,
    previous::{was_because, was_good},
    status::{self, Outcome, Outcomes, Urgency},
};

/// What a pass waited for in vain may be the API server, which takes the report too.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// Reports how the parts and the tenant as a whole are. A part that is not in `outcomes` keeps its condition. Returns when to
/// look again.
pub(super) async fn report(
    resource: &MessengerTenant,
    facts: TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) -> Result<Urgency, PassError> {
    let known = resource.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    report_beside(known, resource, facts, outcomes, ready, context).await
}

/// Reports how all parts and the tenant as a whole are. A part that is not in `outcomes` is none of the tenant's, and has no
/// condition any more.
pub(super) async fn report_whole(
    resource: &MessengerTenant,
    facts: TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) -> Result<Urgency, PassError> {
    let mut known = resource.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    status::retain_parts(&mut known, |part| part == ConditionType::Ready || outcomes.contains_key(&part));
    report_beside(known, resource, facts, outcomes, ready, context).await
}

/// Reports outcomes beside the conditions that are `known`.
async fn report_beside(
    known: Vec<Condition>,
    resource: &MessengerTenant,
    facts: TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) -> Result<Urgency, PassError> {
    let previous = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation;
    let conditions = status::conditions(&known, outcomes, ready, generation, (context.now)());
    let (objectives, usage) =
        monitoring::figures_of(&resource.spec.tenant_id, facts.cell.as_deref(), &previous, context);
    // What woke the tenant is written by the step of its own.
    let wake = previous.wake.clone();
    let status =
        TenantStatus { observed_generation: generation, conditions, objectives, usage, wake, ..facts };
    if status != previous {
        write_facts(resource, status.clone(), context).await?;
        announce(resource, &status, outcomes, ready, context).await;
    }
    Ok(ready.urgency)
}

/// Writes a status whose conditions are those it had, or those that a report made.
pub(super) async fn write_facts(
    resource: &MessengerTenant,
    status: TenantStatus,
    context: &Context,
) -> Result<(), PassError> {
    let version = context.writer.tenant_status(resource, &status).await?;
    context.memory.remember_status(resource, version, status);
    Ok(())
}

/// Reports that a pass ended with an error: what it would have done is not done, whatever the parts say. A report that fails too
/// is logged only: the API server takes nothing, or what the pass panicked at is met again.
pub(super) async fn report_failure(resource: &MessengerTenant, error: &PassError, context: &Context) {
    if !error.is_lasting(context.retries.failures(&resource.uid().unwrap_or_default())) {
        return;
    }
    // What the pass had reported before it failed stays.
    let resource = &context.memory.with_written_status(resource);
    let ready = Outcome::retry(error.reason(), format!("{error}; it is tried again"));
    let facts = resource.status.clone().unwrap_or_default();
    let outcomes = Outcomes::new();
    let reporting = report(resource, facts, &outcomes, &ready, context);
    if let Err(error) = contained_within(REPORT_LIMIT, reporting).await {
        warn!(tenant = %resource.spec.tenant_id, %error, "the failure of a pass cannot be reported: {error}");
    }
}

/// Publishes what changed: the tenant became ready, or a part of it failed in a new way.
async fn announce(
    resource: &MessengerTenant,
    status: &TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) {
    let object = reference(resource);
    // What a refusal says of the pods of a suspended tenant is not why it is refused.
    let has_cause = outcomes.keys().any(|part| *part != ConditionType::WorkloadsReady);
    let all = outcomes.iter().map(|(part, outcome)| (*part, outcome)).chain([(ConditionType::Ready, ready)]);
    for (part, outcome) in all {
        let is_new = !was_because(resource, part, outcome.reason);
        let is_consequence = outcome.reason == Reason::DependencyNotReady;
        // It was asked for.
        let is_wanted = outcome.reason == Reason::Suspended;
        let is_failure = matches!(outcome.urgency, Urgency::Retry | Urgency::ActionRequired)
            && !is_consequence
            && !is_wanted;
        // The summary repeats a part, unless there is none to repeat.
        let is_summary = part == ConditionType::Ready;
        if is_new && is_failure && !(is_summary && has_cause) {
            context.events.warning(&object, outcome.reason, &format!("{part}: {}", outcome.message)).await;
        }
    }
    if ready.reason == Reason::Suspended && !was_because(resource, ConditionType::Ready, Reason::Suspended) {
        let note = "spec.suspended is true: its pods end, and everything else is kept";
        context.events.normal(&object, Reason::Suspended, note).await;
    }
    if ready.is_good() && !was_good(resource, ConditionType::Ready) {
        let web = status.endpoints.as_ref().map(|endpoints| endpoints.web.clone()).unwrap_or_default();
        info!(tenant = %resource.spec.tenant_id, "tenant {} is ready at {web}", resource.spec.tenant_id);
        context.events.normal(&object, Reason::AllReady, &format!("the tenant is ready at {web}")).await;
    }
}
