//! The REST and gRPC surfaces.

mod accounts;
pub mod grpc;
mod sessions;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::state::AppState;

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    OpenApiRouter::with_openapi(kit::docs::openapi())
        .routes(routes!(accounts::register))
        .routes(routes!(sessions::sign_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::sign_out))
        .with_state(state)
}
