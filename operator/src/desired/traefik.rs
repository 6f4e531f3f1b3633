//! Routes of a tenant, for Traefik.

use catalog::{PROBLEMS_PATH, Service};
use crds::Scheme;
use kube::core::DynamicObject;
use serde_json::json;

use super::{
    facts::Facts,
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
const SUSPENDED: &str = "suspended";
const WAKE: &str = "wake";
/// A client that comes to a suspended tenant may ask again after so many seconds. It learns of the end of the suspension by nothing else.
const RETRY_AFTER_SECONDS: u32 = 60;
/// Names the replica that answered first.
const STICKY_COOKIE: &str = "posthouse-replica";
/// Below every rule whose priority is its length.
const LAST: i32 = 1;

/// Returns which middlewares a tenant has; each is a child of its own. One that wakes has its own for as long as it may sleep again, whatever its routes pass now.
pub(super) fn middleware_names(is_suspended: bool, wakes: bool) -> impl Iterator<Item = &'static str> {
    let of_suspension = if wakes { Some(WAKE) } else { is_suspended.then_some(SUSPENDED) };
    of_suspension.into_iter().chain([RATE_LIMIT, ERRORS])
}

/// Returns what every request to a tenant passes, in this order. The rate of a client is limited before the waker is asked, which all tenants share.
fn passed(tenant: &Tenant, facts: &Facts) -> impl Iterator<Item = &'static str> {
    let is_closed = tenant.is_suspended && !tenant.wakes;
    let is_asked = tenant.wakes && (tenant.is_suspended || facts.is_opening);
    let first = is_closed.then_some(SUSPENDED).into_iter().chain([RATE_LIMIT]);
    first.chain(is_asked.then_some(WAKE)).chain([ERRORS])
}

/// `gateway` is the Kubernetes Service that answers for one that Traefik does not reach.
pub(super) fn middlewares(tenant: &Tenant, facts: &Facts, gateway: &str) -> Vec<Object> {
    let limit = tenant.rate_limit;
    let rate_limit = || MiddlewareSpec {
        rate_limit: Some(json!({"average": limit.average, "burst": limit.burst, "period": "1s"})),
        ..MiddlewareSpec::default()
    };
    // Traefik has texts of its own for a service that it does not reach; a client gets a problem.
    let errors = || MiddlewareSpec {
        errors: Some(json!({
            "status": ["502-504"],
            "statusRewrites": {"502": 503, "504": 503},
            "service": {"name": gateway, "port": PORT},
            "query": format!("{PROBLEMS_PATH}/{{status}}"),
        })),
        ..MiddlewareSpec::default()
    };
    // Traefik itself answers 503 for Services without pods, and can say no more than this without a server.
    let suspended = || MiddlewareSpec {
        headers: Some(json!({"customResponseHeaders": {"Retry-After": RETRY_AFTER_SECONDS.to_string()}})),
        ..MiddlewareSpec::default()
    };
    // Without a list Traefik passes every header on, and tokens of users are none of the operator's business.
    let wake = || MiddlewareSpec {
        forward_auth: Some(json!({"address": facts.waker_url, "authRequestHeaders": ["Accept"]})),
        ..MiddlewareSpec::default()
    };
    middleware_names(tenant.is_suspended, tenant.wakes)
        .map(|suffix| {
            let spec = match suffix {
                WAKE => wake(),
                SUSPENDED => suspended(),
                RATE_LIMIT => rate_limit(),
                _ => errors(),
            };
            let mut middleware = Middleware::new("", spec);
            middleware.metadata = metadata(tenant, tenant.child(suffix), None);
            Object::new(Kind::Middleware, &middleware)
        })
        .collect()
}

/// Returns the route of a service, or nothing when the tenant gets no host. It leads to `target`, a
/// Kubernetes Service.
pub(super) fn ingress_route(
    tenant: &Tenant,
    facts: &Facts,
    service: Service,
    target: String,
) -> Option<Object> {
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
        middlewares: passed(tenant, facts)
            .map(|suffix| MiddlewareRef { name: tenant.child(suffix) })
            .collect(),
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

/// Reports whether requests on a live route of a tenant come to the waker first.
pub(crate) fn asks_the_waker(tenant: &Tenant, route: &DynamicObject) -> bool {
    let passed = route.data["spec"]["routes"][0]["middlewares"].as_array();
    let name = tenant.child(WAKE);
    passed.into_iter().flatten().any(|middleware| middleware["name"] == name.as_str())
}
