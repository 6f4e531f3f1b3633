//! The message service.
//!
//! # Owns
//! The order of every chat: seq 1, 2, 3, ... without holes, a pure function of the log. The tables `messages`,
//! `message_keys`, `chat_heads` and `log_positions` of the tenant's keyspace.
//!
//! # Endpoints
//! REST `GET /api/messages/{chat}` for members of the chat; gRPC `MessageService` (`History`, `Heads`) for the
//! tenant's other services, which have checked membership themselves.
//!
//! # Consumes
//! `message.send`, as the group `<tenant>.message`; one owner per partition.
//!
//! # Publishes
//! `message.delivered`: what became of each record, perhaps more than once, always with the same content.

pub mod store;

mod api;
mod config;
pub mod domain;
mod error;
mod events;
mod metrics;
mod state;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kit::{Process, Surface};

pub use config::{Command, Config};

use crate::{
    domain::Generation,
    events::{Consumer, Obstacles},
    metrics::Metrics,
    state::AppState,
    store::{cql::CqlStore, migrate as migrations},
};

/// The store may start after this process: it is tried again for this long, then the process ends with its error.
const STORE_PATIENCE: Duration = Duration::from_secs(120);
const STORE_RETRY: Duration = Duration::from_secs(2);

/// Runs until SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let process = Process::start(&config.service, "message");
    let session = Arc::new(session(&config).await?);
    let store =
        CqlStore::prepare(session).await.context("failed to prepare statements; has `migrate` run?")?;
    let store = Arc::new(store);

    let state = AppState::new(&config, store.clone())?;
    process
        .tasks
        .spawn(state.verifier.clone().keep_keys(process.health.check("realm"), process.shutdown.clone()));
    let consumer = Consumer {
        tenant: config.service.tenant.clone(),
        kafka: config.kafka.clone(),
        generation: Generation::new(&config.send_topic_generation),
        store,
        metrics: Metrics::register(&process.metrics),
        obstacles: Arc::new(Obstacles::new(process.health.check("log"))),
        shutdown: process.shutdown.clone(),
    };
    process.tasks.spawn(consumer.start().context("failed to start consuming")?);
    process.serve(Surface { grpc: api::grpc::routes(&state), api: api::routes(state) }).await
}

/// Creates the tables that are missing.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    kit::telemetry::init(config.service.log_format);
    let session = session(&config).await?;
    let done = migrations::migrate(&session, config.cql.cql_flavor).await?;
    tracing::info!(migrations = ?done, "ran {} migrations in {}", done.len(), config.cql.cql_keyspace);
    Ok(())
}

async fn session(config: &Config) -> anyhow::Result<scylla::client::session::Session> {
    let deadline = tokio::time::Instant::now() + STORE_PATIENCE;
    loop {
        match kit::cql::session(&config.cql).await {
            Ok(session) => return Ok(session),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error).context("failed to connect to the message store");
            }
            Err(error) => {
                let why = kit::error::chain(&error);
                tracing::warn!(error = why, "the message store does not answer yet: {why}");
            }
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
}
