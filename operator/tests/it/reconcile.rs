//! The operator at a real API server. There are no kubelets here: the tests mark Deployments as available, and
//! respond in place of Traefik.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{Router, extract::Request, http::HeaderMap, response::IntoResponse};
use catalog::{Backend, Service, Topic};
use clap::Parser;
use crds::{MessengerCell, MessengerTenant};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{self as k8s, Secret, ServiceAccount},
    events::v1::Event,
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use operator::{config::Config, controller, leader::Fence, metrics::Metrics};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, SYSTEM};

/// Nothing listens there.
pub const NOWHERE: &str = "127.0.0.1:9";

/// An operator that leads, in this process.
pub struct Operator {
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    pub fn start(server: &ApiServer) -> Self {
        let arguments = ["operator", "--namespace", SYSTEM, "--image-tag", "test", "--drift-seconds", "5"];
        let config = Config::try_parse_from(arguments).expect("arguments");
        let metrics = Arc::new(Metrics::default());
        let (client, fence) = (server.operator.clone(), Fence::always_open());
        let shutdown = CancellationToken::new();
        let (counted, ended) = (metrics.clone(), shutdown.clone());
        let run = async move { controller::run(client, config, "test", fence, counted, ended).await };
        Self { metrics, shutdown, task: tokio::spawn(run) }
    }

    /// Returns how many writes it has made, to the API server and to backends.
    pub fn writes(&self) -> u64 {
        let text = self.metrics.text();
        let counts = text.lines().filter(|line| line.starts_with("posthouse_operator_writes_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    pub fn passes(&self) -> u64 {
        let text = self.metrics.text();
        let counts =
            text.lines().filter(|line| line.starts_with("posthouse_operator_reconcile_seconds_count{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.task)
            .await
            .expect("passes end after the signal")
            .expect("no panic")
            .expect("no failure");
    }
}

/// Polls until `check` returns a value, for at most `limit`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    check: impl Fn() -> F,
) -> T {
    let waiting = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

pub const SOON: Duration = Duration::from_secs(60);

pub fn tenants(server: &ApiServer, namespace: &str) -> Api<MessengerTenant> {
    Api::namespaced(server.client.clone(), namespace)
}

pub async fn create_tenant(server: &ApiServer, namespace: &str, name: &str, spec: Value) -> MessengerTenant {
    server.namespace(namespace).await;
    let tenant: MessengerTenant = serde_json::from_value(json!({
        "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }))
    .expect("a tenant");
    tenants(server, namespace).create(&PostParams::default(), &tenant).await.expect("the tenant is taken")
}

/// Waits until a condition has a message with this text, and returns the message.
pub async fn condition_message(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    type_: &str,
    status: &str,
    reason: &str,
) -> String {
    let api = &tenants(server, namespace);
    let what = format!("{namespace}/{name} {type_}={status}/{reason}");
    let last = std::sync::Mutex::new(String::new());
    let last = &last;
    let check = || async move {
        let tenant = api.get(name).await.expect("the tenant is there");
        let conditions = tenant.status.map(|status| status.conditions).unwrap_or_default();
        let condition = conditions.into_iter().find(|condition| condition.type_ == type_)?;
        *last.lock().expect("a lock") =
            format!("{} {}: {}", condition.status, condition.reason, condition.message);
        (condition.status == status && condition.reason == reason).then_some(condition.message)
    };
    let waiting = tokio::time::timeout(SOON, eventually(&what, SOON * 2, check));
    match waiting.await {
        Ok(message) => message,
        Err(_) => panic!("{what}: the last message is {}", last.lock().expect("a lock")),
    }
}

/// Returns the API of a kind in a namespace.
pub fn api_of(
    server: &ApiServer,
    namespace: &str,
    group: &str,
    version: &str,
    kind: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(server.client.clone(), namespace, &resource)
}

/// Lets the tenants of a cell have hosts of these domains.
pub async fn allow_domains(server: &ApiServer, cell: &str, domains: &[&str]) {
    let patch = json!({"spec": {"routing": {"allowedDomains": domains}}});
    let api: Api<MessengerCell> = Api::all(server.client.clone());
    api.patch(cell, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the edit is taken");
}

/// Changes the hosts that a tenant requests.
pub async fn request_hosts(server: &ApiServer, namespace: &str, name: &str, hosts: Value) {
    let patch = Patch::Merge(json!({"spec": {"hosts": hosts}}));
    let edited = tenants(server, namespace).patch(name, &PatchParams::default(), &patch).await;
    let _: MessengerTenant = edited.expect("the edit is taken");
}

/// Waits for the Event about a repair.
pub async fn event_about(server: &ApiServer, namespace: &str, repair: &str) {
    let published =
        || async { events(server, namespace).await.iter().any(|note| note.contains(repair)).then_some(()) };
    eventually(&format!("an Event about {repair:?}"), SOON, published).await;
}

/// Returns the Events about repairs.
async fn events(server: &ApiServer, namespace: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(server.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.expect("a list").items;
    let repairs = list.into_iter().filter(|event| event.reason.as_deref() == Some("DriftRepaired"));
    repairs.filter_map(|event| event.note).collect()
}

/// Creates a cell. `real` are its addresses; without them nothing responds.
pub async fn create_cell(
    server: &ApiServer,
    name: &str,
    capacity: i32,
    probe: &str,
    real: Option<&Backends>,
) {
    let secret = |backend: &str| json!({"name": format!("{name}-{backend}")});
    let at = |address: fn(&Backends) -> &String| {
        real.map_or_else(|| NOWHERE.to_owned(), |real| address(real).clone())
    };
    let postgres = at(|real| &real.postgres);
    let (host, port) = postgres.split_once(':').expect("host:port");
    let keycloak = real.map_or_else(|| format!("http://{NOWHERE}"), |real| real.keycloak.clone());
    let cell: MessengerCell = serde_json::from_value(json!({
        "apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerCell", "metadata": {"name": name},
        "spec": {
            "capacity": {"tenants": capacity},
            "kafka": {"bootstrapServers": at(|real| &real.kafka), "replicationFactor": 1, "adminSecretRef": secret("kafka")},
            "cql": {"contactPoints": [at(|real| &real.cql)], "flavor": "Cassandra", "datacenter": "datacenter1",
                "replicationFactor": 1, "adminSecretRef": secret("cql")},
            "keycloak": {"url": keycloak, "adminSecretRef": secret("keycloak")},
            "postgres": {"host": host, "port": port.parse::<i32>().expect("a port"), "adminSecretRef": secret("postgres")},
            "redis": {"address": at(|real| &real.redis), "adminSecretRef": secret("redis")},
            "routing": {"domain": "it.localhost", "scheme": "Http", "probeAddress": probe},
        },
    }))
    .expect("a cell");
    Api::all(server.client.clone()).create(&PostParams::default(), &cell).await.expect("the cell is taken");
}

pub async fn create_admin_secret(server: &ApiServer, name: &str, data: &[(&str, &str)]) {
    let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": SYSTEM}, "stringData": data}))
            .expect("a Secret");
    let api: Api<Secret> = Api::namespaced(server.client.clone(), SYSTEM);
    api.create(&PostParams::default(), &secret).await.expect("the Secret is taken");
}

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
    let cells: Api<MessengerCell> = Api::all(server.client.clone());
    let status = cells.get("small").await.expect("there").status.expect("a status");
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

    let goes_on = Patch::Merge(json!({"spec": {"paused": false}}));
    tenants(server, "idle")
        .patch("idle", &PatchParams::default(), &goes_on)
        .await
        .expect("the edit is taken");
    condition_message(server, "idle", "idle", "KafkaReady", "False", "AdminSecretMissing").await;
    condition_message(server, "idle", "idle", "Ready", "False", "AdminSecretMissing").await;
    assert_eq!(deployed(&bindings).await, ["idle-posthouse-secrets".to_owned()].into());
}

/// Where the real backends are, and the operator's accounts there.
pub struct Backends {
    kafka: String,
    cql: String,
    pub keycloak: String,
    postgres: String,
    pub redis: String,
}

pub fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `make up-backends` and `source .local/stack.env`"))
}

impl Backends {
    pub fn from_env() -> Self {
        Self {
            kafka: variable("KAFKA_BOOTSTRAP"),
            cql: variable("CQL_CONTACT_POINTS"),
            keycloak: variable("KEYCLOAK_URL"),
            postgres: format!("{}:{}", variable("PG_HOST"), variable("PG_PORT")),
            redis: format!("{}:{}", variable("REDIS_HOST"), variable("REDIS_PORT")),
        }
    }

    pub async fn create_admin_secrets(&self, server: &ApiServer, cell: &str) {
        let accounts = [("kafka", "KAFKA"), ("cql", "CQL"), ("postgres", "PG"), ("redis", "REDIS")];
        for (backend, prefix) in accounts {
            let username = variable(&format!("{prefix}_OPERATOR_USERNAME"));
            let password = variable(&format!("{prefix}_OPERATOR_PASSWORD"));
            let data = [("username", username.as_str()), ("password", password.as_str())];
            create_admin_secret(server, &format!("{cell}-{backend}"), &data).await;
        }
        let id = variable("KEYCLOAK_OPERATOR_CLIENT_ID");
        let secret = variable("KEYCLOAK_OPERATOR_CLIENT_SECRET");
        let data = [("clientId", id.as_str()), ("clientSecret", secret.as_str())];
        create_admin_secret(server, &format!("{cell}-keycloak"), &data).await;
    }
}

/// Starts an API server with the cell `real`: all real backends, their admin Secrets, and a router that has every route.
pub async fn on_real_backends(name: &str) -> (ApiServer, Backends) {
    let backends = Backends::from_env();
    let server = ApiServer::start(name).await;
    let traefik = stub_traefik().await;
    create_cell(&server, "real", 5, &traefik, Some(&backends)).await;
    backends.create_admin_secrets(&server, "real").await;
    (server, backends)
}

/// Answers for every service of every tenant, like Traefik would.
pub async fn stub_traefik() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let answer = |headers: HeaderMap, _: Request| async move {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let tenant = host.split('.').next().unwrap_or_default().to_owned();
        [("x-posthouse-tenant", tenant)].into_response()
    };
    tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
    address
}

/// Marks every Deployment as available, as the controllers of a whole cluster would.
pub async fn make_deployments_available(api: Api<Deployment>) {
    loop {
        for deployment in api.list(&ListParams::default()).await.expect("a list").items {
            let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
            if seen != deployment.metadata.generation {
                let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                let status = json!({"status": {"observedGeneration": deployment.metadata.generation,
                    "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
                    "availableReplicas": replicas}});
                _ = api
                    .patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(status))
                    .await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
    for backend in Backend::ALL {
        condition_message(&server, namespace, "it", backend.condition, "True", "InSync").await;
    }
    condition_message(&server, namespace, "it", "WorkloadsReady", "True", "Available").await;
    condition_message(&server, namespace, "it", "RoutesReady", "True", "Reachable").await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    let tenant = tenants(&server, namespace).get("it").await.expect("there");
    let status = tenant.status.expect("a status");
    assert_eq!(status.observed_generation, tenant.metadata.generation);
    assert_eq!(status.hosts, Some(vec![format!("{id}.it.localhost")]));
    assert!(status.kafka.is_some_and(|kafka| kafka.topics.len() == Topic::ALL.iter().filter(|topic| !topic.is_optional).count()));
    eprintln!("ready after {:?}", began.elapsed());

    // Steady: passes go on (every 5 s here) and write nothing.
    let passes = operator.passes();
    let settled = || async { (operator.passes() >= passes + 2).then_some(()) };
    eventually("the tenant settles", SOON, settled).await;
    let (passes, writes) = (operator.passes(), operator.writes());
    let looked = || async { (operator.passes() >= passes + 3).then_some(()) };
    eventually("three more passes", SOON, looked).await;
    assert_eq!(operator.writes(), writes, "a steady tenant was written to");

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
    assert_eq!(deployed(&routes).await.len(), Service::ALL.len());
    let published = events(&server, namespace).await;
    assert!(!published.iter().any(|note| note.contains("IngressRoute")), "{published:?}");

    // Another topology: the old pods serve until the new ones are available, and then nothing of them is left.
    let services = Service::ALL.iter().map(|service| service.as_str()).collect::<Vec<_>>();
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
    let patch = json!({"spec": {"topology": topology}});
    let api = tenants(server, namespace);
    api.patch("it", &PatchParams::default(), &Patch::Merge(patch)).await.expect("the edit is taken");
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

/// Returns the names of all objects of a kind in a namespace.
async fn deployed<K>(api: &Api<K>) -> std::collections::BTreeSet<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = api.list(&ListParams::default()).await.expect("a list");
    list.items.iter().map(ResourceExt::name_any).collect()
}

/// Returns the Kubernetes Services that the routes of a namespace lead to.
async fn route_targets(server: &ApiServer, namespace: &str) -> std::collections::BTreeSet<String> {
    let api = api_of(server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
    let routes = api.list(&ListParams::default()).await.expect("a list");
    assert_eq!(routes.items.len(), Service::ALL.len());
    let target = |route: &DynamicObject| {
        route.data["spec"]["routes"][0]["services"][0]["name"].as_str().expect("a Service").to_owned()
    };
    routes.items.iter().map(target).collect()
}

async fn redis_connection() -> redis::aio::MultiplexedConnection {
    let (user, password) = (variable("REDIS_ADMIN_USERNAME"), variable("REDIS_ADMIN_PASSWORD"));
    let address = format!("{}:{}", variable("REDIS_HOST"), variable("REDIS_PORT"));
    let info = redis::RedisConnectionInfo::default().set_username(user).set_password(password);
    let (host, port) = address.split_once(':').expect("host:port");
    let address = redis::ConnectionAddr::Tcp(host.to_owned(), port.parse().expect("a port"));
    let info = <redis::ConnectionAddr as redis::IntoConnectionInfo>::into_connection_info(address)
        .expect("an address")
        .set_redis_settings(info);
    redis::Client::open(info)
        .expect("a client")
        .get_multiplexed_async_connection()
        .await
        .expect("a connection")
}

pub async fn redis_user_exists(user: &str) -> bool {
    let mut connection = redis_connection().await;
    let users: Vec<String> =
        redis::cmd("ACL").arg("USERS").query_async(&mut connection).await.expect("a list");
    users.iter().any(|known| known == user)
}

async fn delete_redis_user(user: &str) {
    let mut connection = redis_connection().await;
    let _: i64 =
        redis::cmd("ACL").arg("DELUSER").arg(user).query_async(&mut connection).await.expect("deleted");
}
