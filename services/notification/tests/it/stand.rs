//! A notification service in memory, and what happens in its chats.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::NotificationChannel,
    event::{DeliveredRecord, DeliveryOutcome, Ended, EntryKind, MembershipRecord, Role, SessionEndRecord},
};
use kit::{
    cache::{self, Cache, Shelf},
    catalog::Topic,
    config::MailArgs,
    log::{Log, Producer},
    mail::Mailer,
    reach::Reach,
    testing::{TestApi, TestRealm, receivers::Receiver, smtp},
    users::USERS,
};
use notification::{
    api::{self, AppState, ChannelFacts, Confirming, Tokens},
    carrier::{Queues, Rows},
    channels::{
        Channel, EmailChannel, FcmChannel, Outside, ServiceAccount, SmsChannel, SmsHook, VapidKey,
        WebPushChannel, WebhookChannel,
    },
    events::Follower,
    making::Maker,
    metrics::Metrics,
    peers,
    sending::Sender,
    store::{MemoryStore, NotificationStore as _},
};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{broker::MemoryBroker, google::Google, peers::Peers};

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const ORIGIN: &str = "https://acme.example";
/// What requests to the tenant's hook of text messages are signed with.
pub const SMS_KEY: &str = "a signing key";
/// One text message for a user in so long.
pub const SMS_EVERY: TimeDelta = TimeDelta::minutes(90);
const TENANT: &str = "acme";
/// `chat.events` and `message.delivered` are read by tasks of their own: a chat that was just founded is known by then.
const DELAY: TimeDelta = TimeDelta::seconds(1);

/// The service of a tenant, with a short delay. Its tasks end with it.
pub struct Stand {
    pub api: TestApi,
    pub realm: TestRealm,
    pub peers: Peers,
    pub store: Arc<MemoryStore>,
    pub tokens: Tokens,
    pub mail: smtp::MailServer,
    pub google: Google,
    /// The tenant's hook of text messages.
    pub sms: Receiver,
    pub client: peers::Peers,
    /// What it does beside sending; a test lets it look for sessions.
    pub maker: Maker,
    pub public_key: String,
    producer: Producer,
    stop: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns the way to receivers of a test, which are on loopback.
fn loopback() -> Outside {
    let reach = Reach { address: |address| address.is_loopback(), port: |_| true, ..Reach::internet() };
    Outside::new(reach, true).expect("a client")
}

impl Stand {
    /// Starts a service whose receivers are on loopback.
    pub async fn start() -> Self {
        Self::with(loopback(), true, None).await
    }

    /// Starts one whose jobs go through the queues of a broker.
    pub async fn with_broker(broker: &MemoryBroker) -> Self {
        Self::with(loopback(), true, Some(broker)).await
    }

    /// Starts one that makes no jobs by itself: the test says at what time it does.
    pub async fn by_hand() -> Self {
        Self::with(loopback(), false, None).await
    }

    /// Starts a service that reaches the public Internet alone.
    pub async fn outside() -> Self {
        Self::with(Outside::internet().expect("a client"), true, None).await
    }

    async fn with(outside: Outside, makes: bool, broker: Option<&MemoryBroker>) -> Self {
        let (realm, fake, stop) =
            (TestRealm::start(TENANT).await, Peers::default(), CancellationToken::new());
        let (log, store, metrics) = (Log::memory(), Arc::new(MemoryStore::default()), Metrics::default());
        let channel = fake.channel().await;
        let names = Cache::new(USERS, Shelf::memory(), cache::Metrics::default());
        let client = peers::Peers::new(channel.clone(), channel.clone(), channel.clone(), channel, names);
        let mail = smtp::MailServer::start().await;
        let args = MailArgs {
            smtp_url: Some(format!("smtp://{}", mail.address).parse().expect("a URL")),
            smtp_from: Some("no-reply@acme.example".to_owned()),
            smtp_username: Some(smtp::USERNAME.to_owned()),
            smtp_password: Some(smtp::PASSWORD.to_owned().into()),
        };
        let mailer = Arc::new(Mailer::new(args, None).expect("a mailer").expect("a mail server"));
        let secret = SecretString::from("a secret".to_owned());
        let (tokens, wake) = (Tokens::new(&secret), Arc::new(Notify::new()));
        let key = Arc::new(VapidKey::derive(&secret).expect("a key"));
        let follower = Follower {
            store: store.clone(),
            log: log.clone(),
            tenant: TENANT.to_owned(),
            delay: DELAY,
            metrics: metrics.clone(),
            shutdown: stop.clone(),
        };
        tokio::spawn(follower.clone().follow(Topic::ChatEvents).expect("it joins the group"));
        tokio::spawn(follower.clone().follow(Topic::SessionEvents).expect("it joins the group"));
        tokio::spawn(follower.follow(Topic::MessageDelivered).expect("it joins the group"));
        let contact = Some(ORIGIN.to_owned());
        let (google, sms) = (Google::start().await, Receiver::start().await);
        let account = ServiceAccount::parse(&google.account()).expect("a service account");
        let fcm = FcmChannel::new(outside.clone(), account, &google.url).expect("a project");
        let hook = SmsHook::new(outside.clone(), sms.url.parse().expect("a URL"), SMS_KEY.to_owned().into());
        let channels: [(NotificationChannel, Arc<dyn Channel>); 5] = [
            (NotificationChannel::Fcm, Arc::new(fcm)),
            (NotificationChannel::Sms, Arc::new(SmsChannel::new(hook.clone(), ORIGIN.to_owned(), SMS_EVERY))),
            (
                NotificationChannel::WebPush,
                Arc::new(WebPushChannel::new(outside.clone(), key.clone(), contact)),
            ),
            (NotificationChannel::Webhook, Arc::new(WebhookChannel::new(outside.clone()))),
            (
                NotificationChannel::Email,
                Arc::new(EmailChannel::new(mailer.clone(), ORIGIN.to_owned(), tokens.clone())),
            ),
        ];
        let mut senders = Vec::new();
        for (name, channel) in channels {
            let (peers, metrics, wake) = (client.clone(), metrics.clone(), Arc::new(Notify::new()));
            senders.push(wake.clone());
            let sender = Sender { store: store.clone(), peers, name, channel, metrics: metrics.clone() };
            match broker {
                None => drop(tokio::spawn(sender.run(Rows::new(store.clone(), name, wake), stop.clone()))),
                Some(broker) => {
                    let (queues, handing) =
                        Queues::new(Arc::new(broker.clone()), store.clone(), name, wake, metrics);
                    tokio::spawn(handing.run(stop.clone()));
                    tokio::spawn(sender.run(queues, stop.clone()));
                }
            }
        }
        let maker = Maker {
            store: store.clone(),
            peers: client.clone(),
            metrics: metrics.clone(),
            wake: wake.clone(),
            delay: DELAY,
            senders,
        };
        if makes {
            tokio::spawn(maker.clone().make(stop.clone()));
        }
        tokio::spawn(maker.clone().list(stop.clone()));
        let public_key = key.public().to_owned();
        let state = AppState {
            store: store.clone(),
            channels: ChannelFacts {
                key,
                outside,
                mail: Some((mailer, ORIGIN.to_owned())),
                has_fcm: true,
                sms: Some((hook, ORIGIN.to_owned())),
            },
            tokens: tokens.clone(),
            confirming: Confirming::default(),
            wake,
        };
        let api = TestApi::new(api::router(state), &realm);
        let producer = log.producer(None).expect("a producer");
        Self {
            api,
            realm,
            peers: fake,
            store,
            tokens,
            mail,
            google,
            sms,
            client,
            maker,
            public_key,
            producer,
            stop,
        }
    }

    /// Founds a chat of these users, as the chat service does: there is no entry for it.
    pub fn found(&self, users: &[UserId]) -> ChatId {
        let chat = ChatId::generate();
        for (at, user) in (1..).zip(users) {
            self.peers.join(chat, *user);
            let record = MembershipRecord {
                v: 1,
                chat,
                user: *user,
                role: Some(Role::Member),
                kind: None,
                version: at,
                members: 2,
                from_entry: false,
            };
            let payload = serde_json::to_vec(&record).expect("json");
            self.send(Topic::ChatEvents, &MembershipRecord::key(chat, *user), &payload);
        }
        chat
    }

    /// Lets a user say something, once in the chat and any number of times in the log.
    pub fn say(&self, chat: ChatId, seq: i64, sender: UserId, body: &str, mentions: &[UserId]) {
        self.peers.say(chat, seq, sender, body);
        self.peers.call(chat, seq, mentions);
        self.announce(chat, seq, sender, body, mentions);
    }

    pub fn announce(&self, chat: ChatId, seq: i64, sender: UserId, body: &str, mentions: &[UserId]) {
        let mut outcome = DeliveryOutcome::stored(seq, EntryKind::Text, body, Utc::now().timestamp_millis());
        if let DeliveryOutcome::Stored { mentions: called, .. } = &mut outcome {
            *called = mentions.to_vec();
        }
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
        let record = DeliveredRecord { v: 1, chat, sender, device, key, outcome };
        let payload = serde_json::to_vec(&record).expect("json");
        self.send(Topic::MessageDelivered, &chat.to_string(), &payload);
    }

    /// Publishes what has ended, as the auth service does.
    pub fn end(&self, user: UserId, ended: Ended) {
        let record = SessionEndRecord { v: 1, user, ended };
        let payload = serde_json::to_vec(&record).expect("json");
        self.send(Topic::SessionEvents, &user.to_string(), &payload);
    }

    fn send(&self, topic: Topic, key: &str, payload: &[u8]) {
        drop(self.producer.send(&topic.of(TENANT), key, Some(payload)).expect("it is sent"));
    }

    /// Waits until the service knows that a user is in no other chats than the peers say.
    pub async fn listed(&self, user: UserId) {
        kit::testing::wait_for("the list of chats", PATIENCE, || async {
            let long_ago = Utc::now() - TimeDelta::hours(1);
            let due = self.store.unlisted(long_ago, 100).await.expect("a read");
            (!due.contains(&user)).then_some(())
        })
        .await;
    }

    /// Returns how many jobs wait.
    pub async fn waiting(&self, channel: NotificationChannel) -> (i64, i64) {
        self.store.counts().await.expect("counts").get(&channel).copied().unwrap_or_default()
    }
}
