//! Jobs on their way through a broker: what may happen to a message, and what becomes of its job.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use contracts::{SubscriptionId, api::NotificationChannel};
use futures_util::FutureExt as _;
use kit::testing::wait_for;
use notification::{
    carrier::{Amqp, Broker, Carried, Carrier as _, Queues},
    domain::Busy,
    metrics::Metrics,
    store::{MemoryStore, PostgresStore},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    broker::{Counts, MemoryBroker},
    rabbitmq::RealBroker,
    stand::PATIENCE,
    store::{Store, apply, database, member, news, now, spread},
};

const CHANNEL: NotificationChannel = NotificationChannel::Webhook;
/// Places of the process of a test.
const PLACES: usize = 8;
/// What two processes share.
const JOBS: usize = 40;

/// One process of the service with the queue of one channel. It ends with the test.
struct Process {
    carrier: Queues,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Process {
    fn start(store: &Store, broker: impl Broker) -> Self {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (carrier, handing) =
            Queues::new(Arc::new(broker), store.clone(), CHANNEL, wake.clone(), Metrics::default());
        tokio::spawn(handing.run(stop.clone()));
        Self { carrier, wake, stop }
    }

    /// Waits for the next job.
    async fn next(&mut self) -> Carried {
        let taking = async {
            loop {
                let mut taken = self.carrier.take(1, &Busy::default()).await.expect("the store is there");
                if let Some(carried) = taken.pop() {
                    return carried;
                }
                self.carrier.wait().await;
            }
        };
        tokio::time::timeout(PATIENCE, taking).await.expect("a job comes in time")
    }

    /// Goes on taking until something is so. Returns the jobs that came meanwhile.
    async fn until(&mut self, what: &str, is_so: impl AsyncFn() -> bool) -> Vec<Carried> {
        let mut all = Vec::new();
        let taking = async {
            while !is_so().await {
                all.extend(self.carrier.take(PLACES, &Busy::default()).await.expect("the store is there"));
                let look_again = Duration::from_millis(20);
                drop(tokio::time::timeout(look_again, self.carrier.wait()).await);
            }
        };
        tokio::time::timeout(PATIENCE, taking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
        all
    }
}

/// Makes a job for another user.
async fn job(store: &Store, process: &Process) {
    let (_, chat) = member(store).await;
    apply(store, &news(chat, 1, &[])).await;
    spread(store).await;
    process.wake.notify_one();
}

/// Notes that a job is done, and lets the broker forget its message.
async fn done(store: &Store, Carried { job, receipt }: Carried) {
    store.finish(&job, now(), None).await.expect("it is done");
    receipt.settle(false).await;
}

async fn waiting(store: &Store) -> (i64, i64) {
    store.counts().await.expect("counts").get(&CHANNEL).copied().unwrap_or_default()
}

fn at_rest(broker: &MemoryBroker) -> bool {
    let Counts { waiting, unacknowledged, .. } = broker.counts();
    waiting == 0 && unacknowledged == 0
}

/// Waits until the broker has something.
async fn has(broker: &MemoryBroker, what: &str, is_so: impl Fn(Counts) -> bool) {
    wait_for(what, PATIENCE, || async { is_so(broker.counts()).then_some(()) }).await;
}

kit::on_both_stores![
    a_job_goes_through_the_queue_once,
    a_message_that_comes_twice_is_sent_once,
    while_the_broker_is_away_jobs_come_from_the_store,
    while_the_broker_confirms_nothing_jobs_come_from_the_store,
    what_the_broker_loses_is_handed_over_again,
    what_was_given_up_is_a_dead_letter_and_may_be_put_back,
    a_dead_letter_that_a_process_did_not_come_to_is_made_by_the_next,
    what_others_publish_is_put_with_the_dead_letters,
    a_queue_without_room_leaves_jobs_where_they_are,
    while_the_provider_of_a_channel_is_down_its_jobs_stay_in_their_rows_but_for_one,
];

async fn a_job_goes_through_the_queue_once(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    job(&store, &process).await;
    let Carried { job, receipt } = process.next().await;
    assert_eq!((job.seq, job.attempts), (1, 1));
    assert_eq!(broker.counts().unacknowledged, 1, "until it is done");
    store.finish(&job, now(), None).await.expect("it is done");
    receipt.settle(false).await;
    assert!(at_rest(&broker) && broker.counts().dead == 0);
    assert_eq!(waiting(&store).await, (0, 0));
}

async fn a_message_that_comes_twice_is_sent_once(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    job(&store, &process).await;
    let first = process.next().await;
    // The connection is lost while the job is sent, and the broker delivers the message again.
    broker.go_down();
    broker.come_up();
    let again = process.until("the message is taken again", async || at_rest(&broker)).await;
    assert!(again.is_empty(), "{again:?}");
    done(&store, first).await;
    assert_eq!((waiting(&store).await, broker.counts().dead), ((0, 0), 0));
}

/// Waits until jobs go through the queue: one is done by it.
async fn up(process: &mut Process, broker: &MemoryBroker, store: &Store) {
    let before = broker.counts().published;
    loop {
        job(store, process).await;
        done(store, process.next().await).await;
        if broker.counts().published > before {
            return;
        }
    }
}

async fn while_the_broker_is_away_jobs_come_from_the_store(store: Store) {
    let broker = MemoryBroker::new();
    broker.go_down();
    let mut process = Process::start(&store, broker.clone());
    for _ in 0..3 {
        job(&store, &process).await;
        done(&store, process.next().await).await;
    }
    assert_eq!(broker.counts().published, 0);
    broker.come_up();
    up(&mut process, &broker, &store).await;
    assert_eq!(waiting(&store).await, (0, 0));
}

async fn while_the_broker_confirms_nothing_jobs_come_from_the_store(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    let before = broker.counts().published;
    broker.has_alarm(true);
    // The first one may be handed over, and is taken back; the others never meet the broker.
    for _ in 0..5 {
        job(&store, &process).await;
        done(&store, process.next().await).await;
    }
    assert_eq!(broker.counts().published, before);
    broker.has_alarm(false);
    up(&mut process, &broker, &store).await;
    assert_eq!(waiting(&store).await, (0, 0));
}

async fn what_the_broker_loses_is_handed_over_again(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    let before = broker.counts().published;
    job(&store, &process).await;
    // It is in the queue, or with the process that has not begun it.
    has(&broker, "the message", |counts| counts.published == before + 1).await;
    broker.lose_all();
    let Carried { job, .. } = process.next().await;
    assert_eq!(job.attempts, 1, "nobody had begun it");
    store.finish(&job, now(), None).await.expect("it is done");
    assert_eq!(waiting(&store).await, (0, 0));
    broker.come_up();
    let late = process.until("the broker is at rest", async || at_rest(&broker)).await;
    assert!(late.is_empty(), "{late:?}");
}

async fn what_was_given_up_is_a_dead_letter_and_may_be_put_back(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    job(&store, &process).await;
    let Carried { job, receipt } = process.next().await;
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    receipt.settle(true).await;
    assert_eq!((broker.counts().dead, waiting(&store).await), (1, (0, 1)));
    broker.put_back();
    let again = process.next().await;
    assert_eq!((again.job.subscription.id, again.job.attempts), (job.subscription.id, 1), "it begins again");
    assert_eq!(waiting(&store).await, (1, 0));
    done(&store, again).await;
    assert_eq!((broker.counts().dead, waiting(&store).await), (0, (0, 0)));
    assert!(at_rest(&broker));
}

async fn a_dead_letter_that_a_process_did_not_come_to_is_made_by_the_next(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    job(&store, &process).await;
    let Carried { job, receipt } = process.next().await;
    store.bury(&job, now(), "status 400").await.expect("it is given up");
    // The process ends here.
    drop(receipt);
    broker.go_down();
    broker.come_up();
    let again = process.until("the dead letter", async || broker.counts().dead == 1).await;
    assert!(again.is_empty() && at_rest(&broker));
    assert_eq!(waiting(&store).await, (0, 1));
}

async fn what_others_publish_is_put_with_the_dead_letters(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    for body in ["", "a text", "{\"number\": 1}", "{\"number\": 1, \"subscription\": \"x\", \"attempts\": 0}"]
    {
        broker.publish_by_hand(CHANNEL, body.as_bytes());
    }
    let taken = process.until("they are refused", async || broker.counts().dead == 4).await;
    assert!(taken.is_empty() && at_rest(&broker));
}

async fn a_queue_without_room_leaves_jobs_where_they_are(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    let before = broker.counts().published;
    broker.is_full(true);
    job(&store, &process).await;
    // It is refused, and put off for a few seconds.
    wait_for("the job to be put off", PATIENCE, || async {
        let next = store.next_job(CHANNEL).await.expect("an answer")?;
        (next > now() + TimeDelta::seconds(1) && next < now() + TimeDelta::seconds(10)).then_some(())
    })
    .await;
    assert_eq!((waiting(&store).await, broker.counts().published), ((1, 0), before));
    broker.is_full(false);
    let carried = process.next().await;
    assert_eq!((carried.job.attempts, broker.counts().published), (1, before + 1));
    done(&store, carried).await;
}

/// A channel with one provider has no hosts: Firebase, or the tenant's hook of text messages.
async fn while_the_provider_of_a_channel_is_down_its_jobs_stay_in_their_rows_but_for_one(store: Store) {
    let broker = MemoryBroker::new();
    let mut process = Process::start(&store, broker.clone());
    up(&mut process, &broker, &store).await;
    let before = broker.counts().published;
    let down = |try_at: Instant| BTreeMap::from([(CHANNEL.as_str().to_owned(), try_at)]);
    process.carrier.note_down(down(Instant::now() + PATIENCE * 2));
    for _ in 0..3 {
        job(&store, &process).await;
    }
    process.carrier.note_down(down(Instant::now()));
    process.wake.notify_one();
    has(&broker, "one that shows whether it is back", |counts| counts.published > before).await;
    assert_eq!(broker.counts().published, before + 1);
    // It is not, and the job waits for its next attempt.
    let Carried { job, receipt } = process.next().await;
    store.put_off(&job, now() + TimeDelta::hours(1), true).await.expect("it waits");
    receipt.settle(false).await;
    has(&broker, "the next one", |counts| counts.published > before + 1).await;
    assert_eq!(broker.counts().published, before + 2);
    process.carrier.note_down(BTreeMap::new());
    process.wake.notify_one();
    for _ in 0..2 {
        let carried = process.next().await;
        done(&store, carried).await;
    }
    assert_eq!((waiting(&store).await, broker.counts().published), ((1, 0), before + 3));
}

/// What one process hands over, any process takes, and none takes what another one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_what_is_due() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool));
    let broker = MemoryBroker::new();
    let (mut first, mut second) =
        (Process::start(&store, broker.clone()), Process::start(&store, broker.clone()));
    for _ in 0..JOBS {
        job(&store, &first).await;
    }
    let sent = Mutex::default();
    tokio::join!(send_all(&mut first, &store, &sent), send_all(&mut second, &store, &sent));
    let mut sent = sent.into_inner().expect("no test panics in it");
    assert_eq!(sent.len(), JOBS);
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), JOBS, "each once");
    assert_eq!(waiting(&store).await, (0, 0));
}

/// Sends what comes to a process, until all is sent.
async fn send_all(process: &mut Process, store: &Store, sent: &Mutex<Vec<SubscriptionId>>) {
    let count = || sent.lock().expect("no test panics in it").len();
    let taking = async {
        while count() < JOBS {
            for carried in process.carrier.take(2, &Busy::default()).await.expect("the store is there") {
                let subscription = carried.job.subscription.id;
                done(store, carried).await;
                sent.lock().expect("no test panics in it").push(subscription);
            }
            let look_again = Duration::from_millis(20);
            drop(tokio::time::timeout(look_again, process.carrier.wait()).await);
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.expect("all is sent in time");
}

/// RabbitMQ itself, by TLS: `make up-backends WITH=rabbitmq` starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_through_rabbitmq_and_what_is_given_up_is_kept_there() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool));
    let real = RealBroker::start().await;
    let body = async {
        let ca_bundle = RealBroker::ca_bundle();
        let broker = Amqp::new(real.settings(), Some(&ca_bundle)).expect("legal settings").expect("a broker");
        let mut process = Process::start(&store, broker);
        // The first ones may come from the store, until the connection is there.
        let early = process.until("a consumer", async || real.consumers(CHANNEL).await == 1).await;
        assert!(early.is_empty());
        for _ in 0..3 {
            job(&store, &process).await;
        }
        let (sent, dead, lost) = (process.next().await, process.next().await, process.next().await);
        done(&store, sent).await;
        store.bury(&dead.job, now(), "status 400").await.expect("it is given up");
        dead.receipt.settle(true).await;
        real.wait_for_dead(1).await;
        // The broker ends the connection; what comes again stands for nothing.
        real.end_connections().await;
        let again = process.until("another consumer", async || real.consumers(CHANNEL).await == 1).await;
        assert!(again.is_empty(), "{again:?}");
        done(&store, lost).await;
        assert_eq!(waiting(&store).await, (0, 1));
        real.put_dead_back(CHANNEL).await;
        let again = process.next().await;
        assert_eq!((again.job.subscription.id, again.job.attempts), (dead.job.subscription.id, 1));
        done(&store, again).await;
        real.is_at_rest().await;
        assert_eq!(waiting(&store).await, (0, 0));
    };
    let outcome = AssertUnwindSafe(body).catch_unwind().await;
    real.remove().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}
