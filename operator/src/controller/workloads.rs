//! The Kubernetes part of one pass: children are planned, applied one by one, and judged.

use std::collections::BTreeMap;

use crds::{ConditionType, MessengerTenant, Reason};
use kube::core::DynamicObject;
use tracing::info;

use super::{
    Context, PassError,
    pass::{drift_repaired, is_established, was_good},
};
use crate::{
    apply::{Mode, WriteError},
    catalog::{Part, Service},
    desired::{Kind, Object},
    observe::{self, Observed},
    plan::{self, Children, ObjectChange},
    status::{Outcome, Outcomes},
    tenant::Tenant,
};

/// The children of one tenant during one pass.
pub(super) struct Workloads<'a> {
    resource: &'a MessengerTenant,
    mode: Mode,
    live: Children,
    unknown_kinds: Vec<Kind>,
    /// Objects of a wanted name that belong to somebody else.
    foreign: Vec<Object>,
    /// What could not be written.
    troubles: Vec<(Kind, String)>,
    /// Services that are not made yet, and what each waits for.
    waiting: BTreeMap<Service, Part>,
    /// What would be done in [`Mode::Look`].
    withheld: Vec<String>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(
        resource: &'a MessengerTenant,
        mode: Mode,
        observed: Observed,
        foreign: Vec<Object>,
    ) -> Self {
        Self {
            resource,
            mode,
            live: observed.children,
            unknown_kinds: observed.unknown_kinds,
            foreign,
            troubles: Vec::new(),
            waiting: BTreeMap::new(),
            withheld: Vec::new(),
        }
    }

    /// Writes the Secrets. Fails when one cannot be written: a password must not be used that nobody will remember.
    pub(super) async fn apply_secrets(
        &mut self,
        wanted: &[Object],
        context: &Context,
    ) -> Result<(), PassError> {
        let secrets: Vec<_> =
            self.mine(wanted).filter(|object| object.kind == Kind::Secret).cloned().collect();
        let live = self.live.iter().filter(|((kind, _), _)| *kind == Kind::Secret);
        let live: Children = live.map(|(key, object)| (key.clone(), object.clone())).collect();
        for change in plan::objects(&secrets, &live, &self.uid()) {
            self.carry_out(change, context).await?;
        }
        Ok(())
    }

    /// Brings all children to what is wanted. A service is first made when the systems it needs are set up; once it is
    /// there it is updated whatever they do, because the update may be the cure.
    pub(super) async fn apply(
        &mut self,
        wanted: &[Object],
        outcomes: &Outcomes,
        context: &Context,
    ) -> Result<(), PassError> {
        let mine: Vec<_> = self.mine(wanted).cloned().collect();
        for change in plan::objects(&mine, &self.live, &self.uid()) {
            if self.must_wait(&change, outcomes) || self.is_undescribed(&change) {
                continue;
            }
            let kind = change.kind();
            match self.carry_out(change, context).await {
                Ok(()) => {}
                Err(error @ WriteError::NotLeading(_)) => return Err(error.into()),
                Err(error) => self.troubles.push((kind, error.to_string())),
            }
        }
        context.remember_children(&self.uid(), self.live.keys().cloned().collect());
        Ok(())
    }

    fn must_wait(&mut self, change: &ObjectChange, outcomes: &Outcomes) -> bool {
        let ObjectChange::Create(Object { kind: Kind::Deployment, service: Some(service), .. }) = change
        else {
            return false;
        };
        let is_ready = |part: &&Part| outcomes.get(&part.condition()).is_some_and(Outcome::is_good);
        match service.needs().parts.iter().find(|part| !is_ready(part)) {
            Some(part) => {
                self.waiting.insert(*service, *part);
                true
            }
            None => false,
        }
    }

    /// A service whose settings are not all known is left as it is, not taken for one that is not wanted.
    fn is_undescribed(&self, change: &ObjectChange) -> bool {
        let ObjectChange::Delete { kind: Kind::Deployment, name } = change else { return false };
        let own_name = self.resource.metadata.name.as_deref().unwrap_or_default();
        Service::ALL.iter().any(|service| *name == format!("{own_name}-{service}"))
    }

    async fn carry_out(&mut self, change: ObjectChange, context: &Context) -> Result<(), WriteError> {
        let line = change.to_string();
        if self.mode == Mode::Look {
            self.withheld.push(line);
            return Ok(());
        }
        let namespace = self.resource.metadata.namespace.clone().unwrap_or_default();
        let is_drift = match &change {
            ObjectChange::Repair { .. } => true,
            ObjectChange::Create(object) => {
                let was_seen = context.has_seen(&self.uid(), &(object.kind, object.name.clone()));
                was_seen
                    || is_established(self.resource) && was_good(self.resource, ConditionType::WorkloadsReady)
            }
            ObjectChange::Update { .. } | ObjectChange::Delete { .. } => false,
        };
        match change {
            ObjectChange::Create(object)
            | ObjectChange::Update { object, .. }
            | ObjectChange::Repair { object, .. } => {
                let applied = context.writer.apply(&namespace, &object).await?;
                self.live.insert((object.kind, object.name.clone()), applied);
            }
            ObjectChange::Delete { kind, name } => {
                context.writer.delete(&namespace, kind, &name).await?;
                self.live.remove(&(kind, name));
            }
        }
        if is_drift {
            drift_repaired(self.resource, "kubernetes", &line, context).await;
        } else {
            info!(tenant = %self.resource.spec.tenant_id, "{line}");
        }
        Ok(())
    }

    /// Judges the Deployments.
    pub(super) async fn outcome(
        &self,
        tenant: &Tenant,
        outcomes: &Outcomes,
        context: &Context,
    ) -> Result<Outcome, PassError> {
        if !self.withheld.is_empty() {
            return Ok(Outcome::needs_person(Reason::Paused, format!("would {}", self.withheld.join("; "))));
        }
        if let Some(trouble) = self.trouble(|kind| !is_route(kind)) {
            return Ok(trouble);
        }
        if let Some((service, part)) = self.waiting.iter().next() {
            let message = format!("{service} waits for {}", part.condition());
            // What it waits for decides when to look again.
            let urgency = outcomes[&part.condition()].urgency;
            return Ok(Outcome { urgency, ..Outcome::waiting(Reason::DependencyNotReady, message) });
        }
        let progress: Vec<_> = Service::ALL
            .into_iter()
            .map(|service| {
                let found = self.live.get(&(Kind::Deployment, tenant.child(service)));
                (service, found.map(rollout).unwrap_or_default(), tenant.sizes[&service].replicas)
            })
            .collect();
        let lines: Vec<_> = progress
            .iter()
            .map(|(service, rollout, replicas)| format!("{service} {}/{replicas}", rollout.available))
            .collect();
        let lines = lines.join(", ");
        if progress.iter().all(|(_, rollout, replicas)| rollout.is_done(*replicas)) {
            return Ok(Outcome::good(Reason::Available, lines));
        }
        match observe::pod_trouble(&context.client, tenant).await? {
            Some(trouble) => Ok(Outcome::retry(trouble.reason, format!("{}; {lines}", trouble.message))),
            None => Ok(Outcome::waiting(Reason::RolloutInProgress, format!("pods are starting: {lines}"))),
        }
    }

    /// Says why routes cannot be right, when they cannot.
    pub(super) fn route_trouble(&self) -> Option<Outcome> {
        if self.unknown_kinds.contains(&Kind::IngressRoute) {
            let message = "the API server knows no IngressRoute; install Traefik with its CRDs and restart the operator";
            return Some(Outcome::needs_person(Reason::ApiRefused, message));
        }
        self.trouble(is_route)
    }

    fn trouble(&self, concerns: impl Fn(Kind) -> bool) -> Option<Outcome> {
        if let Some(object) = self.foreign.iter().find(|object| concerns(object.kind)) {
            let message = format!("{object:?} exists and is not ours; delete or rename it");
            return Some(Outcome::needs_person(Reason::ResourceConflict, message));
        }
        let (_, said) = self.troubles.iter().find(|(kind, _)| concerns(*kind))?;
        Some(Outcome::retry(Reason::ApiRefused, said.clone()))
    }

    fn mine<'b>(&'b self, wanted: &'b [Object]) -> impl Iterator<Item = &'b Object> {
        let is_foreign = |object: &Object| {
            self.foreign.iter().any(|other| other.kind == object.kind && other.name == object.name)
        };
        wanted.iter().filter(move |object| !is_foreign(object) && !self.unknown_kinds.contains(&object.kind))
    }

    fn uid(&self) -> String {
        self.resource.metadata.uid.clone().unwrap_or_default()
    }
}

/// How far a Deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rollout {
    is_seen: bool,
    replicas: i64,
    updated: i64,
    available: i64,
}

impl Rollout {
    fn is_done(self, wanted: i32) -> bool {
        let wanted = i64::from(wanted);
        self.is_seen && self.replicas == wanted && self.updated == wanted && self.available == wanted
    }
}

fn rollout(deployment: &DynamicObject) -> Rollout {
    let status = &deployment.data["status"];
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    Rollout {
        // Before that the counts are about an older template.
        is_seen: status["observedGeneration"].as_i64() >= deployment.metadata.generation,
        replicas: number("replicas"),
        updated: number("updatedReplicas"),
        available: number("availableReplicas"),
    }
}

fn is_route(kind: Kind) -> bool {
    match kind {
        Kind::IngressRoute | Kind::Middleware => true,
        Kind::RoleBinding
        | Kind::Secret
        | Kind::ServiceAccount
        | Kind::NetworkPolicy
        | Kind::Service
        | Kind::Deployment => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: i64, status: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "acme-chat", "generation": generation}, "status": status}))
        .expect("a Deployment")
    }

    #[test]
    fn a_rollout_is_done_when_no_old_pod_is_left() {
        let done =
            json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert!(rollout(&deployment(2, done.clone())).is_done(1));
        assert!(!rollout(&deployment(3, done.clone())).is_done(1), "the status is about an older template");
        assert!(!rollout(&deployment(2, done)).is_done(2));
        let surge =
            json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
        assert!(!rollout(&deployment(2, surge)).is_done(1));
        assert!(!rollout(&deployment(1, json!({}))).is_done(1));
    }
}
