//! What ends a pass, or keeps pods from running, stands in the conditions and in an Event.

use k8s_openapi::api::{
    core::v1::{ResourceQuota, Secret},
    events::v1::Event,
    rbac::v1::ClusterRole,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::json;

use crate::{
    api_server::ApiServer,
    stand::{
        NOWHERE, Operator, SOON, api_of, condition_message, create_admin_secret, create_cell, create_tenant,
        eventually,
    },
};

/// Waits for an Event of a reason whose note has this text.
pub async fn event(server: &ApiServer, namespace: &str, reason: &str, text: &str) {
    let api: &Api<Event> = &Api::namespaced(server.client.clone(), namespace);
    let published = || async move {
        let events = api.list(&ListParams::default()).await.expect("a list").items;
        let is_it = |event: &Event| {
            event.reason.as_deref() == Some(reason)
                && event.note.as_deref().is_some_and(|note| note.contains(text))
        };
        events.iter().any(is_it).then_some(())
    };
    eventually(&format!("an Event {reason} about {text:?}"), SOON, published).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_ends_a_pass_is_said_and_the_pass_goes_on_without_it() {
    let server = ApiServer::start("failures").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let operator = Operator::start(&server);
    let tenant = |id: &str| json!({"tenantId": id, "cellRef": {"name": "dead"}});

    // A quota on Secrets.
    server.namespace("full").await;
    let quotas: Api<ResourceQuota> = Api::namespaced(server.client.clone(), "full");
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"secrets": "2"}}, "status": {}});
    let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("taken");
    // The quota controller would write this.
    let used = Patch::Merge(json!({"status": {"hard": {"secrets": "2"}, "used": {"secrets": "0"}}}));
    quotas.patch_status("few", &PatchParams::default(), &used).await.expect("taken");
    create_tenant(&server, "full", "it", tenant("fullone")).await;
    let message = condition_message(&server, "full", "it", "Ready", "False", "ApiRefused").await;
    assert!(
        message.contains("failed to apply Secret it-") && message.contains("exceeded quota: few"),
        "{message}"
    );
    event(&server, "full", "ApiRefused", "exceeded quota: few").await;
    quotas.delete("few", &DeleteParams::default()).await.expect("deleted");
    condition_message(&server, "full", "it", "Ready", "False", "AdminSecretMissing").await;

    // A right that the operator lost.
    create_tenant(&server, "barred", "it", tenant("barred")).await;
    condition_message(&server, "barred", "it", "Ready", "False", "AdminSecretMissing").await;
    let roles: Api<ClusterRole> = Api::all(server.client.clone());
    let role = roles.get("posthouse-tenant-secrets").await.expect("there");
    roles.delete("posthouse-tenant-secrets", &DeleteParams::default()).await.expect("deleted");
    let message = condition_message(&server, "barred", "it", "Ready", "False", "ApiRefused").await;
    assert!(message.contains("failed to read Secret") && message.contains("forbidden"), "{message}");
    event(&server, "barred", "ApiRefused", "forbidden").await;
    let role = ClusterRole {
        metadata: kube::api::ObjectMeta { name: role.metadata.name, ..Default::default() },
        ..role
    };
    roles.create(&PostParams::default(), &role).await.expect("taken");
    condition_message(&server, "barred", "it", "Ready", "False", "AdminSecretMissing").await;
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "barred");
    assert!(secrets.get_opt("it-kafka").await.expect("an answer").is_some());
    operator.stop().await;
}

/// A resource that the API server let in before a rule was added is one resource's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_cannot_be_read_says_so_and_others_go_on() {
    let server = ApiServer::start("unreadable").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let crds: Api<CustomResourceDefinition> = Api::all(server.client.clone());
    let name = "messengertenants.messenger.posthouse.dev";
    let topology = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/topology/enum";
    let mut relaxed = serde_json::to_value(crds.get(name).await.expect("there")).expect("plain data");
    relaxed
        .pointer_mut(topology)
        .expect("the field is there")
        .as_array_mut()
        .expect("a list")
        .push("Strange".into());
    let relaxed = serde_json::from_value(relaxed).expect("a CRD");
    crds.replace(name, &PostParams::default(), &relaxed).await.expect("relaxed");
    let spec =
        |id: &str, topology: &str| json!({"tenantId": id, "cellRef": {"name": "dead"}, "topology": topology});
    server.namespace("odd").await;
    let api: Api<DynamicObject> = api_of(&server, "odd", crds::GROUP, crds::VERSION, "MessengerTenant");
    let odd: DynamicObject = serde_json::from_value(json!({"apiVersion": "messenger.posthouse.dev/v1alpha1",
        "kind": "MessengerTenant", "metadata": {"name": "it", "namespace": "odd"}, "spec": spec("oddone", "Strange")}))
    .expect("an object");
    let api = &api;
    let odd = &odd;
    let taken = || async move { api.create(&PostParams::default(), odd).await.ok() };
    eventually("the server takes it", SOON, taken).await;

    let operator = Operator::start(&server);
    let said = || async move {
        let found = api.get("it").await.expect("there");
        let ready = found.data["status"]["conditions"].as_array()?.first()?.clone();
        (ready["reason"] == "InvalidSpec").then(|| ready["message"].as_str().unwrap_or_default().to_owned())
    };
    let message = eventually("the condition says so", SOON, said).await;
    assert!(message.contains("it cannot be read: ") && message.contains("Strange"), "{message}");
    event(&server, "odd", "InvalidSpec", "it cannot be read").await;
    create_tenant(&server, "fine", "it", spec("fineone", "Compact")).await;
    condition_message(&server, "fine", "it", "Ready", "False", "AdminSecretMissing").await;

    // Corrected, it is a tenant like any other.
    let patch = Patch::Merge(json!({"spec": {"topology": "Compact"}}));
    api.patch("it", &PatchParams::default(), &patch).await.expect("corrected");
    condition_message(&server, "odd", "it", "Ready", "False", "AdminSecretMissing").await;
    operator.stop().await;
}

/// A condition that another controller set at a tenant stays, and costs the operator nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_of_another_controller_stays_and_causes_no_write() {
    let server = ApiServer::start("foreign-conditions").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let operator = Operator::start(&server);
    create_tenant(&server, "both", "it", json!({"tenantId": "bothof", "cellRef": {"name": "dead"}})).await;
    condition_message(&server, "both", "it", "RoutesReady", "False", "DependencyNotReady").await;
    let backed_up = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
        "metadata": {"name": "it"}, "status": {"conditions": [{"type": "BackedUp", "status": "True", "reason": "Done",
            "message": "", "lastTransitionTime": "2026-11-28T00:00:00Z"}]}});
    let api = api_of(&server, "both", crds::GROUP, crds::VERSION, "MessengerTenant");
    let params = PatchParams::apply("backups");
    api.patch_status("it", &params, &Patch::Apply(&backed_up)).await.expect("it is taken");
    operator.comes_to_rest().await;
    condition_message(&server, "both", "it", "BackedUp", "True", "Done").await;

    // Nor does a status of ours that changes take it away.
    create_admin_secret(&server, "dead-redis", &[("username", "operator"), ("password", "wrong")]).await;
    condition_message(&server, "both", "it", "CacheReady", "False", "BackendUnavailable").await;
    condition_message(&server, "both", "it", "BackedUp", "True", "Done").await;
    operator.stop().await;
}
