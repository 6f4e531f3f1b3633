//! How the tenants of a cell are watched over: what scrapes their pods, and what a Prometheus says of them.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::Query,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use crds::{Objective, Usage};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, MONITORING},
    stand::{
        Operator, SOON, api_of, cell_message, condition_message, create_admin_secret, create_ready_tenant,
        delete_tenant, edit_cell, event_about, eventually, on_real_backends, tenants,
    },
};

/// Changes what the cell asks for. Null is nothing.
async fn ask_for(server: &ApiServer, monitoring: Value) {
    edit_cell(server, "real", json!({ "monitoring": monitoring })).await;
}

/// Waits until a condition of the cell has this reason, and returns its message. None is the reason of one that is not there.
async fn cell_says(server: &ApiServer, part: &str, reason: Option<&str>) -> String {
    // A cell is looked at once a minute.
    cell_message(server, "real", part, reason, SOON * 2).await
}

fn monitors(server: &ApiServer, namespace: &str) -> Api<DynamicObject> {
    api_of(server, namespace, MONITORING, "v1", "PodMonitor")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_scraped_once_the_cluster_knows_how_and_for_as_long_as_the_cell_asks_for_it() {
    let (server, _) = on_real_backends("scraped").await;
    ask_for(&server, json!({"podMonitors": {"labels": {"release": "prometheus"}}})).await;
    let operator = Operator::start(&server);
    let id = format!("ito{:x}", std::process::id());
    let namespace = id.as_str();

    // A cluster without the kind has tenants that are Ready, and a cell that says why nothing is scraped.
    let available = create_ready_tenant(&server, &id, Value::Null).await;
    let message = cell_says(&server, "PodsScraped", Some("KindUnknown")).await;
    assert!(message.contains("install the CRDs of the Prometheus Operator"), "{message}");
    operator.comes_to_rest().await;

    // It is noticed without a restart.
    server.install_pod_monitors().await;
    let api = &monitors(&server, namespace);
    let made = || async move { api.get_opt("it-metrics").await.expect("an answer") };
    let monitor = eventually("the tenant has a monitor", SOON, made).await;
    assert_eq!(monitor.metadata.labels.as_ref().expect("labels")["release"], "prometheus");
    let key = &monitor.data["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"];
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let secret = secrets.get(key["name"].as_str().expect("a name")).await.expect("the Secret is there");
    assert!(secret.data.expect("data").contains_key(key["key"].as_str().expect("a key")));
    cell_says(&server, "PodsScraped", Some("MonitorsMade")).await;
    operator.comes_to_rest().await;

    // It is the operator's, like any other child.
    let opened = Patch::Merge(json!({"spec": {"namespaceSelector": {"any": true}}}));
    api.patch("it-metrics", &PatchParams::default(), &opened).await.expect("edited");
    event_about(&server, namespace, "repair PodMonitor it-metrics").await;
    let closed = || async move {
        let monitor = api.get("it-metrics").await.expect("there");
        monitor.data["spec"].get("namespaceSelector").is_none().then_some(())
    };
    eventually("it selects pods of its namespace alone", SOON, closed).await;

    // The kind may go, and come back.
    server.remove_pod_monitors().await;
    cell_says(&server, "PodsScraped", Some("KindUnknown")).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;
    server.install_pod_monitors().await;
    eventually("the tenant has a monitor again", SOON, made).await;

    ask_for(&server, Value::Null).await;
    let gone = || async move { api.get_opt("it-metrics").await.expect("an answer").is_none().then_some(()) };
    eventually("the monitor is removed", SOON, gone).await;
    cell_says(&server, "PodsScraped", None).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}

/// What a Prometheus of ours has to say: what is left of the budget of deliveries, or that it is away.
#[derive(Clone, Default)]
struct Prometheus(Arc<Mutex<Option<&'static str>>>);

impl Prometheus {
    fn has_left(&self, part: Option<&'static str>) {
        *self.0.lock().expect("a lock") = part;
    }

    fn answer(&self, query: &str, tenant: &str) -> Response {
        let Some(part) = *self.0.lock().expect("a lock") else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        // No alert fires.
        let values = [("slo_objective", "0.999"), ("slo_budget", part), ("gateway_connections", "1234")];
        let value = values.into_iter().find(|(name, _)| query.contains(name)).map(|(_, value)| value);
        let result: Vec<_> = value
            .map(|value| json!({"metric": {"tenant": tenant, "slo": "delivery"}, "value": [0, value]}))
            .into_iter()
            .collect();
        axum::Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
            .into_response()
    }

    /// Serves it for those who have the token.
    async fn serve(&self, tenant: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (this, tenant) = (self.clone(), tenant.to_owned());
        let answer = move |Query(query): Query<Vec<(String, String)>>, headers: http::HeaderMap| {
            let is_let_in =
                headers.get("authorization").is_some_and(|token| token == "Bearer of-the-operator");
            let answer = match query.first() {
                Some((_, query)) if is_let_in => this.answer(query, &tenant),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            };
            std::future::ready(answer)
        };
        let router = Router::new().route("/api/v1/query", get(answer));
        tokio::spawn(axum::serve(listener, router).into_future());
        format!("http://{address}")
    }
}

/// Waits until a tenant's status has these objectives, and its usage where it has any.
async fn shows(server: &ApiServer, namespace: &str, expected: &[Objective]) {
    let api = &tenants(server, namespace);
    let usage = &(!expected.is_empty()).then_some(Usage {
        connections: Some(1200),
        messages_per_hour: None,
        media_bytes: None,
    });
    let as_expected = || async move {
        let status = api.get("it").await.expect("there").status?;
        (status.objectives == expected && status.usage == *usage).then_some(())
    };
    // The cell asks once a minute.
    eventually(&format!("the tenant shows {expected:?}"), SOON * 2, as_expected).await;
}

fn delivery(budget_remaining_percent: i32) -> [Objective; 1] {
    [Objective { name: "delivery".to_owned(), target: 0.999, budget_remaining_percent, burning: false }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_shows_what_the_prometheus_of_its_cell_says_of_its_objectives() {
    let (server, _) = on_real_backends("objectives").await;
    let operator = Operator::start(&server);
    let id = format!("itp{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, Value::Null).await;

    let prometheus = Prometheus::default();
    prometheus.has_left(Some("0.83"));
    let url = prometheus.serve(&id).await;
    let named = json!({"prometheus": {"url": url, "tokenSecretRef": {"name": "real-prometheus"}}});
    ask_for(&server, named).await;
    let message = cell_says(&server, "ObjectivesKnown", Some("AdminSecretMissing")).await;
    assert!(message.contains("Secret posthouse-system/real-prometheus does not exist"), "{message}");
    create_admin_secret(&server, "real-prometheus", &[("token", "of-the-operator\n")]).await;
    let message = cell_says(&server, "ObjectivesKnown", Some("Answered")).await;
    assert_eq!(message, format!("Prometheus at {url} knows delivery"));
    shows(&server, namespace, &delivery(85)).await;
    operator.comes_to_rest().await;

    // One that is away makes no tenant less Ready, and what it said stays for a while.
    prometheus.has_left(None);
    let message = cell_says(&server, "ObjectivesKnown", Some("BackendUnavailable")).await;
    assert!(message.contains(&url) && message.contains("503"), "{message}");
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    shows(&server, namespace, &delivery(85)).await;
    operator.comes_to_rest().await;
    prometheus.has_left(Some("-0.4"));
    shows(&server, namespace, &delivery(-40)).await;

    // What this operator has not asked yet, it leaves as it is.
    operator.stop().await;
    let operator = Operator::start(&server);
    operator.comes_to_rest().await;
    shows(&server, namespace, &delivery(-40)).await;

    ask_for(&server, Value::Null).await;
    shows(&server, namespace, &[]).await;
    cell_says(&server, "ObjectivesKnown", None).await;
    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}
