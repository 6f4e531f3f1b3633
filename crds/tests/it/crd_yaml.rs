use std::fs;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::repository;

#[test]
fn committed_crds_are_what_the_types_say() {
    for (name, expected) in crds::yaml::files() {
        let path = repository().join("charts/posthouse-crds/templates").join(&name);
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == expected, "{} is stale: run `make generate`", path.display());
    }
}

/// What annotations of an object may have together.
const ANNOTATIONS_BYTES: usize = 256 * 1024;

#[test]
fn a_client_that_keeps_what_it_applied_in_an_annotation_can_apply_the_crds() {
    for crd in crds::yaml::crds() {
        let json = serde_json::to_string(&crd).expect("plain data");
        // kubectl writes these as `\u0026` and the like.
        let bytes = json.len() + 5 * json.matches(['<', '>', '&']).count();
        // Other annotations have the rest.
        assert!(bytes < ANNOTATIONS_BYTES - 4096, "{:?} has {bytes} bytes", crd.metadata.name);
    }
}

#[test]
fn every_field_is_documented() {
    for crd in crds::yaml::crds() {
        let crd = serde_json::to_value(crd).expect("plain data");
        check_documented(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "");
    }
}

fn check_documented(schema: &Value, path: &str) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if path != ".status" {
            let doc = property["description"].as_str().unwrap_or_default();
            assert!(doc.len() > 10, "{path} has no description");
            assert!(!doc.contains("[`"), "{path} shows a Rust link to readers of the YAML");
        }
        check_documented(property, &path);
        check_documented(&property["items"], &path);
    }
}

#[test]
fn names_are_what_users_type() {
    let crd = crds::MessengerTenant::crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("messengertenants.messenger.posthouse.dev"));
    assert_eq!(crd.spec.names.short_names, Some(vec!["mt".to_owned()]));
    assert_eq!(crd.spec.names.categories, Some(vec!["messenger".to_owned()]));
    assert_eq!(crd.spec.group, crds::GROUP);
    assert_eq!(crd.spec.versions[0].name, crds::VERSION);
    assert_eq!(crds::MessengerCell::crd().spec.names.short_names, Some(vec!["mcell".to_owned()]));
}

#[test]
fn the_default_partitions_in_the_rule_are_the_default_in_the_code() {
    let crd = serde_json::to_string(&crds::MessengerTenant::crd()).expect("plain data");
    assert!(crd.contains(&format!("self.kafka.partitions : {})", crds::DEFAULT_PARTITIONS)));
}

/// Nothing about a service or a backend stands in the CRD by hand: one that the catalog gains is a field, a column and a
/// condition.
#[test]
fn every_service_and_backend_of_the_catalog_is_in_the_crd() {
    let [_, crd] = crds::yaml::crds();
    let crd = serde_json::to_value(crd).expect("plain data");
    let version = &crd["spec"]["versions"][0];
    let root = &version["schema"]["openAPIV3Schema"]["properties"];
    let services = root["spec"]["properties"]["services"]["properties"].as_object().expect("an object");
    assert_eq!(services.len(), catalog::Service::ALL.len());
    for service in catalog::Service::ALL {
        assert_eq!(services[service.as_str()]["description"], service.about);
        assert_eq!(services[service.as_str()]["properties"].get("enabled").is_some(), service.is_optional);
    }
    let conditions = root["status"]["properties"]["conditions"]["description"].as_str().expect("documented");
    let columns = version["additionalPrinterColumns"].as_array().expect("columns");
    for backend in catalog::Backend::ALL {
        assert!(conditions.contains(backend.condition), "{conditions}");
        let path = format!(r#".status.conditions[?(@.type=="{}")].status"#, backend.condition);
        assert!(columns.iter().any(|column| column["jsonPath"] == path.as_str()), "{backend} has no column");
    }
}
