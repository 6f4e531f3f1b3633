//! Pure and infallible: a [`Tenant`] becomes everything that should exist for it.

use catalog::{Secret, Service};
use crds::{MessengerCellSpec, MessengerTenant};

use crate::{
    config::Images,
    tenant::Tenant,
    wake,
    workload::{Workload, has_secret},
};

mod access;
mod autoscaler;
mod deployment;
mod facts;
mod monitor;
mod monitor_types;
mod network;
mod object;
mod secret;
mod template;
mod traefik;
mod traefik_types;

pub(crate) use access::secret_access;
pub(crate) use autoscaler::replicas_to_hold;
pub(crate) use deployment::{arguments, environment};
pub(crate) use facts::Facts;
pub(crate) use object::{
    APPLIED_ANNOTATION, ChildKey, INSTANCE, Kind, NAME, Object, has_labels, is_labelled,
};
pub(crate) use secret::{is_as_applied, secrets};
pub(crate) use traefik::{asks_the_waker, route_target};

/// Returns every child of a tenant except its Secrets, in the order of [`Kind`]. A workload that cannot be described yet (a
/// setting of it is not known) has no Deployment.
pub(crate) fn children(tenant: &Tenant, facts: &Facts, images: &Images) -> Vec<Object> {
    let mut objects = vec![network::policy(tenant)];
    for workload in &tenant.workloads {
        objects.push(deployment::service_account(tenant, workload));
        objects.push(network::service(tenant, workload));
        for service in &workload.services {
            let moved = facts.route_targets.get(service).cloned();
            let target = moved.unwrap_or_else(|| tenant.child(workload.name));
            if *service == Service::Gateway {
                objects.extend(traefik::middlewares(tenant, facts, &target));
            }
            objects.extend(traefik::ingress_route(tenant, facts, *service, target));
        }
        objects.extend(deployment::disruption_budget(tenant, workload));
        objects.extend(deployment::deployment(tenant, workload, facts, images));
        objects.extend(autoscaler::autoscaler(tenant, workload));
    }
    objects.extend(monitor::pod_monitor(tenant));
    objects.sort_by_key(|object| object.kind);
    objects
}

/// Returns what the children of a resource on a cell are called, before anything is known that decides what they hold: an object of
/// such a name that is not ours is found before anything is written.
pub(crate) fn names(resource: &MessengerTenant, cell: &MessengerCellSpec) -> Vec<ChildKey> {
    let name = resource.metadata.name.as_deref().unwrap_or_default();
    let child = |kind: Kind, end: &str| (kind, format!("{name}-{end}"));
    let workloads = Workload::of(&resource.spec);
    let secrets = Secret::ALL.iter().filter(|secret| has_secret(&workloads, **secret));
    let mut names: Vec<_> = secrets.map(|secret| child(Kind::Secret, secret.as_str())).collect();
    names.push(child(Kind::NetworkPolicy, network::POLICY));
    let middlewares = traefik::middleware_names(wake::is_suspended(resource), wake::wakes(resource));
    names.extend(middlewares.map(|middleware| child(Kind::Middleware, middleware)));
    for workload in workloads {
        names.extend(Kind::OF_WORKLOAD.map(|kind| child(kind, workload.name)));
        if workload.size.most() > 1 {
            names.push(child(Kind::PodDisruptionBudget, workload.name));
        }
        let autoscaler = workload.size.autoscaling.map(|_| Kind::HorizontalPodAutoscaler);
        names.extend(autoscaler.map(|kind| child(kind, workload.name)));
        names.extend(workload.services.iter().map(|service| child(Kind::IngressRoute, service.as_str())));
    }
    names.extend(cell.pod_monitors().map(|_| child(Kind::PodMonitor, monitor::MONITOR)));
    names
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};

    use super::*;
    use crate::rendered::{
        images,
        testing::{cell_resource, children, example},
    };

    #[test]
    fn every_child_has_a_name_that_is_known_before_it_is_described() {
        let mut cell = cell_resource().spec;
        for (file, monitoring, is_suspended) in [
            ("acme.yaml", json!({"podMonitors": {}}), false),
            ("full.yaml", json!({}), false),
            ("full.yaml", json!({}), true),
            ("compact.yaml", json!(null), true),
        ] {
            cell.monitoring = serde_json::from_value(monitoring).expect("monitoring");
            let mut known = BTreeSet::new();
            let mut tenant = example(file, |resource| {
                resource.spec.suspended = Some(is_suspended);
                known = names(resource, &cell).into_iter().collect();
            });
            tenant.cell.spec.monitoring.clone_from(&cell.monitoring);
            let objects = secrets(&tenant).into_iter().chain(children(&tenant));
            let described: BTreeSet<_> = objects.map(|object| object.key()).collect();
            assert_eq!(described, known, "{file}");
        }
    }

    #[test]
    fn a_suspended_tenant_lacks_pods_and_says_when_to_come_back() {
        for file in ["full.yaml", "compact.yaml"] {
            let children_when = |is_suspended: bool| -> BTreeMap<ChildKey, Object> {
                let tenant = example(file, |resource| {
                    resource.spec.suspended = Some(is_suspended);
                    resource.spec.wake_on_connect = None;
                });
                children(&tenant).into_iter().map(|object| (object.key(), object)).collect()
            };
            let (running, suspended) = (children_when(false), children_when(true));
            let new: Vec<_> = suspended.keys().filter(|key| !running.contains_key(*key)).collect();
            assert!(matches!(new[..], [(Kind::Middleware, name)] if name.ends_with("-suspended")), "{new:?}");
            for (key, before) in &running {
                let (mut before, mut after) = (before.manifest.clone(), suspended[key].manifest.clone());
                for manifest in [&mut before, &mut after] {
                    manifest["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(null);
                }
                match key.0 {
                    Kind::Deployment => before["spec"]["replicas"] = json!(0),
                    Kind::IngressRoute => {
                        for route in after["spec"]["routes"].as_array_mut().expect("routes") {
                            let first = route["middlewares"].as_array_mut().expect("a list").remove(0);
                            assert_eq!(first["name"], new[0].1.as_str());
                        }
                    }
                    _ => {}
                }
                assert_eq!(before, after, "{key:?}");
            }
        }
    }

    #[test]
    fn requests_ask_the_waker_while_a_tenant_sleeps_and_until_it_is_up() {
        let asleep = example("full.yaml", |resource| resource.spec.suspended = Some(true));
        let awake = Tenant { is_suspended: false, ..asleep.clone() };
        let images = images();
        let passed_by = |tenant: &Tenant, is_opening: bool| -> BTreeSet<Vec<String>> {
            let waker_url = "http://waker".to_owned();
            let facts = Facts { is_opening, waker_url, ..Facts::default() };
            let objects = super::children(tenant, &facts, &images);
            let wake = objects.iter().find(|object| object.name == "hooli-chat-wake").expect("a middleware");
            assert_eq!(
                wake.manifest["spec"],
                json!({"forwardAuth": {"address": "http://waker", "authRequestHeaders": ["Accept"]}})
            );
            let routes = objects.iter().filter(|object| object.kind == Kind::IngressRoute);
            let routes =
                routes.flat_map(|object| object.manifest["spec"]["routes"].as_array().expect("routes"));
            let name = |middleware: &Value| middleware["name"].as_str().expect("a name").to_owned();
            routes
                .map(|route| route["middlewares"].as_array().expect("a list").iter().map(name).collect())
                .collect()
        };
        let expected = |names: &[&str]| -> BTreeSet<Vec<String>> {
            BTreeSet::from([names.iter().map(|name| format!("hooli-chat-{name}")).collect()])
        };
        let asks = expected(&["rate-limit", "wake", "errors"]);
        assert_eq!(passed_by(&asleep, false), asks);
        assert_eq!(passed_by(&awake, true), asks);
        assert_eq!(passed_by(&awake, false), expected(&["rate-limit", "errors"]));
    }
}
