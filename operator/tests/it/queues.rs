//! A backend that a service uses where the cell has it, and does without.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::Api;
use operator::backend::{Credentials, Ownership, rabbitmq::RabbitMqAdmin};
use reqwest::Certificate;
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, condition_is_gone, condition_message, create_admin_secret,
        create_ready_tenant, delete_tenant, edit_cell, edit_tenant, eventually, flags, on_real_backends,
        variable,
    },
};

/// Where RabbitMQ is. `make up-backends WITH=rabbitmq` starts it.
fn management_url() -> String {
    format!("https://{}", variable("RABBITMQ_ADDRESS"))
}

fn amqp_url() -> String {
    format!("amqps://{}", variable("RABBITMQ_AMQP_ADDRESS"))
}

/// Returns the authority of its certificate, in PEM.
fn authority() -> String {
    std::fs::read_to_string(variable("RABBITMQ_CA")).expect("the authority of RabbitMQ's certificate")
}

/// Changes where the cell has its broker. Null is nowhere.
async fn move_broker(server: &ApiServer, broker: Value) {
    edit_cell(server, "real", json!({"rabbitmq": broker})).await;
}

fn broker(management_url: &str) -> Value {
    json!({"amqpUrl": amqp_url(), "managementUrl": management_url, "adminSecretRef": {"name": "real-rabbitmq"}})
}

async fn switch(server: &ApiServer, namespace: &str, is_on: bool) {
    edit_tenant(server, namespace, "it", json!({"services": {"notification": {"enabled": is_on}}})).await;
}

/// Waits until the pods of the notification service connect there, or nowhere.
async fn pods_connect_to(server: &ApiServer, namespace: &str, expected: Option<&str>) {
    let api: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let as_expected = || async {
        let flags = flags(&api.get_opt("it-notification").await.expect("an answer")?)?;
        (flags.get("--rabbitmq-url").map(String::as_str) == expected).then_some(())
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
    let authority = Certificate::from_pem_bundle(authority().as_bytes()).expect("certificates");
    stand::ownership(&RabbitMqAdmin::new(&management_url(), account, &authority), id).await
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
    let available = create_ready_tenant(&server, &id, json!({"notification": {"enabled": true}})).await;
    nothing_is_reported(&server, namespace).await;
    pods_connect_to(&server, namespace, None).await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    assert!(secrets.get_opt("it-rabbitmq").await.expect("an answer").is_some(), "the account has its name");

    // One that is away keeps no pod from starting.
    move_broker(&server, broker(&format!("https://{NOWHERE}"))).await;
    let message =
        condition_message(&server, namespace, "it", "QueuesReady", "False", "BackendUnavailable").await;
    assert!(message.contains(NOWHERE) && message.contains("MessengerCell real"), "{message}");
    pods_connect_to(&server, namespace, Some(&amqp_url())).await;
    // Nothing is said to one that is not trusted.
    move_broker(&server, broker(&management_url())).await;
    eventually("the condition names the next step", SOON, || async {
        let message =
            condition_message(&server, namespace, "it", "QueuesReady", "False", "BackendUnavailable").await;
        let is_named = message.contains("add that authority to spec.caBundle of the cell");
        is_named.then_some(())
    })
    .await;
    edit_cell(&server, "real", json!({"caBundle": authority()})).await;

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
