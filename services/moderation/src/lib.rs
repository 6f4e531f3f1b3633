//! The moderation service: judges messages by the tenant's rules, keeps what users report, and has carried out what is decided.
//!
//! # Owns
//! Schema `moderation_service` of the tenant's database: rule sets, verdicts, reports with their evidence, sanctions, appeals, the audit log, and how far the log is
//! judged.
//!
//! # Endpoints
//! - `POST /api/moderation/reports`, `POST /api/moderation/appeals`, `GET /api/moderation/own`: for every user.
//! - `/api/moderation/rule-sets`, `GET /api/moderation/reports`, `POST /api/moderation/reports/{report}/decision`, `/api/moderation/sanctions`, `GET
//!   /api/moderation/appeals`, `POST /api/moderation/appeals/{appeal}/decision`, `GET /api/moderation/audit`, `GET /api/moderation/moderators`, `GET
//!   /api/moderation/usage`, `/api/moderation/users/{user}/sessions`: for moderators, whom `--moderators` names.
//! - No gRPC API.
//!
//! It calls the message service for what was reported, the chat service (`ChatRestrictions`) for users who are to write nothing or to be out of a chat, and the auth
//! service (`AccountService`) for accounts that are to be closed, and the user service for the accounts that are deleted, how many there are, and whose the names of
//! moderators are. It asks the tenant's classifier about texts, where a rule that is in force names a label of it (see [`classifying`]).
//!
//! # Consumes
//! `message.delivered`: what is judged (see [`events`]). A shadow run reads it once more (see [`shadowing`]).
//!
//! # Publishes
//! `message.send`: an entry for every message that is deleted, in the name of no user (see [`carrying_out`]).

pub mod api;
pub mod carrying_out;
pub mod classifying;
pub mod config;
pub mod departures;
pub mod domain;
pub mod error;
pub mod events;
pub mod metrics;
pub mod peers;
pub mod shadowing;
pub mod store;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use anyhow::Context as _;
use kit::{
    Memory, Scope, Service, Surface, backoff::Backoff, catalog, clock::now_ms, deletions, log::Log, rounds,
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use url::Url;

use crate::{
    api::{AppState, HasClassifier, KeptUsage, Moderators, Pace, SessionPace},
    carrying_out::{Wake, Worker},
    classifying::{Asking, Classifier},
    config::Settings,
    events::Follower,
    metrics::Metrics,
    peers::Peers,
    shadowing::Shadows,
    store::{MemoryStore, ModerationStore, PostgresStore, SCHEMA, StoreError},
};

/// Who moderates a messenger that keeps nothing.
const DEV_MODERATOR: &str = "moderator";
/// How often what is old is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);
const FORGET_BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// Figures of rule sets are of so long.
const VERDICTS_KEPT_MS: i64 = 90 * DAY_MS;
/// Longer than a rule counts, and than most logs are kept: a log that is read again finds what was judged.
const WINDOWS_KEPT_MS: i64 = 30 * DAY_MS;
/// What a shadow run shows of messages is for the decision about its rule set, and goes soon after they may be gone.
const SAMPLES_KEPT_MS: i64 = 7 * DAY_MS;

/// The moderation service.
///
/// It is on no message's path: while it is down, messages are delivered, and judged later.
pub struct Moderation;

impl Moderation {
    /// Builds the service like [`Service::build`], with another way to the classifier at a URL, whose requests are signed with a key: that of a test is on
    /// loopback, where the way of [`Classifier::new`] does not lead.
    ///
    /// # Errors
    ///
    /// A setting is not what it should be.
    pub fn asking(
        settings: Settings,
        scope: &Scope,
        classifier: impl FnOnce(Url, SecretString) -> Result<Classifier, reqwest::Error>,
    ) -> anyhow::Result<Surface> {
        let store = Arc::new(PostgresStore::new(SCHEMA.watched_pool(&settings.postgres, scope)));
        let asked = settings.classifier_url.zip(settings.classifier_signing_key);
        let asked = asked.map(|(url, key)| classifier(url, key));
        let asked = asked.transpose().context("failed to prepare requests to the classifier")?;
        let moderators = Moderators::parse(&settings.moderators);
        surface(store, Log::kafka(settings.kafka), moderators, asked, scope)
    }
}

impl Service for Moderation {
    const ENTRY: catalog::Service = catalog::Service::Moderation;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        Self::asking(settings, scope, Classifier::new)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&settings.postgres).await?)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let store = Arc::new(MemoryStore::default());
        surface(store, memory.log.clone(), Moderators::parse(DEV_MODERATOR), None, scope)
    }
}

fn surface(
    store: Arc<dyn ModerationStore>,
    log: Log,
    moderators: Moderators,
    classifier: Option<Classifier>,
    scope: &Scope,
) -> anyhow::Result<Surface> {
    let (metrics, wake) = (scope.metrics(Metrics::register), Wake::default());
    let shutdown = || scope.shutdown().clone();
    let peers = Peers::new(
        scope.peer(catalog::Service::Auth)?,
        scope.peer(catalog::Service::Chat)?,
        scope.peer(catalog::Service::Message)?,
        scope.peer(catalog::Service::User)?,
    );
    let follower = Follower {
        store: store.clone(),
        log: log.clone(),
        tenant: scope.tenant().to_owned(),
        metrics: metrics.clone(),
        wake: wake.clone(),
        has_classifier: classifier.is_some(),
        shutdown: shutdown(),
    };
    scope.spawn(follower.start()?);
    // What is given up is sent again: it is claimed until the log has it.
    let producer =
        log.lasting_producer(Some(Duration::from_secs(30))).context("failed to prepare the producer")?;
    let worker =
        Worker::new(store.clone(), producer, scope.tenant(), peers.clone(), metrics.clone(), wake.clone());
    scope.spawn(worker.run(shutdown()));
    let has_classifier = HasClassifier(classifier.is_some());
    if let Some(classifier) = classifier {
        let (store, metrics, wake) = (store.clone(), metrics.clone(), wake.clone());
        scope.spawn(Asking { store, classifier, metrics, wake }.run(shutdown()));
    }
    scope.spawn(forget(store.clone(), shutdown()));
    scope.spawn(deletions::follow(peers.users().clone(), store.clone(), shutdown()));
    let shadows = Shadows::new(store.clone(), log, scope.tenant(), scope.tasks().clone(), shutdown());
    let state = AppState {
        store,
        moderators,
        pace: Pace::default(),
        session_pace: SessionPace::default(),
        peers,
        shadows,
        usage: KeptUsage::default(),
        metrics,
        wake,
        has_classifier,
    };
    Ok(Surface { api: api::router(state), grpc: Routes::default() })
}

/// Forgets what is old until the shutdown.
async fn forget(store: Arc<dyn ModerationStore>, shutdown: CancellationToken) {
    let what = "forgetting what was judged long ago";
    rounds::repeat(what, FORGET_INTERVAL, Backoff::new(FORGET_BACKOFF), &shutdown, || {
        let store = store.clone();
        async move {
            let now_ms = now_ms();
            store.forget(now_ms - VERDICTS_KEPT_MS, now_ms - WINDOWS_KEPT_MS).await?;
            store.forget_standings().await?;
            store.forget_samples(now_ms - SAMPLES_KEPT_MS).await?;
            Ok::<(), StoreError>(())
        }
    })
    .await;
}
