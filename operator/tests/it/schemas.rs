//! A backend that no service connects to, and that comes with the cell.

use catalog::Topic;
use crds::MessengerTenant;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use operator::backend::{Ownership, registry::RegistryAdmin};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, condition_message, create_ready_tenant, delete_tenant, edit_cell,
        eventually, flags, on_real_backends, tenants, variable,
    },
};

/// Where Apicurio is. `make up-backends WITH=registry` starts it.
fn url() -> String {
    format!("http://{}/apis/ccompat/v7", variable("REGISTRY_ADDRESS"))
}

/// Changes where the cell has its registry. Null is nowhere.
async fn move_registry(server: &ApiServer, registry: Value) {
    edit_cell(server, "real", json!({ "schemaRegistry": registry })).await;
}

/// Returns the ids that the pods of a workload get.
async fn handed_over(server: &ApiServer, namespace: &str, workload: &str) -> Option<String> {
    let api: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let deployment = api.get(&format!("it-{workload}")).await.expect("it is there");
    flags(&deployment)?.remove("--schema-ids")
}

/// Waits until the pods of the message service get these ids, or none.
async fn are_handed_over(server: &ApiServer, namespace: &str, expected: Option<&str>) {
    let as_expected =
        || async { (handed_over(server, namespace, "message").await.as_deref() == expected).then_some(()) };
    eventually(&format!("the message service gets {expected:?}"), SOON, as_expected).await;
    assert_eq!(handed_over(server, namespace, "user").await, None, "it writes no record");
}

/// Waits until the tenant has no condition about schemas, and so no id.
async fn nothing_is_reported(server: &ApiServer, namespace: &str) {
    let gone = || async {
        let tenant = tenants(server, namespace).get("it").await.expect("there");
        let status = tenant.status?;
        let is_there = status.conditions.iter().any(|condition| condition.type_ == "SchemasReady");
        (!is_there && !status.conditions.is_empty() && status.schema_ids.is_empty()).then_some(())
    };
    eventually("SchemasReady is gone", SOON, gone).await;
}

/// Returns the ids in the status, as producers get them.
fn recorded(tenant: &MessengerTenant) -> String {
    let ids = tenant.status.as_ref().expect("a status").schema_ids.iter();
    ids.map(|(topic, id)| format!("{topic}={id}")).collect::<Vec<_>>().join(",")
}

async fn ownership(id: &str) -> Ownership {
    stand::ownership(&RegistryAdmin::new(&url(), None), id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_come_and_go_with_the_registry_of_the_cell() {
    let (server, _) = on_real_backends("schemas").await;
    let operator = Operator::start(&server);
    let id = format!("its{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, Value::Null).await;
    nothing_is_reported(&server, namespace).await;
    are_handed_over(&server, namespace, None).await;
    assert_eq!(ownership(&id).await, Ownership::Absent);

    move_registry(&server, json!({"url": url()})).await;
    let message = condition_message(&server, namespace, "it", "SchemasReady", "True", "InSync").await;
    assert_eq!(message, "schemas of 4 topics");
    let tenant = tenants(&server, namespace).get("it").await.expect("there");
    let ids = recorded(&tenant);
    for topic in Topic::ALL.iter().filter(|topic| !topic.is_optional) {
        assert!(ids.contains(&format!("{}=", topic.of(&id))), "{topic}: {ids}");
    }
    are_handed_over(&server, namespace, Some(&ids)).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;

    // One that is away is reported, and pods keep what they know.
    move_registry(&server, json!({"url": format!("http://{NOWHERE}")})).await;
    let message =
        condition_message(&server, namespace, "it", "SchemasReady", "False", "BackendUnavailable").await;
    assert!(message.contains(NOWHERE) && message.contains("MessengerCell real"), "{message}");
    condition_message(&server, namespace, "it", "Ready", "False", "BackendUnavailable").await;
    are_handed_over(&server, namespace, Some(&ids)).await;
    move_registry(&server, json!({"url": format!("{}/elsewhere", url())})).await;
    let message =
        condition_message(&server, namespace, "it", "SchemasReady", "False", "BackendRefused").await;
    assert!(message.contains("correct url in spec.schemaRegistry of the cell"), "{message}");

    move_registry(&server, Value::Null).await;
    nothing_is_reported(&server, namespace).await;
    are_handed_over(&server, namespace, None).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(ownership(&id).await, Ownership::Ours, "records of before name what is there");

    move_registry(&server, json!({"url": url()})).await;
    condition_message(&server, namespace, "it", "SchemasReady", "True", "InSync").await;
    are_handed_over(&server, namespace, Some(&ids)).await;
    delete_tenant(&server, namespace, "it").await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    available.abort();
    operator.stop().await;
}
