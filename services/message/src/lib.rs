//! The message service.
//!
//! # Owns
//! The order of every chat: gapless seq 1, 2, 3, ..., a pure function of the log. How far users have read. The tables of the
//! tenant's keyspace, as `migrations/` has them.
//!
//! # Endpoints
//! REST `GET /api/messages/{chat}` for members of the chat, `GET /api/messages` for what a user wrote; gRPC `MessageService` (`History`, `Entry`, `Pins`, `Replies`, `Sync`, `Moved`, `Mark`) for the
//! tenant's other services. It queries the chat service over gRPC for who is a member, and where their history begins, and the
//! user service for who shows what they have read.
//!
//! # Consumes
//! `message.send`, as the group `<tenant>.message`; one owner per partition.
//!
//! # Publishes
//! `message.delivered`: what became of each record, perhaps more than once, always with the same content; and who has read
//! further.

pub mod history;
pub mod store;

mod api;
pub mod domain;
mod error;
mod events;
mod metrics;
mod pages;
mod receipts;
pub mod sync;

use std::sync::Arc;

use anyhow::Context as _;
use contracts::rpc::{chat_service_client::ChatServiceClient, user_service_client::UserServiceClient};
use kit::{
    Memory, Scope, Service, Surface, catalog,
    clock::now_ms,
    config::{CqlArgs, KafkaArgs},
    log::Log,
};
use scylla::client::session::Session;

use crate::{
    api::{AppState, Turns},
    domain::Generation,
    events::{Blockers, Consumer},
    metrics::Metrics,
    pages::Pages,
    receipts::Receipts,
    store::{Store, cql::CqlStore, memory::MemoryStore, migrate as migrations},
    sync::Syncer,
};

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
        let store = CqlStore::prepare(Arc::new(connect(&settings.cql).await?), now_ms).await;
        let store = Arc::new(store.context("failed to prepare statements; has `migrate` run?")?);
        let generation = Generation::new(&settings.send_topic_generation);
        surface(Log::kafka(settings.kafka), generation, store, scope)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        let session = connect(&settings.cql).await?;
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
    let receipts =
        Receipts::new(&log, scope.tenant()).context("failed to create the producer of receipts")?;
    let metrics = scope.metrics(Metrics::register);
    let consumer = Consumer {
        tenant: scope.tenant().to_owned(),
        log,
        generation: generation.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        blockers: Arc::new(Blockers::new(scope.check("log"))),
        shutdown: scope.shutdown().clone(),
    };
    scope.spawn(consumer.start().context("failed to start consuming")?);

    let pages = Arc::new(Pages::new(store.clone(), metrics));
    let state = AppState {
        syncing: Arc::new(Syncer::new(store.clone(), generation)),
        store,
        chats: ChatServiceClient::new(scope.peer(catalog::Service::Chat)?),
        users: UserServiceClient::new(scope.peer(catalog::Service::User)?),
        receipts,
        turns: Turns::default(),
        pages,
    };
    Ok(Surface { grpc: api::grpc::routes(&state), api: api::routes(state) })
}

async fn connect(args: &CqlArgs) -> anyhow::Result<Session> {
    kit::cql::session(args).await.context("failed to connect to the message store")
}
