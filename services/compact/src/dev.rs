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
use auth::{Auth, config::Registration, store::MemoryStore};
use catalog::Service;
use chat::Chat;
use clap::Parser;
use gateway::{Gateway, Limits};
use kit::{
    Process, Surface,
    auth::TokenVerifier,
    config::{LogFormat, OidcArgs, ServiceArgs},
    log::Log,
    process::{Listeners, ProcessConfig},
};
use message::Message;
use tokio_util::sync::CancellationToken;
use user::User;
use uuid::Uuid;

/// Id of the tenant.
pub const TENANT: &str = "dev";
/// The default of `--http-addr`; the local stack has other ports.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// The port is the system's choice: the services call each other in process.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Seconds that connections get to end.
const DRAIN_SECONDS: u64 = 2;
/// More than the development of a client needs.
const MAX_CONNECTIONS: usize = 10_000;

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
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let oidc = OidcArgs {
            // A name for the realm; it is never called.
            oidc_issuer: format!("http://{TENANT}.localhost/realms/{TENANT}"),
            oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
        };
        let realm = MemoryStore::new(oidc.clone());
        let verifier = TokenVerifier::with_keys(&oidc, &realm.key_set());
        let config = ProcessConfig {
            service: ServiceArgs {
                tenant: TENANT.to_owned(),
                http_addr: settings.http_addr,
                grpc_addr: ANY_PORT,
                management_addr: ANY_PORT,
                log_format: LogFormat::Text,
                drain_seconds: DRAIN_SECONDS,
                internal_token: Uuid::new_v4().to_string().into(),
            },
            oidc,
            services: Service::ALL.to_vec(),
            peers: BTreeMap::new(),
        };
        let process = Process::start_with(config, verifier.context("failed to prepare the token check")?);
        let listeners = process.listen().await?;
        let surfaces = surfaces(&process, realm)?;
        Ok(Self { process, listeners, surfaces })
    }

    /// Returns the address of the APIs.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listeners.http_addr()
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
        "A messenger is at http://{address}, its documentation at http://{address}/docs.\n\
         Nothing is kept: accounts, chats and messages are gone when this process ends.\n\
         Chat with: posthouse chat --url http://{address} --user ann --register"
    )
}

fn surfaces(process: &Process, realm: MemoryStore) -> anyhow::Result<Vec<(Service, Surface)>> {
    let log = Log::memory();
    let mut realm = Some(realm);
    Service::ALL
        .iter()
        .map(|&service| {
            let scope = process.scope(service);
            let surface = match service {
                Service::Gateway => {
                    Gateway::assemble(log.clone(), None, MAX_CONNECTIONS, Limits::default(), &scope)
                }
                Service::Auth => {
                    let realm = realm.take().context("there is one auth service")?;
                    Auth::assemble(Arc::new(realm), Registration::Open, &scope)
                }
                Service::User => Ok(User::in_memory()),
                Service::Chat => Chat::in_memory(&log, &scope),
                Service::Message => Message::in_memory(log.clone(), &scope),
            };
            Ok((service, surface.with_context(|| format!("failed to start {service}"))?))
        })
        .collect()
}
