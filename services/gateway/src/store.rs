//! The session directory in Redis: each connection's user, device and gateway.
//!
//! Nothing durable lives here and no socket depends on it. Entries live three refreshes; what is lost is written again
//! with the next one. It is for an administrator who looks for a connection: no service reads it, and presence has a way of its own.

use std::{sync::Arc, time::Duration};

use kit::outage::Outage;
use redis::{Pipeline, RedisError, aio::ConnectionManager};
use serde::Serialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Limits,
    domain::session::Identity,
    registry::{Connection, Registry},
};

/// Changes that wait for Redis; what does not fit is repaired by the next refresh or by the entry's end of life.
const CHANGE_QUEUE: usize = 4_096;
/// Entries per round trip.
const BATCH: usize = 500;
/// The changes that are still queued at the end have this long.
const SHUTDOWN_FLUSH: Duration = Duration::from_secs(1);

/// Reports changes to the directory; never waits.
#[derive(Clone)]
pub(crate) struct SessionsHandle {
    changes: mpsc::Sender<Change>,
}

enum Change {
    Opened(Uuid, Identity),
    Closed(Uuid),
}

impl SessionsHandle {
    /// Returns the handle of a gateway without a directory.
    pub(crate) fn unheard() -> Self {
        Self { changes: mpsc::channel(1).0 }
    }

    pub(crate) fn opened(&self, session: Uuid, identity: Identity) {
        drop(self.changes.try_send(Change::Opened(session, identity)));
    }

    pub(crate) fn closed(&self, session: Uuid) {
        drop(self.changes.try_send(Change::Closed(session)));
    }
}

/// Keeps the directory.
pub(crate) struct Sessions {
    redis: ConnectionManager,
    changes: mpsc::Receiver<Change>,
    registry: Arc<Registry>,
    prefix: String,
    gateway: String,
    refresh: Duration,
    outage: Outage,
}

#[derive(Serialize)]
struct Entry<'a> {
    user: contracts::UserId,
    device: contracts::DeviceId,
    gateway: &'a str,
}

impl Sessions {
    pub(crate) fn new(
        redis: ConnectionManager,
        registry: Arc<Registry>,
        tenant: &str,
        gateway: String,
        limits: &Limits,
    ) -> (SessionsHandle, Self) {
        let (sender, changes) = mpsc::channel(CHANGE_QUEUE);
        let sessions = Self {
            redis,
            changes,
            registry,
            prefix: format!("mt:{tenant}:session:"),
            gateway,
            refresh: limits.session_refresh,
            outage: Outage::default(),
        };
        (SessionsHandle { changes: sender }, sessions)
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
        };
        drop(tokio::time::timeout(SHUTDOWN_FLUSH, last).await);
    }

    async fn refresh_all(&mut self, stop: &CancellationToken) {
        let connections: Vec<Arc<Connection>> = self.registry.all();
        for batch in connections.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for connection in batch {
                if let Some(identity) = connection.identity() {
                    self.set(&mut pipe, connection.session, identity);
                }
            }
            if stop.is_cancelled() || !self.run(pipe).await {
                return;
            }
        }
    }

    async fn write(&mut self, changes: &mut Vec<Change>) {
        let mut pipe = redis::pipe();
        for change in changes.drain(..) {
            match change {
                Change::Opened(session, identity) => self.set(&mut pipe, session, identity),
                Change::Closed(session) => {
                    pipe.del(self.key(session)).ignore();
                }
            }
        }
        self.run(pipe).await;
    }

    fn set(&self, pipe: &mut Pipeline, session: Uuid, identity: Identity) {
        let entry = Entry { user: identity.user, device: identity.device, gateway: &self.gateway };
        let entry = serde_json::to_string(&entry).expect("an entry is plain");
        pipe.set_ex(self.key(session), entry, self.refresh.as_secs().max(1) * 3).ignore();
    }

    fn key(&self, session: Uuid) -> String {
        format!("{}{session}", self.prefix)
    }

    /// Runs a batch; false when Redis is away, which degrades nothing that a client notices.
    async fn run(&mut self, pipe: Pipeline) -> bool {
        if pipe.is_empty() {
            return true;
        }
        let result: Result<(), RedisError> = pipe.query_async(&mut self.redis).await;
        match result {
            Ok(()) => self.outage.worked("the session directory"),
            Err(error) => {
                self.outage.failed("the session directory", &error);
                return false;
            }
        }
        true
    }
}
