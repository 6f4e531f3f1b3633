//! One pass over a tenant, read from top to bottom: place, access, observe, validate, Secrets, backends, children, probe,
//! status. Each phase happens once and takes what the phases before it returned.

use crds::{ConditionType, MessengerTenant, Reason, TenantStatus};
use kube::ResourceExt;

use super::{
    backends::{Backends, settle_all},
    children::{Children, Converged},
    context::{Context, Pass, PassError},
    report::{report, report_refusal},
};
use crate::{
    backend, desired,
    fleet::Member,
    mode::Mode,
    observe::{self, Observed},
    placement, plan,
    secrets::TenantSecrets,
    status::{self, Outcome, Outcomes, Urgency},
    tenant::{Cell, Invalid, Tenant, hosts, tenant_id},
};

/// Looks at a tenant, does what can be done now, and reports. Returns when to come back.
pub(super) async fn pass(resource: &MessengerTenant, context: &Context) -> Result<Urgency, PassError> {
    let mode = if resource.spec.paused == Some(true) { Mode::DryRun } else { Mode::Apply };
    let pass = Pass { resource, mode, context };

    let place = match place(pass) {
        Ok(place) => place,
        Err(refusal) => return refusal.report(pass).await,
    };
    if mode == Mode::Apply && !resource.finalizers().iter().any(|name| name == crds::FINALIZER) {
        // Nothing is created anywhere before the finalizer stands: whatever happens next, it is cleaned up.
        context.writer.add_finalizer(resource).await?;
        return Ok(Urgency::Waiting);
    }
    if mode == Mode::Apply && resource.status.is_none() {
        report_start(pass, &place).await?;
    }
    if !open_secrets(pass).await? {
        return Ok(Urgency::Waiting);
    }
    let Some(observed) = observe(pass).await? else { return Ok(Urgency::Waiting) };
    let tenant = match validate(pass, &place, &observed) {
        Ok(tenant) => tenant,
        Err(invalid) => return Refusal::invalid(&invalid).report(pass).await,
    };
    let mut children = Children::new(pass, observed);
    // Before the backends, or a password that was set somewhere could be lost with this process.
    children.write_secrets(&tenant).await?;
    let backends = settle_all(pass, &tenant).await;
    let children = children.converge(&tenant, &backends).await?;
    let routes = probe(pass, &tenant, &children).await;
    report_all(pass, &tenant, &backends, children, routes).await
}

/// Where a tenant lives.
struct Place {
    cell: Cell,
}

/// Why a pass ends before it looks at the parts.
struct Refusal {
    outcomes: Outcomes,
    ready: Outcome,
}

impl Refusal {
    /// It concerns the tenant as a whole.
    fn whole(ready: Outcome) -> Self {
        Self { outcomes: Outcomes::new(), ready }
    }

    fn invalid(invalid: &Invalid) -> Self {
        Self::whole(Outcome::action_required(Reason::InvalidSpec, invalid.to_string()))
    }

    fn unplaced(outcome: Outcome) -> Self {
        let outcomes = Outcomes::from([(ConditionType::Placed, outcome)]);
        Self { ready: status::summary(&outcomes), outcomes }
    }

    async fn report(self, pass: Pass<'_>) -> Result<Urgency, PassError> {
        report_refusal(pass.resource, &self.outcomes, &self.ready, pass.context).await
    }
}

/// Finds the tenant's cell and a slot on it. Who gets the id and the slot follows from the resources alone.
fn place(Pass { resource, context, .. }: Pass<'_>) -> Result<Place, Refusal> {
    let member = Member::of(resource);
    let fleet = context.fleet();
    if let Some(rival) = placement::rival(&member, &fleet) {
        let message = format!(
            "tenantId {} belongs to the older MessengerTenant {}; delete this resource or choose another tenantId",
            member.tenant_id, rival.resource,
        );
        return Err(Refusal::whole(Outcome::action_required(Reason::ResourceConflict, message)));
    }
    let name = &resource.spec.cell_ref.name;
    let Some(found) = context.cell(name) else {
        let message = format!(
            "MessengerCell {name} does not exist; create it or make a tenant with another spec.cellRef"
        );
        return Err(Refusal::unplaced(Outcome::action_required(Reason::CellNotFound, message)));
    };
    let cell = Cell::new(&found).map_err(|invalid| {
        Refusal::unplaced(Outcome::action_required(Reason::InvalidSpec, invalid.to_string()))
    })?;
    if !placement::is_placed(&member, &fleet, cell.capacity) {
        let message = format!(
            "MessengerCell {name} is full ({} tenants); raise its spec.capacity.tenants or use another cell",
            cell.capacity
        );
        // A slot may become free without any change to this resource.
        return Err(Refusal::unplaced(Outcome::retry(Reason::CapacityExhausted, message)));
    }
    Ok(Place { cell })
}

fn assigned(cell: &Cell) -> Outcome {
    Outcome::good(Reason::Assigned, format!("on cell {}", cell.name))
}

/// Reports that the first pass began: it takes as long as a realm takes, and an administrator is watching.
async fn report_start(
    Pass { resource, context, .. }: Pass<'_>,
    Place { cell }: &Place,
) -> Result<(), PassError> {
    let outcomes = Outcomes::from([(ConditionType::Placed, assigned(cell))]);
    let ready = Outcome::waiting(Reason::Creating, "the backends are being set up");
    let facts = TenantStatus { cell: Some(cell.name.clone()), ..TenantStatus::default() };
    report(resource, facts, &outcomes, &ready, context).await?;
    Ok(())
}

/// Makes sure that the operator may read the Secrets of the namespace. Returns false when it was only just allowed.
async fn open_secrets(Pass { resource, mode, context }: Pass<'_>) -> Result<bool, PassError> {
    let binding = desired::secret_access(resource, &context.config.namespace);
    let namespace = resource.namespace().unwrap_or_default();
    let found = observe::object(&context.client, &namespace, &binding).await?;
    let found = found.map(|found| serde_json::to_value(found).expect("Kubernetes objects are plain data"));
    let is_steady = found.is_some_and(|found| plan::differences(&binding.manifest, &found).is_empty());
    if is_steady || mode == Mode::DryRun {
        return Ok(true);
    }
    context.writer.apply(&namespace, &binding).await?;
    Ok(false)
}

/// Reads the tenant's namespace. Returns nothing while the right to read Secrets, given a moment ago, has not reached every
/// part of the API server.
async fn observe(Pass { resource, context, .. }: Pass<'_>) -> Result<Option<Observed>, PassError> {
    match observe::children(&context.client, resource, context.watched_children(resource)).await {
        Err(error)
            if error.is_forbidden() && context.retries.is_young(&resource.uid().unwrap_or_default()) =>
        {
            Ok(None)
        }
        read => Ok(Some(read?)),
    }
}

/// Checks everything that the later phases rely on.
fn validate(
    Pass { resource, context, .. }: Pass<'_>,
    Place { cell }: &Place,
    observed: &Observed,
) -> Result<Tenant, Invalid> {
    let hosts = hosts(resource, &cell.domain)?;
    let domain_of = |name: &str| context.cell(name).map(|cell| cell.spec.routing.domain);
    let lost_hosts = placement::lost_hosts(&Member::of(resource), &hosts, &context.fleet(), domain_of);
    let found = observe::credentials(&resource.name_any(), &observed.secrets);
    let usernames = backend::usernames(&tenant_id(resource)?);
    let secrets = TenantSecrets::complete(&usernames, &found, |_| (context.credential)());
    Tenant::new(resource, cell.clone(), secrets, lost_hosts)
}

/// Proves that users reach every service.
async fn probe(pass: Pass<'_>, tenant: &Tenant, children: &Converged) -> Outcome {
    if let Some(problem) = &children.unroutable {
        return problem.clone();
    }
    if let Some((host, owner)) = tenant.lost_hosts.first_key_value() {
        let message =
            format!("host {host} belongs to the older MessengerTenant {owner}; remove it from spec.hosts");
        return Outcome::action_required(Reason::HostConflict, message);
    }
    if !children.workloads.is_good() {
        let waiting = Outcome::waiting(Reason::DependencyNotReady, "waits for WorkloadsReady");
        return Outcome { urgency: children.workloads.urgency, ..waiting };
    }
    let wrong = pass.context.prober.probe(tenant).await;
    match wrong.split_first() {
        None => {
            let hosts: Vec<_> = tenant.routed_hosts().map(|host| tenant.origin(host)).collect();
            let services = tenant.services().count();
            Outcome::good(
                Reason::Reachable,
                format!("all {services} services answer at {}", hosts.join(", ")),
            )
        }
        Some((first, others)) => {
            let more = match others.len() {
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

/// Reports every part, and what the tenant as a whole is.
async fn report_all(
    Pass { resource, mode, context }: Pass<'_>,
    tenant: &Tenant,
    backends: &Backends,
    children: Converged,
    routes: Outcome,
) -> Result<Urgency, PassError> {
    let mut outcomes = Outcomes::from([
        (ConditionType::Placed, assigned(&tenant.cell)),
        (ConditionType::WorkloadsReady, children.workloads),
        (ConditionType::RoutesReady, routes),
    ]);
    let of_backends = backends.outcomes.iter();
    outcomes
        .extend(of_backends.map(|(backend, outcome)| (ConditionType::Backend(*backend), outcome.clone())));
    let mut ready = status::summary(&outcomes);
    if mode == Mode::DryRun {
        let message =
            format!("spec.paused is true, nothing is written; set it to false to go on ({})", ready.message);
        ready = Outcome::action_required(Reason::Paused, message);
    }
    let facts = status::facts(tenant, backends.topic_ids.clone());
    let urgency = report(resource, facts, &outcomes, &ready, context).await?;
    if tenant.accepts_kafka_loss && backends.is_ready(catalog::Backend::Kafka) && mode == Mode::Apply {
        // The consent was for one loss, not for the next one.
        context.writer.remove_consent(resource).await?;
    }
    Ok(urgency)
}
