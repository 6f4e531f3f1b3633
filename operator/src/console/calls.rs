//! The calls that the console makes. Each is one of the API server's own, below `/k8s`, and what it answers comes back as it is.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{FromRequestParts, Query, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
        header::{
            ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, USER_AGENT, WARNING,
            WWW_AUTHENTICATE,
        },
        request::Parts,
    },
    response::Response,
    routing::{any, get, post},
};
use kube::Client;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tracing::warn;

use super::refusal::Refusal;
use crate::{text::one_line, time_limit::within};

/// Server-side apply.
const APPLY: &str = "application/apply-patch+yaml";
/// A change of single fields, such as `spec.paused`.
const MERGE: &str = "application/merge-patch+json";
pub(super) const JSON: &str = "application/json";

/// Who the caller is.
pub(super) const SELF_REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
/// What the caller may do.
pub(super) const ACCESS_REVIEW: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// The name under which Kubernetes records who owns a field that was changed here.
const FIELD_MANAGER: &str = "posthouse-console";
const AGENT: &str = concat!("posthouse-console/", env!("CARGO_PKG_VERSION"));
/// Until the API server begins to answer. Webhooks of an installation may take 30 s of it.
const TIME_LIMIT: Duration = Duration::from_secs(40);
/// What of a response the page may need beside its body.
const PASSED: [HeaderName; 5] =
    [CONTENT_TYPE, RETRY_AFTER, WARNING, WWW_AUTHENTICATE, HeaderName::from_static("audit-id")];
/// Of what is read here and is not passed on as it comes: a review, or a refusal.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Whether a page called, and of which address it is. Browsers set it, and no script can.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub(super) fn router(server: Client) -> Router {
    Router::new()
        .route("/apis/messenger.posthouse.dev/v1alpha1/messengertenants", get(read))
        .route("/apis/messenger.posthouse.dev/v1alpha1/namespaces/{namespace}/messengertenants", get(read))
        .route(
            "/apis/messenger.posthouse.dev/v1alpha1/namespaces/{namespace}/messengertenants/{name}",
            get(read).patch(change).delete(delete),
        )
        .route("/apis/messenger.posthouse.dev/v1alpha1/messengercells", get(read))
        .route("/apis/messenger.posthouse.dev/v1alpha1/messengercells/{name}", get(read).patch(change))
        // What runs of a tenant, what it takes, and what happened to it.
        .route("/apis/apps/v1/namespaces/{namespace}/deployments", get(read))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", get(read))
        .route("/api/v1/namespaces/{namespace}/events", get(read))
        // The page shows what would be refused, and refuses nothing by itself.
        .route(SELF_REVIEW, post(review))
        .route(ACCESS_REVIEW, post(review))
        .route("/{*path}", any(|| async { Refusal::NotForwarded }))
        .with_state(server)
}

/// Who calls, and what for.
pub(super) struct Call {
    /// `Bearer ...`, as it came.
    pub token: HeaderValue,
    uri: Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for Call {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // A page of another address has no token, so this stands behind another wall.
        if parts.headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin") {
            return Err(Refusal::CrossSite);
        }
        if !is_plain(parts.uri.path()) {
            return Err(Refusal::NotForwarded);
        }
        let mut token = bearer(&parts.headers).ok_or(Refusal::NoToken)?.clone();
        token.set_sensitive(true);
        Ok(Self { token, uri: parts.uri.clone() })
    }
}

/// Returns the header with the token, if there is one of that form.
fn bearer(headers: &HeaderMap) -> Option<&HeaderValue> {
    let header = headers.get(AUTHORIZATION)?;
    let token = header.to_str().ok()?.strip_prefix("Bearer ")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (!token.is_empty() && token.bytes().all(is_token)).then_some(header)
}

/// Reports whether each part of a path is a name of Kubernetes as it stands. The API server decodes what is encoded, and would find other
/// parts than the routes here did.
pub(super) fn is_plain(path: &str) -> bool {
    let is_name = |part: &str| {
        let is_edge =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        is_edge(part.bytes().next())
            && is_edge(part.bytes().next_back())
            && part.bytes().all(|byte| is_edge(Some(byte)) || byte == b'-' || byte == b'.')
    };
    path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_name))
}

/// What a list may be asked for.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReadQuery {
    limit: Option<u16>,
    #[serde(rename = "continue")]
    after: Option<String>,
    field_selector: Option<String>,
    label_selector: Option<String>,
}

#[derive(Deserialize, Serialize)]
enum DryRun {
    All,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangeQuery {
    dry_run: Option<DryRun>,
    /// Takes fields over that others own. Of an apply alone.
    force: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteQuery {
    dry_run: Option<DryRun>,
    /// Of the resource that the caller looked at: another one of its name stays.
    uid: String,
}

impl Call {
    fn query<Q: DeserializeOwned>(&self) -> Result<Q, Refusal> {
        match Query::try_from_uri(&self.uri) {
            Ok(Query(query)) => Ok(query),
            Err(rejection) => Err(Refusal::Query(one_line(rejection.body_text()))),
        }
    }
}

async fn read(State(server): State<Client>, call: Call) -> Result<Response, Refusal> {
    let query: ReadQuery = call.query()?;
    send(&server, Method::GET, &call, &encoded(&query), None).await
}

async fn change(
    State(server): State<Client>,
    call: Call,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let query: ChangeQuery = call.query()?;
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type =
        [APPLY, MERGE].into_iter().find(|known| given == Some(*known)).ok_or(Refusal::ContentType)?;
    // A field that does not exist is refused: it would be dropped in silence, and the plan would not show it.
    let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict&{}", encoded(&query));
    send(&server, Method::PATCH, &call, query.trim_end_matches('&'), Some((media_type, body))).await
}

async fn delete(State(server): State<Client>, call: Call) -> Result<Response, Refusal> {
    let DeleteQuery { dry_run, uid } = call.query()?;
    let options = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid},
        "dryRun": dry_run.iter().collect::<Vec<_>>()});
    send(&server, Method::DELETE, &call, "", Some((JSON, options.to_string().into()))).await
}

/// Asks the API server about the caller: only about whom the token belongs to.
async fn review(State(server): State<Client>, call: Call, body: Bytes) -> Result<Response, Refusal> {
    send(&server, Method::POST, &call, "", Some((JSON, body))).await
}

/// Returns a query without what is absent in it.
pub(super) fn encoded<Q: Serialize>(query: &Q) -> String {
    let value = serde_json::to_value(query).unwrap_or_default();
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(value) => {
                text.append_pair(name, value);
            }
            other => {
                text.append_pair(name, &other.to_string());
            }
        }
    }
    text.finish()
}

/// Makes a call as its caller, and returns what the API server answers.
async fn send(
    server: &Client,
    method: Method,
    call: &Call,
    query: &str,
    content: Option<(&'static str, Bytes)>,
) -> Result<Response, Refusal> {
    let path = call.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    Ok(passed(ask(server, method, &call.token, &target, content).await?))
}

/// An answer of the API server.
pub(super) type Answer = Response<kube::client::Body>;

/// Asks the API server with a caller's token.
pub(super) async fn ask(
    server: &Client,
    method: Method,
    token: &HeaderValue,
    target: &str,
    content: Option<(&'static str, Bytes)>,
) -> Result<Answer, Refusal> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(AUTHORIZATION, token.clone())
        .header(ACCEPT, JSON)
        .header(USER_AGENT, AGENT);
    let body = match content {
        Some((media_type, body)) => {
            request = request.header(CONTENT_TYPE, media_type);
            kube::client::Body::from(body)
        }
        None => kube::client::Body::empty(),
    };
    let request = request.body(body).map_err(|_| Refusal::NotForwarded)?;
    match within(TIME_LIMIT, server.send(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(late) => Err(unreachable(&late)),
    }
}

/// Returns what a caller gets of an answer.
pub(super) fn passed(answer: Answer) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    for name in PASSED {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    // What one caller may see is kept for no other.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Reads a short answer. What is no JSON is nothing.
pub(super) async fn read_json(answer: Answer) -> Result<Value, Refusal> {
    let body = to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES);
    match within(TIME_LIMIT, body).await {
        Ok(Ok(body)) => Ok(serde_json::from_slice(&body).unwrap_or_default()),
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(late) => Err(unreachable(&late)),
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> Refusal {
    let text = one_line(error);
    warn!(error = %text, "the API server is not reached");
    Refusal::Unreachable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_it_looks_like() {
        for path in
            ["/apis/messenger.posthouse.dev/v1alpha1/messengertenants", "/api/v1/namespaces/a-1/events"]
        {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "/",
            "/api/",
            "//api",
            "/api/../secrets",
            "/api/..%2fsecrets",
            "/api/v1/namespaces/a%2e/events",
            "/api/v1/namespaces/A/events",
            "/api/.hidden",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn a_token_is_a_bearer_token() {
        let found = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).is_some()
        };
        assert!(found("Bearer eyJ.a-b_c~+/="));
        for value in ["", "Bearer ", "Bearer a b", "bearer a", "Basic YTpi", "Bearer a,b"] {
            assert!(!found(value), "{value:?}");
        }
        assert!(bearer(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_query_has_what_the_call_knows_and_nothing_else() {
        let query = |text: &str| Call {
            token: HeaderValue::from_static("Bearer t"),
            uri: format!("/x?{text}").parse().expect("an address"),
        };
        let read: ReadQuery = query("limit=5&continue=a%26b&fieldSelector=involvedObject.uid%3D1")
            .query()
            .expect("it is known");
        let mut parts: Vec<_> = encoded(&read).split('&').map(str::to_owned).collect();
        parts.sort();
        assert_eq!(parts, ["continue=a%26b", "fieldSelector=involvedObject.uid%3D1", "limit=5"]);
        for text in ["watch=true", "limit=all", "resourceVersion=1"] {
            assert!(query(text).query::<ReadQuery>().is_err(), "{text}");
        }
        let change: ChangeQuery = query("dryRun=All&force=true").query().expect("it is known");
        assert_eq!(encoded(&change), "dryRun=All&force=true");
        for text in ["dryRun=None", "fieldManager=kubectl", "fieldValidation=Ignore", "force=maybe"] {
            assert!(query(text).query::<ChangeQuery>().is_err(), "{text}");
        }
        assert!(query("dryRun=All").query::<DeleteQuery>().is_err(), "it names no resource");
    }
}
