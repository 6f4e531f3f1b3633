//! The REST API.

mod accounts;
mod external;
pub mod grpc;
mod recovery;
mod sessions;

use axum::{
    extract::FromRef,
    http::{HeaderValue, header::CACHE_CONTROL},
    middleware,
    response::Response,
};
use contracts::rpc::user_service_client::UserServiceClient;
use kit::{
    docs::{self, OpenApiRouter, routes},
    rpc::InternalChannel,
};

use crate::{
    config::Registration, deletions::Deletions, external::External, guard::Guard, metrics::Metrics,
    recovery::Recovery,
};

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub accounts: Guard,
    pub deletions: Deletions,
    pub external: External,
    pub metrics: Metrics,
    pub recovery: Recovery,
    pub registration: Registration,
    pub users: UserServiceClient<InternalChannel>,
}

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::delete))
        .routes(routes!(accounts::change_password))
        .routes(routes!(recovery::forgot))
        .routes(routes!(recovery::reset))
        .routes(routes!(recovery::get, recovery::set))
        .routes(routes!(recovery::confirm))
        .routes(routes!(external::providers))
        .routes(routes!(external::begin))
        .routes(routes!(external::callback))
        .routes(routes!(external::finish))
        .routes(routes!(sessions::sign_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::sign_out))
        .routes(routes!(sessions::list, sessions::end_others))
        .routes(routes!(sessions::end))
        .with_state(state)
        .layer(middleware::map_response(not_stored))
}

/// Tokens stay out of every cache on their way (RFC 6749, section 5.1).
async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
