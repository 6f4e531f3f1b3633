//! What becomes of a record.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use rdkafka::{Message as _, error::KafkaError, message::OwnedMessage};
use tokio::sync::oneshot;

use super::LogError;

/// Ends with the outcome of a record: all replicas have it, or it is not known to be in the log.
pub struct Delivery(oneshot::Receiver<Result<(), Undelivered>>);

/// A record that is not known to be in the log.
#[derive(Debug)]
pub struct Undelivered {
    pub error: LogError,
    /// Boxed, so that a success is small.
    record: Option<Box<OwnedMessage>>,
}

impl Delivery {
    pub(crate) fn pending() -> (oneshot::Sender<Result<(), Undelivered>>, Self) {
        let (outcome, delivery) = oneshot::channel();
        (outcome, Self(delivery))
    }

    pub(super) fn delivered() -> Self {
        let (outcome, delivery) = Self::pending();
        outcome.send(Ok(())).expect("the receiver is here");
        delivery
    }
}

impl Future for Delivery {
    type Output = Result<(), Undelivered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.0).poll(cx));
        // Without its producer the outcome is never known.
        let gone = |_| Err(Undelivered { error: KafkaError::Canceled.into(), record: None });
        Poll::Ready(outcome.unwrap_or_else(gone))
    }
}

impl Undelivered {
    pub(crate) fn new(error: KafkaError, record: OwnedMessage) -> Self {
        Self { error: error.into(), record: Some(Box::new(record)) }
    }

    /// Returns the key of the record.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.as_ref()?.key()
    }

    /// Returns the payload of the record.
    pub fn payload(&self) -> Option<&[u8]> {
        self.record.as_ref()?.payload()
    }
}
