//! What the Prometheus Operator reads. Only the fields we set are typed; its CRD checks the rest.

use k8s_openapi::{api::core::v1::SecretKeySelector, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Which pods of a namespace are scraped, and how.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(group = "monitoring.coreos.com", version = "v1", kind = "PodMonitor", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorSpec {
    pub selector: LabelSelector,
    pub pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    pub port: String,
    pub interval: String,
    pub authorization: Authorization,
    pub relabelings: Vec<Relabeling>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Authorization {
    /// Of a Secret beside the monitor.
    pub credentials: SecretKeySelector,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relabeling {
    pub action: String,
    pub target_label: String,
    pub replacement: String,
}
