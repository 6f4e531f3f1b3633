//! What is one tenant's own, and which of the calls that are made for it leaves that.
//!
//! Its own are the resource itself, the objects beside it that are called after it, and in each backend what is called after its id. Besides it may read which other
//! resources declare its id, and the Secrets beside it that its manifest names. Two things that a manifest names beside it are left to the kubelet: Secrets by which images
//! are pulled, and ConfigMaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{MessengerCell, MessengerTenant, TenantId};
use serde_json::{Value, json};

use super::{
    CELLS, SYSTEM, TENANTS, World,
    api_server::{ApiServer, Key, key},
    line::{Call, Kind as CallKind, Target},
    request::Request,
    systems::{Part, Systems},
};
use crate::desired::{self, INSTANCE, Kind};

/// Domain of hosts that the cell of these tests lets any tenant have.
pub(super) const ALLOWED_DOMAIN: &str = "example";
/// The label of namespaces from which pods are scraped.
const SCRAPERS: &str = "messenger.posthouse.dev/metrics";

/// What is a tenant's own.
pub(super) struct Bounds {
    key: Key,
    uid: String,
    id: String,
    /// The id that it declares is not another tenant's.
    has_id: bool,
    /// Kinds and names of its children.
    children: BTreeSet<(String, String)>,
    /// What its parts of backends are called.
    parts: BTreeSet<String>,
    /// All texts of its manifest.
    named: BTreeSet<String>,
    /// Secrets beside it that let its pods have them in their environment.
    lent: BTreeSet<String>,
    /// What is another tenant's: hosts, names in backends, what such names begin with, and what Secrets hold.
    others: Others,
}

#[derive(Default)]
struct Others {
    hosts: BTreeSet<String>,
    parts: BTreeSet<String>,
    prefixes: Vec<String>,
    secrets: BTreeSet<String>,
}

impl Bounds {
    /// Returns the bounds of a tenant that is there, beside others.
    pub fn of(key: &Key, server: &ApiServer) -> Self {
        let tenant = server.get(key).expect("it is there");
        let (uid, id) = (text(tenant, "/metadata/uid"), text(tenant, "/spec/tenantId"));
        let mut others = Others::default();
        let mut other_ids = BTreeSet::new();
        let mut other_uids = BTreeSet::new();
        for (_, other) in server.all(TENANTS).filter(|(other, _)| *other != key) {
            let other_id = text(other, "/spec/tenantId");
            others.hosts.extend(texts(&other["status"]["hosts"]));
            others.parts.extend(parts(&other_id));
            others.prefixes.extend(prefixes(&other_id));
            other_ids.insert(other_id);
            other_uids.insert(text(other, "/metadata/uid"));
        }
        let is_of_another = |object: &Value| owners(object).any(|owner| other_uids.contains(owner));
        let made = server.all("secrets").filter(|(_, secret)| is_of_another(secret));
        others.secrets = made.flat_map(|(_, secret)| secrets_in(secret)).collect();
        let consents = |(at, secret): &(&Key, &Value)| {
            let consent = &secret["metadata"]["annotations"][crds::ENV_ANNOTATION];
            at.1 == key.1 && *consent == key.2.as_str() && !is_of_another(secret)
        };
        let lent = server.all("secrets").filter(consents).map(|((_, _, name), _)| name.clone()).collect();
        Self {
            key: key.clone(),
            has_id: !other_ids.contains(&id),
            children: children(tenant, server),
            parts: parts(&id),
            named: texts(&tenant["spec"]).into_iter().collect(),
            lent,
            others,
            uid,
            id,
        }
    }

    /// Takes in what the manifest of the tenant names now.
    pub fn declare(&mut self, spec: &Value) {
        self.named = texts(spec).into_iter().collect();
    }

    /// Returns how a call that is made for the tenant leaves its bounds, if it does.
    pub fn left_by(&self, call: &Call) -> Option<String> {
        let left = match &call.target {
            Target::Objects(request) => self.left_at_api_server(request),
            Target::Part { name } => self.left_in_backend(call, name),
            Target::Addresses(id) => (id.as_str() != self.id).then(|| "another tenant's hosts".to_owned()),
        };
        left.map(|left| format!("{}: {left}", call.text))
    }

    fn left_at_api_server(&self, request: &Request) -> Option<String> {
        let Request { method, kind, namespace, name, query, body, .. } = request;
        let selects = |selector: &str, term: String| {
            let selector = query.get(selector).map(String::as_str).unwrap_or_default();
            selector.split(',').any(|known| known == term)
        };
        if kind == TENANTS && name.is_empty() {
            let is_own = method == "GET" && selects("fieldSelector", format!("spec.tenantId={}", self.id));
            return (!is_own).then(|| "all tenants".to_owned());
        }
        if *namespace != self.key.1 {
            return Some(format!("namespace {namespace:?}"));
        }
        if kind == TENANTS {
            return if *name == self.key.2 {
                self.left_by_status(body)
            } else {
                Some("another tenant".to_owned())
            };
        }
        if kind == "events" {
            let regarding = &body["regarding"]["uid"];
            return (*regarding != self.uid.as_str()).then(|| format!("about {regarding}"));
        }
        if method == "GET" && name.is_empty() {
            let is_own = selects("labelSelector", format!("{}={}", crds::TENANT_LABEL, self.id));
            return (!is_own).then(|| "also what is not labelled as the tenant's".to_owned());
        }
        if method == "GET" && kind == "secrets" && self.named.contains(name) {
            return None;
        }
        if !self.children.contains(&(kind.clone(), name.clone())) {
            return Some("no child of the tenant is called so".to_owned());
        }
        match method.as_str() {
            "PATCH" => self.left_by_manifest(request),
            "GET" | "DELETE" => None,
            _ => Some("nothing is made like that".to_owned()),
        }
    }

    fn left_by_status(&self, body: &Value) -> Option<String> {
        let hosts = texts(&body["status"]["hosts"]);
        hosts.iter().find(|host| !self.is_own_host(host)).map(|host| format!("the host {host}"))
    }

    fn left_by_manifest(&self, Request { name, is_apply, body, .. }: &Request) -> Option<String> {
        let metadata = &body["metadata"];
        let is_named_so = metadata["name"].as_str().is_none_or(|named| named == name);
        // What holds the number of pods declares nothing else.
        let is_whole = *is_apply && metadata["labels"].is_object();
        if !is_named_so || (is_whole && owners(body).next().is_none()) {
            return Some("an object that is not named so, or has no owner".to_owned());
        }
        self.left_in(body)
    }

    fn left_in(&self, value: &Value) -> Option<String> {
        match value {
            Value::Object(fields) => {
                fields.iter().find_map(|(field, value)| self.left_in_field(field, value))
            }
            Value::Array(items) => items.iter().find_map(|item| self.left_in(item)),
            _ => None,
        }
    }

    /// Looks at what names another object, and at what takes a pod or its address out of its namespace.
    fn left_in_field(&self, field: &str, value: &Value) -> Option<String> {
        let all_are = |kind: &str| value.as_array().into_iter().flatten().all(|one| self.is_child(kind, one));
        let is_own = match field {
            // Of these an author of tenants chooses keys, too.
            "annotations" | "nodeSelector" => true,
            "labels" => self.has_labels(value, false),
            "matchLabels" => self.has_labels(value, true),
            "selector" if value["matchLabels"].is_null() => self.has_labels(value, true),
            "namespaceSelector" => *value == json!({"matchLabels": {SCRAPERS: "allowed"}}),
            "namespace" => *value == self.key.1.as_str(),
            "ownerReferences" => owners(&json!({"metadata": {field: value}})).all(|owner| owner == self.uid),
            "roleRef" => value["kind"] == "ClusterRole" && value["name"] == "posthouse-tenant-secrets",
            "subjects" => {
                *value
                    == json!([{"kind": "ServiceAccount", "name": "posthouse-operator", "namespace": SYSTEM}])
            }
            "serviceAccountName" => self.is_child("serviceaccounts", &json!({"name": value})),
            "automountServiceAccountToken" => *value == false,
            "secretKeyRef" | "credentials" => {
                let is_lent = value["name"].as_str().is_some_and(|name| self.lent.contains(name));
                is_lent || self.is_child("secrets", value)
            }
            "scaleTargetRef" => value["kind"] == "Deployment" && self.is_child("deployments", value),
            "service" => self.is_child("services", value),
            "services" => all_are("services"),
            "middlewares" => all_are("middlewares"),
            "match" => value.as_str().is_some_and(|rule| self.is_own_rule(rule)),
            "data" => {
                let secrets = secrets_in(&json!({field: value}));
                !secrets.iter().any(|secret| self.others.secrets.contains(secret))
            }
            "externalIPs" | "externalName" | "hostIPC" | "hostNetwork" | "hostPID" | "hostPath"
            | "projected" => false,
            _ => return self.left_in(value),
        };
        // What a Secret holds is not shown.
        (!is_own).then(|| {
            if field == "data" {
                "a credential of another tenant".to_owned()
            } else {
                format!("{field}: {value}")
            }
        })
    }

    /// Reports whether labels are of the tenant's objects. Those that `select` have to name it.
    fn has_labels(&self, labels: &Value, select: bool) -> bool {
        let label = |label: &str, own: &str| Some(labels.get(label)?.as_str()? == own);
        let own = [label(INSTANCE, &self.key.2), label(crds::TENANT_LABEL, &self.id)];
        !own.contains(&Some(false)) && (!select || own.contains(&Some(true)))
    }

    fn is_child(&self, kind: &str, reference: &Value) -> bool {
        let name = reference["name"].as_str().unwrap_or_default();
        reference["namespace"].is_null() && self.children.contains(&(kind.to_owned(), name.to_owned()))
    }

    /// Reports whether a rule of a route is about hosts of the tenant alone.
    fn is_own_rule(&self, rule: &str) -> bool {
        let mut hosts = rule.split("Host(`").skip(1).map(|rest| rest.split('`').next().unwrap_or_default());
        rule.trim_start_matches('(').starts_with("Host(`") && hosts.all(|host| self.is_own_host(host))
    }

    fn is_own_host(&self, host: &str) -> bool {
        let is_below = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let is_granted = is_below(&format!("{}.localhost", self.id)) || is_below(ALLOWED_DOMAIN);
        self.has_id && is_granted && !self.others.hosts.contains(host)
    }

    fn left_in_backend(&self, call: &Call, name: &str) -> Option<String> {
        if !self.parts.contains(name) {
            return Some(format!("the part {name}"));
        }
        if call.kind.is_write() && !self.has_id {
            return Some(format!("the part {name}, which is another tenant's"));
        }
        let mut before = "";
        for word in call.text.split_whitespace() {
            let word = word.trim_matches(|letter: char| "():,;".contains(letter));
            let is_foreign = self.others.parts.contains(word)
                || self.others.prefixes.iter().any(|prefix| word.starts_with(prefix.as_str()));
            // An identity provider has its name within the realm.
            if is_foreign && self.has_id && before != "provider" {
                return Some(format!("{word}, which is another tenant's"));
            }
            before = word;
        }
        None
    }

    /// Returns the first difference in what is not the tenant's.
    pub fn touched(&self, before: &World, server: &ApiServer, systems: &Systems) -> Option<String> {
        let (old, new) = (self.other_objects(&before.server), self.other_objects(server));
        if let Some(key) = old.keys().chain(new.keys()).find(|key| old.get(*key) != new.get(*key)) {
            return Some(format!("{key:?}"));
        }
        let (old, new) = (self.other_parts(&before.systems), self.other_parts(systems));
        let mut keys = old.keys().chain(new.keys());
        keys.find(|key| old.get(*key) != new.get(*key)).map(|key| format!("{key:?}"))
    }

    fn other_objects<'a>(&self, server: &'a ApiServer) -> BTreeMap<&'a Key, &'a Value> {
        server.objects().filter(|(key, object)| !self.owns(key, object)).collect()
    }

    fn other_parts<'a>(&self, systems: &'a Systems) -> BTreeMap<&'a (&'static str, String), &'a Part> {
        let is_own = |name: &String| self.has_id && self.parts.contains(name);
        systems.parts.iter().filter(|((_, name), _)| !is_own(name)).collect()
    }

    /// Reports whether an object is the tenant's. The cell belongs to none: what is written there is judged by its call.
    fn owns(&self, key: &Key, object: &Value) -> bool {
        match key.0.as_str() {
            CELLS => true,
            "events" => object["regarding"]["uid"] == self.uid.as_str(),
            // The controllers of Kubernetes make them.
            "pods" => key.1 == self.key.1 && self.has_labels(&object["metadata"]["labels"], true),
            _ => *key == self.key || owners(object).any(|owner| owner == self.uid),
        }
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).expect("it has one").to_owned()
}

/// Returns all texts of a value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Returns the UIDs of an object's owners.
fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.map(|owner| owner["uid"].as_str().unwrap_or_default())
}

/// Returns what is secret of a Secret: names of accounts follow from the id.
fn secrets_in(secret: &Value) -> Vec<String> {
    let is_secret = |name: &str| {
        let all = catalog::Secret::ALL.iter();
        let mut keys = all.flat_map(|secret| secret.keys.iter().map(|key| (secret.is_copy(), key)));
        keys.any(|(is_copy, key)| key.key == name && (is_copy || key.is_generated))
    };
    let data = secret["data"].as_object().into_iter().flatten().filter(|(name, _)| is_secret(name));
    data.filter_map(|(_, value)| Some(value.as_str()?.to_owned())).collect()
}

/// Returns what backends call the part of a tenant.
fn parts(id: &str) -> BTreeSet<String> {
    let Ok(id) = id.parse::<TenantId>() else { return BTreeSet::new() };
    [
        id.kafka_user().to_string(),
        id.realm().to_string(),
        id.cache_user().to_string(),
        id.keyspace().to_string(),
        id.database().to_string(),
        id.bucket().to_string(),
        id.search().to_string(),
        id.virtual_host().to_string(),
    ]
    .into()
}

/// Returns what names within such a part begin with.
fn prefixes(id: &str) -> Vec<String> {
    let Ok(id) = id.parse::<TenantId>() else { return Vec::new() };
    vec![id.kafka_prefix(), id.cache_prefix(), format!("{}-", id.search())]
}

/// Returns kinds and names of what the operator makes for a tenant, whatever its manifest says.
fn children(tenant: &Value, server: &ApiServer) -> BTreeSet<(String, String)> {
    let cell = server.get(&key(CELLS, "", "local")).expect("it is there");
    let cell: MessengerCell = serde_json::from_value(cell.clone()).expect("a cell");
    let mut children = BTreeSet::new();
    for topology in ["Distributed", "Compact"] {
        for (is_suspended, wakes) in [(false, json!(null)), (true, json!(null)), (true, json!({}))] {
            let mut manifest = tenant.clone();
            let spec = &mut manifest["spec"];
            spec["topology"] = topology.into();
            spec["suspended"] = is_suspended.into();
            spec["wakeOnConnect"] = wakes;
            for service in catalog::Service::ALL.iter().filter(|service| service.is_optional) {
                spec["services"][service.as_str()]["enabled"] = true.into();
            }
            let resource: MessengerTenant = serde_json::from_value(manifest).expect("a tenant");
            children.insert(desired::secret_access(&resource, SYSTEM).key());
            for (kind, name) in desired::names(&resource, &cell.spec) {
                if kind == Kind::Deployment {
                    let scaled = [Kind::PodDisruptionBudget, Kind::HorizontalPodAutoscaler];
                    children.extend(scaled.map(|kind| (kind, name.clone())));
                }
                children.insert((kind, name));
            }
        }
    }
    let name = text(tenant, "/metadata/name");
    children.extend(catalog::Secret::ALL.iter().map(|secret| (Kind::Secret, format!("{name}-{secret}"))));
    children.into_iter().map(|(kind, name)| (kind.api_resource().plural, name)).collect()
}

/// Returns a server with the tenant `acme`, another one whose name begins like its own beside it, and one elsewhere.
fn server() -> ApiServer {
    let mut server = World::with_cell().server;
    for (namespace, name, id) in
        [("teams", "acme", "acme"), ("teams", "acme-two", "initech"), ("globex", "globex", "globex")]
    {
        let tenant = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
            "metadata": {"name": name, "uid": format!("uid-of-{id}")},
            "spec": {"tenantId": id, "cellRef": {"name": "local"}, "services": {"chat": {"template":
                {"env": [{"name": "X_KEY", "valueFrom": {"secretKeyRef": {"name": "agent", "key": "key"}}}]}}}},
            "status": {"hosts": [format!("{id}.localhost"), format!("{id}.example")]}});
        server.create(key(TENANTS, namespace, name), &tenant);
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("{name}-kafka"), "ownerReferences": [{"uid": format!("uid-of-{id}")}]},
            "data": {"username": format!("name-of-{id}"), "password": format!("password-of-{id}")}});
        server.create(key("secrets", namespace, &format!("{name}-kafka")), &secret);
    }
    let agent = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "agent", "annotations": {(crds::ENV_ANNOTATION): "acme"}}, "data": {"key": "a2V5"}});
    server.create(key("secrets", "teams", "agent"), &agent);
    server
}

fn request(method: &str, kind: &str, namespace: &str, name: &str, body: Value) -> Request {
    Request {
        method: method.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        is_apply: method == "PATCH",
        body: Arc::new(body),
        ..Request::default()
    }
}

fn list(kind: &str, namespace: &str, selector: &str, terms: &str) -> Request {
    let query = BTreeMap::from([(selector.to_owned(), terms.to_owned())]);
    Request { query, ..request("GET", kind, namespace, "", json!(null)) }
}

/// Returns an edit of a child in what this says.
fn apply(kind: &str, name: &str, says: Value) -> Request {
    let metadata = json!({"name": name, "namespace": "teams", "labels": {INSTANCE: "acme", (crds::TENANT_LABEL): "acme"},
        "ownerReferences": [{"uid": "uid-of-acme"}]});
    let mut body = json!({ "metadata": metadata });
    body.as_object_mut().expect("an object").extend(says.as_object().cloned().expect("an object"));
    request("PATCH", kind, "teams", name, body)
}

fn pod(says: Value) -> Request {
    apply("deployments", "acme-chat", json!({"spec": {"template": {"spec": says}}}))
}

fn route(rule: &str) -> Request {
    apply("ingressroutes", "acme-chat", json!({"spec": {"routes": [{"match": rule}]}}))
}

#[test]
fn calls_about_what_is_a_tenants_own_stay_within_its_bounds() {
    let bounds = Bounds::of(&key(TENANTS, "teams", "acme"), &server());
    let own = format!("{}=acme,app.kubernetes.io/managed-by=posthouse-operator", crds::TENANT_LABEL);
    let container =
        |name: &str| json!({"env": [{"valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}}]});
    for request in [
        list(TENANTS, "", "fieldSelector", "spec.tenantId=acme"),
        list("deployments", "teams", "labelSelector", &own),
        request("GET", "secrets", "teams", "acme-kafka", json!(null)),
        request("GET", "secrets", "teams", "agent", json!(null)),
        request("GET", "rolebindings", "teams", "acme-posthouse-secrets", json!(null)),
        request("DELETE", "services", "teams", "acme-compact", json!(null)),
        request("PATCH", TENANTS, "teams", "acme", json!({"status": {"hosts": ["chat.acme.localhost"]}})),
        request("POST", "events", "teams", "", json!({"regarding": {"uid": "uid-of-acme"}})),
        pod(
            json!({"serviceAccountName": "acme-chat", "containers": [container("acme-kafka"), container("agent")]}),
        ),
        route("(Host(`acme.localhost`) || Host(`acme.example`)) && (Path(`/`))"),
        apply("services", "acme-chat", json!({"spec": {"selector": {INSTANCE: "acme"}}})),
        apply(
            "secrets",
            "acme-kafka",
            json!({"data": {"username": "name-of-acme", "password": "password-of-acme"}}),
        ),
    ] {
        assert_eq!(bounds.left_by(&Arc::new(request).call()), None);
    }
    let part = |text: &str| part(CallKind::BackendWrite, "acme", text);
    for text in
        ["Kafka: create topic acme.chat.events", "Keycloak: create identity provider globex of realm acme"]
    {
        assert_eq!(bounds.left_by(&part(text)), None);
    }
}

fn part(kind: CallKind, name: &str, text: &str) -> Call {
    Call { kind, text: text.to_owned(), target: Target::Part { name: name.to_owned() } }
}

#[test]
fn a_call_that_leaves_the_bounds_of_a_tenant_is_seen() {
    let bounds = Bounds::of(&key(TENANTS, "teams", "acme"), &server());
    let null = || json!(null);
    let env = |name: &str| {
        pod(json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": name, "key": "key"}}}]}]}))
    };
    for (request, expected) in [
        (list(TENANTS, "", "fieldSelector", "spec.tenantId=globex"), "all tenants"),
        (list("deployments", "", "labelSelector", "messenger.posthouse.dev/tenant=acme"), "namespace \"\""),
        (
            list("pods", "teams", "labelSelector", "app.kubernetes.io/managed-by=posthouse-operator"),
            "also what",
        ),
        (request("GET", "secrets", "kube-system", "agent", null()), "namespace \"kube-system\""),
        (request("GET", "secrets", "teams", "acme-two-kafka", null()), "no child"),
        (request("DELETE", "deployments", "teams", "acme-two-chat", null()), "no child"),
        (request("PATCH", "services", "globex", "acme-chat", null()), "namespace \"globex\""),
        (request("PATCH", TENANTS, "teams", "acme-two", null()), "another tenant"),
        (
            request("PATCH", TENANTS, "teams", "acme", json!({"status": {"hosts": ["globex.example"]}})),
            "the host",
        ),
        (request("PATCH", CELLS, "", "local", null()), "namespace \"\""),
        (request("POST", "events", "teams", "", json!({"regarding": {"uid": "uid-of-initech"}})), "about"),
        (request("POST", "services", "teams", "acme-chat", null()), "nothing is made like that"),
        (env("acme-two-kafka"), "secretKeyRef"),
        (env("other"), "secretKeyRef"),
        (pod(json!({"serviceAccountName": "acme-two-chat"})), "serviceAccountName"),
        (pod(json!({"automountServiceAccountToken": true})), "automountServiceAccountToken"),
        (pod(json!({"hostNetwork": false})), "hostNetwork"),
        (pod(json!({"volumes": [{"hostPath": {"path": "/"}}]})), "hostPath"),
        (route("Host(`globex.localhost`)"), "match"),
        (route("Host(`acme.localhost`) || Host(`globex.example`)"), "match"),
        (route("PathPrefix(`/`)"), "match"),
        (apply("ingressroutes", "acme-chat", json!({"services": [{"name": "acme-two-chat"}]})), "services"),
        (
            apply(
                "ingressroutes",
                "acme-chat",
                json!({"services": [{"name": "acme-chat", "namespace": "globex"}]}),
            ),
            "services",
        ),
        (apply("middlewares", "acme-errors", json!({"service": {"name": "globex"}})), "service"),
        (apply("services", "acme-chat", json!({"spec": {"selector": {"app": "any"}}})), "selector"),
        (apply("services", "acme-chat", json!({"spec": {"externalIPs": ["192.0.2.1"]}})), "externalIPs"),
        (
            apply(
                "networkpolicies",
                "acme-default-deny",
                json!({"podSelector": {"matchLabels": {INSTANCE: "acme-two"}}}),
            ),
            "matchLabels",
        ),
        (
            apply("networkpolicies", "acme-default-deny", json!({"namespaceSelector": {}})),
            "namespaceSelector",
        ),
        (
            apply(
                "rolebindings",
                "acme-posthouse-secrets",
                json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}}),
            ),
            "roleRef",
        ),
        (apply("rolebindings", "acme-posthouse-secrets", json!({"subjects": []})), "subjects"),
        (
            apply("secrets", "acme-kafka", json!({"data": {"password": "password-of-globex"}})),
            "a credential of",
        ),
        (apply("services", "acme-chat", json!({"metadata": {"name": "acme-user"}})), "not named so"),
        (apply("services", "acme-chat", json!({"metadata": {"labels": {}}})), "has no owner"),
        (
            apply(
                "services",
                "acme-chat",
                json!({"metadata": {"ownerReferences": [{"uid": "uid-of-globex"}]}}),
            ),
            "ownerReferences",
        ),
        (apply("services", "acme-chat", json!({"metadata": {"namespace": "globex"}})), "namespace"),
    ] {
        let call = Arc::new(request).call();
        let left = bounds.left_by(&call).unwrap_or_else(|| panic!("{} stays within ({expected})", call.text));
        assert!(left.contains(expected), "{left} is not {expected}");
        assert!(!left.contains("password-of"), "{left}");
    }
    for (name, text, expected) in [
        ("globex", "Kafka: observe", "the part globex"),
        ("acme", "Kafka: create topic globex.chat.events", "globex.chat.events"),
        ("mt_acme", "Cql: grant SELECT on keyspace mt_globex to role mt_acme", "mt_globex"),
        ("mt-acme", "S3: create bucket mt-globex", "mt-globex"),
    ] {
        let left = bounds.left_by(&part(CallKind::BackendWrite, name, text));
        assert!(left.is_some_and(|left| left.contains(expected)), "{text}");
    }
    let addresses = Target::Addresses("globex".parse().expect("an id"));
    let probe = Call { kind: CallKind::Probe, text: "probe globex".to_owned(), target: addresses };
    assert!(bounds.left_by(&probe).is_some());
}

#[test]
fn of_an_id_that_is_another_tenants_nothing_may_be_written() {
    let mut server = server();
    let rival = key(TENANTS, "teams", "rival");
    let tenant = json!({"apiVersion": "messenger.posthouse.dev/v1alpha1", "kind": "MessengerTenant",
        "metadata": {"name": "rival", "uid": "uid-of-rival"}, "spec": {"tenantId": "globex", "cellRef": {"name": "local"}}});
    server.create(rival.clone(), &tenant);
    let bounds = Bounds::of(&rival, &server);
    assert_eq!(bounds.left_by(&part(CallKind::Read, "globex", "Kafka: ownership")), None);
    assert!(bounds.left_by(&part(CallKind::BackendWrite, "globex", "Kafka: set the password")).is_some());
    let status =
        request("PATCH", TENANTS, "teams", "rival", json!({"status": {"hosts": ["globex.localhost"]}}));
    assert!(bounds.left_by(&Arc::new(status).call()).is_some());
}

#[test]
fn whatever_changes_beside_a_tenant_is_seen() {
    let before = World { server: server(), systems: Systems::default() };
    let acme = key(TENANTS, "teams", "acme");
    let bounds = Bounds::of(&acme, &before.server);
    let touched = |edit: &dyn Fn(&mut ApiServer)| {
        let mut server = before.server.clone();
        edit(&mut server);
        bounds.touched(&before, &server, &before.systems)
    };
    let secret = |namespace: &str, name: &str| key("secrets", namespace, name);
    assert_eq!(touched(&|_| {}), None);
    assert_eq!(touched(&|server| server.edit(&acme, |tenant| tenant["spec"]["paused"] = true.into())), None);
    assert_eq!(touched(&|server| server.delete(&secret("teams", "acme-kafka"))), None);
    let deleted = touched(&|server| server.delete(&secret("teams", "agent")));
    assert!(deleted.is_some_and(|key| key.contains("agent")));
    let edited = touched(&|server| {
        server.edit(&secret("globex", "globex-kafka"), |secret| secret["type"] = "Opaque".into());
    });
    assert!(edited.is_some_and(|key| key.contains("globex-kafka")));
    let made =
        touched(&|server| _ = server.create(key("services", "kube-system", "new"), &json!({"metadata": {}})));
    assert!(made.is_some_and(|key| key.contains("kube-system")));
}
