//! Pods as a tenant sets them, and how many of them an autoscaler wants.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        Operator, SOON, api_of, condition_message, create_ready_tenant, delete_tenant, edit_tenant, events,
        eventually, on_real_backends,
    },
};

/// Changes what a tenant sets for its gateway. Null is nothing.
async fn set(server: &ApiServer, namespace: &str, gateway: Value) {
    edit_tenant(server, namespace, "it", json!({"services": {"gateway": gateway}})).await;
}

/// Waits until parts of the gateway's Deployment are like this, and returns it.
async fn gateway_is(api: &Api<Deployment>, expected: &[(&str, Value)]) -> Value {
    let check = || async move {
        let gateway = serde_json::to_value(api.get("it-gateway").await.expect("there")).expect("plain data");
        let is = |(field, value): &(&str, Value)| gateway.pointer(field).unwrap_or(&Value::Null) == value;
        expected.iter().all(is).then_some(gateway)
    };
    eventually(&format!("the gateway has {expected:?}"), SOON, check).await
}

/// Says as the controllers of a whole cluster would how many pods the gateway is to have.
async fn scale(api: &Api<Deployment>, replicas: i32) {
    let params =
        PatchParams { field_manager: Some("kube-controller-manager".to_owned()), ..Default::default() };
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale("it-gateway", &params, &patch).await.expect("it is taken");
}

async fn exists(api: &Api<DynamicObject>, is_wanted: bool) {
    let check = || async move {
        (api.get_opt("it-gateway").await.expect("an answer").is_some() == is_wanted).then_some(())
    };
    eventually(&format!("the autoscaler is there: {is_wanted}"), SOON, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_as_a_tenant_sets_them_and_as_many_as_an_autoscaler_wants() {
    let (server, _) = on_real_backends("templates").await;
    let operator = Operator::start(&server);
    let id = format!("itp{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, json!({"gateway": {"replicas": 3}})).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let scalers = api_of(&server, namespace, "autoscaling", "v2", "HorizontalPodAutoscaler");
    let before = gateway_is(&deployments, &[("/spec/replicas", json!(3))]).await;

    // An autoscaler takes over: the pods stay as many, and are not replaced.
    set(
        &server,
        namespace,
        json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 6, "cpuUtilization": 70}}),
    )
    .await;
    exists(&scalers, true).await;
    let least = "/metadata/annotations/messenger.posthouse.dev~1least-replicas";
    let taken = gateway_is(&deployments, &[(least, json!("2"))]).await;
    assert_eq!(taken["spec"]["replicas"], 3);
    assert_eq!(taken["spec"]["template"], before["spec"]["template"]);
    scale(&deployments, 5).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;
    gateway_is(&deployments, &[("/spec/replicas", json!(5))]).await;

    // A template is what pods are made from, and changes nothing of their number. A Secret that it names has to consent.
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let secret = json!({"metadata": {"name": "agent"}, "stringData": {"key": "word"}});
    let secret = serde_json::from_value(secret).expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("the Secret is taken");
    let env = json!([{"name": "RUST_LOG", "value": "debug"},
        {"name": "X_KEY", "valueFrom": {"secretKeyRef": {"name": "agent", "key": "key"}}}]);
    let template = json!({"labels": {"team": "messaging"}, "nodeSelector": {"pool": "messengers"},
        "tolerations": [{"key": "tenants", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "tenants", "env": env});
    set(&server, namespace, json!({ "template": template })).await;
    let message =
        condition_message(&server, namespace, "it", "WorkloadsReady", "False", "SecretInvalid").await;
    assert!(message.contains("spec.services.gateway.template.env: Secret"), "{message}");
    assert!(
        message.contains("annotate --overwrite secret agent messenger.posthouse.dev/env=it"),
        "{message}"
    );
    let consent = Patch::Merge(json!({"metadata": {"annotations": {"messenger.posthouse.dev/env": "it"}}}));
    secrets.patch("agent", &PatchParams::default(), &consent).await.expect("annotated");
    // Secrets are not watched: the next look at drift sees it.
    let changed = [
        ("/spec/template/metadata/labels/team", json!("messaging")),
        ("/spec/template/spec/nodeSelector", json!({"pool": "messengers"})),
        ("/spec/template/spec/priorityClassName", json!("tenants")),
        ("/spec/replicas", json!(5)),
    ];
    let changed = gateway_is(&deployments, &changed).await;
    let variables = changed.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let is_added = |name: &str| variables.is_some_and(|all| all.iter().any(|one| one["name"] == name));
    assert!(is_added("RUST_LOG") && is_added("X_KEY") && is_added("INTERNAL_TOKEN"), "{variables:?}");
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;

    // No pod runs while the tenant is suspended, and of none an autoscaler makes no other number: the tenant goes on with the least.
    edit_tenant(&server, namespace, "it", json!({"suspended": true})).await;
    condition_message(&server, namespace, "it", "Ready", "False", "Suspended").await;
    gateway_is(&deployments, &[("/spec/replicas", json!(0))]).await;
    exists(&scalers, true).await;
    edit_tenant(&server, namespace, "it", json!({"suspended": false})).await;
    gateway_is(&deployments, &[("/spec/replicas", json!(2))]).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;

    // All of it goes again, and pods are as they were.
    set(&server, namespace, json!({"template": null, "autoscaling": null})).await;
    exists(&scalers, false).await;
    let after = gateway_is(&deployments, &[("/spec/replicas", json!(3)), (least, Value::Null)]).await;
    assert_eq!(after["spec"]["template"], before["spec"]["template"]);
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;
    assert_eq!(events(&server, namespace).await, Vec::<String>::new(), "nothing was repaired");

    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}
