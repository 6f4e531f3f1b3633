//! Routes, as Traefik's own resources. Only the fields we set are typed; Traefik's CRDs check the rest.

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Kind, Object, metadata};
use crate::{catalog, tenant::Tenant};
use crds::Scheme;

/// Routes of one service.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(group = "traefik.io", version = "v1alpha1", kind = "IngressRoute", namespaced, schema = "disabled")]
pub struct IngressRouteSpec {
    pub routes: Vec<Route>,
    /// Present, even when empty, means TLS with what the entry point has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    #[serde(rename = "match")]
    pub rule: String,
    pub kind: String,
    pub middlewares: Vec<MiddlewareRef>,
    pub services: Vec<ServiceRef>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MiddlewareRef {
    pub name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceRef {
    pub name: String,
    pub port: i32,
}

/// What happens to a request on its way.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(group = "traefik.io", version = "v1alpha1", kind = "Middleware", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct MiddlewareSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<serde_json::Value>,
}

const RATE_LIMIT: &str = "rate-limit";
const HEADERS: &str = "headers";

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
            Object::new(Kind::Middleware, None, &middleware)
        })
        .collect()
}

/// Returns the route of a service, or nothing when every host of the tenant belongs to somebody else.
pub(super) fn ingress_route(tenant: &Tenant, service: catalog::Service) -> Option<Object> {
    let hosts: Vec<_> = tenant.routed_hosts().map(|host| format!("Host(`{host}`)")).collect();
    if hosts.is_empty() {
        return None;
    }
    let needs = service.needs();
    let prefixes = needs.path_prefixes.iter().map(|prefix| format!("PathPrefix(`{prefix}`)"));
    let paths: Vec<_> = prefixes.chain(needs.paths.iter().map(|path| format!("Path(`{path}`)"))).collect();
    let route = Route {
        rule: format!("({}) && ({})", hosts.join(" || "), paths.join(" || ")),
        kind: "Rule".to_owned(),
        middlewares: [RATE_LIMIT, HEADERS].map(|suffix| MiddlewareRef { name: tenant.child(suffix) }).into(),
        services: vec![ServiceRef { name: tenant.child(service), port: 80 }],
    };
    let tls = match tenant.cell.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(json!({})),
    };
    let mut object = IngressRoute::new("", IngressRouteSpec { routes: vec![route], tls });
    object.metadata = metadata(tenant, tenant.child(service), Some(service));
    Some(Object::new(Kind::IngressRoute, Some(service), &object))
}
