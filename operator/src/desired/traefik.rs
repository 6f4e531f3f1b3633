//! Routes of a tenant, for Traefik.

use catalog::Service;
use crds::Scheme;
use kube::core::DynamicObject;
use serde_json::json;

use super::{
    object::{Kind, Object, metadata},
    traefik_types::{
        IngressRoute, IngressRouteSpec, Middleware, MiddlewareRef, MiddlewareSpec, Route, ServiceRef,
    },
};
use crate::tenant::Tenant;

const RATE_LIMIT: &str = "rate-limit";
const HEADERS: &str = "headers";
/// What every request passes, in this order; each is a child of its own.
pub(super) const MIDDLEWARES: [&str; 2] = [RATE_LIMIT, HEADERS];

pub(super) fn middlewares(tenant: &Tenant) -> Vec<Object> {
    let limit = tenant.rate_limit;
    let rate_limit = MiddlewareSpec {
        rate_limit: Some(json!({"average": limit.average, "burst": limit.burst, "period": "1s"})),
        headers: None,
    };
    let headers = MiddlewareSpec {
        rate_limit: None,
        headers: Some(json!({
            "contentTypeNosniff": true,
            "frameDeny": true,
            "referrerPolicy": "same-origin",
        })),
    };
    [(RATE_LIMIT, rate_limit), (HEADERS, headers)]
        .into_iter()
        .map(|(suffix, spec)| {
            let mut middleware = Middleware::new("", spec);
            middleware.metadata = metadata(tenant, tenant.child(suffix), None);
            Object::new(Kind::Middleware, &middleware)
        })
        .collect()
}

/// Returns the route of a service, or nothing when the tenant gets no host. It leads to `target`, a
/// Kubernetes Service.
pub(super) fn ingress_route(tenant: &Tenant, service: Service, target: String) -> Option<Object> {
    let hosts: Vec<_> = tenant.hosts.routed.iter().map(|host| format!("Host(`{host}`)")).collect();
    if hosts.is_empty() {
        return None;
    }
    let prefixes = service.prefixes().map(|prefix| format!("PathPrefix(`{prefix}`)"));
    let paths: Vec<_> = prefixes.chain(service.paths.iter().map(|path| format!("Path(`{path}`)"))).collect();
    let route = Route {
        rule: format!("({}) && ({})", hosts.join(" || "), paths.join(" || ")),
        kind: "Rule".to_owned(),
        middlewares: MIDDLEWARES.map(|suffix| MiddlewareRef { name: tenant.child(suffix) }).into(),
        services: vec![ServiceRef { name: target, port: 80 }],
    };
    let tls = match tenant.cell.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(json!({})),
    };
    let mut object = IngressRoute::new("", IngressRouteSpec { routes: vec![route], tls });
    object.metadata = metadata(tenant, tenant.child(service), Some(service.as_str()));
    Some(Object::new(Kind::IngressRoute, &object))
}

/// Returns the Kubernetes Service that a live route leads to.
pub(crate) fn route_target(route: &DynamicObject) -> Option<&str> {
    route.data["spec"]["routes"][0]["services"][0]["name"].as_str()
}
