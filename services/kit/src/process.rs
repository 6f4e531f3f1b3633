//! The life of a process: start, serve, drain, stop.

mod listener;
mod progress;
pub(crate) mod shared;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Extension, Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower_http::{set_header::SetResponseHeaderLayer, trace::TraceLayer};
use traces::{Origin, Traces};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::{listener::Accepted, shared::Shared};
pub use self::{listener::socket_of, shared::ProcessConfig};
use crate::{
    auth::TokenVerifier,
    browser, docs, edge,
    health::Health,
    metrics::{self, Metrics},
    rpc,
    scope::Scope,
    service::Surface,
    telemetry, trace,
};

/// Connections that the kernel keeps until they are accepted. It lowers this to `net.core.somaxconn`, 4,096 by default.
const BACKLOG: u32 = 16 * 1024;

/// A running process with the services of one tenant, or some of them.
pub struct Process {
    shared: Arc<Shared>,
    /// The scopes that were given out, to notice a service that cannot go on.
    scopes: Mutex<Vec<Scope>>,
    traces: Traces,
}

/// Where a process listens.
pub struct Listeners {
    public: TcpListener,
    grpc: TcpListener,
    management: TcpListener,
}

impl Listeners {
    /// Returns the address of the public HTTP API; its port is the system's choice if it was configured as 0.
    pub fn http_addr(&self) -> anyhow::Result<SocketAddr> {
        self.public.local_addr().context("a listener has no address")
    }

    /// Returns the address of health and metrics, likewise.
    pub fn management_addr(&self) -> anyhow::Result<SocketAddr> {
        self.management.local_addr().context("a listener has no address")
    }
}

impl Process {
    /// Installs telemetry and starts what the services share.
    pub fn start(config: ProcessConfig) -> anyhow::Result<Self> {
        let verifier = TokenVerifier::new(&config.oidc).context("failed to prepare the token check")?;
        Self::start_with(config, verifier)
    }

    /// Starts like [`Self::start`], with a verifier of its own kind.
    pub fn start_with(config: ProcessConfig, verifier: Arc<TokenVerifier>) -> anyhow::Result<Self> {
        let traces = start_tracing(&config)?;
        telemetry::init(config.service.log_format, traces::is_on());
        for service in &config.services {
            tracing::info!(
                %service,
                tenant = config.service.tenant,
                version = env!("CARGO_PKG_VERSION"),
                "starting {service}"
            );
        }
        let shared = Shared {
            config,
            verifier,
            metrics: Metrics::default(),
            health: Health::default(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            routes: Arc::default(),
        };
        shared.metrics.register_process(&shared.config.service.tenant, |registry| traces.register(registry));
        // Before the verifier is given out: no service of the process takes a token that another one does not.
        shared.verifier.require_profiles(shared.channel(catalog::Service::User)?);
        let keys = shared.verifier.clone().keep_keys(shared.health.check("oidc"), shared.shutdown.clone());
        shared.tasks.spawn(keys);
        Ok(Self { shared: Arc::new(shared), scopes: Mutex::default(), traces })
    }

    /// Returns the scope that a service of this process is built in.
    pub fn scope(&self, service: catalog::Service) -> Scope {
        let scope = Scope::new(service, self.shared.clone());
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).push(scope.clone());
        scope
    }

    /// Returns the token that ends the process when it is cancelled.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    /// Serves until SIGTERM or SIGINT (or until a service cannot go on), then drains and ends the tasks.
    pub async fn serve(self, surfaces: Vec<(catalog::Service, Surface)>) -> anyhow::Result<()> {
        let listeners = self.listen()?;
        self.serve_on(listeners, surfaces).await
    }

    /// Listens on the addresses of the configuration; a client that connects waits for [`Self::serve_on`].
    pub fn listen(&self) -> anyhow::Result<Listeners> {
        let config = &self.shared.config.service;
        Ok(Listeners {
            public: bind(config.http_addr)?,
            grpc: bind(config.grpc_addr)?,
            management: bind(config.management_addr)?,
        })
    }

    /// Serves like [`Self::serve`], on listeners that are there already.
    pub async fn serve_on(
        self,
        listeners: Listeners,
        surfaces: Vec<(catalog::Service, Surface)>,
    ) -> anyhow::Result<()> {
        let Shared { config, health, shutdown, tasks, .. } = &*self.shared;
        let Listeners { public, grpc, management } = listeners;
        // Serving ends some time after the process is stopped, see `unready_seconds`.
        let stop_serving = CancellationToken::new();

        let (apis, routes) = surfaces
            .into_iter()
            .map(|(service, surface)| ((service, surface.api), surface.grpc))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let routes = merged(routes);
        drop(self.shared.routes.set(routes.clone()));

        let servers = TaskTracker::new();
        let stop = || stop_serving.clone().cancelled_owned();
        servers.spawn(warn_on_error(
            "HTTP",
            axum::serve(Accepted::from(public)?, self.public(apis)?).with_graceful_shutdown(stop()),
        ));
        servers.spawn(warn_on_error("gRPC", serve_grpc(grpc, self.grpc(routes)?, stop())));
        // Management is served to the very end: a draining pod is alive, and not ready.
        let end = CancellationToken::new();
        let managed = tokio::spawn(warn_on_error(
            "management",
            axum::serve(management, self.management()).with_graceful_shutdown(end.clone().cancelled_owned()),
        ));

        self.until_stopped().await;
        let draining = health.check("drain");
        draining.failing("the process is stopping");
        for service in &config.services {
            tracing::info!(%service, "stopping {service}");
        }
        tokio::time::sleep(Duration::from_secs(config.service.unready_seconds)).await;
        shutdown.cancel();
        stop_serving.cancel();
        servers.close();
        tasks.close();
        let drained = async {
            tasks.wait().await;
            servers.wait().await;
        };
        if tokio::time::timeout(Duration::from_secs(config.service.drain_seconds), drained).await.is_err() {
            tracing::warn!("gave up draining after {} s", config.service.drain_seconds);
        }
        end.cancel();
        drop(managed.await);
        self.traces.end(traces::LAST).await;
        for service in &config.services {
            tracing::info!(%service, "stopped {service}");
        }
        Ok(())
    }

    /// Waits for a signal, for the shutdown, or for a service that cannot go on.
    async fn until_stopped(&self) {
        let stopped = CancellationToken::new();
        for scope in self.scopes.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let (process, stopped) = (self.shared.shutdown.clone(), stopped.clone());
            self.shared.tasks.spawn(async move {
                scope.shutdown().cancelled().await;
                if !process.is_cancelled() {
                    let service = scope.service();
                    tracing::error!(%service, "{service} cannot go on: the process stops");
                }
                stopped.cancel();
            });
        }
        wait_for_signal(&stopped, &self.shared.shutdown).await;
    }

    fn public(&self, apis: Vec<(catalog::Service, OpenApiRouter)>) -> anyhow::Result<Router> {
        let tenant = HeaderValue::from_str(&self.shared.config.service.tenant)
            .context("the tenant id is not a header value")?;
        let descriptions: Vec<_> = apis.iter().map(|(_, api)| api.get_openapi().clone()).collect();
        let router = apis
            .into_iter()
            .map(|(service, api)| documented(service, api))
            .fold(Router::new(), |all, router| all.merge(router));
        let router = edge::guarded(router, &descriptions, &self.shared.config.service.tenant_services)
            .layer(Extension(self.shared.verifier.clone()))
            .layer(SetResponseHeaderLayer::overriding(
                HeaderName::from_static(catalog::TENANT_HEADER),
                tenant,
            ))
            .layer(middleware::from_fn(browser::protect))
            .layer(TraceLayer::new_for_http());
        Ok(if traces::is_on() { router.layer(middleware::from_fn(trace::request)) } else { router })
    }

    fn grpc(&self, services: Routes) -> anyhow::Result<Routes> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(contracts::rpc::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .context("failed to describe the gRPC services")?;
        let (reporter, health) = tonic_health::server::health_reporter();
        let checks = self.shared.health.clone();
        let shutdown = self.shared.shutdown.clone();
        self.shared.tasks.spawn(async move {
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
            self.shared.config.service.internal_token.clone(),
            rpc::require_internal_token,
        ));
        Ok(Routes::from(guarded))
    }

    fn management(&self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .with_state(self.shared.health.clone())
            .merge(metrics::router(
                self.shared.metrics.clone(),
                self.shared.config.service.metrics_token.clone(),
            ))
    }
}

/// Returns the router of a service's API and of its documentation.
fn documented(service: catalog::Service, api: OpenApiRouter) -> Router {
    let (router, mut openapi) = api.split_for_parts();
    openapi.info.title = format!("Posthouse {service}");
    openapi.info.version = env!("CARGO_PKG_VERSION").to_owned();
    docs::complete(&mut openapi);
    let docs = format!("/docs/{service}");
    router.merge(SwaggerUi::new(docs.clone()).url(format!("{docs}/openapi.json"), openapi))
}

/// Returns the gRPC APIs of several services as one.
fn merged(routes: Vec<Routes>) -> Routes {
    // Each returns "unimplemented" for unknown paths, and two fallbacks do not merge: the first one's stays.
    let routers = routes.into_iter().map(|routes| routes.into_axum_router().reset_fallback());
    let router = routers.fold(Routes::default().into_axum_router(), Router::merge);
    // In front of a call from this process, too; behind the check of the token for one from another.
    let router = if traces::is_on() { router.layer(middleware::from_fn(trace::called)) } else { router };
    Routes::from(router).prepare()
}

/// Begins to trace, where there is a collector.
fn start_tracing(config: &ProcessConfig) -> anyhow::Result<Traces> {
    let service = match config.services[..] {
        [service] => service.as_str(),
        _ => "compact",
    };
    // A pod's host name is its name.
    let instance = std::env::var("HOSTNAME").ok();
    let origin = Origin {
        service,
        version: env!("CARGO_PKG_VERSION"),
        tenant: Some(&config.service.tenant),
        instance: instance.as_deref(),
    };
    let ca_bundle = config.oidc.trust.oidc_ca_bundle.as_deref();
    Traces::start(&config.service.traces, ca_bundle, origin).context("failed to prepare traces")
}

fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    listener::open(addr, BACKLOG).with_context(|| format!("failed to listen on {addr}"))
}

async fn warn_on_error(name: &'static str, server: impl IntoFuture<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(%error, "{name} server failed: {error}");
    }
}

async fn serve_grpc(listener: TcpListener, routes: Routes, stop: impl Future<Output = ()>) -> io::Result<()> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(io::Error::other)
}

async fn wait_for_signal(stopped: &CancellationToken, shutdown: &CancellationToken) {
    let mut term = tokio::signal::unix::signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut int = tokio::signal::unix::signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = stopped.cancelled() => {}
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
