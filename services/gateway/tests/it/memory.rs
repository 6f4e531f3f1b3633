//! What a connection costs.

use std::{
    env,
    fmt::Arguments,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use contracts::{
    Encoding, MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
};
use kit::testing::{TestCache, TestRealm, stack, wait_for};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use crate::{
    peers::{INTERNAL_TOKEN, Peers},
    stand::{
        PATIENCE, chat, config, create_topics, device, get, kafka_admin, kafka_args, remove_topics, user,
    },
};

const CONNECTIONS: u64 = 1_500;
/// The kernel's share is not in here. Measured while each had a read buffer of 4 kB, which none has now: 7.0 to 8.4 kB.
const MOST_BYTES_EACH: u64 = 12 * 1024;

/// Messages to a room.
const ROUNDS: i64 = 20;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Killed {
    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
    }
}

/// A gateway in a process of its own, and a tenant for it.
struct Apart {
    tenant: String,
    realm: TestRealm,
    peers: Peers,
    http: SocketAddr,
    management: SocketAddr,
    process: Killed,
    _cache: TestCache,
}

impl Apart {
    async fn start() -> Self {
        let kafka = kafka_args();
        let tenant = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let cache = TestCache::create(&tenant).await;
        let redis = cache.args();
        create_topics(&kafka_admin(&kafka), &tenant).await;
        let realm = TestRealm::start(&tenant).await;
        let peers = Peers::new(&tenant, &kafka);
        let (invocation, arguments) = config(&tenant, &kafka, &redis, &realm, peers.serve().await);
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("run")
            .args(arguments)
            .env("INTERNAL_TOKEN", INTERNAL_TOKEN)
            .env("KAFKA_USERNAME", &kafka.kafka_username)
            .env("KAFKA_PASSWORD", stack("KAFKA_ADMIN_PASSWORD"))
            .env("REDIS_USERNAME", &redis.redis_username)
            .env("REDIS_PASSWORD", redis.redis_password.expose_secret())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let process = Killed(child);
        let addresses = invocation.process.service;
        let (http, management) = (addresses.http_addr, addresses.management_addr);
        let is_ready = async || {
            let answer = get(management, "/readyz").await;
            answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")).then_some(())
        };
        wait_for("a ready gateway", PATIENCE, is_ready).await;
        Self { tenant, realm, peers, http, management, process, _cache: cache }
    }

    /// Opens a connection of user `n`.
    async fn connect(&self, n: u64) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).await.expect("a connection");
        let token = self.realm.token(user(u128::from(n)), "someone");
        stream.write_all(upgrade(&self.http.to_string()).as_bytes()).await.expect("an open socket");
        until(&mut stream, b"\r\n\r\n").await;
        let connect =
            format!(r#"{{"id":1,"connect":{{"token":"{token}","device":"{}"}}}}"#, device(u128::from(n)));
        stream.write_all(&masked(connect.as_bytes())).await.expect("an open socket");
        until(&mut stream, b"token_expires_in_seconds").await;
        stream
    }

    async fn end(self) {
        remove_topics(&kafka_admin(&kafka_args()), &self.tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_cheap() {
    let gateway = Apart::start().await;
    let mut connections = Vec::new();
    let mut baseline = 0;
    for n in 0..CONNECTIONS + 50 {
        if n == 50 {
            // The first ones pay for tables and threads.
            tokio::time::sleep(Duration::from_millis(500)).await;
            baseline = gateway.process.resident_bytes();
        }
        connections.push(gateway.connect(n).await);
    }
    let each = gateway.process.resident_bytes().saturating_sub(baseline) / CONNECTIONS;
    print(format_args!("{each} bytes for an idle connection, {} MiB before them", baseline >> 20));
    let metrics = get(gateway.management, "/metrics").await.expect("metrics");
    assert!(metrics.contains(&format!("}} {}\n", CONNECTIONS + 50)), "all are open");
    gateway.end().await;
    assert!(each <= MOST_BYTES_EACH, "{each} bytes for an idle connection");
}

/// A message is with all connected members of a large room, and the others cost nothing. `PH_ROOM_CONNECTED` and `PH_ROOM_MEMBERS` make it
/// larger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_costs_what_its_connected_members_do() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let connected = number("PH_ROOM_CONNECTED").unwrap_or(300);
    let members = number("PH_ROOM_MEMBERS").unwrap_or(10_000);
    let gateway = Apart::start().await;
    (0..members).for_each(|n| gateway.peers.join_silently(chat(), user(u128::from(n))));

    let (received, mut receives) = mpsc::unbounded_channel();
    let before = gateway.process.resident_bytes();
    for n in 0..connected {
        let mut stream = gateway.connect(n).await;
        let received = received.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                until(&mut stream, format!("round {round:03}").as_bytes()).await;
                received.send(round).expect("the story goes on");
            }
            // The connection stays open until the last one has received everything.
            std::future::pending::<()>().await;
        });
    }
    let after = gateway.process.resident_bytes();

    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let outcome = DeliveryOutcome::stored(round + 1, EntryKind::Text, format!("round {round:03}"), 1);
        let (sender, device, key) = (user(0xffff), device(1), MessageKey(uuid::Uuid::new_v4()));
        let record = DeliveredRecord { v: VERSION, chat: chat(), sender, device, key, outcome };
        let since = Instant::now();
        gateway.peers.announce(&record).await;
        for _ in 0..connected {
            let received =
                timeout(PATIENCE, receives.recv()).await.expect("everyone receives it").expect("a round");
            assert_eq!(received, round, "in order");
        }
        times.push(since.elapsed());
    }
    times.sort();
    let each = after.saturating_sub(before) / connected;
    print(format_args!(
        "{connected} of {members} members are connected: {each} bytes for each; from the log to the last of them {} ms, at \
         most {} ms",
        times[times.len() / 2].as_millis(),
        times[times.len() - 1].as_millis()
    ));
    let held = || async {
        let metrics = get(gateway.management, "/metrics").await.expect("metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("posthouse_gateway_memberships{"))?.to_owned();
        line.ends_with(&format!(" {connected}")).then_some(())
    };
    wait_for("memberships of those who are connected, and no others", PATIENCE, held).await;
    gateway.end().await;
}

#[expect(clippy::print_stdout, reason = "a figure for the reader of the test's output")]
fn print(figures: Arguments<'_>) {
    println!("{figures}");
}

fn upgrade(host: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {}\r\n\r\n",
        Encoding::Json.subprotocol()
    )
}

/// Returns a text frame masked with zeros.
fn masked(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short frame").to_be_bytes();
    [&[0x81, 0xfe, length[0], length[1], 0, 0, 0, 0], text].concat()
}

/// Reads until these bytes have come, and answers pings meanwhile.
async fn until(stream: &mut TcpStream, end: &[u8]) {
    let mut seen = Vec::new();
    let mut part = [0; 1024];
    while !seen.windows(end.len()).any(|window| window == end) {
        let read = stream.read(&mut part).await.expect("an open socket");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
        if seen.ends_with(br#"{"ping":{}}"#) {
            stream.write_all(&masked(br#"{"pong":{}}"#)).await.expect("an open socket");
        }
    }
}
