//! The management API of a broker that keeps nothing beyond its process and speaks no AMQP.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::stand_in;

/// The account with the tag `administrator`.
pub const USERNAME: &str = "operator";
pub const PASSWORD: &str = "broker-password";

/// Returns its `host:port`. It runs from the first call on.
pub fn address() -> String {
    static ADDRESS: LazyLock<String> = LazyLock::new(|| stand_in::serve(routes()));
    ADDRESS.clone()
}

type Shared = Arc<Mutex<Broker>>;

#[derive(Default)]
struct Broker {
    virtual_hosts: BTreeMap<String, VirtualHost>,
    users: BTreeMap<String, User>,
    /// By virtual host and user.
    permissions: BTreeMap<(String, String), Value>,
    parameters: BTreeMap<String, Value>,
}

#[derive(Default)]
struct VirtualHost {
    limits: Map<String, Value>,
    exchanges: Vec<Value>,
    queues: Vec<Value>,
    bindings: Vec<Value>,
    published: i64,
}

struct User {
    password: String,
    tags: String,
    limits: Map<String, Value>,
}

fn routes() -> Router {
    let administration = Router::new()
        .route("/api/whoami", get(whoami))
        .route("/api/vhosts/{name}", get(virtual_host).put(create).delete(delete))
        .route("/api/users/{name}", get(user).put(set_user).delete(delete_user))
        .route("/api/users/{name}/permissions", get(permissions))
        .route("/api/user-limits/{name}/{limit}", put(set_user_limit).delete(clear_user_limit))
        .route("/api/permissions/{host}/{user}", put(permit).delete(forbid))
        .route("/api/vhost-limits/{host}", get(limits))
        .route("/api/vhost-limits/{host}/{limit}", put(set_limit).delete(clear_limit))
        .route("/api/definitions", post(import_all))
        .route("/api/definitions/{host}", get(definitions).post(import))
        .route("/api/global-parameters/{name}", get(parameter).put(set_parameter).delete(clear_parameter))
        .layer(from_fn(administrator));
    // What a client does over AMQP.
    Router::new()
        .route("/api/publish/{host}", post(publish))
        .merge(administration)
        .with_state(Shared::default())
}

async fn administrator(request: Request, next: Next) -> Response {
    let given = stand_in::account(request.headers());
    if given == Some((USERNAME.to_owned(), PASSWORD.to_owned())) {
        next.run(request).await
    } else {
        problem(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed")
    }
}

fn problem(status: StatusCode, error: &str, reason: &str) -> Response {
    (status, Json(json!({"error": error, "reason": reason}))).into_response()
}

fn missing() -> Response {
    problem(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Returns what a removal answers.
fn removed<T>(found: Option<T>) -> Response {
    if found.is_some() { done() } else { missing() }
}

fn locked(broker: &Shared) -> MutexGuard<'_, Broker> {
    broker.lock().unwrap()
}

async fn whoami() -> Response {
    Json(json!({"name": USERNAME, "tags": ["administrator"]})).into_response()
}

async fn virtual_host(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    match locked(&broker).virtual_hosts.get(&name) {
        Some(_) => Json(json!({"name": name, "description": "", "tags": []})).into_response(),
        None => missing(),
    }
}

async fn create(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    locked(&broker).virtual_hosts.entry(name).or_default();
    StatusCode::CREATED.into_response()
}

async fn delete(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    let mut broker = locked(&broker);
    broker.permissions.retain(|(host, _), _| *host != name);
    removed(broker.virtual_hosts.remove(&name))
}

async fn user(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    let broker = locked(&broker);
    let Some(User { password, tags, limits }) = broker.users.get(&name) else { return missing() };
    let salt = [1_u8, 2, 3, 4];
    let hash = Sha256::new().chain_update(salt).chain_update(password).finalize();
    let hash = BASE64_STANDARD.encode([salt.as_slice(), hash.as_slice()].concat());
    let tags: Vec<_> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
    Json(json!({"name": name, "password_hash": hash, "tags": tags, "limits": limits,
        "hashing_algorithm": "rabbit_password_hashing_sha256"}))
    .into_response()
}

async fn set_user(
    State(broker): State<Shared>,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let text = |field: &str| body[field].as_str().map(str::to_owned);
    let Some((password, tags)) = text("password").zip(text("tags")) else {
        return problem(StatusCode::BAD_REQUEST, "bad_request", "password and tags are needed");
    };
    let mut broker = locked(&broker);
    let limits = broker.users.remove(&name).map(|user| user.limits).unwrap_or_default();
    broker.users.insert(name, User { password, tags, limits });
    StatusCode::CREATED.into_response()
}

async fn delete_user(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    let mut broker = locked(&broker);
    broker.permissions.retain(|(_, user), _| *user != name);
    removed(broker.users.remove(&name))
}

async fn set_user_limit(
    State(broker): State<Shared>,
    Path((name, limit)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    match locked(&broker).users.get_mut(&name) {
        None => missing(),
        Some(user) => {
            user.limits.insert(limit, body["value"].clone());
            done()
        }
    }
}

async fn clear_user_limit(
    State(broker): State<Shared>,
    Path((name, limit)): Path<(String, String)>,
) -> Response {
    match locked(&broker).users.get_mut(&name) {
        None => missing(),
        Some(user) => {
            user.limits.remove(&limit);
            done()
        }
    }
}

async fn permissions(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    let broker = locked(&broker);
    if !broker.users.contains_key(&name) {
        return missing();
    }
    let own = broker.permissions.iter().filter(|((_, user), _)| *user == name);
    Json(own.map(|(_, permission)| permission.clone()).collect::<Vec<_>>()).into_response()
}

async fn permit(
    State(broker): State<Shared>,
    Path((host, user)): Path<(String, String)>,
    Json(mut body): Json<Value>,
) -> Response {
    let mut broker = locked(&broker);
    if !broker.virtual_hosts.contains_key(&host) || !broker.users.contains_key(&user) {
        return problem(StatusCode::BAD_REQUEST, "bad_request", "vhost_or_user_not_found");
    }
    (body["vhost"], body["user"]) = (host.as_str().into(), user.as_str().into());
    broker.permissions.insert((host, user), body);
    StatusCode::CREATED.into_response()
}

async fn forbid(State(broker): State<Shared>, Path(place): Path<(String, String)>) -> Response {
    removed(locked(&broker).permissions.remove(&place))
}

async fn limits(State(broker): State<Shared>, Path(host): Path<String>) -> Response {
    match locked(&broker).virtual_hosts.get(&host) {
        None => missing(),
        Some(found) if found.limits.is_empty() => Json(json!([])).into_response(),
        Some(found) => Json(json!([{"vhost": host, "value": found.limits}])).into_response(),
    }
}

async fn set_limit(
    State(broker): State<Shared>,
    Path((host, limit)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    match locked(&broker).virtual_hosts.get_mut(&host) {
        None => missing(),
        Some(found) => {
            found.limits.insert(limit, body["value"].clone());
            done()
        }
    }
}

async fn clear_limit(State(broker): State<Shared>, Path((host, limit)): Path<(String, String)>) -> Response {
    match locked(&broker).virtual_hosts.get_mut(&host) {
        None => missing(),
        Some(found) => {
            found.limits.remove(&limit);
            done()
        }
    }
}

async fn definitions(State(broker): State<Shared>, Path(host): Path<String>) -> Response {
    match locked(&broker).virtual_hosts.get(&host) {
        None => problem(StatusCode::BAD_REQUEST, "bad_request", "vhost_not_found"),
        Some(VirtualHost { exchanges, queues, bindings, .. }) => {
            Json(json!({"rabbit_version": "3.10.8", "parameters": [], "policies": [],
                "exchanges": exchanges, "queues": queues, "bindings": bindings}))
            .into_response()
        }
    }
}

async fn import(State(broker): State<Shared>, Path(host): Path<String>, Json(body): Json<Value>) -> Response {
    add(&mut locked(&broker), &host, &body)
}

/// Adds to the virtual hosts that the items name.
async fn import_all(State(broker): State<Shared>, Json(body): Json<Value>) -> Response {
    let lists = body.as_object().into_iter().flat_map(Map::values);
    let items = lists.filter_map(Value::as_array).flatten();
    let hosts: BTreeSet<&str> = items.filter_map(|item| item["vhost"].as_str()).collect();
    for host in hosts {
        let mut own = body.clone();
        for list in own.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let Some(items) = list.as_array_mut() else { continue };
            items.retain(|item| item["vhost"] == host);
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                item.remove("vhost");
            }
        }
        let answer = add(&mut locked(&broker), host, &own);
        if !answer.status().is_success() {
            return answer;
        }
    }
    done()
}

/// Adds what is not there, and leaves what is.
fn add(broker: &mut Broker, host: &str, body: &Value) -> Response {
    let Some(found) = broker.virtual_hosts.get_mut(host) else {
        return problem(StatusCode::BAD_REQUEST, "bad_request", "vhost_not_found");
    };
    let list = |field: &str| body[field].as_array().cloned().unwrap_or_default();
    let most = found.limits.get("max-queues").and_then(Value::as_u64);
    for queue in list("queues") {
        if found.queues.iter().any(|known| known["name"] == queue["name"]) {
            continue;
        }
        if most.is_some_and(|most| found.queues.len() as u64 >= most) {
            return problem(StatusCode::BAD_REQUEST, "bad_request", "queue limit is reached");
        }
        found.queues.push(queue);
    }
    for exchange in list("exchanges") {
        if !found.exchanges.iter().any(|known| known["name"] == exchange["name"]) {
            found.exchanges.push(exchange);
        }
    }
    for binding in list("bindings") {
        if !found.bindings.contains(&binding) {
            found.bindings.push(binding);
        }
    }
    done()
}

async fn parameter(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    match locked(&broker).parameters.get(&name) {
        Some(value) => Json(json!({"name": name, "value": value})).into_response(),
        None => missing(),
    }
}

async fn set_parameter(
    State(broker): State<Shared>,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    locked(&broker).parameters.insert(name, body["value"].clone());
    done()
}

async fn clear_parameter(State(broker): State<Shared>, Path(name): Path<String>) -> Response {
    removed(locked(&broker).parameters.remove(&name))
}

/// Publishes with the account of a tenant, which may write to the exchange of jobs and has a queue behind it.
async fn publish(State(broker): State<Shared>, Path(host): Path<String>, headers: HeaderMap) -> Response {
    let mut broker = locked(&broker);
    let broker = &mut *broker;
    let is_known = |(name, password): &(String, String)| {
        broker.users.get(name).is_some_and(|user| user.password == *password)
    };
    let Some((name, _)) = stand_in::account(&headers).filter(is_known) else {
        return problem(StatusCode::UNAUTHORIZED, "not_authorized", "Login failed");
    };
    let may_write =
        broker.permissions.get(&(host.clone(), name)).is_some_and(|may| may["write"] == "^notify$");
    match broker.virtual_hosts.get_mut(&host) {
        Some(found) if may_write && !found.bindings.is_empty() => {
            found.published += 1;
            Json(found.published).into_response()
        }
        _ => problem(StatusCode::FORBIDDEN, "access_refused", "access refused"),
    }
}
