//! An API server in memory: what the operator asks of one, and no more. The documentation of [`super`] names what it simplifies.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams, client::Body};
use serde_json::{Value, json};
use tower::service_fn;
use url::form_urlencoded;

use super::{
    line::{Call, Fault, Kind, Line, Target},
    request::Request,
};
use crate::{locks::lock, plan::testing::apply_merge_patch};

/// When everything was created and deleted.
const TIME: &str = "1970-01-01T00:00:00Z";

/// Which object: its kind as it stands in a path, its namespace and its name.
pub(super) type Key = (String, String, String);

/// One change of an object, or its end.
#[derive(Clone)]
pub(super) struct Change {
    pub key: Key,
    pub object: Arc<Value>,
    pub is_gone: bool,
}

#[derive(Clone, Default)]
pub(super) struct ApiServer {
    objects: BTreeMap<Key, Arc<Value>>,
    /// What each manager applied last, to an object or to its status.
    applied: BTreeMap<(Key, String), Value>,
    /// All changes: the number of an object's last one is its resource version.
    history: Vec<Change>,
}

type Answer = Result<Value, (u16, &'static str, String)>;

pub(super) fn key(kind: &str, namespace: &str, name: &str) -> Key {
    (kind.to_owned(), namespace.to_owned(), name.to_owned())
}

impl ApiServer {
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key).map(|object| &**object)
    }

    /// Returns the objects of a kind, in all namespaces.
    pub fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Key, &'a Value)> {
        self.objects().filter(move |(key, _)| key.0 == kind)
    }

    pub fn objects(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter().map(|(key, object)| (key, &**object))
    }

    /// Returns the changes that came after so many.
    pub fn changes_since(&self, known: usize) -> &[Change] {
        &self.history[known..]
    }

    /// Creates an object. One that names no UID gets one.
    pub fn create(&mut self, key: Key, manifest: &Value) -> Arc<Value> {
        let mut object = json!({});
        apply_merge_patch(&mut object, manifest);
        let metadata = &mut object["metadata"];
        if !key.1.is_empty() {
            metadata["namespace"] = key.1.clone().into();
        }
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.history.len()).into();
        }
        metadata["creationTimestamp"] = TIME.into();
        metadata["generation"] = 1.into();
        self.put(key, object)
    }

    /// Changes an object as a user or another controller does.
    pub fn edit(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) {
        let before = self.objects[key].clone();
        let mut object = (*before).clone();
        edit(&mut object);
        self.update(key, &before, object);
    }

    /// Deletes an object, or marks it as deleted while finalizers hold it.
    pub fn delete(&mut self, key: &Key) {
        let held = self.objects[key]["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if held {
            self.edit(key, |object| object["metadata"]["deletionTimestamp"] = TIME.into());
        } else {
            self.remove(key);
        }
    }

    fn update(&mut self, key: &Key, before: &Arc<Value>, mut object: Value) -> Arc<Value> {
        if object == **before {
            return before.clone();
        }
        let declared = |object: &Value| {
            let mut declared = object.clone();
            let fields = declared.as_object_mut().expect("an object");
            fields.retain(|field, _| field != "metadata" && field != "status");
            declared
        };
        if declared(&object) != declared(before) {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let metadata = &object["metadata"];
        let held = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
        if !metadata["deletionTimestamp"].is_null() && !held {
            self.remove(key);
            return Arc::new(object);
        }
        self.put(key.clone(), object)
    }

    fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        object["metadata"]["resourceVersion"] = (self.history.len() + 1).to_string().into();
        let object = Arc::new(object);
        self.objects.insert(key.clone(), object.clone());
        self.history.push(Change { key, object: object.clone(), is_gone: false });
        object
    }

    /// Removes an object and what it owned.
    fn remove(&mut self, key: &Key) {
        let Some(object) = self.objects.remove(key) else { return };
        self.applied.retain(|(applied, _), _| applied != key);
        let is_owned = |other: &Value| {
            let mut owners = other["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.any(|owner| owner["uid"] == object["metadata"]["uid"])
        };
        let owned: Vec<_> =
            self.objects().filter(|(_, other)| is_owned(other)).map(|(key, _)| key.clone()).collect();
        self.history.push(Change { key: key.clone(), object, is_gone: true });
        for key in owned {
            self.remove(&key);
        }
    }

    /// Answers a request, a list as of so many changes ago.
    fn answer(&mut self, request: &Request, changes_ago: usize) -> Answer {
        let Request { kind, namespace, name, body, .. } = request;
        let key = key(kind, namespace, name);
        let found = self.objects.get(&key).cloned();
        let missing = || (404, "NotFound", format!("{kind} \"{name}\" not found"));
        match request.method.as_str() {
            "GET" if name.is_empty() => {
                let items = self.objects_before(changes_ago);
                let items = items.iter().filter(|(key, object)| request.selects(key, object));
                let items: Vec<_> = items.map(|(_, object)| request.shown(object)).collect();
                Ok(json!({"apiVersion": "v1", "kind": "List",
                    "metadata": {"resourceVersion": self.history.len().to_string()}, "items": items}))
            }
            "GET" => Ok(request.shown(&*found.ok_or_else(missing)?)),
            // Nothing is written.
            "POST" if request.query.contains_key("dryRun") => Ok((**body).clone()),
            "POST" => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let key = (kind.clone(), namespace.clone(), name.to_owned());
                if self.objects.contains_key(&key) {
                    return Err((409, "AlreadyExists", format!("{kind} \"{name}\" already exists")));
                }
                Ok((*self.create(key, body)).clone())
            }
            "PATCH" => {
                let Some(before) = found else {
                    return if request.is_apply && !request.is_status {
                        self.apply_new(key, request)
                    } else {
                        Err(missing())
                    };
                };
                request.check(&before)?;
                Ok(request.shown(&self.patch(&key, &before, request)))
            }
            "DELETE" => {
                check_preconditions(&*found.ok_or_else(missing)?, &body["preconditions"])?;
                self.delete(&key);
                Ok(json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}))
            }
            method => panic!("{method} {kind} is not simulated"),
        }
    }

    /// Applies what there is no object of yet.
    fn apply_new(&mut self, key: Key, request: &Request) -> Answer {
        if request.body["metadata"]["uid"].is_string() {
            return Err((409, "Conflict", "uid mismatch: there is no object".to_owned()));
        }
        let body = request.declared();
        let created = self.create(key.clone(), &body);
        self.applied.insert((key, request.manager()), body);
        Ok((*created).clone())
    }

    fn patch(&mut self, key: &Key, before: &Arc<Value>, request: &Request) -> Arc<Value> {
        let body = request.declared();
        let mut object = (**before).clone();
        if request.is_apply {
            let owned = self.applied.insert((key.clone(), request.manager()), body.clone());
            let is_other =
                |(applied, manager): &(Key, String)| applied == key && *manager != request.manager();
            let others = self.applied.iter().filter(|(applied, _)| is_other(applied));
            let others: Vec<_> = others.map(|(_, applied)| applied).collect();
            remove_dropped(&mut object, &owned.unwrap_or_default(), &body, &others);
        }
        apply_merge_patch(&mut object, &body);
        self.update(key, before, object)
    }

    fn objects_before(&self, changes: usize) -> BTreeMap<Key, Arc<Value>> {
        if changes == 0 {
            return self.objects.clone();
        }
        let mut objects = BTreeMap::new();
        for Change { key, object, is_gone } in &self.history[..self.history.len().saturating_sub(changes)] {
            if *is_gone {
                objects.remove(key);
            } else {
                objects.insert(key.clone(), object.clone());
            }
        }
        objects
    }
}

fn check_preconditions(found: &Value, expected: &Value) -> Result<(), (u16, &'static str, String)> {
    for field in ["uid", "resourceVersion"] {
        if !expected[field].is_null() && expected[field] != found["metadata"][field] {
            return Err((409, "Conflict", format!("precondition failed: {field} is another one")));
        }
    }
    Ok(())
}

/// Removes what was applied before and is not applied any more, by this manager or by others.
fn remove_dropped(target: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    let (Some(target), Some(before)) = (target.as_object_mut(), before.as_object()) else { return };
    for (name, value) in before {
        let others: Vec<_> = others.iter().filter_map(|other| other.get(name)).collect();
        match now.get(name) {
            None if others.is_empty() => _ = target.remove(name),
            None => {}
            Some(now) => {
                if let Some(target) = target.get_mut(name) {
                    remove_dropped(target, value, now, &others);
                }
            }
        }
    }
}

/// One term of a selector.
struct Term<'a> {
    name: &'a str,
    value: &'a str,
    /// Objects with the value are selected, or those without it.
    is_equal: bool,
}

impl Term<'_> {
    fn holds(&self, found: Option<&Value>) -> bool {
        (found.and_then(Value::as_str) == Some(self.value)) == self.is_equal
    }
}

fn terms(selector: &str) -> impl Iterator<Item = Term<'_>> {
    selector.split(',').filter(|term| !term.is_empty()).map(|term| {
        let (name, value) =
            term.split_once('=').unwrap_or_else(|| panic!("the selector {term} is not simulated"));
        match name.strip_suffix('!') {
            Some(name) => Term { name, value, is_equal: false },
            None => Term { name, value: value.trim_start_matches('='), is_equal: true },
        }
    })
}

impl Request {
    async fn read(request: http::Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a request is in memory");
        let parts: Vec<_> = head.uri.path().trim_matches('/').split('/').collect();
        // `api/v1/...`, or `apis/GROUP/VERSION/...`.
        let parts = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
        let (namespace, parts) = match parts {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", parts),
        };
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        let header = |name: http::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let query = head.uri.query().unwrap_or_default();
        Self {
            method: head.method.to_string(),
            kind: part(0),
            namespace: namespace.to_owned(),
            name: part(1),
            is_status: part(2) == "status",
            is_apply: header(http::header::CONTENT_TYPE).starts_with("application/apply-patch"),
            wants_metadata: header(http::header::ACCEPT).contains("as=PartialObjectMetadata"),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body: Arc::new(serde_json::from_slice(&body).unwrap_or_default()),
        }
    }

    /// Returns the call that it is.
    pub fn call(self: &Arc<Self>) -> Call {
        let Self { method, kind, namespace, name, .. } = &**self;
        let status = if self.is_status { "/status" } else { "" };
        let kind_of_call = match method.as_str() {
            "GET" if name.is_empty() => Kind::List,
            "GET" => Kind::Read,
            _ if self.query.contains_key("dryRun") => Kind::Read,
            _ => Kind::ApiWrite,
        };
        let text = format!("{method} {kind} {namespace}/{name}{status}");
        Call { kind: kind_of_call, text, target: Target::Objects(self.clone()) }
    }

    /// Returns what of the body counts: of a request to the status, the status, and of another one everything else.
    fn declared(&self) -> Value {
        if self.is_status {
            return json!({"status": self.body["status"]});
        }
        let mut body = (*self.body).clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| field != "uid" && field != "resourceVersion");
        }
        body
    }

    /// Fails where the object that is changed is not the one that the body names. A UID is a field that cannot be changed, and one of those that do not
    /// count in a request to the status.
    fn check(&self, found: &Value) -> Result<(), (u16, &'static str, String)> {
        let named = &self.body["metadata"];
        check_preconditions(found, &json!({"resourceVersion": named["resourceVersion"]}))?;
        if !self.is_status && named["uid"].is_string() && named["uid"] != found["metadata"]["uid"] {
            return Err((422, "Invalid", "metadata.uid: Invalid value: field is immutable".to_owned()));
        }
        Ok(())
    }

    fn manager(&self) -> String {
        let manager = self.query.get("fieldManager").cloned().unwrap_or_default();
        if self.is_status { format!("{manager} (status)") } else { manager }
    }

    /// Reports whether an object is in the list that is requested.
    fn selects(&self, (kind, namespace, _): &Key, object: &Value) -> bool {
        let terms = |selector: &str| terms(self.query.get(selector).map(String::as_str).unwrap_or_default());
        let labels = &object["metadata"]["labels"];
        let field = |name: &str| object.pointer(&format!("/{}", name.replace('.', "/")));
        *kind == self.kind
            && (self.namespace.is_empty() || *namespace == self.namespace)
            && terms("labelSelector").all(|term| term.holds(labels.get(term.name)))
            && terms("fieldSelector").all(|term| term.holds(field(term.name)))
    }

    fn shown(&self, object: &Value) -> Value {
        if self.wants_metadata {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
        } else {
            object.clone()
        }
    }
}

/// Returns a client of an API server, whose requests pass a line.
pub(super) fn client(server: &Arc<Mutex<ApiServer>>, line: &Line) -> Client {
    let (server, line) = (server.clone(), line.clone());
    let service = service_fn(move |request: http::Request<Body>| {
        let (server, line) = (server.clone(), line.clone());
        async move {
            let request = Arc::new(Request::read(request).await);
            let work = |changes_ago| Ok(lock(&server).answer(&request, changes_ago));
            let failure = |fault| match fault {
                Fault::Fails => Ok(Err((500, "InternalError", "a fault".to_owned()))),
                Fault::Conflicts => Ok(Err((409, "Conflict", "the object has been modified".to_owned()))),
                _ => Err(io::Error::other("the connection was closed")),
            };
            let answer = line.call(request.call(), work, failure).await?;
            let (code, body) = match answer {
                Ok(body) => (200, body),
                Err((code, reason, message)) => {
                    let field = message.split_once(": Invalid value").map(|(field, _)| field);
                    let causes: Vec<_> = field
                        .iter()
                        .map(|field| json!({"reason": "FieldValueInvalid", "field": field}))
                        .collect();
                    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                        "code": code, "reason": reason, "message": message, "details": {"causes": causes}});
                    (code, status)
                }
            };
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, io::Error>(http::Response::builder().status(code).body(body).expect("a response"))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_selector_leaves_out_what_has_the_value_that_it_excludes() {
    let mut server = ApiServer::default();
    for (name, app, phase) in [
        ("chat-1", json!("chat"), json!("Running")),
        ("chat-2", json!("chat"), json!("Failed")),
        ("message-1", json!("message"), json!("Running")),
        ("bare", json!(null), json!(null)),
    ] {
        let manifest = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"tenant": "acme", "app": app}}, "status": {"phase": phase}});
        server.create(key("pods", "acme", name), &manifest);
    }
    let pods: Api<Pod> = Api::namespaced(client(&Arc::new(Mutex::new(server)), &Line::default()), "acme");
    let cases: [(&str, &str, &[&str]); 6] = [
        ("tenant=acme", "", &["bare", "chat-1", "chat-2", "message-1"]),
        ("tenant==acme,app=chat", "", &["chat-1", "chat-2"]),
        ("tenant=acme,app!=message", "", &["bare", "chat-1", "chat-2"]),
        ("tenant!=acme", "", &[]),
        ("tenant=acme", "status.phase!=Failed,status.phase!=Succeeded", &["bare", "chat-1", "message-1"]),
        ("app!=message", "status.phase=Running", &["chat-1"]),
    ];
    for (labels, fields, expected) in cases {
        let params = ListParams::default().labels(labels).fields(fields);
        let found = pods.list_metadata(&params).await.expect("a list").items;
        let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, expected, "{labels} and {fields}");
    }
}
