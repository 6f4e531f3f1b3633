//! The operator at a real API server, and what its stories have in common. There are no kubelets here: the tests mark Deployments as
//! available, and respond in place of Traefik.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request, http::HeaderMap, response::IntoResponse};
use catalog::Service;
use clap::Parser;
use crds::{MessengerCell, MessengerTenant};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use operator::{
    backend::{Backend, Owner, Ownership},
    config::Config,
    controller,
    leader::Fence,
    metrics::Metrics,
    waker::Waker,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, SYSTEM};

/// Nothing listens there.
pub const NOWHERE: &str = "127.0.0.1:9";

/// An operator that leads, in this process.
pub struct Operator {
    pub metrics: Arc<Metrics>,
    pub waker: Waker,
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
        let waker = Waker::default();
        let (counted, woken, ended) = (metrics.clone(), waker.clone(), shutdown.clone());
        let run = async move { controller::run(client, config, "test", fence, counted, woken, ended).await };
        Self { metrics, waker, shutdown, task: tokio::spawn(run) }
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

    /// Waits until three passes in a row write nothing. An operator that writes at every pass never comes to that.
    pub async fn comes_to_rest(&self) {
        let rests = || async {
            let (passes, writes) = (self.passes(), self.writes());
            let looked = || async { (self.passes() >= passes + 3).then_some(()) };
            eventually("three more passes", SOON, looked).await;
            (self.writes() == writes).then_some(())
        };
        eventually("three passes in a row write nothing", SOON * 2, rests).await;
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

/// Returns the services of a tenant that requests none.
pub fn default_services() -> impl Iterator<Item = Service> {
    Service::ALL.iter().copied().filter(|service| !service.is_on_request)
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

pub fn cells(server: &ApiServer) -> Api<MessengerCell> {
    Api::all(server.client.clone())
}

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

/// Creates a tenant `it` of the cell `real`, with these services, in a namespace that is called like its id, and waits until it is
/// Ready. What is returned makes its Deployments available until it is aborted.
pub async fn create_ready_tenant(server: &ApiServer, id: &str, services: Value) -> JoinHandle<()> {
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "services": services});
    create_tenant(server, id, "it", spec).await;
    let deployments = Api::namespaced(server.client.clone(), id);
    let available = tokio::spawn(make_deployments_available(deployments));
    condition_message(server, id, "it", "Ready", "True", "AllReady").await;
    available
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

/// Waits until a tenant has other conditions and not this one, and returns it.
pub async fn condition_is_gone(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    type_: &str,
) -> MessengerTenant {
    let api = &tenants(server, namespace);
    let gone = || async move {
        let tenant = api.get(name).await.expect("the tenant is there");
        let conditions = &tenant.status.as_ref()?.conditions;
        let is_there = conditions.iter().any(|condition| condition.type_ == type_);
        (!is_there && !conditions.is_empty()).then_some(tenant)
    };
    eventually(&format!("{namespace}/{name} {type_} is gone"), SOON, gone).await
}

/// Deletes a tenant and waits until it is gone.
pub async fn delete_tenant(server: &ApiServer, namespace: &str, name: &str) {
    let api = &tenants(server, namespace);
    api.delete(name, &DeleteParams::default()).await.expect("deleted");
    let gone = || async move { api.get_opt(name).await.expect("an answer").is_none().then_some(()) };
    eventually("the tenant is gone", SOON * 2, gone).await;
}

/// Returns whether a backend has a part of a tenant: `Absent`, or `Ours`.
pub async fn ownership<B: Backend>(admin: &B, id: &str) -> Ownership {
    let nobody = Owner {
        uid: "none".to_owned(),
        namespace: "none".to_owned(),
        name: "none".to_owned(),
        heir_of: Vec::new(),
    };
    let claim = B::claim(&id.parse().expect("a tenant id"), nobody);
    // What belongs to the tenant is a conflict for anyone else.
    admin.ownership(&claim).await.unwrap_or(Ownership::Ours)
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

/// Changes what a cell says.
pub async fn edit_cell(server: &ApiServer, cell: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    cells(server).patch(cell, &PatchParams::default(), &patch).await.expect("the edit is taken");
}

/// Lets the tenants of a cell have hosts of these domains.
pub async fn allow_domains(server: &ApiServer, cell: &str, domains: &[&str]) {
    edit_cell(server, cell, json!({"routing": {"allowedDomains": domains}})).await;
}

/// Waits until a condition of a cell has this reason, for at most `limit`, and returns its message. None is the reason of one that
/// is not there.
pub async fn cell_message(
    server: &ApiServer,
    cell: &str,
    type_: &str,
    reason: Option<&str>,
    limit: Duration,
) -> String {
    let api = &cells(server);
    let as_expected = || async move {
        let status = api.get(cell).await.expect("there").status?;
        let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
        let found = found.map(|condition| (condition.reason, condition.message));
        let is_expected = found.as_ref().map(|(reason, _)| reason.as_str()) == reason;
        is_expected.then(|| found.map(|(_, message)| message).unwrap_or_default())
    };
    eventually(&format!("{type_} of the cell {cell} says {reason:?}"), limit, as_expected).await
}

/// Changes what a tenant says.
pub async fn edit_tenant(server: &ApiServer, namespace: &str, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    tenants(server, namespace).patch(name, &PatchParams::default(), &patch).await.expect("the edit is taken");
}

/// Changes the hosts that a tenant requests.
pub async fn request_hosts(server: &ApiServer, namespace: &str, name: &str, hosts: Value) {
    edit_tenant(server, namespace, name, json!({ "hosts": hosts })).await;
}

/// Waits for the Event about a repair.
pub async fn event_about(server: &ApiServer, namespace: &str, repair: &str) {
    let published =
        || async { events(server, namespace).await.iter().any(|note| note.contains(repair)).then_some(()) };
    eventually(&format!("an Event about {repair:?}"), SOON, published).await;
}

/// Returns the Events about repairs.
pub async fn events(server: &ApiServer, namespace: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(server.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await.expect("a list").items;
    let repairs = list.into_iter().filter(|event| event.reason.as_deref() == Some("DriftRepaired"));
    repairs.filter_map(|event| event.note).collect()
}

/// Creates a cell. `real` are its addresses; without them nothing responds, and it has no object store.
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
    let s3 = real.map(|real| {
        json!({"endpoint": real.s3, "accountsEndpoint": real.s3_accounts, "adminSecretRef": secret("s3")})
    });
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
            "s3": s3,
            "routing": {"domain": "it.localhost", "scheme": "Http", "probeAddress": probe},
        },
    }))
    .expect("a cell");
    cells(server).create(&PostParams::default(), &cell).await.expect("the cell is taken");
}

pub async fn create_admin_secret(server: &ApiServer, name: &str, data: &[(&str, &str)]) {
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": SYSTEM}, "stringData": data}))
            .expect("a Secret");
    let api: Api<Secret> = Api::namespaced(server.client.clone(), SYSTEM);
    api.create(&PostParams::default(), &secret).await.expect("the Secret is taken");
}

/// Where the real backends are, and the operator's accounts there.
pub struct Backends {
    kafka: String,
    cql: String,
    pub keycloak: String,
    postgres: String,
    pub redis: String,
    s3: String,
    s3_accounts: String,
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
            s3: format!("http://{}", variable("S3_ADDRESS")),
            s3_accounts: format!("http://{}", variable("S3_ACCOUNTS_ADDRESS")),
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
        let (access, secret) = (variable("S3_OPERATOR_USERNAME"), variable("S3_OPERATOR_PASSWORD"));
        let data = [("accessKey", access.as_str()), ("secretKey", secret.as_str())];
        create_admin_secret(server, &format!("{cell}-s3"), &data).await;
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

/// Returns the flags that the pods of a Deployment get, each with its value.
pub fn flags(deployment: &Deployment) -> Option<BTreeMap<String, String>> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let arguments = pod.containers.first()?.args.as_ref()?;
    let flags = arguments.iter().filter_map(|argument| argument.split_once('='));
    Some(flags.map(|(flag, value)| (flag.to_owned(), value.to_owned())).collect())
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

/// Returns the names of all objects of a kind in a namespace.
pub async fn deployed<K>(api: &Api<K>) -> BTreeSet<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = api.list(&ListParams::default()).await.expect("a list");
    list.items.iter().map(ResourceExt::name_any).collect()
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

pub async fn delete_redis_user(user: &str) {
    let mut connection = redis_connection().await;
    let _: i64 =
        redis::cmd("ACL").arg("DELUSER").arg(user).query_async(&mut connection).await.expect("deleted");
}
