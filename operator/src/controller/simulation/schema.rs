//! What the API server lets through of a tenant: the schema of the CRD with its rules, and where a manifest has texts.

use std::collections::{BTreeMap, BTreeSet};

use crds::MessengerTenant;
use kube_cel::{CompiledSchema, compile_schema, validate_compiled};
use serde_json::{Map, Value, json};

/// The schema of a tenant.
pub(super) struct TenantSchema {
    schema: Value,
    rules: CompiledSchema,
}

impl TenantSchema {
    pub fn new() -> Self {
        let crds = crds::yaml::crds();
        let crd = crds.iter().find(|crd| crd.spec.names.kind == "MessengerTenant").expect("one of ours");
        let crd = serde_json::to_value(crd).expect("plain data");
        let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        say_patterns(&mut schema["properties"]["spec"]);
        Self { rules: compile_schema(&schema), schema }
    }

    /// Returns the schema of the spec.
    pub fn spec(&self) -> &Value {
        &self.schema["properties"]["spec"]
    }

    /// Returns why a manifest is refused, as the API server would: one that is created, or an edit of what was there `before`.
    pub fn check(&self, before: Option<&Value>, after: &Value) -> Result<(), String> {
        if let Some(beyond) = beyond(self.spec(), &after["spec"]) {
            return Err(beyond);
        }
        validate_compiled(&self.rules, after, before).map_err(|errors| errors.to_string())?;
        let read = serde_json::from_value::<MessengerTenant>(after.clone());
        read.map(drop).map_err(|error| error.to_string())
    }

    /// Returns the places of all texts that a manifest may have. Each is in this one, or the test fails.
    pub fn places(&self, manifest: &Value) -> Vec<Place<'_>> {
        let (mut known, mut found) = (BTreeSet::new(), BTreeMap::new());
        paths(self.spec(), "spec", &mut known);
        let at = At { path: "spec".to_owned(), pointer: "/spec".to_owned(), is_lasting: false };
        places(self.spec(), &manifest["spec"], &at, &mut found);
        let missing: Vec<_> = known.iter().filter(|path| !found.contains_key(*path)).collect();
        assert!(missing.is_empty(), "no example has {missing:?}");
        found.into_values().collect()
    }

    /// Sets in a spec what it does not have and what has texts, as the same is set elsewhere in it: what each workload has is shown at one.
    pub fn fill(&self, spec: &mut Value) {
        let mut known = Known::default();
        known.learn(self.spec(), spec);
        fill(self.spec(), spec, &known);
    }

    /// Returns a manifest that has what is required, and besides only what leads to a place. What rules say of a text depends on no more.
    pub fn about(&self, manifest: &Value, place: &Place<'_>) -> Value {
        let steps: Vec<_> = place.pointer.split('/').skip(2).collect();
        json!({
            "apiVersion": manifest["apiVersion"], "kind": manifest["kind"],
            "metadata": {"name": manifest["metadata"]["name"], "namespace": manifest["metadata"]["namespace"]},
            "spec": pruned(self.spec(), &manifest["spec"], &steps),
        })
    }
}

/// Where a manifest has a text.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// As `spec.hosts[]`.
    pub path: String,
    pointer: String,
    /// It is a key of the map there.
    is_key: bool,
    /// Rules compare it with what was there before.
    pub is_lasting: bool,
    /// What is said of it, or of the map that has the key.
    schema: &'a Value,
}

impl Place<'_> {
    /// Sets the text.
    pub fn put(&self, manifest: &mut Value, text: &str) {
        let found = manifest.pointer_mut(&self.pointer);
        let found = found.unwrap_or_else(|| panic!("{} is not there", self.path));
        if let (true, Some(map)) = (self.is_key, found.as_object_mut()) {
            let value = map.values().next().cloned().expect("it has one");
            *map = Map::from_iter([(text.to_owned(), value)]);
        } else {
            *found = text.into();
        }
    }

    /// Reports whether texts are keys of a map there, which is found by other ones afterwards.
    pub fn is_key(&self) -> bool {
        self.is_key
    }

    /// Returns what is beside the text.
    pub fn beside<'m>(&self, manifest: &'m mut Value) -> Option<&'m mut Value> {
        let (parent, _) = self.pointer.rsplit_once('/')?;
        manifest.pointer_mut(parent)
    }

    /// Returns those of some texts that the schema lets through, as far as that depends on the text alone.
    pub fn taken<'t>(&self, texts: &'t [String]) -> Vec<&'t str> {
        let rules = compile_schema(self.schema);
        let value = |text: &str| {
            if self.is_key { json!({text: "any"}) } else { Value::from(text) }
        };
        let is_taken = |text: &&str| {
            let value = value(text);
            beyond(self.schema, &value).is_none() && validate_compiled(&rules, &value, None).is_ok()
        };
        texts.iter().map(String::as_str).filter(is_taken).collect()
    }

    /// Returns what places have in common whose texts are taken alike.
    pub fn kind(&self) -> (bool, String) {
        let mut schema = self.schema.clone();
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("description");
        }
        (self.is_key, schema.to_string())
    }
}

/// Says patterns as rules, which can be run.
fn say_patterns(schema: &mut Value) {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        assert!(!pattern.contains(['\'', '\\']), "{pattern} is to be quoted");
        let rule = json!({"rule": format!("self.matches('{pattern}')")});
        let fields = schema.as_object_mut().expect("a schema");
        let rules = fields.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        rules.as_array_mut().expect("rules").push(rule);
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (_, field) in fields.into_iter().flatten() {
        say_patterns(field);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = schema.get_mut(part).filter(|part| part.is_object()) {
            say_patterns(part);
        }
    }
}

/// Returns which lengths or choices of a schema a value is beyond, if it is.
fn beyond(schema: &Value, value: &Value) -> Option<String> {
    let (what, length) = match value {
        Value::String(text) => ("Length", text.chars().count()),
        Value::Array(items) => ("Items", items.len()),
        Value::Object(fields) => ("Properties", fields.len()),
        _ => return None,
    };
    let length = u64::try_from(length).expect("it is in memory");
    let bound = |end: &str| schema[format!("{end}{what}").as_str()].as_u64();
    if bound("min").is_some_and(|least| length < least) || bound("max").is_some_and(|most| length > most) {
        return Some(format!("{what} is {length}"));
    }
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        return Some(format!("{value} is not a choice"));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| beyond(&schema["items"], item)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let field = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            beyond(field, value)
        }),
        _ => None,
    }
}

fn has_texts(schema: &Value) -> bool {
    let mut known = BTreeSet::new();
    paths(schema, "", &mut known);
    !known.is_empty()
}

/// Takes in the paths of all texts.
fn paths(schema: &Value, path: &str, known: &mut BTreeSet<String>) {
    if schema["type"] == "string" {
        known.insert(path.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        paths(field, &format!("{path}.{name}"), known);
    }
    if schema["items"].is_object() {
        paths(&schema["items"], &format!("{path}[]"), known);
    }
    if schema["additionalProperties"].is_object() {
        known.insert(format!("{path}{{key}}"));
        paths(&schema["additionalProperties"], &format!("{path}{{}}"), known);
    }
}

/// A part of a manifest.
struct At {
    path: String,
    pointer: String,
    is_lasting: bool,
}

impl At {
    fn below(&self, path: &str, step: impl std::fmt::Display, schema: &Value) -> Self {
        let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
        let is_lasting = rules.filter_map(|rule| rule["rule"].as_str()).any(|rule| rule.contains("oldSelf"));
        Self {
            path: format!("{}{path}", self.path),
            pointer: format!("{}/{step}", self.pointer),
            is_lasting: self.is_lasting || is_lasting,
        }
    }

    fn place<'a>(&self, end: &str, is_key: bool, schema: &'a Value) -> (String, Place<'a>) {
        let path = format!("{}{end}", self.path);
        let place = Place {
            path: path.clone(),
            pointer: self.pointer.clone(),
            is_key,
            is_lasting: self.is_lasting,
            schema,
        };
        (path, place)
    }
}

/// Takes in where a manifest has each text: the first place of a path.
fn places<'a>(schema: &'a Value, value: &Value, at: &At, found: &mut BTreeMap<String, Place<'a>>) {
    let mut note = |(path, place): (String, Place<'a>)| _ = found.entry(path).or_insert(place);
    if schema["type"] == "string" {
        note(at.place("", false, schema));
    }
    let map = value.as_object().filter(|_| schema["additionalProperties"].is_object());
    if let Some((key, value)) = map.and_then(|map| map.iter().next()) {
        note(at.place("{key}", true, schema));
        let inner = &schema["additionalProperties"];
        places(inner, value, &at.below("{}", key.replace('/', "~1"), inner), found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            places(field, value, &at.below(&format!(".{name}"), name, field), found);
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        let inner = &schema["items"];
        places(inner, item, &at.below("[]", number, inner), found);
    }
}

/// What fields have, by their schema: what one service has, another one may have. A list and a map are one value.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Vec<Value>>);

impl Known {
    /// Takes in what a value has.
    pub fn learn(&mut self, schema: &Value, value: &Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = value.get(name) {
                let values = self.0.entry(field.to_string()).or_default();
                if !values.contains(value) {
                    values.push(value.clone());
                }
                self.learn(field, value);
            }
        }
    }

    /// Returns what is known of fields with this schema, in the order in which it was learnt.
    pub fn of(&self, field: &Value) -> &[Value] {
        self.0.get(&field.to_string()).map_or(&[], Vec::as_slice)
    }
}

fn fill(schema: &Value, value: &mut Value, known: &Known) {
    let Some(fields) = value.as_object_mut() else { return };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if !fields.contains_key(name)
            && has_texts(field)
            && let Some(known) = known.of(field).first()
        {
            fields.insert(name.clone(), known.clone());
        }
        if let Some(value) = fields.get_mut(name) {
            fill(field, value, known);
        }
    }
}

/// Leaves out of a value what is neither required nor on these steps. Lists and maps are left whole.
fn pruned(schema: &Value, value: &Value, steps: &[&str]) -> Value {
    let (Some((step, rest)), Some(fields)) = (steps.split_first(), schema["properties"].as_object()) else {
        return value.clone();
    };
    let is_required = |name: &String| {
        let mut required = schema["required"].as_array().into_iter().flatten();
        required.any(|field| field == name.as_str())
    };
    let mut left = Map::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        if name == step {
            left.insert(name.clone(), pruned(&fields[name], value, rest));
        } else if is_required(name) {
            left.insert(name.clone(), value.clone());
        }
    }
    Value::Object(left)
}

#[test]
fn lengths_patterns_and_choices_are_checked_beside_rules() {
    let schema = TenantSchema::new();
    let manifest = |spec: Value| {
        let mut manifest = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": "acme", "namespace": "acme"}, "spec": {"tenantId": "acme", "cellRef": {"name": "local"}}});
        let fields = manifest["spec"].as_object_mut().expect("an object");
        fields.extend(spec.as_object().cloned().expect("an object"));
        manifest
    };
    let labels = |value: &str| json!({"compact": {"template": {"labels": {"team": value}}}});
    for (spec, is_taken) in [
        (json!({}), true),
        (json!({"hosts": []}), false),
        (json!({"hosts": ["acme.localhost"]}), true),
        (json!({"branding": {"displayName": "x".repeat(64)}}), true),
        (json!({"branding": {"displayName": "x".repeat(65)}}), false),
        (json!({"deletionPolicy": "Delete"}), true),
        (json!({"deletionPolicy": "Forget"}), false),
        (labels("messaging"), true),
        (labels("-messaging"), false),
    ] {
        assert_eq!(schema.check(None, &manifest(spec.clone())).is_ok(), is_taken, "{spec}");
    }
}
