//! The user service: the profiles of a tenant's users.
//!
//! # Owns
//! Schema `user_service` of the tenant's database: profiles, with who may reach and see a user, contacts, and settings that
//! clients share. The words of names, by which users are found, follow from the profiles; a task writes those that are missing. The realm decides a user's id and username; the
//! profile is created at the registration or from the first token that comes here, whichever is first. What others are shown of a profile is kept in
//! the tenant's cache for a minute, where every service may find it (see [`kit::users`]).
//!
//! # Endpoints
//! - `GET` and `PATCH /api/users/me`: one's own profile.
//! - `GET` and `PUT /api/users/me/settings`: what one's clients share.
//! - `GET /api/users/me/contacts`, `PUT` and `DELETE /api/users/me/contacts/{user}`: one's contacts.
//! - `GET /api/users/erasures/{receipt}`: what of a deleted account is erased.
//! - `GET /api/users/{user}`, `GET /api/users`: those of others, by id and by prefix.
//! - gRPC `posthouse.v1.UserService`: `EnsureUser`, `GetUsers`, `GetNamedUsers`, `CheckPresence`, `CountUsers`, and the deletion of accounts.

pub mod api;
mod config;
pub mod domain;
pub mod error;
pub mod shown;
pub mod store;
mod words;

use std::sync::Arc;

use anyhow::Context as _;
use contracts::rpc::user_service_server::UserServiceServer;
use kit::{
    Memory, Scope, Service, Surface,
    cache::{Metrics, Shelf},
    catalog,
};
use tonic::service::Routes;

pub use config::Settings;

use crate::{
    shown::Shown,
    store::{MemoryStore, PostgresStore, ProfileStore, SCHEMA},
};

/// The user service.
pub struct User;

impl Service for User {
    const ENTRY: catalog::Service = catalog::Service::User;
    type Settings = Settings;

    async fn build(Settings { postgres, redis }: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let store = PostgresStore::new(SCHEMA.watched_pool(&postgres, scope));
        scope.spawn(words::follow(store.clone(), scope.shutdown().clone()));
        let shelf = Shelf::redis(&redis, scope.tenant()).context("failed to prepare the cache")?;
        Ok(surface(Arc::new(store), shelf, scope))
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&settings.postgres).await?)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        Ok(surface(Arc::new(MemoryStore::default()), memory.shelf.clone(), scope))
    }
}

fn surface(store: Arc<dyn ProfileStore>, shelf: Shelf, scope: &Scope) -> Surface {
    let shown = Shown::new(store, shelf, scope.metrics(Metrics::register));
    let grpc = Routes::new(UserServiceServer::new(api::grpc::UserRpc::new(shown.clone())));
    Surface { api: api::router(shown), grpc }
}
