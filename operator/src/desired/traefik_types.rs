//! Traefik's own resources. Only the fields we set are typed; Traefik's CRDs check the rest.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

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
    /// Of rules that match, the one with the largest; its length where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<serde_json::Value>,
}

/// What happens to a request on its way.
#[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize)]
#[kube(group = "traefik.io", version = "v1alpha1", kind = "Middleware", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct MiddlewareSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_auth: Option<serde_json::Value>,
}
