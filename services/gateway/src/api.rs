//! The public HTTP surface: the upgrade, and what a client developer reads.

mod index;
pub(crate) mod upgrade;

use std::sync::Arc;

use axum::{
    http::header,
    response::{Html, IntoResponse},
    routing,
};
use bytes::Bytes;
use kit::docs::{self, OpenApiRouter, routes};

use crate::state::GatewayState;

/// The description of the WebSocket protocol, AsyncAPI 3. Owned by hand; a test holds it against the types.
const ASYNCAPI: &str = include_str!("api/asyncapi.json");
const PROTOCOL: &str = include_str!("api/protocol.html");

/// Returns the public surface with its state applied.
pub(crate) fn router(gateway: Arc<GatewayState>) -> OpenApiRouter {
    let index = Bytes::from(index::page());
    let index = routing::get(move || async move { Html(index) });
    docs::router()
        .routes(routes!(upgrade::upgrade))
        .routes(routes!(asyncapi))
        .with_state(gateway)
        .route("/docs", index.clone())
        .route("/docs/", index)
        .route("/docs/gateway/protocol", routing::get(|| async { Html(PROTOCOL) }))
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
