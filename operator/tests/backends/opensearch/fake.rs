//! An OpenSearch with its security plugin, as far as the operator and a tenant meet it. It keeps nothing beyond its process.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, json};

use crate::stand_in;

/// The operator's account.
pub const USERNAME: &str = "operator";
pub const PASSWORD: &str = "search-password";

/// Returns its `host:port`. It runs from the first call on.
pub fn address() -> String {
    static ADDRESS: LazyLock<String> = LazyLock::new(|| stand_in::serve(routes()));
    ADDRESS.clone()
}

type Shared = Arc<Mutex<Server>>;

#[derive(Default)]
struct Server {
    /// Documents by id, of each index.
    indices: BTreeMap<String, BTreeMap<String, Value>>,
    /// Each with the index that it leads to.
    aliases: BTreeMap<String, String>,
    roles: BTreeMap<String, Value>,
    /// With their passwords.
    users: BTreeMap<String, Value>,
}

/// Who calls.
enum Caller {
    Operator,
    Tenant(String),
}

impl Server {
    /// Returns who calls; nobody with a wrong password.
    fn caller(&self, headers: &HeaderMap) -> Option<Caller> {
        let (name, password) = stand_in::account(headers)?;
        if (name.as_str(), password.as_str()) == (USERNAME, PASSWORD) {
            return Some(Caller::Operator);
        }
        let user = self.users.get(&name)?;
        (user["password"] == password).then_some(Caller::Tenant(name))
    }

    /// Returns what the roles of a tenant's user let it do with indices.
    fn rules(&self, name: &str) -> impl Iterator<Item = &Value> {
        let roles = texts(&self.users[name]["opendistro_security_roles"]);
        roles.filter_map(move |role| self.roles.get(role)).flat_map(|role| items(&role["index_permissions"]))
    }

    /// Reports whether a caller may use an index, by the roles of its user.
    fn lets(&self, caller: &Caller, index: &str) -> bool {
        let Caller::Tenant(name) = caller else { return true };
        let mut patterns = self.rules(name).flat_map(|rule| texts(&rule["index_patterns"]));
        patterns.any(|pattern| is_of(pattern, index))
    }

    /// Reports whether a caller may set aliases of the indices that it may use. As with the plugin, it does not matter how an alias is called.
    fn lets_alias(&self, caller: &Caller) -> bool {
        let Caller::Tenant(name) = caller else { return true };
        let mut actions = self.rules(name).flat_map(|rule| texts(&rule["allowed_actions"]));
        actions.any(|action| is_of(action, "indices:admin/aliases"))
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).filter_map(Value::as_str)
}

fn is_of(pattern: &str, index: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => index.starts_with(beginning),
        None => index == pattern,
    }
}

fn routes() -> Router {
    Router::new()
        .route("/_plugins/_security/authinfo", any(authinfo))
        .route("/_plugins/_security/api/{kind}/{name}", any(secured))
        .route("/{index}", any(index))
        .route("/{index}/_settings", any(index))
        .route("/{index}/_count", any(count))
        .route("/{index}/{action}/{id}", any(document))
        .with_state(Shared::default())
}

fn locked(server: &Shared) -> MutexGuard<'_, Server> {
    server.lock().unwrap()
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, "Unauthorized").into_response()
}

fn forbidden() -> Response {
    let why = json!({"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403});
    (StatusCode::FORBIDDEN, Json(why)).into_response()
}

fn missing(index: &str) -> Response {
    let why =
        json!({"error": {"type": "index_not_found_exception", "reason": format!("no such index [{index}]")}});
    (StatusCode::NOT_FOUND, Json(why)).into_response()
}

fn present(kind: &str, status: StatusCode) -> Response {
    (status, Json(json!({"error": {"type": kind, "reason": "it is there already"}}))).into_response()
}

async fn authinfo(State(server): State<Shared>, headers: HeaderMap) -> Response {
    match locked(&server).caller(&headers) {
        Some(_) => Json(json!({})).into_response(),
        None => unauthorized(),
    }
}

async fn secured(
    State(server): State<Shared>,
    Path((kind, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut server = locked(&server);
    match server.caller(&headers) {
        Some(Caller::Operator) => {}
        Some(Caller::Tenant(_)) => return forbidden(),
        None => return unauthorized(),
    }
    let is_user = kind == "internalusers";
    let known = if is_user { &mut server.users } else { &mut server.roles };
    if method == Method::PUT {
        let mut new: Value = serde_json::from_slice(&body).unwrap();
        // A user keeps the password that is not set again.
        if let Some(before) = known.get(&name)
            && is_user
            && new.get("password").is_none()
        {
            new["password"] = before["password"].clone();
        }
        known.insert(name, new);
        return Json(json!({"status": "OK"})).into_response();
    }
    let Some(found) = known.get(&name).cloned() else {
        let why = json!({"status": "NOT_FOUND", "message": format!("Resource '{name}' not found.")});
        return (StatusCode::NOT_FOUND, Json(why)).into_response();
    };
    if method == Method::DELETE {
        known.remove(&name);
        return Json(json!({"status": "OK"})).into_response();
    }
    // A password is never shown.
    let mut shown = found;
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("password");
        fields.insert("reserved".to_owned(), json!(false));
    }
    Json(json!({name: shown})).into_response()
}

async fn index(
    State(server): State<Shared>,
    Path(index): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut server = locked(&server);
    let Some(caller) = server.caller(&headers) else { return unauthorized() };
    if !server.lets(&caller, &index) {
        return forbidden();
    }
    let settings: Value = serde_json::from_slice(&body).unwrap_or_default();
    let aliases: Vec<_> =
        settings["aliases"].as_object().into_iter().flat_map(|aliases| aliases.keys().cloned()).collect();
    if !aliases.is_empty() && !server.lets_alias(&caller) {
        return forbidden();
    }
    match method {
        Method::PUT if server.indices.contains_key(&index) => {
            present("resource_already_exists_exception", StatusCode::BAD_REQUEST)
        }
        Method::PUT => {
            server.aliases.extend(aliases.into_iter().map(|alias| (alias, index.clone())));
            server.indices.insert(index, BTreeMap::new());
            Json(json!({"acknowledged": true})).into_response()
        }
        Method::DELETE => match server.indices.remove(&index) {
            Some(_) => {
                server.aliases.retain(|_, behind| *behind != index);
                Json(json!({"acknowledged": true})).into_response()
            }
            None => missing(&index),
        },
        // Under their own names, also those that only an alias leads to.
        _ => {
            let aliases = server.aliases.iter().filter(|(alias, _)| is_of(&index, alias));
            let behind = aliases.map(|(_, behind)| behind);
            let names = server.indices.keys().filter(|name| is_of(&index, name)).chain(behind);
            let found: BTreeMap<_, _> = names.map(|name| (name.clone(), json!({"settings": {}}))).collect();
            Json(found).into_response()
        }
    }
}

async fn count(State(server): State<Shared>, Path(index): Path<String>, headers: HeaderMap) -> Response {
    let server = locked(&server);
    let Some(caller) = server.caller(&headers) else { return unauthorized() };
    if !server.lets(&caller, &index) {
        return forbidden();
    }
    match server.indices.get(&index) {
        Some(documents) => Json(json!({"count": documents.len()})).into_response(),
        None => missing(&index),
    }
}

async fn document(
    State(server): State<Shared>,
    Path((index, action, id)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut server = locked(&server);
    let Some(caller) = server.caller(&headers) else { return unauthorized() };
    if !server.lets(&caller, &index) {
        return forbidden();
    }
    let Some(documents) = server.indices.get_mut(&index) else { return missing(&index) };
    match method {
        Method::PUT if action == "_create" && documents.contains_key(&id) => {
            present("version_conflict_engine_exception", StatusCode::CONFLICT)
        }
        Method::PUT => {
            documents.insert(id, serde_json::from_slice(&body).unwrap());
            Json(json!({"result": "created"})).into_response()
        }
        Method::DELETE => match documents.remove(&id) {
            Some(_) => Json(json!({"result": "deleted"})).into_response(),
            None => (StatusCode::NOT_FOUND, Json(json!({"result": "not_found"}))).into_response(),
        },
        _ => match documents.get(&id) {
            Some(document) => Json(json!({"_id": id, "found": true, "_source": document})).into_response(),
            None => (StatusCode::NOT_FOUND, Json(json!({"_id": id, "found": false}))).into_response(),
        },
    }
}
