//! How jobs that are due come to the places of a process: from the store, or through a broker where the cell has one. What is sent, when and whether is
//! the store's and the sender's in either case; see [`rows`] and [`queues`].

pub mod amqp;
pub mod queues;
pub mod rows;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};
use tonic::async_trait;

pub use self::{
    amqp::Amqp,
    queues::{Broker, BrokerError, Delivery, Handing, Queues, Session},
    rows::Rows,
};
use crate::{
    domain::{Busy, Job},
    store::StoreError,
};

/// After a failure to look for what is due, or to begin it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Brings the jobs of one channel to the places of this process.
#[async_trait]
pub trait Carrier: Send {
    /// Takes jobs that are there now, for so many places beside those that are `busy`. It is to be waited for to its end: what it had taken by then
    /// would wait for the end of its lease.
    async fn take(&mut self, limit: usize, busy: &Busy) -> Result<Vec<Carried>, StoreError>;

    /// Notes who takes nothing at present, hosts by their names and all of the channel by its own, and when each is tried again. Nothing is to be done where
    /// [`Self::take`] goes by `busy` and is not called for a channel that waits.
    fn note_down(&mut self, _: BTreeMap<String, Instant>) {}

    /// Waits until there may be jobs to take. It may be dropped.
    async fn wait(&mut self);
}

/// A job that this process has.
#[derive(Debug)]
pub struct Carried {
    pub job: Job,
    pub receipt: Receipt,
}

/// Whom to tell that a job is over.
#[derive(Default)]
pub struct Receipt {
    message: Option<Box<dyn Acknowledge>>,
    /// There is a place for the next one.
    wake: Option<Arc<Notify>>,
}

/// A message that came out of a queue.
#[async_trait]
pub trait Acknowledge: Send + Sync {
    /// Lets the broker forget it.
    async fn ack(&self);

    /// Lets the broker put it with the dead letters.
    async fn reject(&self);
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({})", if self.message.is_some() { "message" } else { "none" })
    }
}

impl Receipt {
    /// Returns the one of a message.
    pub fn of(message: impl Acknowledge + 'static) -> Self {
        Self { message: Some(Box::new(message)), wake: None }
    }

    /// Returns the same, which wakes those who hand jobs over.
    pub fn waking(self, wake: Arc<Notify>) -> Self {
        Self { wake: Some(wake), ..self }
    }

    /// Notes that the job is over: done, to be done later, or given up. A broker that is away puts the message back, which stands for nothing then.
    pub async fn settle(self, is_dead: bool) {
        if let Some(message) = self.message {
            if is_dead {
                message.reject().await;
            } else {
                message.ack().await;
            }
        }
        if let Some(wake) = self.wake {
            wake.notify_one();
        }
    }
}
