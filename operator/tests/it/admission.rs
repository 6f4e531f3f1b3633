//! The API server's verdict on every example. The local check of the same rules is in `crds/tests`.

use crds::MessengerTenant;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    examples, objects,
    stand::{NOWHERE, SOON, cells, create_cell, create_tenant, eventually, tenants},
};

/// Sends an object the way kubectl does: unknown fields are refused. `POST` creates, `PUT` replaces.
async fn send(
    server: &ApiServer,
    method: http::Method,
    object: &Value,
    dry_run: bool,
) -> kube::Result<DynamicObject> {
    let typed = typed(object);
    let namespace = typed.namespace().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
    let (version, plural) = match object["kind"].as_str() {
        Some("MessengerTenant") => ("/apis/messenger.posthouse.dev/v1alpha1", "messengertenants"),
        Some("MessengerCell") => ("/apis/messenger.posthouse.dev/v1alpha1", "messengercells"),
        Some("Namespace") => ("/api/v1", "namespaces"),
        Some("Secret") => ("/api/v1", "secrets"),
        Some("PriorityClass") => ("/apis/scheduling.k8s.io/v1", "priorityclasses"),
        other => panic!("an example is a {other:?}"),
    };
    let name = if method == http::Method::PUT { format!("/{}", typed.name_any()) } else { String::new() };
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let uri = format!("{version}{namespace}/{plural}{name}?fieldValidation=Strict{dry_run}");
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .expect("a request");
    server.client.request(request).await
}

fn typed(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).expect("a Kubernetes object")
}

#[tokio::test]
async fn the_api_server_takes_every_example_and_refuses_every_refused_one() {
    let server = ApiServer::start("admission").await;

    for path in examples("cells").into_iter().chain(examples("tenants")).chain(examples("protected")) {
        for object in objects(&path) {
            if let Some(namespace) = typed(&object).namespace() {
                server.namespace(&namespace).await;
            }
            let answer = send(&server, http::Method::POST, &object, true).await;
            let is_known = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 409);
            assert!(answer.is_ok() || is_known, "{}: {answer:?}", path.display());
        }
    }

    // A template leaves keys empty, and an empty key is an absent one. Amounts come in several forms.
    let tenant = |services: Value| {
        json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "odd", "namespace": "default"},
            "spec": {"tenantId": "odd", "cellRef": {"name": "local"}, "hosts": null, "services": services}})
    };
    for services in [
        json!({"auth": {"replicas": null, "resources": {"limits": null, "requests": {"cpu": null}}}}),
        json!({"auth": {"resources": {"limits": {"memory": null, "cpu": "1"}, "requests": null}}}),
        json!({"auth": {"autoscaling": null, "template": {"labels": null, "affinity": {"nodeAffinity": null}, "env": [
            {"name": "X_EMPTY", "value": "", "valueFrom": null}]}}}),
        json!({"auth": {"autoscaling": {"minReplicas": null, "maxReplicas": 1}, "template": null}}),
        json!({"gateway": {"resources": {"requests": {"cpu": "0100m", "memory": "0048Mi"},
            "limits": {"cpu": "1.500", "memory": "262144Ki"}}}}),
    ] {
        let answer = send(&server, http::Method::POST, &tenant(services.clone()), true).await;
        assert!(answer.is_ok(), "{services}: {answer:?}");
    }

    for path in examples("tenants/refused") {
        let yaml = std::fs::read_to_string(&path).expect("readable");
        // The server reports a few rules in its own words.
        let line = |start: &str| yaml.lines().find_map(|line| line.strip_prefix(start));
        let expected = line("# Refused by the server: ").or_else(|| line("# Refused: ")).expect("a message");
        let verdict = match objects(&path).as_slice() {
            [object] => send(&server, http::Method::POST, object, true).await,
            [before, after] => {
                let created = send(&server, http::Method::POST, before, false).await;
                let created = created.expect("the first document is accepted");
                let mut after = after.clone();
                after["metadata"]["resourceVersion"] =
                    created.resource_version().expect("it was created").into();
                let verdict = send(&server, http::Method::PUT, &after, true).await;
                let api: Api<MessengerTenant> = Api::default_namespaced(server.client.clone());
                api.delete(&created.name_any(), &Default::default()).await.expect("deleted");
                verdict
            }
            other => panic!("{} has {} documents", path.display(), other.len()),
        };
        let verdict = match verdict {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("{} was not refused: {other:?}", path.display()),
        };
        assert!(verdict.contains(expected), "{}: expected {expected:?}, got {verdict:?}", path.display());
    }
}

/// Returns the server's words about a deletion that it refuses. Policies take a moment until they hold, and one that looks at tenants holds when the server has
/// learned that there are such.
async fn refusal_of_deletion<K>(api: &Api<K>, name: &str) -> String
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let question = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let question = &question;
    let refused = || async move {
        match api.delete(name, question).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) if status.code == 403 => Some(status.message),
            Err(error) => panic!("{name}: {error}"),
        }
    };
    let message = eventually(&format!("the deletion of {name} is refused"), SOON, refused).await;
    let deleted = api.delete(name, &DeleteParams::default()).await;
    assert!(deleted.is_err(), "{name}: {deleted:?}");
    message
}

/// Deletes what is protected, once the refusal was read and what it says was done. Returns the refusal.
async fn deleted_as_the_refusal_says<K>(api: &Api<K>, name: &str) -> String
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let refusal = refusal_of_deletion(api, name).await;
    let (_, patch) = refusal.split_once("--type merge -p '").expect("a command");
    let (patch, _) = patch.split_once('\'').expect("its end");
    let patch: Value = serde_json::from_str(patch).expect("JSON");
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the edit is taken");
    api.delete(name, &DeleteParams::default()).await.expect("it may go");
    refusal
}

/// The examples of this folder say in a line `# Refused: <text>` what a deletion of them is refused with.
#[tokio::test]
async fn an_example_that_is_protected_is_deleted_after_what_its_refusal_says() {
    let server = ApiServer::start("protected").await;
    for path in examples("protected") {
        let yaml = std::fs::read_to_string(&path).expect("readable");
        let expected = yaml.lines().find_map(|line| line.strip_prefix("# Refused: ")).expect("a message");
        let [object] = objects(&path).try_into().expect("one object");
        let created = send(&server, http::Method::POST, &object, false).await.expect("it is accepted");
        let (namespace, name) = (created.namespace(), created.name_any());
        let refusal = match namespace {
            Some(namespace) => deleted_as_the_refusal_says(&tenants(&server, &namespace), &name).await,
            None => deleted_as_the_refusal_says(&cells(&server), &name).await,
        };
        assert!(refusal.contains(expected), "{}: {refusal}", path.display());
    }
}

#[tokio::test]
async fn a_namespace_goes_once_no_tenant_of_it_is_protected() {
    let server = ApiServer::start("namespaces").await;
    create_cell(&server, "dead", 5, NOWHERE, None).await;
    let spec = |id: &str, is_protected: bool| json!({"tenantId": id, "cellRef": {"name": "dead"}, "deletionProtection": is_protected});
    create_tenant(&server, "shared", "kept", spec("kept", true)).await;
    create_tenant(&server, "shared", "other", spec("other", false)).await;
    create_tenant(&server, "free", "free", spec("free", false)).await;

    // Administrators of the cluster are held, too: the client is one.
    let namespaces: Api<Namespace> = Api::all(server.client.clone());
    let refusal = refusal_of_deletion(&namespaces, "shared").await;
    let names_both = refusal
        .contains("MessengerTenant kept of this namespace has spec.deletionProtection: true")
        && refusal.contains("kubectl patch mt kept -n shared");
    assert!(names_both, "{refusal}");
    namespaces.delete("free", &DeleteParams::default()).await.expect("nothing in it is protected");

    // What Kubernetes does in a namespace whose deletion began nevertheless: the tenant stays.
    let api: Api<MessengerTenant> = tenants(&server, "shared");
    refusal_of_deletion(&api, "kept").await;
    let all = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    let error = all.expect_err("one of them is protected").to_string();
    assert!(error.contains("MessengerTenant kept has spec.deletionProtection: true"), "{error}");
    assert!(api.get_opt("kept").await.expect("an answer").is_some());

    deleted_as_the_refusal_says(&api, "kept").await;
    let namespaces = &namespaces;
    // The server learns a moment later that the tenant is gone.
    let goes = || async move { namespaces.delete("shared", &DeleteParams::default()).await.ok().map(|_| ()) };
    eventually("the namespace may go", SOON, goes).await;
}
