//! The link between the replicas: a channel of Redis that each of them publishes to and reads.
//!
//! A channel keeps nothing and may lose what is published. Changes are numbered, so that a replica notices what it missed and
//! asks for all; and a replica that does not receive its own heartbeat any more subscribes again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::rpc::ReplicaNews;
use futures_util::StreamExt as _;
use kit::{backoff::Backoff, config::RedisArgs, outage::Outage};
use prost::Message as _;
use redis::{RedisError, aio::ConnectionManager};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// What an outage is called in the log.
const WHAT: &str = "the link between the replicas of the presence service";
/// Waits between attempts to subscribe.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("failed to subscribe to a channel of Redis")]
    Subscribe(#[from] RedisError),
    #[error("Redis closed the subscription")]
    Closed,
    #[error("the own heartbeat did not come back")]
    Silent,
}

/// The channel of one tenant.
pub struct Channel {
    redis: RedisArgs,
    name: String,
}

impl Channel {
    /// Returns the channel of a tenant; nothing is connected yet.
    pub fn new(redis: RedisArgs, tenant: &str) -> Self {
        Self { redis, name: format!("mt:{tenant}:presence") }
    }

    /// Publishes what the hub has for the other replicas, until stopped.
    pub async fn publish(
        name: String,
        mut redis: ConnectionManager,
        mut news: mpsc::Receiver<ReplicaNews>,
        hub: Arc<Hub>,
        stop: CancellationToken,
    ) {
        loop {
            let news = tokio::select! {
                () = stop.cancelled() => return,
                news = news.recv() => news,
            };
            let Some(news) = news else { return };
            hub.metrics.published.inc();
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(&name).arg(news.encode_to_vec());
            // What is lost is noticed by the others; that Redis is gone is noticed by the subscription.
            drop(publish.query_async::<()>(&mut redis).await);
        }
    }

    /// Returns the name of the channel.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Reads what the other replicas publish, until stopped.
    pub async fn follow(self, hub: Arc<Hub>, stop: CancellationToken) {
        let outage = Outage::default();
        let mut backoff = Backoff::new(FIRST_WAIT..=LAST_WAIT);
        loop {
            let Err(error) = self.follow_once(&hub, &outage, &mut backoff, &stop).await else { return };
            outage.failed(WHAT, &error);
            hub.unlinked();
            if backoff.pause(&stop).await.is_break() {
                return;
            }
        }
    }

    async fn follow_once(
        &self,
        hub: &Hub,
        outage: &Outage,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<(), LinkError> {
        let mut messages = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            subscribed = kit::redis::subscribe(&self.redis, &self.name) => subscribed?,
        };
        outage.worked(WHAT);
        hub.linked();
        let heartbeat = hub.times.heartbeat;
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut received_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = messages.next() => {
                    let message = message.ok_or(LinkError::Closed)?;
                    match ReplicaNews::decode(message.get_payload_bytes()) {
                        Ok(news) if hub.is_own(&news) => {
                            received_at = Instant::now();
                            backoff.reset();
                        }
                        Ok(ReplicaNews { replica_id, news: Some(news) }) => {
                            if let Err(error) = hub.receive(&replica_id, news) {
                                tracing::warn!(%error, "skipped a message of another replica: {error}");
                            }
                        }
                        // Of a newer version.
                        Ok(ReplicaNews { news: None, .. }) => {}
                        Err(error) => tracing::warn!(%error, "skipped a message that is not a replica's: {error}"),
                    }
                }
                _ = heartbeats.tick() => {
                    if received_at.elapsed() > 2 * heartbeat {
                        return Err(LinkError::Silent);
                    }
                    hub.publish_heartbeat();
                }
            }
        }
    }
}
