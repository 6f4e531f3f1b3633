//! What the API server says to every example. The local check of the same rules is in `crds/tests`.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, PostParams, ValidationDirective},
};

use crate::{api_server::ApiServer, examples, objects};

fn strict(dry_run: bool) -> PostParams {
    PostParams { dry_run, field_validation: Some(ValidationDirective::Strict), ..Default::default() }
}

fn api(server: &ApiServer, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().expect("an example has a kind");
    let kind = match types.kind.as_str() {
        "MessengerTenant" => ApiResource::erase::<crds::MessengerTenant>(&()),
        "MessengerCell" => ApiResource::erase::<crds::MessengerCell>(&()),
        "Namespace" => ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
        other => panic!("an example is a {other}"),
    };
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(server.client.clone(), &namespace, &kind),
        None => Api::all_with(server.client.clone(), &kind),
    }
}

fn typed(object: &serde_json::Value) -> DynamicObject {
    serde_json::from_value(object.clone()).expect("a Kubernetes object")
}

#[tokio::test]
async fn the_api_server_takes_every_example_and_refuses_every_refused_one() {
    let server = ApiServer::start("admission").await;

    for path in examples("cells").into_iter().chain(examples("tenants")) {
        for object in objects(&path) {
            let object = typed(&object);
            if let Some(namespace) = object.namespace() {
                server.namespace(&namespace).await;
            }
            let answer = api(&server, &object).create(&strict(true), &object).await;
            let is_known = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 409);
            assert!(answer.is_ok() || is_known, "{}: {answer:?}", path.display());
        }
    }

    for path in examples("tenants/refused") {
        let yaml = std::fs::read_to_string(&path).expect("readable");
        let expected = yaml.lines().find_map(|line| line.strip_prefix("# Refused: ")).expect("a message");
        let said = match objects(&path).as_slice() {
            [object] => {
                let object = typed(object);
                api(&server, &object).create(&strict(true), &object).await
            }
            [before, after] => {
                let (before, mut after) = (typed(before), typed(after));
                let api = api(&server, &before);
                let created = api.create(&strict(false), &before).await.expect("the first document is accepted");
                after.metadata.resource_version = created.metadata.resource_version;
                let said = api.replace(&after.name_any(), &strict(true), &after).await;
                api.delete(&before.name_any(), &Default::default()).await.expect("deleted");
                said
            }
            other => panic!("{} has {} documents", path.display(), other.len()),
        };
        let said = match said {
            Err(kube::Error::Api(status)) => status.message,
            other => panic!("{} was not refused: {other:?}", path.display()),
        };
        // The type of a period is a pattern at the server and a parser here; both name the field.
        let pattern = "spec.kafka.retention in body should match";
        let is_pattern = expected.contains("is no period") && said.contains(pattern);
        assert!(said.contains(expected) || is_pattern, "{}: expected {expected:?}, got {said:?}", path.display());
    }
}
