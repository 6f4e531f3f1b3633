//! A tenant from its first moment to its last, at a real API server and on the real backends.

use std::time::Duration;

use catalog::{Backend, Service, Topic};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{self as k8s, Secret, ServiceAccount},
    events::v1::Event,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    api_server::ApiServer,
    stand::{
        NOWHERE, Operator, SOON, allow_domains, api_of, cells, condition_message, create_admin_secret,
        create_cell, create_tenant, default_services, delete_redis_user, deployed, edit_tenant, event_about,
        events, eventually, make_deployments_available, on_real_backends, redis_user_exists, request_hosts,
        tenants,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_in_the_conditions() {
    let server = ApiServer::start("conditions").await;
    create_cell(&server, "small", 1, NOWHERE, None).await;
    create_admin_secret(&server, "small-kafka", &[("username", "operator"), ("password", "wrong")]).await;
    create_admin_secret(&server, "small-redis", &[("username", "operator")]).await;
    let operator = Operator::start(&server);

    // A cell that is not there.
    create_tenant(&server, "lost", "lost", json!({"tenantId": "lostone", "cellRef": {"name": "nowhere"}}))
        .await;
    let message = condition_message(&server, "lost", "lost", "Placed", "False", "CellNotFound").await;
    assert!(message.contains("MessengerCell nowhere does not exist"), "{message}");
    condition_message(&server, "lost", "lost", "Ready", "False", "CellNotFound").await;

    // Admin Secrets that are missing, or lack a key; a backend that is down holds up only its own condition.
    create_tenant(&server, "first", "first", json!({"tenantId": "first", "cellRef": {"name": "small"}}))
        .await;
    let message =
        condition_message(&server, "first", "first", "StoreReady", "False", "AdminSecretMissing").await;
    assert!(message.contains("Secret posthouse-system/small-cql does not exist"), "{message}");
    let message =
        condition_message(&server, "first", "first", "CacheReady", "False", "AdminSecretMissing").await;
    assert!(message.contains("Secret posthouse-system/small-redis has no key password"), "{message}");
    let message =
        condition_message(&server, "first", "first", "KafkaReady", "False", "BackendUnavailable").await;
    assert!(message.contains(NOWHERE) && message.contains("MessengerCell small"), "{message}");
    condition_message(&server, "first", "first", "Placed", "True", "Assigned").await;
    condition_message(&server, "first", "first", "WorkloadsReady", "False", "DependencyNotReady").await;

    // A cell that is full, and a name that is taken. The loser touches nothing.
    create_tenant(&server, "second", "second", json!({"tenantId": "second", "cellRef": {"name": "small"}}))
        .await;
    condition_message(&server, "second", "second", "Placed", "False", "CapacityExhausted").await;
    create_tenant(&server, "rival", "rival", json!({"tenantId": "first", "cellRef": {"name": "small"}}))
        .await;
    let message = condition_message(&server, "rival", "rival", "Ready", "False", "ResourceConflict").await;
    assert!(message.contains("first/first"), "{message}");
    let rival = tenants(&server, "rival").get("rival").await.expect("there");
    assert!(rival.finalizers().is_empty());
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "rival");
    assert_eq!(secrets.list(&ListParams::default()).await.expect("a list").items.len(), 0);

    // A Secret of another owner under a wanted name is left alone.
    server.namespace("foreign").await;
    let foreign: Secret =
        serde_json::from_value(json!({"metadata": {"name": "foreign-kafka", "namespace": "foreign"},
        "stringData": {"password": "theirs"}}))
        .expect("a Secret");
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "foreign");
    secrets.create(&PostParams::default(), &foreign).await.expect("taken");
    create_cell(&server, "other", 5, NOWHERE, None).await;
    create_tenant(
        &server,
        "foreign",
        "foreign",
        json!({"tenantId": "foreign", "cellRef": {"name": "other"}}),
    )
    .await;
    let message =
        condition_message(&server, "foreign", "foreign", "WorkloadsReady", "False", "ResourceConflict").await;
    assert!(message.contains("Secret foreign-kafka"), "{message}");
    let kept = secrets.get("foreign-kafka").await.expect("still there");
    assert!(kept.metadata.owner_references.is_none() && kept.metadata.labels.is_none());

    paused_from_birth(&server).await;

    // Deleting one whose backends do not respond ends in time, and reports what is left.
    let began = std::time::Instant::now();
    for (namespace, name) in [("first", "first"), ("rival", "rival")] {
        tenants(&server, namespace).delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    for (namespace, name) in [("rival", "rival"), ("first", "first")] {
        let api = &tenants(&server, namespace);
        let gone = || async move { api.get_opt(name).await.expect("an answer").is_none().then_some(()) };
        eventually(&format!("{name} is gone"), Duration::from_secs(75), gone).await;
    }
    assert!(began.elapsed() < Duration::from_secs(62), "deletion took {:?}", began.elapsed());
    let events: Api<Event> = Api::namespaced(server.client.clone(), "default");
    let events = events.list(&ListParams::default()).await.expect("a list");
    let left: Vec<_> =
        events.items.iter().filter(|event| event.reason.as_deref() == Some("LeftBehind")).collect();
    assert!(
        left.iter().any(|event| event.note.as_deref().unwrap_or_default().contains("tenant first")),
        "{left:?}"
    );
    let status = cells(&server).get("small").await.expect("there").status.expect("a status");
    let left: Vec<_> = status.leftovers.iter().map(|leftover| leftover.tenant_id.as_str()).collect();
    assert_eq!(left, ["first"]);
    operator.stop().await;
}

/// A tenant that is paused from its first moment is looked at and reported, and nothing is written. Afterwards it goes on as
/// any tenant does.
async fn paused_from_birth(server: &ApiServer) {
    let spec = json!({"tenantId": "idle", "cellRef": {"name": "other"}, "paused": true});
    create_tenant(server, "idle", "idle", spec).await;
    let message = condition_message(server, "idle", "idle", "Ready", "False", "Paused").await;
    assert!(message.contains("would create RoleBinding idle-posthouse-secrets"), "{message}");
    condition_message(server, "idle", "idle", "Placed", "True", "Assigned").await;
    assert!(tenants(server, "idle").get("idle").await.expect("there").finalizers().is_empty());
    let bindings: Api<RoleBinding> = Api::namespaced(server.client.clone(), "idle");
    assert_eq!(deployed(&bindings).await, Default::default());

    // It is paused although there is more to say.
    let spec = json!({"tenantId": "idletoo", "cellRef": {"name": "nowhere"}, "paused": true});
    create_tenant(server, "idle", "too", spec).await;
    let message = condition_message(server, "idle", "too", "Ready", "False", "Paused").await;
    assert!(message.contains("MessengerCell nowhere does not exist"), "{message}");

    edit_tenant(server, "idle", "idle", json!({"paused": false})).await;
    condition_message(server, "idle", "idle", "KafkaReady", "False", "AdminSecretMissing").await;
    condition_message(server, "idle", "idle", "Ready", "False", "AdminSecretMissing").await;
    assert_eq!(deployed(&bindings).await, ["idle-posthouse-secrets".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_becomes_ready_stays_quiet_is_repaired_and_goes_without_a_trace() {
    let (server, backends) = on_real_backends("life").await;
    let operator = Operator::start(&server);

    // A tenant id of its own: other tests and users share the backends.
    let id = format!("it{:x}", std::process::id());
    let namespace = id.as_str();
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 2, "quotas": {"producerBytesPerSecond": 1_000_000}}});
    create_tenant(&server, namespace, "it", spec).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let available = tokio::spawn(make_deployments_available(deployments.clone()));

    let began = std::time::Instant::now();
    for backend in Backend::ALL.iter().filter(|backend| !backend.is_optional()) {
        condition_message(&server, namespace, "it", backend.condition, "True", "InSync").await;
    }
    condition_message(&server, namespace, "it", "WorkloadsReady", "True", "Available").await;
    condition_message(&server, namespace, "it", "RoutesReady", "True", "Reachable").await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    let tenant = tenants(&server, namespace).get("it").await.expect("there");
    let status = tenant.status.expect("a status");
    assert_eq!(status.observed_generation, tenant.metadata.generation);
    assert_eq!(status.hosts, Some(vec![format!("{id}.it.localhost")]));
    assert!(status.kafka.is_some_and(
        |kafka| kafka.topics.len() == Topic::ALL.iter().filter(|topic| !topic.is_optional).count()
    ));
    eprintln!("ready after {:?}", began.elapsed());

    // Steady: passes go on (every 5 s here) and write nothing.
    operator.comes_to_rest().await;

    // Hand edits are put back, each with an Event.
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "chat", "image": "evil/chat:1"}]}}}});
    deployments.patch("it-chat", &PatchParams::default(), &Patch::Strategic(image)).await.expect("edited");
    let repaired = || async {
        let chat = deployments.get("it-chat").await.expect("there");
        let image = chat.spec?.template.spec?.containers.first()?.image.clone()?;
        (image == "posthouse/chat:test").then_some(())
    };
    eventually("the image is put back", SOON, repaired).await;
    let services: Api<k8s::Service> = Api::namespaced(server.client.clone(), namespace);
    services.delete("it-user", &DeleteParams::default()).await.expect("deleted");
    let back = || async { services.get_opt("it-user").await.expect("an answer").map(|_| ()) };
    eventually("the Service is back", SOON, back).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    delete_redis_user(&id).await;
    eventually("the Redis user is back", SOON, || async { redis_user_exists(&id).await.then_some(()) }).await;
    for expected in ["repair Deployment it-chat", "create Service it-user", "redis: create user"] {
        event_about(&server, namespace, expected).await;
    }

    // Routes that come back because the tenant has a host again are no repair.
    request_hosts(&server, namespace, "it", json!([format!("{id}.shared.example")])).await;
    condition_message(&server, namespace, "it", "RoutesReady", "False", "HostNotAllowed").await;
    let routes = api_of(&server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    let pruned = || async { deployed(&routes).await.is_empty().then_some(()) };
    eventually("its routes are gone", SOON, pruned).await;
    allow_domains(&server, "real", &["shared.example"]).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(deployed(&routes).await.len(), default_services().count());
    let published = events(&server, namespace).await;
    assert!(!published.iter().any(|note| note.contains("IngressRoute")), "{published:?}");

    // Another topology: the old pods serve until the new ones are available, and then nothing of them is left.
    let services = default_services().map(Service::as_str).collect::<Vec<_>>();
    let available = change_topology(&server, namespace, "Compact", &services, &["compact"], available).await;
    let available =
        change_topology(&server, namespace, "Distributed", &["compact"], &services, available).await;

    // Deleted with policy Delete: nothing is left in any backend.
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    let began = std::time::Instant::now();
    tenants(&server, namespace).delete("it", &DeleteParams::default()).await.expect("deleted");
    let api = &tenants(&server, namespace);
    let gone = || async move { api.get_opt("it").await.expect("an answer").is_none().then_some(()) };
    eventually("the tenant is gone", Duration::from_secs(75), gone).await;
    eprintln!("gone after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(60), "deletion took {:?}", began.elapsed());
    let text = operator.metrics.text();
    assert!(!text.lines().any(|line| line.starts_with("posthouse_operator_leftovers_total{")), "{text}");
    assert!(!redis_user_exists(&id).await);
    let realm = reqwest::get(format!("{}/realms/{id}", backends.keycloak)).await.expect("an answer").status();
    assert_eq!(realm.as_u16(), 404);
    available.abort();
    operator.stop().await;
}

/// Changes the topology of the tenant `it`, whose workloads are `before` and become `after`. `available` makes Deployments
/// available; what is returned does so again.
async fn change_topology(
    server: &ApiServer,
    namespace: &str,
    topology: &str,
    before: &[&str],
    after: &[&str],
    available: JoinHandle<()>,
) -> JoinHandle<()> {
    available.abort();
    edit_tenant(server, namespace, "it", json!({ "topology": topology })).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let names = |workloads: &[&str]| {
        let names = workloads.iter().map(|workload| format!("it-{workload}"));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let (old, new) = (names(before), names(after));

    // While no new pod is available, old ones run and are routed.
    condition_message(server, namespace, "it", "WorkloadsReady", "False", "RolloutInProgress").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let running = deployed(&deployments).await;
    assert!(running.is_superset(&old) && running.is_superset(&new), "{running:?}");
    let targets = route_targets(server, namespace).await;
    assert!(targets.is_subset(&old), "{targets:?}");

    let available = tokio::spawn(make_deployments_available(deployments.clone()));
    condition_message(server, namespace, "it", "WorkloadsReady", "True", "Available").await;
    condition_message(server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(deployed(&deployments).await, new);
    assert_eq!(route_targets(server, namespace).await, new);
    let services: Api<k8s::Service> = Api::namespaced(server.client.clone(), namespace);
    assert_eq!(deployed(&services).await, new);
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client.clone(), namespace);
    assert_eq!(deployed(&accounts).await, new);
    available
}

/// Returns the Kubernetes Services that the routes of a namespace lead to.
async fn route_targets(server: &ApiServer, namespace: &str) -> std::collections::BTreeSet<String> {
    let api = api_of(server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    let routes = api.list(&ListParams::default()).await.expect("a list");
    assert_eq!(routes.items.len(), default_services().count());
    let target = |route: &DynamicObject| {
        route.data["spec"]["routes"][0]["services"][0]["name"].as_str().expect("a Service").to_owned()
    };
    routes.items.iter().map(target).collect()
}
