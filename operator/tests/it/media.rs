//! A service that is there on request, with a backend of its own.

use std::collections::BTreeSet;

use crds::MessengerTenant;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use operator::backend::{Credentials, Ownership, s3::S3Admin};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        self, NOWHERE, Operator, SOON, api_of, condition_is_gone, condition_message, create_cell,
        create_ready_tenant, create_tenant, delete_tenant, deployed, edit_tenant, eventually,
        on_real_backends, tenants, variable,
    },
};

async fn switch(server: &ApiServer, namespace: &str, is_on: bool) {
    edit_tenant(server, namespace, "it", json!({"services": {"media": {"enabled": is_on}}})).await;
}

/// Returns the identity of the tenant's bucket, as its status has it.
fn bucket(tenant: &MessengerTenant) -> Option<String> {
    tenant.status.as_ref()?.generations.get("s3").cloned()
}

async fn ownership(id: &str) -> Ownership {
    let account = Credentials::new(variable("S3_OPERATOR_USERNAME"), variable("S3_OPERATOR_PASSWORD"));
    let url = |name: &str| format!("http://{}", variable(name));
    let admin = S3Admin::new(&url("S3_ADDRESS"), &url("S3_ACCOUNTS_ADDRESS"), "us-east-1", account);
    stand::ownership(&admin, id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_switched_on_and_off_without_a_remainder_and_are_kept() {
    let (server, _) = on_real_backends("media").await;
    let operator = Operator::start(&server);
    let id = format!("itm{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, Value::Null).await;
    let tenant = condition_is_gone(&server, namespace, "it", "MediaReady").await;
    assert_eq!(bucket(&tenant), None);
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    assert!(secrets.get_opt("it-s3").await.expect("an answer").is_none());
    assert_eq!(ownership(&id).await, Ownership::Absent, "nothing is made that was not requested");
    let without = children(&server, namespace).await;

    switch(&server, namespace, true).await;
    condition_message(&server, namespace, "it", "MediaReady", "True", "InSync").await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    let with = children(&server, namespace).await;
    for child in
        ["Deployment it-media", "Service it-media", "ServiceAccount it-media", "IngressRoute it-media"]
    {
        assert!(with.contains(child), "{child} is not in {with:?}");
    }
    let first = bucket(&tenants(&server, namespace).get("it").await.expect("there"));
    assert!(first.is_some());
    operator.comes_to_rest().await;

    switch(&server, namespace, false).await;
    let tenant = condition_is_gone(&server, namespace, "it", "MediaReady").await;
    assert_eq!(bucket(&tenant), first, "its data is kept, and missed when it is gone");
    let pruned = || async { (children(&server, namespace).await == without).then_some(()) };
    eventually("nothing of the service is left", SOON, pruned).await;
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
    assert_eq!(ownership(&id).await, Ownership::Ours);
    operator.comes_to_rest().await;

    switch(&server, namespace, true).await;
    condition_message(&server, namespace, "it", "MediaReady", "True", "InSync").await;
    let again = bucket(&tenants(&server, namespace).get("it").await.expect("there"));
    assert_eq!(again, first, "it is the same bucket");

    // Whatever is switched on at that moment, a deletion leaves nothing.
    switch(&server, namespace, false).await;
    condition_is_gone(&server, namespace, "it", "MediaReady").await;
    delete_tenant(&server, namespace, "it").await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    available.abort();
    operator.stop().await;
}

/// An account is made before its bucket. When the first bucket fails, the Secret alone tells of the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_whose_bucket_was_never_recorded_goes_with_its_tenant() {
    let (server, _) = on_real_backends("account").await;
    let operator = Operator::start(&server);
    let id = format!("itk{:x}", std::process::id());
    let namespace = id.as_str();
    let spec = json!({"tenantId": id, "cellRef": {"name": "real"}, "deletionPolicy": "Delete",
        "kafka": {"partitions": 1}, "services": {"media": {"enabled": true}}});
    create_tenant(&server, namespace, "it", spec).await;
    condition_message(&server, namespace, "it", "MediaReady", "True", "InSync").await;
    switch(&server, namespace, false).await;
    condition_is_gone(&server, namespace, "it", "MediaReady").await;
    operator.stop().await;

    // As it is when no pass has seen a bucket.
    let forgotten = Patch::Merge(json!({"status": {"generations": {"s3": null}}}));
    let api = tenants(&server, namespace);
    let tenant = api.patch_status("it", &PatchParams::default(), &forgotten).await.expect("it is forgotten");
    assert_eq!(bucket(&tenant), None);
    assert_eq!(ownership(&id).await, Ownership::Ours);
    let operator = Operator::start(&server);
    delete_tenant(&server, namespace, "it").await;
    assert_eq!(ownership(&id).await, Ownership::Absent);
    operator.stop().await;
}

/// Returns kinds and names of what a tenant has in Kubernetes but for Secrets.
async fn children(server: &ApiServer, namespace: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (group, version, kind) in [
        ("apps", "v1", "Deployment"),
        ("", "v1", "Service"),
        ("", "v1", "ServiceAccount"),
        ("networking.k8s.io", "v1", "NetworkPolicy"),
        ("traefik.io", "v1alpha1", "IngressRoute"),
        ("traefik.io", "v1alpha1", "Middleware"),
    ] {
        let names = deployed(&api_of(server, namespace, group, version, kind)).await;
        found.extend(names.into_iter().map(|name| format!("{kind} {name}")));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_without_an_object_store_refuses_files_and_nothing_else() {
    let server = ApiServer::start("bare").await;
    create_cell(&server, "bare", 5, NOWHERE, None).await;
    let operator = Operator::start(&server);
    let spec =
        json!({"tenantId": "itbare", "cellRef": {"name": "bare"}, "services": {"media": {"enabled": true}}});
    create_tenant(&server, "bare", "it", spec).await;
    let message = condition_message(&server, "bare", "it", "MediaReady", "False", "BackendMissing").await;
    assert_eq!(
        message,
        "media needs S3, which MessengerCell bare does not have; set its spec.s3, or switch media off in spec.services"
    );
    condition_message(&server, "bare", "it", "Ready", "False", "BackendMissing").await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "bare");
    assert!(!deployed(&secrets).await.iter().any(|name| name.starts_with("it-")), "nothing is made");

    switch(&server, "bare", false).await;
    let tenant = condition_is_gone(&server, "bare", "it", "MediaReady").await;
    assert_eq!(tenant.name_any(), "it");
    condition_message(&server, "bare", "it", "KafkaReady", "False", "AdminSecretMissing").await;
    operator.stop().await;
}
