//! The chat service: chats, their members, and the permissions to change both.
//!
//! # Owns
//! Schema `chat_service` of the tenant's database: chats, members and their number, invite links, requests to join, blocks,
//! what moderators let users not write, scheduled messages, the outbox, and what was published from it lately.
//!
//! # Endpoints
//! - `POST /api/chats`, `GET /api/chats`, `GET`, `PATCH` and `DELETE /api/chats/{chat}`: direct chats and groups.
//! - `PATCH /api/chats/{chat}/me`: how the caller has a chat, with the draft of the caller.
//! - `GET` and `POST /api/chats/{chat}/members`, `PUT` and `DELETE /api/chats/{chat}/members/{user}`,
//!   `POST /api/chats/{chat}/leave`: members and roles.
//! - `GET /api/chats/public`, `POST /api/chats/{chat}/join`, `GET /api/chats/{chat}/requests`, `PUT` and `DELETE
//!   /api/chats/{chat}/requests/{user}`: users who join by themselves.
//! - `POST` and `GET /api/chats/{chat}/invites`, `DELETE /api/chats/{chat}/invites/{invite}`, `GET /api/invites/{code}`, `POST
//!   /api/invites/{code}/join`: invite links.
//! - `POST` and `GET /api/chats/{chat}/scheduled`, `PUT` and `DELETE /api/chats/{chat}/scheduled/{key}`, `POST
//!   /api/chats/{chat}/scheduled/{key}/send`: messages that are sent at a time.
//! - `GET /api/blocks`, `PUT` and `DELETE /api/blocks/{user}`: whom a user blocks.
//! - gRPC `posthouse.v1.ChatService`: `GetMembership`, `CheckMembers`, `ListMemberships`, `CheckBlocks`, `ListCalled`,
//!   `ListAcquaintances`, `ListPublished`; `ChatDirectory`: `ListChats`; `ChatRestrictions`: `Restrict`.
//!
//! It queries the user service over gRPC for whether new members exist and let the caller add them, and follows its list of
//! deleted accounts (see [`departures`]).
//!
//! # Publishes
//! From the outbox, in the order of the changes of a chat, at least once (see [`events::publish`]):
//! - `chat.events`: a [`contracts::event::MembershipRecord`] for every membership and role, and one without a role for a removal, with
//!   a tombstone behind it. The records of a chat are numbered. While the two users of a direct chat have a block between them, it
//!   has neither of them in the chat.
//!   A [`contracts::event::OwnStateRecord`] for every change of how a member has a chat, with a tombstone behind it.
//! - `message.send`: an entry in the chat's own log for every user who is added to or removed from a group or has another role
//!   there, and for its title, topic, picture and slow mode. The founding members of a chat are no entries: they are its state before seq 1.
//!   Also scheduled messages, when their time has come (see [`scheduled`]).

pub mod api;
pub mod deletions;
pub mod departures;
pub mod domain;
pub mod error;
pub mod events;
pub mod scheduled;
pub mod store;

use std::sync::Arc;

use contracts::rpc::{
    chat_directory_server::ChatDirectoryServer, chat_restrictions_server::ChatRestrictionsServer,
    chat_service_server::ChatServiceServer,
};
use kit::{
    Memory, Scope, Service, Surface, catalog,
    config::{KafkaArgs, PostgresArgs},
    log::Log,
};
use tonic::service::Routes;

use crate::{
    api::{AppState, Users},
    domain::Limits,
    events::{OutboxMetrics, Publisher},
    store::{ChatStore, MemoryStore, PostgresStore, SCHEMA},
};

/// Sessions of PostgreSQL for the checks of senders. Each gateway has one call under way, which carries all checks that wait there.
const CHECK_SESSIONS: u32 = 2;

/// The chat service.
///
/// Reads and changes need PostgreSQL only: while Kafka is down the outbox grows, and the service stays ready. A new chat and a
/// new member also need the user service.
pub struct Chat;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub postgres: PostgresArgs,
    #[command(flatten)]
    pub limits: Limits,
}

impl Service for Chat {
    const ENTRY: catalog::Service = catalog::Service::Chat;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let pool = SCHEMA.watched_pool(&settings.postgres, scope);
        let publisher = Publisher {
            database: SCHEMA.connect_options(&settings.postgres),
            pool: pool.clone(),
            log: Log::kafka(settings.kafka),
            tenant: scope.tenant().to_owned(),
            handover: events::HANDOVER,
            metrics: scope.metrics(OutboxMetrics::register),
        };
        scope.spawn(events::publish(publisher, scope.shutdown().clone()));
        let checks = SCHEMA.pool_of(&settings.postgres, CHECK_SESSIONS);
        surface(Arc::new(PostgresStore::new(pool, settings.limits).checking_with(checks)), scope)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&settings.postgres).await?)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let store = Arc::new(MemoryStore::default());
        let producer = memory.log.producer(None)?;
        let tenant = scope.tenant().to_owned();
        scope.spawn(events::publish_memory(store.clone(), producer, tenant, scope.shutdown().clone()));
        surface(store, scope)
    }
}

fn surface(store: Arc<dyn ChatStore>, scope: &Scope) -> anyhow::Result<Surface> {
    let rpc = api::grpc::ChatRpc::new(store.clone());
    let grpc = Routes::new(ChatServiceServer::new(rpc.clone()))
        .add_service(ChatDirectoryServer::new(rpc.clone()))
        .add_service(ChatRestrictionsServer::new(rpc));
    let users = Users::new(scope.peer(catalog::Service::User)?);
    scope.spawn(departures::follow(users.clone(), store.clone(), scope.shutdown().clone()));
    scope.spawn(deletions::follow(store.clone(), scope.shutdown().clone()));
    let (patience, changes, drafts, guesses, alarm) = Default::default();
    let state = AppState { store, users, patience, changes, drafts, guesses, alarm };
    scope.spawn(scheduled::follow(state.store.clone(), state.alarm.clone(), scope.shutdown().clone()));
    Ok(Surface { api: api::router(state), grpc })
}
