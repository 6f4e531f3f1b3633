//! Publishes the outbox to the event log. See [`publish`].

use std::{
    convert::Infallible,
    future::pending,
    ops::RangeInclusive,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use contracts::event::{MembershipRecord, RestrictionRecord};
use kit::{
    backoff::Backoff,
    error::chain,
    log::{Delivery, Log, LogError, Producer},
    outage::Outage,
    rounds,
};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::store::{MemoryStore, WAKE_CHANNEL};

/// Largest batch: a third of a step of a deletion, records of about 300 bytes.
const BATCH: usize = 500;
/// A wake-up can be lost with its connection; the outbox is looked at this often anyway.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// How often a process that does not lead tries to.
const STANDBY_INTERVAL: Duration = Duration::from_secs(2);
/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);
/// A send that Kafka has not taken by then has failed and is repeated from the outbox.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A new leader waits until whatever the one before it sent has landed or failed, unless that one noted at its end that
/// nothing was under way: a send that arrives late must never undo a newer one in a compacted topic.
pub const HANDOVER: Duration = Duration::from_secs(6);
/// A step of PostgreSQL. The server ends a statement after five seconds by itself.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long it is listed what was published: much longer than gateways do without a look at it.
const LISTED_FOR: Duration = Duration::from_secs(600);
/// How often what was listed for long enough is forgotten, and how much of it in one statement: a slow disk manages that in time.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
const FORGOTTEN_AT_ONCE: u64 = 10_000;
/// After a failure of it.
const FORGET_BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=FORGET_INTERVAL;
/// "chat" in ASCII and 1: advisory locks are numbers, and those of a database are shared by its services.
const LEADER_LOCK: i64 = 0x63_68_61_74_01;

/// How many records wait, and for how many seconds the oldest does. It looks at both ends of the index: to count the rows would take the
/// longer the more wait, and they wait while Kafka is down. An id that a transaction took and gave up counts as a record.
pub const WAITING: &str = "
    SELECT coalesce(newest.outbox_id - oldest.outbox_id + 1, 0),
           extract(epoch FROM now() - oldest.created_at)::FLOAT8
    FROM (VALUES (TRUE)) AS one
         LEFT JOIN LATERAL (SELECT outbox_id, created_at FROM outbox ORDER BY outbox_id LIMIT 1) AS oldest ON TRUE
         LEFT JOIN LATERAL (SELECT outbox_id FROM outbox ORDER BY outbox_id DESC LIMIT 1) AS newest ON TRUE";

/// What publishing needs.
pub struct Publisher {
    /// The search path starts with the schema that has the outbox.
    pub database: PgConnectOptions,
    /// Of the same database, for what may wait.
    pub pool: PgPool,
    pub log: Log,
    pub tenant: String,
    /// [`HANDOVER`], or less where no other process publishes.
    pub handover: Duration,
    pub metrics: OutboxMetrics,
}

/// Shows whether the event log keeps up with the chats.
#[derive(Clone, Default)]
pub struct OutboxMetrics {
    backlog: Gauge<i64, AtomicI64>,
    oldest_seconds: Gauge<i64, AtomicI64>,
    leader: Gauge<i64, AtomicI64>,
    published: Counter,
    failures: Counter,
    forget_failures: Counter,
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("failed to connect to the outbox")]
    Connect(#[source] sqlx::Error),
    #[error("failed to note where a term begins or ends")]
    Term(#[source] sqlx::Error),
    #[error("failed to read the outbox")]
    Read(#[source] sqlx::Error),
    #[error("failed to make a producer")]
    Producer(#[source] LogError),
    #[error("failed to send a record to {topic}")]
    Send { topic: String, source: LogError },
    #[error("failed to remove published records from the outbox")]
    Remove(#[source] sqlx::Error),
    #[error("failed to measure the outbox")]
    Measure(#[source] sqlx::Error),
    #[error("failed to forget what was published some time ago")]
    Forget(#[source] sqlx::Error),
    #[error("the outbox did not answer within {STEP_LIMIT:?}")]
    Timeout,
}

kit::row! {
    struct OutboxRow {
        outbox_id: i64,
        topic: String,
        record_key: String,
        payload: Option<String>,
    }
}

/// How a term of leading ended.
enum Term {
    /// Another process leads.
    Standby,
    Shutdown,
}

impl OutboxMetrics {
    /// Returns the metrics, added to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let outbox = registry.sub_registry_with_prefix("outbox");
        outbox.register(
            "backlog",
            "Records not yet published to the event log, and ids between them that none has",
            metrics.backlog.clone(),
        );
        outbox.register("oldest_seconds", "Age of the oldest of them", metrics.oldest_seconds.clone());
        outbox.register("leader", "1 in the process that publishes", metrics.leader.clone());
        outbox.register("published", "Records published to the event log", metrics.published.clone());
        outbox.register("failures", "Batches that were cut short or failed", metrics.failures.clone());
        outbox.register(
            "forget_failures",
            "Failed attempts to forget what was published some time ago, which hold nothing up",
            metrics.forget_failures.clone(),
        );
        metrics
    }
}

/// Publishes the outbox, in order, until the shutdown.
///
/// Of all processes of the tenant's chat service one leads: it holds an advisory lock on a connection of its own and
/// reads and empties the outbox through that connection, so a leader that lost its lock can no longer publish. A row is
/// deleted after Kafka's ack, and only together with everything before it: after a failure the rest is sent again in
/// order, so the last record of a key is always the newest. Records may be published twice, never left out; entries
/// carry their key, so a repeated one is the same message.
pub async fn publish(publisher: Publisher, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(BACKOFF);
    while !shutdown.is_cancelled() {
        let term = lead(&publisher, &shutdown).await;
        publisher.metrics.leader.set(0);
        let pause = match term {
            Ok(Term::Shutdown) => return,
            Ok(Term::Standby) => {
                backoff.reset();
                STANDBY_INTERVAL
            }
            Err(error) => {
                publisher.metrics.failures.inc();
                let cause = chain(&error);
                tracing::warn!(cause, "the outbox waits: {cause}");
                backoff.next_wait()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Leads until the shutdown or a failure; [`Term::Standby`] when another process does.
///
/// A failure is one of publishing. What goes on beside it has sessions of its own, is tried again when it fails, and neither ends the term
/// nor makes a batch wait.
async fn lead(publisher: &Publisher, shutdown: &CancellationToken) -> Result<Term, PublishError> {
    let connecting = in_time(PgConnection::connect_with(&publisher.database), PublishError::Connect);
    let mut connection = connecting.await?;
    if !in_time(try_lock(&mut connection), PublishError::Connect).await? {
        in_time(connection.close(), PublishError::Connect).await?;
        return Ok(Term::Standby);
    }
    let outage = Outage::default();
    observe(publisher, &mut connection, &outage).await;
    if !in_time(begin_term(&mut connection), PublishError::Term).await? {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Term::Shutdown),
            () = sleep(publisher.handover) => {}
        }
    }
    let producer = publisher.log.producer(Some(SEND_TIMEOUT)).map_err(PublishError::Producer)?;
    tracing::info!("publishing the outbox");
    publisher.metrics.leader.set(1);
    let woken = Notify::new();
    tokio::select! {
        ended = publish_all(publisher, &producer, &mut connection, (&woken, &outage), shutdown) => ended?,
        never = listen(&publisher.database, &woken) => match never {},
        never = forget_again(publisher) => match never {},
    }
    // Everything that was sent has an outcome by now. Closing gives the lock to the next leader, who need not wait.
    in_time(end_term(&mut connection), PublishError::Term).await?;
    in_time(connection.close(), PublishError::Connect).await?;
    Ok(Term::Shutdown)
}

/// Publishes batch after batch until the shutdown.
async fn publish_all(
    publisher: &Publisher,
    producer: &Producer,
    connection: &mut PgConnection,
    (woken, outage): (&Notify, &Outage),
    shutdown: &CancellationToken,
) -> Result<(), PublishError> {
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        let pause = match publish_batch(publisher, producer, connection).await {
            Ok(published) => {
                backoff.reset();
                if published == BATCH && !shutdown.is_cancelled() { Duration::ZERO } else { POLL_INTERVAL }
            }
            // An outage of Kafka does not end the term: the lock is still held, and the records still wait. Only a
            // producer that has lost its place in the log never recovers; the next term makes a new one.
            Err(error @ PublishError::Send { .. }) if !producer.is_lost() => {
                publisher.metrics.failures.inc();
                let cause = chain(&error);
                tracing::warn!(cause, "the outbox waits: {cause}");
                // The shutdown is seen below.
                let _ = backoff.pause(shutdown).await;
                Duration::ZERO
            }
            Err(error) => return Err(error),
        };
        observe(publisher, connection, outage).await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(pause) => {}
            () = woken.notified() => {}
        }
    }
}

/// Wakes the leader when records are added. What is missed while that fails, the poll finds.
async fn listen(database: &PgConnectOptions, woken: &Notify) -> Infallible {
    // It is idle for as long as nothing is written.
    let database = database.clone().options([("idle_session_timeout", "0")]);
    let wakes = PgPoolOptions::new().max_connections(1).connect_lazy_with(database);
    let (mut backoff, outage) = (Backoff::new(BACKOFF), Outage::default());
    loop {
        let began = || {
            outage.worked("listening for records of the outbox");
            backoff.reset();
        };
        let Err(error) = wake(&wakes, began, woken).await;
        outage.failed("listening for records of the outbox", &error);
        sleep(backoff.next_wait()).await;
    }
}

async fn wake(wakes: &PgPool, began: impl FnOnce(), woken: &Notify) -> Result<Infallible, sqlx::Error> {
    let mut listener = PgListener::connect_with(wakes).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(WAKE_CHANNEL).await?;
    began();
    loop {
        // The first time for what was added before.
        woken.notify_one();
        listener.recv().await?;
    }
}

/// Forgets again and again what was published some time ago.
async fn forget_again(publisher: &Publisher) -> Infallible {
    let what = "forgetting what was published some time ago";
    let round = || async {
        let forgotten = forget(&publisher.pool).await;
        if forgotten.is_err() {
            publisher.metrics.forget_failures.inc();
        }
        forgotten
    };
    // It ends with the term.
    let never = CancellationToken::new();
    rounds::repeat(what, FORGET_INTERVAL, Backoff::new(FORGET_BACKOFF), &never, round).await;
    pending().await
}

/// Forgets what was published some time ago, but for the newest of it: a reader who had all records when the next one came has a place in
/// the list for as long as that is there.
async fn forget(pool: &PgPool) -> Result<(), PublishError> {
    loop {
        let forgetting = sqlx::query(
            "DELETE FROM published WHERE published_id IN (
                 SELECT published_id FROM published
                 WHERE published_id < (
                     SELECT published_id FROM published WHERE published_at < now() - $1 * INTERVAL '1 second'
                     ORDER BY published_at DESC, published_id DESC LIMIT 1)
                 ORDER BY published_id LIMIT $2)",
        )
        .bind(LISTED_FOR.as_secs_f64())
        .bind(i64::try_from(FORGOTTEN_AT_ONCE).expect("a step is bounded"))
        .execute(pool);
        if in_time(forgetting, PublishError::Forget).await?.rows_affected() < FORGOTTEN_AT_ONCE {
            return Ok(());
        }
    }
}

/// Gives a step its limit: a server that vanished without a word never answers, and the term would last as long.
async fn in_time<T>(
    step: impl Future<Output = Result<T, sqlx::Error>>,
    failed: fn(sqlx::Error) -> PublishError,
) -> Result<T, PublishError> {
    timeout(STEP_LIMIT, step).await.map_err(|_| PublishError::Timeout)?.map_err(failed)
}

/// Notes that a term begins. Returns whether the one before it ended with nothing under way.
async fn begin_term(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let has_ended: Option<bool> =
        sqlx::query_scalar("SELECT has_ended FROM outbox_term").fetch_optional(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO outbox_term (has_ended) VALUES (FALSE) ON CONFLICT (is_only) DO UPDATE SET has_ended = FALSE",
    )
    .execute(connection)
    .await?;
    Ok(has_ended.unwrap_or(false))
}

/// Notes that the term ends with nothing under way.
async fn end_term(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE outbox_term SET has_ended = TRUE").execute(connection).await.map(drop)
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Without them the server keeps the lock of a vanished host for two hours.
    for setting in
        ["SET tcp_keepalives_idle = 5", "SET tcp_keepalives_interval = 2", "SET tcp_keepalives_count = 3"]
    {
        sqlx::query(setting).execute(&mut *connection).await?;
    }
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LEADER_LOCK).fetch_one(connection).await
}

/// Publishes one batch and returns how many records were acked.
async fn publish_batch(
    publisher: &Publisher,
    producer: &Producer,
    connection: &mut PgConnection,
) -> Result<usize, PublishError> {
    let reading = sqlx::query_as(
        "SELECT outbox_id, topic, record_key, payload FROM outbox ORDER BY outbox_id LIMIT $1",
    )
    .bind(i64::try_from(BATCH).expect("a batch is bounded"))
    .fetch_all(&mut *connection);
    let rows: Vec<OutboxRow> = in_time(reading, PublishError::Read).await?;
    let unpublished = rows.iter().map(|row| Unpublished {
        topic: &row.topic,
        key: &row.record_key,
        payload: row.payload.as_deref(),
    });
    let (count, failure) = send_all(producer, &publisher.tenant, unpublished).await;
    let published: Vec<i64> = rows.iter().take(count).map(|row| row.outbox_id).collect();
    if !published.is_empty() {
        // What was published of memberships and restrictions is kept for a while, for gateways that do not read it in the log.
        let is_listed = |row: &&OutboxRow| {
            let key = row.record_key.as_bytes();
            MembershipRecord::parse_key(key).is_some() || RestrictionRecord::parse_key(key).is_some()
        };
        let listed: Vec<i64> = rows.iter().take(count).filter(is_listed).map(|row| row.outbox_id).collect();
        let removing = sqlx::query(
            "WITH removed AS (DELETE FROM outbox WHERE outbox_id = ANY ($1) RETURNING outbox_id, record_key, payload)
             INSERT INTO published (record_key, payload)
             SELECT record_key, payload FROM removed
             WHERE outbox_id = ANY ($2) AND payload IS NOT NULL ORDER BY outbox_id",
        );
        let removing = removing.bind(&published).bind(listed).execute(connection);
        in_time(removing, PublishError::Remove).await?;
    }
    publisher.metrics.published.inc_by(count as u64);
    failure.map_or(Ok(count), Err)
}

/// A record of an outbox.
struct Unpublished<'a> {
    topic: &'a str,
    key: &'a str,
    payload: Option<&'a str>,
}

/// Sends records in order. Returns how many, from the first on, are in the log, and why it is not all of them.
///
/// Every outcome is awaited, so that nothing of this batch is under way when the next one starts. A record that was
/// published although one before it was not stays in the outbox, and is published again after that.
async fn send_all<'a>(
    producer: &Producer,
    tenant: &str,
    records: impl Iterator<Item = Unpublished<'a>>,
) -> (usize, Option<PublishError>) {
    let mut sends = Vec::new();
    let mut unsent = None;
    for record in records {
        match send(producer, tenant, &record) {
            Ok(delivery) => sends.push((record.topic, delivery)),
            Err(error) => {
                unsent = Some(error);
                break;
            }
        }
    }
    let mut published = 0;
    let mut undelivered = None;
    for (topic, delivery) in sends {
        match delivery.await {
            Ok(()) if undelivered.is_none() => published += 1,
            Ok(()) => {}
            Err(lost) => {
                let error = PublishError::Send { topic: topic.to_owned(), source: lost.error };
                undelivered = undelivered.or(Some(error));
            }
        }
    }
    (published, undelivered.or(unsent))
}

fn send(producer: &Producer, tenant: &str, record: &Unpublished<'_>) -> Result<Delivery, PublishError> {
    let topic = format!("{tenant}.{}", record.topic);
    producer
        .send(&topic, record.key, record.payload.map(str::as_bytes))
        .map_err(|source| PublishError::Send { topic: record.topic.to_owned(), source })
}

/// Publishes the outbox of a store in memory, in order, until the shutdown.
pub async fn publish_memory(
    store: Arc<MemoryStore>,
    producer: Producer,
    tenant: String,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new(BACKOFF);
    loop {
        let records = store.unpublished(BATCH);
        let unpublished = records.iter().map(|record| Unpublished {
            topic: record.topic.name,
            key: &record.key,
            payload: record.payload.as_deref(),
        });
        let (published, failure) = send_all(&producer, &tenant, unpublished).await;
        store.forget(published);
        if let Some(error) = failure {
            let cause = chain(&error);
            tracing::warn!(cause, "the outbox waits: {cause}");
            if backoff.pause(&shutdown).await.is_break() {
                return;
            }
            continue;
        }
        backoff.reset();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = store.filled() => {}
        }
    }
}

/// Measures what waits. A failure is no reason to stop: a session that is lost shows with the next batch.
async fn observe(publisher: &Publisher, connection: &mut PgConnection, outage: &Outage) {
    let measured: Result<(i64, Option<f64>), _> =
        in_time(sqlx::query_as(WAITING).fetch_one(connection), PublishError::Measure).await;
    match measured {
        Ok((backlog, oldest)) => {
            outage.worked("measuring the outbox");
            publisher.metrics.backlog.set(backlog);
            #[expect(clippy::cast_possible_truncation, reason = "an age in seconds fits")]
            publisher.metrics.oldest_seconds.set(oldest.unwrap_or_default() as i64);
        }
        Err(error) => outage.failed("measuring the outbox", &error),
    }
}
