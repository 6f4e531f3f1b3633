//! The notification service of a tenant of the cluster, in the process of a story, with receivers on loopback and a mail server of the story.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contracts::{ChatId, UserId};
use futures_util::{StreamExt, TryStreamExt, stream};
use kit::testing::{
    receivers::{Browser, Receiver, verify_webhook},
    smtp::{self, MailServer},
};
use notification::{Notification, channels::Outside};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::{
    sync::Mutex,
    time::{Interval, interval, sleep_until},
};
use uuid::Uuid;

use crate::{
    World, checker, eventually,
    replacement::{Replacement, loopback},
    rest::request,
    users::{Online, TestUser},
};

const SUBSCRIPTIONS: &str = "/api/notifications/subscriptions";
/// What is due is sent, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The service.
pub struct Notifier {
    pub mail: MailServer,
    service: Replacement,
    database: Mutex<PgConnection>,
}

impl Notifier {
    /// Takes the place of the pod of a tenant that is ready, distributed, and has the service. A device has `notify_after` to take a message.
    pub async fn start(world: &World, tenant: &str, notify_after: Duration) -> anyhow::Result<Self> {
        let mail = MailServer::start().await;
        let account = world.cluster.account(tenant, "postgres").await?;
        let mut database = world.stack.postgres(&account, &format!("mt_{tenant}")).await?;
        sqlx::query("SET search_path TO notification_service").execute(&mut database).await?;
        let settings = vec![
            ("--notify-after-seconds", notify_after.as_secs().to_string()),
            ("--smtp-url", format!("smtp://{}", mail.address)),
            ("--smtp-from", "no-reply@acme.example".to_owned()),
            ("--smtp-username", smtp::USERNAME.to_owned()),
            ("--smtp-password", smtp::PASSWORD.to_owned()),
        ];
        let outside = Outside::new(loopback(), true)?;
        let service = Replacement::start::<Notification>(world, tenant, settings, |settings, scope| {
            Notification::reaching(settings, scope, outside)
        });
        Ok(Self { mail, service: service.await?, database: Mutex::new(database) })
    }

    /// Ends the service and gives the tenant back to the operator.
    pub async fn stop(self, world: &World) -> anyhow::Result<()> {
        self.service.stop(world).await
    }

    /// Returns the key by which push services know the tenant.
    pub async fn public_key(&self, user: &TestUser) -> anyhow::Result<String> {
        let line = "GET /api/notifications/channels";
        let channels =
            request(&self.service.messenger, line, Some(&user.token().await?), None).await?.ok()?;
        Ok(channels["web_push_key"].as_str().context("there is a key")?.to_owned())
    }

    /// Subscribes a user, as the client in a browser or a terminal does.
    pub async fn subscribe(&self, user: &TestUser, body: Value) -> anyhow::Result<Value> {
        let line = format!("POST {SUBSCRIPTIONS}");
        request(&self.service.messenger, &line, Some(&user.token().await?), Some(&body)).await?.ok()
    }

    /// Subscribes a user to mails, and opens the link that is sent to the address.
    pub async fn subscribe_to_mails(&self, user: &TestUser, address: &str) -> anyhow::Result<()> {
        self.subscribe(user, json!({ "email": { "address": address } })).await?;
        let mail = self.mail.next().await;
        ensure!(mail.to == address, "it went to {}", mail.to);
        let body = json!({ "token": mail.token("notifications_confirmation") });
        request(&self.service.messenger, "POST /api/notifications/confirmations", None, Some(&body))
            .await?
            .ok()?;
        Ok(())
    }

    /// Waits until the service knows so many users of these chats as members: its subscribers there.
    pub async fn knows(&self, chats: &[ChatId], members: usize) -> anyhow::Result<()> {
        let ids: Vec<Uuid> = chats.iter().map(|chat| chat.0).collect();
        eventually("the service knows who is in the chats", PATIENCE, || async {
            let query = "SELECT count(*) FROM seats WHERE is_member AND chat_id = ANY ($1)";
            let known: i64 =
                sqlx::query_scalar(query).bind(&ids).fetch_one(&mut *self.database.lock().await).await?;
            ensure!(usize::try_from(known)? == members, "it knows {known} of {members}");
            Ok(())
        })
        .await
    }

    /// Returns how many jobs a user has: what is to be sent, and what was given up.
    pub async fn jobs(&self, user: UserId) -> anyhow::Result<i64> {
        let query = "SELECT count(*) FROM jobs JOIN subscriptions USING (subscription_id) WHERE user_id = $1";
        Ok(sqlx::query_scalar(query).bind(user.0).fetch_one(&mut *self.database.lock().await).await?)
    }

    /// Waits until a user has so many browsers.
    pub async fn has_browsers(&self, user: UserId, number: i64) -> anyhow::Result<()> {
        eventually(&format!("the user has {number} browsers"), PATIENCE, || async {
            let query = "SELECT count(*) FROM subscriptions WHERE user_id = $1 AND channel = 'web_push'";
            let found: i64 =
                sqlx::query_scalar(query).bind(user.0).fetch_one(&mut *self.database.lock().await).await?;
            ensure!(found == number, "the user has {found}");
            Ok(())
        })
        .await
    }

    /// Waits until no text waits for its time and nothing is left to be sent, digests apart, which are for later; nothing was given up.
    pub async fn is_done(&self, limit: Duration) -> anyhow::Result<()> {
        eventually("everything is sent", limit, || async {
            let query =
                "SELECT (SELECT count(*) FROM news), count(*) FILTER (WHERE dead_at IS NULL), count(dead_at)
                FROM jobs WHERE channel <> 'email'";
            let (news, jobs, dead): (i64, i64, i64) =
                sqlx::query_as(query).fetch_one(&mut *self.database.lock().await).await?;
            ensure!(
                (news, jobs, dead) == (0, 0, 0),
                "{news} texts and {jobs} jobs wait, {dead} were given up"
            );
            Ok(())
        })
        .await
    }

    /// Lets the digest of a user be due. It is for half an hour after the first text that was missed, which no story waits for.
    pub async fn hurry_digest(&self, user: UserId) -> anyhow::Result<()> {
        eventually("the user has a digest to come", PATIENCE, || async {
            let change = "UPDATE jobs SET due_at = now() FROM subscriptions
                WHERE subscriptions.subscription_id = jobs.subscription_id AND user_id = $1 AND jobs.channel = 'email'";
            let mut database = self.database.lock().await;
            let done = sqlx::query(change).bind(user.0).execute(&mut *database).await?;
            ensure!(done.rows_affected() == 1, "{} digests wait", done.rows_affected());
            Ok(())
        })
        .await
    }
}

/// A user with a browser and a server of their own.
pub struct Away {
    pub user: TestUser,
    pub browser: Browser,
    pub pushes: Receiver,
    pub hooks: Receiver,
    /// What requests to the server are signed with.
    secret: String,
}

impl Away {
    /// Subscribes a user with both.
    pub async fn start(notifier: &Notifier, user: TestUser) -> anyhow::Result<Self> {
        let (browser, pushes, hooks) = (Browser::new(), Receiver::start().await, Receiver::start().await);
        notifier.subscribe(&user, browser.subscription(&pushes.url)).await?;
        let created = notifier.subscribe(&user, json!({ "webhook": { "url": hooks.url } })).await?;
        let secret = created["secret"].as_str().context("a new webhook shows its secret")?.to_owned();
        Ok(Self { user, browser, pushes, hooks, secret })
    }

    /// Returns what the pushes that were taken say, each decrypted.
    pub fn pushed(&self) -> Vec<Value> {
        self.pushes.taken().iter().map(|received| self.browser.open(received)).collect()
    }

    /// Returns what the requests to the server said and when they came, each with its signature checked.
    pub fn hooked(&self) -> Vec<(Instant, Value)> {
        let all = self.hooks.taken().into_iter();
        all.map(|received| (received.at, verify_webhook(&received, &self.secret))).collect()
    }
}

/// How much is sent while a provider is down.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Each in a chat of its own, so that none takes the place of another one.
    pub messages: usize,
    pub users: usize,
    pub lasts: Duration,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Weathered {
    pub messages: usize,
    pub users: usize,
    /// How long the push service was down.
    pub down: Duration,
    /// From its return until every push was taken.
    pub healed: Duration,
    /// Requests to it, also those that it did not take.
    pub attempts: usize,
    /// From the send of each message until its webhook had come, in milliseconds, sorted. [`NOTIFY_AFTER`] of it is for devices.
    pub hooked_after_ms: Vec<f64>,
}

impl Weathered {
    /// Returns it in words.
    pub fn summary(&self) -> String {
        let at = |percent| checker::percentile(&self.hooked_after_ms, percent);
        format!(
            "{} messages to {} users who are away, while their push service is down for {:.0} s: {} requests until each push was taken once, the last \
             {:.0} s after it was back; webhooks {:.0} ms after the send at p50, {:.0} ms at p99, {} s of it for devices to take the message",
            self.messages,
            self.users,
            self.down.as_secs_f64(),
            self.attempts,
            self.healed.as_secs_f64(),
            at(50),
            at(99),
            NOTIFY_AFTER.as_secs(),
        )
    }
}

/// How long a device has to take a message.
pub const NOTIFY_AFTER: Duration = Duration::from_secs(2);
/// Senders at a time.
const SENDING: usize = 16;

/// When the message of each chat was sent.
pub type Sent = HashMap<String, Instant>;

/// Users who are away, and one who writes to them: each message is in a chat of its own, so that none takes the place of another one.
pub struct Audience {
    pub away: Vec<Away>,
    chats: Vec<ChatId>,
    writer: Online,
}

impl Audience {
    /// Registers users, of whom all but the writer subscribe with both channels, and founds a chat for each message. The tenant is ready, distributed, and has
    /// the service; its limits let one user send all of it.
    pub async fn begin(
        world: &World,
        tenant: &str,
        notifier: &Notifier,
        (users, messages): (usize, usize),
    ) -> anyhow::Result<Self> {
        let messenger = world.stack.messenger(tenant);
        let ann = TestUser::register(&messenger, "ann").await?;
        let mut away = Vec::with_capacity(users);
        let crowd = TestUser::crowd(&messenger, "away", users).await?;
        let chats = chats(world, tenant, &ann, &crowd, messages).await?;
        for user in crowd {
            away.push(Away::start(notifier, user).await?);
        }
        notifier.knows(&chats, messages).await?;
        Ok(Self { away, chats, writer: ann.online(&[]).await })
    }

    /// Sends the message with this number. Returns its chat, and when it was sent.
    pub async fn send(&self, number: usize) -> anyhow::Result<(String, Instant)> {
        let chat = *self.chats.get(number).context("each message has a chat")?;
        let at = Instant::now();
        self.writer.send(chat, "are you there?").await?;
        Ok((chat.to_string(), at))
    }

    /// Returns when each message was sent, and when its webhook came. Fails where a push or a webhook of one is missing, came twice, or is of another one.
    pub fn each_once(&self, sent: &Sent) -> anyhow::Result<Vec<(Instant, Instant)>> {
        let (mut pushed, mut hooked) = (HashSet::new(), HashSet::new());
        let mut times = Vec::with_capacity(sent.len());
        for of in &self.away {
            for push in of.pushed() {
                let chat = push["chat"].as_str().context("a push names its chat")?.to_owned();
                ensure!(sent.contains_key(&chat), "a push is about chat {chat}");
                ensure!(pushed.insert(chat.clone()), "the push about chat {chat} came twice");
            }
            for (at, body) in of.hooked() {
                let chat = body["chat"].as_str().context("a webhook names its chat")?.to_owned();
                let sent_at = sent.get(&chat).with_context(|| format!("a webhook is about chat {chat}"))?;
                ensure!(hooked.insert(chat.clone()), "the webhook about chat {chat} came twice");
                times.push((*sent_at, at));
            }
        }
        ensure!(pushed.len() == sent.len(), "{} pushes came of {} messages", pushed.len(), sent.len());
        ensure!(hooked.len() == sent.len(), "{} webhooks came of {} messages", hooked.len(), sent.len());
        Ok(times)
    }
}

/// Messages to users who are away, while the push service of all of them is down: every webhook comes meanwhile, and afterwards every push, once.
/// Returns how long it took. The tenant is ready, distributed, and has the service; its limits let one user send all of it.
pub async fn outage(world: &World, tenant: &str, outage: Outage) -> anyhow::Result<Weathered> {
    let notifier = Notifier::start(world, tenant, NOTIFY_AFTER).await?;
    let weathered = weathered(world, tenant, &notifier, outage).await;
    // Also where it failed: the tenant is paused until then.
    let stopped = notifier.stop(world).await;
    let weathered = weathered?;
    stopped?;
    Ok(weathered)
}

async fn weathered(
    world: &World,
    tenant: &str,
    notifier: &Notifier,
    outage: Outage,
) -> anyhow::Result<Weathered> {
    let Outage { messages, users, lasts } = outage;
    let audience = Audience::begin(world, tenant, notifier, (users, messages)).await?;
    let away = &audience.away;

    let began = tokio::time::Instant::now();
    away.iter().for_each(|of| of.pushes.answer(503));
    // Over the first half of the outage: what is sent last is due before its end.
    let pace = interval(lasts / 2 / u32::try_from(messages)?);
    let paced = stream::unfold((pace, 0), |(mut pace, next): (Interval, usize)| async move {
        pace.tick().await;
        (next < messages).then_some((next, (pace, next + 1)))
    });
    let sent: Sent =
        paced.map(|number| audience.send(number)).buffer_unordered(SENDING).try_collect().await?;
    ensure!(sent.len() == messages, "{} messages were sent", sent.len());

    eventually("every webhook has come, and pushes were refused", PATIENCE, || async {
        let tried: usize = away.iter().map(|of| of.pushes.all().len()).sum();
        let hooked: usize = away.iter().map(|of| of.hooks.taken().len()).sum();
        // Not each of them: once it is known that none is taken, they wait.
        ensure!(tried > 0 && hooked >= messages, "{hooked} came and {tried} were tried of {messages}");
        Ok(())
    })
    .await?;
    sleep_until(began + lasts).await;
    ensure!(away.iter().all(|of| of.pushes.taken().is_empty()), "a push was taken by a service that is down");
    let down = began.elapsed();
    let back = Instant::now();
    away.iter().for_each(|of| of.pushes.answer(201));
    // A push that has failed for so long is tried again after as long, at the latest.
    notifier.is_done(lasts * 2 + PATIENCE).await?;
    let healed = back.elapsed();

    let attempts = away.iter().map(|of| of.pushes.all().len()).sum();
    let mut hooked_after_ms = Vec::with_capacity(messages);
    for (sent_at, at) in audience.each_once(&sent)? {
        ensure!(at < back, "a webhook waited for the push service");
        hooked_after_ms.push((at - sent_at).as_secs_f64() * 1_000.0);
    }
    hooked_after_ms.sort_by(f64::total_cmp);
    Ok(Weathered { messages, users, down, healed, attempts, hooked_after_ms })
}

/// Founds chats of one user with each of the others in turn, as rows: as many requests would take longer than what is measured.
async fn chats(
    world: &World,
    tenant: &str,
    founder: &TestUser,
    others: &[TestUser],
    number: usize,
) -> anyhow::Result<Vec<ChatId>> {
    let account = world.cluster.account(tenant, "postgres").await?;
    let mut database = world.stack.postgres(&account, &format!("mt_{tenant}")).await?;
    sqlx::query("SET search_path TO chat_service").execute(&mut database).await?;
    let chats: Vec<ChatId> = (0..number).map(|_| ChatId::generate()).collect();
    let ids: Vec<Uuid> = chats.iter().map(|chat| chat.0).collect();
    let members: Vec<Uuid> = others.iter().cycle().take(number).map(|user| user.id().0).collect();
    sqlx::query(
        "INSERT INTO chats (chat_id, kind, title, member_count, created_at, founder_id)
         SELECT id, 'group', 'one of many', 2, now(), $2 FROM unnest($1::uuid[]) AS id",
    )
    .bind(&ids)
    .bind(founder.id().0)
    .execute(&mut database)
    .await?;
    sqlx::query(
        "INSERT INTO members (chat_id, user_id, role, joined_at)
         SELECT id, $2, 'owner', now() - interval '1 day' FROM unnest($1::uuid[]) AS id
         UNION ALL
         SELECT seat.id, seat.member, 'member', now() - interval '1 day' FROM unnest($1::uuid[], $3::uuid[]) AS seat (id, member)",
    )
    .bind(&ids)
    .bind(founder.id().0)
    .bind(&members)
    .execute(&mut database)
    .await?;
    Ok(chats)
}
