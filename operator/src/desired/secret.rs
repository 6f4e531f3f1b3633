//! Secrets of a tenant: one for each system, so that a service is given no more than it needs.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use secrecy::ExposeSecret;

use super::object::{Kind, Object, metadata};
use crate::tenant::Tenant;

/// Returns the Secrets of a tenant.
pub(crate) fn secrets(tenant: &Tenant) -> Vec<Object> {
    catalog::Secret::ALL.iter().map(|kind| secret(tenant, *kind)).collect()
}

fn secret(tenant: &Tenant, kind: catalog::Secret) -> Object {
    let data = tenant
        .secrets
        .data(kind)
        .iter()
        .map(|(key, value)| (key.clone(), ByteString(value.expose_secret().as_bytes().to_vec())))
        .collect();
    let secret = Secret {
        metadata: metadata(tenant, tenant.child(kind), None),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Default::default()
    };
    Object::new(Kind::Secret, &secret)
}
