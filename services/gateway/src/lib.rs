//! The gateway keeps the WebSockets of one tenant's people.
//!
//! # Owns
//! Sockets, sessions, fan-out, back-pressure. Nothing durable: a session directory in Redis that lives as long as its
//! connections.
//!
//! # Endpoints
//! `/ws` (subprotocol `posthouse.v1.json`), `/docs` (index of all services), `/docs/gateway/asyncapi.json`,
//! `/docs/gateway/protocol`. gRPC: health and reflection.
//!
//! # Consumes
//! `message.delivered` from its end and `chat.events` from its beginning, both whole, by every gateway.
//! gRPC: `ChatService` where the cache of `chat.events` knows nothing, `MessageService` for history.
//!
//! # Publishes
//! `message.send`, key = chat id, `acks=all`. A client hears `accepted` when the log has the record, never before.

mod api;
mod config;
mod domain;
mod drain;
mod error;
mod events;
mod fanout;
mod membership;
mod metrics;
mod registry;
mod sharded;
mod socket;
mod state;
mod store;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::rpc::{chat_service_client::ChatServiceClient, message_service_client::MessageServiceClient};
use kit::{Process, Surface, auth::TokenVerifier, rpc};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{Command, Config, Limits};

use crate::{
    events::SendLog,
    fanout::Fanout,
    membership::Membership,
    metrics::Metrics,
    registry::Registry,
    state::{Gateway, Troubles},
    store::Sessions,
};

/// Runs until SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let process = Process::start(&config.service, "gateway");
    serve(process, config, Limits::default()).await
}

/// Runs in a process that was started already, until it is told to stop.
pub async fn serve(process: Process, config: Config, limits: Limits) -> anyhow::Result<()> {
    let limits = Arc::new(limits);
    let tenant = config.service.tenant.clone();
    let token = &config.service.internal_token;
    let metrics = Metrics::default();
    process.metrics.register(|registry| metrics.register(registry));

    let verifier = TokenVerifier::new(&config.oidc).context("failed to prepare the token check")?;
    let chat = ChatServiceClient::new(rpc::connect(&config.chat_grpc, token)?);
    let history = MessageServiceClient::new(rpc::connect(&config.message_grpc, token)?);
    let registry = Arc::new(Registry::default());
    let membership = Arc::new(Membership::new(chat, metrics.clone()));
    let log = SendLog::new(&config.kafka, &tenant, &limits).context("failed to prepare the producer")?;
    let redis = kit::redis::connection(&config.redis).context("failed to prepare the session directory")?;
    // A pod's host name is its name.
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "gateway".to_owned());
    let (sessions, directory) = Sessions::new(redis, registry.clone(), &tenant, name, &limits);

    // Consumers and the directory end after the connections: those still get answers while they are moved away.
    let stop = CancellationToken::new();
    let health = &process.health;
    process.tasks.spawn(verifier.clone().keep_keys(health.check("keys"), process.shutdown.clone()));
    process.tasks.spawn(events::follow_membership(
        config.kafka.clone(),
        tenant.clone(),
        membership.clone(),
        health.check("membership"),
        stop.clone(),
    ));
    process.tasks.spawn(events::follow_delivered(
        config.kafka.clone(),
        tenant.clone(),
        Fanout::new(registry.clone(), membership.members.clone(), metrics.clone()),
        health.check("delivered"),
        stop.clone(),
    ));
    process.tasks.spawn(directory.keep(stop.clone()));
    // What is left of the time is for the last answers and the flush of the log.
    let over = Duration::from_secs(config.service.drain_seconds) / 2;
    process.tasks.spawn(drain::drain(registry.clone(), log.clone(), over, process.shutdown.clone(), stop));

    let gateway = Arc::new(Gateway {
        limits,
        max_connections: config.max_connections,
        verifier,
        registry,
        membership,
        log,
        history,
        sessions,
        metrics,
        troubles: Troubles::default(),
        tasks: process.tasks.clone(),
        shutdown: process.shutdown.clone(),
    });
    process.serve(Surface { api: api::router(gateway), grpc: Routes::default() }).await
}
