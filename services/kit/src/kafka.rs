//! How this project talks to Kafka: one place for the settings that ordering and durability hang on.

use std::{sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext,
    consumer::{ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;

use crate::{
    config::KafkaArgs,
    log::delivery::{Delivery, Undelivered},
};

/// How long the thread of outcomes sleeps at most; an outcome wakes it. It ends this long after its producer.
const POLL: Duration = Duration::from_secs(10);

/// A consumer that hands records out as a stream.
pub type Consumer = StreamConsumer<QuietContext>;

/// Keeps the client's own reports at debug. While a broker is away there are several a second, and what matters comes as
/// the result of a call as well, where it is logged with what it was about.
#[derive(Clone, Copy, Debug)]
pub struct QuietContext;

impl ClientContext for QuietContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the event log's client: {reason}");
    }
}

impl ConsumerContext for QuietContext {}

/// A producer of records, whose outcomes come as futures.
///
/// The client's own one of this kind looks for outcomes ten times a second and spins for the last part of a millisecond
/// each time: a hundredth of a core for a tenant without traffic. This one sleeps until there is an outcome.
#[derive(Clone)]
pub struct Producer(Arc<BaseProducer<QuietContext>>);

impl Producer {
    /// Makes a producer; nothing is connected yet.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let producer: Arc<BaseProducer<QuietContext>> = Arc::new(config.create_with_context(QuietContext)?);
        let polled = Arc::downgrade(&producer);
        thread::Builder::new()
            .name("outcomes".to_owned())
            .spawn(move || {
                while let Some(producer) = polled.upgrade() {
                    producer.poll(POLL);
                }
            })
            .map_err(|error| KafkaError::ClientCreation(format!("no thread for outcomes: {error}")))?;
        Ok(Self(producer))
    }

    /// Queues a record; those of one key keep the order of the calls. Without a payload it is a tombstone.
    pub fn send(&self, topic: &str, key: &str, payload: Option<&[u8]>) -> KafkaResult<Delivery> {
        let (outcome, delivery) = Delivery::pending();
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(outcome)).key(key);
        record.payload = payload;
        self.0.send(record).map_err(|(error, _)| error)?;
        Ok(delivery)
    }

    /// Waits, blocking, until everything queued has its outcome.
    pub fn flush(&self, timeout: Duration) -> KafkaResult<()> {
        self.0.flush(timeout)
    }

    /// Returns whether this producer has lost its place in the log and only another one can go on.
    pub fn is_lost(&self) -> bool {
        self.0.client().fatal_error().is_some()
    }
}

impl ProducerContext for QuietContext {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), Undelivered>>>;

    /// Hands an outcome to its waiter.
    fn delivery(&self, result: &DeliveryResult<'_>, outcome: Self::DeliveryOpaque) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, record)) => Err(Undelivered::new(error.clone(), record.detach())),
        };
        // The sender may have stopped waiting.
        drop(outcome.send(result));
    }
}

/// Makes a consumer; nothing is connected or assigned yet.
pub fn consumer(config: &ClientConfig) -> KafkaResult<Consumer> {
    config.create_with_context(QuietContext)
}

/// Returns the settings of every producer.
///
/// All producers of a topic must use one partitioner, or a chat would have two owners; librdkafka's own default
/// (CRC32) differs from Java's murmur2.
pub fn producer_config(args: &KafkaArgs) -> ClientConfig {
    let mut config = client_config(args);
    config
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A batch by timer costs 5 ms a hop by default; what waits is sent together anyway.
        .set("linger.ms", "0")
        // An unknown outcome is safe (the client repeats with its key), an endless wait is not.
        .set("delivery.timeout.ms", "15000")
        .set("queue.buffering.max.kbytes", "16384");
    config
}

/// Returns the settings of a consumer; without a group it must be assigned by hand.
pub fn consumer_config(args: &KafkaArgs, group: &str) -> ClientConfig {
    let mut config = client_config(args);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "false")
        // The least that brokers allow: a killed owner's partitions move after this.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "2000")
        .set("isolation.level", "read_committed")
        // The default prefetches 64 MB a consumer.
        .set("queued.max.messages.kbytes", "4096")
        // A full queue is looked at again after a second by default, so that much later than needed a burst goes on.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", "262144");
    config
}

fn client_config(args: &KafkaArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.kafka_bootstrap_servers)
        .set("security.protocol", &args.kafka_security_protocol)
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", &args.kafka_username)
        .set("sasl.password", args.kafka_password.expose_secret())
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true")
        // Nagle's algorithm holds a small request back until the broker has acknowledged the bytes before it.
        .set("socket.nagle.disable", "true");
    config
}
