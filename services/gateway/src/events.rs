//! The event log: produces `message.send`, follows `message.delivered`, `chat.events` and `session.events`.
//!
//! All three are followed whole by every gateway, with partitions assigned by hand: each has its own sockets, and
//! none shares the work.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use contracts::event::SendRecord;
use kit::{
    catalog::Topic,
    health::Check,
    log::{Delivery, Event, Follower, LastingProducer, Log, LogError, Record, Start},
    traces::Span,
};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    domain::record::{self, News, Unreadable},
    ended::EndedSessions,
    fanout::{Fanout, Round},
    membership::Membership,
    own_states::OwnStates,
    positions::Positions,
    registry::Registry,
};

/// What is in the producer's queue at the end gets this long, beyond the drain of the connections.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Records that are delivered together when they are there together, at most: some milliseconds of a core. The more chats they are of, the fewer of them a
/// connection receives with one write.
const ROUND_RECORDS: usize = 1_024;

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
        let (mut round, mut spans) = (Round::default(), Vec::new());
        deliver(&topic, &fanout, (&mut round, &mut spans), event);
        for _ in 1..ROUND_RECORDS {
            if round.is_full() {
                break;
            }
            let Some(event) = follower.ready() else { break };
            deliver(&topic, &fanout, (&mut round, &mut spans), event);
        }
        fanout.end(round).await;
        // What is traced is delivered when the sockets have it.
        drop(spans);
        // Connections have their turn, and what the log brings meanwhile is the next round.
        yield_now().await;
    }
    follower.end().await;
}

/// Takes what the log brings into a round, and begins its span if it is traced.
fn deliver(topic: &str, fanout: &Fanout, (round, spans): (&mut Round, &mut Vec<Span>), event: Event<'_>) {
    let Event::Record(record) = event else { return };
    let deliver = |parent| Span::of_record(parent, "deliver", record.partition(), record.offset());
    spans.extend(record.trace().map(deliver));
    let bytes = record.payload().map_or(0, <[u8]>::len);
    match record::delivered(record.payload()) {
        Ok(delivered) => fanout.deliver(round, delivered, bytes),
        Err(why) => set_aside(topic, &record, &why),
    }
}

/// Follows `chat.events` from its end; ready when no later record can be missed. What was before is loaded for each user who connects.
pub(crate) async fn follow_membership(
    log: Log,
    tenant: String,
    membership: Arc<Membership>,
    (positions, registry, own_states): (Arc<Positions>, Arc<Registry>, OwnStates),
    check: Check,
    stop: CancellationToken,
) {
    let topic = Topic::ChatEvents.of(&tenant);
    let followed = log.follow(&topic, &group(&tenant), Start::End, &check, &stop).await;
    let Some(mut follower) = followed else { return };
    membership.set_following();
    check.ok();
    while let Some(event) = follower.next(&stop).await {
        if let Event::Record(record) = event {
            match record::news(record.key(), record.payload()) {
                Ok(News::Place(chat, user, place)) => {
                    if membership.changed(chat, user, place) {
                        positions.catch_up(&registry, chat, user);
                    }
                }
                Ok(News::Own(user, own)) => own_states.push(user, own),
                Ok(News::Restriction(chat, user)) => membership.members.restricted(chat, user),
                Ok(News::Forgotten) => {}
                Err(why) => set_aside(&topic, &record, &why),
            }
        }
    }
    follower.end().await;
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
    read_all(&topic, follower, &stop, |record| end(&ended, record), caught_up).await;
}

/// Reads until stopped, and calls `caught_up` once when all that was there at the start is read.
async fn read_all(
    topic: &str,
    mut follower: Follower,
    stop: &CancellationToken,
    read: impl Fn(&Record<'_>) -> Result<(), Unreadable>,
    caught_up: impl FnOnce(),
) {
    let mut behind: HashSet<i32> = follower.partitions().into_iter().collect();
    let mut caught_up = Some(caught_up);
    let mut records = 0_u64;
    while let Some(event) = follower.next(stop).await {
        match event {
            Event::Record(record) => {
                records += 1;
                if let Err(why) = read(&record) {
                    set_aside(topic, &record, &why);
                }
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

#[expect(clippy::disallowed_methods, reason = "an edge: the age of a record")]
fn end(ended: &EndedSessions, record: &Record<'_>) -> Result<(), Unreadable> {
    let end = record::session_end(record.payload())?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let logged = Duration::from_millis(record.logged_at_ms().unwrap_or_default().unsigned_abs());
    ended.end(end.user, end.ended, since_epoch.saturating_sub(logged), Instant::now());
    Ok(())
}

/// Reports a record that is not acted on; the log moves on.
fn set_aside(topic: &str, record: &Record<'_>, why: &Unreadable) {
    let (partition, offset) = (record.partition(), record.offset());
    tracing::warn!(topic, partition, offset, %why, "skipped a record of {topic}: {why}");
}

/// No gateway joins it: every one reads everything.
fn group(tenant: &str) -> String {
    format!("{tenant}.gateway")
}
