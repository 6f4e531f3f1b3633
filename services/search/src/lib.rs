//! The search service: finds messages by their words, and chats and users by their names.
//!
//! # Owns
//! An index of the texts of all chats and the names of their files: on OpenSearch with `--opensearch-url`, otherwise in the folder `--index-folder` or in
//! memory. Nothing in it is the only copy: without it the service reads all chats again, and finds what it has read so far meanwhile. An index that is
//! built again is built beside the one that searches use, and takes its place when it has all of it. Each replica has an index of its own, but for the one on
//! OpenSearch, which they share and one of them fills.
//!
//! # Endpoints
//! REST `GET /api/search/messages`, `GET /api/search/chats`, `GET /api/search/users` and `GET /api/search/status`. gRPC `SearchIndex`.
//!
//! # Consumes
//! `message.delivered`, all partitions, from where the index was left. gRPC: `ChatService` for which chats a user is in, what they are called and
//! where their history begins, `UserService` for names of users, and `MessageService` for what was found, with each search; `ChatDirectory` and
//! `MessageService` for what was before the index.
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
use contracts::rpc::{
    chat_service_client::ChatServiceClient, message_service_client::MessageServiceClient,
    search_index_server::SearchIndexServer, user_service_client::UserServiceClient,
};
use kit::{Memory, Scope, Service, Surface, catalog, log::Log};
use tonic::service::Routes;

pub use config::Settings;

pub use crate::{
    api::{AppState, IndexRpc, Searches, routes},
    metrics::Metrics,
};
use crate::{
    domain::Analyzer,
    events::{Indexer, Source, Standing, Times},
    store::{EmbeddedGenerations, Generations, OpenSearchGenerations},
};

/// The search service.
pub struct SearchService;

impl Service for SearchService {
    const ENTRY: catalog::Service = catalog::Service::Search;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let Settings { kafka, index_folder, index_limit_bytes, opensearch, trust } = settings;
        let analyzer = Arc::new(Analyzer::default());
        let generations: Arc<dyn Generations> = match (opensearch.server(trust.oidc_ca_bundle), &index_folder)
        {
            (Some(server), _) => Arc::new(
                OpenSearchGenerations::new(&server, analyzer.clone())
                    .context("failed to prepare OpenSearch")?,
            ),
            (None, Some(folder)) => Arc::new(
                EmbeddedGenerations::open(folder, index_limit_bytes, scope.tenant(), analyzer.clone())
                    .with_context(|| format!("failed to open the index in {}", folder.display()))?,
            ),
            (None, None) => Arc::new(
                EmbeddedGenerations::in_memory(analyzer.clone()).context("failed to create the index")?,
            ),
        };
        surface(Log::kafka(kafka), generations, analyzer, scope)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let analyzer = Arc::new(Analyzer::default());
        let generations =
            EmbeddedGenerations::in_memory(analyzer.clone()).context("failed to create the index")?;
        surface(memory.log.clone(), Arc::new(generations), analyzer, scope)
    }
}

fn surface(
    log: Log,
    generations: Arc<dyn Generations>,
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
        generations: generations.clone(),
        source: Source::new(chats.clone(), messages.clone()),
        standing: standing.clone(),
        metrics: metrics.clone(),
        check: scope.check("log"),
        stop: scope.shutdown().clone(),
        times: Times::default(),
    };
    scope.spawn(indexer.run());
    let users = scope.peer(catalog::Service::User)?;
    let grpc = Routes::new(SearchIndexServer::new(IndexRpc::new(standing.clone(), generations.clone())));
    let state = AppState {
        generations,
        analyzer,
        chats: ChatServiceClient::new(chats),
        messages: MessageServiceClient::new(messages),
        users: UserServiceClient::new(users),
        standing,
        metrics,
        searches: Searches::default(),
    };
    Ok(Surface { api: routes(state), grpc })
}
