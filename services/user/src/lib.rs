//! The user service: the profiles of a tenant's users.
//!
//! # Owns
//! Schema `user_service` of the tenant's database: profiles. The realm decides a user's id and username; the
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
pub mod domain;
pub mod error;
pub mod store;

use std::sync::Arc;

use contracts::rpc::user_service_server::UserServiceServer;
use kit::{Scope, Service, Surface, catalog, config::PostgresArgs, postgres};
use tonic::service::Routes;

use crate::store::{MIGRATIONS, MemoryStore, PostgresStore, ProfileStore, SCHEMA};

/// The user service.
pub struct User;

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    pub postgres: PostgresArgs,
}

impl Service for User {
    const ENTRY: catalog::Service = catalog::Service::User;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let pool = postgres::watched_pool(scope, &settings.postgres, SCHEMA);
        Ok(surface(Arc::new(PostgresStore::new(pool))))
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(postgres::migrate(&settings.postgres, SCHEMA, &MIGRATIONS).await?)
    }
}

impl User {
    /// Returns a user service that keeps its profiles for as long as the process lives.
    pub fn in_memory() -> Surface {
        surface(Arc::new(MemoryStore::default()))
    }
}

fn surface(store: Arc<dyn ProfileStore>) -> Surface {
    let grpc = Routes::new(UserServiceServer::new(api::grpc::UserRpc::new(store.clone())));
    Surface { api: api::router(store), grpc }
}
