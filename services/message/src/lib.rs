//! The message service.
//!
//! # Owns
//! The order of every chat: gapless seq 1, 2, 3, ..., a pure function of the log. The tables `messages`,
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
pub mod domain;
mod error;
mod events;
mod metrics;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::rpc::chat_service_client::ChatServiceClient;
use kit::{
    Memory, Scope, Service, Surface, catalog,
    config::{CqlArgs, KafkaArgs},
    log::Log,
};
use scylla::client::session::Session;
use tokio::time::Instant;

use crate::{
    api::AppState,
    domain::Generation,
    events::{Blockers, Consumer},
    metrics::Metrics,
    store::{Store, cql::CqlStore, memory::MemoryStore, migrate as migrations},
};

/// The store may start after this process: it is tried again for this long, then the process ends with its error.
const STORE_PATIENCE: Duration = Duration::from_secs(120);
const STORE_RETRY: Duration = Duration::from_secs(2);

/// The message service.
pub struct Message;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub cql: CqlArgs,
    /// The id that Kafka gave the topic message.send. A recreated topic has another one, and its offsets start
    /// again at 0: with the old id here its records would count as applied.
    #[arg(long, env)]
    pub send_topic_generation: String,
}

impl Service for Message {
    const ENTRY: catalog::Service = catalog::Service::Message;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let session = Arc::new(session(&settings.cql).await?);
        let store = CqlStore::prepare(session).await;
        let store = Arc::new(store.context("failed to prepare statements; has `migrate` run?")?);
        let generation = Generation::new(&settings.send_topic_generation);
        surface(Log::kafka(settings.kafka), generation, store, scope)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        let session = session(&settings.cql).await?;
        let done = migrations::migrate(&session, settings.cql.cql_flavor).await?;
        tracing::info!(migrations = ?done, "ran {} migrations in {}", done.len(), settings.cql.cql_keyspace);
        Ok(())
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        surface(memory.log.clone(), Generation::new("memory"), Arc::new(MemoryStore::default()), scope)
    }
}

fn surface<S: Store>(
    log: Log,
    generation: Generation,
    store: Arc<S>,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let consumer = Consumer {
        tenant: scope.tenant().to_owned(),
        log,
        generation,
        store: store.clone(),
        metrics: scope.metrics(Metrics::register),
        blockers: Arc::new(Blockers::new(scope.check("log"))),
        shutdown: scope.shutdown().clone(),
    };
    scope.spawn(consumer.start().context("failed to start consuming")?);

    let chats = ChatServiceClient::new(scope.peer(catalog::Service::Chat)?);
    let state = AppState { store, chats };
    Ok(Surface { grpc: api::grpc::routes(&state), api: api::routes(state) })
}

async fn session(args: &CqlArgs) -> anyhow::Result<Session> {
    let deadline = Instant::now() + STORE_PATIENCE;
    loop {
        match kit::cql::session(args).await {
            Ok(session) => return Ok(session),
            Err(error) if Instant::now() > deadline => {
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
