//! From an HTTP request to a connection.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode, Uri, Version,
        header::{
            CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
            SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::Response,
};
use contracts::{ErrorCode, api::Problem, wire::SUBPROTOCOL};
use kit::error::ApiError;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use crate::{
    domain::send_queue::SendQueue, metrics::Upgrade, registry::Connection, socket, state::GatewayState,
};

/// Opens a WebSocket of subprotocol `posthouse.v1.json`, described at `/docs/gateway/protocol`.
#[utoipa::path(
    get,
    path = "/ws",
    tag = "gateway",
    params(("Sec-WebSocket-Protocol" = String, Header, description = "`posthouse.v1.json`")),
    responses(
        (status = 101, description = "The connection is a WebSocket now; its first frame is `connect`"),
        (status = 400, description = "Not an upgrade to this subprotocol", body = Problem),
        (status = 403, description = "A page of another origin asked", body = Problem),
        (status = 503, description = "This gateway takes no connections now; try again", body = Problem),
    )
)]
pub(crate) async fn upgrade(
    State(gateway): State<Arc<GatewayState>>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgraded = accept(&gateway, &mut request);
    gateway.metrics.count_upgrade(if upgraded.is_ok() { Upgrade::Taken } else { Upgrade::Refused });
    upgraded
}

#[expect(clippy::disallowed_methods, reason = "an edge: the id of the session")]
fn accept(gateway: &Arc<GatewayState>, request: &mut Request) -> Result<Response, ApiError> {
    let key = checked(request)?;
    if gateway.shutdown.is_cancelled() {
        return Err(ApiError::new(ErrorCode::Unavailable, "this gateway is going away"));
    }
    if !gateway.membership.is_caught_up() {
        return Err(ApiError::new(ErrorCode::Unavailable, "this gateway is starting"));
    }
    let session = Uuid::now_v7();
    let queue = SendQueue::new(gateway.limits.send_queue_bytes, gateway.metrics.queued_bytes.clone());
    let listed = Listed::new(gateway, Connection::new(session, queue))
        .ok_or_else(|| ApiError::new(ErrorCode::Unavailable, "this gateway is full"))?;

    let upgrading = hyper::upgrade::on(request);
    gateway.tasks.spawn(async move {
        let Listed { gateway, connection } = &listed;
        // Ends immediately when the response cannot be written.
        match timeout(gateway.limits.connect_within, upgrading).await {
            Ok(Ok(upgraded)) => socket::serve(gateway.clone(), connection.clone(), upgraded).await,
            Ok(Err(error)) => tracing::debug!(%session, %error, "upgrade failed: {error}"),
            Err(_) => tracing::debug!(%session, "upgrade took too long"),
        }
    });
    Ok(Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, key)
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(Body::empty())
        .expect("the headers are valid"))
}

/// A connection on the list; dropped, it is off the list.
struct Listed {
    gateway: Arc<GatewayState>,
    connection: Arc<Connection>,
}

impl Listed {
    fn new(gateway: &Arc<GatewayState>, connection: Arc<Connection>) -> Option<Self> {
        if !gateway.registry.add(&connection, gateway.max_connections) {
            return None;
        }
        gateway.metrics.connections.inc();
        Some(Self { gateway: gateway.clone(), connection })
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.gateway.registry.remove(&self.connection);
        self.gateway.metrics.connections.dec();
        if self.connection.identity().is_some() {
            self.gateway.sessions.closed(self.connection.session);
        }
    }
}

/// Checks the request and returns the accept key of the answer.
fn checked(request: &Request) -> Result<String, ApiError> {
    let headers = request.headers();
    let malformed = |detail: &str| ApiError::new(ErrorCode::Malformed, detail);
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(malformed("a WebSocket begins with an HTTP/1.1 GET request"));
    }
    if !has_token(headers, CONNECTION, "upgrade") || !has_token(headers, UPGRADE, "websocket") {
        return Err(malformed("this path is for WebSockets; see /docs/gateway/protocol"));
    }
    if !has_token(headers, SEC_WEBSOCKET_VERSION, "13") {
        return Err(malformed("the WebSocket version is 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| malformed("Sec-WebSocket-Key is missing"))?;
    if !has_token(headers, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let detail = format!("the request offers no subprotocol that is spoken here; offer {SUBPROTOCOL}");
        return Err(ApiError::new(ErrorCode::InvalidArgument, detail));
    }
    if !is_same_origin(headers) {
        return Err(ApiError::new(ErrorCode::PermissionDenied, "the page's origin is another host"));
    }
    Ok(derive_accept_key(key.as_bytes()))
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Returns whether the request comes from no page at all, or from a page of this host.
///
/// A browser names the page's origin and cannot be made to lie about it; the tenant's host is the one it requested.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok()) else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Uri>().ok()) else {
        return false;
    };
    let (Some(from), Some(to)) = (origin.authority(), host.authority()) else { return false };
    let place = |host: &str, port: Option<u16>| (host.to_ascii_lowercase(), port.unwrap_or(default_port));
    place(from.host(), from.port_u16()) == place(to.host(), to.port_u16()) && !from.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_host_may_open_a_socket() {
        let check = |origin: Option<&str>, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a host"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().expect("an origin"));
            }
            assert_eq!(is_same_origin(&headers), expected, "{origin:?} to {host}");
        };
        check(None, "acme.example.com", true);
        check(Some("https://acme.example.com"), "acme.example.com", true);
        check(Some("https://acme.example.com:443"), "acme.example.com", true);
        check(Some("https://ACME.example.com"), "acme.example.com", true);
        check(Some("http://acme.localhost:8000"), "acme.localhost:8000", true);
        check(Some("http://acme.localhost"), "acme.localhost:8000", false);
        check(Some("null"), "acme.example.com", false);
        check(Some("https://beta.example.com"), "acme.example.com", false);
        check(Some("https://acme.example.com.evil.test"), "acme.example.com", false);
        check(Some("https://evil-acme.example.com"), "acme.example.com", false);
        check(Some("https://acme.example.com@evil.test"), "acme.example.com", false);
        check(Some("file:///acme.example.com"), "acme.example.com", false);
        check(Some(""), "acme.example.com", false);
    }
}
