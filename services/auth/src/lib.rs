//! The auth service: registration and sign-in over the tenant's realm.
//!
//! # Owns
//! Nothing: accounts and sessions are the realm's. This service has a service account in that one realm, which
//! manages users and nothing else. For a few seconds Redis has what refresh tokens gave, so that all replicas give the same.
//!
//! # Endpoints
//! - `POST /api/auth/register`, `POST /api/auth/change-password`, `POST /api/auth/delete-account`: accounts.
//! - `GET /api/auth/providers`, `GET` and `POST /api/auth/login`, `GET /api/auth/callback`: sign-in with external identity providers.
//! - `POST /api/auth/sign-in`, `POST /api/auth/refresh`, `POST /api/auth/sign-out`: sessions.
//! - `GET` and `DELETE /api/auth/sessions`, `DELETE /api/auth/sessions/{session}`: sessions of a user on all devices.
//!
//! It reports registrations and deletions to the user service over gRPC, which keeps the deletions that are not finished.
//!
//! # Publishes
//! `session.events`, key = user id: a [`contracts::event::SessionEndRecord`] for every session that ends before its time,
//! and for every account that is deleted. The request that ended it is answered once the log has the record.

pub mod api;
pub mod config;
pub mod deletions;
pub mod domain;
pub mod error;
pub mod events;
pub mod external;
pub mod guard;
mod sealed;
pub mod store;

use std::sync::Arc;

use anyhow::Context as _;
use contracts::rpc::user_service_client::UserServiceClient;
use kit::{Memory, Scope, Service, Surface, catalog, log::Log};
use tonic::service::Routes;

use crate::{
    api::AppState,
    config::{Registration, Settings},
    deletions::Deletions,
    domain::attempts::AttemptRates,
    events::SessionEvents,
    external::External,
    guard::{Guard, Refreshes},
    store::{AccountStore, Keycloak, MemoryStore, SharedRefreshes},
};

/// The auth service.
pub struct Auth;

impl Service for Auth {
    const ENTRY: catalog::Service = catalog::Service::Auth;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { realm, external, kafka, redis, registration } = settings;
        let external =
            External::new(external, &realm).context("failed to prepare external identity providers")?;
        let redis =
            kit::redis::connection(&redis).context("failed to prepare what replicas share of refreshes")?;
        let refreshes = Refreshes::shared(SharedRefreshes::new(redis, scope.tenant()));
        surface(
            Arc::new(Keycloak::new(&realm)?),
            &Log::kafka(kafka),
            refreshes,
            registration,
            external,
            scope,
        )
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let accounts = Arc::new(MemoryStore::new(memory.issuer.clone()));
        surface(accounts, &memory.log, Refreshes::in_process(), Registration::Open, External::none(), scope)
    }
}

fn surface(
    accounts: Arc<dyn AccountStore>,
    log: &Log,
    refreshes: Refreshes,
    registration: Registration,
    external: External,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let users = UserServiceClient::new(scope.peer(catalog::Service::User)?);
    let events = SessionEvents::new(log, scope.tenant()).context("failed to prepare the producer")?;
    scope.spawn(events.clone().flush_at_the_end(scope.shutdown().clone()));
    let accounts = Guard::new(accounts, events, refreshes, AttemptRates::default(), scope.tasks().clone());
    let deletions = Deletions::new(accounts.clone(), users.clone());
    scope.spawn(deletions.clone().keep_finishing(scope.shutdown().clone()));
    let state = AppState { accounts, deletions, external, registration, users };
    Ok(Surface { api: api::router(state), grpc: Routes::default() })
}
