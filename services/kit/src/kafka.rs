//! How this project talks to Kafka: one place for the settings that ordering and durability hang on.

mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Timestamp,
    consumer::{ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use traces::Parent;

use self::turns::Turns;
use crate::{
    config::{KafkaArgs, SchemaId},
    log::delivery::{Delivery, Undelivered},
};

/// How long the thread of outcomes sleeps at most; an outcome wakes it. It ends this long after its producer.
const POLL: Duration = Duration::from_secs(10);

/// The header with the id of the schema of a record's payload, as Confluent's clients and those that follow them look for it.
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";
/// Begins the header's value where a number of four bytes follows, the first one the highest.
const SCHEMA_ID_FORM: u8 = 0;

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
pub struct Producer(Arc<Inner>);

type Inner = BaseProducer<Outcomes>;
type Outcome = Box<oneshot::Sender<Result<(), Undelivered>>>;

impl Producer {
    /// Makes a producer; nothing is connected yet. Records of the topics in `schemas` carry the id of their schema.
    pub fn new(config: &ClientConfig, schemas: &[SchemaId]) -> KafkaResult<Self> {
        let timeout = config.get("delivery.timeout.ms").and_then(|text| text.parse().ok());
        let outcomes = Outcomes {
            turns: Mutex::new(Turns::new(Instant::now())),
            patience: timeout.filter(|millis| *millis > 0).map(Duration::from_millis),
            producer: OnceLock::new(),
            headers: schemas.iter().map(|schema| (schema.topic.clone(), header(schema.id))).collect(),
        };
        let producer: Arc<Inner> = Arc::new(config.create_with_context(outcomes)?);
        let polled = Arc::downgrade(&producer);
        // Nothing has an outcome before it is sent.
        drop(producer.client().context().producer.set(polled.clone()));
        thread::Builder::new()
            .name("outcomes".to_owned())
            .spawn(move || {
                while let Some(producer) = polled.upgrade() {
                    producer.poll(POLL);
                    producer.client().context().expire(Instant::now());
                }
            })
            .map_err(|error| KafkaError::ClientCreation(format!("no thread for outcomes: {error}")))?;
        Ok(Self(producer))
    }

    /// Queues a record; those of one key keep the order of the calls. Without a payload it is a tombstone. The span that it is written in, if that is
    /// recorded, is named in a header.
    pub fn send(
        &self,
        topic: &str,
        key: &str,
        payload: Option<&[u8]>,
        trace: Option<Parent>,
    ) -> KafkaResult<Delivery> {
        let now = Instant::now();
        let mut turns = self.0.client().context().turns();
        let is_open = turns.is_open(now);
        self.queue(&mut turns, is_open, (topic, key, payload, trace), now)
    }

    /// Queues records of a topic at once, in their order, so that they go with as few requests as they fit into: none of them waits for an outcome of
    /// those before it. Each has its span with it, likewise. Returns what becomes of those that are queued, and why the one behind them is not.
    pub fn send_all<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (&'a str, &'a [u8], Option<Parent>)>,
    ) -> (Vec<Delivery>, Option<KafkaError>) {
        let now = Instant::now();
        let mut turns = self.0.client().context().turns();
        let is_open = turns.is_open(now);
        let mut deliveries = Vec::new();
        for (key, payload, trace) in records {
            match self.queue(&mut turns, is_open, (topic, key, Some(payload), trace), now) {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => return (deliveries, Some(error)),
            }
        }
        (deliveries, None)
    }

    fn queue(
        &self,
        turns: &mut Turns<Unsent>,
        is_open: bool,
        (topic, key, payload, trace): (&str, &str, Option<&[u8]>, Option<Parent>),
        now: Instant,
    ) -> KafkaResult<Delivery> {
        let (outcome, delivery) = Delivery::pending();
        let outcome = Box::new(outcome);
        if is_open {
            hand_over(&self.0, topic, key, (payload, trace), outcome).map_err(|(error, _)| error)?;
            turns.hand_over(now);
        } else {
            let bytes = key.len() + payload.map_or(0, <[u8]>::len);
            let record = Unsent {
                topic: topic.to_owned(),
                key: key.to_owned(),
                payload: payload.map(<[u8]>::to_vec),
                trace,
                outcome,
            };
            let full = |_| KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            turns.wait(record, bytes, now).map_err(full)?;
        }
        Ok(delivery)
    }

    /// Waits, blocking, until everything queued has its outcome.
    pub fn flush(&self, timeout: Duration) -> KafkaResult<()> {
        let ends = Instant::now() + timeout;
        let outcomes = self.0.client().context();
        loop {
            // The end of a process waits for no turn.
            outcomes.hand_over_all(&self.0, &mut outcomes.turns());
            self.0.flush(ends.saturating_duration_since(Instant::now()))?;
            if outcomes.turns().is_empty() {
                return Ok(());
            }
        }
    }

    /// Returns whether this producer has lost its place in the log and only another one can go on.
    pub fn is_lost(&self) -> bool {
        self.0.client().fatal_error().is_some()
    }
}

/// A record that waits for its turn.
struct Unsent {
    topic: String,
    key: String,
    payload: Option<Vec<u8>>,
    trace: Option<Parent>,
    outcome: Outcome,
}

impl Unsent {
    /// Tells who waits for it that it will not be in the log.
    fn fail(self, error: KafkaError) {
        let Self { topic, key, payload, trace: _, outcome } = self;
        let record =
            OwnedMessage::new(payload, Some(key.into_bytes()), topic, Timestamp::NotAvailable, -1, -1, None);
        // The sender may have stopped waiting.
        drop(outcome.send(Err(Undelivered::new(error, record))));
    }
}

/// Hands outcomes to their waiters, and the records that wait to the producer.
struct Outcomes {
    /// Held while records are handed over: those of a key keep their order.
    turns: Mutex<Turns<Unsent>>,
    /// How long a record waits at most; without an end where there is none.
    patience: Option<Duration>,
    producer: OnceLock<Weak<Inner>>,
    /// What records carry, by topic: few, or none.
    headers: Vec<(String, OwnedHeaders)>,
}

impl Outcomes {
    fn turns(&self) -> MutexGuard<'_, Turns<Unsent>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over_all(&self, producer: &Inner, turns: &mut Turns<Unsent>) {
        let now = Instant::now();
        self.fail_expired(turns, now);
        while let Some(record) = turns.next() {
            let Unsent { topic, key, payload, trace, outcome } = record;
            match hand_over(producer, &topic, &key, (payload.as_deref(), trace), outcome) {
                Ok(()) => turns.hand_over(now),
                Err((error, outcome)) => Unsent { topic, key, payload, trace, outcome }.fail(error),
            }
        }
    }

    /// Returns what a record of a topic carries. The client takes it with the record, and copies it into its own memory for that.
    fn headers(&self, topic: &str) -> Option<OwnedHeaders> {
        self.headers.iter().find(|(of, _)| of == topic).map(|(_, headers)| headers.clone())
    }

    fn expire(&self, now: Instant) {
        self.fail_expired(&mut self.turns(), now);
    }

    fn fail_expired(&self, turns: &mut Turns<Unsent>, now: Instant) {
        let Some(patience) = self.patience else { return };
        for record in turns.expire(patience, now) {
            record.fail(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        }
    }
}

impl ClientContext for Outcomes {
    fn error(&self, error: KafkaError, reason: &str) {
        QuietContext.error(error, reason);
    }
}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = Outcome;

    fn delivery(&self, result: &DeliveryResult<'_>, outcome: Self::DeliveryOpaque) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, record)) => Err(Undelivered::new(error.clone(), record.detach())),
        };
        // The sender may have stopped waiting.
        drop(outcome.send(result));
        let mut turns = self.turns();
        if turns.settle()
            && !turns.is_empty()
            && let Some(producer) = self.producer.get().and_then(Weak::upgrade)
        {
            self.hand_over_all(&producer, &mut turns);
        }
    }
}

/// Gives a record to librdkafka; gives the outcome back when it does not take it.
fn hand_over(
    producer: &Inner,
    topic: &str,
    key: &str,
    (payload, trace): (Option<&[u8]>, Option<Parent>),
    outcome: Outcome,
) -> Result<(), (KafkaError, Outcome)> {
    let mut record = BaseRecord::with_opaque_to(topic, outcome).key(key);
    record.payload = payload;
    // A tombstone has nothing that a schema describes.
    let schema = payload.and_then(|_| producer.client().context().headers(topic));
    record.headers = match trace {
        Some(trace) => Some(traced(schema, trace)),
        None => schema,
    };
    producer.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
}

/// Returns the header with the id of a schema.
fn header(id: i32) -> OwnedHeaders {
    let [a, b, c, d] = id.to_be_bytes();
    let value = [SCHEMA_ID_FORM, a, b, c, d];
    OwnedHeaders::new_with_capacity(1).insert(Header { key: SCHEMA_ID_HEADER, value: Some(&value) })
}

/// Adds the header with the span that a record is written in.
fn traced(headers: Option<OwnedHeaders>, trace: Parent) -> OwnedHeaders {
    let value = trace.to_string();
    let header = Header { key: traces::HEADER, value: Some(value.as_str()) };
    headers.unwrap_or_default().insert(header)
}

/// Returns the span that a record was written in, if that is recorded.
pub(crate) fn trace_of(record: &BorrowedMessage<'_>) -> Option<Parent> {
    if !traces::is_on() {
        return None;
    }
    let header = record.headers()?.iter().find(|header| header.key == traces::HEADER)?;
    Parent::received(header.value?)
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
        // By default a batch waits for 5 ms at every hop. This is enough for what is sent at the same moment; see `turns`.
        .set("linger.ms", "0.5")
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
        .set("socket.nagle.disable", "true")
        // As it is by default: with TLS a broker has a certificate for its host, or is not spoken to.
        .set("ssl.endpoint.identification.algorithm", "https");
    if let Some(bundle) =
        args.trust.oidc_ca_bundle.as_ref().filter(|_| args.kafka_security_protocol.ends_with("ssl"))
    {
        config.set("ssl.ca.pem", bundle);
    }
    config
}
