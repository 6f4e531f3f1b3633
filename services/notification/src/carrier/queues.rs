//! Jobs through the queues of a broker.
//!
//! A process that finds a job due writes in its row a number that was never used, the ticket, and publishes it to the queue of the channel; the broker
//! confirms it. Whichever process receives it begins the job: the row takes a ticket once, and says what is to be sent by then. The message is
//! acknowledged when the job is over, and goes to the dead letters when it was given up. What waits longer than until now waits in its row: a message
//! comes of it when it is due.
//!
//! So nothing that matters is in a queue alone. A process that dies between row and queue leaves a row whose lease ends; a message that comes twice, or
//! behind the end of a lease, has a number that no row has any more. While the broker is away, tickets are taken back, and jobs come from the store.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use contracts::api::NotificationChannel;
use kit::{backoff::Backoff, outage::Outage, tls::Untrusted};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use super::{Carried, Carrier, LOOK_AGAIN, Receipt, Rows};
use crate::{
    domain::{Busy, MAX_AT_ONCE, Places, Taken, Ticket, pause_until},
    metrics::Metrics,
    sending::{GATHER, LEASE, now},
    store::{Begun, NotificationStore, StoreError},
};

/// A ticket that no process begins for so long stands for nothing any more, and the job is handed over again. One that waits behind others in its queue
/// waits for two jobs at most, which take 45 s each.
const HANDED_FOR: TimeDelta = TimeDelta::minutes(5);
/// A job that the broker does not take is handed over again after so long.
const REFUSED_FOR: TimeDelta = TimeDelta::seconds(5);
/// Between attempts to reach the broker. Jobs come from the store meanwhile.
const RECONNECT: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(30);
/// A session that lasted for so long works, whether or not there was anything to publish.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// What outages are called in the log.
const CARRYING: &str = "carrying jobs by RabbitMQ";
const HANDING: &str = "looking for jobs to hand over to RabbitMQ";
const REFUSING: &str = "publishing to RabbitMQ";

/// Why jobs were not taken.
#[derive(Debug, thiserror::Error)]
#[error("it has no room for {count} jobs, which are handed over again")]
struct Full {
    count: usize,
}

/// Where the queues are.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Begins to consume from the queue of a channel, as many messages at once as a process has places, once the broker confirms what is published: one
    /// with an alarm is reached, and takes nothing.
    async fn open(&self, channel: NotificationChannel) -> Result<Box<dyn Session>, BrokerError>;
}

/// The queue of one channel, for as long as the broker is there.
#[async_trait]
pub trait Session: Send {
    /// Returns how many consume from it, in whatever process.
    async fn consumers(&mut self) -> Result<usize, BrokerError>;

    /// Publishes tickets, and waits until each is confirmed. Returns those that the broker has no room for.
    async fn publish(&mut self, tickets: &[Ticket]) -> Result<Vec<Ticket>, BrokerError>;

    /// Waits for the next message. It may be dropped.
    async fn next(&mut self) -> Result<Delivery, BrokerError>;
}

/// A message that came out of a queue, until its receipt is settled.
#[derive(Debug)]
pub struct Delivery {
    pub body: Vec<u8>,
    /// It was among the dead letters, from where an administrator put it back.
    pub has_died: bool,
    pub receipt: Receipt,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("failed to connect")]
    Connect(#[source] Box<lapin::Error>),
    #[error("failed to connect: {why}")]
    Untrusted { why: Untrusted, source: Box<lapin::Error> },
    #[error("failed to use queue {queue}")]
    Use { queue: String, source: Box<lapin::Error> },
    #[error("a message for queue {queue} reaches no queue; the operator makes it again")]
    Unroutable { queue: String },
    #[error("the consumer of queue {queue} was cancelled: the queue is gone")]
    Cancelled { queue: String },
    #[error("the broker did not answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// Hands jobs of one channel over to its queue, and passes on what comes out of it to [`Queues`].
pub struct Handing {
    broker: Arc<dyn Broker>,
    store: Arc<dyn NotificationStore>,
    name: NotificationChannel,
    /// There are jobs, or places for them.
    wake: Arc<Notify>,
    deliveries: mpsc::Sender<Delivery>,
    is_up: watch::Sender<bool>,
    /// Who takes nothing, and when each is tried again: see [`Carrier::note_down`].
    down: watch::Receiver<BTreeMap<String, Instant>>,
    metrics: Metrics,
}

/// Brings the jobs of one channel out of its queue, and out of the store while the broker is away.
pub struct Queues {
    store: Arc<dyn NotificationStore>,
    name: NotificationChannel,
    rows: Rows,
    wake: Arc<Notify>,
    deliveries: mpsc::Receiver<Delivery>,
    is_up: watch::Receiver<bool>,
    down: watch::Sender<BTreeMap<String, Instant>>,
    /// What has no place yet.
    arrived: VecDeque<Delivery>,
    /// To be begun again, after a while.
    has_failed: bool,
}

impl Queues {
    /// Returns the carrier of a channel, and the task behind it.
    pub fn new(
        broker: Arc<dyn Broker>,
        store: Arc<dyn NotificationStore>,
        name: NotificationChannel,
        wake: Arc<Notify>,
        metrics: Metrics,
    ) -> (Self, Handing) {
        // The broker sends no more than that before it is acknowledged: nothing waits for room.
        let (sender, deliveries) = mpsc::channel(MAX_AT_ONCE);
        let (up, is_up) = watch::channel(false);
        let (noted, down) = watch::channel(BTreeMap::new());
        let queues = Self {
            store: store.clone(),
            name,
            rows: Rows::new(store.clone(), name, wake.clone()),
            wake: wake.clone(),
            deliveries,
            is_up,
            down: noted,
            arrived: VecDeque::new(),
            has_failed: false,
        };
        (queues, Handing { broker, store, name, wake, deliveries: sender, is_up: up, down, metrics })
    }
}

#[async_trait]
impl Carrier for Queues {
    fn note_down(&mut self, down: BTreeMap<String, Instant>) {
        self.down.send_replace(down);
    }

    async fn take(&mut self, limit: usize, busy: &Busy) -> Result<Vec<Carried>, StoreError> {
        while self.arrived.len() < limit {
            let Ok(delivery) = self.deliveries.try_recv() else { break };
            self.arrived.push_back(delivery);
        }
        if self.arrived.is_empty() {
            let is_up = *self.is_up.borrow();
            return if is_up { Ok(Vec::new()) } else { self.rows.take(limit, busy).await };
        }
        let some: Vec<Delivery> = self.arrived.drain(..limit.min(self.arrived.len())).collect();
        let taken: Vec<Taken> = some.iter().filter_map(read).collect();
        let begun = match self.store.begin(self.name, &taken, now() + LEASE).await {
            Ok(begun) => begun,
            Err(error) => {
                self.has_failed = true;
                // In the order in which they came.
                for delivery in some.into_iter().rev() {
                    self.arrived.push_front(delivery);
                }
                return Err(error);
            }
        };
        Ok(self.sort(some, begun).await)
    }

    async fn wait(&mut self) {
        if self.has_failed {
            sleep(LOOK_AGAIN).await;
            self.has_failed = false;
            return;
        }
        if !self.arrived.is_empty() {
            return;
        }
        let is_up = *self.is_up.borrow_and_update();
        tokio::select! {
            Some(delivery) = self.deliveries.recv() => self.arrived.push_back(delivery),
            Ok(()) = self.is_up.changed() => {}
            () = self.rows.wait(), if !is_up => {}
            // The task behind it has ended, and so does the process.
            else => std::future::pending::<()>().await,
        }
    }
}

impl Queues {
    /// Returns what is to be done of some messages, and settles the others.
    async fn sort(&self, deliveries: Vec<Delivery>, begun: Begun) -> Vec<Carried> {
        let Begun { mut jobs, dead } = begun;
        let mut carried = Vec::with_capacity(jobs.len());
        for delivery in deliveries {
            let Some(Taken { ticket, .. }) = read(&delivery) else {
                tracing::warn!("a message that is no job's is put with the dead letters");
                delivery.receipt.settle(true).await;
                continue;
            };
            let receipt = delivery.receipt.waking(self.wake.clone());
            match jobs.iter().position(|(number, _)| *number == ticket.number) {
                Some(at) => carried.push(Carried { job: jobs.swap_remove(at).1, receipt }),
                // One that was given up is put with the dead letters where the process did not come to it.
                None => receipt.settle(dead.contains(&ticket.number)).await,
            }
        }
        carried
    }
}

/// Returns what a message says, or nothing of one that this service did not write.
fn read(delivery: &Delivery) -> Option<Taken> {
    Ticket::read(&delivery.body).map(|ticket| Taken { ticket, is_revived: delivery.has_died })
}

impl Handing {
    /// Hands over until the shutdown. While the broker is away, it is tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let (outage, mut backoff) = (Outage::default(), Backoff::new(RECONNECT));
        // The broker did something in the last session: one that is opened and does nothing is tried as seldom as one that is away.
        let is_proven = AtomicBool::new(false);
        while !shutdown.is_cancelled() {
            let ended = match self.broker.open(self.name).await {
                Ok(session) => {
                    self.note(true);
                    let proven = || {
                        outage.worked(CARRYING);
                        is_proven.store(true, Ordering::Relaxed);
                    };
                    self.carry(session, &shutdown, proven).await
                }
                Err(error) => Err(error),
            };
            if is_proven.swap(false, Ordering::Relaxed) {
                backoff.reset();
            }
            let was_open = self.note(false);
            let Err(error) = ended else { return };
            let is_first = !outage.is_on();
            outage.failed(CARRYING, &error);
            // What a session handed over that ended later in the same outage is in the queue of a broker that confirmed none of it.
            if (is_first || was_open)
                && let Err(error) = self.store.take_all_back(self.name, now()).await
            {
                let cause = kit::error::chain(&error);
                tracing::warn!(
                    cause,
                    "failed to take jobs back, which are due when their lease ends: {cause}"
                );
            }
            self.wake.notify_one();
            if backoff.pause(&shutdown).await.is_break() {
                return;
            }
        }
    }

    /// Notes whether the broker is there. Returns whether it was until now.
    fn note(&self, is_up: bool) -> bool {
        self.metrics.broker_up(self.name, is_up);
        self.is_up.send_replace(is_up)
    }

    /// Passes messages on and hands jobs over, until the broker is away or the shutdown. Tells when the session has shown that it works.
    async fn carry(
        &self,
        mut session: Box<dyn Session>,
        shutdown: &CancellationToken,
        proven: impl Fn() + Sync,
    ) -> Result<(), BrokerError> {
        let (handing, refusing) = (Outage::default(), Outage::default());
        let begun = Instant::now();
        let mut look_at = begun;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                delivery = session.next() => {
                    // Its receiver ends with the process.
                    if self.deliveries.send(delivery?).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                () = self.wake.notified() => {
                    // What ends or comes soon after it shares one look; messages are passed on meanwhile.
                    look_at = look_at.min(Instant::now() + GATHER);
                    continue;
                }
                () = sleep_until(look_at) => {}
            }
            let pause = match self.hand_over(&mut *session, &refusing).await? {
                Ok(pause) => {
                    handing.worked(HANDING);
                    // Without a pause something was confirmed.
                    if pause.is_zero() || begun.elapsed() >= PROVEN_AFTER {
                        proven();
                    }
                    pause
                }
                Err(error) => {
                    handing.failed(HANDING, &error);
                    LOOK_AGAIN
                }
            };
            look_at = Instant::now() + pause;
        }
    }

    /// Hands over what is due and has a place. Returns how long to wait before the next time.
    async fn hand_over(
        &self,
        session: &mut dyn Session,
        refusing: &Outage,
    ) -> Result<Result<Duration, StoreError>, BrokerError> {
        let mut places = Places::of(session.consumers().await?);
        // Their jobs wait in their rows, but for one when it is time to try.
        let at = Instant::now();
        let mut few: BTreeMap<String, i64> = self
            .down
            .borrow()
            .iter()
            .map(|(provider, try_at)| (provider.clone(), i64::from(*try_at <= at)))
            .collect();
        // A channel with one provider: its rows have no host.
        if let Some(of_channel) = few.remove(self.name.as_str()) {
            places.all = of_channel;
        }
        let now = now();
        let tickets = match self.store.hand_over(self.name, now, now + HANDED_FOR, places, &few).await {
            Ok(tickets) => tickets,
            Err(error) => return Ok(Err(error)),
        };
        if tickets.is_empty() {
            let next = self.store.next_job(self.name).await;
            return Ok(next.map(|next| pause_until(next, now)));
        }
        let refused = session.publish(&tickets).await?;
        if refused.is_empty() {
            refusing.worked(REFUSING);
            // There may be more.
            return Ok(Ok(Duration::ZERO));
        }
        refusing.failed(REFUSING, &Full { count: refused.len() });
        let taken_back = self.store.take_back(&refused, now + REFUSED_FOR).await;
        Ok(taken_back.map(|()| LOOK_AGAIN))
    }
}
