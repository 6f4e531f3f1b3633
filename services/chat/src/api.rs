//! The REST and gRPC surfaces.

mod chats;
pub mod grpc;
mod members;

use std::sync::Arc;

use kit::docs::{self, OpenApiRouter, routes};

use crate::store::ChatStore;

/// Returns the REST API with its state applied.
pub fn router(store: Arc<dyn ChatStore>) -> OpenApiRouter {
    docs::router()
        .routes(routes!(chats::create, chats::list))
        .routes(routes!(chats::get))
        .routes(routes!(members::list))
        .routes(routes!(members::put, members::remove))
        .routes(routes!(members::leave))
        .with_state(store)
}
