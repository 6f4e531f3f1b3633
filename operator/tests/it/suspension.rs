//! A tenant that is suspended, and goes on: when its manifest says so, or when a request wakes it.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Pod, Secret},
    },
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    api_server::ApiServer,
    stand::{
        Operator, SOON, api_of, condition_message, create_ready_tenant, default_services, delete_redis_user,
        delete_tenant, edit_tenant, event_about, eventually, on_real_backends, redis_user_exists, tenants,
    },
};

async fn suspend(server: &ApiServer, namespace: &str, is_suspended: bool) {
    edit_tenant(server, namespace, "it", json!({ "suspended": is_suspended })).await;
}

/// Returns how many pods each Deployment asks for.
async fn replicas(api: &Api<Deployment>) -> BTreeMap<String, i32> {
    let list = api.list(&ListParams::default()).await.expect("a list").items;
    let of = |found: Deployment| (found.name_any(), found.spec.and_then(|spec| spec.replicas).unwrap_or(1));
    list.into_iter().map(of).collect()
}

/// Returns what is in all Secrets of a namespace.
async fn secrets(server: &ApiServer, namespace: &str) -> BTreeMap<String, BTreeMap<String, ByteString>> {
    let api: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.expect("a list").items;
    list.into_iter().map(|secret| (secret.name_any(), secret.data.unwrap_or_default())).collect()
}

/// Creates a pod as the gateway of a tenant has them. No kubelet runs it, so it is there until it is deleted.
async fn create_gateway_pod(pods: &Api<Pod>, tenant_id: &str) {
    let pod = json!({
        "metadata": {"name": "it-gateway-1", "labels": {
            "app.kubernetes.io/instance": "it", "app.kubernetes.io/name": "gateway",
            "app.kubernetes.io/managed-by": "posthouse-operator", "messenger.posthouse.dev/tenant": tenant_id}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "gateway", "image": "any", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]},
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod).await.expect("the pod is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_tenant_has_no_pod_is_repaired_and_goes_on_as_it_was() {
    let (server, _) = on_real_backends("suspended").await;
    let operator = Operator::start(&server);
    let id = format!("itu{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, json!({"gateway": {"replicas": 2}})).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let running = replicas(&deployments).await;
    assert_eq!((running.len(), running["it-gateway"]), (default_services().count(), 2));
    let known = secrets(&server, namespace).await;

    // A pod of the gateway takes its time, and may put messages into the log: what stores them goes on.
    let pods: Api<Pod> = Api::namespaced(server.client.clone(), namespace);
    create_gateway_pod(&pods, &id).await;
    suspend(&server, namespace, true).await;
    let message =
        condition_message(&server, namespace, "it", "WorkloadsReady", "False", "RolloutInProgress").await;
    assert_eq!(message, "1 pods are ending");
    condition_message(&server, namespace, "it", "Ready", "False", "Suspended").await;
    let left: BTreeMap<_, _> =
        replicas(&deployments).await.into_iter().filter(|(_, pods)| *pods > 0).collect();
    assert_eq!(left, [("it-message".to_owned(), 1)].into());

    pods.delete("it-gateway-1", &DeleteParams::default()).await.expect("deleted");
    condition_message(&server, namespace, "it", "WorkloadsReady", "False", "Suspended").await;
    condition_message(&server, namespace, "it", "RoutesReady", "False", "Suspended").await;
    let message = condition_message(&server, namespace, "it", "Ready", "False", "Suspended").await;
    assert!(message.contains("set it to false to go on"), "{message}");
    assert!(replicas(&deployments).await.values().all(|pods| *pods == 0));
    operator.comes_to_rest().await;
    let routes = api_of(&server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    for route in routes.list(&ListParams::default()).await.expect("a list") {
        assert_eq!(route.data["spec"]["routes"][0]["middlewares"][0]["name"], "it-suspended");
    }

    // What is kept is repaired, and no pod is let in.
    delete_redis_user(&id).await;
    eventually("the Redis user is back", SOON, || async { redis_user_exists(&id).await.then_some(()) }).await;
    let scaled = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments.patch("it-chat", &PatchParams::default(), &scaled).await.expect("the edit is taken");
    event_about(&server, namespace, "scale to no pods: it-chat").await;
    let none = || async { (replicas(&deployments).await["it-chat"] == 0).then_some(()) };
    eventually("it has no pods again", SOON, none).await;

    suspend(&server, namespace, false).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(replicas(&deployments).await, running);
    assert_eq!(secrets(&server, namespace).await, known);

    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}

/// Serves the waker of an operator until `shutdown`, and returns its URL.
async fn serve_waker(operator: &Operator, shutdown: &CancellationToken) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(operator.waker.clone().serve(listener, operator.metrics.clone(), shutdown.clone()));
    url
}

/// Asks the waker as Traefik does about a request for a host. Returns the status, and when the client is to come back.
async fn ask(waker: &str, host: &str) -> (u16, Option<String>) {
    let request = reqwest::Client::new().get(waker).header("x-forwarded-host", host);
    let response = request.send().await.expect("an answer");
    let wait = response.headers().get("retry-after").map(|wait| wait.to_str().expect("text").to_owned());
    (response.status().as_u16(), wait)
}

/// Returns what requests to a tenant pass, as its first route says.
async fn passed(server: &ApiServer, namespace: &str) -> Vec<String> {
    let routes = api_of(server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    let route = routes.list(&ListParams::default()).await.expect("a list").items.remove(0);
    let passed = route.data["spec"]["routes"][0]["middlewares"].as_array().expect("a list").clone();
    passed.iter().map(|middleware| middleware["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_wakes_a_suspended_tenant_until_its_manifest_allows_it_no_more() {
    let (server, _) = on_real_backends("woken").await;
    let mut operator = Operator::start(&server);
    let id = format!("itwk{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, json!({})).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let running = replicas(&deployments).await;
    let resource = || async { tenants(&server, namespace).get("it").await.expect("the tenant is there") };
    let status = || async { resource().await.status.expect("a status") };
    let host = status().await.hosts.expect("hosts").remove(0);

    let asleep = json!({"suspended": true, "wakeOnConnect": {}});
    edit_tenant(&server, namespace, "it", asleep).await;
    condition_message(&server, namespace, "it", "WorkloadsReady", "False", "Suspended").await;
    let message = condition_message(&server, namespace, "it", "Ready", "False", "Suspended").await;
    assert!(message.contains("or connect, which wakes it"), "{message}");
    operator.comes_to_rest().await;
    assert_eq!(passed(&server, namespace).await, ["it-rate-limit", "it-wake", "it-errors"]);

    let shutdown = CancellationToken::new();
    let waker = serve_waker(&operator, &shutdown).await;
    assert_eq!(ask(&waker, "other.example").await, (404, None));
    assert_eq!(ask(&waker, &host).await, (503, Some("1".to_owned())));
    let opens = || async { (ask(&waker, &host).await == (200, None)).then_some(()) };
    eventually("the request goes on to the pods", SOON, opens).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;
    assert_eq!(replicas(&deployments).await, running);
    assert_eq!(passed(&server, namespace).await, ["it-rate-limit", "it-errors"]);
    assert_eq!(resource().await.spec.suspended, Some(true), "the manifest is its owner's");
    let woken = status().await.wake.expect("it is awake");

    // The next operator finds it awake.
    shutdown.cancel();
    operator.stop().await;
    operator = Operator::start(&server);
    operator.comes_to_rest().await;
    assert_eq!(status().await.wake, Some(woken));
    assert_eq!(replicas(&deployments).await, running);

    edit_tenant(&server, namespace, "it", json!({ "wakeOnConnect": null })).await;
    condition_message(&server, namespace, "it", "WorkloadsReady", "False", "Suspended").await;
    assert!(replicas(&deployments).await.values().all(|pods| *pods == 0));
    assert_eq!(status().await.wake, None);
    let shutdown = CancellationToken::new();
    let waker = serve_waker(&operator, &shutdown).await;
    assert_eq!(ask(&waker, &host).await, (503, Some("60".to_owned())));
    shutdown.cancel();

    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}
