//! Secrets of a tenant: one for each system, so that a service is given no more than it needs.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::DynamicObject;
use secrecy::ExposeSecret;

use super::object::{APPLIED_ANNOTATION, Kind, LABELS, Object, metadata};
use crate::tenant::Tenant;

/// Returns the Secrets of a tenant: those that can be used.
pub(crate) fn secrets(tenant: &Tenant) -> Vec<Object> {
    tenant.secrets.kinds().filter_map(|kind| secret(tenant, kind)).collect()
}

fn secret(tenant: &Tenant, kind: catalog::Secret) -> Option<Object> {
    let data = tenant.secrets.data(kind).ok()?;
    let data =
        data.iter().map(|(key, value)| (key.clone(), ByteString(value.expose_secret().as_bytes().to_vec())));
    let secret = Secret {
        metadata: metadata(tenant, tenant.child(kind), None),
        type_: Some("Opaque".to_owned()),
        // The API server does not keep an empty map.
        data: Some(data.collect()).filter(|data: &BTreeMap<_, _>| !data.is_empty()),
        ..Default::default()
    };
    Some(Object::new(Kind::Secret, &secret))
}

/// Reports whether a Secret holds what the operator wrote last, as the digest in it shows.
pub(crate) fn is_as_applied(found: &DynamicObject) -> bool {
    let typed = serde_json::to_value(found).and_then(serde_json::from_value::<Secret>);
    let Ok(Secret { metadata, type_, data, .. }) = typed else { return false };
    let mut labels = metadata.labels.unwrap_or_default();
    labels.retain(|label, _| LABELS.contains(&label.as_str()));
    let applied = metadata.annotations.unwrap_or_default().remove(APPLIED_ANNOTATION);
    let metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        labels: Some(labels),
        ..Default::default()
    };
    if metadata.name.is_none() {
        return false;
    }
    let secret = Secret { metadata, type_, data, ..Default::default() };
    applied.as_deref() == Some(Object::new(Kind::Secret, &secret).digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendered::testing::example;

    #[test]
    fn a_secret_that_lost_its_owner_is_known_by_its_digest() {
        let secrets = secrets(&example("acme.yaml", |_| {}));
        for secret in &secrets {
            let found = |edit: fn(&mut serde_json::Value)| {
                let mut manifest = secret.manifest.clone();
                edit(&mut manifest);
                serde_json::from_value::<DynamicObject>(manifest).expect("an object")
            };
            assert!(is_as_applied(&found(|_| {})));
            assert!(is_as_applied(&found(
                |secret| secret["metadata"]["ownerReferences"] = serde_json::json!([])
            )));
            assert!(is_as_applied(&found(|secret| secret["metadata"]["labels"]["other"] = "label".into())));
            assert!(!is_as_applied(&found(|secret| secret["data"]["other"] = "eA==".into())));
            assert!(!is_as_applied(&found(
                |secret| secret["metadata"]["annotations"] = serde_json::json!({})
            )));
        }
    }
}
