//! Pure: what templates may not set because of software that is no part of Kubernetes, beside the tenant or in it.
//!
//! The schema refuses labels, annotations and taints that Kubernetes and the operator go by. Meshes, agents, networks, clouds and runtimes go by others: they put
//! containers of any image and volumes with any Secret into a pod, or give it an identity. That list grows, and the schema would have it once for each service.

use crate::workload::Workload;

/// Domains of labels and annotations by which such software changes pods. There may be more of it in a cluster than is known here.
const STEERING_DOMAINS: [&str; 33] = [
    "alibabacloud.com",
    "aliyun.com",
    "amazonaws.com",
    "antrea.io",
    "azure.com",
    "bank-vaults.io",
    "banzaicloud.io",
    "cilium.io",
    "conjur.org",
    "dapr.io",
    "datadoghq.com",
    "dynatrace.com",
    "gke-gcsfuse",
    "gke.io",
    "google.com",
    "hashicorp.com",
    "istio.io",
    "jaegertracing.io",
    "k8s.aws",
    "kubevirt.io",
    "kuma.io",
    "linkerd.io",
    "multus-cni.io",
    "networkservicemesh.io",
    "newrelic.com",
    "nri.io",
    "openservicemesh.io",
    "openshift.io",
    "opentelemetry.io",
    "ovn.org",
    "projectcalico.org",
    "spiffe.io",
    "workload.identity",
];

/// Labels by which Services and NetworkPolicies of other applications select pods by custom, and one that gives pods an identity in Azure.
const SELECTING_LABELS: [&str; 9] =
    ["aadpodidbinding", "app", "component", "k8s-app", "name", "release", "role", "run", "tier"];

/// Taints of nodes that are cordoned, that are not set up yet, and that are for the cluster's own pods.
const KEPT_TAINTS: [&str; 3] = [
    "CriticalAddonsOnly",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.kubernetes.io/unschedulable",
];

/// Variables by which the client of the collector would send other headers to it, which has a collector of several customers take spans for another one's.
const COLLECTOR_VARIABLES: &str = "OTEL_EXPORTER_";

/// A field of a template that is not taken, the key in it, and why.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {key} {why}")]
pub struct Refused {
    field: String,
    key: String,
    why: &'static str,
}

/// Checks the templates of a tenant.
pub(crate) fn check(workloads: &[Workload]) -> Result<(), Refused> {
    for workload in workloads {
        let template = &workload.size.template;
        let labels = template.labels.iter().flat_map(|labels| labels.as_map().keys());
        let annotations = template.annotations.iter().flat_map(|annotations| annotations.as_map().keys());
        let taints = template.tolerations.iter().flatten().map(|toleration| &toleration.key);
        let variables = template.env.iter().flatten().map(|variable| &variable.name);
        let mut refused = labels
            .filter_map(|key| Some(("labels", key, selecting(key).or_else(|| steering(key))?)))
            .chain(annotations.filter_map(|key| Some(("annotations", key, steering(key)?))))
            .chain(taints.filter_map(|key| Some(("tolerations", key, kept(key)?))))
            .chain(variables.filter_map(|key| Some(("env", key, exporting(key)?))));
        if let Some((part, key, why)) = refused.next() {
            let field = format!("{}.template.{part}", workload.field());
            return Err(Refused { field, key: key.clone(), why });
        }
    }
    Ok(())
}

fn selecting(label: &str) -> Option<&'static str> {
    let why = "is a label by which Services and NetworkPolicies of others select pods; give it a domain, as in example.com/team";
    SELECTING_LABELS.contains(&label).then_some(why)
}

fn steering(key: &str) -> Option<&'static str> {
    let is_steering = match key.split_once('/') {
        Some((domain, _)) => STEERING_DOMAINS.iter().any(|steering| {
            domain.strip_suffix(*steering).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        }),
        // Runtimes have names like domains.
        None => key.contains('.'),
    };
    is_steering.then_some(
        "may be one by which a mesh, an agent, a network, a cloud or a runtime changes pods; leave it out",
    )
}

fn kept(taint: &str) -> Option<&'static str> {
    let why = "is the taint of nodes that are cordoned, not set up yet, or for the cluster's own pods; leave it out";
    KEPT_TAINTS.contains(&taint).then_some(why)
}

fn exporting(variable: &str) -> Option<&'static str> {
    let why = "is about the collector of traces, which the cell names; leave it out";
    variable.starts_with(COLLECTOR_VARIABLES).then_some(why)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns why a template is refused.
    fn refusal(template: &Value) -> Option<String> {
        let spec = json!({"tenantId": "acme", "cellRef": {"name": "local"},
            "services": {"chat": {"template": template}}});
        let spec = serde_json::from_value(spec).expect("a spec");
        check(&Workload::of(&spec)).err().map(|invalid| invalid.to_string())
    }

    #[test]
    fn what_has_others_change_or_select_a_pod_is_refused() {
        for (part, key) in [
            ("annotations", "sidecar.istio.io/proxyImage"),
            ("annotations", "sidecar.istio.io/userVolume"),
            ("annotations", "dapr.io/sidecar-image"),
            ("annotations", "vault.hashicorp.com/agent-image"),
            ("annotations", "iam.amazonaws.com/role"),
            ("annotations", "v1.multus-cni.io/default-network"),
            ("annotations", "devices.nri.io/container.chat"),
            ("annotations", "io.katacontainers.config.hypervisor.path"),
            ("labels", "istio.io/dataplane-mode"),
            ("labels", "azure.workload.identity/use"),
            ("labels", "io.kubernetes.cri-o.userns-mode"),
            ("labels", "app"),
        ] {
            let refusal = refusal(&json!({part: {key: "any"}})).unwrap_or_default();
            let expected = format!("spec.services.chat.template.{part}: {key} ");
            assert!(refusal.starts_with(&expected), "{refusal}");
        }
        for key in KEPT_TAINTS {
            let refusal = refusal(&json!({"tolerations": [{"key": key}]})).unwrap_or_default();
            assert!(refusal.contains(&format!("template.tolerations: {key} is the taint")), "{refusal}");
        }
        let headers =
            json!({"env": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "x-scope-orgid=other"}]});
        let refusal = refusal(&headers).unwrap_or_default();
        assert!(
            refusal.contains("template.env: OTEL_EXPORTER_OTLP_HEADERS is about the collector"),
            "{refusal}"
        );
    }

    #[test]
    fn what_is_a_tenants_own_is_taken() {
        let own = json!({
            "labels": {"team": "messaging", "cost-center": "7", "acme.example/app": "chat", "notistio.io/x": "y"},
            "annotations": {"app": "chat", "example.com/contact": "ops", "prometheus.io/scrape": "false",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
            "tolerations": [{"key": "tenants"}, {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}],
            "env": [{"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "team=messaging"}],
        });
        assert_eq!(refusal(&own), None);
        assert_eq!(refusal(&json!({})), None);
    }
}
