//! The Secrets and children phases of a pass: children are planned, applied one by one, and judged.

use std::collections::BTreeSet;

use catalog::Backend;
use crds::{ConditionType, Reason};
use kube::ResourceExt;
use tracing::info;

use super::{
    backends::Backends,
    context::{Pass, PassError},
};
use crate::{
    apply::WriteError,
    desired::{self, ChildKey, Facts, Kind, Object},
    events::reference,
    mode::Mode,
    observe::{self, Observed},
    plan::{self, Left, ObjectChange},
    previous::{is_established, was_good},
    rollout::{self, Rollout, Stall},
    status::Outcome,
    suspension::asks_for_pods,
    tenant::Tenant,
    wake, watched,
};

/// The children of one tenant during one pass.
pub(super) struct Children<'a> {
    pass: Pass<'a>,
    live: Observed,
    /// What could not be written.
    problems: Vec<(Kind, String)>,
    /// What would be done in [`Mode::DryRun`].
    withheld: Vec<String>,
}

/// How the children are after their phase.
pub(super) struct Converged {
    /// The message of WorkloadsReady.
    pub workloads: Outcome,
    /// Why routes cannot be right, when they cannot.
    pub unroutable: Option<Outcome>,
}

/// Removes the children of a tenant that owns nothing, but for its Secrets: they are the passwords of what it may have set up.
pub(super) async fn withdraw(Pass { resource, context, .. }: Pass<'_>) -> Result<(), PassError> {
    let owned = observe::owned_children(&context.client, resource, &Kind::LISTED).await?;
    let namespace = resource.namespace().unwrap_or_default();
    for ((kind, name), object) in owned {
        info!(tenant = %resource.spec.tenant_id, "delete {} {name}", kind.as_str());
        context.writer.delete(&namespace, kind, &name, object.uid()).await?;
    }
    Ok(())
}

impl<'a> Children<'a> {
    /// `withheld` is what would have been done before this phase.
    pub(super) fn new(pass: Pass<'a>, observed: Observed, withheld: Option<String>) -> Self {
        Self { pass, live: observed, problems: Vec::new(), withheld: withheld.into_iter().collect() }
    }

    /// Writes the Secrets. Fails when one cannot be written: a password that is not stored must not be used.
    pub(super) async fn write_secrets(&mut self, tenant: &Tenant) -> Result<(), PassError> {
        let secrets = desired::secrets(tenant);
        // One that cannot be used is not desired, and is left as it is.
        let live = secrets.iter().filter_map(|secret| self.live.secrets.get_key_value(&secret.key()));
        let live = live.map(|(key, secret)| (key.clone(), secret.clone())).collect();
        for change in plan::objects(&secrets, &live, &tenant.uid, &Left::new()) {
            self.carry_out(tenant, change).await?;
        }
        Ok(())
    }

    /// Brings all other children to what is desired, and judges them. A workload is first created when the backends it needs
    /// are set up; once it is there it is updated whatever they do, because the update may be the cure.
    pub(super) async fn converge(
        mut self,
        tenant: &Tenant,
        backends: &Backends,
    ) -> Result<Converged, PassError> {
        let left = self.pass.context.memory.left_to_others(&tenant.uid);
        let facts = Facts {
            send_topic_generation: backends.topic_ids.get(tenant.send_topic().as_str()).cloned(),
            generations: backends.generations.clone(),
            schema_ids: backends.schema_ids.clone(),
            route_targets: rollout::route_targets(tenant, &self.live.children, &left),
            is_opening: !wake::is_overdue(self.pass.resource, (self.pass.context.now)())
                && rollout::is_opening(tenant, &self.live.children, &left),
            waker_url: self.pass.context.config.waker_url.to_string(),
        };
        let images = &self.pass.context.config.images;
        let desired = self.without_foreign(desired::children(tenant, &facts, images));
        let mut blocked = Vec::new();
        let mut superseded = BTreeSet::new();
        let mut changes = Vec::new();
        for change in plan::objects(&desired, &self.live.children, &tenant.uid, &left) {
            if self.pass.pods.hold(tenant, &change) {
                continue;
            }
            if let Some(missing) = missing_backend(tenant, &change, backends) {
                blocked.push(missing);
            } else if let Some(child) = self.serving_leftover(tenant, &change, &left) {
                superseded.insert(child);
            } else {
                changes.push(change);
            }
        }
        self.apply(tenant, changes).await?;
        let unroutable = self.unroutable();
        let workloads = self.workloads(tenant, backends, &blocked, &superseded).await?;
        Ok(Converged { workloads, unroutable })
    }

    /// Returns the child that a change would remove although its workload is needed for now.
    fn serving_leftover(&self, tenant: &Tenant, change: &ObjectChange, left: &Left) -> Option<ChildKey> {
        let ObjectChange::Delete { kind, name } = change else { return None };
        let child = (*kind, name.clone());
        rollout::is_needed(tenant, &child, &self.live.children, left).then_some(child)
    }

    async fn apply(&mut self, tenant: &Tenant, changes: Vec<ObjectChange>) -> Result<(), PassError> {
        for change in changes {
            let kind = change.kind();
            match self.carry_out(tenant, change).await {
                Ok(()) => {}
                Err(error @ WriteError::NotLeading(_)) => return Err(error.into()),
                Err(error) => self.problems.push((kind, error.to_string())),
            }
        }
        let left = watched::versions(&self.live.children);
        self.pass.context.memory.remember_children(&tenant.uid, left);
        Ok(())
    }

    async fn carry_out(&mut self, tenant: &Tenant, change: ObjectChange) -> Result<(), WriteError> {
        let Pass { resource, mode, context, .. } = self.pass;
        let line = change.to_string();
        if mode == Mode::DryRun {
            self.withheld.push(line);
            return Ok(());
        }
        let is_drift = match &change {
            ObjectChange::Repair { object, fields } => !self.goes_on(object, fields),
            ObjectChange::Create(object) => self.was_deleted(tenant, object),
            ObjectChange::Update { .. } | ObjectChange::Delete { .. } => false,
        };
        let mut news = Vec::new();
        match change {
            ObjectChange::Create(object) | ObjectChange::Update { object, .. } => {
                news = self.write(tenant, &object, &[]).await?;
            }
            ObjectChange::Repair { object, fields } => {
                let repaired = if is_drift { fields.as_slice() } else { &[] };
                news = self.write(tenant, &object, repaired).await?;
            }
            ObjectChange::Delete { kind, name } => {
                let child = (kind, name);
                let uid = self.live.get(&child).and_then(ResourceExt::uid);
                context.writer.delete(&tenant.namespace, kind, &child.1, uid).await?;
                self.live.children.remove(&child);
            }
        }
        if is_drift {
            context.drift_repaired(resource, "kubernetes", &line).await;
        } else {
            info!(tenant = %tenant.id, "{line}");
        }
        if !news.is_empty() {
            let note = format!(
                "{line}: another client or a webhook sets {} again and again; it is left as it is, and tried again within hours",
                news.join(", ")
            );
            context.events.warning(&reference(resource), Reason::FieldContested, &note).await;
        }
        Ok(())
    }

    /// Reports whether a Deployment lacks nothing but pods, and may lack them because the tenant was suspended: it may go on before anything but its pods was changed.
    fn goes_on(&self, object: &Object, fields: &[String]) -> bool {
        let has_no_pods = |found| object.kind == Kind::Deployment && !asks_for_pods(found);
        fields == ["spec.replicas"]
            && self.live.get(&object.key()).is_some_and(has_no_pods)
            && !is_established(self.pass.resource)
    }

    /// Writes an object; `repaired` are the fields that another client had changed. Returns those that are left to others from now
    /// on.
    async fn write(
        &mut self,
        tenant: &Tenant,
        object: &Object,
        repaired: &[String],
    ) -> Result<Vec<String>, WriteError> {
        let context = self.pass.context;
        let found = self.live.get(&object.key());
        let applied = context.writer.apply(&tenant.namespace, object, found).await?;
        let undone = object.differences(&applied);
        self.live.insert(object.key(), applied);
        Ok(context.memory.repaired(&tenant.uid, &object.key(), repaired, &undone))
    }

    /// Reports whether a child that is missing was deleted by another client, as far as is known.
    fn was_deleted(&self, tenant: &Tenant, object: &Object) -> bool {
        let Pass { resource, context, .. } = self.pass;
        let part = match object.kind {
            // What a pass leaves of Secrets is not remembered.
            Kind::Secret => None,
            // No condition says whether one was there.
            Kind::PodMonitor | Kind::HorizontalPodAutoscaler => {
                Some(context.memory.has_left(&tenant.uid, &object.key()).unwrap_or(false))
            }
            _ => context.memory.has_left(&tenant.uid, &object.key()),
        };
        let condition =
            if object.kind.is_route() { ConditionType::RoutesReady } else { ConditionType::WorkloadsReady };
        part.unwrap_or_else(|| is_established(resource) && was_good(resource, condition))
    }

    /// Judges the workloads. `blocked` are those that are not created yet, each with the backend it waits for; `superseded`
    /// are children of those that serve until others take over.
    async fn workloads(
        &self,
        tenant: &Tenant,
        backends: &Backends,
        blocked: &[(&'static str, Backend)],
        superseded: &BTreeSet<ChildKey>,
    ) -> Result<Outcome, PassError> {
        if !self.withheld.is_empty() {
            let message = format!("would {}", self.withheld.join("; "));
            return Ok(Outcome::action_required(Reason::Paused, message));
        }
        if let Some((secret, unusable)) = tenant.secrets.unusable().next() {
            let message = unusable.message(&tenant.child(secret));
            return Ok(Outcome::action_required(unusable.reason(), message));
        }
        if let Some(why) = tenant.unusable_env.values().next() {
            return Ok(Outcome::action_required(Reason::SecretInvalid, why.clone()));
        }
        if let Some(problem) = self.problem(|kind| !kind.is_route() && kind != Kind::PodMonitor) {
            return Ok(problem);
        }
        if let Some(suspended) = self.pass.pods.outcome() {
            return Ok(suspended);
        }
        if let Some((workload, backend)) = blocked.first() {
            let message = format!("{workload} waits for {}", backend.condition);
            // What it waits for decides when to look again.
            let urgency = backends.outcomes[backend].urgency;
            return Ok(Outcome { urgency, ..Outcome::waiting(Reason::DependencyNotReady, message) });
        }
        let left = self.pass.context.memory.left_to_others(&tenant.uid);
        let mut is_done = true;
        let mut lines = Vec::new();
        for workload in &tenant.workloads {
            let rollout = Rollout::of(tenant, workload, &self.live.children, &left);
            is_done &= rollout.is_done();
            lines.push(format!("{} {}/{}", workload.name, rollout.available, rollout.wanted));
        }
        let lines = lines.join(", ") + &left_lines(&left) + &self.unscraped();
        if is_done {
            let old = superseded.iter().filter(|(kind, _)| *kind == Kind::Deployment);
            let old: Vec<_> = old.map(|(_, name)| name.as_str()).collect();
            return Ok(if old.is_empty() {
                Outcome::good(Reason::Available, lines)
            } else {
                let message = format!("{lines}; routes are moving away from {}", old.join(", "));
                Outcome::waiting(Reason::RolloutInProgress, message)
            });
        }
        self.unfinished(tenant, &lines).await
    }

    /// Returns why pods are not as they should be yet. What keeps new ones out comes first: the others may be fine.
    async fn unfinished(&self, tenant: &Tenant, lines: &str) -> Result<Outcome, PassError> {
        let mut workloads = tenant.workloads.iter();
        let stall = workloads.find_map(|workload| rollout::stall(tenant, workload, &self.live.children));
        if let Some(Stall::Refused(why)) = stall {
            return Ok(Outcome::retry(Reason::PodsRefused, format!("{why}; {lines}")));
        }
        let problem = observe::pod_problem(&self.pass.context.client, tenant).await?;
        Ok(match (problem, stall) {
            (Some(problem), _) => Outcome::retry(problem.reason, format!("{}; {lines}", problem.message)),
            (None, Some(Stall::Late(why) | Stall::Refused(why))) => {
                Outcome::retry(Reason::RolloutStalled, format!("{why}; {lines}"))
            }
            (None, None) => {
                Outcome::waiting(Reason::RolloutInProgress, format!("pods are starting: {lines}"))
            }
        })
    }

    fn unroutable(&self) -> Option<Outcome> {
        if self.live.unknown_kinds.contains(&Kind::IngressRoute) {
            let message = "the API server knows no IngressRoute; install Traefik with its CRDs";
            return Some(Outcome::action_required(Reason::ApiRefused, message));
        }
        self.problem(Kind::is_route)
    }

    /// Says why the pods are not scraped although the cell asks for it. Users notice nothing of it, so no part is bad for it.
    fn unscraped(&self) -> String {
        let problem = self.problem(|kind| kind == Kind::PodMonitor);
        problem.map_or_else(String::new, |problem| format!("; pods are not scraped: {}", problem.message))
    }

    fn problem(&self, concerns: impl Fn(Kind) -> bool) -> Option<Outcome> {
        if let Some((kind, name)) = self.live.foreign.iter().find(|(kind, _)| concerns(*kind)) {
            let message = format!(
                "{} {name} exists and does not belong to this tenant; delete or rename it",
                kind.as_str()
            );
            return Some(Outcome::action_required(Reason::ResourceConflict, message));
        }
        let (_, problem) = self.problems.iter().find(|(kind, _)| concerns(*kind))?;
        Some(Outcome::retry(Reason::ApiRefused, problem.clone()))
    }

    /// Leaves out what must not or cannot be written.
    fn without_foreign(&self, mut desired: Vec<Object>) -> Vec<Object> {
        let Observed { foreign, unknown_kinds, .. } = &self.live;
        desired.retain(|object| !foreign.contains(&object.key()) && !unknown_kinds.contains(&object.kind));
        desired
    }
}

/// Names the fields that are left to others.
fn left_lines(left: &Left) -> String {
    let lines: Vec<_> = left
        .iter()
        .flat_map(|((kind, name), fields)| {
            fields.iter().map(move |field| format!("{} {name} {field}", kind.as_str()))
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("; others set {}", lines.join(", ")) }
}

/// Returns the workload that a change would create, and the first backend it needs that is not set up; or the one that it would
/// change, and the first backend where its data is not found.
fn missing_backend(
    tenant: &Tenant,
    change: &ObjectChange,
    backends: &Backends,
) -> Option<(&'static str, Backend)> {
    let (object, is_new) = match change {
        ObjectChange::Create(object) => (object, true),
        ObjectChange::Update { object, .. } | ObjectChange::Repair { object, .. } => (object, false),
        ObjectChange::Delete { .. } => return None,
    };
    let workload = tenant.workloads.iter().find(|workload| tenant.child(workload.name) == object.name)?;
    let is_missing = |backend: &Backend| match is_new {
        true => !backends.is_ready(*backend),
        false => backends.has_other_data(*backend),
    };
    let missing = workload.backends().into_iter().find(is_missing)?;
    let concerns_pods = matches!(object.kind, Kind::Deployment | Kind::HorizontalPodAutoscaler);
    concerns_pods.then_some((workload.name, missing))
}
