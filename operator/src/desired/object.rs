//! One child of a tenant as it should be, whatever its kind.

use std::collections::BTreeMap;

use crds::MessengerTenant;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource, ResourceExt,
    core::{ApiResource, DynamicObject},
};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    monitor_types::PodMonitor,
    traefik_types::{IngressRoute, Middleware},
};
use crate::{config::OPERATOR_NAME, tenant::Tenant, text::hex, workload::Workload};

/// Digest of the manifest as last applied, but for its owner: it distinguishes an edit of ours from a manual one, and a
/// restored object of ours from one of another owner.
pub(crate) const APPLIED_ANNOTATION: &str = "messenger.posthouse.dev/applied";

/// The kinds of children, in the order they are applied: what a pod needs comes before the pod, and who says how many there are, after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    RoleBinding,
    Secret,
    ServiceAccount,
    NetworkPolicy,
    Service,
    Middleware,
    IngressRoute,
    PodDisruptionBudget,
    Deployment,
    HorizontalPodAutoscaler,
    PodMonitor,
}

impl Kind {
    /// Kinds that are listed and pruned. The others are looked up by name: the operator may not list Secrets, and need
    /// not, because it knows their names.
    pub const LISTED: [Self; 9] = [
        Self::ServiceAccount,
        Self::NetworkPolicy,
        Self::Service,
        Self::Middleware,
        Self::IngressRoute,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::PodMonitor,
    ];

    /// Kinds of which every workload has one, called after it.
    pub const OF_WORKLOAD: [Self; 3] = [Self::ServiceAccount, Self::Service, Self::Deployment];

    pub fn api_resource(self) -> ApiResource {
        match self {
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Middleware => ApiResource::erase::<Middleware>(&()),
            Self::IngressRoute => ApiResource::erase::<IngressRoute>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Self::PodMonitor => ApiResource::erase::<PodMonitor>(&()),
        }
    }

    /// Reports whether it is one of Traefik's kinds.
    pub const fn is_route(self) -> bool {
        match self {
            Self::IngressRoute | Self::Middleware => true,
            Self::RoleBinding
            | Self::Secret
            | Self::ServiceAccount
            | Self::NetworkPolicy
            | Self::Service
            | Self::PodDisruptionBudget
            | Self::Deployment
            | Self::HorizontalPodAutoscaler
            | Self::PodMonitor => false,
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
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodMonitor => "PodMonitor",
        }
    }
}

/// The identity of a child of a tenant: kind and name.
pub(crate) type ChildKey = (Kind, String);

/// One Kubernetes object as it should be.
#[derive(Clone)]
pub(crate) struct Object {
    pub kind: Kind,
    pub name: String,
    pub manifest: Value,
}

impl std::fmt::Debug for Object {
    /// Leaves the manifest out: it may hold a Secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl Object {
    pub(super) fn new<K>(kind: Kind, typed: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let name = typed.meta().name.clone().expect("every child is made with a name");
        let mut manifest = serde_json::to_value(typed).expect("Kubernetes types are plain data");
        let owners = manifest["metadata"].as_object_mut().and_then(|meta| meta.remove("ownerReferences"));
        let digest = hex(&Sha256::digest(manifest.to_string())[..8]);
        if let Some(owners) = owners {
            manifest["metadata"]["ownerReferences"] = owners;
        }
        manifest["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::String(digest);
        Self { kind, name, manifest }
    }

    /// Returns what distinguishes it from the other children.
    pub fn key(&self) -> ChildKey {
        (self.kind, self.name.clone())
    }

    /// Returns the digest this object carries once it is applied.
    pub fn digest(&self) -> &str {
        self.manifest["metadata"]["annotations"][APPLIED_ANNOTATION].as_str().expect("set by Object::new")
    }
}

/// Returns the metadata of a child: name, namespace, labels, owner. `part` is the workload or service it belongs to, when it
/// belongs to one.
pub(super) fn metadata(tenant: &Tenant, name: String, part: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(tenant.namespace.clone()),
        labels: Some(labels(tenant, part)),
        owner_references: Some(vec![tenant.owner.clone()]),
        ..Default::default()
    }
}

pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";
/// The workload or service that an object belongs to.
pub(crate) const NAME: &str = "app.kubernetes.io/name";
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of";

/// Labels of every child.
pub(super) const LABELS: [&str; 4] = [INSTANCE, MANAGED_BY, PART_OF, crds::TENANT_LABEL];

/// Reports whether an object carries the label of what the operator makes.
pub(crate) fn is_labelled(object: &DynamicObject) -> bool {
    object.labels().get(MANAGED_BY).is_some_and(|manager| manager == OPERATOR_NAME)
}

/// Reports whether an object carries the labels of a child of this resource. The RoleBinding names no tenant id.
pub(crate) fn has_labels(object: &DynamicObject, resource: &MessengerTenant) -> bool {
    let label = |label: &str| object.labels().get(label).map(String::as_str);
    is_labelled(object)
        && label(INSTANCE) == resource.metadata.name.as_deref()
        && label(crds::TENANT_LABEL).is_none_or(|id| id == resource.spec.tenant_id)
}

/// Returns the labels of a child and of its pods.
pub(super) fn labels(tenant: &Tenant, part: Option<&str>) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = [
        (INSTANCE, tenant.name.as_str()),
        (MANAGED_BY, OPERATOR_NAME),
        (PART_OF, "posthouse"),
        (crds::TENANT_LABEL, tenant.id.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    if let Some(part) = part {
        labels.insert(NAME.to_owned(), part.to_owned());
    }
    labels
}

/// Returns the labels that select a workload's pods. They can never change, so they hold nothing that might.
pub(super) fn selector(tenant: &Tenant, workload: &Workload) -> BTreeMap<String, String> {
    [(INSTANCE, tenant.name.as_str()), (NAME, workload.name)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Returns an argument, or the value of a variable, as the kubelet hands it over unchanged. It would replace `$(NAME)` by a variable of the container, so a name that
/// a tenant declares could show a password.
pub(super) fn literal(argument: &str) -> String {
    argument.replace('$', "$$")
}

/// Returns a list, or nothing in place of an empty one, as the API server keeps it.
pub(super) fn present<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}
