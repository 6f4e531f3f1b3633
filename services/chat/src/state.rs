//! What a request handler holds.

use std::sync::Arc;

use axum::extract::FromRef;
use kit::auth::TokenVerifier;

use crate::store::ChatStore;

#[derive(Clone, FromRef)]
pub struct AppState {
    pub store: Arc<dyn ChatStore>,
    pub verifier: Arc<TokenVerifier>,
}
