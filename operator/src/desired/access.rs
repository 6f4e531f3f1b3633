//! The operator's own way into a tenant's Secrets.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::{Resource, api::ObjectMeta};

use super::object::{INSTANCE, Kind, MANAGED_BY, Object, PART_OF};
use crate::config::OPERATOR_NAME;

/// ClusterRole that is bound in a tenant's namespace. It comes with the chart.
const TENANT_SECRETS_ROLE: &str = "posthouse-tenant-secrets";
/// ServiceAccount the operator runs as.
const SERVICE_ACCOUNT: &str = "posthouse-operator";

/// Returns the RoleBinding that lets the operator into the Secrets of a tenant's namespace. The operator has no rights on
/// Secrets anywhere else; what it was let into stands in the namespace for all to see.
pub(crate) fn secret_access(resource: &crds::MessengerTenant, operator_namespace: &str) -> Object {
    let name = resource.metadata.name.clone().unwrap_or_default();
    let binding = RoleBinding {
        metadata: ObjectMeta {
            name: Some(format!("{name}-posthouse-secrets")),
            namespace: resource.metadata.namespace.clone(),
            labels: Some(
                [
                    (INSTANCE.to_owned(), name),
                    (MANAGED_BY.to_owned(), OPERATOR_NAME.to_owned()),
                    (PART_OF.to_owned(), "posthouse".to_owned()),
                ]
                .into(),
            ),
            owner_references: resource.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: TENANT_SECRETS_ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: SERVICE_ACCOUNT.to_owned(),
            namespace: Some(operator_namespace.to_owned()),
            ..Default::default()
        }]),
    };
    Object::new(Kind::RoleBinding, &binding)
}
