//! The auth service: registration and sign-in over the tenant's realm.
//!
//! # Owns
//! Nothing: accounts and sessions are the realm's. This service has a service account in that one realm, which
//! manages users and nothing else.
//!
//! # Endpoints
//! - `POST /api/auth/register`, `POST /api/auth/sign-in`, `POST /api/auth/refresh`, `POST /api/auth/sign-out`.
//!
//! It reports registrations to the user service over gRPC.

pub mod api;
pub mod config;
pub mod domain;
pub mod error;
pub mod guard;
pub mod store;

use std::sync::Arc;

use contracts::rpc::user_service_client::UserServiceClient;
use kit::{Memory, Scope, Service, Surface, catalog};
use tonic::service::Routes;

use crate::{
    api::AppState,
    config::{Registration, Settings},
    domain::attempts::AttemptRates,
    guard::Guard,
    store::{AccountStore, Keycloak, MemoryStore},
};

/// The auth service.
pub struct Auth;

impl Service for Auth {
    const ENTRY: catalog::Service = catalog::Service::Auth;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        surface(Arc::new(Keycloak::new(&settings.realm)?), settings.registration, scope)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        surface(Arc::new(MemoryStore::new(memory.issuer.clone())), Registration::Open, scope)
    }
}

fn surface(
    accounts: Arc<dyn AccountStore>,
    registration: Registration,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let users = UserServiceClient::new(scope.peer(catalog::Service::User)?);
    let state = AppState { accounts: Guard::new(accounts, AttemptRates::default()), registration, users };
    Ok(Surface { api: api::router(state), grpc: Routes::default() })
}
