//! Pure: Secrets beside a tenant from which its templates take variables of the environment.
//!
//! Pods have whatever a template names, and an author of tenants may not be one who may read Secrets, such as those of another tenant beside it. So the Secret
//! consents: it names the tenant.

use std::collections::BTreeMap;

use crds::{ENV_ANNOTATION, KeyRef, MessengerTenantSpec};

use crate::{
    referenced::{Consent, Reference, ReferencedSecrets},
    workload::Workload,
};

/// Returns the names of these Secrets.
pub(crate) fn secret_names(spec: &MessengerTenantSpec) -> Vec<String> {
    let workloads = Workload::of(spec);
    let secrets = workloads.iter().flat_map(|workload| workload.size.template.env_secrets());
    secrets.map(|secret| secret.name.clone()).collect()
}

/// Returns the workloads whose variables are not available, each with the reason and the next step.
pub(crate) fn unusable(
    workloads: &[Workload],
    tenant: &str,
    namespace: &str,
    secrets: &ReferencedSecrets,
) -> BTreeMap<&'static str, String> {
    let to = "be in the environment of pods of this tenant";
    let consent = Some(Consent { annotation: ENV_ANNOTATION, value: tenant, to });
    let read =
        |KeyRef { name, key }: &KeyRef| Reference { namespace, name, key, consent }.read(secrets).err();
    let problem = |workload: &Workload| {
        let why = workload.size.template.env_secrets().find_map(read)?;
        Some((workload.name, format!("{}.template.env: {why}", workload.field())))
    };
    workloads.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{referenced::ReferencedSecret, workload::COMPACT};

    fn spec(topology: &str) -> MessengerTenantSpec {
        let template = json!({"template": {"env": [
            {"name": "RUST_LOG", "value": "info"},
            {"name": "X_KEY", "valueFrom": {"secretKeyRef": {"name": "agent", "key": "key"}}},
            {"name": "X_SITE", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "name"}}},
        ]}});
        let spec: Value = json!({"tenantId": "acme", "cellRef": {"name": "local"}, "topology": topology,
            "services": {"chat": template}, "compact": template});
        serde_json::from_value(spec).expect("a spec")
    }

    fn check(topology: &str, secrets: &ReferencedSecrets, expected: Option<(&'static str, &str)>) {
        let found = unusable(&Workload::of(&spec(topology)), "acme", "teams", secrets);
        let Some((workload, expected)) = expected else {
            assert!(found.is_empty(), "{found:?}");
            return;
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[workload].contains(expected) && !found[workload].contains("hunter2"), "{found:?}");
    }

    #[test]
    fn pods_have_the_content_of_a_secret_that_names_their_tenant() {
        let secret = |tenant: Option<&str>, key: &str| {
            let annotation = |tenant: &str| (ENV_ANNOTATION.to_owned(), tenant.to_owned());
            let secret = ReferencedSecret {
                annotations: tenant.map(annotation).into_iter().collect(),
                data: BTreeMap::from([(key.to_owned(), Some("hunter2".into()))]),
                ..ReferencedSecret::default()
            };
            ReferencedSecrets::from([("agent".to_owned(), secret)])
        };
        for (topology, workload, place) in
            [("Distributed", "chat", "spec.services.chat"), ("Compact", COMPACT, "spec.compact")]
        {
            assert_eq!(secret_names(&spec(topology)), ["agent"]);
            check(topology, &secret(Some("acme"), "key"), None);
            let missing = format!(
                "{place}.template.env: Secret teams/agent does not exist; create it with the key key"
            );
            check(topology, &ReferencedSecrets::new(), Some((workload, missing.as_str())));
            for tenant in [None, Some("globex")] {
                let step = "annotate --overwrite secret agent messenger.posthouse.dev/env=acme";
                check(topology, &secret(tenant, "key"), Some((workload, step)));
            }
            let other = "Secret teams/agent has no key key; add it";
            check(topology, &secret(Some("acme"), "other"), Some((workload, other)));
        }
    }
}
