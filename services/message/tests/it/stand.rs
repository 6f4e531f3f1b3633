//! A throw-away tenant: topics, a keyspace, a realm and a chat service of its own, and message processes.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    panic::resume_unwind,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    event::{EntryKind, SendRecord},
    rpc::{
        EntryId, GetMembershipRequest, GetMembershipResponse, ListMembershipsRequest,
        ListMembershipsResponse, Member, Membership,
        chat_service_server::{ChatService, ChatServiceServer},
    },
};
use kit::{
    catalog::Topic,
    config::{CqlArgs, CqlFlavor, KafkaArgs, Tls, TrustArgs},
    testing::{TestRealm, TestUsers, stack, wait_for},
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub const PARTITIONS: i32 = 3;
pub const GENERATION: &str = "generation-1";
pub const INTERNAL_TOKEN: &str = "internal";

/// Whatever a story waits for comes within this time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whose clock says when a record was sent.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// As tenants have it.
    Brokers,
    /// So that a story can play a broker whose clock is set.
    Producers,
}

/// A record as the log has it.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub partition: i32,
    pub offset: i64,
    pub at_ms: i64,
    pub payload: Vec<u8>,
}

pub struct Stand {
    pub tenant: String,
    pub kafka: KafkaArgs,
    pub cql: CqlArgs,
    pub realm: TestRealm,
    pub chats: FakeChats,
    pub session: Arc<Session>,
    pub producer: FutureProducer,
    /// Queried for the ends of topics.
    watcher: Arc<BaseConsumer>,
    chat_addr: SocketAddr,
}

/// Runs a story on a fresh tenant and removes the tenant afterwards, also when the story fails.
pub async fn with_stand<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(Arc<Stand>) -> F) {
    let stand = Arc::new(Stand::new().await);
    let outcome = tokio::spawn(story(stand.clone())).await;
    stand.remove().await;
    match outcome {
        Ok(()) => drop(fs::remove_file(stand.log())),
        Err(failed) => {
            eprintln!("the processes' log lines are in {}", stand.log().display());
            resume_unwind(failed.into_panic());
        }
    }
}

impl Stand {
    async fn new() -> Self {
        let tenant = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        let kafka = KafkaArgs {
            kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
            kafka_security_protocol: "sasl_plaintext".to_owned(),
            trust: TrustArgs::default(),
            kafka_username: stack("KAFKA_ADMIN_USERNAME"),
            kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
            schema_ids: Vec::new(),
        };
        let cql = CqlArgs {
            cql_contact_points: stack("CQL_CONTACT_POINTS").split(',').map(str::to_owned).collect(),
            cql_tls: Tls::Disabled,
            trust: TrustArgs::default(),
            cql_keyspace: format!("mt_{tenant}"),
            cql_flavor: CqlFlavor::Cassandra,
            cql_username: stack("CQL_ADMIN_USERNAME"),
            cql_password: stack("CQL_ADMIN_PASSWORD").into(),
        };
        let admin = SessionBuilder::new()
            .known_nodes(&cql.cql_contact_points)
            .user(&cql.cql_username, stack("CQL_ADMIN_PASSWORD"))
            .fetch_schema_metadata(false)
            .build()
            .await
            .expect("a session with the store");
        let create = format!(
            "CREATE KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
            cql.cql_keyspace
        );
        admin.query_unpaged(create, ()).await.expect("a keyspace");
        let session = Arc::new(kit::cql::session(&cql).await.expect("a session in the keyspace"));

        let topics = [Topic::MessageSend, Topic::MessageDelivered].map(|topic| topic.of(&tenant));
        for topic in &topics {
            assert!(create_topic(&kafka, topic, Clock::Brokers).await, "{topic} is there already");
        }
        let producer = kit::kafka::producer_config(&kafka).create().expect("a producer");
        let watcher = kit::kafka::consumer_config(&kafka, "watcher").create().expect("a consumer");
        let chats = FakeChats::default();
        let chat_addr = chats.clone().serve().await;
        let realm = TestRealm::start(&tenant).await;
        Self { tenant, kafka, cql, realm, chats, session, producer, watcher: Arc::new(watcher), chat_addr }
    }

    async fn remove(&self) {
        let topics = [Topic::MessageSend, Topic::MessageDelivered].map(|topic| topic.of(&self.tenant));
        let admin = kafka_admin(&self.kafka);
        let topics = topics.each_ref().map(String::as_str);
        drop(admin.delete_topics(&topics, &AdminOptions::new()).await);
        drop(admin.delete_groups(&[&format!("{}.message", self.tenant)], &AdminOptions::new()).await);
        let drop_keyspace = format!("DROP KEYSPACE {}", self.cql.cql_keyspace);
        drop(self.session.query_unpaged(drop_keyspace, ()).await);
    }

    /// Runs `message migrate`.
    pub async fn migrate(&self) {
        let status = self.command("migrate", &Ports::free()).status().expect("the binary starts");
        assert!(status.success(), "message migrate failed");
    }

    /// Starts a message process; it may not be ready yet.
    pub fn start(&self) -> Running {
        let ports = Ports::free();
        let child = self.command("run", &ports).spawn().expect("the binary starts");
        Running { child, ports, ended: false }
    }

    /// Starts a message process and waits until it is ready.
    pub async fn start_ready(&self) -> Running {
        let running = self.start();
        wait_for("a ready process", PATIENCE, || async { running.is_ready().await.then_some(()) }).await;
        running
    }

    /// Where the processes of this tenant write their log lines.
    fn log(&self) -> PathBuf {
        env::temp_dir().join(format!("posthouse-message-{}.log", self.tenant))
    }

    fn command(&self, command: &str, ports: &Ports) -> Command {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut process = Command::new(env!("CARGO_BIN_EXE_message"));
        process
            .arg(command)
            .args(["--tenant", &self.tenant])
            .args(["--http-addr", &ports.http.to_string()])
            .args(["--grpc-addr", &ports.grpc.to_string()])
            .args(["--management-addr", &ports.management.to_string()])
            .args(["--log-format", "text"])
            .args(["--unready-seconds", "0"])
            .args(["--drain-seconds", "10"])
            .args(["--oidc-issuer", &self.realm.issuer])
            .args(["--kafka-bootstrap-servers", &self.kafka.kafka_bootstrap_servers])
            .args(["--cql-contact-points", &self.cql.cql_contact_points.join(",")])
            .args(["--cql-keyspace", &self.cql.cql_keyspace])
            .args(["--cql-flavor", "cassandra"])
            .args(["--send-topic-generation", GENERATION])
            .args(["--chat-grpc", &format!("http://{}", self.chat_addr)])
            // It has profiles and no settings: nobody's reading is shown.
            .args(["--user-grpc", &format!("http://{}", self.chat_addr)])
            .env("INTERNAL_TOKEN", INTERNAL_TOKEN)
            .env("KAFKA_USERNAME", &self.kafka.kafka_username)
            .env("KAFKA_PASSWORD", stack("KAFKA_ADMIN_PASSWORD"))
            .env("CQL_USERNAME", &self.cql.cql_username)
            .env("CQL_PASSWORD", stack("CQL_ADMIN_PASSWORD"))
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .stdin(Stdio::null());
        process
    }

    /// Sends records in order and waits until all of them are in the log.
    pub async fn send_all(&self, records: &[SendRecord]) {
        let mut deliveries = Vec::new();
        for record in records {
            let payload = serde_json::to_vec(record).expect("json");
            deliveries.push(self.queue(&record.chat.to_string(), &payload));
        }
        for delivery in deliveries {
            delivery.await.expect("the producer lives").expect("the record is in the log");
        }
    }

    /// Sends a record at a time, where producers say which.
    pub async fn send_at(&self, record: &SendRecord, at_ms: i64) {
        let (topic, key) = (Topic::MessageSend.of(&self.tenant), record.chat.to_string());
        let payload = serde_json::to_vec(record).expect("json");
        let record = FutureRecord::to(&topic).key(&key).payload(&payload).timestamp(at_ms);
        let delivery = self.producer.send_result(record).map_err(|(error, _)| error);
        let delivery = delivery.expect("room in the queue").await.expect("the producer lives");
        delivery.expect("the record is in the log");
    }

    /// Sends any bytes under any key.
    pub async fn send_bytes(&self, key: &str, payload: &[u8]) {
        self.queue(key, payload).await.expect("the producer lives").expect("the record is in the log");
    }

    fn queue(&self, key: &str, payload: &[u8]) -> rdkafka::producer::DeliveryFuture {
        let topic = Topic::MessageSend.of(&self.tenant);
        let record = FutureRecord::to(&topic).key(key).payload(payload);
        self.producer.send_result(record).map_err(|(error, _)| error).expect("room in the queue")
    }

    /// Reads a topic from its beginning to its present end.
    pub async fn read(&self, topic: Topic) -> Vec<LogRecord> {
        let topic = topic.of(&self.tenant);
        let config = kit::kafka::consumer_config(&self.kafka, "reader");
        tokio::task::spawn_blocking(move || read_topic(&config, &topic)).await.expect("a reader")
    }

    /// Returns how many records a topic has had.
    pub async fn count(&self, topic: Topic) -> i64 {
        let topic = topic.of(&self.tenant);
        let watcher = self.watcher.clone();
        let ends = move || ends(&watcher, &topic).into_iter().sum();
        tokio::task::spawn_blocking(ends).await.expect("a reader")
    }

    /// Removes all sends from the log but the last one of each partition, as retention that is too short does.
    pub async fn lose_sends(&self) {
        let topic = Topic::MessageSend.of(&self.tenant);
        let (watcher, of) = (self.watcher.clone(), topic.clone());
        let ends = tokio::task::spawn_blocking(move || ends(&watcher, &of)).await.expect("a reader");
        let mut lost = TopicPartitionList::new();
        for (partition, end) in (0..).zip(ends).filter(|(_, end)| *end > 1) {
            lost.add_partition_offset(&topic, partition, Offset::Offset(end - 1)).expect("a partition");
        }
        let removed = kafka_admin(&self.kafka).delete_records(&lost, &AdminOptions::new()).await;
        for partition in removed.expect("the brokers answer").elements() {
            partition.error().expect("the records are removed");
        }
    }

    /// Puts another log in the place of the sends, under the same name.
    pub async fn replace_sends(&self, clock: Clock) {
        let topic = Topic::MessageSend.of(&self.tenant);
        let deleted = kafka_admin(&self.kafka).delete_topics(&[topic.as_str()], &AdminOptions::new()).await;
        deleted.expect("the brokers answer")[0].as_ref().expect("a topic that was there");
        wait_for("another topic", PATIENCE, || async {
            create_topic(&self.kafka, &topic, clock).await.then_some(())
        })
        .await;
    }
}

/// Creates a topic. Returns false when there is one.
async fn create_topic(kafka: &KafkaArgs, topic: &str, clock: Clock) -> bool {
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let new = match clock {
        Clock::Brokers => new.set("message.timestamp.type", "LogAppendTime"),
        Clock::Producers => new
            .set("message.timestamp.type", "CreateTime")
            // By default a record may be an hour ahead.
            .set("message.timestamp.after.max.ms", "9223372036854775807"),
    };
    let made = kafka_admin(kafka).create_topics(&[new], &AdminOptions::new()).await;
    match &made.expect("the brokers answer")[0] {
        Ok(_) => true,
        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
        Err((topic, error)) => panic!("failed to create {topic}: {error}"),
    }
}

fn kafka_admin(args: &KafkaArgs) -> AdminClient<DefaultClientContext> {
    let mut config = kit::kafka::consumer_config(args, "admin");
    config.remove("group.id");
    config.create().expect("an admin client")
}

fn ends(consumer: &BaseConsumer, topic: &str) -> Vec<i64> {
    (0..PARTITIONS)
        .map(|partition| consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks").1)
        .collect()
}

fn read_topic(config: &ClientConfig, topic: &str) -> Vec<LogRecord> {
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let ends = ends(&consumer, topic);
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("an assignment");
    let mut records = Vec::new();
    let mut next = vec![0; ends.len()];
    let deadline = Instant::now() + PATIENCE;
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        assert!(Instant::now() < deadline, "{topic} was not read to its end");
        let Some(record) = consumer.poll(Duration::from_millis(200)) else { continue };
        let record = record.expect("a record");
        next[record.partition() as usize] = record.offset() + 1;
        records.push(LogRecord {
            partition: record.partition(),
            offset: record.offset(),
            at_ms: record.timestamp().to_millis().expect("a timestamp"),
            payload: record.payload().unwrap_or_default().to_vec(),
        });
    }
    records
}

/// Where a process listens.
pub struct Ports {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    management: SocketAddr,
}

impl Ports {
    fn free() -> Self {
        // All three are held at once, or one could be given twice.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [http, grpc, management] = held.map(|listener| listener.local_addr().expect("an address"));
        Self { http, grpc, management }
    }
}

/// A message process; killed when dropped.
pub struct Running {
    child: Child,
    pub ports: Ports,
    ended: bool,
}

impl Running {
    pub async fn is_ready(&self) -> bool {
        self.management("readyz").await.is_some()
    }

    /// Returns the body of a management page when its status is 200.
    pub async fn management(&self, page: &str) -> Option<String> {
        self.answer(page).await.filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    /// Returns the status and body of a management page.
    pub async fn answer(&self, page: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://{}/{page}", self.ports.management)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("it still runs");
        self.child.wait().expect("a child");
        self.ended = true;
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill can be run");
        assert!(sent.success(), "SIG{name} was not sent");
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let child = Mutex::new(&mut self.child);
        wait_for("an ended process", PATIENCE, || async {
            child.lock().expect("no panic").try_wait().expect("a child")
        })
        .await;
        self.ended = true;
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A text of a sender; the device is new, so that every record can be distinguished.
pub fn text(chat: ChatId, sender: UserId, key: MessageKey, body: &str) -> SendRecord {
    SendRecord {
        body: body.to_owned(),
        ..SendRecord::new(chat, sender, DeviceId(Uuid::new_v4()), key, EntryKind::Text)
    }
}

/// Serves memberships in place of the chat service.
#[derive(Clone, Default)]
pub struct FakeChats {
    members: Arc<Mutex<HashMap<Seat, Option<EntryId>>>>,
}

/// A chat and a user.
type Seat = (String, String);

impl FakeChats {
    pub fn add(&self, chat: ChatId, user: UserId) {
        self.members.lock().expect("no panic").insert((chat.to_string(), user.to_string()), None);
    }

    /// Takes a user out of a chat.
    pub fn remove(&self, chat: ChatId, user: UserId) {
        self.members.lock().expect("no panic").remove(&(chat.to_string(), user.to_string()));
    }

    /// Makes a user a member whose history begins with an entry.
    pub fn add_from(&self, chat: ChatId, user: UserId, entry: &SendRecord) {
        let entry = EntryId { sender_id: entry.sender.to_string(), key: entry.key.to_string() };
        self.members.lock().expect("no panic").insert((chat.to_string(), user.to_string()), Some(entry));
    }

    async fn serve(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let routes = tonic::service::Routes::new(ChatServiceServer::new(self))
            .add_service(TestUsers::default().server())
            .into_axum_router();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        addr
    }
}

#[tonic::async_trait]
impl ChatService for FakeChats {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if token != Some(&format!("Bearer {INTERNAL_TOKEN}")) {
            return Err(Status::unauthenticated("the internal token is required"));
        }
        let GetMembershipRequest { chat_id, user_id } = request.into_inner();
        let members = self.members.lock().expect("no panic");
        let reads_from = members.get(&(chat_id, user_id.clone())).cloned();
        let member = reads_from.map(|reads_from| Member { user_id, role: "member".to_owned(), reads_from });
        Ok(Response::new(GetMembershipResponse { member, ..GetMembershipResponse::default() }))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let wanted = request.into_inner().user_id;
        let members = self.members.lock().expect("no panic");
        let own = members.iter().filter(|((_, user_id), _)| *user_id == wanted);
        let memberships = own.map(|((chat_id, _), reads_from)| Membership {
            chat_id: chat_id.clone(),
            kind: "group".to_owned(),
            title: "Friends".to_owned(),
            role: "member".to_owned(),
            reads_from: reads_from.clone(),
            ..Membership::default()
        });
        let memberships = memberships.collect();
        Ok(Response::new(ListMembershipsResponse { memberships, ..ListMembershipsResponse::default() }))
    }
}
