//! The user service: who the people of a tenant are to each other.
//!
//! # Owns
//! Schema `user_service` of the tenant's database: profiles. Who somebody is (id, username) the realm decides; the
//! profile is created at the registration or from the first token that comes here, whichever is first.
//!
//! # Endpoints
//! - `GET` and `PATCH /api/users/me`: one's own profile.
//! - `GET /api/users/{user}`, `GET /api/users`: those of others, by id and by prefix.
//! - gRPC `posthouse.v1.UserService`: `EnsureUser`, `GetUsers`.
//!
//! # Consumes
//! Nothing.
//!
//! # Publishes
//! Nothing.

pub mod api;
pub mod config;
pub mod domain;
pub mod error;
pub mod state;
pub mod store;

use std::sync::Arc;

use contracts::rpc::user_service_server::UserServiceServer;
use kit::{Process, Surface, auth::TokenVerifier};
use tonic::service::Routes;

use crate::{
    config::Config,
    state::AppState,
    store::{MIGRATIONS, PostgresStore, SCHEMA},
};

/// Serves until SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let process = Process::start(&config.service, "user");
    let verifier = TokenVerifier::new(&config.oidc)?;
    let pool = kit::postgres::pool(&config.postgres, SCHEMA);
    let shutdown = &process.shutdown;
    let keys = verifier.clone().keep_keys(process.health.check("oidc"), shutdown.clone());
    process.tasks.spawn(keys);
    let watch = kit::postgres::watch(pool.clone(), process.health.check("postgres"), shutdown.clone());
    process.tasks.spawn(watch);

    let state = AppState { store: Arc::new(PostgresStore::new(pool)), verifier };
    let grpc = Routes::new(UserServiceServer::new(api::grpc::UserRpc::new(state.store.clone())));
    process.serve(Surface { api: api::router(state), grpc }).await
}

/// Creates or updates the tables.
pub async fn migrate(config: Config) -> anyhow::Result<()> {
    kit::telemetry::init(config.service.log_format);
    kit::postgres::migrate(&config.postgres, SCHEMA, &MIGRATIONS).await?;
    Ok(())
}
