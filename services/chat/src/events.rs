//! Publishes the outbox to the event log. See [`publish`].

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::AtomicI64},
    time::{Duration, Instant},
};

use contracts::event::MembershipRecord;
use kit::{
    backoff::Backoff,
    error::chain,
    log::{Delivery, Log, LogError, Producer},
};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::time::{sleep, timeout};
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
/// How often what was listed for long enough is forgotten, and how much of it in one statement: more than is published in between.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);
const FORGOTTEN_AT_ONCE: i64 = 100_000;
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
async fn lead(publisher: &Publisher, shutdown: &CancellationToken) -> Result<Term, PublishError> {
    let connecting = in_time(PgConnection::connect_with(&publisher.database), PublishError::Connect);
    let mut connection = connecting.await?;
    if !in_time(try_lock(&mut connection), PublishError::Connect).await? {
        in_time(connection.close(), PublishError::Connect).await?;
        return Ok(Term::Standby);
    }
    observe(publisher, &mut connection).await?;
    if !in_time(begin_term(&mut connection), PublishError::Term).await? {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Term::Shutdown),
            () = sleep(publisher.handover) => {}
        }
    }
    let producer = publisher.log.producer(Some(SEND_TIMEOUT)).map_err(PublishError::Producer)?;
    tracing::info!("publishing the outbox");
    publisher.metrics.leader.set(1);
    // The listener has a connection of its own and reconnects by itself; what it misses meanwhile the poll finds.
    // It is idle for as long as nothing is written.
    let database = publisher.database.clone().options([("idle_session_timeout", "0")]);
    let wakes = PgPool::connect_lazy_with(database);
    let mut listener = in_time(PgListener::connect_with(&wakes), PublishError::Connect).await?;
    listener.ignore_pool_close_event(true);
    in_time(listener.listen(WAKE_CHANNEL), PublishError::Connect).await?;
    let mut backoff = Backoff::new(BACKOFF);
    let mut forgot = None;
    loop {
        if forgot.is_none_or(|at: Instant| at.elapsed() >= FORGET_INTERVAL) {
            forget(&mut connection).await?;
            forgot = Some(Instant::now());
        }
        let pause = match publish_batch(publisher, &producer, &mut connection).await {
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
        observe(publisher, &mut connection).await?;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = sleep(pause) => {}
            woken = listener.recv() => { woken.map_err(PublishError::Read)?; }
        }
    }
    // Everything that was sent has an outcome by now. Closing gives the lock to the next leader, who need not wait.
    in_time(end_term(&mut connection), PublishError::Term).await?;
    in_time(connection.close(), PublishError::Connect).await?;
    Ok(Term::Shutdown)
}

/// Forgets what was published some time ago.
async fn forget(connection: &mut PgConnection) -> Result<(), PublishError> {
    let forgetting = sqlx::query(
        "DELETE FROM published WHERE published_id IN (
             SELECT published_id FROM published WHERE published_at < now() - $1 * INTERVAL '1 second'
             ORDER BY published_at LIMIT $2)",
    )
    .bind(LISTED_FOR.as_secs_f64())
    .bind(FORGOTTEN_AT_ONCE)
    .execute(connection);
    in_time(forgetting, PublishError::Remove).await.map(drop)
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
        // What was published of memberships is kept for a while, for gateways that do not read it in the log.
        let is_place = |row: &&OutboxRow| MembershipRecord::parse_key(row.record_key.as_bytes()).is_some();
        let listed: Vec<i64> = rows.iter().take(count).filter(is_place).map(|row| row.outbox_id).collect();
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

async fn observe(publisher: &Publisher, connection: &mut PgConnection) -> Result<(), PublishError> {
    let (backlog, oldest): (i64, Option<f64>) =
        in_time(sqlx::query_as(WAITING).fetch_one(connection), PublishError::Read).await?;
    publisher.metrics.backlog.set(backlog);
    #[expect(clippy::cast_possible_truncation, reason = "an age in seconds fits")]
    publisher.metrics.oldest_seconds.set(oldest.unwrap_or_default() as i64);
    Ok(())
}
