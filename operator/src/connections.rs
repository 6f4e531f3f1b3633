//! Serves HTTP to clients of which nothing is known: all that reach a port of this process may send anything, or nothing at all.
//!
//! Invariant: what all of them take together is bounded, and none of them keeps the process from ending.
//! The operator's own probes are not served by it: who takes all places here must not have the leader ended.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::time_limit::within;

/// What is read of a connection beside its body, such as a token.
const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// Connections at once. A browser has six.
const CONNECTIONS: usize = 256;
/// Until a head is there, and between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Until a connection ends with the request that is under way: one who reads nothing keeps no place.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
/// After a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves until the shutdown, and finishes what was begun: who has not read an answer `answer_limit` after the end of a connection is cut off.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    answer_limit: Duration,
    shutdown: CancellationToken,
) {
    accept(listener, router, Limits { head: HEAD_LIMIT, answer: answer_limit }, shutdown).await;
}

/// How long a client may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Until a head is there, and between two requests.
    head: Duration,
    /// For the answer that is under way when a connection ends.
    answer: Duration,
}

async fn accept(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let (places, tasks) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = next(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let serving = connection(stream, router.clone(), limits, shutdown.clone());
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

async fn connection(stream: TcpStream, router: Router, limits: Limits, shutdown: CancellationToken) {
    let service =
        service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ending = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(CONNECTION_LIMIT) => {}
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => Ok(ended),
        () = ending => {
            serving.as_mut().graceful_shutdown();
            within(limits.answer, serving).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection ended early"),
        Err(late) => debug!(error = %late, "a connection is cut off"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
    };

    use super::*;

    /// Serves at an address until the token is cancelled.
    async fn served(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (addr, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let router = Router::new().route("/livez", get(|| async { "ok" }));
        (addr, stop.clone(), tokio::spawn(accept(listener, router, limits, stop)))
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed() {
        let limits = Limits { head: Duration::from_millis(100), answer: Duration::from_secs(60) };
        let (addr, stop, serving) = served(limits).await;
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

    #[tokio::test]
    async fn a_client_that_goes_on_with_nothing_does_not_keep_the_process_from_ending() {
        let limits = Limits { head: Duration::from_secs(3600), answer: Duration::from_millis(100) };
        let (addr, stop, serving) = served(limits).await;
        let mut slow = TcpStream::connect(addr).await.expect("a connection");
        // The second request has begun when the answer to the first is read.
        slow.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\nGET /livez HT")
            .await
            .expect("a request and a part");
        let mut answer = [0; 12];
        slow.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.cancel();
        serving.await.expect("it ends while the client stays");
        drop(slow);
    }
}
