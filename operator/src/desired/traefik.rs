//! Routes of a tenant, for Traefik.

use catalog::{PROBLEMS_PATH, Service};
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

/// Of a Kubernetes Service.
const PORT: i32 = 80;
const RATE_LIMIT: &str = "rate-limit";
const ERRORS: &str = "errors";
/// What every request passes, in this order; each is a child of its own.
pub(super) const MIDDLEWARES: [&str; 2] = [RATE_LIMIT, ERRORS];
/// Names the replica that answered first.
const STICKY_COOKIE: &str = "posthouse-replica";
/// Below every rule whose priority is its length.
const LAST: i32 = 1;

/// `gateway` is the Kubernetes Service that answers for one that Traefik does not reach.
pub(super) fn middlewares(tenant: &Tenant, gateway: &str) -> Vec<Object> {
    let limit = tenant.rate_limit;
    let rate_limit = MiddlewareSpec {
        rate_limit: Some(json!({"average": limit.average, "burst": limit.burst, "period": "1s"})),
        ..MiddlewareSpec::default()
    };
    // Traefik has texts of its own for a service that it does not reach; a client gets a problem.
    let errors = MiddlewareSpec {
        errors: Some(json!({
            "status": ["502-504"],
            "statusRewrites": {"502": 503, "504": 503},
            "service": {"name": gateway, "port": PORT},
            "query": format!("{PROBLEMS_PATH}/{{status}}"),
        })),
        ..MiddlewareSpec::default()
    };
    [(RATE_LIMIT, rate_limit), (ERRORS, errors)]
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
    let whole = |path: &&str| format!("Path(`{path}`)");
    let prefixes = service.prefixes().map(|prefix| format!("PathPrefix(`{prefix}`)"));
    let paths: Vec<_> = prefixes.chain(service.paths.iter().map(whole)).collect();
    let sticky_paths: Vec<_> = service.sticky_paths.iter().map(whole).collect();
    let hosts = hosts.join(" || ");
    let below = |paths: &[String]| format!("({hosts}) && ({})", paths.join(" || "));
    let route = |rule, priority, sticky| Route {
        rule,
        kind: "Rule".to_owned(),
        priority,
        middlewares: MIDDLEWARES.map(|suffix| MiddlewareRef { name: tenant.child(suffix) }).into(),
        services: vec![ServiceRef { name: target.clone(), port: PORT, sticky }],
    };
    let mut routes = vec![route(below(&paths), None, None)];
    if !sticky_paths.is_empty() {
        let cookie = json!({"name": STICKY_COOKIE, "httpOnly": true});
        routes.push(route(below(&sticky_paths), None, Some(json!({ "cookie": cookie }))));
    }
    if service == Service::Gateway {
        // What is no path of any service is answered by one, as every refusal is.
        routes.push(route(hosts, Some(LAST), None));
    }
    let tls = match tenant.cell.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(json!({})),
    };
    let mut object = IngressRoute::new("", IngressRouteSpec { routes, tls });
    object.metadata = metadata(tenant, tenant.child(service), Some(service.as_str()));
    Some(Object::new(Kind::IngressRoute, &object))
}

/// Returns the Kubernetes Service that a live route leads to.
pub(crate) fn route_target(route: &DynamicObject) -> Option<&str> {
    route.data["spec"]["routes"][0]["services"][0]["name"].as_str()
}
