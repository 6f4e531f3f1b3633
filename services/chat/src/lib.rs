//! The chat service: which chats there are, who is in them, and who may change that.
//!
//! # Owns
//! Schema `chat_service` of the tenant's database: chats, members, and the outbox.
//!
//! # Endpoints
//! - `POST /api/chats`, `GET /api/chats`, `GET /api/chats/{chat}`: direct chats and groups.
//! - `GET /api/chats/{chat}/members`, `PUT` and `DELETE /api/chats/{chat}/members/{user}`,
//!   `POST /api/chats/{chat}/leave`: members and roles.
//! - gRPC `posthouse.v1.ChatService`: `GetMembership`, `ListMembers`.
//!
//! # Consumes
//! Nothing.
//!
//! # Publishes
//! From the outbox, in the order of the changes of a chat, at least once (see [`events::publish`]):
//! - `chat.events`: a [`contracts::event::MembershipRecord`] for every membership and role, a tombstone for a removal.
//! - `message.send`: an entry in the chat's own log for everyone who is added to or removed from a group. The
//!   founding members of a chat are no entries: they are its state before seq 1.

pub mod api;
pub mod config;
pub mod domain;
pub mod error;
pub mod events;
pub mod state;
pub mod store;

use std::sync::Arc;

use contracts::rpc::chat_service_server::ChatServiceServer;
use kit::{Process, Surface, auth::TokenVerifier};
use tonic::service::Routes;

use crate::{
    config::Config,
    events::{OutboxMetrics, Publisher},
    state::AppState,
    store::{MIGRATIONS, PostgresStore, SCHEMA},
};

/// Serves until SIGTERM.
///
/// Reads and changes need PostgreSQL only: while Kafka is down the outbox grows, and the process stays ready.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let process = Process::start(&config.service, "chat");
    let verifier = TokenVerifier::new(&config.oidc)?;
    let pool = kit::postgres::pool(&config.postgres, SCHEMA);
    let shutdown = &process.shutdown;
    let keys = verifier.clone().keep_keys(process.health.check("oidc"), shutdown.clone());
    process.tasks.spawn(keys);
    let watch = kit::postgres::watch(pool.clone(), process.health.check("postgres"), shutdown.clone());
    process.tasks.spawn(watch);

    let metrics = OutboxMetrics::default();
    process.metrics.register(|registry| metrics.register(registry));
    let publisher = Publisher {
        database: kit::postgres::connect_options(&config.postgres, SCHEMA),
        kafka: kit::kafka::producer_config(&config.kafka),
        tenant: config.service.tenant.clone(),
        handover: events::HANDOVER,
        metrics,
    };
    process.tasks.spawn(events::publish(publisher, shutdown.clone()));

    let state = AppState { store: Arc::new(PostgresStore::new(pool)), verifier };
    let grpc = Routes::new(ChatServiceServer::new(api::grpc::ChatRpc::new(state.store.clone())));
    process.serve(Surface { api: api::router(state), grpc }).await
}

/// Creates or updates the tables.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    kit::telemetry::init(config.service.log_format);
    kit::postgres::migrate(&config.postgres, SCHEMA, &MIGRATIONS).await?;
    Ok(())
}
