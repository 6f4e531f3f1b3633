//! What requests share.

use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::FromRef;
use contracts::rpc::chat_service_client::ChatServiceClient;
use kit::{
    auth::TokenVerifier,
    rpc::{InternalChannel, connect},
};

use crate::{config::Config, store::cql::CqlStore};

#[derive(Clone)]
pub(crate) struct AppState {
    pub store: Arc<CqlStore>,
    pub verifier: Arc<TokenVerifier>,
    pub chats: ChatServiceClient<InternalChannel>,
}

impl AppState {
    pub(crate) fn new(config: &Config, store: Arc<CqlStore>) -> anyhow::Result<Self> {
        let verifier = TokenVerifier::new(&config.oidc).context("failed to prepare token checks")?;
        let channel = connect(&config.chat_grpc, &config.service.internal_token)?;
        Ok(Self { store, verifier, chats: ChatServiceClient::new(channel) })
    }
}

impl FromRef<AppState> for Arc<TokenVerifier> {
    fn from_ref(state: &AppState) -> Self {
        state.verifier.clone()
    }
}
