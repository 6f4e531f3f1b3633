//! The media service: the files of a tenant's users, from the upload to the end of the last message that has them.
//!
//! # Owns
//! Schema `media_service` of the tenant's database: files, which messages and chats have them, what users take of their quotas, and how far the
//! log is read. The objects of the tenant's bucket: what was uploaded, what is served, and thumbnails.
//!
//! # Endpoints
//! - `POST /api/media/files`, `GET` and `DELETE /api/media/files/{file}`, `POST /api/media/files/{file}/complete`: uploads. The bytes go to the
//!   object store with requests that are signed here.
//! - `GET /api/media/avatars/{user}`, `POST /api/media/avatars` for many at once: the pictures of users.
//! - `POST /api/media/previews`: what links lead to (see [`preview`]).
//! - `GET /content/{token}`: the bytes, by links that are short-lived, signed and bound to a user. Whether the user may read the file is checked
//!   at each request.
//! - gRPC `posthouse.v1.MediaService`: `DescribeFiles`.
//!
//! It queries the chat service for who is in which chat, the message service for where the history of a later member begins, and follows the list of deleted accounts of the user service (see [`departures`]).
//!
//! # Consumes
//! `message.delivered`: what refers to files (see [`events`]). What nothing refers to is removed after a day (see [`collecting`]).

pub mod api;
pub mod chats;
pub mod collecting;
pub mod config;
pub mod departures;
pub mod domain;
pub mod error;
pub mod events;
pub mod films;
pub mod metrics;
pub mod objects;
pub mod pictures;
pub mod preview;
pub mod processing;
pub mod scan;
pub mod sniff;
pub mod store;
pub mod users;
pub mod video;

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use contracts::rpc::media_service_server::MediaServiceServer;
use kit::{
    Memory, Scope, Service, Surface, backoff::Backoff, catalog, deletions, error::chain, health::Check,
    log::Log, reach::Reach,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    api::{AppState, Files, Signals, Streams, Uploads, grpc::MediaRpc},
    chats::Chats,
    collecting::Collector,
    config::Settings,
    domain::{LinkKey, Quotas},
    events::Follower,
    films::Films,
    metrics::Metrics,
    objects::{MemoryObjects, Objects, S3Objects},
    pictures::{Limits, Pool, PoolSize},
    preview::{Fetcher, Previews},
    processing::Processor,
    scan::Scanner,
    store::{FileStore, MemoryStore, PostgresStore, SCHEMA},
    users::Users,
};

/// Files of one process that keeps them in memory, in bytes.
const MEMORY_BYTES: i64 = 256 << 20;
/// One of them.
const MEMORY_FILE_BYTES: i64 = 64 << 20;
/// The scanner has so long for the largest file.
const SCAN_LIMIT: Duration = Duration::from_secs(600);
/// Where a container finds how many bytes of memory it may have.
const MEMORY_LIMIT: &str = "/sys/fs/cgroup/memory.max";
/// How often readiness queries the object store.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// While it does not answer.
const CHECK_BACKOFF: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5);

/// The media service.
///
/// What is there is read with PostgreSQL, the object store and the chat service, and for those who came to a chat later with the message service. While Kafka is down, what changes in chats is not followed, no
/// file is removed that a message may have, and the service stays ready.
pub struct Media;

/// What the service is built on.
struct Parts {
    store: Arc<dyn FileStore>,
    objects: Arc<dyn Objects>,
    log: Log,
    quotas: Quotas,
    scanner: Option<Scanner>,
    film_folder: Option<PathBuf>,
}

impl Service for Media {
    const ENTRY: catalog::Service = catalog::Service::Media;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        let objects: Arc<dyn Objects> =
            Arc::new(S3Objects::new(&settings.s3, settings.trust.oidc_ca_bundle.as_deref())?);
        scope.spawn(watch(objects.clone(), scope.check("s3"), scope.shutdown().clone()));
        let parts = Parts {
            store: Arc::new(PostgresStore::new(SCHEMA.watched_pool(&settings.postgres, scope))),
            objects,
            log: Log::kafka(settings.kafka),
            quotas: settings.limits.into(),
            scanner: settings.clamd.map(|address| Scanner::new(address, SCAN_LIMIT)),
            film_folder: settings.film_folder,
        };
        surface(parts, scope)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&settings.postgres).await?)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let room = usize::try_from(MEMORY_BYTES)?;
        let (objects, serving) = MemoryObjects::start(room, scope.shutdown().clone())?;
        scope.spawn(serving);
        // A picture and what is made of it are there at once for a moment.
        let (tenant_bytes, user_bytes) = (MEMORY_BYTES / 2, MEMORY_BYTES / 2);
        let parts = Parts {
            store: Arc::new(MemoryStore::default()),
            objects: Arc::new(objects),
            log: memory.log.clone(),
            quotas: Quotas { tenant_bytes, user_bytes, file_bytes: MEMORY_FILE_BYTES },
            scanner: None,
            film_folder: None,
        };
        surface(parts, scope)
    }
}

fn surface(parts: Parts, scope: &Scope) -> anyhow::Result<Surface> {
    let Parts { store, objects, log, quotas, scanner, film_folder } = parts;
    let (metrics, signals) = (scope.metrics(Metrics::register), Signals::default());
    let users = Users::new(scope.peer(catalog::Service::User)?);
    let shutdown = || scope.shutdown().clone();
    let follower = Follower {
        store: store.clone(),
        log,
        tenant: scope.tenant().to_owned(),
        metrics: metrics.clone(),
        shutdown: shutdown(),
    };
    scope.spawn(follower.start()?);
    scope.spawn(deletions::follow(users.client().clone(), store.clone(), shutdown()));
    let collector = Collector {
        store: store.clone(),
        objects: objects.clone(),
        metrics: metrics.clone(),
        wake: signals.discarded.clone(),
    };
    scope.spawn(collector.run(shutdown()));
    let limits = Limits::default();
    let pool = Pool::new(pool_size(&limits), limits);
    let processor = Processor {
        store: store.clone(),
        objects: objects.clone(),
        pool: pool.clone(),
        scanner,
        films: Films::find(film_folder),
        metrics: metrics.clone(),
        wake: signals.uploaded.clone(),
        done: signals.checked.clone(),
    };
    scope.spawn(processor.run(scope.tasks().clone(), shutdown()));
    let files = Files {
        store,
        objects,
        chats: Chats::new(scope.peer(catalog::Service::Chat)?, scope.peer(catalog::Service::Message)?),
        quotas,
        links: LinkKey::new(scope.signing_key("links")),
        metrics,
    };
    let grpc = Routes::new(MediaServiceServer::new(MediaRpc::new(files.clone())));
    let (uploads, streams) = (Uploads::default(), Streams::default());
    scope.spawn(streams.clone().watch(shutdown()));
    let fetcher = Fetcher::new(Reach::internet(), pool);
    if let Err(error) = &fetcher {
        let cause = chain(error);
        tracing::warn!(cause, "links have no previews: {cause}");
    }
    let previews = Previews::new(fetcher.ok());
    Ok(Surface { api: api::router(AppState { files, uploads, streams, signals, users, previews }), grpc })
}

/// Returns how many pictures a process takes on at once: fewer where its container has less memory, whatever else it runs.
fn pool_size(limits: &Limits) -> PoolSize {
    let memory_bytes = std::fs::read_to_string(MEMORY_LIMIT).ok().and_then(|limit| limit.trim().parse().ok());
    // Without a limit the file has a word, or is not there.
    memory_bytes.map_or_else(PoolSize::default, |bytes| PoolSize::within(bytes, limits))
}

/// Keeps the check up to date until the shutdown: it passes while the object store takes the tenant's account.
async fn watch(objects: Arc<dyn Objects>, check: Check, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(CHECK_BACKOFF);
    loop {
        let pause = match objects.check().await {
            Ok(()) => {
                check.ok();
                backoff.reset();
                CHECK_INTERVAL
            }
            Err(error) => {
                check.failing(chain(&error));
                backoff.next_wait()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
