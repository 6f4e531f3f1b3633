//! The REST API.

mod accounts;
mod sessions;

use std::sync::Arc;

use axum::extract::FromRef;
use contracts::rpc::user_service_client::UserServiceClient;
use kit::{
    docs::{self, OpenApiRouter, routes},
    rpc::InternalChannel,
};

use crate::{config::Registration, store::AccountStore};

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub accounts: Arc<dyn AccountStore>,
    pub registration: Registration,
    pub users: UserServiceClient<InternalChannel>,
}

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(accounts::register))
        .routes(routes!(sessions::sign_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::sign_out))
        .with_state(state)
}
