//! The life of the process: serve, wait for the lease, lead, end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use kube::Client;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use traces::{Correlated, Origin, Traces};
use tracing::{info, warn};

use crate::{
    config::{Config, ConsoleSettings, LogFormat},
    console, controller,
    leader::{Candidate, Fence},
    management::{self, Readiness},
    metrics::Metrics,
    time_limit::within,
    waker::Waker,
};

/// Passes that are under way get this long to end after SIGTERM; what they left undone the next leader does.
const GRACE: Duration = Duration::from_secs(20);

/// Answers that are under way when everything else has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Users of the console wait for it.
const CONSOLE_READ_TIMEOUT: Duration = Duration::from_secs(60);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that vanished without a word sends nothing that would end a wait. Watches end on their own after 290 s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// What the operator does, and warnings of libraries. The CQL driver warns about much that conditions report anyway.
const LOGGED: &str = "warn,operator=info,scylla=error";

/// Runs the operator until SIGTERM. Fails when the lease is lost: the kubelet starts the process again, and it
/// stands by.
pub async fn run(config: Config) -> anyhow::Result<()> {
    start_logging(config.log_format);
    // All TLS stacks in this process use the same provider.
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let origin = Origin {
        service: "operator",
        version: env!("CARGO_PKG_VERSION"),
        tenant: None,
        instance: config.pod_name.as_deref(),
    };
    let ca_bundle = config.otlp_ca_bundle.as_deref();
    let traces = Traces::start(&config.traces, ca_bundle, origin).context("failed to prepare traces")?;
    let mut server = kube::Config::infer().await.context("failed to find the API server")?;
    server.read_timeout = Some(READ_TIMEOUT);
    server.reset_reader_on_write = true;
    let client = Client::try_from(server).context("failed to prepare the connection to the API server")?;
    let shutdown = on_signal()?;
    let metrics = Arc::new(Metrics::with(&traces));
    let readiness = Readiness::default();
    // It is served until the very end, so that the last seconds can be seen too.
    let serving = CancellationToken::new();
    let management = tokio::spawn(management::serve(
        config.management_addr,
        config.metrics_token.clone(),
        metrics.clone(),
        readiness.clone(),
        serving.clone(),
    ));

    let listener = TcpListener::bind(config.waker_addr).await;
    let listener = listener.with_context(|| format!("failed to listen on {}", config.waker_addr))?;
    let waker = Waker::default();
    let waking = tokio::spawn(waker.clone().serve(listener, metrics.clone(), serving.clone()));

    let fence = Fence::default();
    let identity = config.identity();
    let mut candidate = Candidate::new(client.clone(), &config.namespace, identity.clone(), fence.clone());
    readiness.set(true);
    let mut lost_lease = false;
    if candidate.acquire(&shutdown).await {
        metrics.set_leading(true);
        let mut work = tokio::spawn({
            let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
            async move { controller::run(client, config, &identity, fence, metrics, waker, shutdown).await }
        });
        tokio::select! {
            () = candidate.hold(&shutdown) => lost_lease = !shutdown.is_cancelled(),
            ended = &mut work => ended.context("the controller panicked")??,
        }
        if !lost_lease && !work.is_finished() {
            let ending = within(GRACE, async {
                let renewing = CancellationToken::new();
                tokio::select! {
                    () = candidate.hold(&renewing) => {}
                    _ = &mut work => {}
                }
            });
            if ending.await.is_err() {
                warn!("passes did not end in {} s and are cut off", GRACE.as_secs());
            }
        }
        work.abort();
        metrics.set_leading(false);
        if !lost_lease {
            candidate.release().await;
        }
    }
    readiness.set(false);
    traces.end(traces::LAST).await;
    serving.cancel();
    // A client that reads nothing, or never ends its request, does not keep a replica that lost its lease from starting again.
    if let Ok((management, waking)) = within(LAST_ANSWERS, async { (management.await, waking.await) }).await {
        management.context("the management server panicked")??;
        waking.context("the waker panicked")?;
    }
    if lost_lease {
        bail!("another replica leads now");
    }
    info!("ended");
    Ok(())
}

/// Serves the console until SIGTERM. It has no credentials, even where some could be found.
pub async fn console(log_format: LogFormat, settings: ConsoleSettings) -> anyhow::Result<()> {
    start_logging(log_format);
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut server = kube::Config::new(settings.server()?);
    server.root_cert_file = settings.api_ca;
    server.read_timeout = Some(CONSOLE_READ_TIMEOUT);
    server.reset_reader_on_write = true;
    // Users see a refusal, and call again.
    server.default_retry = false;
    let client = Client::try_from(server).context("failed to prepare the connection to the API server")?;
    console::serve(settings.console_addr, client, on_signal()?).await?;
    info!("ended");
    Ok(())
}

/// Requests a URL once.
pub async fn check(url: url::Url) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(CHECK_TIMEOUT).build()?;
    let status = client.get(url.clone()).send().await?.status();
    if status != http::StatusCode::OK {
        bail!("{url} answered {status}");
    }
    Ok(())
}

fn on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("received the signal to end");
        token.cancel();
    });
    Ok(shutdown)
}

fn start_logging(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).map_event_format(Correlated).init(),
        LogFormat::Text => subscriber.init(),
    }
}
