//! The auth service: registration and sign-in over the tenant's realm, and checks of its tokens.
//!
//! # Owns
//! Nothing: accounts and sessions are the realm's. This service has a service account in that one realm, which
//! manages users and nothing else.
//!
//! # Endpoints
//! - `POST /api/auth/register`, `POST /api/auth/sign-in`, `POST /api/auth/refresh`, `POST /api/auth/sign-out`.
//! - gRPC `posthouse.v1.AuthService`: `CheckToken`, `CheckMembership`.
//!
//! # Consumes
//! Nothing. It asks the chat service for memberships, and tells the user service of registrations.
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

use contracts::rpc::{
    auth_service_server::AuthServiceServer, chat_service_client::ChatServiceClient,
    user_service_client::UserServiceClient,
};
use kit::{Process, Surface, auth::TokenVerifier};
use tonic::service::Routes;

use crate::{config::Config, state::AppState, store::Keycloak};

/// Serves until SIGTERM.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let process = Process::start(&config.service, "auth");
    let verifier = TokenVerifier::new(&config.oidc)?;
    let keys = verifier.clone().keep_keys(process.health.check("oidc"), process.shutdown.clone());
    process.tasks.spawn(keys);

    let internal_token = &config.service.internal_token;
    let state = AppState {
        accounts: Arc::new(Keycloak::new(&config.realm)?),
        registration: config.registration,
        users: UserServiceClient::new(kit::rpc::connect(&config.user_grpc, internal_token)?),
    };
    let chats = ChatServiceClient::new(kit::rpc::connect(&config.chat_grpc, internal_token)?);
    let grpc = Routes::new(AuthServiceServer::new(api::grpc::AuthRpc::new(verifier, chats)));
    process.serve(Surface { api: api::router(state), grpc }).await
}
