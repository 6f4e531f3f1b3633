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

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use pages::browser;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{info, warn};

use self::refusal::Refusal;
use crate::time_limit::within;

// All who reach the port may send what is no token at all: what they take together fits into the pod.

/// A manifest is a hundredth of it.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// What is read of a connection beside its body, such as a token.
const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// Connections at once. A browser has six.
const CONNECTIONS: usize = 256;
/// Calls at once.
const CALLS: usize = 32;
/// Until a head is there, and between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Until a call is answered, with the time in which its body arrives. The API server has most of it.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// After a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Returns what the console serves. `server` reaches the API server and must not have an identity: each request brings its own.
pub fn router(server: Client) -> Router {
    let places = Arc::new(Semaphore::new(CALLS));
    let calls = calls::router(server).layer(middleware::from_fn_with_state(places, admit));
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .merge(page::router())
        .nest("/k8s", calls)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(browser::protect))
}

/// Lets a call pass if there is a place for it, for as long as a call may take.
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
    accept(listener, router(server), HEAD_LIMIT, shutdown).await;
    Ok(())
}

/// Accepts connections until the shutdown, and finishes what was begun on them.
async fn accept(listener: TcpListener, router: Router, head_limit: Duration, shutdown: CancellationToken) {
    let (places, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = next(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let serving = connection(stream, router.clone(), head_limit, shutdown.clone());
                tasks.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "failed to accept a connection");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Waits until there is a place, and a connection that takes it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, router: Router, head_limit: Duration, shutdown: CancellationToken) {
    let service =
        service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_limit)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use axum::http::{Method, StatusCode, header};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinSet,
    };
    use tower::service_fn;

    use super::*;

    /// Returns a console whose API server never answers.
    fn console() -> Router {
        let server = service_fn(|_: Request<kube::client::Body>| {
            pending::<Result<Response<kube::client::Body>, Infallible>>()
        });
        router(Client::new(server, "default"))
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

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (addr, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let serving = tokio::spawn(accept(listener, console(), Duration::from_millis(100), stop.clone()));
        let mut slow = TcpStream::connect(addr).await.expect("a connection");
        slow.write_all(b"GET /livez HT").await.expect("a part of a head");
        let mut client = TcpStream::connect(addr).await.expect("a connection");
        client
            .write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .expect("a request");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("it is closed");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        answer.clear();
        slow.read_to_end(&mut answer).await.expect("it is closed");
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        stop.cancel();
        serving.await.expect("no panic");
    }
}
