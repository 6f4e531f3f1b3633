//! A backend that a service uses where the cell has it, and does without.

use crds::MessengerCell;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use operator::backend::{Credentials, Ownership, rabbitmq::RabbitMqAdmin};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, condition_is_gone, condition_message, create_admin_secret,
        create_tenant, delete_tenant, eventually, make_deployments_available, on_real_backends, tenants,
        variable,
    },
};

/// Where RabbitMQ is. `make up-backends WITH=rabbitmq` starts it.
fn management_url() -> String {
    format!("http://{}", variable("RABBITMQ_ADDRESS"))
}

fn amqp_url() -> String {
    format!("amqp://{}", variable("RABBITMQ_AMQP_ADDRESS"))
}

/// Changes where the cell has its broker. Null is nowhere.
async fn move_broker(server: &ApiServer, broker: Value) {
    let cells: Api<MessengerCell> = Api::all(server.client.clone());
    let patch = Patch::Merge(json!({"spec": {"rabbitmq": broker}}));
    cells.patch("real", &PatchParams::default(), &patch).await.expect("the edit is taken");
}

fn broker(management_url: &str) -> Value {
    json!({"amqpUrl": amqp_url(), "managementUrl": management_url, "adminSecretRef": {"name": "real-rabbitmq"}})
}

async fn switch(server: &ApiServer, namespace: &str, is_on: bool) {
    let patch = Patch::Merge(json!({"spec": {"services": {"notification": {"enabled": is_on}}}}));
    tenants(server, namespace).patch("it", &PatchParams::default(), &patch).await.expect("the edit is taken");
}

/// Waits until the pods of the notification service connect there, or nowhere.
async fn pods_connect_to(server: &ApiServer, namespace: &str, expected: Option<&str>) {
    let api: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let as_expected = || async {
        let deployment = api.get_opt("it-notification").await.expect("an answer")?;
        let pod = deployment.spec?.template.spec?;
        let arguments = pod.containers.first()?.args.clone()?;
        let flag = arguments.iter().position(|argument| argument == "--rabbitmq-url");
        let url = flag.and_then(|flag| arguments.get(flag + 1)).map(String::as_str);
        (url == expected).then_some(())
    };
    eventually(&format!("the pods connect to {expected:?}"), SOON, as_expected).await;
}

/// Waits until the tenant has no condition about queues.
async fn nothing_is_reported(server: &ApiServer, namespace: &str) {
    condition_is_gone(server, namespace, "it", "QueuesReady").await;
}

async fn ownership(id: &str) -> Ownership {
    let account =
        Credentials::new(variable("RABBITMQ_OPERATOR_USERNAME"), variable("RABBITMQ_OPERATOR_PASSWORD"));
    stand::ownership(&RabbitMqAdmin::new(&management_url(), account), id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_come_and_go_with_the_broker_of_the_cell_and_no_pod_waits_for_them() {
    let (server, _) = on_real_backends("queues").await;
    let (username, password) =
        (variable("RABBITMQ_OPERATOR_USERNAME"), variable("RABBITMQ_OPERATOR_PASSWORD"));
    let data = [("username", username.as_str()), ("password", password.as_str())];
    create_admin_secret(&server, "real-rabbitmq", &data).await;
    let operator = Operator::start(&server);
    let id = format!("itq{:x}", std::process::id());
    let namespace = id.as_str();
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "services": {"notification": {"enabled": true}}});
    create_tenant(&server, namespace, "it", spec).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let available = tokio::spawn(make_deployments_available(deployments));
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    nothing_is_reported(&server, namespace).await;
    pods_connect_to(&server, namespace, None).await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    assert!(secrets.get_opt("it-rabbitmq").await.expect("an answer").is_some(), "the account has its name");

    // One that is away keeps no pod from starting.
    move_broker(&server, broker(&format!("http://{NOWHERE}"))).await;
    let message =
        condition_message(&server, namespace, "it", "QueuesReady", "False", "BackendUnavailable").await;
    assert!(message.contains(NOWHERE) && message.contains("MessengerCell real"), "{message}");
    pods_connect_to(&server, namespace, Some(&amqp_url())).await;
    move_broker(&server, broker(&format!("{}/elsewhere", management_url()))).await;
    let message = condition_message(&server, namespace, "it", "QueuesReady", "False", "BackendRefused").await;
    assert!(message.contains("correct managementUrl in spec.rabbitmq of the cell"), "{message}");

    move_broker(&server, broker(&management_url())).await;
    let message = condition_message(&server, namespace, "it", "QueuesReady", "True", "InSync").await;
    assert_eq!(message, format!("virtual host and user mt-{id}"));
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    operator.comes_to_rest().await;

    switch(&server, namespace, false).await;
    nothing_is_reported(&server, namespace).await;
    assert_eq!(ownership(&id).await, Ownership::Ours, "it stays for when it is switched on again");
    switch(&server, namespace, true).await;
    condition_message(&server, namespace, "it", "QueuesReady", "True", "InSync").await;

    move_broker(&server, Value::Null).await;
    nothing_is_reported(&server, namespace).await;
    pods_connect_to(&server, namespace, None).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;

    // It is removed with the tenant, also where the service was switched off before.
    move_broker(&server, broker(&management_url())).await;
    condition_message(&server, namespace, "it", "QueuesReady", "True", "InSync").await;
    switch(&server, namespace, false).await;
    nothing_is_reported(&server, namespace).await;
    delete_tenant(&server, namespace, "it").await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    available.abort();
    operator.stop().await;
}
