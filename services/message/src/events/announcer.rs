//! Produces `message.delivered`.

use std::{iter, sync::Arc, time::Duration};

use contracts::event::DeliveredRecord;
use futures_util::future::join_all;
use kit::{
    backoff::Backoff,
    catalog::Topic,
    log::{Delivery, Log, LogError, Producer},
    traces::Parent,
};
use tokio_util::sync::CancellationToken;

use super::{BACKOFF, Blockers, Place};

/// Wait for room in the producer's queue.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(5);

/// Hands announcements to the log and sees to it that each of them arrives.
#[derive(Clone)]
pub(crate) struct Announcer {
    producer: Producer,
    topic: Arc<str>,
    blockers: Arc<Blockers>,
    /// Cancelled when the producer cannot go on: the process starts again.
    shutdown: CancellationToken,
}

/// An announcement as the log takes it.
struct Encoded {
    key: String,
    payload: Vec<u8>,
    /// The span that it belongs to.
    trace: Option<Parent>,
}

impl Encoded {
    fn as_record(&self) -> (&str, &[u8], Option<Parent>) {
        (&self.key, &self.payload, self.trace)
    }
}

impl Announcer {
    pub(crate) fn new(
        log: &Log,
        tenant: &str,
        blockers: Arc<Blockers>,
        shutdown: CancellationToken,
    ) -> Result<Self, LogError> {
        // What was stored is announced however long the brokers are away; until then nothing is committed.
        let producer = log.producer(None)?;
        let topic = Topic::MessageDelivered.of(tenant).into();
        Ok(Self { producer, topic, blockers, shutdown })
    }

    /// Queues announcements in order and returns a future that ends when all of them are in the log. They go together: their chats are in one
    /// partition of what users send, so they are in one partition of what is announced, where both topics have as many. Those that `traces` names, in the
    /// same order, belong to a span.
    pub(crate) async fn announce(
        &self,
        partition: i32,
        records: Vec<DeliveredRecord>,
        traces: Vec<Option<Parent>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let encode = |(record, trace): (&DeliveredRecord, Option<Parent>)| {
            let payload = serde_json::to_vec(record).expect("a record of plain fields is JSON");
            Encoded { key: record.chat.to_string(), payload, trace }
        };
        let traces = traces.into_iter().chain(iter::repeat(None));
        let encoded: Vec<Encoded> = records.iter().zip(traces).map(encode).collect();
        let deliveries = self.queue(partition, &encoded).await;
        let this = self.clone();
        async move {
            let arrivals = deliveries.into_iter().map(|delivery| this.arrival(partition, delivery));
            join_all(arrivals).await;
            this.blockers.clear(Place::Announcements(partition));
        }
    }

    /// Puts records into the producer's queue, waiting for room.
    async fn queue(&self, partition: i32, records: &[Encoded]) -> Vec<Delivery> {
        let mut backoff = Backoff::new(BACKOFF);
        let mut queued = Vec::with_capacity(records.len());
        loop {
            let left = records[queued.len()..].iter().map(Encoded::as_record);
            let (deliveries, error) = self.producer.send_all(&self.topic, left);
            queued.extend(deliveries);
            match error {
                None => return queued,
                Some(error) if error.is_queue_full() => tokio::time::sleep(QUEUE_FULL_WAIT).await,
                Some(error) => self.failed(partition, &error, backoff.next_wait()).await,
            }
        }
    }

    /// Waits for the acknowledgement, sending again for as long as it is refused.
    async fn arrival(&self, partition: i32, mut delivery: Delivery) {
        let mut backoff = Backoff::new(BACKOFF);
        loop {
            let Err(undelivered) = delivery.await else { return };
            self.failed(partition, &undelivered.error, backoff.next_wait()).await;
            let (Some(key), Some(payload)) = (undelivered.key(), undelivered.payload()) else {
                // The producer is gone, and with it this process.
                return std::future::pending().await;
            };
            // It is late by now, and not what its trace is about.
            let key = String::from_utf8_lossy(key).into_owned();
            let again = [Encoded { key, payload: payload.to_vec(), trace: None }];
            delivery = self.queue(partition, &again).await.pop().expect("one for each record");
        }
    }

    async fn failed(&self, partition: i32, error: &LogError, wait: Duration) {
        let topic = &self.topic;
        self.blockers.set(Place::Announcements(partition), format!("cannot write to {topic}: {error}"));
        if self.producer.is_lost() {
            tracing::error!(%error, partition, "the producer of {topic} cannot go on: {error}");
            self.shutdown.cancel();
            return std::future::pending().await;
        }
        tracing::warn!(%error, partition, "failed to announce on {topic}: {error}");
        tokio::time::sleep(wait).await;
    }
}
