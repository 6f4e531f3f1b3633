//! A backend that a tenant chooses for one of its services.

use crds::{MessengerCell, MessengerTenant};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use operator::backend::{Ownership, opensearch::OpenSearchAdmin};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, condition_is_gone, condition_message, create_cell, create_tenant,
        delete_tenant, deployed, eventually, make_deployments_available, on_real_backends, tenants, variable,
    },
};

/// Where OpenSearch is, without accounts. `make up-backends WITH=opensearch` starts it.
fn url() -> String {
    format!("http://{}", variable("OPENSEARCH_ADDRESS"))
}

/// Gives the cell an OpenSearch without accounts.
async fn add_opensearch(server: &ApiServer) {
    let cells: Api<MessengerCell> = Api::all(server.client.clone());
    let patch =
        Patch::Merge(json!({"spec": {"opensearch": {"url": url(), "security": "None", "replicas": 0}}}));
    cells.patch("real", &PatchParams::default(), &patch).await.expect("the edit is taken");
}

/// Changes the search service of the tenant.
async fn change(server: &ApiServer, namespace: &str, search: Value) {
    let patch = Patch::Merge(json!({"spec": {"services": {"search": search}}}));
    let edited = tenants(server, namespace).patch("it", &PatchParams::default(), &patch).await;
    let _: MessengerTenant = edited.expect("the edit is taken");
}

/// Waits until the pods of the search service have their index in the one place and not in the other.
async fn index_is(server: &ApiServer, namespace: &str, flag: &str, not: &str) {
    let api: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let is_so = || async {
        let deployment = api.get_opt("it-search").await.expect("an answer")?;
        let pod = deployment.spec?.template.spec?;
        let arguments = pod.containers.first()?.args.clone()?;
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let has_folder = pod.volumes.iter().flatten().any(|volume| volume.name == "index");
        (has(flag) && !has(not) && has_folder == (flag == "--index-folder")).then_some(())
    };
    eventually(&format!("the index is at {flag}"), SOON, is_so).await;
}

async fn ownership(id: &str) -> Ownership {
    stand::ownership(&OpenSearchAdmin::new(&url(), false, None), id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_goes_to_opensearch_and_back_and_leaves_nothing_there() {
    let (server, _) = on_real_backends("search").await;
    add_opensearch(&server).await;
    let operator = Operator::start(&server);
    let id = format!("itf{:x}", std::process::id());
    let namespace = id.as_str();
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "services": {"search": {"enabled": true}}});
    create_tenant(&server, namespace, "it", spec).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let available = tokio::spawn(make_deployments_available(deployments));
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    condition_is_gone(&server, namespace, "it", "SearchReady").await;
    index_is(&server, namespace, "--index-folder", "--opensearch-url").await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    assert!(secrets.get_opt("it-opensearch").await.expect("an answer").is_none());
    assert_eq!(ownership(&id).await, Ownership::Absent, "nothing is made that was not chosen");

    change(&server, namespace, json!({"engine": "OpenSearch"})).await;
    let message = condition_message(&server, namespace, "it", "SearchReady", "True", "InSync").await;
    let statement = "reads and changes the messages of all tenants in it";
    assert!(message.starts_with(&format!("indices mt-{id}-*")) && message.contains(statement), "{message}");
    index_is(&server, namespace, "--opensearch-url", "--index-folder").await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(ownership(&id).await, Ownership::Ours);
    operator.comes_to_rest().await;

    change(&server, namespace, json!({"engine": "Embedded"})).await;
    condition_is_gone(&server, namespace, "it", "SearchReady").await;
    index_is(&server, namespace, "--index-folder", "--opensearch-url").await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(ownership(&id).await, Ownership::Ours, "it is kept, and used again");

    delete_tenant(&server, namespace, "it").await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    available.abort();
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_without_opensearch_refuses_the_choice_and_nothing_else() {
    let server = ApiServer::start("plain").await;
    create_cell(&server, "plain", 5, NOWHERE, None).await;
    let operator = Operator::start(&server);
    let search = json!({"enabled": true, "engine": "OpenSearch"});
    let spec = json!({"tenantId": "itplain", "cellRef": {"name": "plain"}, "services": {"search": search}});
    create_tenant(&server, "plain", "it", spec).await;
    let message = condition_message(&server, "plain", "it", "SearchReady", "False", "BackendMissing").await;
    assert_eq!(
        message,
        "search needs OpenSearch, which MessengerCell plain does not have; set its spec.opensearch, or leave engine out of \
         spec.services.search"
    );
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "plain");
    assert!(!deployed(&secrets).await.iter().any(|name| name.starts_with("it-")), "nothing is made");

    change(&server, "plain", json!({"engine": null})).await;
    condition_is_gone(&server, "plain", "it", "SearchReady").await;
    condition_message(&server, "plain", "it", "KafkaReady", "False", "AdminSecretMissing").await;
    operator.stop().await;
}
