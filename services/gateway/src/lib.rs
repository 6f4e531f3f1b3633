//! The gateway holds the connections of one tenant's users: WebSockets, and event streams where a network stops those.
//!
//! # Owns
//! Sockets, sessions, fan-out, back-pressure. Nothing durable: a directory in Redis of who has how many
//! connections, which lives as long as they do.
//!
//! # Endpoints
//! `/ws` (subprotocols `posthouse.v1.json` and `posthouse.v1.cbor`, and STOMP as `v12.stomp`, `v11.stomp` and `v10.stomp`), `/events` and `/commands` (the same frames as an event stream and by POST), `/docs` (index of the tenant's services), `/docs/gateway/asyncapi.json`,
//! `/docs/gateway/protocol`. gRPC: health and reflection.
//!
//! # Consumes
//! `message.delivered` and `chat.events` from their end, `session.events` from its beginning, all whole, by every gateway.
//! gRPC: `ChatService` for the chats of users who connect, for records of their members that the log has lost, and for whether senders and readers are members, `MessageService` for history, `UserService` for
//! the profile of who connects, `PresenceService` and `MediaService` where the tenant has them.
//!
//! # Publishes
//! `message.send`, key = chat id, `acks=all`. A client receives `accepted` when the log has the record, never before.

mod api;
mod config;
mod domain;
mod drain;
mod ended;
mod error;
mod events;
mod fanout;
mod files;
mod flush;
mod membership;
mod metrics;
mod own_states;
mod positions;
mod presence;
mod registry;
mod sharded;
mod socket;
mod state;
mod store;

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use contracts::rpc::{chat_service_client::ChatServiceClient, message_service_client::MessageServiceClient};
use kit::{Memory, Scope, Service, Surface, catalog, log::Log};
use redis::aio::ConnectionManager;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{ConnectionLimits, Limits, RateLimits, Settings};

use crate::{
    domain::{exchanges::Exchanges, rates::Rates},
    ended::EndedSessions,
    events::SendLog,
    fanout::Fanout,
    files::Files,
    membership::Membership,
    metrics::Metrics,
    own_states::OwnStates,
    positions::Positions,
    presence::Presence,
    registry::Registry,
    state::Outages,
    store::{Sessions, SessionsHandle},
};

/// More than the development of a client needs.
const MAX_CONNECTIONS_IN_MEMORY: usize = 10_000;

/// The gateway.
pub struct Gateway;

impl Service for Gateway {
    const ENTRY: catalog::Service = catalog::Service::Gateway;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { kafka, redis, max_connections, allowed_origins, connections, rates, limits } =
            settings;
        let directory =
            kit::redis::connection(&redis).context("failed to prepare the directory of connections")?;
        let taken = Taken { max_connections, allowed_origins, connections, rates, limits };
        surface(Log::kafka(kafka), Some(directory), taken, scope)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        surface(memory.log.clone(), None, Taken::in_memory(), scope)
    }
}

/// What is taken from clients, and how much of it.
struct Taken {
    max_connections: usize,
    allowed_origins: Vec<String>,
    connections: ConnectionLimits,
    rates: RateLimits,
    limits: Limits,
}

impl Taken {
    fn in_memory() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS_IN_MEMORY,
            allowed_origins: Vec::new(),
            connections: ConnectionLimits::default(),
            rates: RateLimits::default(),
            limits: Limits::default(),
        }
    }
}

fn surface(
    log: Log,
    directory: Option<ConnectionManager>,
    taken: Taken,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let Taken { max_connections, allowed_origins, connections, rates, limits } = taken;
    let (limits, tenant) = (Arc::new(limits), scope.tenant());
    let metrics = Metrics::default();
    scope.metrics(|registry| metrics.register(registry));

    let chat = ChatServiceClient::new(scope.peer(catalog::Service::Chat)?);
    let history = MessageServiceClient::new(scope.peer(catalog::Service::Message)?);
    let files = Files::new(scope.optional_peer(catalog::Service::Media)?);
    let registry = Arc::new(Registry::default());
    let rates = Arc::new(Rates::new(&rates, Instant::now()));
    let positions = Arc::new(Positions::default());
    let (membership, checker, loader) =
        Membership::new(chat, (positions.clone(), registry.clone()), metrics.clone());
    let membership = Arc::new(membership);
    let presence = Arc::new(Presence::new(
        scope.optional_peer(catalog::Service::Presence)?,
        registry.clone(),
        membership.members.clone(),
        metrics.clone(),
    ));
    let ended = Arc::new(EndedSessions::new(registry.clone()));
    let send_log = SendLog::new(&log, tenant, &limits).context("failed to prepare the producer")?;

    // Consumers and the directory end after the connections: those still get responses while they are moved.
    let stop = CancellationToken::new();
    scope.spawn(checker.run(stop.clone()));
    scope.spawn(loader.run(stop.clone()));
    scope.spawn(presence::follow(presence.clone(), stop.clone()));
    scope.spawn(presence::look_again(presence.clone(), stop.clone()));
    scope.spawn(events::follow_membership(
        log.clone(),
        tenant.to_owned(),
        membership.clone(),
        (positions.clone(), registry.clone(), OwnStates::new(registry.clone(), metrics.clone())),
        scope.check("membership"),
        stop.clone(),
    ));
    scope.spawn(membership::published::keep(
        membership.clone(),
        registry.clone(),
        metrics.clone(),
        limits.positions_every,
        stop.clone(),
    ));
    scope.spawn(events::follow_session_ends(
        log.clone(),
        tenant.to_owned(),
        ended.clone(),
        scope.check("sessions"),
        stop.clone(),
    ));
    scope.spawn(events::follow_delivered(
        log,
        tenant.to_owned(),
        Fanout::new(
            registry.clone(),
            membership.members.clone(),
            (rates.clone(), membership.slow_mode.clone()),
            positions.clone(),
            metrics.clone(),
        ),
        scope.check("delivered"),
        stop.clone(),
    ));
    scope.spawn(positions::keep(
        positions.clone(),
        history.clone(),
        (registry.clone(), membership.members.clone()),
        metrics.clone(),
        limits.positions_every,
        stop.clone(),
    ));
    let sessions = match directory {
        Some(redis) => {
            // A pod's host name is its name.
            let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "gateway".to_owned());
            let (handle, sessions) = Sessions::new(
                redis,
                registry.clone(),
                tenant,
                name,
                &limits,
                connections.connections_per_user,
            );
            scope.spawn(sessions.keep(stop.clone()));
            handle
        }
        None => SessionsHandle::unheard(),
    };
    // What is left of the time is for the last responses and the flush of the log.
    let over = scope.drain_limit() / 2;
    scope.spawn(drain::drain(registry.clone(), send_log.clone(), over, scope.shutdown().clone(), stop));

    let gateway = Arc::new(state::GatewayState {
        exchanges: Arc::new(Exchanges::new(limits.clone())),
        limits,
        max_connections,
        connections,
        allowed_origins,
        verifier: scope.verifier(),
        registry,
        membership,
        ended,
        rates,
        log: send_log,
        history,
        files,
        positions,
        sessions,
        presence,
        metrics,
        outages: Outages::default(),
        tasks: scope.tasks().clone(),
        shutdown: scope.shutdown().clone(),
    });
    Ok(Surface { api: api::router(gateway, scope.tenant_services()), grpc: Routes::default() })
}
