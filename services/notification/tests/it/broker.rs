//! A broker in memory: queues that keep what is not acknowledged, dead letters, and outages.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use contracts::api::NotificationChannel;
use notification::{
    carrier::{Acknowledge, Broker, BrokerError, Delivery, Receipt, Session},
    domain::Ticket,
};
use tokio::sync::watch;
use tonic::async_trait;

/// A session waits for so long until what it publishes is confirmed.
const CONFIRM_LIMIT: Duration = Duration::from_millis(500);

/// What there is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub waiting: usize,
    pub unacknowledged: usize,
    pub dead: usize,
    /// Since the beginning.
    pub published: usize,
}

#[derive(Clone, Debug)]
struct Message {
    channel: NotificationChannel,
    body: Vec<u8>,
    has_died: bool,
}

#[derive(Default)]
struct Queues {
    waiting: VecDeque<Message>,
    /// By delivery.
    unacknowledged: BTreeMap<u64, Message>,
    dead: Vec<Message>,
    delivered: u64,
    published: usize,
    consumers: usize,
    is_down: bool,
    is_full: bool,
    has_alarm: bool,
}

/// A broker. Its clones are the same one.
#[derive(Clone)]
pub struct MemoryBroker {
    queues: Arc<Mutex<Queues>>,
    changes: watch::Sender<()>,
}

impl MemoryBroker {
    pub fn new() -> Self {
        Self { queues: Arc::default(), changes: watch::Sender::new(()) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queues) -> T) -> T {
        let changed = change(&mut self.locked());
        self.changes.send_replace(());
        changed
    }

    fn locked(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("no test panics in it")
    }

    /// Ends all sessions; what was not acknowledged waits again.
    pub fn go_down(&self) {
        self.change(|queues| {
            queues.is_down = true;
            queues.consumers = 0;
            let back = std::mem::take(&mut queues.unacknowledged);
            for message in back.into_values().rev() {
                queues.waiting.push_front(message);
            }
        });
    }

    pub fn come_up(&self) {
        self.change(|queues| queues.is_down = false);
    }

    /// Goes down and forgets all that it had.
    pub fn lose_all(&self) {
        self.go_down();
        self.change(|queues| queues.waiting.clear());
    }

    /// Takes no further message, or takes them again.
    pub fn is_full(&self, is_full: bool) {
        self.change(|queues| queues.is_full = is_full);
    }

    /// Has an alarm, or has none any more: it is reached and confirms nothing.
    pub fn has_alarm(&self, has_alarm: bool) {
        self.change(|queues| queues.has_alarm = has_alarm);
    }

    /// Waits until there is no alarm.
    async fn confirms(&self) {
        let mut changes = self.changes.subscribe();
        while self.locked().has_alarm {
            changes.changed().await.expect("the broker is there");
        }
    }

    /// Publishes what no process of the service did.
    pub fn publish_by_hand(&self, channel: NotificationChannel, body: &[u8]) {
        let message = Message { channel, body: body.to_vec(), has_died: false };
        self.change(|queues| queues.waiting.push_back(message));
    }

    /// Moves dead letters back to where they came from, as an administrator does.
    pub fn put_back(&self) {
        self.change(|queues| {
            let dead = std::mem::take(&mut queues.dead);
            queues.waiting.extend(dead);
        });
    }

    pub fn counts(&self) -> Counts {
        let queues = self.locked();
        Counts {
            waiting: queues.waiting.len(),
            unacknowledged: queues.unacknowledged.len(),
            dead: queues.dead.len(),
            published: queues.published,
        }
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn open(&self, channel: NotificationChannel) -> Result<Box<dyn Session>, BrokerError> {
        if self.locked().is_down {
            return Err(gone(channel));
        }
        self.confirms().await;
        self.locked().consumers += 1;
        Ok(Box::new(MemorySession { broker: self.clone(), channel, changes: self.changes.subscribe() }))
    }
}

fn gone(channel: NotificationChannel) -> BrokerError {
    BrokerError::Cancelled { queue: channel.as_str().to_owned() }
}

struct MemorySession {
    broker: MemoryBroker,
    channel: NotificationChannel,
    changes: watch::Receiver<()>,
}

impl MemorySession {
    fn is_open(&self) -> Result<(), BrokerError> {
        if self.broker.locked().is_down { Err(gone(self.channel)) } else { Ok(()) }
    }

    fn deliver(&self) -> Option<Delivery> {
        let mut queues = self.broker.locked();
        let at = queues.waiting.iter().position(|message| message.channel == self.channel)?;
        let message = queues.waiting.remove(at)?;
        queues.delivered += 1;
        let delivery = queues.delivered;
        queues.unacknowledged.insert(delivery, message.clone());
        let receipt = Receipt::of(Unacknowledged { broker: self.broker.clone(), delivery });
        Some(Delivery { body: message.body, has_died: message.has_died, receipt })
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn consumers(&mut self) -> Result<usize, BrokerError> {
        self.is_open()?;
        Ok(self.broker.locked().consumers)
    }

    async fn publish(&mut self, tickets: &[Ticket]) -> Result<Vec<Ticket>, BrokerError> {
        if tokio::time::timeout(CONFIRM_LIMIT, self.broker.confirms()).await.is_err() {
            return Err(BrokerError::Late(CONFIRM_LIMIT));
        }
        self.is_open()?;
        let channel = self.channel;
        Ok(self.broker.change(|queues| {
            if queues.is_full {
                return tickets.to_vec();
            }
            queues.published += tickets.len();
            let messages =
                tickets.iter().map(|ticket| Message { channel, body: ticket.write(), has_died: false });
            queues.waiting.extend(messages);
            Vec::new()
        }))
    }

    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        loop {
            drop(self.changes.borrow_and_update());
            self.is_open()?;
            if let Some(delivery) = self.deliver() {
                return Ok(delivery);
            }
            self.changes.changed().await.expect("the broker is there");
        }
    }
}

struct Unacknowledged {
    broker: MemoryBroker,
    delivery: u64,
}

#[async_trait]
impl Acknowledge for Unacknowledged {
    async fn ack(&self) {
        self.broker.change(|queues| drop(queues.unacknowledged.remove(&self.delivery)));
    }

    async fn reject(&self) {
        self.broker.change(|queues| {
            let message = queues.unacknowledged.remove(&self.delivery);
            queues.dead.extend(message.map(|message| Message { has_died: true, ..message }));
        });
    }
}
