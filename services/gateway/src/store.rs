//! Who has how many connections, over all gateways of the tenant: a directory in Redis.
//!
//! Nothing durable lives here, and no connection waits for it. Entries live three refreshes; what is lost is written again with the
//! next one. While Redis is away each gateway holds users to their limit for itself.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contracts::{UserId, wire::CloseCode};
use kit::{clock::now_ms, outage::Outage};
use redis::{Pipeline, RedisError, Value, aio::ConnectionManager};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{config::Limits, registry::Registry};

/// Changes that wait for Redis; what does not fit is repaired by the next refresh or by the entry's end of life.
const CHANGE_QUEUE: usize = 4_096;
/// Users per round trip.
const BATCH: usize = 200;
/// The changes that are still queued at the end have this long.
const SHUTDOWN_FLUSH: Duration = Duration::from_secs(1);

/// Reports changes to the directory; never waits.
#[derive(Clone)]
pub(crate) struct SessionsHandle {
    changes: mpsc::Sender<Change>,
    elsewhere: Arc<AtomicUsize>,
}

enum Change {
    Opened(UserId, Uuid),
    Closed(UserId, Uuid),
}

impl SessionsHandle {
    /// Returns the handle of a gateway without a directory.
    pub(crate) fn unheard() -> Self {
        Self { changes: mpsc::channel(1).0, elsewhere: Arc::default() }
    }

    pub(crate) fn opened(&self, user: UserId, session: Uuid) {
        drop(self.changes.try_send(Change::Opened(user, session)));
    }

    pub(crate) fn closed(&self, user: UserId, session: Uuid) {
        drop(self.changes.try_send(Change::Closed(user, session)));
    }

    /// Returns how many connections the other gateways had at the last refresh.
    pub(crate) fn elsewhere(&self) -> usize {
        self.elsewhere.load(Ordering::Relaxed)
    }
}

/// Keeps the directory, and closes the connections that a user has too many.
pub(crate) struct Sessions {
    redis: ConnectionManager,
    changes: mpsc::Receiver<Change>,
    elsewhere: Arc<AtomicUsize>,
    registry: Arc<Registry>,
    prefix: String,
    gateway: String,
    refresh: Duration,
    connections_per_user: usize,
    outage: Outage,
}

impl Sessions {
    pub(crate) fn new(
        redis: ConnectionManager,
        registry: Arc<Registry>,
        tenant: &str,
        gateway: String,
        limits: &Limits,
        connections_per_user: usize,
    ) -> (SessionsHandle, Self) {
        let (sender, changes) = mpsc::channel(CHANGE_QUEUE);
        let handle = SessionsHandle { changes: sender, elsewhere: Arc::default() };
        let sessions = Self {
            redis,
            changes,
            elsewhere: handle.elsewhere.clone(),
            registry,
            prefix: format!("mt:{tenant}:"),
            gateway,
            refresh: limits.session_refresh,
            connections_per_user,
            outage: Outage::default(),
        };
        (handle, sessions)
    }

    /// Writes changes as they come and everything now and then, until stopped.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let mut refresh = tokio::time::interval(self.refresh);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                count = self.changes.recv_many(&mut changes, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.write(&mut changes).await;
                }
                _ = refresh.tick() => self.refresh_all(&stop).await,
            }
        }
        let last = async {
            while !self.changes.is_empty() {
                self.changes.recv_many(&mut changes, BATCH).await;
                self.write(&mut changes).await;
            }
            let mut pipe = redis::pipe();
            pipe.cmd("HDEL").arg(self.gateways_key()).arg(&self.gateway);
            self.run(pipe).await;
        };
        drop(tokio::time::timeout(SHUTDOWN_FLUSH, last).await);
    }

    /// Writes all connections again, and how many they are.
    async fn refresh_all(&mut self, stop: &CancellationToken) {
        let mut users: HashMap<UserId, Vec<Uuid>> = HashMap::new();
        for connection in self.registry.all() {
            if let Some(identity) = connection.identity() {
                users.entry(identity.user).or_default().push(connection.session);
            }
        }
        let users: Vec<_> = users.into_iter().collect();
        for batch in users.chunks(BATCH) {
            if stop.is_cancelled() || !self.note(batch).await {
                return;
            }
        }
        self.count().await;
    }

    async fn write(&mut self, changes: &mut Vec<Change>) {
        let mut opened: HashMap<UserId, Vec<Uuid>> = HashMap::new();
        let mut closed = redis::pipe();
        for change in changes.drain(..) {
            match change {
                Change::Opened(user, session) => opened.entry(user).or_default().push(session),
                Change::Closed(user, session) => {
                    if let Some(opened) = opened.get_mut(&user) {
                        opened.retain(|other| *other != session);
                    }
                    closed.cmd("ZREM").arg(self.user_key(user)).arg(session.to_string());
                }
            }
        }
        opened.retain(|_, sessions| !sessions.is_empty());
        let opened: Vec<_> = opened.into_iter().collect();
        if self.note(&opened).await {
            self.run(closed).await;
        }
    }

    /// Notes connections of users, and closes those of this gateway by which a user has too many: the oldest. Other gateways do the
    /// same with theirs when they refresh. False when Redis is away.
    async fn note(&mut self, users: &[(UserId, Vec<Uuid>)]) -> bool {
        let now = now_ms();
        let until = self.good_until(now);
        let mut pipe = redis::pipe();
        for (user, sessions) in users {
            let key = self.user_key(*user);
            pipe.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(now).ignore();
            let add = pipe.cmd("ZADD").arg(&key);
            for session in sessions {
                add.arg(until).arg(session.to_string());
            }
            pipe.ignore();
            pipe.cmd("PEXPIREAT").arg(&key).arg(until).ignore();
            pipe.cmd("ZRANGE").arg(&key).arg(0).arg(-1);
        }
        let Some(answers) = self.run(pipe).await else { return false };
        for answer in answers {
            let Ok(sessions) = redis::from_redis_value::<Vec<String>>(answer) else { continue };
            for session in surplus(sessions, self.connections_per_user) {
                if let Some(connection) = self.registry.get(session) {
                    connection.queue.request_close(CloseCode::Superseded);
                }
            }
        }
        true
    }

    /// Notes how many connections this gateway has, and learns how many the others have.
    async fn count(&mut self) {
        let until = self.good_until(now_ms());
        let mut pipe = redis::pipe();
        let key = self.gateways_key();
        pipe.cmd("HSET")
            .arg(&key)
            .arg(&self.gateway)
            .arg(format!("{} {until}", self.registry.len()))
            .ignore();
        pipe.cmd("HGETALL").arg(&key);
        let Some(mut answers) = self.run(pipe).await else { return };
        let Some(Ok(counts)) = answers.pop().map(redis::from_redis_value::<HashMap<String, String>>) else {
            return;
        };
        let (elsewhere, gone) = others(&counts, &self.gateway, now_ms());
        self.elsewhere.store(elsewhere, Ordering::Relaxed);
        if !gone.is_empty() {
            let mut pipe = redis::pipe();
            pipe.cmd("HDEL").arg(&key).arg(gone);
            self.run(pipe).await;
        }
    }

    /// Returns until when an entry that is written now is good, in milliseconds since the epoch: for three refreshes.
    fn good_until(&self, now: i64) -> i64 {
        now.saturating_add(i64::try_from((self.refresh * 3).as_millis()).unwrap_or(i64::MAX))
    }

    fn user_key(&self, user: UserId) -> String {
        format!("{}connections:{user}", self.prefix)
    }

    fn gateways_key(&self) -> String {
        format!("{}gateways", self.prefix)
    }

    /// Runs a batch; nothing when Redis is away, which degrades nothing that a client notices.
    async fn run(&mut self, pipe: Pipeline) -> Option<Vec<Value>> {
        if pipe.is_empty() {
            return Some(Vec::new());
        }
        let result: Result<Vec<Value>, RedisError> = pipe.query_async(&mut self.redis).await;
        match result {
            Ok(answers) => {
                self.outage.worked("the directory of connections");
                Some(answers)
            }
            Err(error) => {
                self.outage.failed("the directory of connections", &error);
                None
            }
        }
    }
}

/// Returns the connections that are too many: the oldest, by their ids, which begin with the time.
fn surplus(sessions: Vec<String>, most: usize) -> Vec<Uuid> {
    let sessions: BTreeSet<Uuid> = sessions.iter().filter_map(|session| session.parse().ok()).collect();
    let surplus = sessions.len().saturating_sub(most);
    sessions.into_iter().take(surplus).collect()
}

/// Returns how many connections the other gateways have, and those of them that have not said so for long.
fn others<'a>(counts: &'a HashMap<String, String>, own: &str, now: i64) -> (usize, Vec<&'a str>) {
    let mut sum = 0;
    let mut gone = Vec::new();
    for (gateway, count) in counts.iter().filter(|(gateway, _)| *gateway != own) {
        let parts = count
            .split_once(' ')
            .and_then(|(count, until)| Some((count.parse::<usize>().ok()?, until.parse::<i64>().ok()?)));
        match parts {
            Some((count, until)) if until > now => sum += count,
            _ => gone.push(gateway.as_str()),
        }
    }
    (sum, gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_connections_are_too_many() {
        let ids: Vec<_> = (1..=5).map(|n| Uuid::from_u128(n).to_string()).collect();
        let too_many = |most| surplus(ids.iter().rev().cloned().collect(), most);
        assert_eq!(too_many(3), [1, 2].map(Uuid::from_u128));
        assert!(too_many(5).is_empty());
        assert!(surplus(vec!["no id".to_owned()], 0).is_empty());
    }

    #[test]
    fn gateways_that_are_gone_count_no_more() {
        let counts = [("own", "7 900"), ("other", "20 900"), ("killed", "30 100"), ("odd", "x")];
        let counts = counts.map(|(name, count)| (name.to_owned(), count.to_owned())).into();
        let (sum, mut gone) = others(&counts, "own", 100);
        gone.sort_unstable();
        assert_eq!((sum, gone), (20, vec!["killed", "odd"]));
    }
}
