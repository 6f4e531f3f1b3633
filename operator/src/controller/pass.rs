//! One pass over a tenant.

use crds::{ConditionType, MessengerCell, MessengerTenant, Reason, TenantStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tracing::{info, warn};

use super::{Context, PassError, parts::parts, workloads::Workloads};
use crate::{
    apply::Mode,
    catalog::Service,
    desired,
    events::reference,
    observe::{self, Observed},
    placement,
    secrets::{TenantSecrets, random_credential},
    status::{self, Outcome, Outcomes, Urgency},
    tenant::{Cell, Tenant, hosts},
};

/// Looks at a tenant, does what can be done now, and reports. Answers when to come back.
pub(super) async fn pass(resource: &MessengerTenant, context: &Context) -> Result<Urgency, PassError> {
    let all = context.tenants();
    report_fleet(&all, context);

    // Who may have the name and the place follows from the resources alone.
    if let Some(rival) = placement::rival(resource, &all) {
        return refuse(resource, context, conflict(resource, rival)).await;
    }
    let (cell_resource, cell) = match place(resource, &all, context) {
        Ok(placed) => placed,
        Err(outcome) => return unplaced(resource, context, outcome).await,
    };
    let mode = if resource.spec.paused == Some(true) { Mode::Look } else { Mode::Act };
    if mode == Mode::Act && !resource.finalizers().iter().any(|name| name == crds::FINALIZER) {
        // Nothing is made anywhere before the finalizer stands: whatever happens next, it is cleaned up.
        context.writer.add_finalizer(resource).await?;
        return Ok(Urgency::Waiting);
    }

    if mode == Mode::Act && resource.status.is_none() {
        // The first pass takes as long as a realm takes; people see that it began.
        let outcomes = Outcomes::from([(ConditionType::Placed, assigned(&cell))]);
        let ready = Outcome::waiting(Reason::Creating, "the backends are being set up");
        let facts = TenantStatus { cell: Some(cell.name.clone()), ..TenantStatus::default() };
        report(resource, facts, &outcomes, &ready, context).await?;
    }

    // observe
    if !open_secrets(resource, mode, context).await? {
        return Ok(Urgency::Waiting);
    }
    let namespace = resource.namespace().unwrap_or_default();
    let mut observed = observe::children(&context.client, &namespace, &resource.spec.tenant_id).await?;
    match observe::secrets(&context.client, &namespace, &resource.name_any(), &mut observed).await {
        // The right to read Secrets was given a moment ago and has not reached every part of the API server.
        Err(error)
            if error.is_forbidden() && context.retries.is_young(&resource.uid().unwrap_or_default()) =>
        {
            return Ok(Urgency::Waiting);
        }
        read => read?,
    }

    // validate
    let tenant = match validate(resource, &all, cell, &observed, context) {
        Ok(tenant) => tenant,
        Err(outcome) => return refuse(resource, context, outcome).await,
    };
    let (tenant, lost_hosts) = tenant;

    // desired, plan, apply: the Secrets first, or a password that was set somewhere could be lost with this process.
    let wanted = desired::objects(&tenant, &context.config.images);
    let foreign =
        observe::unlabelled(&context.client, &namespace, &wanted, &tenant.uid, &mut observed).await?;
    let mut children = Workloads::new(resource, mode, observed, foreign);
    children.apply_secrets(&wanted, context).await?;
    let (mut outcomes, tenant) = parts(tenant, resource, &cell_resource, mode, context).await;
    outcomes.insert(ConditionType::Placed, assigned(&tenant.cell));
    let wanted = desired::objects(&tenant, &context.config.images);
    children.apply(&wanted, &outcomes, context).await?;
    outcomes.insert(ConditionType::WorkloadsReady, children.outcome(&tenant, &outcomes, context).await?);
    let routes = routes(&tenant, &children, &lost_hosts, &outcomes, context).await;
    outcomes.insert(ConditionType::RoutesReady, routes);

    // status
    let mut ready = status::summary(&outcomes);
    if mode == Mode::Look {
        let message =
            format!("spec.paused is true, nothing is written; set it to false to go on ({})", ready.message);
        ready = Outcome::needs_person(Reason::Paused, message);
    }
    let facts = status::facts(&tenant, tenant.topic_ids.clone());
    report(resource, facts, &outcomes, &ready, context).await?;
    let kafka_is_good = outcomes.get(&ConditionType::KafkaReady).is_some_and(Outcome::is_good);
    if tenant.accepts_kafka_loss && kafka_is_good && mode == Mode::Act {
        context.writer.remove_consent(resource).await?;
    }
    Ok(ready.urgency)
}

fn conflict(resource: &MessengerTenant, rival: &MessengerTenant) -> Outcome {
    Outcome::needs_person(
        Reason::ResourceConflict,
        format!(
            "tenantId {} belongs to the older MessengerTenant {}/{}; delete this resource or choose another tenantId",
            resource.spec.tenant_id,
            rival.namespace().unwrap_or_default(),
            rival.name_any(),
        ),
    )
}

/// Finds the tenant's cell and a place on it.
fn place(
    resource: &MessengerTenant,
    all: &[MessengerTenant],
    context: &Context,
) -> Result<(MessengerCell, Cell), Outcome> {
    let name = &resource.spec.cell_ref.name;
    let Some(found) = context.cell(name) else {
        let message = format!(
            "MessengerCell {name} does not exist; create it or make a tenant with another spec.cellRef"
        );
        return Err(Outcome::needs_person(Reason::CellNotFound, message));
    };
    let cell = Cell::new(&found)
        .map_err(|invalid| Outcome::needs_person(Reason::InvalidSpec, invalid.to_string()))?;
    if !placement::is_placed(resource, all, cell.capacity) {
        let message = format!(
            "MessengerCell {name} is full ({} tenants); raise its spec.capacity.tenants or use another cell",
            cell.capacity
        );
        // A place may become free without any change to this resource.
        return Err(Outcome::retry(Reason::CapacityExhausted, message));
    }
    Ok((found, cell))
}

fn assigned(cell: &Cell) -> Outcome {
    Outcome::good(Reason::Assigned, format!("on cell {}", cell.name))
}

/// Makes sure that the operator may read the Secrets of the namespace. Answers false when it was only just allowed.
async fn open_secrets(resource: &MessengerTenant, mode: Mode, context: &Context) -> Result<bool, PassError> {
    let binding = desired::secret_access(resource, &context.config.namespace);
    let namespace = resource.namespace().unwrap_or_default();
    let found = observe::object(&context.client, &namespace, &binding).await?;
    let found = found.map(|found| serde_json::to_value(found).expect("Kubernetes objects are plain data"));
    let is_steady = found.is_some_and(|found| crate::plan::differences(&binding.manifest, &found).is_empty());
    if is_steady || mode == Mode::Look {
        return Ok(true);
    }
    context.writer.apply(&namespace, &binding).await?;
    Ok(false)
}

fn validate(
    resource: &MessengerTenant,
    all: &[MessengerTenant],
    cell: Cell,
    observed: &Observed,
    context: &Context,
) -> Result<(Tenant, Vec<(crds::Host, String)>), Outcome> {
    let invalid =
        |invalid: crate::tenant::Invalid| Outcome::needs_person(Reason::InvalidSpec, invalid.to_string());
    let id = crate::tenant::tenant_id(resource).map_err(invalid)?;
    let asked = hosts(resource, &cell.domain).map_err(invalid)?;
    let domain_of = |name: &str| context.cell(name).map(|cell| cell.spec.routing.domain);
    let lost = placement::lost_hosts(resource, &asked, all, domain_of);
    let found =
        observe::credentials(&resource.name_any(), &resource.uid().unwrap_or_default(), &observed.children);
    let secrets = TenantSecrets::complete(&id, &found, |_| random_credential());
    let lost_hosts = lost.iter().map(|(host, _)| host.clone()).collect();
    let tenant = Tenant::new(resource, cell, secrets, lost_hosts).map_err(invalid)?;
    Ok((tenant, lost))
}

/// Proves that people reach every service.
async fn routes(
    tenant: &Tenant,
    children: &Workloads<'_>,
    lost_hosts: &[(crds::Host, String)],
    outcomes: &Outcomes,
    context: &Context,
) -> Outcome {
    if let Some(trouble) = children.route_trouble() {
        return trouble;
    }
    if let Some((host, owner)) = lost_hosts.first() {
        let message =
            format!("host {host} belongs to the older MessengerTenant {owner}; remove it from spec.hosts");
        return Outcome::needs_person(Reason::HostConflict, message);
    }
    let workloads = &outcomes[&ConditionType::WorkloadsReady];
    if !workloads.is_good() {
        let waiting = Outcome::waiting(Reason::DependencyNotReady, "waits for WorkloadsReady");
        return Outcome { urgency: workloads.urgency, ..waiting };
    }
    let wrong = context.prober.probe(tenant).await;
    match wrong.first() {
        None => {
            let hosts: Vec<_> = tenant.routed_hosts().map(|host| tenant.origin(host)).collect();
            let message = format!("all {} services answer at {}", Service::ALL.len(), hosts.join(", "));
            Outcome::good(Reason::Reachable, message)
        }
        Some(first) => {
            let more = match wrong.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let message = format!(
                "{first}{more}; check that Traefik runs and answers at {} (MessengerCell {})",
                tenant.cell.probe_address, tenant.cell.name
            );
            Outcome::waiting(Reason::ProbeFailed, message)
        }
    }
}

/// Reports something that concerns the tenant as a whole; the parts keep what they had.
async fn refuse(resource: &MessengerTenant, context: &Context, ready: Outcome) -> Result<Urgency, PassError> {
    let facts = resource.status.clone().unwrap_or_default();
    report(resource, facts, &Outcomes::new(), &ready, context).await?;
    Ok(ready.urgency)
}

async fn unplaced(
    resource: &MessengerTenant,
    context: &Context,
    outcome: Outcome,
) -> Result<Urgency, PassError> {
    let outcomes = Outcomes::from([(ConditionType::Placed, outcome)]);
    let ready = status::summary(&outcomes);
    let facts = resource.status.clone().unwrap_or_default();
    report(resource, facts, &outcomes, &ready, context).await?;
    Ok(ready.urgency)
}

/// Writes the status when it says something new, and Events for what changed in it.
async fn report(
    resource: &MessengerTenant,
    facts: TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) -> Result<(), PassError> {
    let previous = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation;
    let conditions = status::conditions(&previous.conditions, outcomes, ready, generation, Timestamp::now());
    let status = TenantStatus { observed_generation: generation, conditions, ..facts };
    if status == previous {
        return Ok(());
    }
    let version = context.writer.tenant_status(resource, &status).await?;
    announce(resource, &status, outcomes, ready, context).await;
    context.remember_status(resource, version, status);
    Ok(())
}

/// Tells people what changed: the tenant became ready, or a part of it failed in a new way.
async fn announce(
    resource: &MessengerTenant,
    status: &TenantStatus,
    outcomes: &Outcomes,
    ready: &Outcome,
    context: &Context,
) {
    let object = reference(resource);
    let all = outcomes.iter().map(|(part, outcome)| (*part, outcome)).chain([(ConditionType::Ready, ready)]);
    for (part, outcome) in all {
        let is_new = reason_of(resource, part) != Some(outcome.reason.as_str());
        let is_consequence = outcome.reason == Reason::DependencyNotReady;
        let is_failure = matches!(outcome.urgency, Urgency::Retry | Urgency::NeedsPerson) && !is_consequence;
        // The summary repeats a part, unless there is none to repeat.
        let is_summary = part == ConditionType::Ready;
        if is_new && is_failure && (!is_summary || outcomes.is_empty()) {
            context.events.warning(&object, outcome.reason, &format!("{part}: {}", outcome.message)).await;
        }
    }
    if ready.is_good() && !was_good(resource, ConditionType::Ready) {
        let web = status.endpoints.as_ref().map(|endpoints| endpoints.web.clone()).unwrap_or_default();
        info!(tenant = %resource.spec.tenant_id, "tenant {} is ready at {web}", resource.spec.tenant_id);
        context.events.normal(&object, Reason::AllReady, &format!("the tenant is ready at {web}")).await;
    }
}

/// Records that something changed by hand was put back.
pub(super) async fn drift_repaired(
    resource: &MessengerTenant,
    part: &'static str,
    line: &str,
    context: &Context,
) {
    warn!(tenant = %resource.spec.tenant_id, part, "repaired what was changed by hand: {line}");
    context.metrics.repaired(part);
    context.events.warning(&reference(resource), Reason::DriftRepaired, &format!("{part}: {line}")).await;
}

/// Says whether the last status was about this very spec: then what differs was changed by somebody else.
pub(super) fn is_established(resource: &MessengerTenant) -> bool {
    let observed = resource.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == resource.metadata.generation
}

fn condition(
    resource: &MessengerTenant,
    part: ConditionType,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == part.as_str())
}

pub(super) fn was_good(resource: &MessengerTenant, part: ConditionType) -> bool {
    condition(resource, part).is_some_and(|condition| condition.status == "True")
}

pub(super) fn reason_of(resource: &MessengerTenant, part: ConditionType) -> Option<&str> {
    condition(resource, part).map(|condition| condition.reason.as_str())
}

fn report_fleet(all: &[MessengerTenant], context: &Context) {
    let ready = all.iter().filter(|tenant| was_good(tenant, ConditionType::Ready)).count();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    context.metrics.set_tenants(count(ready), count(all.len() - ready));
}
