//! The notification service: tells users of messages that no device of theirs took.
//!
//! # Owns
//! Schema `notification_service` of the tenant's database: where users are notified and when, of which session each device is, who is in which chat of those
//! users, what was announced and is not due yet, what is to be sent, and how far the log is read.
//!
//! # Endpoints
//! REST below `/api/notifications`: `channels`, `subscriptions` with the `confirmation` of a number, `preferences`, and for links in mails
//! `confirmations` and `unsubscriptions/{token}`. No gRPC API.
//!
//! # Consumes
//! `message.delivered`: texts, and what users took. `chat.events`: who is in which chat. `session.events`: whose browsers and apps are sent nothing any
//! more (see [`events`]). gRPC: `ChatService`, `MessageService` and `UserService` for how a chat is at the moment at which its user is notified (see
//! [`sending`]), the list of deleted accounts, and `AccountService` for sessions that ran out (see [`making`]). Names of users come from the tenant's cache
//! (see [`kit::users`]).
//!
//! # Publishes
//! Nothing to the log. Web Push, pushes by Firebase, webhooks, mails and text messages (see [`mod@channels`]). Where the cell has RabbitMQ, jobs go from
//! the process that finds them due to the one that sends them through its queues (see [`carrier`]).

pub mod api;
pub mod carrier;
pub mod channels;
pub mod config;
pub mod departures;
pub mod domain;
pub mod error;
pub mod events;
pub mod making;
pub mod metrics;
pub mod peers;
pub mod sending;
pub mod store;

use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use contracts::api::NotificationChannel;
use kit::{
    Memory, Scope, Service, Surface,
    cache::{self, Cache, Shelf},
    catalog,
    catalog::Topic,
    config::TrustArgs,
    deletions,
    log::Log,
    mail::Mailer,
    users::USERS,
};
use secrecy::SecretString;
use tokio::sync::Notify;
use tonic::service::Routes;
use url::Url;

use crate::{
    api::{AppState, ChannelFacts, Confirming, Tokens},
    carrier::{Amqp, Broker, Queues, Rows},
    channels::{
        Channels, EmailChannel, FcmChannel, GOOGLE, Outside, ServiceAccount, SmsChannel, SmsHook, VapidKey,
        WebPushChannel, WebhookChannel,
    },
    config::Settings,
    events::Follower,
    making::Maker,
    metrics::Metrics,
    peers::Peers,
    sending::Sender,
    store::{MemoryStore, NotificationStore, PostgresStore, SCHEMA},
};

/// What a process without backends gives a device.
const DEV_DELAY: TimeDelta = TimeDelta::seconds(10);

/// The notification service.
///
/// While Kafka is down no new message is followed; while another service or a provider is, notifications wait; while RabbitMQ is, jobs come from the
/// database. The service stays ready.
pub struct Notification;

/// What the service is built on.
struct Parts {
    outside: Outside,
    store: Arc<dyn NotificationStore>,
    log: Log,
    shelf: Shelf,
    /// What carries jobs to their senders, where the cell has it.
    broker: Option<Arc<dyn Broker>>,
    mail: Option<(Arc<Mailer>, String)>,
    fcm: Option<ServiceAccount>,
    sms: Option<Sms>,
    /// Whom push services may write to: the tenant's address.
    contact: Option<String>,
    secret: SecretString,
    delay: TimeDelta,
}

/// How text messages are sent.
struct Sms {
    url: Url,
    key: SecretString,
    /// The tenant's address.
    origin: String,
    every: TimeDelta,
}

impl Notification {
    /// Builds the service like [`Service::build`], with another way to the endpoints that users name: those of a test are on loopback, where
    /// the way of [`Outside::internet`] does not lead.
    ///
    /// # Errors
    ///
    /// A setting is missing or is not what it should be.
    pub fn reaching(settings: Settings, scope: &Scope, outside: Outside) -> anyhow::Result<Surface> {
        let Settings {
            postgres,
            kafka,
            redis,
            rabbitmq,
            mail,
            public_origins,
            trust: TrustArgs { oidc_ca_bundle },
            vapid_secret,
            fcm_service_account,
            sms_url,
            sms_signing_key,
            sms_interval_seconds,
            notify_after_seconds,
        } = settings;
        let origin = public_origins.into_iter().find(|origin| !origin.is_empty());
        let broker = Amqp::new(rabbitmq, oidc_ca_bundle.as_deref()).context("failed to prepare RabbitMQ")?;
        let mailer = Mailer::new(mail, oidc_ca_bundle.as_deref()).context("failed to prepare mail")?;
        let mail = match mailer {
            None => None,
            Some(mailer) => {
                let origin = origin.clone().context("links in mails need --public-origins")?;
                Some((Arc::new(mailer), origin))
            }
        };
        let fcm = fcm_service_account.as_ref().map(ServiceAccount::parse).transpose();
        let fcm = fcm.context("failed to read the service account of Firebase")?;
        let sms = match sms_url.zip(sms_signing_key) {
            None => None,
            Some((url, key)) => Some(Sms {
                url,
                key,
                origin: origin.clone().context("text messages need --public-origins")?,
                every: TimeDelta::seconds(sms_interval_seconds.into()),
            }),
        };
        let parts = Parts {
            outside,
            store: Arc::new(PostgresStore::new(SCHEMA.watched_pool(&postgres, scope))),
            log: Log::kafka(kafka),
            shelf: Shelf::redis(&redis, scope.tenant()).context("failed to prepare the cache")?,
            broker: broker.map(|broker| Arc::new(broker) as Arc<dyn Broker>),
            mail,
            fcm,
            sms,
            contact: origin.filter(|origin| origin.starts_with("https://")),
            secret: vapid_secret,
            delay: TimeDelta::seconds(notify_after_seconds.into()),
        };
        surface(parts, scope)
    }
}

impl Service for Notification {
    const ENTRY: catalog::Service = catalog::Service::Notification;
    type Settings = Settings;

    async fn build(settings: Settings, scope: &Scope) -> anyhow::Result<Surface> {
        Self::reaching(settings, scope, internet()?)
    }

    async fn migrate(settings: Settings) -> anyhow::Result<()> {
        Ok(SCHEMA.migrate(&settings.postgres).await?)
    }

    fn in_memory(memory: &Memory, scope: &Scope) -> anyhow::Result<Surface> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).ok().context("the system has no random numbers")?;
        let parts = Parts {
            outside: internet()?,
            store: Arc::new(MemoryStore::default()),
            log: memory.log.clone(),
            shelf: memory.shelf.clone(),
            broker: None,
            mail: None,
            fcm: None,
            sms: None,
            contact: None,
            secret: BASE64_STANDARD.encode(secret).into(),
            delay: DEV_DELAY,
        };
        surface(parts, scope)
    }
}

fn internet() -> anyhow::Result<Outside> {
    Outside::internet().context("failed to prepare requests to providers")
}

fn surface(parts: Parts, scope: &Scope) -> anyhow::Result<Surface> {
    let Parts { outside, store, log, shelf, broker, mail, fcm, sms, contact, secret, delay } = parts;
    let metrics = scope.metrics(Metrics::register);
    let peers = Peers::new(
        scope.peer(catalog::Service::Auth)?,
        scope.peer(catalog::Service::Chat)?,
        scope.peer(catalog::Service::Message)?,
        scope.peer(catalog::Service::User)?,
        Cache::new(USERS, shelf, scope.metrics(cache::Metrics::register)),
    );
    let shutdown = || scope.shutdown().clone();
    let follower = Follower {
        store: store.clone(),
        log,
        tenant: scope.tenant().to_owned(),
        delay,
        metrics: metrics.clone(),
        shutdown: shutdown(),
    };
    scope.spawn(follower.clone().follow(Topic::ChatEvents)?);
    scope.spawn(follower.clone().follow(Topic::SessionEvents)?);
    scope.spawn(follower.follow(Topic::MessageDelivered)?);
    scope.spawn(deletions::follow(peers.users().clone(), store.clone(), shutdown()));
    let key = Arc::new(VapidKey::derive(&secret).ok().context("failed to derive the key of Web Push")?);
    let tokens = Tokens::new(&secret);
    let mut channels = channels(&outside, &key, contact, mail.as_ref(), &tokens);
    let has_fcm = fcm.is_some();
    if let Some(account) = fcm {
        let fcm = FcmChannel::new(outside.clone(), account, GOOGLE).context("failed to prepare Firebase")?;
        channels.insert(NotificationChannel::Fcm, Arc::new(fcm));
    }
    let sms = sms.map(|Sms { url, key, origin, every }| {
        let hook = SmsHook::new(outside.clone(), url, key);
        let channel = SmsChannel::new(hook.clone(), origin.clone(), every);
        channels.insert(NotificationChannel::Sms, Arc::new(channel));
        (hook, origin)
    });
    let mut senders = Vec::new();
    for (name, channel) in channels {
        let (store, peers, metrics) = (store.clone(), peers.clone(), metrics.clone());
        let wake = Arc::new(Notify::new());
        senders.push(wake.clone());
        let sender = Sender { store: store.clone(), peers, name, channel, metrics: metrics.clone() };
        match &broker {
            None => scope.spawn(sender.run(Rows::new(store, name, wake), shutdown())),
            Some(broker) => {
                let (queues, handing) = Queues::new(broker.clone(), store, name, wake, metrics);
                scope.spawn(handing.run(shutdown()));
                scope.spawn(sender.run(queues, shutdown()));
            }
        }
    }
    let wake = Arc::new(Notify::new());
    let maker = Maker {
        store: store.clone(),
        peers: peers.clone(),
        metrics: metrics.clone(),
        wake: wake.clone(),
        delay,
        senders,
    };
    scope.spawn(maker.clone().make(shutdown()));
    scope.spawn(maker.clone().list(shutdown()));
    scope.spawn(maker.clone().look(shutdown()));
    scope.spawn(maker.count(shutdown()));
    let state = AppState {
        store,
        channels: ChannelFacts { key, outside, mail, has_fcm, sms },
        tokens,
        confirming: Confirming::default(),
        wake,
    };
    Ok(Surface { api: api::router(state), grpc: Routes::default() })
}

/// Returns the channels that need no account beside the mail server's. Without one, jobs of mails wait for it; so do those of others.
fn channels(
    outside: &Outside,
    key: &Arc<VapidKey>,
    contact: Option<String>,
    mail: Option<&(Arc<Mailer>, String)>,
    tokens: &Tokens,
) -> Channels {
    let mut channels = Channels::new();
    let web_push = WebPushChannel::new(outside.clone(), key.clone(), contact);
    channels.insert(NotificationChannel::WebPush, Arc::new(web_push));
    channels.insert(NotificationChannel::Webhook, Arc::new(WebhookChannel::new(outside.clone())));
    if let Some((mailer, origin)) = mail {
        let email = EmailChannel::new(mailer.clone(), origin.clone(), tokens.clone());
        channels.insert(NotificationChannel::Email, Arc::new(email));
    }
    channels
}
