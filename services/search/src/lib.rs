//! The search service: finds messages by their words.
//!
//! # Owns
//! An index of the texts of all chats, in the folder `--index-folder` or in memory. Nothing in it is the only copy: without it the
//! service reads all chats again, and finds what it has read so far meanwhile. Each replica has an index of its own.
//!
//! # Endpoints
//! REST `GET /api/search/messages` and `GET /api/search/status`. No gRPC API.
//!
//! # Consumes
//! `message.delivered`, all partitions, from where the index was left. gRPC: `ChatService` for which chats a user is in and where
//! their history begins, and `MessageService` for what was found, with each search; `ChatDirectory` and `MessageService` for what was before
//! the index.
//!
//! # Publishes
//! Nothing.

mod api;
mod config;
pub mod domain;
mod error;
pub mod events;
mod metrics;
pub mod store;

use std::sync::Arc;

use anyhow::Context as _;
use contracts::rpc::{chat_service_client::ChatServiceClient, message_service_client::MessageServiceClient};
use kit::{Memory, Scope, Service, Surface, catalog, log::Log};
use tonic::service::Routes;

pub use config::Settings;

pub use crate::{
    api::{AppState, Searches, routes},
    metrics::Metrics,
};
use crate::{
    domain::Analyzer,
    events::{Indexer, Source, Standing, Times},
    store::{EmbeddedIndex, Index},
};

/// The search service.
pub struct SearchService;

impl Service for SearchService {
    const ENTRY: catalog::Service = catalog::Service::Search;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { kafka, index_folder } = settings;
        let analyzer = Arc::new(Analyzer::default());
        let index = match &index_folder {
            Some(folder) => EmbeddedIndex::open(folder, scope.tenant(), analyzer.clone())
                .with_context(|| format!("failed to open the index in {}", folder.display()))?,
            None => EmbeddedIndex::in_memory(analyzer.clone()).context("failed to create the index")?,
        };
        surface(Log::kafka(kafka), Arc::new(index), analyzer, scope)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let analyzer = Arc::new(Analyzer::default());
        let index = EmbeddedIndex::in_memory(analyzer.clone()).context("failed to create the index")?;
        surface(memory.log.clone(), Arc::new(index), analyzer, scope)
    }
}

fn surface(
    log: Log,
    index: Arc<dyn Index>,
    analyzer: Arc<Analyzer>,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let (chats, messages) = (scope.peer(catalog::Service::Chat)?, scope.peer(catalog::Service::Message)?);
    let metrics = Metrics::default();
    scope.metrics(|registry| metrics.register(registry));
    let standing = Arc::new(Standing::default());
    let indexer = Indexer {
        tenant: scope.tenant().to_owned(),
        log,
        index: index.clone(),
        source: Source::new(chats.clone(), messages.clone()),
        standing: standing.clone(),
        metrics: metrics.clone(),
        check: scope.check("log"),
        stop: scope.shutdown().clone(),
        times: Times::default(),
    };
    scope.spawn(indexer.run());
    let state = AppState {
        index,
        analyzer,
        chats: ChatServiceClient::new(chats),
        messages: MessageServiceClient::new(messages),
        standing,
        metrics,
        searches: Searches::default(),
    };
    Ok(Surface { api: routes(state), grpc: Routes::default() })
}
