//! What becomes of data whose owner is away, is gone, or comes back as another resource.

use std::collections::BTreeMap;

use crds::MessengerTenant;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
    events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
    raw_sql,
};

use crate::{
    api_server::ApiServer,
    stand::{
        Backends, Operator, SOON, api_of, cells, condition_message, create_tenant, delete_tenant,
        edit_tenant, eventually, make_deployments_available, on_real_backends, tenants, variable,
    },
};

/// A cell of the real backends, and tenants of one id there.
struct World {
    server: ApiServer,
    backends: Backends,
    id: String,
}

impl World {
    async fn start(name: &str, prefix: &str) -> Self {
        let (server, backends) = on_real_backends(name).await;
        Self { server, backends, id: format!("{prefix}{:x}", std::process::id()) }
    }

    fn spec(&self) -> Value {
        json!({"tenantId": self.id, "cellRef": {"name": "real"}, "kafka": {"partitions": 1}})
    }

    /// Returns the namespace of the owner.
    fn home(&self) -> &str {
        &self.id
    }

    async fn create(&self, namespace: &str) {
        create_tenant(&self.server, namespace, "it", self.spec()).await;
    }

    async fn is_ready(&self, namespace: &str) -> MessengerTenant {
        condition_message(&self.server, namespace, "it", "Ready", "True", "AllReady").await;
        tenants(&self.server, namespace).get("it").await.expect("there")
    }

    /// Waits until a tenant is not ready for a reason, with this text.
    async fn is_not_ready(&self, namespace: &str, reason: &str, text: &str) {
        let reported = || async move {
            let message = condition_message(&self.server, namespace, "it", "Ready", "False", reason).await;
            message.contains(text).then_some(())
        };
        eventually(&format!("{reason} with {text:?}"), SOON, reported).await;
    }

    /// Waits until a tenant reports a conflict with this text, and checks that it owns nothing.
    async fn owns_nothing(&self, namespace: &str, text: &str) {
        self.is_not_ready(namespace, "ResourceConflict", text).await;
        let tenant = tenants(&self.server, namespace).get("it").await.expect("there");
        assert_eq!(tenant.finalizers(), [""; 0]);
        let status = tenant.status.expect("a status");
        assert_eq!((status.cell, status.hosts), (None, None));
        let services: Api<Service> = Api::namespaced(self.server.client.clone(), namespace);
        let secrets: Api<Secret> = Api::namespaced(self.server.client.clone(), namespace);
        let routes = api_of(&self.server, namespace, "traefik.io", "v1alpha1", "IngressRoute");
        let all = ListParams::default();
        assert_eq!(services.list(&all).await.expect("a list").items, []);
        assert_eq!(secrets.list(&all).await.expect("a list").items, []);
        assert!(routes.list(&all).await.expect("a list").items.is_empty());
    }

    /// Deletes a tenant, and waits until it and its children are gone.
    async fn delete(&self, namespace: &str) {
        self.delete_resource(namespace).await;
        self.collect_garbage(namespace).await;
    }

    async fn delete_resource(&self, namespace: &str) {
        delete_tenant(&self.server, namespace, "it").await;
    }

    /// Removes what a resource owned that is gone, as Kubernetes' controllers would.
    async fn collect_garbage(&self, namespace: &str) {
        for (group, version, kind) in [
            ("", "v1", "Secret"),
            ("", "v1", "Service"),
            ("", "v1", "ServiceAccount"),
            ("apps", "v1", "Deployment"),
            ("networking.k8s.io", "v1", "NetworkPolicy"),
            ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
            ("traefik.io", "v1alpha1", "IngressRoute"),
            ("traefik.io", "v1alpha1", "Middleware"),
        ] {
            let api = api_of(&self.server, namespace, group, version, kind);
            for object in api.list(&ListParams::default()).await.expect("a list") {
                api.delete(&object.name_any(), &DeleteParams::default()).await.expect("deleted");
            }
        }
    }

    /// Takes the resource away without the operator: it never releases anything.
    async fn lose_resource(&self, namespace: &str) {
        let strip = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let api = tenants(&self.server, namespace);
        api.patch("it", &PatchParams::default(), &strip).await.expect("stripped");
        self.delete(namespace).await;
    }

    async fn annotate_cell(&self, key: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        cells(&self.server).patch("real", &PatchParams::default(), &patch).await.expect("annotated");
    }

    async fn events(&self, namespace: &str, reason: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.server.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await.expect("a list").items;
        let matching = list.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        matching.filter_map(|event| event.note).collect()
    }

    /// Keeps the Deployments of a namespace available.
    fn available(&self, namespace: &str) -> tokio::task::JoinHandle<()> {
        tokio::spawn(make_deployments_available(Api::namespaced(self.server.client.clone(), namespace)))
    }

    /// Removes all data with the tenant of a namespace.
    async fn end(&self, namespace: &str) {
        edit_tenant(&self.server, namespace, "it", json!({"deletionPolicy": "Delete"})).await;
        self.delete(namespace).await;
        let realm = format!("{}/realms/{}", self.backends.keycloak, self.id);
        assert_eq!(reqwest::get(realm).await.expect("an answer").status().as_u16(), 404);
    }
}

fn generations(tenant: MessengerTenant) -> BTreeMap<String, String> {
    let generations = tenant.status.expect("a status").generations;
    assert_eq!(generations.keys().collect::<Vec<_>>(), ["cql", "keycloak", "postgres"]);
    generations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_is_kept_for_its_owner_and_found_again_by_its_successor() {
    let world = World::start("succession", "itr").await;
    let (home, away) = (world.home(), format!("{}-away", world.id));
    let operator = Operator::start(&world.server);
    let tasks = [world.available(home), world.available(&away)];
    world.create(home).await;
    let before = world.is_ready(home).await;
    let uid = before.uid().expect("a UID");
    let before = generations(before);

    // Deleted with its data retained: a tenant of the same id elsewhere gets nothing, and the owner's return works although that
    // one is older by then.
    world.delete_resource(home).await;
    world.create(&away).await;
    world.owns_nothing(&away, &format!("is kept for namespace {home}")).await;
    world.create(home).await;
    world.is_not_ready(home, "Creating", "belongs to a resource of this name that was deleted").await;
    world.collect_garbage(home).await;
    assert_eq!(generations(world.is_ready(home).await), before, "it is other data");
    world.owns_nothing(&away, &format!("belongs to MessengerTenant {home}/it")).await;
    assert_eq!(world.events(home, "ResourceConflict").await, [""; 0]);

    // Gone without a word, as after a restore into a new cluster: its successor finds everything again.
    operator.stop().await;
    world.lose_resource(home).await;
    let operator = Operator::start(&world.server);
    world.owns_nothing(&away, "that resource no longer exists and its data is kept for it").await;
    world.create(home).await;
    let successor = world.is_ready(home).await;
    let second = successor.uid().expect("a UID");
    assert_ne!(second, uid);
    assert_eq!(generations(successor), before, "it is other data");
    let adopted = world.events(home, "Adopted").await;
    let of_gone = adopted.iter().filter(|note| note.contains("which no longer exists")).count();
    let backends = catalog::Backend::ALL.iter().filter(|backend| !backend.is_optional());
    assert_eq!(of_gone, backends.count(), "{adopted:?}");

    // Gone again, and another tenant is to have its data: only by the consent of who administers the cell.
    operator.stop().await;
    world.lose_resource(home).await;
    let operator = Operator::start(&world.server);
    let consent = format!("messenger.posthouse.dev/adopt={second}:{away}/it");
    world.owns_nothing(&away, &format!("`kubectl annotate mcell real {consent}`")).await;
    let (key, value) = consent.split_once('=').expect("two");
    world.annotate_cell(key, value).await;
    assert_eq!(generations(world.is_ready(&away).await), before, "it is other data");

    world.end(&away).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    operator.stop().await;
}

/// Drops the database of a tenant by hand.
async fn drop_database(id: &str) {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&variable("PG_HOST"))
        .port(variable("PG_PORT").parse().expect("a port"))
        .username(&variable("PG_ADMIN_USERNAME"))
        .password(&variable("PG_ADMIN_PASSWORD"))
        .database("postgres")
        .ssl_mode(PgSslMode::Disable);
    let mut connection = options.connect().await.expect("a connection");
    let drop = format!("DROP DATABASE mt_{id} WITH (FORCE)");
    raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await.expect("dropped");
}

/// Returns the pod template of every Deployment.
async fn templates(api: &Api<Deployment>) -> BTreeMap<String, Option<BTreeMap<String, String>>> {
    let list = api.list(&ListParams::default()).await.expect("a list");
    let annotations = |deployment: &Deployment| {
        let spec = deployment.spec.clone().expect("a spec");
        spec.template.metadata.and_then(|metadata| metadata.annotations)
    };
    list.iter().map(|deployment| (deployment.name_any(), annotations(deployment))).collect()
}

async fn replicas(api: &Api<Deployment>, name: &str) -> Option<i32> {
    api.get(name).await.expect("there").spec.expect("a spec").replicas
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_recreated_after_consent_and_its_pods_are_replaced() {
    let world = World::start("loss", "itl").await;
    let home = world.home();
    let operator = Operator::start(&world.server);
    let task = world.available(home);
    world.create(home).await;
    let before = generations(world.is_ready(home).await);
    let deployments: Api<Deployment> = Api::namespaced(world.server.client.clone(), home);
    let pods = templates(&deployments).await;

    drop_database(&world.id).await;
    let condition = catalog::Backend::Postgres.condition;
    let message = condition_message(&world.server, home, "it", condition, "False", "DataLoss").await;
    let database = format!("database mt_{} is missing but held data", world.id);
    assert!(message.contains(&database), "{message}");
    let (_, consent) =
        message.split_once(&format!("mt it {}=", crds::ACCEPT_LOSS_ANNOTATION)).expect("a command");
    let consent = consent.trim_end_matches('`');
    assert!(consent.starts_with("postgres:"), "{message}");

    // An edit leaves the pods as they are: what they are connected to may be the data.
    edit_tenant(&world.server, home, "it", json!({"services": {"chat": {"replicas": 2}}})).await;
    condition_message(&world.server, home, "it", "WorkloadsReady", "False", "DependencyNotReady").await;
    assert_eq!(replicas(&deployments, "it-chat").await, Some(1));

    // Consent to another loss is none for this one.
    let tenant = tenants(&world.server, home);
    let both = format!("cql:1, {consent}");
    for (consent, reason, status) in [
        ("postgres", "DataLoss", "False"),
        ("postgres:00000000", "DataLoss", "False"),
        (&both, "InSync", "True"),
    ] {
        let consent = json!({"metadata": {"annotations": {crds::ACCEPT_LOSS_ANNOTATION: consent}}});
        tenant.patch("it", &PatchParams::default(), &Patch::Merge(consent)).await.expect("annotated");
        let passes = operator.passes();
        let looked = || async { (operator.passes() >= passes + 2).then_some(()) };
        eventually("more passes", SOON, looked).await;
        condition_message(&world.server, home, "it", condition, status, reason).await;
    }
    let after = generations(world.is_ready(home).await);
    assert_eq!(replicas(&deployments, "it-chat").await, Some(2));
    assert_ne!(after["postgres"], before["postgres"]);
    assert_eq!((&after["cql"], &after["keycloak"]), (&before["cql"], &before["keycloak"]));
    for (name, annotations) in templates(&deployments).await {
        let uses_it = ["it-chat", "it-user"].contains(&name.as_str());
        assert_eq!(annotations != pods[&name], uses_it, "{name}");
    }

    // The consent stands, and is none for the next loss.
    drop_database(&world.id).await;
    condition_message(&world.server, home, "it", condition, "False", "DataLoss").await;
    world.end(home).await;
    task.abort();
    operator.stop().await;
}
