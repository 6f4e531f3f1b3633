//! Spans of requests: of the public API, of gRPC, and of calls to the tenant's other services.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue},
    middleware::Next,
    response::Response,
};
use tonic::{Code, Status};
use traces::{HEADER, Parent, Span, SpanKind, current, name_of, within};

/// Traces a request to the public API. It begins a trace or none, whatever trace its client says it belongs to: that one is linked, and the log has a line
/// by which a client who follows its request finds the trace of ours.
pub(crate) async fn request(request: Request, next: Next) -> Response {
    let mut span = Span::root("request", SpanKind::Server);
    let Some(parent) = span.parent() else { return next.run(request).await };
    let method = name_of(request.method());
    span.set("http.request.method", method);
    // The template: a path may have ids in it.
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        let route = route.as_str().to_owned();
        span.rename(|| format!("{method} {route}").into());
        span.set("http.route", route);
    }
    let named = request.headers().get(HEADER).and_then(|value| Parent::named_by_stranger(value.as_bytes()));
    if let Some(named) = named {
        span.link(named);
    }
    let response = within(Some(parent), next.run(request)).await;
    let status = response.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str().to_owned());
    }
    if named.is_some() {
        let _within = parent.enter();
        tracing::info!(method, status = status.as_u16(), "a request that names a trace is answered");
    }
    response
}

/// Traces a call by another service of the tenant, where that one traces it.
pub(crate) async fn called(request: Request, next: Next) -> Response {
    let parent = request.headers().get(HEADER).and_then(|value| Parent::received(value.as_bytes()));
    if parent.is_none() {
        return next.run(request).await;
    }
    let mut span = Span::child(parent, method_of(request.uri().path()), SpanKind::Server);
    let response = within(span.parent(), next.run(request)).await;
    answered(&mut span, response.headers());
    response
}

/// Begins the span of a call to another service, and names it in the call.
pub(crate) fn calling<B>(request: &mut http::Request<B>) -> Span {
    let parent = current();
    if parent.is_none() {
        return Span::NONE;
    }
    let span = Span::child(parent, method_of(request.uri().path()), SpanKind::Client);
    let header = span.parent().and_then(|parent| HeaderValue::try_from(parent.to_string()).ok());
    if let Some(header) = header {
        request.headers_mut().insert(HEADER, header);
    }
    span
}

/// Says how a call ended that failed: its status comes before a body then.
pub(crate) fn answered(span: &mut Span, headers: &HeaderMap) {
    if span.parent().is_none() {
        return;
    }
    let code = Status::from_header_map(headers).map_or(Code::Ok, |status| status.code());
    if code != Code::Ok {
        span.fail(format!("{code:?}"));
    }
}

/// Returns the name of a method as the descriptions of gRPC have it, `package.Service/Method`.
fn method_of(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use axum::{Router, body::Body, http::Request, middleware, routing::get};
    use tower::ServiceExt as _;
    use traces::testing::{Kept, Lines};
    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::{HEADER, request};

    const NAMED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_client_who_names_a_trace_finds_ours_by_the_log() {
        let (kept, traces) = Kept::start("test");
        let lines = Lines::default();
        let _logged = tracing::subscriber::set_default(registry().with(lines.layer()));
        let router =
            Router::new().route("/items", get(|| async { "here" })).layer(middleware::from_fn(request));
        for named in [None, Some(NAMED)] {
            let mut asked = Request::get("/items");
            if let Some(named) = named {
                asked = asked.header(HEADER, named);
            }
            let asked = asked.body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(asked).await.expect("a router answers");
            assert_eq!(response.status(), 200);
        }
        let spans = kept.end(traces).await;

        let answered = lines.of("a request that names a trace is answered");
        let [line] = &answered[..] else { panic!("{answered:?}") };
        let linked = spans.iter().find(|span| !span.links.is_empty()).expect("the one that names a trace");
        assert_eq!(line["trace_id"], linked.span_context.trace_id().to_string());
        assert_eq!(line["status"], 200);
    }
}
