//! The host's console: a page, and the way from it to the API server for the few calls that it makes.
//!
//! It has no right and no account of its own. Each call goes on with the token of its caller, and the API server decides, as it does for
//! kubectl, what this caller may see and change. ADR 0061 has the reasons.
//!
//! Invariant: nothing of a request reaches the API server but its token, its body and what `calls` lists of its path and query. A header by which
//! the caller would be another one is left behind.
//!
//! Invariant: no token is kept, logged or part of an error.

mod calls;
mod page;
mod refusal;

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use kube::Client;
use pages::browser;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A manifest is a hundredth of it, and the API server takes no more than three times as much.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Returns what the console serves. `server` reaches the API server and must not have an identity: each request brings its own.
pub fn router(server: Client) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .merge(page::router())
        .nest("/k8s", calls::router(server))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(browser::protect))
}

/// Serves until `shutdown`.
pub async fn serve(addr: SocketAddr, server: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(addr).await.with_context(|| format!("failed to listen on {addr}"))?;
    info!(%addr, "the console is served");
    axum::serve(listener, router(server)).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}
