//! The host's console: a page, and the way from it to the API server for the few calls that it makes.
//!
//! It has no right and no account of its own. Each call goes on with the token of its caller, and the API server decides, as it does for
//! kubectl, what this caller may see and change. ADR 0061 has the reasons.
//!
//! Invariant: nothing of a request reaches the API server but its token, its body and what `calls` lists of its path and query. A header by which
//! the caller would be another one is left behind.
//!
//! Invariant: no token is kept for longer than its call, logged or part of an error.

mod calls;
mod page;
mod refusal;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use kube::Client;
use pages::browser;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::refusal::Refusal;
use crate::{connections, time_limit::within};

// All who reach the port may send what is no token at all: what they take together fits into the pod.

/// A manifest is a hundredth of it.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Calls at once.
const CALLS: usize = 32;
/// Until a call is answered, with the time in which its body arrives. The API server has most of it. Who has not read the answer so long after
/// the end of a connection is cut off.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Returns what the console serves. `server` reaches the API server and must not have an identity: each request brings its own. What is watched
/// ends with `shutdown`.
pub fn router(server: Client, shutdown: CancellationToken) -> Router {
    let places = Arc::new(Semaphore::new(CALLS));
    let calls = Router::new()
        .nest("/k8s", calls::router(server.clone()))
        .merge(watch::router(server, shutdown))
        .route_layer(middleware::from_fn_with_state(places, admit));
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .merge(page::router())
        .merge(calls)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(browser::protect))
}

/// Lets a call pass if there is a place for it, for as long as a call may take until its answer begins.
async fn admit(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let _place = places.try_acquire().map_err(|_| Refusal::Busy)?;
    within(CALL_LIMIT, next.run(request)).await.map_err(|_| Refusal::Late)
}

/// Serves until `shutdown`.
pub async fn serve(addr: SocketAddr, server: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).await.with_context(|| format!("failed to listen on {addr}"))?;
    info!(%addr, "the console is served");
    connections::serve(listener, router(server, shutdown.clone()), CALL_LIMIT, shutdown).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use axum::{
        body::Body,
        http::{Method, StatusCode, header},
    };
    use tokio::task::JoinSet;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// Returns a console whose API server never answers.
    fn console() -> Router {
        let server = service_fn(|_: Request<kube::client::Body>| {
            pending::<Result<Response<kube::client::Body>, Infallible>>()
        });
        router(Client::new(server, "default"), CancellationToken::new())
    }

    async fn status(console: Router, path: &str) -> StatusCode {
        let request = http::Request::builder().method(Method::GET).uri(path);
        let request =
            request.header(header::AUTHORIZATION, "Bearer t").body(Body::empty()).expect("a request");
        console.oneshot(request).await.expect("a router answers").status()
    }

    #[tokio::test]
    async fn calls_beyond_what_there_is_room_for_are_refused_at_once() {
        let (console, mut calls) = (console(), JoinSet::new());
        for _ in 0..=CALLS {
            let path = "/k8s/apis/messenger.posthouse.dev/v1alpha1/messengercells";
            calls.spawn(status(console.clone(), path));
        }
        let refused = calls.join_next().await.expect("a call").expect("no panic");
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(status(console.clone(), "/livez").await, StatusCode::OK, "the process is well");
    }
}
