//! A throw-away tenant with all services in one process, on the real backends. Needs `make up-backends` and
//! `.local/stack.env`.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    panic::resume_unwind,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use catalog::{Retention, Service, Topic};
use contracts::{ChatId, DeviceId, Encoding, MessageKey};
use futures_util::{SinkExt as _, StreamExt as _};
use kit::{
    config::{KafkaArgs, TrustArgs},
    testing::{TestDatabase, TestRealm, TestUser, stack, wait_for},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
/// What an idle process has of its own at most. Its code comes on top and differs by profile. Measured: 19.
const MOST_OWN_MIB: u64 = 24;

/// A tenant's part of every backend but the realm, which is a local one.
struct Tenant {
    id: String,
    realm: TestRealm,
    database: TestDatabase,
    kafka: AdminClient<DefaultClientContext>,
    store: Session,
}

/// A process with all services; killed when dropped.
struct Running {
    child: Child,
    http: SocketAddr,
    management: SocketAddr,
}

impl Tenant {
    async fn create() -> Self {
        let id = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
        let kafka = KafkaArgs {
            kafka_bootstrap_servers: stack("KAFKA_BOOTSTRAP"),
            kafka_security_protocol: "sasl_plaintext".to_owned(),
            trust: TrustArgs::default(),
            kafka_username: stack("KAFKA_ADMIN_USERNAME"),
            kafka_password: stack("KAFKA_ADMIN_PASSWORD").into(),
            schema_ids: Vec::new(),
        };
        let mut config = kit::kafka::consumer_config(&kafka, "admin");
        config.remove("group.id");
        let kafka: AdminClient<_> = config.create().expect("an admin client");
        let topics = topics(&id);
        let new = Topic::ALL.iter().zip(&topics).map(|(topic, name)| {
            let policy = match topic.retention {
                Retention::Age | Retention::Seconds(_) => "delete",
                Retention::Compaction => "compact",
            };
            NewTopic::new(name, 3, TopicReplication::Fixed(1)).set("cleanup.policy", policy)
        });
        let made = kafka.create_topics(&new.collect::<Vec<_>>(), &AdminOptions::new()).await;
        for topic in made.expect("the brokers answer") {
            topic.expect("a topic");
        }
        let store = SessionBuilder::new()
            .known_nodes(stack("CQL_CONTACT_POINTS").split(','))
            .user(stack("CQL_ADMIN_USERNAME"), stack("CQL_ADMIN_PASSWORD"))
            .fetch_schema_metadata(false)
            .build()
            .await
            .expect("a session with the store");
        let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
        let create = format!("CREATE KEYSPACE mt_{id} WITH replication = {replication}");
        store.query_unpaged(create, ()).await.expect("a keyspace");
        let realm = TestRealm::start(&id).await;
        Self { id, realm, database: TestDatabase::create().await, kafka, store }
    }

    async fn remove(&self) {
        let topics = topics(&self.id);
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        drop(self.kafka.delete_topics(&topics, &AdminOptions::new()).await);
        drop(self.kafka.delete_groups(&[&format!("{}.message", self.id)], &AdminOptions::new()).await);
        drop(self.store.query_unpaged(format!("DROP KEYSPACE mt_{}", self.id), ()).await);
    }

    fn command(&self, verb: &str, [http, grpc, management]: [SocketAddr; 3]) -> Command {
        let database = self.database.args();
        let services: Vec<_> = Service::ALL.iter().filter(|service| !service.is_on_request).collect();
        let services = services.iter().map(|service| service.as_str()).collect::<Vec<_>>().join(",");
        let mut command = Command::new(env!("CARGO_BIN_EXE_compact"));
        command
            .arg(verb)
            .args(["--tenant", &self.id])
            // Those of a tenant that requests no other.
            .args(["--services", &services])
            .args(["--unready-seconds", "0"])
            .args(["--http-addr", &http.to_string()])
            .args(["--grpc-addr", &grpc.to_string()])
            .args(["--management-addr", &management.to_string()])
            .args(["--log-format", "text"])
            .args(["--oidc-issuer", &self.realm.issuer])
            .args(["--kafka-bootstrap-servers", &stack("KAFKA_BOOTSTRAP")])
            .args(["--cql-contact-points", &stack("CQL_CONTACT_POINTS")])
            .args(["--cql-keyspace", &format!("mt_{}", self.id)])
            .args(["--cql-flavor", "cassandra"])
            .args(["--postgres-host", &database.postgres_host])
            .args(["--postgres-port", &database.postgres_port.to_string()])
            .args(["--postgres-database", &database.postgres_database])
            .args(["--redis-addr", &format!("{}:{}", stack("REDIS_HOST"), stack("REDIS_PORT"))])
            .args(["--send-topic-generation", "generation-1"])
            .args(["--keycloak-url", "http://127.0.0.1:9", "--realm", &self.id])
            .env("INTERNAL_TOKEN", "internal")
            .env("OIDC_CLIENT_ID", "messenger-auth")
            .env("OIDC_CLIENT_SECRET", "secret")
            .env("KAFKA_USERNAME", stack("KAFKA_ADMIN_USERNAME"))
            .env("KAFKA_PASSWORD", stack("KAFKA_ADMIN_PASSWORD"))
            .env("CQL_USERNAME", stack("CQL_ADMIN_USERNAME"))
            .env("CQL_PASSWORD", stack("CQL_ADMIN_PASSWORD"))
            .env("POSTGRES_USERNAME", database.postgres_username)
            .env("POSTGRES_PASSWORD", database.postgres_password.expose_secret())
            .env("REDIS_USERNAME", stack("REDIS_ADMIN_USERNAME"))
            .env("REDIS_PASSWORD", stack("REDIS_ADMIN_PASSWORD"))
            .stdin(Stdio::null());
        command
    }

    /// Creates the tables and starts all services.
    async fn start(&self) -> Running {
        // All three are held at once, or one could be given twice.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = held.map(|listener| listener.local_addr().expect("an address"));
        let migrated = self.command("migrate", ports).status().expect("the binary starts");
        assert!(migrated.success(), "compact migrate failed");
        let child = self.command("run", ports).spawn().expect("the binary starts");
        let running = Running { child, http: ports[0], management: ports[2] };
        wait_for("a ready process", PATIENCE, async || {
            let answer = reqwest::get(format!("http://{}/readyz", running.management)).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        running
    }
}

fn topics(tenant: &str) -> Vec<String> {
    Topic::ALL.iter().map(|topic| topic.of(tenant)).collect()
}

impl Running {
    /// Sends a REST request and returns the body of its success.
    async fn request(&self, user: &TestUser, line: &str, body: Option<Value>) -> Value {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let request = reqwest::Client::new()
            .request(method.parse().expect("a method"), format!("http://{}{path}", self.http))
            .bearer_auth(&user.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.expect("an answer").error_for_status().expect("a success");
        answer.json().await.expect("JSON")
    }

    /// Returns what is resident, and what of it is the process's own: no page of a file, and no page of its program that was only
    /// changed to say where it was loaded.
    fn mib(&self) -> (u64, u64) {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.child.id())).expect("a process");
        let (mut resident, mut own, mut is_of_file) = (0, 0, false);
        for line in maps.lines() {
            match line.split_once(':').map(|(name, amount)| (name, kib(amount))) {
                Some(("Rss", Some(amount))) => resident += amount,
                Some(("Anonymous", Some(amount))) if !is_of_file => own += amount,
                // The first line of a mapping ends with its file, if it has one.
                _ if line.split(' ').next().is_some_and(|range| range.contains('-')) => {
                    is_of_file = line.contains('/');
                }
                _ => {}
            }
        }
        (resident / 1024, own / 1024)
    }

    /// Ends the process as Kubernetes does, and waits for it.
    async fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success(), "SIGTERM was not sent");
        let mut ended = None;
        for _ in 0..600 {
            ended = self.child.try_wait().expect("a child");
            if ended.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(ended.expect("an end within the drain limit").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A user's WebSocket.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn connect(running: &Running, user: &TestUser) -> Self {
        let stream = TcpStream::connect(running.http).await.expect("a connection");
        let mut request = format!("ws://{}/ws", running.http).into_client_request().expect("a request");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", HeaderValue::from_static(Encoding::Json.subprotocol()));
        let mut socket = Self(client_async(request, stream).await.expect("an upgrade").0);
        let device = DeviceId::generate();
        socket.send(json!({"id": 1, "connect": {"token": user.token, "device": device}})).await;
        socket.until(|frame| frame["result"]["connected"].is_object()).await;
        socket
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("an open socket");
    }

    /// Returns the next frame that is looked for.
    async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let message = self.0.next().await.expect("an open socket").expect("a message");
                let Message::Text(text) = message else { continue };
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if is_it(&frame) {
                    return frame;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the frame in time")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_fits_in_one_process() {
    let tenant = Arc::new(Tenant::create().await);
    let outcome = tokio::spawn(story(tenant.clone())).await;
    tenant.remove().await;
    if let Err(failed) = outcome {
        resume_unwind(failed.into_panic());
    }
}

async fn story(tenant: Arc<Tenant>) {
    let running = tenant.start().await;
    let (ann, bob) = (tenant.realm.user("ann"), tenant.realm.user("bob"));
    for (user, name) in [(&ann, "ann"), (&bob, "bob")] {
        assert_eq!(running.request(user, "GET /api/users/me", None).await["username"], name);
    }
    let body = json!({"kind": "direct", "members": [bob.id]});
    let chat = running.request(&ann, "POST /api/chats", Some(body)).await;
    let chat: ChatId = chat["chat_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");

    // The gateway queries the chat service, and the message service returns what it stored: both in process.
    let (mut from, mut to) = (Socket::connect(&running, &ann).await, Socket::connect(&running, &bob).await);
    let key = MessageKey::generate();
    from.send(json!({"id": 2, "send": {"chat": chat, "key": key, "body": "hello"}})).await;
    from.until(|frame| frame["id"] == 2 && frame["result"]["accepted"].is_object()).await;
    let pushed = to.until(|frame| frame["message"].is_object()).await;
    assert_eq!((&pushed["message"]["body"], &pushed["message"]["seq"]), (&json!("hello"), &json!(1)));
    let page = running.request(&bob, &format!("GET /api/messages/{chat}"), None).await;
    assert_eq!(page["messages"][0]["body"], "hello");
    to.send(json!({"id": 3, "history": {"chat": chat, "after": 0}})).await;
    let history = to.until(|frame| frame["id"] == 3).await;
    assert_eq!(history["result"]["history"]["messages"][0]["body"], "hello");
    drop((from, to));

    tokio::time::sleep(Duration::from_secs(2)).await;
    let (resident, own) = running.mib();
    print_figures(resident, own);
    running.stop().await;
    assert!(own <= MOST_OWN_MIB, "{own} MiB of its own");
}

fn kib(amount: &str) -> Option<u64> {
    amount.trim().strip_suffix(" kB")?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "a figure for the reader of the test's output")]
fn print_figures(resident_mib: u64, own_mib: u64) {
    println!("{resident_mib} MiB resident with all services idle, {own_mib} of them no code");
}
