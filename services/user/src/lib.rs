//! The user service: the profiles of a tenant's users.
//!
//! # Owns
//! Schema `user_service` of the tenant's database: profiles, with who may reach and see a user, contacts, and settings that
//! clients share. The words of names, by which users are found, follow from the profiles; a task writes those that are missing. The realm decides a user's id and username; the
//! profile is created at the registration or from the first token that comes here, whichever is first.
//!
//! # Endpoints
//! - `GET` and `PATCH /api/users/me`: one's own profile.
//! - `GET` and `PUT /api/users/me/settings`: what one's clients share.
//! - `GET /api/users/me/contacts`, `PUT` and `DELETE /api/users/me/contacts/{user}`: one's contacts.
//! - `GET /api/users/erasures/{receipt}`: what of a deleted account is erased.
//! - `GET /api/users/{user}`, `GET /api/users`: those of others, by id and by prefix.
//! - gRPC `posthouse.v1.UserService`: `EnsureUser`, `GetUsers`, `CheckPresence`, and the deletion of accounts.

pub mod api;
pub mod domain;
pub mod error;
pub mod store;
mod words;

use std::sync::Arc;

use contracts::rpc::user_service_server::UserServiceServer;
use kit::{Memory, Scope, Service, Surface, catalog, config::PostgresArgs};
use tonic::service::Routes;

use crate::store::{MemoryStore, PostgresStore, ProfileStore, SCHEMA};

/// The user service.
pub struct User;

impl Service for User {
    const ENTRY: catalog::Service = catalog::Service::User;
    type Settings = PostgresArgs;

    async fn build(postgres: PostgresArgs, scope: &Scope) -> anyhow::Result<Surface> {
        let store = PostgresStore::new(SCHEMA.watched_pool(&postgres, scope));
        scope.spawn(words::follow(store.clone(), scope.shutdown().clone()));
        Ok(surface(Arc::new(store)))
    }

    async fn migrate(postgres: PostgresArgs) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&postgres).await?)
    }

    fn in_memory(_: &Memory, _: &Scope) -> anyhow::Result<Surface> {
        Ok(surface(Arc::new(MemoryStore::default())))
    }
}

fn surface(store: Arc<dyn ProfileStore>) -> Surface {
    let grpc = Routes::new(UserServiceServer::new(api::grpc::UserRpc::new(store.clone())));
    Surface { api: api::router(store), grpc }
}
