//! Compares what we declare with what the server has, the way server-side apply would: only declared fields count.
//!
//! Where an addition changes whom an object selects, admits or reaches, or holds back later edits, it counts too: [`whole`]
//! names these fields. Elsewhere additions belong to others on purpose: a replica count of an autoscaler, a sidecar, an image pull secret, an annotation.

use serde_json::{Map, Value, json};

use crate::{amounts, desired::Kind};

/// Keys that name an element of a list, in the order they are tried. The server merges these lists by key and leaves
/// elements of other managers alone, so they are no difference.
const LIST_KEYS: [&str; 6] = ["name", "containerPort", "port", "mountPath", "uid", "topologyKey"];

/// Returns the fields of a kind that are declared whole, as JSON pointers: nothing is added to them by others.
const fn whole(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::RoleBinding => &["/roleRef", "/subjects"],
        Kind::NetworkPolicy | Kind::Middleware | Kind::IngressRoute | Kind::PodDisruptionBudget => &["/spec"],
        // The server fills in addresses beside them.
        Kind::Service => &["/spec/selector", "/spec/ports", "/spec/externalIPs"],
        // A pause or a longer wait holds back every later edit.
        Kind::Deployment => &["/spec/paused", "/spec/minReadySeconds"],
        // The server fills in what the installed version of the kind has as defaults of an endpoint.
        Kind::PodMonitor => &["/spec/selector", "/spec/namespaceSelector"],
        // How fast an autoscaler goes, its `behavior`, is left to others.
        Kind::Secret | Kind::ServiceAccount | Kind::HorizontalPodAutoscaler => &[],
    }
}

/// Fields of pods that decide what runs and as whom.
const WHAT_RUNS: [&str; 6] =
    [".image", ".args", ".command", ".env", ".securityContext", ".serviceAccountName"];

/// Reports whether a field, which [`differences`] named, may be left to others that set it again and again. `by_server` is what the
/// API server does itself, by a webhook, whenever it is written: nothing else can be had of it.
pub(crate) fn may_be_left(kind: Kind, field: &str, by_server: bool) -> bool {
    let is_whole = whole(kind).iter().any(|whole| format!(".{field}").starts_with(&whole.replace('/', ".")));
    let decides_what_runs = WHAT_RUNS.iter().any(|name| field.contains(name));
    kind == Kind::Deployment && field.starts_with("spec.") && !is_whole && (by_server || !decides_what_runs)
}

/// Returns the paths at which `live` does not have what `desired` declares, or has more than that where a field is declared
/// whole. Both are of one kind: items of a list do not say which.
pub(crate) fn differences(kind: Kind, desired: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(desired, live, "", &mut found);
    found.retain(|path| path != "apiVersion" && path != "kind");
    if kind == Kind::Deployment && is_stopped(desired, live) {
        found.push("spec.replicas".to_owned());
    }
    for field in whole(kind) {
        if let Some(excess) = excess_at(field, desired, live) {
            let mut added = Vec::new();
            leaves(&excess, &field.replace('/', "."), &mut added);
            // A list that is not as declared was found above.
            found.extend(added.into_iter().filter(|path| !found.contains(path)).collect::<Vec<_>>());
        }
    }
    found
}

/// Returns the JSON merge patch that removes what others added to the fields of `live` that are declared whole. Server-side
/// apply does so only where a whole list or map has one owner.
pub(crate) fn removal(kind: Kind, desired: &Value, live: &Value) -> Option<Value> {
    let mut patch = json!({});
    for field in whole(kind) {
        if let Some(excess) = excess_at(field, desired, live) {
            let nested = |value, name: &str| json!({name: value});
            merge(&mut patch, field.rsplit('/').filter(|name| !name.is_empty()).fold(excess, nested));
        }
    }
    patch.as_object().is_some_and(|fields| !fields.is_empty()).then_some(patch)
}

/// Reports whether a Deployment has no pods whose number is an autoscaler's: of none, it makes no other number.
fn is_stopped(desired: &Value, live: &Value) -> bool {
    const REPLICAS: &str = "/spec/replicas";
    desired.pointer(REPLICAS).is_none() && live.pointer(REPLICAS).is_some_and(|replicas| replicas == 0)
}

fn excess_at(field: &str, desired: &Value, live: &Value) -> Option<Value> {
    let at = |object: &Value| object.pointer(field).cloned().unwrap_or(Value::Null);
    match (at(desired), at(live)) {
        (_, Value::Null) => None,
        (Value::Null, _) => Some(Value::Null),
        (desired, live) => excess(&desired, &live),
    }
}

/// Returns what a merge patch removes to leave no more than what is desired: null where a map has a key more, and the whole
/// list where a list has an element more or other elements.
fn excess(desired: &Value, live: &Value) -> Option<Value> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            let more = live.iter().filter(|(_, value)| !value.is_null()).filter_map(|(name, value)| {
                let excess = match desired.get(name) {
                    Some(desired) => excess(desired, value)?,
                    None => Value::Null,
                };
                Some((name.clone(), excess))
            });
            let more: Map<_, _> = more.collect();
            (!more.is_empty()).then_some(Value::Object(more))
        }
        (Value::Array(elements), Value::Array(live)) => {
            let has_more = elements.len() < live.len()
                || elements.iter().zip(live).any(|(desired, live)| excess(desired, live).is_some());
            has_more.then(|| desired.clone())
        }
        _ => None,
    }
}

/// Adds the fields of one patch to another.
fn merge(patch: &mut Value, other: Value) {
    match (patch, other) {
        (Value::Object(patch), Value::Object(other)) => {
            for (name, value) in other {
                merge(patch.entry(name).or_insert(Value::Null), value);
            }
        }
        (patch, other) => *patch = other,
    }
}

fn leaves(patch: &Value, path: &str, found: &mut Vec<String>) {
    match patch {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, &format!("{path}.{name}"), found);
            }
        }
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

fn walk(desired: &Value, live: &Value, path: &str, found: &mut Vec<String>) {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => walk_object(desired, live, path, found),
        (Value::Array(desired), Value::Array(live)) => walk_list(desired, live, path, found),
        // The server drops empty containers.
        (Value::Object(desired), Value::Null) if desired.is_empty() && path != ".spec.tls" => {}
        (Value::Array(desired), Value::Null) if desired.is_empty() => {}
        (desired, live) if desired == live => {}
        (Value::String(desired), Value::String(live)) if is_amount(path) && amounts::same(desired, live) => {}
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

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Merges as RFC 7396 says. Lists are values.
    pub fn apply_merge_patch(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else { return target.clone_from(patch) };
        if !target.is_object() {
            *target = json!({});
        }
        let target = target.as_object_mut().expect("made above");
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                apply_merge_patch(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{testing::apply_merge_patch, *};

    fn check(desired: Value, live: Value, expected: &[&str]) {
        assert_eq!(differences(Kind::Deployment, &desired, &live), expected, "{desired} against {live}");
    }

    /// Checks what was added to a field that is declared whole, and that the removal leaves what is desired.
    fn check_added(kind: Kind, desired: Value, live: Value, expected: &[&str]) {
        assert_eq!(differences(kind, &desired, &live), expected, "{desired} against {live}");
        let removal = removal(kind, &desired, &live).expect("something was added");
        let mut merged = live;
        apply_merge_patch(&mut merged, &removal);
        assert_eq!(differences(kind, &desired, &merged), Vec::<String>::new(), "{merged}");
    }

    #[test]
    fn an_addition_counts_where_it_selects_admits_or_routes() {
        let service = |selector: Value, ports: Value| json!({"spec": {"selector": selector, "ports": ports}});
        let ports = json!([{"name": "http", "port": 80}]);
        let desired = service(json!({"name": "user"}), ports.clone());
        check_added(
            Kind::Service,
            desired.clone(),
            service(json!({"name": "user", "drifted": "yes"}), ports),
            &["spec.selector.drifted"],
        );
        check_added(
            Kind::Service,
            desired.clone(),
            service(
                json!({"name": "user"}),
                json!([{"name": "http", "port": 80}, {"name": "x", "port": 81}]),
            ),
            &["spec.ports"],
        );
        let mut opened = desired.clone();
        opened["spec"]["externalIPs"] = json!(["192.0.2.1"]);
        opened["spec"]["clusterIP"] = json!("10.0.0.1");
        check_added(Kind::Service, desired, opened, &["spec.externalIPs"]);

        let subjects = |names: &[&str]| {
            let subjects: Vec<_> = names.iter().map(|name| json!({"kind": "User", "name": name})).collect();
            json!({"roleRef": {"name": "secrets"}, "subjects": subjects})
        };
        check_added(Kind::RoleBinding, subjects(&["one"]), subjects(&["one", "two"]), &["subjects"]);

        let route =
            |services: Value| json!({"spec": {"routes": [{"match": "Host(`a`)", "services": services}]}});
        let desired = route(json!([{"name": "a", "port": 80}]));
        check_added(
            Kind::IngressRoute,
            desired.clone(),
            route(json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}])),
            &["spec.routes"],
        );
        let mut prioritised = desired.clone();
        prioritised["spec"]["routes"][0]["priority"] = json!(9);
        check_added(Kind::IngressRoute, desired.clone(), prioritised, &["spec.routes"]);
        for (field, value) in [("entryPoints", json!(["other"])), ("tls", json!({}))] {
            let mut edited = desired.clone();
            edited["spec"][field] = value;
            check_added(Kind::IngressRoute, desired.clone(), edited, &[&format!("spec.{field}")]);
        }

        let policy = |selector: Value, ports: Value| json!({"spec": {"podSelector": selector, "ingress": [{"ports": ports}]}});
        let (selector, ports) =
            (json!({"matchLabels": {"tenant": "a"}}), json!([{"port": 80, "protocol": "TCP"}]));
        let desired = policy(selector.clone(), ports.clone());
        for (edited, expected) in [
            (
                policy(json!({"matchLabels": {"tenant": "a", "b": "c"}}), ports.clone()),
                "spec.podSelector.matchLabels.b",
            ),
            (
                policy(json!({"matchLabels": {"tenant": "a"}, "matchExpressions": [{}]}), ports),
                "spec.podSelector.matchExpressions",
            ),
            (
                policy(
                    selector.clone(),
                    json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]),
                ),
                "spec.ingress",
            ),
        ] {
            check_added(Kind::NetworkPolicy, desired.clone(), edited, &[expected]);
        }
        let peer = |peer: Value| json!({"spec": {"ingress": [{"from": [peer]}]}});
        check_added(
            Kind::NetworkPolicy,
            peer(json!({"podSelector": {"matchLabels": {"tenant": "a"}}})),
            peer(json!({"podSelector": {"matchLabels": {"tenant": "a"}}, "namespaceSelector": {}})),
            &["spec.ingress"],
        );

        let deployment = json!({"spec": {"replicas": 1}});
        for (field, value) in [("paused", json!(true)), ("minReadySeconds", json!(600))] {
            let mut edited = deployment.clone();
            edited["spec"][field] = value;
            edited["spec"]["progressDeadlineSeconds"] = json!(600);
            check_added(Kind::Deployment, deployment.clone(), edited, &[&format!("spec.{field}")]);
        }

        let monitor = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "podMetricsEndpoints": [{"port": "metrics"}]}});
        let mut opened = monitor.clone();
        opened["spec"]["namespaceSelector"] = json!({"any": true});
        opened["spec"]["podMetricsEndpoints"][0]["scheme"] = json!("http");
        check_added(Kind::PodMonitor, monitor, opened, &["spec.namespaceSelector"]);

        let middleware = |spec: Value| json!({"spec": spec});
        check_added(
            Kind::Middleware,
            middleware(json!({"headers": {"frameDeny": true}})),
            middleware(json!({"headers": {"frameDeny": true, "x": 1}, "stripPrefix": {"prefixes": ["/"]}})),
            &["spec.headers.x", "spec.stripPrefix"],
        );
    }

    #[test]
    fn what_others_add_on_purpose_is_no_difference() {
        let desired =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "chat", "image": "chat:1"}]}}}});
        let live = json!({"metadata": {"annotations": {"other": "tool"}}, "spec": {"template": {"spec": {
            "containers": [{"name": "proxy", "image": "mesh:1"}, {"name": "chat", "image": "chat:1"}]}}}});
        check(desired.clone(), live.clone(), &[]);
        assert_eq!(removal(Kind::Deployment, &desired, &live), None);
        let live = json!({"spec": {"selector": {"a": "b"}, "clusterIP": "10.0.0.1"}});
        let desired = json!({"spec": {"selector": {"a": "b"}}});
        assert_eq!(differences(Kind::Service, &desired, &live), Vec::<String>::new());
        assert_eq!(removal(Kind::Service, &desired, &live), None);
    }

    #[test]
    fn the_pods_of_an_autoscaler_are_as_many_as_it_wants_and_never_none() {
        let desired = json!({"spec": {"template": {}}});
        for (replicas, expected) in [(json!(7), None), (json!(null), None), (json!(0), Some("spec.replicas"))]
        {
            let live = json!({"spec": {"template": {}, "replicas": replicas}});
            check(desired.clone(), live, expected.as_slice());
        }
        check(json!({"spec": {"replicas": 0}}), json!({"spec": {"replicas": 0}}), &[]);
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
