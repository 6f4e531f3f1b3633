//! The event log: produces `message.send`, follows `message.delivered`, `chat.events` and `session.events`.
//!
//! All three are followed whole by every gateway, with partitions assigned by hand: each has its own sockets, and
//! none shares the work.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use contracts::event::{DeliveredRecord, MembershipRecord, SendRecord, SessionEndRecord, VERSION};
use kit::{
    catalog::Topic,
    health::Check,
    log::{Delivery, Event, Follower, LastingProducer, Log, LogError, Record, Start},
};
use tokio_util::sync::CancellationToken;

use crate::{config::Limits, ended::EndedSessions, fanout::Fanout, membership::Membership};

/// What is in the producer's queue at the end gets this long, beyond the drain of the connections.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The log of sends.
#[derive(Clone)]
pub(crate) struct SendLog {
    producer: LastingProducer,
    topic: Arc<str>,
}

impl SendLog {
    pub(crate) fn new(log: &Log, tenant: &str, limits: &Limits) -> Result<Self, LogError> {
        // The outcome after this is unknown, which is safe: the client repeats with the same key. So it does with what a
        // replaced producer did not deliver.
        let producer = log.lasting_producer(Some(limits.produce_within))?;
        Ok(Self { producer, topic: Topic::MessageSend.of(tenant).into() })
    }

    /// Queues a record; the future ends when all replicas have it. Records of one chat keep the order of the calls.
    pub(crate) fn enqueue(&self, record: &SendRecord) -> Result<Delivery, LogError> {
        let payload = serde_json::to_vec(record).expect("a record has no map with other than text keys");
        let key = record.chat.to_string();
        self.producer.send(&self.topic, &key, Some(&payload))
    }

    /// Waits for what is queued.
    pub(crate) async fn flush(&self) {
        self.producer.flush(FLUSH_TIMEOUT).await;
    }
}

/// Follows `message.delivered` from its end; ready when no later record can be missed.
pub(crate) async fn follow_delivered(
    log: Log,
    tenant: String,
    fanout: Fanout,
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::MessageDelivered.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::End, &check, &stop).await;
    let Some(mut follower) = followed else { return };
    check.ok();
    while let Some(event) = follower.next(&stop).await {
        if let Event::Record(record) = event
            && let Some(record) = delivered(&topic, &record)
        {
            fanout.deliver(record);
        }
    }
    follower.end().await;
}

/// Follows `chat.events` from its beginning; ready when all that was there at the start is read.
pub(crate) async fn follow_membership(
    log: Log,
    tenant: String,
    membership: Arc<Membership>,
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::ChatEvents.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::Beginning, &check, &stop).await;
    let Some(follower) = followed else { return };
    check.failing("reading the members of chats");
    let caught_up = || {
        membership.set_caught_up();
        check.ok();
    };
    read_all(&topic, follower, &stop, |record| apply(&topic, &membership, record), caught_up).await;
}

/// Follows `session.events` from its beginning; ready when all that was there at the start is read, so that no token of an
/// ended session is taken before.
pub(crate) async fn follow_session_ends(
    log: Log,
    tenant: String,
    ended: Arc<EndedSessions>,
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::SessionEvents.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::Beginning, &check, &stop).await;
    let Some(follower) = followed else { return };
    check.failing("reading which sessions have ended");
    let caught_up = || {
        ended.set_caught_up();
        check.ok();
    };
    read_all(&topic, follower, &stop, |record| end(&topic, &ended, record), caught_up).await;
}

/// Reads until stopped, and calls `caught_up` once when all that was there at the start is read.
async fn read_all(
    topic: &str,
    mut follower: Follower,
    stop: &CancellationToken,
    read: impl Fn(&Record<'_>),
    caught_up: impl FnOnce(),
) {
    let mut behind: HashSet<i32> = follower.partitions().into_iter().collect();
    let mut caught_up = Some(caught_up);
    let mut records = 0_u64;
    while let Some(event) = follower.next(stop).await {
        match event {
            Event::Record(record) => {
                records += 1;
                read(&record);
            }
            Event::End(partition) => {
                behind.remove(&partition);
                if behind.is_empty()
                    && let Some(caught_up) = caught_up.take()
                {
                    tracing::info!(topic, records, "{topic} is read up to its end");
                    caught_up();
                }
            }
        }
    }
    follower.end().await;
}

fn delivered(topic: &str, record: &Record<'_>) -> Option<DeliveredRecord> {
    let parsed = serde_json::from_slice::<DeliveredRecord>(record.payload()?);
    match parsed {
        Ok(delivered) if delivered.v == VERSION => Some(delivered),
        Ok(delivered) => {
            skipped(topic, record, &format!("its version is {}", delivered.v));
            None
        }
        Err(error) => {
            // The text of the error could quote the body.
            skipped(topic, record, &format!("it cannot be read at column {}", error.column()));
            None
        }
    }
}

fn apply(topic: &str, membership: &Membership, record: &Record<'_>) {
    let Some((chat, user)) = record.key().and_then(MembershipRecord::parse_key) else {
        return skipped(topic, record, "its key is not a chat and a user");
    };
    match record.payload().map(serde_json::from_slice::<MembershipRecord>) {
        None => membership.removed(chat, user),
        Some(Ok(member)) if member.v == VERSION && (member.chat, member.user) == (chat, user) => {
            membership.added(chat, user);
        }
        Some(Ok(_)) => skipped(topic, record, "its version or ids are not those of its key"),
        Some(Err(error)) => skipped(topic, record, &error.to_string()),
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: the age of a record")]
fn end(topic: &str, ended: &EndedSessions, record: &Record<'_>) {
    let parsed = record.payload().map(serde_json::from_slice::<SessionEndRecord>);
    match parsed {
        Some(Ok(end)) if end.v == VERSION => {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let logged = Duration::from_millis(record.logged_at_ms().unwrap_or_default().unsigned_abs());
            ended.end(end.user, end.ended, since_epoch.saturating_sub(logged), Instant::now());
        }
        Some(Ok(end)) => skipped(topic, record, &format!("its version is {}", end.v)),
        Some(Err(error)) => skipped(topic, record, &error.to_string()),
        None => skipped(topic, record, "it is empty"),
    }
}

fn skipped(topic: &str, record: &Record<'_>, why: &str) {
    let (partition, offset) = (record.partition(), record.offset());
    tracing::warn!(topic, partition, offset, why, "skipped a record of {topic}: {why}");
}

/// No gateway joins it: every one reads everything.
fn group(tenant: &str) -> String {
    format!("{tenant}.gateway")
}
