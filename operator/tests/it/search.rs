//! A backend that a tenant chooses for one of its services.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::Api;
use operator::backend::{Ownership, opensearch::OpenSearchAdmin};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, condition_is_gone, condition_message, create_cell,
        create_ready_tenant, create_tenant, delete_tenant, deployed, edit_cell, edit_tenant, eventually,
        flags, on_real_backends, variable,
    },
};

/// Where OpenSearch is, without accounts. `make up-backends WITH=opensearch` starts it.
fn url() -> String {
    format!("http://{}", variable("OPENSEARCH_ADDRESS"))
}

/// Gives the cell an OpenSearch without accounts.
async fn add_opensearch(server: &ApiServer) {
    let opensearch = json!({"url": url(), "security": "None", "replicas": 0});
    edit_cell(server, "real", json!({ "opensearch": opensearch })).await;
}

/// Changes the search service of the tenant.
async fn change(server: &ApiServer, namespace: &str, search: Value) {
    edit_tenant(server, namespace, "it", json!({"services": {"search": search}})).await;
}

/// Waits until the pods of the search service have their index in the one place and not in the other.
async fn index_is(server: &ApiServer, namespace: &str, flag: &str, not: &str) {
    let api: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let is_so = || async {
        let deployment = api.get_opt("it-search").await.expect("an answer")?;
        let flags = flags(&deployment)?;
        let mut volumes = deployment.spec?.template.spec?.volumes.into_iter().flatten();
        let has_folder = volumes.any(|volume| volume.name == "index");
        (flags.contains_key(flag) && !flags.contains_key(not) && has_folder == (flag == "--index-folder"))
            .then_some(())
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
    let available = create_ready_tenant(&server, &id, json!({"search": {"enabled": true}})).await;
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
