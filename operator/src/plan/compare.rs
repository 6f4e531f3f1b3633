//! Compares what we declare with what the server has, the way server-side apply would: only declared fields count.

use serde_json::{Map, Value};

/// Keys that name an element of a list, in the order they are tried. The server merges these lists by key and leaves
/// elements of other managers alone, so they are no difference.
const LIST_KEYS: [&str; 6] = ["name", "containerPort", "port", "mountPath", "uid", "topologyKey"];

/// Returns the paths at which `live` does not have what `desired` declares. Both are of one kind: items of a list do not
/// say which.
pub fn differences(desired: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(desired, live, "", &mut found);
    found.retain(|path| path != "apiVersion" && path != "kind");
    found
}

fn walk(desired: &Value, live: &Value, path: &str, found: &mut Vec<String>) {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => walk_object(desired, live, path, found),
        (Value::Array(desired), Value::Array(live)) => walk_list(desired, live, path, found),
        // The server drops empty containers.
        (Value::Object(desired), Value::Null) if desired.is_empty() && path != ".spec.tls" => {}
        (Value::Array(desired), Value::Null) if desired.is_empty() => {}
        (desired, live) if desired == live => {}
        (Value::String(desired), Value::String(live)) if is_amount(path) && same_amount(desired, live) => {}
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

fn walk_object(desired: &Map<String, Value>, live: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    for (name, value) in desired {
        walk(value, live.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"), found);
    }
}

fn walk_list(desired: &[Value], live: &[Value], path: &str, found: &mut Vec<String>) {
    let Some(key) = desired.first().and_then(|first| LIST_KEYS.iter().find(|key| first.get(**key).is_some()))
    else {
        // Without a key the list is one value: it is declared whole.
        if desired.len() == live.len() {
            for (index, (desired, live)) in desired.iter().zip(live).enumerate() {
                walk(desired, live, &format!("{path}[{index}]"), found);
            }
        } else {
            found.push(path.trim_start_matches('.').to_owned());
        }
        return;
    };
    for element in desired {
        let id = &element[*key];
        let other = live.iter().find(|other| &other[*key] == id).unwrap_or(&Value::Null);
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        walk(element, other, &format!("{path}[{id}]"), found);
    }
}

/// Amounts stand below `resources`; the server writes them in its own form: `1000m` comes back as `1`.
fn is_amount(path: &str) -> bool {
    path.contains(".resources.")
}

fn same_amount(one: &str, other: &str) -> bool {
    match (thousandths(one), thousandths(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// Reads the amounts the schema lets through: decimals, `m`, `Ki`, `Mi`, `Gi`, and what the server may make of them.
fn thousandths(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 8] = [
        ("Ki", 1000 << 10),
        ("Mi", 1000 << 20),
        ("Gi", 1000 << 30),
        ("Ti", 1000 << 40),
        ("k", 1_000_000),
        ("M", 1_000_000_000),
        ("G", 1_000_000_000_000),
        ("m", 1),
    ];
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1000));
    match digits.split_once('.') {
        None => digits.parse::<u128>().ok()?.checked_mul(unit),
        Some((whole, fraction)) if fraction.len() <= 3 => {
            let whole: u128 = whole.parse().ok()?;
            let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            let fraction: u128 = fraction.parse().ok()?;
            whole.checked_mul(unit)?.checked_add(fraction * unit / scale)
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(desired: Value, live: Value, expected: &[&str]) {
        assert_eq!(differences(&desired, &live), expected, "{desired} against {live}");
    }

    #[test]
    fn only_declared_fields_count() {
        check(json!({"a": 1}), json!({"a": 1, "status": {"x": 2}}), &[]);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), &["a.b"]);
        check(json!({"a": {"b": 1}}), json!({}), &["a"]);
        check(json!({"a": {}, "b": []}), json!({}), &[]);
    }

    #[test]
    fn an_item_of_a_list_does_not_say_its_kind() {
        check(json!({"apiVersion": "v1", "kind": "Secret", "a": 1}), json!({"a": 1}), &[]);
    }

    #[test]
    fn an_empty_tls_is_a_declaration() {
        check(json!({"spec": {"tls": {}}}), json!({"spec": {}}), &["spec.tls"]);
    }

    #[test]
    fn named_elements_are_found_wherever_they_stand() {
        let desired = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]});
        check(
            desired.clone(),
            json!({"env": [{"name": "B", "value": "2"}, {"name": "X"}, {"name": "A", "value": "1"}]}),
            &[],
        );
        check(desired, json!({"env": [{"name": "A", "value": "9"}]}), &["env[A].value", "env[B]"]);
    }

    #[test]
    fn lists_without_names_are_declared_whole() {
        check(json!({"args": ["a", "b"]}), json!({"args": ["a", "b"]}), &[]);
        check(json!({"args": ["a", "b"]}), json!({"args": ["a", "c"]}), &["args[1]"]);
        check(json!({"args": ["a"]}), json!({"args": ["a", "b"]}), &["args"]);
    }

    #[test]
    fn amounts_are_compared_as_amounts() {
        let cpu = |amount: &str| json!({"c": {"resources": {"limits": {"cpu": amount}}}});
        check(cpu("1000m"), cpu("1"), &[]);
        check(cpu("0.5"), cpu("500m"), &[]);
        check(cpu("1024Mi"), cpu("1Gi"), &[]);
        check(cpu("1"), cpu("2"), &["c.resources.limits.cpu"]);
        check(json!({"image": "1000m"}), json!({"image": "1"}), &["image"]);
    }
}
