//! Pure: how far workloads are, and how one set of them takes over from another when the topology changes: the new ones
//! become available, then the routes move, then the old ones end. Users reconnect once and are never without a service.

use std::collections::BTreeMap;

use catalog::Service;
use kube::core::DynamicObject;

use crate::{
    desired::{ChildKey, Kind, asks_the_waker, route_target},
    observe::Children,
    plan::Left,
    tenant::Tenant,
    text::one_line,
    workload::Workload,
};

/// How far a Deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rollout {
    is_seen: bool,
    /// Replicas that are declared, or those of whom they are left to.
    pub wanted: i64,
    replicas: i64,
    updated: i64,
    pub available: i64,
}

impl Rollout {
    /// Returns how far the Deployment of a workload is.
    pub fn of(tenant: &Tenant, workload: &Workload, live: &Children, left: &Left) -> Self {
        let declared = tenant.replicas(workload);
        let wanted = i64::from(declared.unwrap_or_else(|| workload.size.least()));
        let child = (Kind::Deployment, tenant.child(workload.name));
        let Some(deployment) = live.get(&child) else { return Self { wanted, ..Self::default() } };
        let are_left =
            declared.is_none() || left.get(&child).is_some_and(|fields| fields.contains("spec.replicas"));
        let scaled = deployment.data["spec"]["replicas"].as_i64().filter(|_| are_left);
        Self::read(deployment, scaled.unwrap_or(wanted))
    }

    /// Reports whether exactly the wanted pods run, at the wanted version.
    pub fn is_done(self) -> bool {
        let Self { wanted, .. } = self;
        self.is_seen && self.replicas == wanted && self.updated == wanted && self.available == wanted
    }

    fn read(deployment: &DynamicObject, wanted: i64) -> Self {
        let status = &deployment.data["status"];
        let number = |name: &str| status[name].as_i64().unwrap_or(0);
        Self {
            // Before that the counts are about an older template.
            is_seen: status["observedGeneration"].as_i64() >= deployment.metadata.generation,
            wanted,
            replicas: number("replicas"),
            updated: number("updatedReplicas"),
            available: number("availableReplicas"),
        }
    }
}

/// Why a Deployment does not go on, in the words of the controllers that run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// No new pod of it is let in.
    Refused(String),
    /// It has made no progress for longer than Kubernetes waits.
    Late(String),
}

/// Returns why the Deployment of a workload does not go on, as its conditions show.
pub(crate) fn stall(tenant: &Tenant, workload: &Workload, live: &Children) -> Option<Stall> {
    let name = tenant.child(workload.name);
    let deployment = live.get(&(Kind::Deployment, name.clone()))?;
    let conditions = deployment.data["status"]["conditions"].as_array()?;
    let message = |type_: &str, status: &str| {
        let found = conditions.iter().find(|found| found["type"] == type_ && found["status"] == status)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        Some((text("reason").to_owned(), format!("Deployment {name}: {}", one_line(text("message")))))
    };
    if let Some((_, message)) = message("ReplicaFailure", "True") {
        return Some(Stall::Refused(message));
    }
    match message("Progressing", "False")? {
        (reason, message) if reason == "ProgressDeadlineExceeded" => Some(Stall::Late(message)),
        _ => None,
    }
}

/// Returns the Kubernetes Services that routes still have to lead to, because the workloads that take over are not available
/// yet. They move together: a gateway must not be reached before the services it calls.
pub(crate) fn route_targets(tenant: &Tenant, live: &Children, left: &Left) -> BTreeMap<Service, String> {
    if are_done(tenant, live, left) {
        return BTreeMap::new();
    }
    let still_serving = |service: Service| {
        let target = target_of(tenant, service, live)?;
        live.contains_key(&(Kind::Deployment, target.to_owned())).then(|| (service, target.to_owned()))
    };
    tenant.services().filter_map(still_serving).collect()
}

/// Reports whether requests for a tenant that was woken have to ask the waker still: they do since it slept, and not all of its workloads are available.
pub(crate) fn is_opening(tenant: &Tenant, live: &Children, left: &Left) -> bool {
    let mut routes =
        tenant.services().filter_map(|service| live.get(&(Kind::IngressRoute, tenant.child(service))));
    routes.any(|route| asks_the_waker(tenant, route)) && !are_done(tenant, live, left)
}

fn are_done(tenant: &Tenant, live: &Children, left: &Left) -> bool {
    tenant.workloads.iter().all(|workload| Rollout::of(tenant, workload, live, left).is_done())
}

/// Reports whether a child that is not wanted has to stay for now: its workload still serves, or is wanted and cannot be
/// described yet.
pub(crate) fn is_needed(tenant: &Tenant, (kind, name): &ChildKey, live: &Children, left: &Left) -> bool {
    let Some(workload) = workload_name(tenant, *kind, name) else { return false };
    if tenant.workloads.iter().any(|wanted| wanted.name == workload) {
        return true;
    }
    let services = Workload::services_of(workload);
    let takes_over = |wanted: &&Workload| wanted.services.iter().any(|service| services.contains(service));
    let mut successors = tenant.workloads.iter().filter(takes_over);
    successors.any(|wanted| {
        let is_routed_here =
            |service: &Service| target_of(tenant, *service, live).is_some_and(|target| target == name);
        !Rollout::of(tenant, wanted, live, left).is_done() || wanted.services.iter().any(is_routed_here)
    })
}

/// Returns the name of the workload that a child belongs to.
fn workload_name<'a>(tenant: &Tenant, kind: Kind, name: &'a str) -> Option<&'a str> {
    let end = name.strip_prefix(tenant.name.as_str())?.strip_prefix('-')?;
    Kind::OF_WORKLOAD.contains(&kind).then_some(end)
}

fn target_of<'a>(tenant: &Tenant, service: Service, live: &'a Children) -> Option<&'a str> {
    live.get(&(Kind::IngressRoute, tenant.child(service))).and_then(route_target)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rendered::testing::{children, example};

    fn tenant(topology: &str) -> Tenant {
        example("acme.yaml", |resource| {
            resource.spec.topology = Some(serde_json::from_value(json!(topology)).expect("a topology"));
            let services = resource.spec.services.get_or_insert_default();
            Service::ALL.iter().for_each(|service| services.enable(*service));
        })
    }

    /// Returns the children of a tenant as they are once applied. Its Deployments are available when `is_available`.
    fn applied(tenant: &Tenant, is_available: bool) -> Children {
        children(tenant)
            .into_iter()
            .map(|object| (object.key(), live(&object.manifest, is_available)))
            .collect()
    }

    fn live(manifest: &Value, is_available: bool) -> DynamicObject {
        let mut manifest = manifest.clone();
        manifest["metadata"]["generation"] = json!(1);
        if is_available && manifest["kind"] == "Deployment" {
            manifest["status"] =
                json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        }
        serde_json::from_value(manifest).expect("an object")
    }

    fn leftovers(tenant: &Tenant, live: &Children) -> Vec<ChildKey> {
        let wanted = applied(tenant, true);
        live.keys().filter(|key| !wanted.contains_key(key)).cloned().collect()
    }

    #[test]
    fn a_rollout_is_done_when_no_old_pod_is_left() {
        let rollout = |wanted: i64, generation: i64, status: Value| {
            let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "acme-compact", "generation": generation}, "status": status});
            Rollout::read(&serde_json::from_value(deployment).expect("a Deployment"), wanted)
        };
        let done =
            json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        assert!(rollout(1, 2, done.clone()).is_done());
        assert!(!rollout(1, 3, done.clone()).is_done(), "the status is about an older template");
        assert!(!rollout(2, 2, done).is_done());
        let surge =
            json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
        assert!(!rollout(1, 2, surge).is_done());
        assert!(!rollout(1, 1, json!({})).is_done());
    }

    #[test]
    fn replicas_that_are_left_to_an_autoscaler_are_as_many_as_it_wants() {
        let tenant = tenant("Compact");
        let child = (Kind::Deployment, tenant.child("compact"));
        let mut live = applied(&tenant, true);
        let deployment = live.get_mut(&child).expect("it is there");
        deployment.data["spec"]["replicas"] = json!(3);
        for count in ["replicas", "updatedReplicas", "availableReplicas"] {
            deployment.data["status"][count] = json!(3);
        }
        let rollout = |left: &Left| Rollout::of(&tenant, &tenant.workloads[0], &live, left);
        assert!(!rollout(&Left::new()).is_done());
        let left = Left::from([(child, ["spec.replicas".to_owned()].into())]);
        assert!(rollout(&left).is_done());
        assert_eq!(rollout(&left).wanted, 3);
    }

    #[test]
    fn replicas_that_the_spec_leaves_to_an_autoscaler_are_as_many_as_it_wants() {
        let tenant = example("compact.yaml", |resource| {
            let size = json!({"replicas": 1, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}});
            resource.spec.compact = Some(serde_json::from_value(size).expect("a size"));
        });
        let compact = &tenant.workloads[0];
        let rollout = |live: &Children| Rollout::of(&tenant, compact, live, &Left::new());
        assert_eq!(rollout(&Children::new()).wanted, 2);
        let mut live = applied(&tenant, true);
        let deployment = live.get_mut(&(Kind::Deployment, tenant.child("compact"))).expect("it is there");
        deployment.data["spec"]["replicas"] = json!(4);
        assert!(rollout(&live).wanted == 4 && !rollout(&live).is_done());
        let deployment = live.get_mut(&(Kind::Deployment, tenant.child("compact"))).expect("it is there");
        for count in ["replicas", "updatedReplicas", "availableReplicas"] {
            deployment.data["status"][count] = json!(4);
        }
        assert!(rollout(&live).is_done());
    }

    #[test]
    fn a_rollout_that_does_not_go_on_says_why() {
        let tenant = tenant("Compact");
        let workload = &tenant.workloads[0];
        let check = |conditions: Value, expected: Option<Stall>| {
            let mut all = applied(&tenant, true);
            let deployment =
                all.get_mut(&(Kind::Deployment, "acme-compact".to_owned())).expect("it is there");
            deployment.data["status"]["conditions"] = conditions;
            assert_eq!(stall(&tenant, workload, &all), expected);
        };
        let quota = "pods \"acme-compact-1\" is forbidden: exceeded quota: exact, requested: pods=1";
        let progressing = |status: &str, reason: &str| {
            json!({"type": "Progressing", "status": status, "reason": reason,
            "message": "ReplicaSet \"acme-compact-1\" has timed out progressing."})
        };
        let failure = |status: &str| json!({"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": quota});
        let refused = Stall::Refused(format!("Deployment acme-compact: {quota}"));
        check(json!([progressing("True", "ReplicaSetUpdated"), failure("True")]), Some(refused.clone()));
        check(json!([progressing("False", "ProgressDeadlineExceeded"), failure("True")]), Some(refused));
        check(
            json!([progressing("False", "ProgressDeadlineExceeded"), failure("False")]),
            Some(Stall::Late(
                "Deployment acme-compact: ReplicaSet \"acme-compact-1\" has timed out progressing."
                    .to_owned(),
            )),
        );
        check(json!([progressing("True", "ReplicaSetUpdated")]), None);
        check(json!([progressing("Unknown", "DeploymentPaused")]), None);
    }

    #[test]
    fn old_workloads_serve_until_the_new_ones_are_available_and_routed() {
        for (from, to) in [("Distributed", "Compact"), ("Compact", "Distributed")] {
            let (before, after) = (tenant(from), tenant(to));
            let old = applied(&before, true);

            // The new workloads are on their way: routes stay, and so does what they lead to.
            let mut live = old.clone();
            for (key, object) in applied(&after, false) {
                live.entry(key).or_insert(object);
            }
            let targets = route_targets(&after, &live, &Left::new());
            assert_eq!(targets.len(), Service::ALL.len());
            for (service, target) in &targets {
                let workload = before.workload_of(*service).expect("every service runs");
                assert_eq!(*target, before.child(workload.name));
            }
            let left = leftovers(&after, &live);
            assert_eq!(left.len(), before.workloads.len() * Kind::OF_WORKLOAD.len());
            assert!(left.iter().all(|key| is_needed(&after, key, &live, &Left::new())), "{from} to {to}");

            // They are available: routes may move. What they still lead to stays for this pass.
            for (key, object) in applied(&after, true) {
                if key.0 == Kind::Deployment {
                    live.insert(key, object);
                }
            }
            assert_eq!(route_targets(&after, &live, &Left::new()), BTreeMap::new());
            assert!(
                leftovers(&after, &live).iter().all(|key| is_needed(&after, key, &live, &Left::new())),
                "{from} to {to}"
            );

            // The routes have moved.
            live.extend(applied(&after, true));
            assert!(
                !leftovers(&after, &live).iter().any(|key| is_needed(&after, key, &live, &Left::new())),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn a_tenant_that_was_woken_opens_once_all_of_its_workloads_are_available() {
        let asleep = example("acme.yaml", |resource| {
            (resource.spec.suspended, resource.spec.wake_on_connect) = (Some(true), Some(Default::default()));
        });
        let awake = Tenant { is_suspended: false, ..asleep.clone() };
        let is_opening = |live: &Children| is_opening(&awake, live, &Left::new());

        let mut live = applied(&asleep, false);
        assert!(is_opening(&live));
        live.extend(applied(&awake, true).into_iter().filter(|((kind, _), _)| *kind == Kind::Deployment));
        assert!(!is_opening(&live));
        // Once its routes do not ask the waker any more, a pod that fails does not close it again.
        assert!(!is_opening(&applied(&awake, false)));
    }

    #[test]
    fn a_service_that_is_switched_off_goes_whatever_the_others_do() {
        for service in Service::ALL {
            let before = tenant("Distributed");
            let mut after = before.clone();
            after.workloads.retain(|workload| workload.name != service.as_str());
            let live = applied(&before, false);
            let left: Vec<_> = live.keys().filter(|(_, name)| *name == before.child(service)).collect();
            // Deployment, Service, ServiceAccount and route.
            assert_eq!(left.len(), Kind::OF_WORKLOAD.len() + 1, "{left:?}");
            assert!(!left.iter().any(|key| is_needed(&after, key, &live, &Left::new())));
        }
    }

    #[test]
    fn a_workload_that_cannot_be_described_yet_is_left_as_it_is() {
        let tenant = tenant("Distributed");
        let live = applied(&tenant, true);
        let message = (Kind::Deployment, tenant.child(Service::Message));
        assert!(live.contains_key(&message));
        assert!(is_needed(&tenant, &message, &live, &Left::new()));
    }
}
