//! The API server's verdict on every example. The local check of the same rules is in `crds/tests`.

use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{api_server::ApiServer, examples, objects};

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

    for path in examples("cells").into_iter().chain(examples("tenants")) {
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
                let api: kube::Api<crds::MessengerTenant> =
                    kube::Api::default_namespaced(server.client.clone());
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
