//! From an HTTP request to a connection.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Version,
        header::{
            CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
            SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use contracts::{ErrorCode, api::Problem};
use hyper::upgrade::OnUpgrade;
use kit::error::ApiError;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{listed::Listed, origin::check_origin};
use crate::{
    domain::frame::{Form, SUBPROTOCOLS},
    metrics::Upgrade,
    socket,
    state::GatewayState,
};

/// Opens a WebSocket of subprotocol `posthouse.v1.json` or `posthouse.v1.cbor`, or of STOMP, described at `/docs/gateway/protocol`.
#[utoipa::path(
    get,
    path = "/ws",
    tag = "gateway",
    params(("Sec-WebSocket-Protocol" = String, Header,
     description = "`posthouse.v1.json`, `posthouse.v1.cbor`, `v12.stomp`, `v11.stomp`, `v10.stomp`, or several: the first of them is spoken")),
    responses(
        (status = 101, description = "The connection is a WebSocket now; its first frame is `connect`, of STOMP `CONNECT`"),
        (status = 400, description = "Not an upgrade to this subprotocol", body = Problem),
        (status = 403, description = "A page of an origin that is not allowed asked", body = Problem),
        (status = 426, description = "The WebSocket version is not 13", body = Problem),
        (status = 503, description = "This gateway takes no connections now; try again", body = Problem),
    )
)]
pub(crate) async fn upgrade(State(gateway): State<Arc<GatewayState>>, mut request: Request) -> Response {
    let upgraded = accept(&gateway, &mut request);
    gateway.metrics.count_upgrade(if upgraded.is_ok() { Upgrade::Taken } else { Upgrade::Refused });
    upgraded.unwrap_or_else(Refused::into_response)
}

/// Why there is no WebSocket.
pub(crate) enum Refused {
    /// The client speaks another version, and learns which one is spoken here (RFC 6455, 4.4).
    Version,
    Other(ApiError),
}

impl Refused {
    pub(crate) fn into_response(self) -> Response {
        match self {
            Self::Version => {
                let mut response = malformed("the WebSocket version is 13").into_response();
                *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
                let headers = response.headers_mut();
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                response
            }
            Self::Other(error) => error.into_response(),
        }
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

fn malformed(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Malformed, detail)
}

fn accept(gateway: &Arc<GatewayState>, request: &mut Request) -> Result<Response, Refused> {
    let (upgrading, form, response) = handshake(request, &gateway.allowed_origins)?;
    let listed = Listed::new(gateway, form, None)?;
    gateway.tasks.spawn(async move {
        let (gateway, connection) = listed.parts();
        let session = connection.session;
        // Ends immediately when the response cannot be written.
        match timeout(gateway.limits.connect_within, upgrading).await {
            Ok(Ok(upgraded)) => socket::serve(gateway.clone(), connection.clone(), upgraded).await,
            Ok(Err(error)) => tracing::debug!(%session, %error, "upgrade failed: {error}"),
            Err(_) => tracing::debug!(%session, "upgrade took too long"),
        }
    });
    Ok(response)
}

/// The version of the WebSocket protocol.
const VERSION: &str = "13";

/// Returns the answer to a request for a WebSocket, with the connection that there is once it is written and the form of its
/// frames.
pub(crate) fn handshake(
    request: &mut Request,
    allowed_origins: &[String],
) -> Result<(OnUpgrade, Form, Response), Refused> {
    let (key, (subprotocol, form)) = checked(request, allowed_origins)?;
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, key)
        .header(SEC_WEBSOCKET_PROTOCOL, subprotocol)
        .body(Body::empty())
        .expect("the headers are valid");
    Ok((hyper::upgrade::on(request), form, response))
}

/// Checks the request and returns the accept key of the answer, and of the subprotocols that the client offers the first one that is spoken here. Their
/// names are compared as they are (RFC 6455, 4.1).
fn checked(request: &Request, allowed_origins: &[String]) -> Result<(String, (&'static str, Form)), Refused> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(malformed("a WebSocket begins with an HTTP/1.1 GET request").into());
    }
    let has_keyword =
        |name, keyword: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(keyword));
    if !has_keyword(CONNECTION, "upgrade") || !has_keyword(UPGRADE, "websocket") {
        return Err(malformed("this path is for WebSockets; see /docs/gateway/protocol").into());
    }
    if !tokens(headers, SEC_WEBSOCKET_VERSION).any(|token| token == VERSION) {
        return Err(Refused::Version);
    }
    let key = key(headers).ok_or_else(|| malformed("Sec-WebSocket-Key is 16 bytes in base64, once"))?;
    let spoken = |token: &str| SUBPROTOCOLS.into_iter().find(|(name, _)| *name == token);
    let subprotocol = tokens(headers, SEC_WEBSOCKET_PROTOCOL).find_map(spoken).ok_or_else(|| {
        let names = SUBPROTOCOLS.map(|(name, _)| name).join(", ");
        let detail = format!("the request offers no subprotocol that is spoken here, which are {names}");
        ApiError::new(ErrorCode::InvalidArgument, detail)
    })?;
    check_origin(headers, allowed_origins)?;
    Ok((derive_accept_key(key.as_bytes()), subprotocol))
}

/// Returns the elements of a header that is a list.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Returns the client's key, if it is one and there is no other.
fn key(headers: &HeaderMap) -> Option<&str> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).into_iter();
    let key = keys.next()?.to_str().ok()?;
    let nonce = BASE64.decode(key).ok()?;
    (nonce.len() == 16 && keys.next().is_none()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn a_key_is_16_bytes_in_base64_and_there_is_one() {
        let check = |keys: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(SEC_WEBSOCKET_KEY, key.parse().expect("a value"));
            }
            assert_eq!(key(&headers).is_some(), expected, "{keys:?}");
        };
        check(&[KEY], true);
        check(&[], false);
        check(&[KEY, KEY], false);
        for text in ["", "x", "!!!!!!!!!!!!!!!!!!!!!!!!", &BASE64.encode([1; 15]), &BASE64.encode([1; 17])] {
            check(&[text], false);
        }
    }
}
