//! What the operator says and does about Deployments that others hold back or change.

use k8s_openapi::api::{apps::v1::Deployment, policy::v1::PodDisruptionBudget};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    failures::event,
    stand::{
        Operator, SOON, condition_message, create_ready_tenant, delete_tenant, event_about, eventually,
        make_deployments_available, on_real_backends,
    },
};

async fn edit(api: &Api<Deployment>, patch: Value) {
    api.patch("it-gateway", &PatchParams::default(), &Patch::Merge(patch)).await.expect("the edit is taken");
}

/// Waits until a field of the gateway's Deployment is this.
async fn is(api: &Api<Deployment>, field: &str, expected: Value) {
    let expected = &expected;
    let check = || async move {
        let gateway = serde_json::to_value(api.get("it-gateway").await.expect("there")).expect("plain data");
        (gateway.pointer(field).unwrap_or(&Value::Null) == expected).then_some(())
    };
    eventually(&format!("{field} is {expected}"), SOON, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_back_or_changes_a_deployment_is_said_and_an_autoscaler_is_not_fought() {
    let (server, _) = on_real_backends("workloads").await;
    let operator = Operator::start(&server);
    let id = format!("itw{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, json!({"message": {"replicas": 2}})).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);

    // Two replicas are never evicted at once; the only one may go.
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(server.client.clone(), namespace);
    assert!(budgets.get_opt("it-message").await.expect("an answer").is_some());
    assert!(budgets.get_opt("it-gateway").await.expect("an answer").is_none());

    // A rollout that was paused by hand goes on.
    edit(&deployments, json!({"spec": {"paused": true}})).await;
    is(&deployments, "/spec/paused", Value::Null).await;
    event_about(&server, namespace, "repair Deployment it-gateway: spec.paused").await;

    // A quota keeps new pods out, as the controllers of a whole cluster would say.
    available.abort();
    let generation = deployments.get("it-gateway").await.expect("there").metadata.generation;
    let status = |failure: &str, replicas: i32| {
        let conditions = json!([{"type": "ReplicaFailure", "status": failure, "reason": "FailedCreate",
            "message": "pods \"it-gateway-1\" is forbidden: exceeded quota: exact"}]);
        Patch::Merge(
            json!({"status": {"observedGeneration": generation, "conditions": conditions, "replicas": 1,
            "updatedReplicas": 1, "availableReplicas": replicas, "readyReplicas": replicas}}),
        )
    };
    let params = PatchParams::default();
    deployments.patch_status("it-gateway", &params, &status("True", 0)).await.expect("it is taken");
    let message = condition_message(&server, namespace, "it", "WorkloadsReady", "False", "PodsRefused").await;
    assert!(
        message.contains("Deployment it-gateway: pods") && message.contains("exceeded quota: exact"),
        "{message}"
    );
    event(&server, namespace, "PodsRefused", "exceeded quota: exact").await;
    deployments.patch_status("it-gateway", &params, &status("False", 1)).await.expect("it is taken");
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    let available = tokio::spawn(make_deployments_available(deployments.clone()));

    // An autoscaler scales: put back twice, then left to it and named, with nothing written any more.
    for _ in 0..2 {
        edit(&deployments, json!({"spec": {"replicas": 3}})).await;
        is(&deployments, "/spec/replicas", json!(1)).await;
    }
    event(&server, namespace, "FieldContested", "spec.replicas").await;
    edit(&deployments, json!({"spec": {"replicas": 3}})).await;
    let named = || async {
        let message =
            condition_message(&server, namespace, "it", "WorkloadsReady", "True", "Available").await;
        (message.contains("gateway 3/3")
            && message.contains("others set Deployment it-gateway spec.replicas"))
        .then_some(())
    };
    eventually("the condition names the field", SOON, named).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;
    is(&deployments, "/spec/replicas", json!(3)).await;

    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}
