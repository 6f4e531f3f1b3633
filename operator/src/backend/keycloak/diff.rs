//! Compares what was declared with what Keycloak returns. Only declared fields count: Keycloak adds dozens of its own.

use std::fmt;

use serde_json::{Map, Value};

use crate::{backend::password::sha256, text::cut};

/// One field that differs. `Display` shows no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Path of the field within its object, `attributes.posthouse.owner` for example.
    pub field: String,
    pub from: Value,
    pub to: Value,
}

/// Fields that hold what is secret, or its hash.
const SECRETS: [&str; 2] = [SECRET, "config.posthouse.secret"];
const SECRET: &str = "secret";
/// Most of a text that is shown, in bytes: a picture has thousands.
const MAX_SHOWN: usize = 200;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if SECRETS.contains(&self.field.as_str()) {
            return write!(f, "{} (hidden)", self.field);
        }
        write!(f, "{} {} -> {}", self.field, Shown(&self.from), Shown(&self.to))
    }
}

struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("unset"),
            Value::String(text) => f.write_str(&cut(text, MAX_SHOWN)),
            other => write!(f, "{other}"),
        }
    }
}

/// Returns the declared fields whose value is another one. Lists are compared without order, protocol mappers by name
/// (a mapper that is not declared differs too: the list is replaced as a whole).
pub(super) fn differences(declared: &Value, found: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    compare("", declared, found, &mut differences);
    differences
}

fn compare(path: &str, declared: &Value, found: &Value, differences: &mut Vec<Difference>) {
    let equal = match (declared, found) {
        (Value::Object(declared), found) => {
            for (key, value) in declared {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, value, &found[key], differences);
            }
            return;
        }
        (Value::Array(declared), Value::Array(found)) => {
            declared.len() == found.len()
                && declared.iter().all(|item| found.iter().any(|other| covers(item, other)))
        }
        // An empty list and none are the same to Keycloak.
        (Value::Array(declared), Value::Null) => declared.is_empty(),
        // Nor does it tell an empty text from none everywhere: databases differ.
        (Value::String(declared), Value::Null) => declared.is_empty(),
        (declared, found) => declared == found,
    };
    if !equal {
        differences.push(Difference { field: path.to_owned(), from: found.clone(), to: declared.clone() });
    }
}

/// Reports whether an item of a list has every declared field with the declared value.
fn covers(declared: &Value, found: &Value) -> bool {
    match declared {
        Value::Object(_) => differences(declared, found).is_empty(),
        _ => declared == found,
    }
}

/// Returns of `found` the fields that are declared, in the depth they are declared.
pub(super) fn pick(declared: &Value, found: &Value) -> Value {
    let (Value::Object(declared), Value::Object(found)) = (declared, found) else { return found.clone() };
    let picked = declared.iter().filter_map(|(key, value)| Some((key.clone(), pick(value, found.get(key)?))));
    Value::Object(picked.collect::<Map<_, _>>())
}

/// Puts the hash of a client's secret in its place, so that secrets can be compared and are nowhere kept.
pub(super) fn hide_secret(mut client: Value) -> Value {
    if let Some(Value::String(secret)) = client.get_mut(SECRET) {
        let hash = sha256(&std::mem::take(secret).into());
        *secret = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    client
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(declared: Value, found: Value, expected: &[&str]) {
        let shown: Vec<_> = differences(&declared, &found).iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_declared_fields_count() {
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), &[]);
        check(json!({"a": 1}), json!({"b": 2}), &["a unset -> 1"]);
        check(
            json!({"attributes": {"x": "1"}}),
            json!({"attributes": {"x": "2", "y": "3"}}),
            &["attributes.x 2 -> 1"],
        );
        check(json!({"attributes": {"x": "1"}}), json!({}), &["attributes.x unset -> 1"]);
    }

    #[test]
    fn an_empty_text_is_none() {
        check(json!({"a": ""}), json!({}), &[]);
        check(json!({"a": ""}), json!({"a": "x"}), &["a x -> "]);
        check(json!({"a": "x"}), json!({"a": ""}), &["a  -> x"]);
    }

    #[test]
    fn a_long_text_is_cut() {
        let shown = differences(&json!({ "a": "я".repeat(9000) }), &json!({}))[0].to_string();
        assert!(shown.starts_with("a unset -> яя") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn lists_have_no_order_and_no_extras() {
        check(json!({"l": ["a", "b"]}), json!({"l": ["b", "a"]}), &[]);
        check(json!({"l": []}), json!({}), &[]);
        check(json!({"l": ["a"]}), json!({"l": ["a", "b"]}), &[r#"l ["a","b"] -> ["a"]"#]);
        let mapper = json!({"m": [{"name": "n", "config": {"k": "v"}}]});
        check(mapper.clone(), json!({"m": [{"id": "1", "name": "n", "config": {"k": "v", "x": "y"}}]}), &[]);
        assert_eq!(differences(&mapper, &json!({"m": []})).len(), 1);
    }

    #[test]
    fn a_secret_is_compared_and_never_shown() {
        let hide = |secret: &str| hide_secret(json!({ "secret": secret }));
        check(hide("one"), hide("one"), &[]);
        check(hide("one"), hide("two"), &["secret (hidden)"]);
        assert!(!hide("one").to_string().contains("one"));
    }

    #[test]
    fn what_was_not_declared_is_not_kept() {
        let found = json!({"a": 1, "b": 2, "attributes": {"x": "1", "y": "2"}});
        assert_eq!(
            pick(&json!({"a": 0, "attributes": {"x": ""}}), &found),
            json!({"a": 1, "attributes": {"x": "1"}})
        );
    }
}
