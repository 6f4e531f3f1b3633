//! The public HTTP surface: the ways to a connection, and what a client developer reads.

mod index;
mod listed;
mod origin;
mod stream;
pub(crate) mod upgrade;

use std::sync::Arc;

use axum::{
    http::header,
    response::{Html, IntoResponse},
    routing::{self, MethodRouter},
};
use bytes::Bytes;
use kit::{
    catalog,
    docs::{self, OpenApiRouter, routes},
};

use crate::state::GatewayState;

/// The description of the WebSocket protocol, AsyncAPI 3. Owned by hand; a test holds it against the types.
const ASYNCAPI: &str = include_str!("api/asyncapi.json");
const PROTOCOL: &str = include_str!("api/protocol.html");
/// Apart from the page: no page has scripts or styles of its own, see the policy that comes with it.
const PROTOCOL_SCRIPT: &str = include_str!("api/protocol.js");
const STYLE: &str = include_str!("api/style.css");

/// Returns the public surface with its state applied. `services` are those that the tenant has.
pub(crate) fn router(gateway: Arc<GatewayState>, services: &[catalog::Service]) -> OpenApiRouter {
    let index = Bytes::from(index::page(services));
    let index = routing::get(move || async move { Html(index) });
    docs::router()
        .routes(routes!(upgrade::upgrade))
        .merge(stream::router(&gateway))
        .routes(routes!(asyncapi))
        .with_state(gateway)
        .route("/docs", index.clone())
        .route("/docs/", index)
        .route("/docs/gateway/protocol", routing::get(|| async { Html(PROTOCOL) }))
        .route("/docs/gateway/protocol.js", of_type("text/javascript; charset=utf-8", PROTOCOL_SCRIPT))
        .route("/docs/gateway/style.css", of_type("text/css; charset=utf-8", STYLE))
}

fn of_type<S: Clone + Send + Sync + 'static>(
    content_type: &'static str,
    text: &'static str,
) -> MethodRouter<S> {
    routing::get(move || async move { ([(header::CONTENT_TYPE, content_type)], text) })
}

/// The WebSocket protocol as an AsyncAPI 3 document.
#[utoipa::path(
    get,
    path = "/docs/gateway/asyncapi.json",
    tag = "gateway",
    responses((status = 200, description = "AsyncAPI 3", content_type = "application/json"))
)]
async fn asyncapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], ASYNCAPI)
}

#[cfg(test)]
mod tests;
