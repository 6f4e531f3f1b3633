//! Holds an API against its description.

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// The parts of a document by which one message is described, for JSON Schema.
pub struct Schemas {
    document: Value,
}

impl Schemas {
    /// Returns the schemas of a document, whose references are all within it.
    pub fn new(document: Value) -> Self {
        every_reference_leads_somewhere(&document, &document);
        Self { document }
    }

    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns what is wrong with an instance of this schema of the document; none when it is valid.
    pub fn errors(&self, schema: &Value, instance: &Value) -> Vec<String> {
        let errors = self.validator(schema);
        errors.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    /// References begin at the root, so the schema stands beside what they lead to.
    fn validator(&self, schema: &Value) -> Validator {
        let mut root = schema.as_object().cloned().unwrap_or_default();
        root.insert("components".to_owned(), self.document["components"].clone());
        jsonschema::options()
            .should_validate_formats(true)
            .build(&Value::Object(root))
            .unwrap_or_else(|error| panic!("{schema} is not a schema: {error}"))
    }
}

fn every_reference_leads_somewhere(document: &Value, value: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|value| every_reference_leads_somewhere(document, value));
        }
        Value::Array(values) => {
            values.iter().for_each(|value| every_reference_leads_somewhere(document, value));
        }
        _ => {}
    }
}

/// A request and its response, as far as a description has them.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    /// The body of the request, when nothing else of the request may be wrong.
    pub sent: Option<&'a Value>,
    pub status: u16,
    /// The names of the response's headers.
    pub headers: &'a [String],
    pub content_type: &'a str,
    pub body: &'a Value,
}

/// The OpenAPI description of an API.
pub(super) struct Description(Schemas);

impl Description {
    /// Reads a description. Panics when a generator of clients would stumble over it.
    pub(super) fn new(openapi: &OpenApi) -> Self {
        let this = Self(Schemas::new(serde_json::to_value(openapi).expect("a description is JSON")));
        let mut ids = Vec::new();
        for (path, method, operation) in this.operations() {
            let at = format!("{method} {path}");
            ids.push(
                operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no id")).to_owned(),
            );
            assert!(operation["summary"].is_string(), "{at} has no summary");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let is_it = |of: &Value| of["in"] == "path" && of["name"] == name;
                assert!(parameters.iter().any(is_it), "{at} does not describe {{{name}}}");
            }
            for parameter in parameters {
                assert!(parameter["description"].is_string(), "{at} does not explain {}", parameter["name"]);
                this.0.validator(&parameter["schema"]);
            }
        }
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "two operations have one id: {ids:?}");
        this
    }

    fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.0.document["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
    }

    /// Compares a response with the description of its operation, and a body that was taken with what is described.
    pub(super) fn check(&self, exchange: &Exchange<'_>) {
        let Exchange { method, uri, status, headers, content_type, body, .. } = *exchange;
        let path = uri.split('?').next().unwrap_or_default();
        let at = format!("{method} {path}");
        let fits = |(template, of, _): &(&str, &str, &Value)| {
            of.eq_ignore_ascii_case(method) && is_of(template, path)
        };
        // A fixed path comes before one with parameters.
        let mut operations: Vec<_> = self.operations().filter(fits).collect();
        operations.sort_by_key(|(template, ..)| template.matches('{').count());
        let Some((.., operation)) = operations.first() else {
            assert!(matches!(status, 404 | 405), "{at} is not described: {exchange:?}");
            return;
        };
        let response = &operation["responses"][status.to_string()];
        assert!(response.is_object(), "{at} does not describe {exchange:?}");
        for name in headers.iter().filter(|name| !SELF_EXPLAINING.contains(&name.as_str())) {
            assert!(response["headers"][name].is_object(), "{at} does not describe {name} of {status}");
        }
        let content = response["content"].as_object().cloned().unwrap_or_default();
        if content.is_empty() {
            assert_eq!(*body, Value::Null, "{at} describes no body of {status}");
        } else {
            let schema = &content.get(content_type).unwrap_or(&Value::Null)["schema"];
            assert!(schema.is_object(), "{at} does not describe {content_type} of {status}");
            let errors = self.0.errors(schema, body);
            assert!(errors.is_empty(), "{at} describes another body of {status}: {errors:?}, {body}");
        }
        self.check_request(&at, operation, exchange);
    }

    /// A body of the described form is refused for no reason of its form.
    fn check_request(&self, at: &str, operation: &Value, exchange: &Exchange<'_>) {
        let Some(sent) = exchange.sent else { return };
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_object() {
            // It is not read.
            return;
        }
        let is_valid = self.0.errors(schema, sent).is_empty();
        // No schema counts the bytes of a whole body.
        let is_large = sent.to_string().len() > LARGE_BYTES;
        let is_of_form = matches!(exchange.status, 400 | 415) || (exchange.status == 413 && !is_large);
        assert!(!is_valid || !is_of_form, "{at} refuses a body of the described form: {exchange:?}");
    }
}

/// A body beyond it may be too large, whatever its form.
const LARGE_BYTES: usize = 64 * 1024;

/// Of every response of HTTP.
const SELF_EXPLAINING: [&str; 3] = ["cache-control", "content-type", "content-length"];

fn is_of(template: &str, path: &str) -> bool {
    let mut given = path.split('/');
    let all = template.split('/').all(|part| {
        given.next().is_some_and(|given| part == given || (part.starts_with('{') && !given.is_empty()))
    });
    all && given.next().is_none()
}

/// Returns the schemas of all messages of an AsyncAPI document that are sent in this direction: one of them describes a
/// frame.
pub fn frame_schema(document: &Value, action: &str) -> Value {
    let operations = document["operations"].as_object().into_iter().flat_map(Map::values);
    let names = operations.filter(|operation| operation["action"] == action).flat_map(|operation| {
        let messages = operation["messages"].as_array().into_iter().flatten();
        messages.filter_map(|message| message["$ref"].as_str()?.rsplit('/').next())
    });
    let payloads: Vec<_> =
        names.map(|name| document["components"]["messages"][name]["payload"].clone()).collect();
    json!({ "oneOf": payloads })
}
