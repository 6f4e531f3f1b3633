//! Who decides how many pods a workload has, where its number does not stand in the spec.
//!
//! The operator applies a Deployment without `spec.replicas` then. Server-side apply would take the number back from a Deployment that had it of the operator before,
//! which leaves one pod, and an autoscaler leaves a Deployment alone that has none. So the number is held by a manager of its own when it changes hands.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::{
        ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler,
        HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
    },
};
use kube::{Resource, ResourceExt, core::DynamicObject};

use super::object::{Kind, Object, metadata};
use crate::{tenant::Tenant, workload::Workload};

/// A Deployment whose number of pods is an autoscaler's. The value is how many it has at least.
const LEAST_REPLICAS_ANNOTATION: &str = "messenger.posthouse.dev/least-replicas";

/// Returns the autoscaler of a workload that has one.
pub(super) fn autoscaler(tenant: &Tenant, workload: &Workload) -> Option<Object> {
    let scaling = workload.size.autoscaling?;
    let autoscaler = HorizontalPodAutoscaler {
        metadata: metadata(tenant, tenant.child(workload.name), Some(workload.name)),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(Deployment::api_version(&()).into_owned()),
                kind: Deployment::kind(&()).into_owned(),
                name: tenant.child(workload.name),
            },
            min_replicas: Some(scaling.min_replicas()),
            max_replicas: scaling.max_replicas,
            metrics: Some(vec![MetricSpec {
                type_: "ContainerResource".to_owned(),
                // What others put beside it does not count, and may request nothing.
                container_resource: Some(ContainerResourceMetricSource {
                    container: workload.name.to_owned(),
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(scaling.cpu_utilization()),
                        ..Default::default()
                    },
                }),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(Object::new(Kind::HorizontalPodAutoscaler, &autoscaler))
}

/// Returns the annotations of the Deployment of a workload.
pub(super) fn annotations(workload: &Workload) -> Option<BTreeMap<String, String>> {
    let scaling = workload.size.autoscaling?;
    let least = scaling.min_replicas().to_string();
    Some([(LEAST_REPLICAS_ANNOTATION.to_owned(), least)].into())
}

/// Returns how many pods a Deployment has to keep when an object is applied to it that leaves the number to an autoscaler. Nothing where the number is the
/// autoscaler's already.
pub(crate) fn replicas_to_hold(object: &Object, found: &DynamicObject) -> Option<i64> {
    let least = object.manifest["metadata"]["annotations"][LEAST_REPLICAS_ANNOTATION].as_str()?;
    if !object.manifest["spec"]["replicas"].is_null() {
        return None;
    }
    match found.data["spec"]["replicas"].as_i64() {
        Some(0) => least.parse().ok(),
        _ if found.annotations().contains_key(LEAST_REPLICAS_ANNOTATION) => None,
        replicas => Some(replicas.unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rendered::testing::{children, example};

    /// Returns the children of a compact tenant of this size.
    fn rendered(size: Value, is_suspended: bool) -> Vec<Object> {
        let tenant = example("compact.yaml", |resource| {
            resource.spec.compact = Some(serde_json::from_value(size).expect("a size"));
            resource.spec.suspended = Some(is_suspended);
        });
        children(&tenant)
    }

    fn of_kind(objects: &[Object], kind: Kind) -> Option<&Object> {
        objects.iter().find(|object| object.kind == kind)
    }

    fn deployment(size: Value, is_suspended: bool) -> Object {
        let objects = rendered(size, is_suspended);
        of_kind(&objects, Kind::Deployment).expect("it runs").clone()
    }

    fn scaled() -> Value {
        json!({"replicas": 1, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    }

    #[test]
    fn an_autoscaler_has_the_number_of_pods_for_itself() {
        let objects = rendered(scaled(), false);
        let autoscaler = of_kind(&objects, Kind::HorizontalPodAutoscaler).expect("it is declared");
        assert_eq!(autoscaler.name, "wonka-compact");
        assert_eq!(
            autoscaler.manifest["spec"],
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wonka-compact"},
                "minReplicas": 2, "maxReplicas": 5,
                "metrics": [{"type": "ContainerResource", "containerResource": {"container": "compact", "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}],
            })
        );
        let deployment = of_kind(&objects, Kind::Deployment).expect("it runs");
        assert_eq!(deployment.manifest["spec"].get("replicas"), None);
        // There may be several pods, whatever their number was without it.
        assert!(of_kind(&objects, Kind::PodDisruptionBudget).is_some());
        let spread = deployment.manifest.pointer("/spec/template/spec/topologySpreadConstraints");
        assert_eq!(spread.and_then(Value::as_array).map(Vec::len), Some(1));

        let objects = rendered(json!({"replicas": 3}), false);
        assert!(of_kind(&objects, Kind::HorizontalPodAutoscaler).is_none());
        let deployment = of_kind(&objects, Kind::Deployment).expect("it runs");
        assert_eq!(deployment.manifest["spec"]["replicas"], 3);
        assert_eq!(deployment.manifest["metadata"]["annotations"].get(LEAST_REPLICAS_ANNOTATION), None);
    }

    #[test]
    fn a_suspended_tenant_has_no_pods_and_keeps_its_autoscaler() {
        let objects = rendered(scaled(), true);
        assert!(of_kind(&objects, Kind::HorizontalPodAutoscaler).is_some());
        assert_eq!(of_kind(&objects, Kind::Deployment).expect("it is kept").manifest["spec"]["replicas"], 0);
    }

    #[test]
    fn pods_stay_when_their_number_changes_hands() {
        let without = |replicas: i32| deployment(json!({"replicas": replicas}), false);
        let live = |object: &Object, replicas: Value| -> DynamicObject {
            let mut manifest = object.manifest.clone();
            manifest["spec"]["replicas"] = replicas;
            serde_json::from_value(manifest).expect("an object")
        };
        let with = deployment(scaled(), false);
        for (desired, found, expected) in [
            // It is switched on.
            (&with, live(&without(4), json!(4)), Some(4)),
            (&with, live(&without(1), json!(null)), Some(1)),
            // It decides.
            (&with, live(&with, json!(4)), None),
            (&with, live(&with, json!(null)), None),
            // The tenant goes on, also where it was suspended for a moment only.
            (&with, live(&deployment(scaled(), true), json!(0)), Some(2)),
            (&with, live(&with, json!(0)), Some(2)),
            // The spec has the number.
            (&without(3), live(&with, json!(4)), None),
            (&without(3), live(&with, json!(0)), None),
            (&deployment(scaled(), true), live(&with, json!(4)), None),
        ] {
            let found_text = format!("{:?}", found.data["spec"]["replicas"]);
            assert_eq!(replicas_to_hold(desired, &found), expected, "{found_text}");
        }
    }
}
