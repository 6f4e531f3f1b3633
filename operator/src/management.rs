//! /livez, /readyz and /metrics.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Whether this replica works, or stands by and could. It never depends on a backend.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `shutdown`. With a token, the metrics are for the clients that present it.
pub async fn serve(
    addr: SocketAddr,
    metrics_token: Option<SecretString>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(addr).await.with_context(|| format!("failed to listen on {addr}"))?;
    let router = router(metrics_token, metrics, readiness);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

fn router(metrics_token: Option<SecretString>, metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let metrics = Router::new()
        .route("/metrics", get(metrics_text))
        .layer(middleware::from_fn_with_state(metrics_token, require_token))
        .with_state(metrics);
    let probes = Router::new().route("/livez", get(|| async { "ok" })).route("/readyz", get(readyz));
    probes.with_state(readiness).merge(metrics)
}

async fn require_token(State(token): State<Option<SecretString>>, request: Request, next: Next) -> Response {
    match token {
        Some(token) if !presents(request.headers(), &token) => {
            let message = "a bearer token is required: it is in the Secret that metrics.tokenSecret of the chart names\n";
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], message).into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

/// Reports whether a request carries the token. How long that takes does not reveal where the first difference is.
fn presents(headers: &HeaderMap, token: &SecretString) -> bool {
    let token = token.expose_secret();
    let expected = format!("Bearer {token}");
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes().ct_eq(expected.as_bytes()));
    !token.is_empty() && given.is_some_and(bool::from)
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    if readiness.is_ready() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting") }
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    async fn status(token: Option<&str>, path: &str, authorization: Option<&str>) -> u16 {
        let router = router(token.map(Into::into), Arc::default(), Readiness::default());
        let mut request = Request::get(path);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("a router answers").status().as_u16()
    }

    #[tokio::test]
    async fn metrics_answer_the_scraper_and_probes_answer_everybody() {
        for (token, authorization, expected) in [
            (Some("secret"), Some("Bearer secret"), 200),
            (Some("secret"), Some("Bearer secreT"), 401),
            (Some("secret"), Some("Bearer "), 401),
            (Some("secret"), Some("Basic"), 401),
            (Some("secret"), None, 401),
            (Some(""), Some("Bearer "), 401),
            (None, None, 200),
        ] {
            let found = status(token, "/metrics", authorization).await;
            assert_eq!(found, expected, "{token:?} {authorization:?}");
        }
        assert_eq!(status(Some("secret"), "/livez", None).await, 200);
        assert_eq!(status(Some("secret"), "/readyz", None).await, 503, "not yet");
    }
}
