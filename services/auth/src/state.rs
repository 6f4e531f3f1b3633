//! What a request handler holds.

use std::sync::Arc;

use axum::extract::FromRef;
use contracts::rpc::user_service_client::UserServiceClient;
use kit::rpc::InternalChannel;

use crate::{config::Registration, store::AccountStore};

#[derive(Clone, FromRef)]
pub struct AppState {
    pub accounts: Arc<dyn AccountStore>,
    pub registration: Registration,
    pub users: UserServiceClient<InternalChannel>,
}
