//! What every public request passes before a handler sees it, and every response after: whatever is refused, and by
//! whichever layer, is a problem body.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{BodyDataStream, Bytes, HttpBody as _},
    extract::{MatchedPath, Path, Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing,
};
use catalog::Service;
use contracts::ErrorCode;
use futures_util::StreamExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use url::form_urlencoded;
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Operation, Parameter, ParameterIn, PathItem},
};

use crate::{
    budget::{Budget, Room},
    error::{ApiError, InvalidField},
};

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Largest headers of a request, names and values together: a token has about a thousand bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// A larger body is read to its end before it is refused, up to this. A client that is still writing when the
/// connection closes sees a reset, and never the response.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
/// A body is not discarded for longer than this.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of all bodies of a process that are not whole.
const BODIES_BYTES: usize = 32 * 1024 * 1024;
/// What a body may have however little is left of that: more than nearly all of them have.
const SMALLEST_BODY_BYTES: usize = 8 * 1024;
/// A body is read within this time, which is what Traefik gives a request.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// A client whose body has no room comes back after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request that is read is answered within this time. Each call to a backend has a limit of its own; this one is for
/// their sum and for what was forgotten, and is shorter than the patience of a client.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// Returns the router behind the rules of the edge. `descriptions` are those of its APIs, and `services` are what the tenant has, here
/// and in other processes.
pub(crate) fn guarded<'a>(
    router: Router,
    descriptions: impl IntoIterator<Item = &'a OpenApi> + Clone,
    services: &[Service],
) -> Router {
    let elsewhere = Elsewhere::of(descriptions.clone(), services);
    router
        .route(&format!("{}/{{status}}", catalog::PROBLEMS_PATH), routing::any(problem))
        .fallback(move |uri: Uri| async move { elsewhere.no_such_path(uri.path()) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::new(Queries::of(descriptions)), described_query))
        .layer(middleware::from_fn_with_state(ANSWER_TIMEOUT, in_time))
        .layer(middleware::from_fn_with_state(Bodies::new(BODIES_BYTES, READ_WITHIN), bounded))
        .layer(CatchPanicLayer::custom(panicked))
}

fn not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "no such path")
}

/// The path prefixes of services that are described nowhere here, and whether the tenant has the service: then another process
/// serves it.
#[derive(Clone)]
struct Elsewhere(Vec<(&'static str, Service, bool)>);

impl Elsewhere {
    fn of<'a>(descriptions: impl IntoIterator<Item = &'a OpenApi>, services: &[Service]) -> Self {
        let served: Vec<&String> =
            descriptions.into_iter().flat_map(|description| description.paths.paths.keys()).collect();
        let prefixes = Service::ALL
            .iter()
            .flat_map(|service| service.path_prefixes.iter().map(|prefix| (*prefix, *service)))
            .filter(|(prefix, _)| !served.iter().any(|path| path.starts_with(prefix)));
        Self(prefixes.map(|(prefix, service)| (prefix, service, services.contains(&service))).collect())
    }

    /// Returns the refusal of a path that nothing here takes. What has no route comes to one service, so a path may be of another one
    /// that has no pod for a moment: it is there, and not found would be final. For a service that the tenant does not have it is
    /// final, or clients would try again without end.
    fn no_such_path(&self, path: &str) -> ApiError {
        let is_below = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self.0.iter().find(|(prefix, ..)| is_below(prefix)) {
            Some((.., true)) => ApiError::hidden(ErrorCode::Unavailable),
            Some((_, service, false)) => {
                let detail = format!("this messenger does not have the service {service}");
                ApiError::new(ErrorCode::NotFound, detail)
            }
            None => not_found(),
        }
    }
}

/// The problem that a router answers with instead of a service that it does not reach.
async fn problem(Path(status): Path<String>) -> ApiError {
    match status.as_str() {
        "502" | "503" | "504" => ApiError::hidden(ErrorCode::Unavailable),
        _ => not_found(),
    }
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, "the header allow lists the methods of this path")
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic hook has written where and why.
    tracing::error!("a request handler panicked");
    ApiError::hidden(ErrorCode::Internal).into_response()
}

/// Answers for a handler that takes too long. The handler is dropped, as it is when its client leaves.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (method, path) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| {
        let path = path.as_ref().map_or("", MatchedPath::as_str);
        tracing::warn!(%method, path, "a request was not answered within {limit:?}");
        ApiError::hidden(ErrorCode::Unavailable)
    })
}

/// What the bodies of requests may take together, and each of them in time.
#[derive(Clone)]
struct Bodies {
    budget: Arc<Budget>,
    within: Duration,
}

impl Bodies {
    fn new(bytes: usize, within: Duration) -> Self {
        Self { budget: Arc::new(Budget::new(bytes, SMALLEST_BODY_BYTES)), within }
    }
}

/// Refuses what is too large, or too slow. The body is read before its handler runs, so that a handler that refuses a request without
/// reading it closes no connection that the client still writes to.
async fn bounded(State(bodies): State<Bodies>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        body
    } else {
        let read =
            tokio::time::timeout(bodies.within, read(body.into_data_stream(), bodies.budget.room())).await;
        let late = |_| {
            let detail = format!("the body has not come to its end within {} s", bodies.within.as_secs());
            ApiError::new(ErrorCode::Malformed, detail)
        };
        read.map_err(late)??.into()
    };
    let header_bytes: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > MAX_HEADER_BYTES {
        let detail = format!("the headers have more than {} KiB", MAX_HEADER_BYTES / 1024);
        return Err(ApiError::new(ErrorCode::Malformed, detail));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn read(mut body: BodyDataStream, mut room: Room) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk =
            chunk.map_err(|_| ApiError::new(ErrorCode::Malformed, "the body cannot be read to its end"))?;
        let refusal = if bytes.len() + chunk.len() > MAX_BODY_BYTES {
            let detail = format!("the body has more than {} KiB", MAX_BODY_BYTES / 1024);
            Some(ApiError::new(ErrorCode::TooLarge, detail))
        } else {
            bytes.extend_from_slice(&chunk);
            let detail = "too many large bodies are on their way; try again";
            let crowded = || ApiError::new(ErrorCode::RateLimited, detail).after(RETRY_AFTER);
            room.resize(bytes.capacity());
            (!room.fits()).then(crowded)
        };
        let Some(refusal) = refusal else { continue };
        drop((bytes, chunk, room));
        let discarded = tokio::time::timeout(DISCARD_TIMEOUT, discard(body)).await;
        tracing::debug!(in_time = discarded.is_ok(), "discarded a body that is too large");
        return Err(refusal);
    }
    Ok(bytes.into())
}

async fn discard(mut body: BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(chunk)) = body.next().await {
        discarded += chunk.len();
        if discarded > MAX_DISCARDED_BYTES {
            return;
        }
    }
}

/// The query parameters of every operation that is described.
struct Queries(BTreeMap<(String, String), BTreeSet<String>>);

/// One rule for all operations, and the description is the list: a parameter that it does not name is refused. A
/// misspelt `limit` is then an error, and not a longer page.
async fn described_query(
    State(queries): State<Arc<Queries>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let path = request.extensions().get::<MatchedPath>();
    queries.check(request.method(), path.map(MatchedPath::as_str), request.uri())?;
    Ok(next.run(request).await)
}

impl Queries {
    fn of<'a>(descriptions: impl IntoIterator<Item = &'a OpenApi>) -> Self {
        let paths = descriptions.into_iter().flat_map(|description| &description.paths.paths);
        Self(paths.flat_map(|(path, item)| queries(path, item)).collect())
    }

    fn check(&self, method: &Method, path: Option<&str>, uri: &Uri) -> Result<(), InvalidField> {
        let (Some(path), Some(query)) = (path, uri.query()) else { return Ok(()) };
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let Some(known) = self.0.get(&(method.to_string(), path.to_owned())) else { return Ok(()) };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let refused =
                |problem: &str| Err(InvalidField { field: "query string", problem: problem.to_owned() });
            if !known.contains(name.as_ref()) {
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                return refused(&match known[..] {
                    [] => "this operation has no parameters".to_owned(),
                    _ => format!("the parameters of this operation are {}", known.join(", ")),
                });
            }
            // No store keeps it, and each would fail in its own way.
            if value.contains('\0') {
                return refused("must not have the character U+0000");
            }
        }
        Ok(())
    }
}

fn queries(path: &str, item: &PathItem) -> impl Iterator<Item = ((String, String), BTreeSet<String>)> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    let operations = [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::OPTIONS, options),
        (Method::HEAD, head),
        (Method::PATCH, patch),
        (Method::TRACE, trace),
    ];
    operations.into_iter().filter_map(move |(method, operation)| {
        Some(((method.to_string(), path.to_owned()), query_names(operation.as_ref()?)))
    })
}

fn query_names(operation: &Operation) -> BTreeSet<String> {
    let parameter = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        RefOr::T(_) | RefOr::Ref(_) => None,
    };
    operation.parameters.iter().flatten().filter_map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{
        body::Body,
        routing::{get, post},
    };
    use serde_json::Value;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    use tower::ServiceExt as _;
    use utoipa::openapi::{
        HttpMethod, OpenApiBuilder, PathsBuilder,
        path::{OperationBuilder, ParameterBuilder},
    };

    use super::*;

    /// Returns an API with a list that has a `limit`, a handler that takes no body, and one that panics.
    fn api() -> Router {
        let limit = ParameterBuilder::new().name("limit").parameter_in(ParameterIn::Query).build();
        let list = OperationBuilder::new().parameter(limit).build();
        let take = OperationBuilder::new().build();
        let paths = PathsBuilder::new()
            .path("/items", PathItem::new(HttpMethod::Get, list))
            .path("/items/{item}", PathItem::new(HttpMethod::Post, take));
        let description = OpenApiBuilder::new().paths(paths).build();
        let router = Router::new()
            .route("/items", get(|| async { "items" }))
            .route("/items/{item}", post(|| async { "taken" }))
            .route("/panic", get(|| async { panic!("as the test wants") as &str }))
            .route("/undescribed", get(|| async { "as it is" }));
        let services: Vec<_> =
            Service::ALL.iter().copied().filter(|service| *service != Service::Media).collect();
        guarded(router, [&description], &services)
    }

    async fn answer(method: &str, uri: &str, body: Body) -> (u16, Option<String>, Response) {
        let request = Request::builder().method(method).uri(uri).body(body).expect("a request");
        let response = api().oneshot(request).await.expect("a router answers");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.expect("a body");
        let code = serde_json::from_slice::<Value>(&body).ok();
        let code = code.and_then(|problem| Some(problem["code"].as_str()?.to_owned()));
        (parts.status.as_u16(), code, Response::from_parts(parts, body.into()))
    }

    async fn refused(method: &str, uri: &str, status: u16, code: &str) -> Response {
        let (answered, problem, response) = answer(method, uri, Body::empty()).await;
        assert_eq!((answered, problem.as_deref()), (status, Some(code)), "{method} {uri}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        response
    }

    #[tokio::test]
    async fn what_no_handler_takes_is_a_problem() {
        refused("GET", "/nothing", 404, "not_found").await;
        refused("GET", "/api/usersandmore", 404, "not_found").await;
        let elsewhere = refused("GET", "/api/users/me", 503, "unavailable").await;
        assert_eq!(elsewhere.headers()["retry-after"], "1", "of a service that has no pod at the moment");
        for path in ["/api/media", "/api/media/files", "/content/files/1"] {
            let lacking = refused("GET", path, 404, "not_found").await;
            assert!(!lacking.headers().contains_key("retry-after"), "{path}: no client waits for it");
            let problem = axum::body::to_bytes(lacking.into_body(), MAX_BODY_BYTES).await.expect("a body");
            let problem: Value = serde_json::from_slice(&problem).expect("a problem");
            assert_eq!(problem["detail"], "this messenger does not have the service media", "{path}");
        }
        refused("GET", "/api/mediation", 404, "not_found").await;
        refused("GET", "/api/search/messages", 503, "unavailable").await;
        let response = refused("DELETE", "/items", 405, "method_not_allowed").await;
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        refused("POST", "/problems/503", 503, "unavailable").await;
        refused("GET", "/problems/200", 404, "not_found").await;
        let response = refused("GET", "/panic", 500, "internal").await;
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_answered_for() {
        let router = Router::new()
            .route("/hangs", get(std::future::pending::<&str>))
            .layer(middleware::from_fn_with_state(Duration::from_millis(1), in_time));
        let request = Request::get("/hangs").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("a router answers");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[tokio::test]
    async fn bodies_that_do_not_end_leave_room_for_small_ones_and_have_their_time() {
        let bounded_by = |bodies: &Bodies| {
            let router = Router::new().route("/", post(|| async { "taken" }));
            router.layer(middleware::from_fn_with_state(bodies.clone(), bounded))
        };
        let sent = async |bodies: &Bodies, body: Body| {
            let request = Request::post("/").body(body).expect("a request");
            bounded_by(bodies).oneshot(request).await.expect("a router answers")
        };
        let bodies = Bodies::new(1024 * 1024, Duration::from_secs(60));
        let large = || Body::from(vec![b'x'; 100 * 1024]);
        let mut held = bodies.budget.room();
        held.resize(1024 * 1024);
        assert_eq!(sent(&bodies, Body::from(vec![b'x'; 8 * 1024])).await.status(), 200);
        let refused = sent(&bodies, large()).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "1");
        drop(held);
        assert_eq!(sent(&bodies, large()).await.status(), 200);

        let impatient = Bodies::new(1024 * 1024, Duration::from_millis(1));
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(sent(&impatient, endless).await.status(), 400);
    }

    #[tokio::test]
    async fn a_parameter_that_is_not_described_is_refused() {
        for (method, uri) in [
            ("GET", "/items"),
            ("GET", "/items?"),
            ("GET", "/items?limit=3"),
            ("HEAD", "/items?limit=3"),
            ("GET", "/items?lim%69t=3"),
            ("POST", "/items/7"),
            ("GET", "/undescribed?whatever=1"),
        ] {
            assert_eq!(answer(method, uri, Body::empty()).await.0, 200, "{method} {uri}");
        }
        for (method, uri) in [
            ("GET", "/items?limits=3"),
            ("GET", "/items?limit=3&order=age"),
            ("GET", "/items?Limit=3"),
            ("GET", "/items?limit=a%00"),
            ("POST", "/items/7?limit=3"),
        ] {
            refused(method, uri, 400, "invalid_argument").await;
        }
    }

    /// Sends bytes as they are, and returns the whole response.
    async fn exchange(addr: SocketAddr, head: &str, body: &[u8]) -> String {
        let mut connection = TcpStream::connect(addr).await.expect("a connection");
        connection.write_all(head.as_bytes()).await.expect("the head is read");
        connection.write_all(body).await.expect("the body is read to its end");
        let mut response = Vec::new();
        connection.read_to_end(&mut response).await.expect("the connection ends without a reset");
        String::from_utf8(response).expect("text")
    }

    #[tokio::test]
    async fn a_client_that_writes_too_much_or_nonsense_reads_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, api()).await });
        let head = |framing: &str| {
            format!("POST /items/7 HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{framing}\r\n\r\n")
        };
        for bytes in [MAX_BODY_BYTES + 1, 5 << 20, 12 << 20] {
            let framing = format!("content-length: {bytes}");
            let response = exchange(addr, &head(&framing), &vec![b'x'; bytes]).await;
            assert!(response.starts_with("HTTP/1.1 413 "), "{bytes} bytes: {response}");
            assert!(response.contains(r#""code":"too_large""#), "{response}");
        }
        let large = format!("x-large: {}", "x".repeat(MAX_HEADER_BYTES));
        let response = exchange(addr, &head(&large), b"").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains(r#""code":"malformed""#), "{response}");
        let framing = format!("content-length: {MAX_BODY_BYTES}");
        let response = exchange(addr, &head(&framing), &vec![b'x'; MAX_BODY_BYTES]).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");

        let response = exchange(addr, &head("transfer-encoding: chunked"), b"zz\r\nhello\r\n0\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains(r#""code":"malformed""#), "{response}");
    }
}
