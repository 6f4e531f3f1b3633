//! The numbers of names in `posthouse.v1.cbor`.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{derived::Derived, read};

/// The names in the order of their numbers, as the code has them.
const LIST: &str = "services/contracts/src/cbor/names.txt";
/// The description of the protocol: which names there are, and as what a client developer reads their numbers.
const DESCRIPTION: &str = "services/gateway/src/api/asyncapi.json";
const BEGIN: &str = "\n  \"x-names\": [";
const END: &str = "]";

/// Returns the list, with the names at its end that the description has beside it, and the description with that list.
pub fn files(repository: &Path) -> Result<[Derived; 2]> {
    let list = read(repository, LIST)?;
    let description = read(repository, DESCRIPTION)?;
    let document =
        serde_json::from_str(&description).with_context(|| format!("{DESCRIPTION} is not JSON"))?;
    let names = extended(&list, &document);
    let described = with_names(&description, &names)
        .with_context(|| format!("{DESCRIPTION} has no {}...{END}", BEGIN.trim()))?;
    let list = names.iter().map(|name| format!("{name}\n")).collect();
    Ok([Derived::new(LIST, list), Derived::new(DESCRIPTION, described)])
}

/// Returns the names of the list, and behind them those of the description that are new: no name changes its number.
fn extended<'a>(list: &'a str, document: &'a Value) -> Vec<&'a str> {
    let mut described = BTreeSet::new();
    collect(&document["components"], &mut described);
    let mut names: Vec<&str> = list.lines().collect();
    let new: Vec<&str> = described.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(new);
    names
}

/// Collects the names of all fields of the schemas in a value.
fn collect<'a>(value: &'a Value, names: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                names.extend(properties.keys().map(String::as_str));
            }
            fields.values().for_each(|value| collect(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

/// Returns the description with these names. Its other parts are written by hand, and stay as they are.
fn with_names(description: &str, names: &[&str]) -> Option<String> {
    let (before, rest) = description.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let names: Vec<String> = names.iter().map(|name| format!("\n    \"{name}\"")).collect();
    Some(format!("{before}{BEGIN}{}\n  {END}{after}", names.join(",")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_name_comes_last_and_an_old_one_stays() {
        let fields = json!({"properties": {"chat": {}, "body": {"properties": {"text": {}}}}});
        let document = json!({"components": {"schemas": {"Message": fields}}, "properties": {"no": {}}});
        assert_eq!(extended("message\nchat\n", &document), ["message", "chat", "body", "text"]);
    }

    #[test]
    fn the_rest_of_the_description_stays() {
        let description = "{\n  \"a\": [1],\n  \"x-names\": [\"old\"],\n  \"b\": []\n}\n";
        let expected =
            "{\n  \"a\": [1],\n  \"x-names\": [\n    \"new\",\n    \"newer\"\n  ],\n  \"b\": []\n}\n";
        assert_eq!(with_names(description, &["new", "newer"]).as_deref(), Some(expected));
        assert_eq!(with_names("{}", &["new"]), None);
    }
}
