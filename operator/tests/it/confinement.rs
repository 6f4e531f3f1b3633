//! Whom the chart's admission policies stop: an administrator of one namespace, and an operator that was taken over.

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, MONITORING, SYSTEM},
    stand::{
        NOWHERE, Operator, SOON, condition_message, create_cell, create_tenant, eventually, request_hosts,
    },
};

const MINE: &str = "app.kubernetes.io/managed-by";

fn api(client: &Client, namespace: &str, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("an object")
}

/// Returns the server's words about a request that it refuses.
fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> String {
    match result {
        Err(kube::Error::Api(status)) if status.code == 403 || status.code == 422 => status.message,
        other => panic!("it was not refused: {other:?}"),
    }
}

fn route(kind: &str, name: &str, label: Option<&str>, spec: Value) -> DynamicObject {
    let labels: Value = label.map_or(json!({}), |label| json!({MINE: label}));
    object(json!({"apiVersion": "traefik.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "labels": labels}, "spec": spec}))
}

/// Policies take a moment until they hold.
async fn policies_hold(server: &ApiServer) {
    let probe = || async {
        let services = api(&server.operator, "kube-system", "", "v1", "ServiceAccount");
        let account = object(json!({"metadata": {"name": "probe"}}));
        match services.create(&PostParams::default(), &account).await {
            Err(kube::Error::Api(status)) if status.message.contains("beside tenants only") => Some(()),
            Ok(_) => {
                let all = api(&server.client, "kube-system", "", "v1", "ServiceAccount");
                all.delete("probe", &Default::default()).await.expect("deleted");
                None
            }
            other => panic!("{other:?}"),
        }
    };
    eventually("the policies hold", SOON, probe).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_of_one_namespace_makes_no_route_that_traefik_serves() {
    let server = ApiServer::start("routes").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    policies_hold(&server).await;
    let operator = Operator::start(&server);
    create_tenant(&server, "victim", "it", json!({"tenantId": "victim", "cellRef": {"name": "dead"}})).await;
    create_tenant(&server, "evil", "it", json!({"tenantId": "evilone", "cellRef": {"name": "dead"}})).await;
    for namespace in ["victim", "evil"] {
        condition_message(&server, namespace, "it", "RoutesReady", "False", "DependencyNotReady").await;
    }
    let evil = server.namespace_admin("evil").await;
    let routes = api(&evil, "evil", "traefik.io", "v1alpha1", "IngressRoute");
    let post = PostParams::default();

    // What carries the label that Traefik looks for, with the victim's host, with none, and for all of TCP.
    let http = |rule: &str| json!({"routes": [{"kind": "Rule", "match": rule, "priority": 100_000, "services": [{"name": "x", "port": 80}]}]});
    let tcp = json!({"routes": [{"match": "HostSNI(`*`)", "services": [{"name": "x", "port": 80}]}]});
    let forged = Some("posthouse-operator");
    for (kind, spec) in [
        ("IngressRoute", http("Host(`victim.it.localhost`)")),
        ("IngressRoute", http("PathPrefix(`/`)")),
        ("IngressRouteTCP", tcp.clone()),
        ("Middleware", json!({"headers": {"frameDeny": false}})),
    ] {
        let api = api(&evil, "evil", "traefik.io", "v1alpha1", kind);
        let message = refusal(api.create(&post, &route(kind, "forged", forged, spec)).await);
        assert!(message.contains("only the operator makes and changes objects"), "{kind}: {message}");
    }

    // A route of its own is none of Traefik's business, until it is given the label.
    let own = route("IngressRoute", "own", None, http("Host(`victim.it.localhost`)"));
    routes.create(&post, &own).await.expect("it is taken");
    let label = Patch::Merge(json!({"metadata": {"labels": {MINE: "posthouse-operator"}}}));
    refusal(routes.patch("own", &PatchParams::default(), &label).await);

    // The operator's own routes: neither their rules nor what they lead to.
    let before = routes.get("it-gateway").await.expect("there");
    for edit in [
        json!({"spec": http("Host(`victim.it.localhost`)")}),
        json!({"spec": {"routes": [{"kind": "Rule", "match": "PathPrefix(`/`)", "services": [{"name": "x", "port": 80}]}]}}),
        json!({"spec": {"entryPoints": ["other"]}}),
    ] {
        refusal(routes.patch("it-gateway", &PatchParams::default(), &Patch::Merge(&edit)).await);
    }
    assert_eq!(routes.get("it-gateway").await.expect("there").resource_version(), before.resource_version());
    // Its metadata may change: controllers of Kubernetes take owners away.
    let note = Patch::Merge(json!({"metadata": {"annotations": {"note": "ours"}}}));
    routes.patch("it-gateway", &PatchParams::default(), &note).await.expect("it is taken");

    // The operator goes on.
    request_hosts(&server, "evil", "it", json!(["chat.evilone.it.localhost"])).await;
    let routes = &routes;
    let moved = || async move {
        let route = routes.get("it-gateway").await.expect("there");
        let rule = route.data["spec"]["routes"][0]["match"].as_str()?.to_owned();
        rule.contains("chat.evilone.it.localhost").then_some(())
    };
    eventually("the operator changes its own route", SOON, moved).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_was_taken_over_stays_beside_its_tenants() {
    let server = ApiServer::start("confined").await;
    server.install_pod_monitors().await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    policies_hold(&server).await;
    let operator = Operator::start(&server);
    let tenant =
        create_tenant(&server, "it", "it", json!({"tenantId": "itself", "cellRef": {"name": "dead"}})).await;
    condition_message(&server, "it", "it", "KafkaReady", "False", "AdminSecretMissing").await;
    let owner = json!([{"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant", "name": "it",
        "uid": tenant.uid()}]);
    let post = PostParams::default();
    let pod = |token: bool| {
        json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"automountServiceAccountToken": token, "containers": [{"name": "c", "image": "i"}]}}})
    };
    let cases = [
        ("kube-system", "apps", "Deployment", json!({"spec": pod(false)}), "beside tenants only"),
        (SYSTEM, "apps", "Deployment", json!({"spec": pod(false)}), "beside tenants only"),
        ("it", "apps", "Deployment", json!({"spec": pod(true)}), "no token of Kubernetes"),
        (SYSTEM, MONITORING, "PodMonitor", json!({"spec": {}}), "beside tenants only"),
        (
            "kube-system",
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "coredns"}}}),
            "beside tenants only",
        ),
        (
            "it",
            "",
            "Secret",
            json!({"type": "kubernetes.io/service-account-token"}),
            "Secrets of type Opaque only",
        ),
        (
            "kube-system",
            "rbac.authorization.k8s.io",
            "RoleBinding",
            binding("posthouse-tenant-secrets", SYSTEM),
            "beside tenants only",
        ),
        (
            "it",
            "rbac.authorization.k8s.io",
            "RoleBinding",
            binding("posthouse-tenant-secrets", "evil"),
            "binds itself to posthouse-tenant-secrets",
        ),
    ];
    for (namespace, group, kind, mut body, expected) in cases {
        body["metadata"] = json!({"name": "taken-over", "ownerReferences": owner,
            "annotations": {"kubernetes.io/service-account.name": "default"}});
        // The API server wants it of custom resources.
        let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        (body["apiVersion"], body["kind"]) = (version.into(), kind.into());
        let api = api(&server.operator, namespace, group, "v1", kind);
        let message = refusal(api.create(&post, &object(body)).await);
        assert!(message.contains(expected), "{kind} in {namespace}: {message}");
    }
    // Without a tenant as its owner it would stay.
    let services = api(&server.operator, "default", "", "v1", "Service");
    let service = object(json!({"metadata": {"name": "taken-over"}, "spec": {"ports": [{"port": 80}]}}));
    let message = refusal(services.create(&post, &service).await);
    assert!(message.contains("has a MessengerTenant as its owner"), "{message}");
    // What is there without it stays there.
    for namespace in ["kube-system", SYSTEM] {
        let all = api(&server.client, namespace, "", "v1", "Service");
        let kept = object(json!({"metadata": {"name": "kept"}, "spec": {"ports": [{"port": 80}]}}));
        all.create(&post, &kept).await.expect("it is taken");
        let services = api(&server.operator, namespace, "", "v1", "Service");
        let message = refusal(services.delete("kept", &DeleteParams::default()).await);
        assert!(message.contains("beside tenants only"), "{namespace}: {message}");
        all.get("kept").await.expect("it is there");
    }
    // An administrator of the cluster is none of the policy's business.
    let all: Api<RoleBinding> = Api::namespaced(server.client.clone(), "kube-system");
    let mut body = binding("view", SYSTEM);
    body["metadata"] = json!({"name": "by-hand"});
    all.create(&post, &serde_json::from_value(body).expect("a binding")).await.expect("it is taken");
    operator.stop().await;
}

fn binding(role: &str, namespace: &str) -> Value {
    json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "posthouse-operator", "namespace": namespace}]})
}
