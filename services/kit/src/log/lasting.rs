//! A producer that goes on whatever becomes of its place in the log.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::{Delivery, Log, LogError, Producer};

/// A producer for as long as the process lives: one that has lost its place in the log is replaced. Cheap to clone.
#[derive(Clone)]
pub struct LastingProducer(Arc<Inner>);

struct Inner {
    log: Log,
    give_up_after: Option<Duration>,
    current: RwLock<Producer>,
}

impl Log {
    /// Creates a producer like [`Log::producer`], which is replaced when it has lost its place in the log.
    pub fn lasting_producer(&self, give_up_after: Option<Duration>) -> Result<LastingProducer, LogError> {
        let current = RwLock::new(self.producer(give_up_after)?);
        Ok(LastingProducer(Arc::new(Inner { log: self.clone(), give_up_after, current })))
    }
}

impl LastingProducer {
    /// Queues a record like [`Producer::send`]. What a replaced producer did not deliver has its outcome, and is not sent
    /// again.
    pub fn send(&self, topic: &str, key: &str, payload: Option<&[u8]>) -> Result<Delivery, LogError> {
        self.usable()?.send(topic, key, payload)
    }

    fn usable(&self) -> Result<Producer, LogError> {
        let Inner { log, give_up_after, current } = &*self.0;
        let producer = self.current();
        if !producer.is_lost() {
            return Ok(producer);
        }
        let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
        // Another send may have replaced it meanwhile.
        if current.is_lost() {
            tracing::warn!("the producer has lost its place in the log and is replaced");
            *current = log.producer(*give_up_after)?;
        }
        Ok(current.clone())
    }

    fn current(&self) -> Producer {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until everything queued has its outcome; logs what is left after `within`.
    pub async fn flush(&self, within: Duration) {
        let producer = self.current();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(within)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the log did not take all records before the end: {error}");
        }
    }
}
