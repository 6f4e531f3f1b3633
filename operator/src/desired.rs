//! Pure and infallible: a [`Tenant`] becomes everything that should exist for it.

use catalog::{Secret, Service};
use crds::MessengerTenant;

use crate::{
    config::Images,
    tenant::Tenant,
    workload::{Workload, has_secret},
};

mod access;
mod deployment;
mod facts;
mod network;
mod object;
mod secret;
mod traefik;
mod traefik_types;

pub(crate) use access::secret_access;
pub(crate) use deployment::{arguments, environment};
pub(crate) use facts::Facts;
pub(crate) use object::{APPLIED_ANNOTATION, ChildKey, INSTANCE, Kind, Object, has_labels};
pub(crate) use secret::{is_as_applied, secrets};
pub(crate) use traefik::route_target;
pub(crate) use traefik_types::IngressRoute;

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
                objects.extend(traefik::middlewares(tenant, &target));
            }
            objects.extend(traefik::ingress_route(tenant, *service, target));
        }
        objects.extend(deployment::disruption_budget(tenant, workload));
        objects.extend(deployment::deployment(tenant, workload, facts, images));
    }
    objects.sort_by_key(|object| object.kind);
    objects
}

/// Returns what the children of a resource are called, before anything is known that decides what they hold: an object of
/// such a name that is not ours is found before anything is written.
pub(crate) fn names(resource: &MessengerTenant) -> Vec<ChildKey> {
    let name = resource.metadata.name.as_deref().unwrap_or_default();
    let child = |kind: Kind, end: &str| (kind, format!("{name}-{end}"));
    let workloads = Workload::of(&resource.spec);
    let secrets = Secret::ALL.iter().filter(|secret| has_secret(&workloads, **secret));
    let mut names: Vec<_> = secrets.map(|secret| child(Kind::Secret, secret.as_str())).collect();
    names.push(child(Kind::NetworkPolicy, network::POLICY));
    names.extend(traefik::MIDDLEWARES.map(|middleware| child(Kind::Middleware, middleware)));
    for workload in workloads {
        names.extend(Kind::OF_WORKLOAD.map(|kind| child(kind, workload.name)));
        if workload.size.replicas > 1 {
            names.push(child(Kind::PodDisruptionBudget, workload.name));
        }
        names.extend(workload.services.iter().map(|service| child(Kind::IngressRoute, service.as_str())));
    }
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rendered::testing::{children, example};

    #[test]
    fn every_child_has_a_name_that_is_known_before_it_is_described() {
        for file in ["acme.yaml", "full.yaml", "compact.yaml"] {
            let mut known = BTreeSet::new();
            let tenant = example(file, |resource| known = names(resource).into_iter().collect());
            let objects = secrets(&tenant).into_iter().chain(children(&tenant));
            let described: BTreeSet<_> = objects.map(|object| object.key()).collect();
            assert_eq!(described, known, "{file}");
        }
    }
}
