//! What is written of the objects of Kubernetes: their state, and not their settings.

use std::collections::BTreeSet;

use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};

/// Returns a resource of ours without what Kubernetes keeps for itself.
pub(super) fn resource(object: &DynamicObject) -> Value {
    json!({
        "name": object.name_any(),
        "namespace": object.namespace(),
        "generation": object.metadata.generation,
        "createdAt": object.metadata.creation_timestamp,
        "deletedAt": object.metadata.deletion_timestamp,
        "spec": object.data["spec"],
        "status": object.data["status"],
    })
}

pub(super) fn deployment(object: &DynamicObject) -> Value {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    json!({
        "name": object.name_any(),
        "generation": object.metadata.generation,
        "observedGeneration": status["observedGeneration"],
        "replicas": spec["replicas"],
        "updated": status["updatedReplicas"],
        "ready": status["readyReplicas"],
        "available": status["availableReplicas"],
        "images": images(object),
        "conditions": status["conditions"],
    })
}

/// Returns the state of a pod. Its arguments and variables are left out.
pub(super) fn pod(object: &DynamicObject) -> Value {
    let status = &object.data["status"];
    let containers = statuses(object).map(|of| {
        json!({
            "name": of["name"],
            "ready": of["ready"],
            "restarts": of["restartCount"],
            "state": of["state"],
            "lastState": of["lastState"],
            "image": of["image"],
            "imageID": of["imageID"],
        })
    });
    json!({
        "name": object.name_any(),
        "createdAt": object.metadata.creation_timestamp,
        "deletedAt": object.metadata.deletion_timestamp,
        "node": object.data["spec"]["nodeName"],
        "phase": status["phase"],
        "reason": status["reason"],
        "message": status["message"],
        "conditions": status["conditions"],
        "containers": containers.collect::<Vec<_>>(),
    })
}

pub(super) fn event(object: &DynamicObject) -> Value {
    let data = &object.data;
    let at = ["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/firstTimestamp"];
    let at = at.into_iter().find_map(|at| data.pointer(at).and_then(Value::as_str));
    json!({
        "at": at,
        "type": data["type"],
        "of": [data["involvedObject"]["kind"], data["involvedObject"]["name"]],
        "reason": data["reason"],
        "message": data["message"],
        "count": data.pointer("/series/count").unwrap_or(&data["count"]),
        "by": data["reportingComponent"],
    })
}

/// Returns the names of the tenant, of its workloads, and of what is between these.
pub(super) fn names(tenant: &str, deployments: &[DynamicObject], pods: &[DynamicObject]) -> BTreeSet<String> {
    let owners = pods.iter().flat_map(|pod| pod.owner_references()).map(|owner| owner.name.clone());
    let objects = deployments.iter().chain(pods).map(|object| object.name_any());
    [tenant.to_owned()].into_iter().chain(objects).chain(owners).collect()
}

/// Returns the statuses of a pod's containers, those that run first at the beginning.
fn statuses(pod: &DynamicObject) -> impl Iterator<Item = &Value> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    lists.into_iter().flat_map(move |list| pod.data["status"][list].as_array().into_iter().flatten())
}

/// Returns the containers of a pod that have a log, and whether there was another before each.
pub(super) fn containers(pod: &DynamicObject) -> Vec<(String, bool)> {
    let of = |of: &Value| {
        let has_previous = of["restartCount"].as_i64() > Some(0);
        let has_begun = has_previous || of["state"]["waiting"].is_null();
        has_begun.then_some((of["name"].as_str()?.to_owned(), has_previous))
    };
    statuses(pod).filter_map(of).collect()
}

pub(super) fn images(deployment: &DynamicObject) -> Vec<String> {
    let containers = deployment.data.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let images = containers.into_iter().flatten().filter_map(|of| of["image"].as_str());
    images.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn a_pod() -> DynamicObject {
        object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "acme-gateway-7d9f8b6c5-abcde",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "acme-gateway-7d9f8b6c5", "uid": "1" }],
            },
            "spec": {
                "nodeName": "n1",
                "containers": [{ "name": "gateway", "args": ["--secret=hunter2"], "env": [{ "name": "X", "value": "hunter2" }] }],
            },
            "status": {
                "phase": "Running",
                "initContainerStatuses": [{ "name": "migrate", "restartCount": 0, "state": { "waiting": { "reason": "PodInitializing" } } }],
                "containerStatuses": [{
                    "name": "gateway", "ready": false, "restartCount": 3, "image": "posthouse/gateway:0.1.0",
                    "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                    "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
                }],
            },
        }))
    }

    #[test]
    fn a_pod_is_summed_up_by_its_state_and_not_by_its_settings() {
        let shown = pod(&a_pod());
        assert_eq!(shown["containers"][1]["restarts"], 3);
        assert_eq!(shown["containers"][1]["lastState"]["terminated"]["reason"], "OOMKilled");
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        // What has not begun has no log.
        assert_eq!(containers(&a_pod()), [("gateway".to_owned(), true)]);
    }

    #[test]
    fn events_are_those_of_the_tenant_and_its_workloads() {
        let deployment = object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "acme-gateway" },
            "spec": { "template": { "spec": { "containers": [{ "image": "posthouse/gateway:0.1.0" }] } } },
        }));
        assert_eq!(images(&deployment), ["posthouse/gateway:0.1.0"]);
        let names = names("acme", &[deployment], &[a_pod()]);
        let ours = ["acme", "acme-gateway", "acme-gateway-7d9f8b6c5", "acme-gateway-7d9f8b6c5-abcde"];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ours);
        let shown = event(&object(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "e" }, "type": "Warning", "reason": "BackOff",
            "involvedObject": { "kind": "Pod", "name": "acme-gateway-7d9f8b6c5-abcde" }, "count": 4,
            "lastTimestamp": null, "eventTime": "2026-11-30T12:00:00.000000Z", "message": "Back-off restarting",
        })));
        assert_eq!((&shown["at"], &shown["count"]), (&json!("2026-11-30T12:00:00.000000Z"), &json!(4)));
    }
}
