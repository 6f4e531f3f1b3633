//! `compact dev`: a whole messenger in one process that keeps nothing, for the development of clients.
//!
//! The services are the ones that tenants have. Below them are a log, stores and a realm in memory; there is no session
//! directory.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context as _;
use catalog::Service;
use clap::Parser;
use kit::{
    Hosted, Memory, Process, Surface,
    cache::Shelf,
    config::{LogFormat, OidcArgs, ServiceArgs, TrustArgs},
    log::Log,
    process::{Listeners, ProcessConfig},
    signing::Issuer,
    traces::TracesArgs,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::services;

/// Id of the tenant.
pub const TENANT: &str = "dev";
/// The default of `--http-addr`; the local stack has other ports.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// The port is the system's choice: the services call each other in process.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Seconds that connections get to end.
const DRAIN_SECONDS: u64 = 2;

/// A whole messenger in one process that keeps nothing.
#[derive(Clone, Debug, Parser)]
#[command(name = "compact dev")]
pub struct Settings {
    /// Address of the APIs, of /ws and of /docs.
    #[arg(long, default_value_t = ADDRESS)]
    pub http_addr: SocketAddr,
}

/// A messenger that listens and is about to serve.
pub struct Messenger {
    process: Process,
    listeners: Listeners,
    surfaces: Vec<(Service, Surface)>,
}

impl Messenger {
    /// Starts the services.
    #[expect(clippy::disallowed_methods, reason = "an edge: the token of this process")]
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let oidc = OidcArgs {
            // A name for the realm; it is never called.
            oidc_issuer: format!("http://{TENANT}.localhost/realms/{TENANT}"),
            oidc_keys_url: None,
            trust: TrustArgs::default(),
            oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
            oidc_clients: catalog::TOKEN_CLIENTS.map(str::to_owned).into(),
        };
        let issuer = Arc::new(Issuer::new(oidc.clone()));
        let verifier = issuer.verifier().context("failed to prepare the token check")?;
        let config = ProcessConfig {
            service: ServiceArgs {
                tenant: TENANT.to_owned(),
                http_addr: settings.http_addr,
                grpc_addr: ANY_PORT,
                management_addr: ANY_PORT,
                tenant_services: services().iter().map(Hosted::service).collect(),
                log_format: LogFormat::Text,
                traces: TracesArgs::default(),
                unready_seconds: 0,
                drain_seconds: DRAIN_SECONDS,
                internal_token: Uuid::new_v4().to_string().into(),
                metrics_token: None,
            },
            oidc,
            services: services().iter().map(Hosted::service).collect(),
            peers: BTreeMap::new(),
        };
        let process = Process::start_with(config, verifier)?;
        let listeners = process.listen()?;
        let surfaces = surfaces(&process, &Memory { log: Log::memory(), shelf: Shelf::memory(), issuer })?;
        Ok(Self { process, listeners, surfaces })
    }

    /// Returns the address of the APIs.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listeners.http_addr()
    }

    /// Returns the address of health and metrics.
    pub fn management_address(&self) -> anyhow::Result<SocketAddr> {
        self.listeners.management_addr()
    }

    /// Returns the token that ends the messenger when it is cancelled.
    pub fn shutdown(&self) -> CancellationToken {
        self.process.shutdown().clone()
    }

    /// Serves until it is interrupted.
    pub async fn serve(self) -> anyhow::Result<()> {
        self.process.serve_on(self.listeners, self.surfaces).await
    }
}

/// Runs `compact dev`.
#[expect(clippy::print_stdout, reason = "the output of an interactive command")]
pub fn main(settings: &Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(async {
        let messenger = Messenger::start(settings).await?;
        println!("{}", greeting(messenger.address()?));
        messenger.serve().await
    })
}

fn greeting(address: SocketAddr) -> String {
    format!(
        "A messenger is at http://{address}, in a browser too, its documentation at http://{address}/docs.\n\
         Nothing is kept: accounts, chats and messages are gone when this process ends.\n\
         Chat with: posthouse chat --url http://{address} --user ann --register"
    )
}

/// Starts every service in a process.
fn surfaces(process: &Process, memory: &Memory) -> anyhow::Result<Vec<(Service, Surface)>> {
    let start = |hosted: Hosted| {
        let service = hosted.service();
        let surface = hosted.in_memory(memory, &process.scope(service));
        Ok((service, surface.with_context(|| format!("failed to start {service}"))?))
    };
    services().into_iter().map(start).collect()
}
