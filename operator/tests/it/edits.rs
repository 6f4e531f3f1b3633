//! What the operator does about manual edits of a tenant's objects.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    stand::{
        NOWHERE, Operator, SOON, api_of, condition_message, create_cell, create_ready_tenant, create_tenant,
        delete_tenant, event_about, eventually, on_real_backends, tenants,
    },
};

/// Starts a pass now: Secrets are not watched.
async fn poke(server: &ApiServer, namespace: &str) {
    let version = tenants(server, namespace).get("it").await.expect("there").resource_version();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"poked-at": version}}}));
    tenants(server, namespace).patch("it", &PatchParams::default(), &patch).await.expect("annotated");
}

async fn edit(secrets: &Api<Secret>, name: &str, patch: Value) {
    secrets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the edit is taken");
}

/// Returns what a new password or another rollout would change: the generation of every Deployment.
async fn generations(api: &Api<Deployment>) -> BTreeMap<String, Option<i64>> {
    let list = api.list(&ListParams::default()).await.expect("a list");
    list.items.iter().map(|deployment| (deployment.name_any(), deployment.metadata.generation)).collect()
}

/// A Secret that is not the tenant's, or holds no credential, sets nothing in a backend and starts no pod, however often it is
/// looked at. One that lost its owner is the tenant's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_cannot_be_used_changes_no_backend_and_no_pod() {
    let (server, _) = on_real_backends("secrets").await;
    let operator = Operator::start(&server);
    let id = format!("ite{:x}", std::process::id());
    let namespace = id.as_str();
    let available = create_ready_tenant(&server, &id, Value::Null).await;
    let deployments: Api<Deployment> = Api::namespaced(server.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), namespace);
    let mut before = generations(&deployments).await;

    // Its owner was lost: a restore, or an orphaning deletion.
    let kafka = secrets.get("it-kafka").await.expect("there");
    edit(&secrets, "it-kafka", json!({"metadata": {"ownerReferences": null}})).await;
    poke(&server, namespace).await;
    let owned = || async {
        let secret = secrets.get("it-kafka").await.expect("there");
        secret.metadata.owner_references.is_some_and(|owners| !owners.is_empty()).then_some(secret.data)
    };
    assert!(eventually("it is owned again", SOON, owned).await == kafka.data, "it holds another password");
    condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;

    // Another client's Secret, a password that was cut off, and bytes that are no text.
    let foreign =
        json!({"metadata": {"ownerReferences": null, "labels": null}, "data": {"password": "eA=="}});
    let cases = [
        ("it-kafka", "KafkaReady", "ResourceConflict", foreign),
        ("it-cql", "StoreReady", "SecretInvalid", json!({"data": {"password": ""}})),
        ("it-redis", "CacheReady", "SecretInvalid", json!({"data": {"password": "//79"}})),
        ("it-oidc", "IdentityReady", "SecretInvalid", json!({"data": {"clientSecret": null}})),
    ];
    for (name, condition, reason, patch) in cases {
        edit(&secrets, name, patch).await;
        poke(&server, namespace).await;
        let message = condition_message(&server, namespace, "it", condition, "False", reason).await;
        assert!(message.contains(&format!("Secret {name}")), "{message}");
        let message = condition_message(&server, namespace, "it", "Ready", "False", reason).await;
        assert!(message.contains(&format!("Secret {name}")), "{message}");
        let edited = secrets.get(name).await.expect("there").data;
        operator.comes_to_rest().await;
        assert!(secrets.get(name).await.expect("there").data == edited, "{name} was written to");
        assert_eq!(generations(&deployments).await, before, "{name}: pods were replaced");

        // Out of the way, it is generated again and used everywhere.
        secrets.delete(name, &DeleteParams::default()).await.expect("deleted");
        poke(&server, namespace).await;
        condition_message(&server, namespace, "it", "Ready", "True", "AllReady").await;
        let after = generations(&deployments).await;
        assert_ne!(after, before, "{name}: no pod has the new password");
        before = after;
    }

    delete_tenant(&server, namespace, "it").await;
    available.abort();
    operator.stop().await;
}

/// Additions to what selects, admits or routes are removed again, each with an Event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_added_by_hand_is_removed_again() {
    let server = ApiServer::start("additions").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let operator = Operator::start(&server);
    let namespace = "added";
    let spec = json!({"tenantId": "added", "cellRef": {"name": "dead"}});
    create_tenant(&server, namespace, "it", spec).await;
    condition_message(&server, namespace, "it", "KafkaReady", "False", "AdminSecretMissing").await;

    let port = json!({"name": "extra", "port": 7777, "protocol": "TCP"});
    let subject = json!({"kind": "ServiceAccount", "name": "drifted", "namespace": namespace});
    let cases = [
        (("", "v1", "Service"), "it-user", "/spec/selector", json!({"drifted": "yes"})),
        (("", "v1", "Service"), "it-chat", "/spec/ports", port),
        (("rbac.authorization.k8s.io", "v1", "RoleBinding"), "it-posthouse-secrets", "/subjects", subject),
        (
            ("traefik.io", "v1alpha1", "IngressRoute"),
            "it-user",
            "/spec/routes/0/services",
            json!({"name": "x", "port": 80}),
        ),
        (("traefik.io", "v1alpha1", "IngressRoute"), "it-chat", "/spec", json!({"entryPoints": ["other"]})),
        (
            ("traefik.io", "v1alpha1", "Middleware"),
            "it-errors",
            "/spec",
            json!({"stripPrefix": {"prefixes": ["/"]}}),
        ),
        (
            ("networking.k8s.io", "v1", "NetworkPolicy"),
            "it-default-deny",
            "/spec/podSelector/matchLabels",
            json!({"drifted": "yes"}),
        ),
        (
            ("networking.k8s.io", "v1", "NetworkPolicy"),
            "it-default-deny",
            "/spec/ingress/1/ports",
            json!({"port": 7777, "protocol": "TCP"}),
        ),
    ];
    for ((group, version, kind), name, field, addition) in cases {
        let api = api_of(&server, namespace, group, version, kind);
        let part = |object: &DynamicObject| {
            let object = serde_json::to_value(object).expect("plain data");
            object.pointer(field).expect("the field is there").clone()
        };
        let mut object = api.get(name).await.expect("there");
        let before = part(&object);
        add(object.data.pointer_mut(field).expect("the field is there"), addition);
        api.replace(name, &PostParams::default(), &object).await.expect("the edit is taken");
        let (api, before, part) = (&api, &before, &part);
        let removed = || async move {
            let object = api.get(name).await.expect("there");
            (part(&object) == *before).then_some(())
        };
        eventually(&format!("the addition to {field} of {kind} {name} is removed"), SOON, removed).await;
        event_about(&server, namespace, &format!("repair {kind} {name}")).await;
    }

    // Nothing of it is repaired over and over.
    operator.comes_to_rest().await;
    operator.stop().await;
}

/// Adds to a list or a map.
fn add(field: &mut Value, addition: Value) {
    match field {
        Value::Array(elements) => elements.push(addition),
        Value::Object(entries) => entries.extend(addition.as_object().expect("entries").clone()),
        other => panic!("nothing can be added to {other}"),
    }
}
