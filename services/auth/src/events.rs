//! Publishes to `session.events` what has ended, so that the gateways close its connections.

use std::{sync::Arc, time::Duration};

use contracts::{
    UserId,
    event::{Ended, SessionEndRecord, VERSION},
};
use kit::{
    catalog::{MAX_ACCESS_TOKEN_SECONDS, Topic},
    log::{LastingProducer, Log, LogError},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// A request waits no longer for the log, and is answered with `unavailable`. The record stays queued.
const ACK_WITHIN: Duration = Duration::from_secs(4);
/// Once the tokens of a session have expired, its end makes no difference to connections. Who sends to its devices asks for it within a day.
const GIVE_UP_AFTER: Duration = Duration::from_secs(MAX_ACCESS_TOKEN_SECONDS);
/// What is queued at the end of the process has this long.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// The log of ended sessions. Cheap to clone.
#[derive(Clone)]
pub struct SessionEvents {
    producer: LastingProducer,
    topic: Arc<str>,
}

impl SessionEvents {
    /// Returns the log of a tenant; nothing is connected yet.
    pub fn new(log: &Log, tenant: &str) -> Result<Self, LogError> {
        let producer = log.lasting_producer(Some(GIVE_UP_AFTER))?;
        Ok(Self { producer, topic: Topic::SessionEvents.of(tenant).into() })
    }

    /// Publishes what has ended, and returns once all replicas of the log have it. When the log does not answer in time
    /// that is an error, and the record goes to the log as soon as it answers.
    pub(crate) async fn publish(&self, user: UserId, ended: Ended) -> Result<(), Error> {
        let record = SessionEndRecord { v: VERSION, user, ended };
        let payload = serde_json::to_vec(&record).expect("a record is plain data");
        let delivery = self.producer.send(&self.topic, &user.to_string(), Some(&payload));
        match timeout(ACK_WITHIN, delivery.map_err(Error::Log)?).await {
            Ok(outcome) => outcome.map_err(|undelivered| Error::Log(undelivered.error)),
            Err(_) => Err(Error::Unpublished),
        }
    }

    /// Waits for the end of the process, and then for what is queued.
    pub(crate) async fn flush_at_the_end(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.producer.flush(FLUSH_WITHIN).await;
    }
}
