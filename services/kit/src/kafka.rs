//! How this project talks to Kafka: one place for the settings that ordering and durability hang on.

use rdkafka::{
    ClientConfig, ClientContext,
    consumer::{ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
    producer::FutureProducer,
};
use secrecy::ExposeSecret as _;

use crate::config::KafkaArgs;

/// A producer of records.
pub type Producer = FutureProducer<QuietContext>;
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

/// Makes a producer; nothing is connected yet.
pub fn producer(config: &ClientConfig) -> KafkaResult<Producer> {
    config.create_with_context(QuietContext)
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
        .set("socket.keepalive.enable", "true");
    config
}
