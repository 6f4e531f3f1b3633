//! The presence service: which users of a tenant are online, away or typing, and when the others were last seen.
//!
//! # Owns
//! Nothing durable. Each replica has the users of all gateways in memory; Redis carries changes between the replicas, and keeps
//! for a month when users were seen last.
//!
//! # Endpoints
//! gRPC `posthouse.v1.PresenceService`: `Attach` for gateways, `Look` for whom a viewer may see. No REST API.
//!
//! # Consumes
//! The channel `mt:<tenant>:presence` of Redis, from the other replicas. gRPC: `UserService` and `ChatService` for who may see
//! whom.
//!
//! # Publishes
//! The same channel. `presence.changes`, key = user id: a [`contracts::event::PresenceChangeRecord`] for each user who changed, at most
//! once in an interval, where the tenant has the topic.

pub mod api;
mod config;
pub mod domain;
pub mod error;
pub mod events;
pub mod hub;
mod metrics;
pub mod samples;
pub mod store;
pub mod users;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contracts::rpc::presence_service_server::PresenceServiceServer;
use kit::{Memory, Scope, Service, Surface, catalog, log::Log};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{Settings, Times};

use crate::{
    api::grpc::PresenceRpc,
    events::Channel,
    hub::Hub,
    samples::Sampler,
    store::{MemoryStore, RedisStore},
    users::Visibility,
};

/// Parts of a heartbeat in which the time is looked at.
const TICKS: u32 = 10;

/// The presence service.
pub struct Presence;

impl Service for Presence {
    const ENTRY: catalog::Service = catalog::Service::Presence;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { redis, kafka, sample_seconds, times } = settings;
        let connection =
            || kit::redis::connection(&redis).context("failed to prepare the connection to Redis");
        let (hub, news) = Hub::new(times, Arc::new(RedisStore::new(connection()?, scope.tenant())));
        let channel = Channel::new(redis.clone(), scope.tenant());
        let stop = scope.shutdown();
        scope.spawn(Channel::publish(channel.name(), connection()?, news, hub.clone(), stop.clone()));
        scope.spawn(channel.follow(hub.clone(), stop.clone()));
        if let Some(seconds) = sample_seconds {
            let (users, every) = (scope.peer(catalog::Service::User)?, Duration::from_secs(seconds.into()));
            let sampler = Sampler::new(hub.clone(), users, &Log::kafka(kafka), scope.tenant(), every);
            scope.spawn(sampler.context("failed to prepare the producer")?.run(stop.clone()));
        }
        surface(hub, scope)
    }

    fn in_memory(_: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        surface(Hub::alone(Times::default(), Arc::new(MemoryStore::default())), scope)
    }
}

fn surface(hub: Arc<Hub>, scope: &Scope) -> anyhow::Result<Surface> {
    let visibility =
        Visibility::new(scope.peer(catalog::Service::User)?, scope.peer(catalog::Service::Chat)?);
    scope.metrics(|registry| hub.metrics.register(registry));
    scope.spawn(keep_time(hub.clone(), scope.shutdown().clone()));
    let rpc = PresenceRpc::new(hub, visibility, scope.tasks().clone(), scope.shutdown().clone());
    Ok(Surface { api: api::router(), grpc: Routes::new(PresenceServiceServer::new(rpc)) })
}

/// Lets leases end, until stopped.
pub async fn keep_time(hub: Arc<Hub>, stop: CancellationToken) {
    let mut ticks = interval((hub.times.heartbeat / TICKS).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => hub.tick().await,
        }
    }
}
