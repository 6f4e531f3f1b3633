//! One suite for every log.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use kit::{
    config::{KafkaArgs, SchemaId, TrustArgs},
    health::Health,
    log::{Event, Follower, Log, Member, Queue, Report, Start},
    testing::stack,
    traces::{HEADER, Span, SpanKind, testing::Kept, within},
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::Consumer as _,
    message::Headers as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, unconstrained},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine, short enough to wait for.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than a producer hands over at once.
const RECORDS: usize = 2_000;
const KEYS: usize = 5;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    partition: i32,
    offset: i64,
    key: String,
    payload: Option<String>,
}

/// Runs the suite on a log and three of its empty topics.
async fn suite(log: &Log, topics: [&str; 3]) {
    let [whole, end, shared] = topics;
    records_of_a_key_keep_their_order_and_their_partition(log, whole).await;
    a_follower_from_the_end_reads_later_records(log, end).await;
    a_member_owns_partitions_from_its_positions_until_the_shutdown(log, shared).await;
}

async fn records_of_a_key_keep_their_order_and_their_partition(log: &Log, topic: &str) {
    let sent = produce(log, topic).await;
    let mut follower = follow(log, topic, Start::Beginning).await;
    let seen = read_to_the_end(&mut follower).await;
    assert_eq!(seen.len(), RECORDS);

    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &seen {
        let next = ends.entry(record.partition).or_default();
        assert_eq!(record.offset, *next, "offsets have no gap: {record:?}");
        *next += 1;
    }
    for key in 0..KEYS {
        let of_key = || seen.iter().filter(|record| record.key == format!("key-{key}"));
        let partition = of_key().next().expect("every key was sent").partition;
        assert!(of_key().all(|record| record.partition == partition), "a key has one partition");
        let payloads: Vec<_> = of_key().map(|record| record.payload.clone()).collect();
        assert_eq!(payloads, sent[&format!("key-{key}")], "a key keeps its order");
    }
    follower.end().await;

    // Another one goes on in the middle of each partition; where it knows no place, at the beginning.
    let mut middle: BTreeMap<i32, i64> = ends.iter().map(|(partition, end)| (*partition, end / 2)).collect();
    let (unknown, _) = middle.pop_last().expect("a partition");
    let mut follower = resume(log, topic, &middle).await;
    let mut later = read_to_the_end(&mut follower).await;
    follower.end().await;
    let place = |record: &Seen| (record.partition, record.offset);
    let is_later = |record: &Seen| record.partition == unknown || record.offset >= middle[&record.partition];
    let mut expected: Vec<_> = seen.into_iter().filter(is_later).collect();
    later.sort_by_key(place);
    expected.sort_by_key(place);
    assert_eq!(later, expected);
}

async fn a_follower_from_the_end_reads_later_records(log: &Log, topic: &str) {
    produce(log, topic).await;
    let mut follower = follow(log, topic, Start::End).await;
    let producer = log.producer(Some(PATIENCE)).expect("a producer");
    producer.send(topic, "key-0", Some(b"later")).expect("room").await.expect("in the log");
    let stop = CancellationToken::new();
    assert_eq!(next_payload(&mut follower, &stop).await, b"later");

    let together: Vec<String> = (0..RECORDS).map(|number| format!("together {number}")).collect();
    let records = together.iter().map(|payload| ("key-0", payload.as_bytes(), None));
    let (deliveries, error) = producer.send_all(topic, records);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(deliveries.len(), RECORDS);
    for payload in &together {
        assert_eq!(next_payload(&mut follower, &stop).await, payload.as_bytes());
    }
    for delivery in deliveries {
        timeout(PATIENCE, delivery).await.expect("in time").expect("the log has the record");
    }
    stop.cancel();
    assert!(follower.next(&stop).await.is_none(), "stopped");
    follower.end().await;
}

/// Returns the payload of the next record; nothing of a tombstone.
async fn next_payload(follower: &mut Follower, stop: &CancellationToken) -> Vec<u8> {
    loop {
        match timeout(PATIENCE, follower.next(stop)).await.expect("in time").expect("not stopped") {
            Event::Record(record) => return record.payload().unwrap_or_default().to_vec(),
            Event::End(_) => {}
        }
    }
}

async fn a_member_owns_partitions_from_its_positions_until_the_shutdown(log: &Log, topic: &str) {
    produce(log, topic).await;
    let mut follower = follow(log, topic, Start::Beginning).await;
    let all = read_to_the_end(&mut follower).await;
    let partitions = follower.partitions();
    follower.end().await;
    // One partition is read from a position in its middle, the others from their beginning.
    let busiest = all.iter().max_by_key(|record| record.offset).expect("records").partition;
    let expected = all.iter().filter(|record| record.partition != busiest || record.offset >= 3).count();

    let (records, mut read) = mpsc::unbounded_channel();
    let member = Arc::new(Reader { busiest, records, owned: Mutex::default(), settled: Notify::new() });
    let shutdown = CancellationToken::new();
    let membership = log.join(topic, &format!("{topic}-group"), member.clone(), shutdown.clone());
    let membership = tokio::spawn(membership.expect("a member"));
    timeout(PATIENCE, member.settled.notified()).await.expect("the group settles");
    let mut seen = Vec::new();
    while seen.len() < expected {
        seen.push(timeout(PATIENCE, read.recv()).await.expect("in time").expect("a reader"));
    }
    assert!(seen.iter().all(|record| all.contains(record)));
    assert!(seen.iter().all(|record| record.partition != busiest || record.offset >= 3), "from its position");
    let mut taken = member.taken();
    taken.sort_unstable();
    assert_eq!(taken, partitions, "the only member owns everything");

    let producer = log.producer(Some(PATIENCE)).expect("a producer");
    producer.send(topic, "key-1", Some(b"live")).expect("room").await.expect("in the log");
    let live = timeout(PATIENCE, read.recv()).await.expect("in time").expect("a reader");
    assert_eq!(live.payload.as_deref(), Some("live"));

    shutdown.cancel();
    timeout(PATIENCE, membership).await.expect("the group is left").expect("no panic");
    assert!(member.taken().is_empty(), "all partitions were given up");
}

/// Reads its partitions and reports what it read.
struct Reader {
    busiest: i32,
    records: mpsc::UnboundedSender<Seen>,
    owned: Mutex<HashMap<i32, JoinHandle<()>>>,
    settled: Notify,
}

#[async_trait]
impl Member for Reader {
    async fn starts(&self, partitions: &[i32]) -> Option<HashMap<i32, Option<i64>>> {
        let start = |partition| (partition, (partition == self.busiest).then_some(3));
        Some(partitions.iter().copied().map(start).collect())
    }

    fn take(&self, queue: Queue, _start: Option<i64>) {
        let partition = queue.partition();
        let task = tokio::spawn(read(queue, self.records.clone()));
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, task);
    }

    fn taken(&self) -> Vec<i32> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    async fn give_up(&self, partitions: &[i32]) {
        for partition in partitions {
            let task = self.owned.lock().unwrap_or_else(PoisonError::into_inner).remove(partition);
            if let Some(task) = task {
                task.abort();
                drop(task.await);
            }
        }
    }

    fn report(&self, report: Report) {
        if matches!(report, Report::Settled) {
            self.settled.notify_one();
        }
    }
}

async fn read(mut queue: Queue, records: mpsc::UnboundedSender<Seen>) {
    let filled = Arc::new(Notify::new());
    queue.notify(&filled);
    loop {
        let mut next = None;
        while let Some(record) = queue.poll() {
            let record = record.expect("a record");
            next = Some(record.offset() + 1);
            records.send(seen(&record)).expect("the test listens");
        }
        if let Some(next) = next {
            queue.commit(next);
        }
        filled.notified().await;
    }
}

/// Produces records, one of ten a tombstone; returns the payloads of each key in their order. The first half is waited for, the second one
/// flushed.
async fn produce(log: &Log, topic: &str) -> HashMap<String, Vec<Option<String>>> {
    let producer = log.producer(Some(PATIENCE)).expect("a producer");
    let mut sent: HashMap<String, Vec<Option<String>>> = HashMap::new();
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        let key = format!("key-{}", number % KEYS);
        let payload = (number % 10 != 9).then(|| format!("record {number}"));
        let delivery = producer.send(topic, &key, payload.as_deref().map(str::as_bytes));
        deliveries.push(delivery.expect("the queue has room"));
        sent.entry(key).or_default().push(payload);
        if number == RECORDS / 2 {
            for delivery in deliveries.drain(..) {
                timeout(PATIENCE, delivery).await.expect("in time").expect("the log has the record");
            }
        }
    }
    producer.flush(PATIENCE).expect("nothing waits");
    for delivery in deliveries {
        let outcome = unconstrained(delivery).now_or_never();
        outcome.expect("it is known").expect("the log has the record");
    }
    assert!(!producer.is_lost());
    sent
}

async fn resume(log: &Log, topic: &str, next: &BTreeMap<i32, i64>) -> Follower {
    let check = Health::default().check("log");
    let stop = CancellationToken::new();
    let follower = log.resume(topic, "test", next, &check, &stop);
    timeout(PATIENCE, follower).await.expect("the log answers").expect("not stopped")
}

async fn follow(log: &Log, topic: &str, start: Start) -> Follower {
    let check = Health::default().check("log");
    let stop = CancellationToken::new();
    let follower = log.follow(topic, "test", start, &check, &stop);
    timeout(PATIENCE, follower).await.expect("the log answers").expect("not stopped")
}

async fn read_to_the_end(follower: &mut Follower) -> Vec<Seen> {
    let stop = CancellationToken::new();
    let mut behind = follower.partitions();
    let mut records = Vec::new();
    while !behind.is_empty() {
        match timeout(PATIENCE, follower.next(&stop)).await.expect("in time").expect("not stopped") {
            Event::Record(record) => {
                assert!(record.logged_at_ms().is_some_and(|at| at > 0), "a record has a time");
                records.push(seen(&record));
            }
            Event::End(partition) => behind.retain(|other| *other != partition),
        }
    }
    records
}

fn seen(record: &kit::log::Record<'_>) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Seen {
        partition: record.partition(),
        offset: record.offset(),
        key: record.key().map(text).expect("a key"),
        payload: record.payload().map(text),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_in_memory() {
    suite(&Log::memory(), ["whole", "end", "shared"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_on_kafka() {
    on_kafka("KAFKA_BOOTSTRAP", "sasl_plaintext", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_on_kafka_by_tls() {
    let authority = std::fs::read_to_string(stack("KAFKA_CA")).expect("the authority of Kafka's certificate");
    on_kafka("KAFKA_TLS_BOOTSTRAP", "sasl_ssl", Some(authority)).await;
}

async fn on_kafka(bootstrap: &str, security_protocol: &str, oidc_ca_bundle: Option<String>) {
    let args = KafkaArgs {
        kafka_bootstrap_servers: stack(bootstrap),
        kafka_security_protocol: security_protocol.to_owned(),
        trust: TrustArgs { oidc_ca_bundle },
        kafka_username: stack("KAFKA_ADMIN_USERNAME"),
        kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
        schema_ids: Vec::new(),
    };
    let admin: AdminClient<DefaultClientContext> =
        kit::kafka::producer_config(&args).create().expect("an admin client");
    let prefix = format!("test{}", Uuid::now_v7().simple());
    let topics = ["whole", "end", "shared"].map(|name| format!("{prefix}.{name}"));
    let new = topics.each_ref().map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1)));
    let made = admin.create_topics(&new, &AdminOptions::new()).await.expect("Kafka answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");

    suite(&Log::kafka(args), topics.each_ref().map(String::as_str)).await;

    drop(admin.delete_topics(&topics.each_ref().map(String::as_str), &AdminOptions::new()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_names_its_schema_where_its_topic_has_one() {
    const WITH: &str = "acme.message.send";
    const WITHOUT: &str = "acme.chat.events";
    let cluster: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).expect("a broker");
    for topic in [WITH, WITHOUT] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let args = KafkaArgs {
        kafka_bootstrap_servers: cluster.bootstrap_servers(),
        kafka_security_protocol: "plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
        schema_ids: vec![SchemaId { topic: WITH.to_owned(), id: 0x0102 }],
    };
    let producer = Log::kafka(args.clone()).producer(None).expect("a producer");
    let payload = Some(b"{}".as_slice());
    for (topic, payload) in [(WITH, payload), (WITHOUT, payload), (WITH, None)] {
        let delivery = producer.send(topic, "key", payload).expect("there is room");
        timeout(PATIENCE, delivery).await.expect("an outcome").expect("it is in the log");
    }
    let consumer = kit::kafka::consumer(&kit::kafka::consumer_config(&args, "test")).expect("a consumer");
    let mut all = TopicPartitionList::new();
    for topic in [WITH, WITHOUT] {
        all.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("both are assigned");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let record = timeout(PATIENCE, consumer.recv()).await.expect("a record").expect("a record");
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        let headers = headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        seen.push((record.topic().to_owned(), record.payload().is_some(), headers.collect::<Vec<_>>()));
    }
    seen.sort();
    // The form of Confluent's clients: a zero, then the id in four bytes.
    let header = ("__value_schema_id".to_owned(), Some(vec![0, 0, 0, 1, 2]));
    let expected = [
        (WITHOUT.to_owned(), true, vec![]),
        (WITH.to_owned(), false, vec![]),
        (WITH.to_owned(), true, vec![header]),
    ];
    assert_eq!(seen, expected);
}

/// Without a broker of the stack; a process traces once, so both logs share a test.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_names_the_span_that_it_is_written_in_and_is_the_same_beside() {
    const TOPIC: &str = "traced";
    let cluster = MockCluster::new(1).expect("a broker in this process");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    let args = KafkaArgs {
        kafka_bootstrap_servers: cluster.bootstrap_servers(),
        kafka_security_protocol: "plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: "u".to_owned(),
        kafka_password: "p".into(),
        schema_ids: vec![SchemaId { topic: TOPIC.to_owned(), id: 7 }],
    };
    let (kept, traces) = Kept::start("test");
    for log in [Log::memory(), Log::kafka(args)] {
        let producer = log.producer(None).expect("a producer");
        let send = async |payload: &str| {
            let delivery = producer.send(TOPIC, "key", Some(payload.as_bytes())).expect("there is room");
            timeout(PATIENCE, delivery).await.expect("an outcome").expect("it is in the log");
        };
        let span = Span::root("request", SpanKind::Server);
        let parent = span.parent().expect("everything is recorded");
        send("one").await;
        within(Some(parent), send("two")).await;
        let together = [("key", b"three".as_slice(), None), ("key", b"four".as_slice(), Some(parent))];
        let (deliveries, error) = producer.send_all(TOPIC, together);
        assert!(error.is_none(), "{error:?}");
        for delivery in deliveries {
            timeout(PATIENCE, delivery).await.expect("an outcome").expect("it is in the log");
        }

        let (mut follower, stop) = (follow(&log, TOPIC, Start::Beginning).await, CancellationToken::new());
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let event = timeout(PATIENCE, follower.next(&stop)).await.expect("in time").expect("not stopped");
            if let Event::Record(record) = event {
                let payload = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
                seen.push((payload, record.trace().map(|of| (of.trace, of.span))));
            }
        }
        follower.end().await;
        let of = Some((parent.trace, parent.span));
        let expected = [("one", None), ("two", of), ("three", None), ("four", of)];
        assert_eq!(seen, expected.map(|(payload, of)| (payload.to_owned(), of)));
    }
    let spans = kept.end(traces).await;
    assert_eq!(spans.len(), 2, "a header makes no span: {HEADER}");
}
