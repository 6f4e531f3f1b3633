//! The REST and gRPC surfaces.

mod chats;
pub mod grpc;
mod members;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::state::AppState;

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    OpenApiRouter::with_openapi(kit::docs::openapi())
        .routes(routes!(chats::create, chats::list))
        .routes(routes!(chats::get))
        .routes(routes!(members::list))
        .routes(routes!(members::put, members::remove))
        .routes(routes!(members::leave))
        .with_state(state)
}
