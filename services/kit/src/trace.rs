//! Spans of requests: of the public API, of gRPC, and of calls to the tenant's other services.

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tonic::{Code, Status};
use traces::{HEADER, Parent, Span, SpanKind, current, within};

/// Traces a request to the public API. It begins a trace or none, whatever trace its client says it belongs to: that one is linked.
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
    response
}

/// Returns a name for a method, of which a client may send any.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
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
