use std::{fs, path::PathBuf};

use crds::{MessengerCell, MessengerTenant};
use kube_cel::Validator;
use serde_json::Value;

use crate::repository;

/// Returns the YAML files of a folder below `examples/`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = repository().join("examples").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of examples exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no example", folder.display());
    files
}

/// Returns the objects of one file, as the API server would get them.
fn objects(yaml: &str) -> Vec<Value> {
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

/// Returns what is wrong with an object: what the types do not take, what they drop, or what a rule refuses. With the
/// object as it was before, rules about an edit count too.
fn refusals(object: &Value, before: Option<&Value>) -> Vec<String> {
    fn dropped<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) -> Vec<String> {
        match serde_json::from_value::<T>(object.clone()) {
            Ok(typed) => {
                let kept = serde_json::to_value(&typed).expect("plain data");
                unknown_fields(&object["spec"], &kept["spec"], "spec")
            }
            Err(error) => vec![error.to_string()],
        }
    }
    let mut refusals = match object["kind"].as_str() {
        Some("MessengerTenant") => dropped::<MessengerTenant>(object),
        Some("MessengerCell") => dropped::<MessengerCell>(object),
        Some("Namespace" | "Secret" | "PriorityClass") => return Vec::new(),
        other => return vec![format!("unexpected kind {other:?}")],
    };
    if let Err(errors) = Validator::new().validate(&schema(object), object, before) {
        refusals.push(errors.to_string());
    }
    refusals
}

/// Returns the schema that the API server checks an object against.
fn schema(object: &Value) -> Value {
    let crd = crds::yaml::crds().into_iter().find(|crd| object["kind"] == crd.spec.names.kind.as_str());
    let crd = serde_json::to_value(crd.expect("one of our kinds")).expect("plain data");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The server refuses these with strict field validation, which kubectl requests.
fn unknown_fields(written: &Value, kept: &Value, path: &str) -> Vec<String> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => written
            .iter()
            .flat_map(|(name, value)| match kept.get(name) {
                Some(kept) => unknown_fields(value, kept, &format!("{path}.{name}")),
                None => vec![format!("unknown field \"{path}.{name}\"")],
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_example_is_accepted() {
    for path in files("tenants").into_iter().chain(files("cells")).chain(files("protected")) {
        for object in objects(&fs::read_to_string(&path).expect("readable")) {
            assert_eq!(refusals(&object, None), Vec::<String>::new(), "{}", path.display());
        }
    }
}

/// Each refused example holds the line `# Refused: <text>`; the server's message contains the text. A file with two
/// documents is an edit: the first is accepted, and the second is refused as its update.
#[test]
fn every_refused_example_is_refused_with_its_message() {
    for path in files("tenants/refused").into_iter().chain(files("cells/refused")) {
        let yaml = fs::read_to_string(&path).expect("readable");
        let expected = yaml
            .lines()
            .find_map(|line| line.strip_prefix("# Refused: "))
            .unwrap_or_else(|| panic!("{} does not say `# Refused: ...`", path.display()));
        let objects = objects(&yaml);
        let said = match objects.as_slice() {
            [object] => refusals(object, None),
            [before, after] => {
                assert_eq!(refusals(before, None), Vec::<String>::new(), "{}", path.display());
                refusals(after, Some(before))
            }
            _ => panic!("{} has more than two documents", path.display()),
        };
        assert!(
            said.iter().any(|message| message.contains(expected)),
            "{}: expected {expected:?}, got {said:?}",
            path.display()
        );
    }
}

/// Returns the fields of a schema that a value does not set.
fn unset_fields(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields
        .flat_map(|(name, schema)| match value.get(name) {
            Some(value) => unset_fields(schema, value, &format!("{path}.{name}")),
            None => vec![format!("{path}.{name}")],
        })
        .collect()
}

/// Reports whether a field is the same for each workload, and this is not the one at which it is shown.
fn is_shown_at_the_gateway(field: &str) -> bool {
    let is_alike = field.ends_with(".template") || field.ends_with(".autoscaling");
    is_alike && !field.starts_with("spec.services.gateway.")
}

#[test]
fn the_full_tenant_sets_every_field_there_is() {
    let text = fs::read_to_string(repository().join("examples/tenants/full.yaml")).expect("readable");
    let objects = objects(&text);
    let tenant = objects.iter().find(|object| object["kind"] == "MessengerTenant").expect("a tenant");
    let mut unset = unset_fields(&schema(tenant)["properties"]["spec"], &tenant["spec"], "spec");
    unset.retain(|field| !is_shown_at_the_gateway(field));
    assert_eq!(unset, [""; 0]);
}
