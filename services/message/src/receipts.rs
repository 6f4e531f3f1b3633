//! Announces how far users have read. What is lost of it shows at the next sync.

use std::{sync::Arc, time::Duration};

use contracts::{
    DeviceId, MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, VERSION},
    wire::Watermarks,
};
use kit::{
    catalog::Topic,
    log::{LastingProducer, Log, LogError},
};
use uuid::Uuid;

use crate::domain::SeatId;

/// A receipt that the log does not take in this time is dropped.
const WITHIN: Duration = Duration::from_secs(10);

/// Produces receipts on `message.delivered`.
#[derive(Clone)]
pub(crate) struct Receipts {
    producer: LastingProducer,
    topic: Arc<str>,
}

impl Receipts {
    pub(crate) fn new(log: &Log, tenant: &str) -> Result<Self, LogError> {
        let producer = log.lasting_producer(Some(WITHIN))?;
        Ok(Self { producer, topic: Topic::MessageDelivered.of(tenant).into() })
    }

    /// Announces the watermarks of a user; waits for nothing.
    pub(crate) fn announce(&self, SeatId { chat, user }: SeatId, watermarks: Watermarks, shown: Shown) {
        let Watermarks { read_seq, delivered_seq, unread, mentions, counted_seq } = watermarks;
        let (shown_read_seq, shown_delivered_seq) = shown.of(read_seq, delivered_seq);
        let record = DeliveredRecord {
            v: VERSION,
            chat,
            sender: user,
            device: DeviceId(Uuid::nil()),
            key: MessageKey(Uuid::nil()),
            outcome: DeliveryOutcome::Marked {
                read_seq,
                delivered_seq,
                unread,
                mentions,
                counted_seq,
                shown_read_seq,
                shown_delivered_seq,
            },
        };
        let payload = serde_json::to_vec(&record).expect("a record of plain fields is JSON");
        if let Err(error) = self.producer.send(&self.topic, &chat.to_string(), Some(&payload)) {
            tracing::debug!(%error, "dropped a receipt: {error}");
        }
    }
}

/// Whether others are shown how far the user has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    All,
    /// What was shown before stands: there is a block between the two of a direct chat, or one of them has left. What would vanish with a
    /// block would tell of it.
    AsBefore,
    /// By the user's settings. What was received is not shown either: it moves with what is read.
    Nothing,
}

impl Shown {
    /// Returns what is shown of marks that move: what is read, and what is received.
    pub(crate) fn of(self, read_seq: i64, delivered_seq: i64) -> (Option<i64>, Option<i64>) {
        match self {
            Self::All => (Some(read_seq), Some(delivered_seq)),
            Self::AsBefore | Self::Nothing => (None, None),
        }
    }

    /// Returns what is shown of the marks that a user has of the other one.
    pub(crate) fn of_other(self, read_seq: i64, delivered_seq: i64) -> (Option<i64>, Option<i64>) {
        match self {
            Self::All | Self::AsBefore => (Some(read_seq), Some(delivered_seq)),
            Self::Nothing => (None, None),
        }
    }
}
