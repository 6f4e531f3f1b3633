//! A throw-away tenant: topics, a realm and peers of its own, and a gateway.

use std::{
    net::{SocketAddr, TcpListener},
    panic::resume_unwind,
    sync::Arc,
    time::{Duration, Instant},
};

use contracts::{ChatId, DeviceId, Encoding, UserId, event::SendRecord};
use gateway::{Gateway, Limits, RateLimits, Settings};
use kit::{
    Process, Program, Service as _, catalog,
    catalog::{Rate, Topic},
    config::{KafkaArgs, RedisArgs, SendRates, TrustArgs},
    program::Invocation,
    testing::{TestCache, TestRealm, stack, wait_for},
};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    client::Client,
    peers::{INTERNAL_TOKEN, Peers},
};

pub const PARTITIONS: i32 = 3;

/// For stories of users who send as fast as they can.
pub const UNLIMITED: RateLimits = RateLimits {
    sends: SendRates {
        user_sends: PLENTY,
        user_bytes: PLENTY,
        chat_sends: PLENTY,
        chat_bytes: PLENTY,
        tenant_sends: PLENTY,
        tenant_bytes: PLENTY,
    },
    user_queries: PLENTY,
};

const PLENTY: Rate = Rate::per_second(1_000_000_000, 1_000_000_000);

/// Whatever a story waits for comes within this time.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0x1000 + n))
}

pub fn device(n: u128) -> DeviceId {
    DeviceId(Uuid::from_u128(0x2000 + n))
}

pub fn chat() -> ChatId {
    ChatId(Uuid::from_u128(0x3000))
}

/// A tenant with one gateway.
pub struct Stand {
    pub tenant: String,
    pub kafka: KafkaArgs,
    pub realm: TestRealm,
    pub peers: Peers,
    pub gateway: Running,
    pub redis: TestCache,
    /// The encoding of the connections that [`Self::connect`] opens.
    pub encoding: Encoding,
    pub peers_addr: SocketAddr,
}

/// The settings of a gateway of this tenant on free ports.
pub fn config(
    tenant: &str,
    kafka: &KafkaArgs,
    redis: &RedisArgs,
    realm: &TestRealm,
    peers: SocketAddr,
) -> (Invocation, Vec<String>) {
    // All three are held at once, or one could be given twice.
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [http, grpc, management] =
        held.map(|listener| listener.local_addr().expect("an address").to_string());
    let peers = format!("http://{peers}");
    let arguments = [
        ["--tenant", tenant],
        ["--http-addr", &http],
        ["--grpc-addr", &grpc],
        ["--management-addr", &management],
        ["--log-format", "text"],
        ["--unready-seconds", "0"],
        ["--drain-seconds", "10"],
        ["--oidc-issuer", &realm.issuer],
        ["--kafka-bootstrap-servers", &kafka.kafka_bootstrap_servers],
        ["--kafka-security-protocol", &kafka.kafka_security_protocol],
        ["--redis-addr", &redis.redis_addr],
        ["--chat-grpc", &peers],
        ["--message-grpc", &peers],
        ["--presence-grpc", &peers],
        ["--media-grpc", &peers],
        ["--user-grpc", &peers],
    ];
    let arguments: Vec<String> = arguments.into_iter().flatten().map(str::to_owned).collect();
    let secrets = [
        ["--internal-token", INTERNAL_TOKEN],
        ["--kafka-username", &kafka.kafka_username],
        ["--kafka-password", kafka.kafka_password.expose_secret()],
        ["--redis-username", &redis.redis_username],
        ["--redis-password", redis.redis_password.expose_secret()],
    ];
    let line = ["gateway".to_owned(), "run".to_owned()].into_iter().chain(arguments.iter().cloned());
    let line = line.chain(secrets.into_iter().flatten().map(str::to_owned));
    (Program::of::<Gateway>().read(line).expect("arguments"), arguments)
}

/// A gateway in this process.
pub struct Running {
    pub http: SocketAddr,
    pub management: SocketAddr,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Starts a gateway and waits until it is ready.
    pub async fn start(invocation: Invocation, limits: Limits) -> Self {
        Self::start_with(invocation, |settings| settings.limits = limits).await
    }

    pub async fn start_with(invocation: Invocation, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = invocation.settings::<Gateway>().expect("settings");
        change(&mut settings);
        let addresses = &invocation.process.service;
        let (http, management) = (addresses.http_addr, addresses.management_addr);
        let process = Process::start(invocation.process).expect("a process");
        let shutdown = process.shutdown().clone();
        let task = tokio::spawn(async move {
            let scope = process.scope(catalog::Service::Gateway);
            let surface = Gateway::build(settings, &scope).await?;
            process.serve(vec![(catalog::Service::Gateway, surface)]).await
        });
        let running = Self { http, management, shutdown, task };
        wait_for("a ready gateway", PATIENCE, || async { running.is_ready().await.then_some(()) }).await;
        running
    }

    /// Ends the gateway.
    pub async fn end(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("an end in time").expect("no panic").expect("no failure");
    }

    pub async fn is_ready(&self) -> bool {
        get(self.management, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Returns the value of a metric with all its labels in this order, 0 when it was never counted.
    pub async fn metric(&self, name_and_labels: &str) -> u64 {
        let answer = get(self.management, "/metrics").await.expect("metrics");
        let line = answer.lines().find(|line| {
            let (name, labels) = name_and_labels.split_once('{').unwrap_or((name_and_labels, ""));
            line.starts_with(&format!("posthouse_gateway_{name}{{"))
                && labels.trim_end_matches('}').split(',').all(|label| line.contains(label))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// Returns head and body of a page.
pub async fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    get_with(addr, path, &[]).await
}

pub async fn get_with(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        request.push_str("connection: close\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // An upgraded connection stays open: the head is the answer then.
    loop {
        let read = stream.read(&mut part).await?;
        answer.extend_from_slice(&part[..read]);
        if read == 0 || (answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(b"\r\n\r\n")) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// Runs a story on a fresh tenant and removes the tenant afterwards, also when the story fails.
pub async fn with_stand<F: Future<Output = ()> + Send + 'static>(
    limits: Limits,
    story: impl FnOnce(Arc<Stand>) -> F,
) {
    with_settings(|settings| settings.limits = limits, story).await;
}

/// Runs a story like [`with_stand`], once with connections of each encoding.
pub async fn with_encodings<F: Future<Output = ()> + Send + 'static>(
    limits: Limits,
    story: impl Fn(Arc<Stand>) -> F,
) {
    for encoding in Encoding::ALL {
        with_connections(encoding, |settings| settings.limits = limits.clone(), &story).await;
    }
}

/// Runs a story like [`with_stand`], with other limits of sends.
pub async fn with_rates<F: Future<Output = ()> + Send + 'static>(
    limits: Limits,
    rates: RateLimits,
    story: impl FnOnce(Arc<Stand>) -> F,
) {
    let change = |settings: &mut Settings| (settings.limits, settings.rates) = (limits, rates);
    with_settings(change, story).await;
}

/// Runs a story like [`with_stand`], with settings of its own.
pub async fn with_settings<F: Future<Output = ()> + Send + 'static>(
    change: impl FnOnce(&mut Settings),
    story: impl FnOnce(Arc<Stand>) -> F,
) {
    with_connections(Encoding::Json, change, story).await;
}

async fn with_connections<F: Future<Output = ()> + Send + 'static>(
    encoding: Encoding,
    change: impl FnOnce(&mut Settings),
    story: impl FnOnce(Arc<Stand>) -> F,
) {
    let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
    let kafka = kafka_args();
    let admin = kafka_admin(&kafka);
    create_topics(&admin, &tenant).await;
    let realm = TestRealm::start(&tenant).await;
    let peers = Peers::new(&tenant, &kafka);
    let redis = TestCache::create(&tenant).await;
    let peers_addr = peers.serve().await;
    let (invocation, _) = config(&tenant, &kafka, &redis.args(), &realm, peers_addr);
    let gateway = Running::start_with(invocation, change).await;
    peers.number_messages(&kafka);
    let tenant_of = tenant.clone();
    let stand =
        Arc::new(Stand { tenant: tenant_of, kafka, realm, peers, gateway, redis, encoding, peers_addr });

    let outcome = tokio::spawn(story(stand.clone())).await;
    stand.gateway.shutdown.cancel();
    wait_for("an ended gateway", PATIENCE, || async { stand.gateway.task.is_finished().then_some(()) }).await;
    remove_topics(&admin, &tenant).await;
    if let Err(failed) = outcome {
        resume_unwind(failed.into_panic());
    }
}

pub fn kafka_args() -> KafkaArgs {
    KafkaArgs {
        kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
        kafka_security_protocol: "sasl_plaintext".to_owned(),
        trust: TrustArgs::default(),
        kafka_username: stack("KAFKA_ADMIN_USERNAME"),
        kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
        schema_ids: Vec::new(),
    }
}

pub fn kafka_admin(args: &KafkaArgs) -> AdminClient<DefaultClientContext> {
    let mut config = kit::kafka::consumer_config(args, "admin");
    config.remove("group.id");
    config.create().expect("an admin client")
}

fn topic_names(tenant: &str) -> Vec<String> {
    Topic::ALL.iter().map(|topic| topic.of(tenant)).collect()
}

pub async fn create_topics(admin: &AdminClient<DefaultClientContext>, tenant: &str) {
    let topics = topic_names(tenant);
    let new = topics.iter().map(|topic| {
        let policy = if topic.ends_with(Topic::ChatEvents.name) { "compact" } else { "delete" };
        NewTopic::new(topic.as_str(), PARTITIONS, TopicReplication::Fixed(1)).set("cleanup.policy", policy)
    });
    let made = admin.create_topics(&new.collect::<Vec<_>>(), &AdminOptions::new()).await;
    for topic in made.expect("the brokers answer") {
        topic.expect("a topic");
    }
}

pub async fn remove_topics(admin: &AdminClient<DefaultClientContext>, tenant: &str) {
    let topics = topic_names(tenant);
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    drop(admin.delete_topics(&topics, &AdminOptions::new()).await);
}

impl Stand {
    /// Opens a connection and sends a valid token.
    pub async fn connect(&self, user: UserId, device: DeviceId) -> Client {
        let mut client = Client::open_in(self.gateway.http, self.encoding).await;
        client.connect(&self.realm.token(user, "someone"), device).await;
        client
    }

    /// Connects two of the three members of a chat, and a user who is not in it. The second has received the first message.
    pub async fn two_members_and_a_stranger(&self) -> [Client; 3] {
        self.peers.join(chat(), &[user(1), user(2), user(3)]).await;
        let mut one = self.connect(user(1), device(1)).await;
        let mut two = self.connect(user(2), device(1)).await;
        let stranger = self.connect(user(4), device(1)).await;
        one.send_text(chat(), "the three of us").await;
        assert_eq!(two.message().await.seq, 1);
        [one, two, stranger]
    }

    /// Starts another gateway of the tenant, which the story ends.
    pub async fn another_gateway(&self) -> Running {
        self.another_gateway_with(|_| {}).await
    }

    pub async fn another_gateway_with(&self, change: impl FnOnce(&mut Settings)) -> Running {
        let (invocation, _) =
            config(&self.tenant, &self.kafka, &self.redis.args(), &self.realm, self.peers_addr);
        Running::start_with(invocation, change).await
    }

    /// Returns what is in `message.send`, in the order of each partition.
    pub async fn sent(&self) -> Vec<SendRecord> {
        let topic = Topic::MessageSend.of(&self.tenant);
        let config = kit::kafka::consumer_config(&self.kafka, "reader");
        let read = move || {
            let consumer: BaseConsumer = config.create().expect("a consumer");
            let mut list = TopicPartitionList::new();
            let mut left = 0;
            for partition in 0..PARTITIONS {
                let (low, high) = consumer.fetch_watermarks(&topic, partition, PATIENCE).expect("watermarks");
                left += high - low;
                list.add_partition_offset(&topic, partition, Offset::Beginning).expect("a partition");
            }
            consumer.assign(&list).expect("an assignment");
            let mut records = Vec::new();
            let deadline = Instant::now() + PATIENCE;
            while left > 0 {
                assert!(Instant::now() < deadline, "{topic} was not read to its end");
                let Some(record) = consumer.poll(Duration::from_millis(200)) else { continue };
                let record = record.expect("a record");
                left -= 1;
                records.push(serde_json::from_slice(record.payload().unwrap_or_default()).expect("a record"));
            }
            records
        };
        tokio::task::spawn_blocking(read).await.expect("a reader")
    }
}
