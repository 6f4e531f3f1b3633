//! Pure and infallible: a [`Tenant`] becomes everything that should exist for it.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, core::ApiResource};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{catalog, config::Images, secrets::hex, tenant::Tenant};

mod access;
mod backends;
mod deployment;
mod network;
mod secret;
mod traefik;

pub use access::{TENANT_SECRETS_ROLE, secret_access};
pub use backends::{cql, kafka, keycloak, postgres, redis};
pub use deployment::{arguments, environment};
pub use traefik::{IngressRoute, Middleware};

/// Value of `app.kubernetes.io/managed-by` on every child.
pub const MANAGED_BY: &str = "posthouse-operator";
/// Digest of the manifest as last applied: it tells an edit of ours from an edit of somebody else's.
pub const APPLIED_ANNOTATION: &str = "messenger.posthouse.dev/applied";

/// The kinds of children, in the order they are applied: what a pod needs comes before the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    RoleBinding,
    Secret,
    ServiceAccount,
    NetworkPolicy,
    Service,
    Middleware,
    IngressRoute,
    Deployment,
}

impl Kind {
    /// Kinds that are listed and pruned. The others are looked up by name: the operator may not list Secrets, and needs
    /// not, because it knows their names.
    pub const LISTED: [Self; 6] = [
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::Service,
        Self::Middleware,
        Self::IngressRoute,
        Self::Deployment,
    ];

    pub fn api_resource(self) -> ApiResource {
        match self {
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Middleware => ApiResource::erase::<Middleware>(&()),
            Self::IngressRoute => ApiResource::erase::<IngressRoute>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoleBinding => "RoleBinding",
            Self::Secret => "Secret",
            Self::ServiceAccount => "ServiceAccount",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Service => "Service",
            Self::Middleware => "Middleware",
            Self::IngressRoute => "IngressRoute",
            Self::Deployment => "Deployment",
        }
    }
}

/// One Kubernetes object as it should be.
#[derive(Clone)]
pub struct Object {
    pub kind: Kind,
    pub name: String,
    /// The service it belongs to, when it belongs to one.
    pub service: Option<catalog::Service>,
    pub manifest: Value,
}

impl std::fmt::Debug for Object {
    /// Leaves the manifest out: it may hold a Secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl Object {
    fn new<K>(kind: Kind, service: Option<catalog::Service>, typed: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let name = typed.meta().name.clone().expect("every child is made with a name");
        let mut manifest = serde_json::to_value(typed).expect("Kubernetes types are plain data");
        let digest = hex(&Sha256::digest(manifest.to_string())[..8]);
        manifest["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::String(digest);
        Self { kind, name, service, manifest }
    }

    /// Returns the digest this object carries once it is applied.
    pub fn digest(&self) -> &str {
        self.manifest["metadata"]["annotations"][APPLIED_ANNOTATION].as_str().expect("set by Object::new")
    }
}

/// Returns every Kubernetes object of a tenant in the order of [`Kind`]. A service that cannot be described yet (its
/// topic's generation is not known) has no Deployment.
pub fn objects(tenant: &Tenant, images: &Images) -> Vec<Object> {
    let mut objects = secret::secrets(tenant);
    objects.push(network::policy(tenant));
    objects.extend(traefik::middlewares(tenant));
    for service in catalog::Service::ALL {
        objects.push(deployment::service_account(tenant, service));
        objects.push(network::service(tenant, service));
        objects.extend(traefik::ingress_route(tenant, service));
        objects.extend(deployment::deployment(tenant, service, images));
    }
    objects.sort_by_key(|object| object.kind);
    objects
}

/// Metadata of a child: name, namespace, labels, owner.
fn metadata(tenant: &Tenant, name: String, service: Option<catalog::Service>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(tenant.namespace.clone()),
        labels: Some(labels(tenant, service)),
        owner_references: Some(vec![tenant.owner.clone()]),
        ..Default::default()
    }
}

/// Labels of a child and of its pods.
fn labels(tenant: &Tenant, service: Option<catalog::Service>) -> std::collections::BTreeMap<String, String> {
    let mut labels: std::collections::BTreeMap<_, _> = [
        ("app.kubernetes.io/instance", tenant.name.as_str()),
        ("app.kubernetes.io/managed-by", MANAGED_BY),
        ("app.kubernetes.io/part-of", "posthouse"),
        (crds::TENANT_LABEL, tenant.id.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    if let Some(service) = service {
        labels.insert("app.kubernetes.io/name".to_owned(), service.to_string());
    }
    labels
}

/// The labels that select a service's pods. They can never change, so they hold nothing that might.
fn selector(tenant: &Tenant, service: catalog::Service) -> std::collections::BTreeMap<String, String> {
    [("app.kubernetes.io/instance", tenant.name.as_str()), ("app.kubernetes.io/name", service.as_str())]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
