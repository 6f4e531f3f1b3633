//! A schema registry that keeps nothing beyond its process.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::stand_in;

/// The account that it wants.
pub const USERNAME: &str = "operator";
pub const PASSWORD: &str = "registry-password";

/// Returns its `host:port`. It runs from the first call on.
pub fn address() -> String {
    static ADDRESS: LazyLock<String> = LazyLock::new(|| stand_in::serve(routes()));
    ADDRESS.clone()
}

type Shared = Arc<Mutex<Registry>>;

#[derive(Default)]
struct Registry {
    /// Schemas by id, which begins at 1.
    schemas: Vec<String>,
    subjects: BTreeMap<String, Subject>,
    compatibility: BTreeMap<String, String>,
}

#[derive(Default)]
struct Subject {
    /// Numbers and ids. A number is used once, also of a subject that was deleted and came back.
    versions: Vec<(usize, usize)>,
    last: usize,
    is_deleted: bool,
}

impl Registry {
    fn id_of(&mut self, schema: &str) -> usize {
        let known = self.schemas.iter().position(|known| known == schema);
        known.unwrap_or_else(|| {
            self.schemas.push(schema.to_owned());
            self.schemas.len() - 1
        }) + 1
    }

    fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.get(name).filter(|subject| !subject.is_deleted)
    }

    fn version(&self, name: &str, (number, id): (usize, usize)) -> Response {
        let schema = &self.schemas[id - 1];
        Json(json!({"subject": name, "version": number, "id": id, "schemaType": "JSON", "schema": schema}))
            .into_response()
    }
}

#[derive(Deserialize)]
struct Registration {
    schema: String,
}

#[derive(Deserialize)]
struct Deletion {
    #[serde(default)]
    permanent: bool,
}

fn routes() -> Router {
    Router::new()
        .route("/subjects/{subject}/versions/latest", get(latest))
        .route("/subjects/{subject}/versions", post(register).get(versions))
        .route("/subjects/{subject}", post(look_up).delete(delete))
        .route("/schemas/ids/{id}", get(schema))
        .route("/config/{subject}", put(set_compatibility).get(compatibility))
        .layer(from_fn(authenticated))
        .with_state(Shared::default())
}

async fn authenticated(request: Request, next: Next) -> Response {
    let given = stand_in::account(request.headers());
    if given == Some((USERNAME.to_owned(), PASSWORD.to_owned())) {
        next.run(request).await
    } else {
        problem(StatusCode::UNAUTHORIZED, 401, "Unauthorized")
    }
}

fn problem(status: StatusCode, error_code: u32, message: &str) -> Response {
    (status, Json(json!({"error_code": error_code, "message": message}))).into_response()
}

fn missing(subject: &str) -> Response {
    problem(StatusCode::NOT_FOUND, 40401, &format!("Subject '{subject}' not found."))
}

fn locked(registry: &Shared) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap()
}

async fn latest(State(registry): State<Shared>, Path(name): Path<String>) -> Response {
    let registry = locked(&registry);
    match registry.subject(&name) {
        Some(subject) => registry.version(&name, *subject.versions.last().unwrap()),
        None => missing(&name),
    }
}

async fn versions(State(registry): State<Shared>, Path(name): Path<String>) -> Response {
    let registry = locked(&registry);
    match registry.subject(&name) {
        Some(subject) => {
            let numbers = subject.versions.iter().map(|(number, _)| *number);
            Json(numbers.collect::<Vec<_>>()).into_response()
        }
        None => missing(&name),
    }
}

async fn register(
    State(registry): State<Shared>,
    Path(name): Path<String>,
    Json(registration): Json<Registration>,
) -> Response {
    let mut registry = locked(&registry);
    let registry = &mut *registry;
    let checks = registry.compatibility.get(&name).is_some_and(|level| level != "NONE");
    let latest = registry.subject(&name).and_then(|subject| subject.versions.last().copied());
    if let Some((_, id)) = latest
        && checks
        && type_of(&registry.schemas[id - 1]) != type_of(&registration.schema)
    {
        return problem(
            StatusCode::CONFLICT,
            409,
            "Schema being registered is incompatible with an earlier schema",
        );
    }
    let id = registry.id_of(&registration.schema);
    let subject = registry.subjects.entry(name).or_default();
    subject.is_deleted = false;
    if !subject.versions.iter().any(|(_, known)| *known == id) {
        subject.last += 1;
        subject.versions.push((subject.last, id));
    }
    Json(json!({"id": id})).into_response()
}

/// As far as it checks: a whole registry compares all of a schema.
fn type_of(schema: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    Some(schema["type"].as_str()?.to_owned())
}

async fn look_up(
    State(registry): State<Shared>,
    Path(name): Path<String>,
    Json(registration): Json<Registration>,
) -> Response {
    let registry = locked(&registry);
    let Some(subject) = registry.subject(&name) else { return missing(&name) };
    let is_it = |(_, id): &&(usize, usize)| registry.schemas[id - 1] == registration.schema;
    match subject.versions.iter().find(is_it) {
        Some(version) => registry.version(&name, *version),
        None => problem(StatusCode::NOT_FOUND, 40403, "Schema not found"),
    }
}

async fn delete(
    State(registry): State<Shared>,
    Path(name): Path<String>,
    Query(deletion): Query<Deletion>,
) -> Response {
    let mut registry = locked(&registry);
    let registry = &mut *registry;
    let Some(subject) = registry.subjects.get_mut(&name) else { return missing(&name) };
    let numbers: Vec<_> = subject.versions.iter().map(|(number, _)| *number).collect();
    match (deletion.permanent, subject.is_deleted) {
        (false, true) => return problem(StatusCode::NOT_FOUND, 40404, "Subject was soft deleted."),
        (true, false) => return problem(StatusCode::CONFLICT, 40405, "Subject was not deleted first."),
        (true, true) => drop(registry.subjects.remove(&name)),
        (false, false) => {
            subject.is_deleted = true;
            subject.versions.clear();
            registry.compatibility.remove(&name);
        }
    }
    Json(numbers).into_response()
}

async fn schema(State(registry): State<Shared>, Path(id): Path<usize>) -> Response {
    match locked(&registry).schemas.get(id - 1) {
        Some(schema) => Json(json!({"schemaType": "JSON", "schema": schema})).into_response(),
        None => problem(StatusCode::NOT_FOUND, 40403, "Schema not found"),
    }
}

async fn set_compatibility(
    State(registry): State<Shared>,
    Path(name): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let level = body["compatibility"].as_str().unwrap_or_default().to_owned();
    locked(&registry).compatibility.insert(name, level);
    Json(body).into_response()
}

async fn compatibility(State(registry): State<Shared>, Path(name): Path<String>) -> Response {
    match locked(&registry).compatibility.get(&name) {
        Some(level) => Json(json!({"compatibilityLevel": level})).into_response(),
        None => problem(
            StatusCode::NOT_FOUND,
            40408,
            "Subject does not have subject-level compatibility configured",
        ),
    }
}
