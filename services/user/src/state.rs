//! What a request handler holds.

use std::sync::Arc;

use axum::extract::FromRef;
use kit::auth::TokenVerifier;

use crate::store::ProfileStore;

#[derive(Clone, FromRef)]
pub struct AppState {
    pub store: Arc<dyn ProfileStore>,
    pub verifier: Arc<TokenVerifier>,
}
