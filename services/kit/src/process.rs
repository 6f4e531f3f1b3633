//! The life of a process: start, serve, drain, stop.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
    serve::ListenerExt as _,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::SignalKind,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, trace::TraceLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{config::ServiceArgs, health::Health, metrics::Metrics, rpc, telemetry};

/// Largest REST body.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Between "not ready" and "no new connections": the time routers need to notice.
const UNREADY_GRACE: Duration = Duration::from_millis(500);

/// A running service process.
pub struct Process {
    pub service: &'static str,
    pub metrics: Metrics,
    pub health: Health,
    /// Cancelled when the process should end; every spawned task watches it.
    pub shutdown: CancellationToken,
    /// Every spawned task is spawned on it, so that the process ends after its tasks.
    pub tasks: TaskTracker,
    args: ServiceArgs,
}

/// What a service answers to.
pub struct Surface {
    /// The REST API with its state applied. Its description is served at `/docs/<service>`.
    pub api: OpenApiRouter,
    /// The gRPC services.
    pub grpc: Routes,
}

impl Process {
    /// Installs telemetry and signal handlers.
    pub fn start(args: &ServiceArgs, service: &'static str) -> Self {
        telemetry::init(args.log_format);
        // Both TLS and token code want one process-wide provider; a second install is harmless.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let shutdown = CancellationToken::new();
        tracing::info!(
            service,
            tenant = args.tenant,
            version = env!("CARGO_PKG_VERSION"),
            "starting {service}"
        );
        Self {
            service,
            metrics: Metrics::new(service, &args.tenant),
            health: Health::default(),
            shutdown,
            tasks: TaskTracker::new(),
            args: args.clone(),
        }
    }

    /// Answers until SIGTERM or SIGINT (or until `shutdown` is cancelled), then drains and ends the tasks.
    pub async fn serve(self, surface: Surface) -> anyhow::Result<()> {
        let public = bind(self.args.http_addr).await?;
        let grpc = bind(self.args.grpc_addr).await?;
        let management = bind(self.args.management_addr).await?;
        // Serving ends a moment after the process is told to stop, see UNREADY_GRACE.
        let stop_serving = CancellationToken::new();

        let servers = TaskTracker::new();
        let stop = || stop_serving.clone().cancelled_owned();
        servers.spawn(warn_on_error(
            "HTTP",
            axum::serve(public.tap_io(send_at_once), self.public(surface.api)?)
                .with_graceful_shutdown(stop()),
        ));
        servers.spawn(warn_on_error("gRPC", serve_grpc(grpc, self.grpc(surface.grpc)?, stop())));
        // Management answers to the very end: a draining pod is alive, and not ready.
        let end = CancellationToken::new();
        let managed = tokio::spawn(warn_on_error(
            "management",
            axum::serve(management, self.management()).with_graceful_shutdown(end.clone().cancelled_owned()),
        ));

        wait_for_signal(&self.shutdown).await;
        let draining = self.health.check("drain");
        draining.failing("the process is stopping");
        tracing::info!(service = self.service, "stopping {}", self.service);
        tokio::time::sleep(UNREADY_GRACE).await;
        self.shutdown.cancel();
        stop_serving.cancel();
        servers.close();
        self.tasks.close();
        let drained = async {
            self.tasks.wait().await;
            servers.wait().await;
        };
        if tokio::time::timeout(Duration::from_secs(self.args.drain_seconds), drained).await.is_err() {
            tracing::warn!(service = self.service, "gave up draining {} after its limit", self.service);
        }
        end.cancel();
        drop(managed.await);
        tracing::info!(service = self.service, "stopped {}", self.service);
        Ok(())
    }

    fn public(&self, api: OpenApiRouter) -> anyhow::Result<Router> {
        let (router, mut openapi) = api.split_for_parts();
        openapi.info.title = format!("Posthouse {}", self.service);
        openapi.info.version = env!("CARGO_PKG_VERSION").to_owned();
        let docs = format!("/docs/{}", self.service);
        let tenant =
            HeaderValue::from_str(&self.args.tenant).context("the tenant id is not a header value")?;
        Ok(router
            .merge(SwaggerUi::new(docs.clone()).url(format!("{docs}/openapi.json"), openapi))
            .fallback(not_found)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(CatchPanicLayer::new())
            .layer(SetResponseHeaderLayer::overriding(HeaderName::from_static("x-posthouse-tenant"), tenant))
            .layer(SetResponseHeaderLayer::if_not_present(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ))
            .layer(TraceLayer::new_for_http()))
    }

    fn grpc(&self, services: Routes) -> anyhow::Result<Routes> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(contracts::rpc::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .context("failed to describe the gRPC services")?;
        let (reporter, health) = tonic_health::server::health_reporter();
        let checks = self.health.clone();
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                let status = if checks.failing().is_empty() {
                    tonic_health::ServingStatus::Serving
                } else {
                    tonic_health::ServingStatus::NotServing
                };
                reporter.set_service_status("", status).await;
            }
        });
        let routes = services.add_service(reflection).add_service(health).prepare();
        let guarded = routes.into_axum_router().layer(middleware::from_fn_with_state(
            self.args.internal_token.clone(),
            rpc::require_internal_token,
        ));
        Ok(Routes::from(guarded))
    }

    fn management(&self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .with_state(self.health.clone())
            .merge(Router::new().route("/metrics", get(metrics)).with_state(self.metrics.clone()))
    }
}

/// Sends `/docs` to the documentation of this service, for those who open the port directly.
pub fn docs_redirect(service: &'static str) -> Redirect {
    Redirect::temporary(&format!("/docs/{service}"))
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("failed to listen on {addr}"))
}

/// Small frames would otherwise wait for the client's acknowledgement of the ones before: 40 ms, seen in one message of
/// two.
fn send_at_once(connection: &mut TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay: {error}");
    }
}

async fn warn_on_error(name: &'static str, server: impl IntoFuture<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "{name} server failed: {error}");
    }
}

async fn serve_grpc(listener: TcpListener, routes: Routes, stop: impl Future<Output = ()>) -> io::Result<()> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(io::Error::other)
}

async fn wait_for_signal(shutdown: &CancellationToken) {
    let mut term = tokio::signal::unix::signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut int = tokio::signal::unix::signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = shutdown.cancelled() => {}
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let failing = health.failing();
    if failing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(failing)).into_response()
}

async fn metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.encode())
}

async fn not_found() -> crate::error::ApiError {
    crate::error::ApiError::new(contracts::ErrorCode::NotFound, "no such path")
}
