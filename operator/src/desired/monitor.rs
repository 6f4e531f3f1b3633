//! How a scraper finds the pods of a tenant.

use catalog::Secret;
use k8s_openapi::{api::core::v1::SecretKeySelector, apimachinery::pkg::apis::meta::v1::LabelSelector};

use super::{
    monitor_types::{Authorization, Endpoint, PodMonitor, PodMonitorSpec, Relabeling},
    object::{INSTANCE, Kind, MANAGED_BY, Object, metadata},
};
use crate::{config::OPERATOR_NAME, tenant::Tenant};

/// End of the monitor's name.
pub(super) const MONITOR: &str = "metrics";
/// The port of pods that has the metrics.
const PORT: &str = "management";
/// By it rules and dashboards know a pod of a tenant.
const JOB: &str = "posthouse-tenant";

/// Returns the monitor of a tenant's pods, which has the tenant's token of metrics presented to them; nothing where the cell does not
/// ask for monitors.
pub(super) fn pod_monitor(tenant: &Tenant) -> Option<Object> {
    let asked = tenant.cell.spec.pod_monitors()?;
    let endpoint = Endpoint {
        port: PORT.to_owned(),
        interval: asked.interval().to_string(),
        authorization: Authorization {
            credentials: SecretKeySelector {
                name: tenant.child(Secret::Metrics),
                key: Secret::Metrics.keys[0].key.to_owned(),
                optional: None,
            },
        },
        relabelings: vec![Relabeling {
            action: "replace".to_owned(),
            target_label: "job".to_owned(),
            replacement: JOB.to_owned(),
        }],
    };
    let pods = [(INSTANCE, tenant.name.as_str()), (MANAGED_BY, OPERATOR_NAME)];
    let pods = pods.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
    let selector = LabelSelector { match_labels: Some(pods), ..LabelSelector::default() };
    let mut monitor = PodMonitor::new("", PodMonitorSpec { selector, pod_metrics_endpoints: vec![endpoint] });
    monitor.metadata = metadata(tenant, tenant.child(MONITOR), None);
    // None of the cell's takes the place of one of ours.
    let ours = monitor.metadata.labels.take().unwrap_or_default();
    let theirs = asked.labels().map(|(label, value)| (label.clone(), value.clone()));
    monitor.metadata.labels = Some(theirs.chain(ours).collect());
    Some(Object::new(Kind::PodMonitor, &monitor))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rendered::testing::{children, example};

    /// Returns the monitors of a tenant whose cell declares this.
    fn monitors(monitoring: Value) -> Vec<Value> {
        let mut tenant = example("acme.yaml", |_| {});
        tenant.cell.spec.monitoring = serde_json::from_value(monitoring).expect("monitoring");
        let all = children(&tenant).into_iter().filter(|child| child.kind == Kind::PodMonitor);
        all.map(|child| child.manifest).collect()
    }

    #[test]
    fn a_tenant_is_scraped_with_its_own_token_where_the_cell_asks_for_it() {
        for nothing in [json!(null), json!({}), json!({"prometheus": {"url": "http://prometheus:9090"}})] {
            assert!(monitors(nothing.clone()).is_empty(), "{nothing}");
        }
        let made = monitors(json!({"podMonitors": {}}));
        let [monitor] = made.as_slice() else { panic!("there is one: {made:?}") };
        assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
        assert_eq!(monitor["kind"], "PodMonitor");
        assert_eq!(monitor["metadata"]["name"], "acme-metrics");
        assert_eq!(monitor["metadata"]["ownerReferences"][0]["kind"], "MessengerTenant");
        let expected = json!({"selector": {"matchLabels": {INSTANCE: "acme", MANAGED_BY: OPERATOR_NAME}},
            "podMetricsEndpoints": [{"port": "management", "interval": "15s",
                "authorization": {"credentials": {"name": "acme-metrics", "key": "token"}},
                "relabelings": [{"action": "replace", "targetLabel": "job", "replacement": "posthouse-tenant"}]}]});
        assert_eq!(monitor["spec"], expected);
    }

    #[test]
    fn the_cell_says_how_often_and_by_which_labels_a_prometheus_finds_it() {
        let asked = json!({"podMonitors": {"interval": "30s", "labels": {"release": "prometheus", INSTANCE: "other"}}});
        let made = monitors(asked);
        let [monitor] = made.as_slice() else { panic!("there is one: {made:?}") };
        assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["interval"], "30s");
        let labels = &monitor["metadata"]["labels"];
        assert_eq!(labels["release"], "prometheus");
        assert_eq!(labels[INSTANCE], "acme", "pods are selected by it");
    }
}
