//! The gRPC surface. The REST API is empty: clients see presence over their WebSocket.

pub mod grpc;

use kit::docs::{self, OpenApiRouter};

/// Returns the REST API, which only describes itself.
pub fn router() -> OpenApiRouter {
    docs::router()
}
