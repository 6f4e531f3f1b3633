//! One pass over a tenant, read from top to bottom: wake or suspend, place, access, observe, validate, Secrets, backends, children, probe,
//! status. Each phase happens once and takes what the phases before it returned.

use crds::{ConditionType, Host, MessengerTenant, Reason, Scheme, TenantId, TenantStatus};
use kube::ResourceExt;

use super::{
    backends::{self, Backends, settle_all},
    children::{self, Children, Converged},
    context::{Context, Pass, PassError},
    report::{report, report_whole, write_facts},
    suspension::{end_pods, settle_wake},
};
use crate::{
    backend,
    desired::{self, Object},
    events::reference,
    fleet::{Fleet, Member},
    limits,
    mode::Mode,
    named_secrets,
    observe::{self, Observed, Probed, ReadError},
    placement::{self, HostRefusal, Hosts},
    plan::{self, Left, ObjectChange},
    previous::was_reported,
    secrets::TenantSecrets,
    status::{self, Outcome, Outcomes, Urgency},
    suspension::{self, Pods},
    tenant::{Cell, Invalid, Tenant, hosts, missing_backend, tenant_id},
    wake,
    workload::Workload,
};

/// Looks at a tenant, does what can be done now, and reports. Returns when to come back.
pub(super) async fn pass(resource: &MessengerTenant, context: &Context) -> Result<Urgency, PassError> {
    let mode = if resource.spec.paused == Some(true) { Mode::DryRun } else { Mode::Apply };
    let mut pass = Pass { resource, mode, context, pods: Pods::Wanted };

    if settle_wake(pass).await? {
        return Ok(Urgency::Waiting);
    }
    if wake::is_suspended(resource) {
        let Some(pods) = step("suspend", end_pods(pass)).await? else {
            // The pass that this starts sees what became of it.
            return Ok(Urgency::Waiting);
        };
        pass.pods = pods;
    }
    let place = match place(pass) {
        Ok(place) => place,
        Err(refusal) => return refusal.report(pass).await,
    };
    if mode == Mode::Apply {
        if !was_placed(resource)
            && let Some(refusal) = contest(pass, &place).await
        {
            return refusal.report(pass).await;
        }
        if !resource.finalizers().iter().any(|name| name == crds::FINALIZER) {
            // Nothing is created anywhere before the finalizer stands: whatever happens next, it is cleaned up.
            context.writer.add_finalizer(resource).await?;
        }
        if !is_recorded(resource, &place) {
            return match record(pass, &place).await? {
                Some(refusal) => refusal.report(pass).await,
                None => Ok(Urgency::Waiting),
            };
        }
    }
    let access = step("access", open_secrets(pass)).await?;
    match &access {
        Access::Open | Access::Withheld(_) => {}
        Access::Granted => return Ok(Urgency::Waiting),
        Access::Outlived(binding) => return Refusal::outlived(&format!("{binding:?}")).report(pass).await,
        Access::Foreign(binding) => {
            let message =
                format!("{binding:?} exists and does not belong to this tenant; delete or rename it");
            let ready = Outcome::action_required(Reason::ResourceConflict, message);
            return Refusal::whole(ready).report(pass).await;
        }
    }
    let observed = match step("observe", observe(pass, &place)).await {
        Ok(observed) => observed,
        Err(error) if error.is_forbidden() => match access.withheld() {
            Some(line) => return Refusal::unseen(&place, &line).report(pass).await,
            // The right was given a moment ago and has not reached every part of the API server.
            None if is_young(pass) && was_never_seen(pass) => return Ok(Urgency::Waiting),
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if let Some((kind, name)) = observed.outlived.first() {
        return Refusal::outlived(&format!("{} {name}", kind.as_str())).report(pass).await;
    }
    let tenant = match validate(pass, &place, &observed) {
        Ok(tenant) => tenant,
        Err(invalid) => return Refusal::invalid(&invalid).report(pass).await,
    };
    let mut children = Children::new(pass, observed, access.withheld());
    // Before the backends, or a password that was set somewhere could be lost with this process.
    step("secrets", children.write_secrets(&tenant)).await?;
    let backends = step("backends", settle_all(pass, &tenant)).await;
    if mode == Mode::Apply && backends.all_belong_to_others() {
        let of_backends = backends.outcomes.into_iter();
        let outcomes = of_backends.map(|(backend, outcome)| (ConditionType::Backend(backend), outcome));
        return Refusal::contested(outcomes.collect()).report(pass).await;
    }
    let children = step("children", children.converge(&tenant, &backends)).await?;
    let routes = step("probe", probe(pass, &tenant, &children)).await;
    step("status", report_all(pass, &tenant, &backends, children, routes)).await
}

/// Makes a step of a pass, on the heap: the stack is the steps' that a backend's own client makes.
fn step<F: Future + Send>(name: &'static str, work: F) -> impl Future<Output = F::Output> + Send {
    traces::step(name, Box::pin(work))
}

/// Returns how the tenant is as a whole. That it is paused comes before everything else: until it goes on, nothing changes.
fn as_a_whole(mode: Mode, ready: Outcome) -> Outcome {
    match mode {
        Mode::Apply => ready,
        Mode::DryRun => {
            let message = format!(
                "spec.paused is true, nothing is written; set it to false to go on ({})",
                ready.message
            );
            Outcome::action_required(Reason::Paused, message)
        }
    }
}

/// Where a tenant lives and is found.
struct Place {
    cell: Cell,
    hosts: Hosts,
}

/// Why a pass ends before it looks at the parts.
struct Refusal {
    outcomes: Outcomes,
    ready: Outcome,
    /// The tenant keeps the slot, the hosts and the children that it has.
    keeps_place: bool,
}

impl Refusal {
    /// It concerns the tenant as a whole.
    fn whole(ready: Outcome) -> Self {
        Self { outcomes: Outcomes::new(), ready, keeps_place: true }
    }

    fn invalid(invalid: &Invalid) -> Self {
        Self::whole(Outcome::action_required(Reason::InvalidSpec, invalid.to_string()))
    }

    fn unplaced(outcome: Outcome) -> Self {
        let outcomes = Outcomes::from([(ConditionType::Placed, outcome)]);
        Self { ready: status::summary(&outcomes), outcomes, keeps_place: true }
    }

    /// A service that the tenant requests needs what the cell does not have. What runs of the tenant is left as it is.
    fn lacking(service: catalog::Service, backend: catalog::Backend, cell: &str) -> Self {
        let otherwise = if service.chosen_backends.contains(&backend) {
            format!("leave engine out of spec.services.{service}")
        } else {
            format!("switch {service} off in spec.services")
        };
        let message = format!(
            "{service} needs {}, which MessengerCell {cell} does not have; set its spec.{}, or {otherwise}",
            backend.title, backend.field
        );
        let outcome = Outcome::action_required(Reason::BackendMissing, message);
        let outcomes = Outcomes::from([(ConditionType::Backend(backend), outcome)]);
        Self { ready: status::summary(&outcomes), outcomes, keeps_place: true }
    }

    /// A child of a former resource of this name is still there.
    fn outlived(object: &str) -> Self {
        let message = format!(
            "{object} belongs to a resource of this name that was deleted; it goes on when Kubernetes has removed it"
        );
        Self::whole(Outcome::waiting(Reason::Creating, message))
    }

    /// The tenant id is another resource's.
    fn rivalled(tenant_id: &str, rival: &str) -> Self {
        let message = format!(
            "tenantId {tenant_id} belongs to MessengerTenant {rival}; delete this resource or choose another tenantId"
        );
        Self {
            keeps_place: false,
            ..Self::unplaced(Outcome::action_required(Reason::ResourceConflict, message))
        }
    }

    /// Another owner has something of the tenant's name in backends, each of which has its outcome in `of_backends`. The tenant
    /// owns nothing meanwhile: neither its id, nor hosts, nor a slot.
    fn contested(of_backends: Outcomes) -> Self {
        let lines: Vec<_> = of_backends.values().map(|outcome| outcome.message.as_str()).collect();
        let urgency = of_backends.values().map(|outcome| outcome.urgency).max();
        let outcome = Outcome {
            urgency: urgency.unwrap_or(Urgency::ActionRequired),
            ..Outcome::action_required(Reason::ResourceConflict, lines.join("; "))
        };
        let mut refusal = Self { keeps_place: false, ..Self::unplaced(outcome) };
        refusal.outcomes.extend(of_backends);
        refusal
    }

    /// The tenant is paused, and nothing of it can be read before `line` is done.
    fn unseen(place: &Place, line: &str) -> Self {
        let outcomes = Outcomes::from([(ConditionType::Placed, assigned(&place.cell))]);
        let message = format!("would {line}, which is needed to look at Secrets and backends");
        Self { outcomes, ready: Outcome::action_required(Reason::Paused, message), keeps_place: true }
    }

    async fn report(self, pass: Pass<'_>) -> Result<Urgency, PassError> {
        let Pass { resource, mode, context, pods } = pass;
        let ready = as_a_whole(mode, self.ready);
        let mut outcomes = self.outcomes;
        let workloads = pods.outcome().filter(|_| mode == Mode::Apply && !was_never_seen(pass));
        outcomes.extend(workloads.map(|workloads| (ConditionType::WorkloadsReady, workloads)));
        let mut facts = resource.status.clone().unwrap_or_default();
        if !self.keeps_place && mode == Mode::Apply && was_placed(resource) {
            children::withdraw(pass).await?;
            (facts.cell, facts.hosts, facts.endpoints) = (None, None, None);
        }
        report(resource, facts, &outcomes, &ready, context).await
    }
}

/// Finds the tenant's cell, a slot on it, and its hosts. Who gets the id, the slot and the hosts follows from the resources
/// alone.
fn place(Pass { resource, context, .. }: Pass<'_>) -> Result<Place, Refusal> {
    let member = Member::of(resource);
    let fleet = context.fleet();
    if let Some(rival) = placement::rival(&member, &fleet) {
        return Err(Refusal::rivalled(&member.tenant_id, &rival.resource));
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
    let id = tenant_id(resource).map_err(|invalid| Refusal::invalid(&invalid))?;
    if !member.is_placed() {
        check_admission(resource, &id, &cell)?;
    }
    let has_topics = resource.status.as_ref().is_some_and(|status| status.kafka.is_some());
    limits::check(&resource.spec, name, &cell.spec, has_topics).map_err(|exceeded| {
        Refusal::whole(Outcome::action_required(Reason::LimitExceeded, exceeded.to_string()))
    })?;
    if let Some((service, backend)) = missing_backend(&Workload::of(&resource.spec), &cell) {
        return Err(Refusal::lacking(service, backend, name));
    }
    if !placement::is_placed(&member, &fleet, cell.capacity) {
        let message = format!(
            "MessengerCell {name} is full ({} tenants); raise its spec.capacity.tenants or use another cell",
            cell.capacity
        );
        // A slot may become free without any change to this resource.
        return Err(Refusal::unplaced(Outcome::retry(Reason::CapacityExhausted, message)));
    }
    let invalid = |invalid: Invalid| Refusal::invalid(&invalid);
    let requested = hosts(resource, &cell.domain).map_err(invalid)?;
    let installation = context.installation();
    let allowed = |host: &Host| installation.check(host, &id, &cell.name, &cell.spec);
    let hosts = placement::hosts(&member, requested, &fleet, allowed);
    Ok(Place { cell, hosts })
}

/// Checks that a tenant that has no place yet may have one on this cell.
fn check_admission(resource: &MessengerTenant, id: &TenantId, cell: &Cell) -> Result<(), Refusal> {
    let (name, namespace) = (&cell.name, resource.namespace().unwrap_or_default());
    let (reason, message) = if id.is_reserved() {
        (Reason::InvalidSpec, format!("tenantId {id} is reserved; create a tenant with another tenantId"))
    } else if cell.is_deleted {
        (Reason::CellNotFound, format!("MessengerCell {name} is being deleted; use another cell"))
    } else if !cell.takes(&namespace) {
        let message = format!(
            "MessengerCell {name} does not allow namespace {namespace} in spec.allowedNamespaces; use another cell"
        );
        (Reason::NamespaceNotAllowed, message)
    } else {
        return Ok(());
    };
    Err(Refusal::unplaced(Outcome::action_required(reason, message)))
}

fn assigned(cell: &Cell) -> Outcome {
    Outcome::good(Reason::Assigned, format!("on cell {}", cell.name))
}

/// Reports whether the tenant has its id and a slot.
fn was_placed(resource: &MessengerTenant) -> bool {
    Member::of(resource).is_placed()
}

/// Returns why a tenant that has no place yet gets none: another owner has something of its name in a backend.
async fn contest(pass: Pass<'_>, place: &Place) -> Option<Refusal> {
    let id = tenant_id(pass.resource).ok()?;
    let conflicts = backends::conflicts(pass, &id, &place.cell).await;
    (!conflicts.is_empty()).then(|| Refusal::contested(conflicts))
}

/// Reports whether the status names the tenant's cell and all of its hosts.
fn is_recorded(resource: &MessengerTenant, Place { cell, hosts }: &Place) -> bool {
    let Some(status) = &resource.status else { return false };
    let held = status.hosts.as_deref().unwrap_or_default();
    status.cell.as_ref() == Some(&cell.name)
        && hosts.routed.iter().all(|host| held.iter().any(|held| held == host.as_str()))
}

/// Records where the tenant is placed and what it holds before anything is created: from then on no other tenant gets it. The
/// first time, this also reports that the work began: it takes as long as a realm takes, and an administrator is watching.
async fn record(
    Pass { resource, context, .. }: Pass<'_>,
    Place { cell, hosts }: &Place,
) -> Result<Option<Refusal>, PassError> {
    let previous = resource.status.clone().unwrap_or_default();
    let mut held: Vec<_> = hosts.routed.iter().map(ToString::to_string).collect();
    // A host that is dropped is held until its routes are gone.
    let dropped = previous.hosts.iter().flatten().filter(|host| !held.contains(host)).cloned();
    held.extend(dropped.collect::<Vec<_>>());
    let facts = TenantStatus { cell: Some(cell.name.clone()), hosts: Some(held), ..previous };
    if was_placed(resource) {
        write_facts(resource, facts, context).await?;
        return Ok(None);
    }
    // The index may lag behind another tenant that was placed a moment ago.
    let _turn = context.memory.placing.lock().await;
    let member = Member::of(resource);
    let living = observe::with_tenant_id(&context.client, &member.tenant_id).await?;
    let living: Fleet =
        living.iter().filter_map(|guarded| Some(Member::of(guarded.0.as_ref().ok()?))).collect();
    if let Some(rival) = placement::rival(&member, &living) {
        return Ok(Some(Refusal::rivalled(&member.tenant_id, &rival.resource)));
    }
    let outcomes = Outcomes::from([(ConditionType::Placed, assigned(cell))]);
    let ready = Outcome::waiting(Reason::Creating, "the backends are being set up");
    report(resource, facts, &outcomes, &ready, context).await?;
    Ok(None)
}

/// Whether the operator may read the Secrets of the namespace.
enum Access {
    Open,
    /// It was allowed in this pass.
    Granted,
    /// [`Mode::Apply`] would make this change first.
    Withheld(String),
    /// The RoleBinding of that name belongs to a former resource that is gone.
    Outlived(Object),
    /// A RoleBinding of that name belongs to another owner.
    Foreign(Object),
}

impl Access {
    fn withheld(self) -> Option<String> {
        match self {
            Self::Withheld(line) => Some(line),
            Self::Open | Self::Granted | Self::Outlived(_) | Self::Foreign(_) => None,
        }
    }
}

/// Makes sure that the operator may read the Secrets of the namespace.
async fn open_secrets(Pass { resource, mode, context, .. }: Pass<'_>) -> Result<Access, PassError> {
    let binding = desired::secret_access(resource, &context.config.namespace);
    let namespace = resource.namespace().unwrap_or_default();
    let found = observe::object(&context.client, &namespace, &binding).await?;
    let foreign = found.as_ref().filter(|found| !observe::is_ours(binding.kind, found, resource));
    if let Some(found) = foreign {
        let is_outlived = observe::is_outlived(found, resource);
        return Ok(if is_outlived { Access::Outlived(binding) } else { Access::Foreign(binding) });
    }
    let live: observe::Children = found.map(|found| (binding.key(), found)).into_iter().collect();
    let Some(change) = plan::objects(
        std::slice::from_ref(&binding),
        &live,
        &resource.uid().unwrap_or_default(),
        &Left::new(),
    )
    .pop() else {
        return Ok(Access::Open);
    };
    if mode == Mode::DryRun {
        return Ok(Access::Withheld(change.to_string()));
    }
    context.writer.apply(&namespace, &binding, live.get(&binding.key())).await?;
    if matches!(change, ObjectChange::Repair { .. }) {
        context.drift_repaired(resource, "kubernetes", &change.to_string()).await;
        return Ok(Access::Open);
    }
    Ok(Access::Granted)
}

/// Reads the tenant's namespace.
async fn observe(
    Pass { resource, context, .. }: Pass<'_>,
    Place { cell, .. }: &Place,
) -> Result<Observed, ReadError> {
    observe::children(&context.client, resource, cell, context.watched_children(resource)).await
}

/// Reports whether the tenant was waited for only a few times.
fn is_young(Pass { resource, context, .. }: Pass<'_>) -> bool {
    context.retries.is_young(&resource.uid().unwrap_or_default())
}

/// Reports whether no pass has come as far as the workloads yet.
fn was_never_seen(Pass { resource, .. }: Pass<'_>) -> bool {
    !was_reported(resource, ConditionType::WorkloadsReady)
}

/// Checks everything that the later phases rely on.
fn validate(
    Pass { resource, context, .. }: Pass<'_>,
    Place { cell, hosts }: &Place,
    observed: &Observed,
) -> Result<Tenant, Invalid> {
    let found = observe::credentials(&resource.name_any(), observed);
    let usernames = backend::usernames(&tenant_id(resource)?, &Workload::of(&resource.spec));
    let namespace = resource.namespace().unwrap_or_default();
    let mut copies = context.cell_copies(cell);
    copies.extend(named_secrets::copies(&resource.spec, &namespace, &observed.referenced));
    let secrets = TenantSecrets::complete(&usernames, &found, &copies, |_| (context.credential)());
    Tenant::new(resource, cell.clone(), secrets, hosts.clone(), &observed.referenced)
}

/// Reports the hosts that the tenant does not get.
fn refused_hosts(tenant: &Tenant) -> Option<Outcome> {
    let mut refused = tenant.hosts.refused.iter().map(|(host, refusal)| match refusal {
        HostRefusal::Held { by } => {
            (Reason::HostConflict, format!("{host}: MessengerTenant {by} holds it until it drops it"))
        }
        HostRefusal::NotAllowed(why) => (Reason::HostNotAllowed, format!("{host}: {why}")),
    });
    let (reason, mut lines) = refused.next()?;
    for (_, line) in refused {
        lines.push_str("; ");
        lines.push_str(&line);
    }
    let message = format!("hosts that are not routed ({lines}); name other hosts in spec.hosts");
    Some(Outcome::action_required(reason, message))
}

/// Proves that users reach every service.
async fn probe(pass: Pass<'_>, tenant: &Tenant, children: &Converged) -> Outcome {
    if let Some(problem) = &children.unroutable {
        return problem.clone();
    }
    if let Some(refused) = refused_hosts(tenant) {
        return refused;
    }
    if tenant.is_suspended {
        // A certificate may be renewed meanwhile, and nothing looks at it.
        pass.context.metrics.hosts_expire(tenant.id.as_str(), None);
        return Outcome::action_required(Reason::Suspended, "no pod answers while spec.suspended is true");
    }
    if !children.workloads.is_good() {
        let waiting = Outcome::waiting(Reason::DependencyNotReady, "waits for WorkloadsReady");
        return Outcome { urgency: children.workloads.urgency, ..waiting };
    }
    let Probed { wrong, expires_at } = pass.context.prober.probe(tenant).await;
    // What was seen of a certificate holds until another one is: hosts whose certificate has ended show none any more.
    if expires_at.is_some() || tenant.cell.scheme == Scheme::Http {
        pass.context.metrics.hosts_expire(tenant.id.as_str(), expires_at);
    }
    match wrong.split_first() {
        None => {
            let hosts: Vec<_> = tenant.hosts.routed.iter().map(|host| tenant.origin(host)).collect();
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
            // New routes take a moment. Those that worked before are gone with Traefik, perhaps for long, and for every tenant.
            if pass.context.retries.is_under_way(&pass.resource.uid().unwrap_or_default()) {
                Outcome::waiting(Reason::ProbeFailed, message)
            } else {
                Outcome::retry(Reason::ProbeFailed, message)
            }
        }
    }
}

/// Reports every part, and what the tenant as a whole is.
async fn report_all(
    Pass { resource, mode, context, .. }: Pass<'_>,
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
    let parts = status::summary(&outcomes);
    let ready = match mode {
        Mode::Apply if tenant.is_suspended => suspension::summary(&parts, tenant.wakes),
        Mode::Apply | Mode::DryRun => as_a_whole(mode, parts),
    };
    let mut facts = status::facts(tenant, backends.topic_ids.clone(), &backends.generations);
    facts.schema_ids.clone_from(&backends.schema_ids);
    if mode == Mode::DryRun {
        // Nothing was taken and nothing was dropped.
        let previous = resource.status.clone().unwrap_or_default();
        (facts.cell, facts.hosts) = (previous.cell, previous.hosts);
    }
    let urgency = report_whole(resource, facts, &outcomes, &ready, context).await?;
    let annotation = resource.annotations().get(crds::ACCEPT_LOSS_ANNOTATION);
    let is_lost = outcomes.values().any(|outcome| outcome.reason == Reason::DataLoss);
    if let Some(value) = annotation.filter(|_| !is_lost && mode == Mode::Apply) {
        unused_consent(resource, value, context).await;
    }
    Ok(urgency)
}

/// Reports a consent that nothing is lost for: it was for a loss that is over, or was given before any.
async fn unused_consent(resource: &MessengerTenant, value: &str, context: &Context) {
    if context.memory.is_new_consent(resource, value) {
        let annotation = crds::ACCEPT_LOSS_ANNOTATION;
        let note = format!(
            "the annotation {annotation}={value} accepts no loss that there is, and will accept no later one; remove it"
        );
        context.events.warning(&reference(resource), Reason::ConsentUnused, &note).await;
    }
}
