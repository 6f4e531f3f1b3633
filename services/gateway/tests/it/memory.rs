//! What a connection costs.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use contracts::wire::SUBPROTOCOL;
use kit::testing::{TestCache, TestRealm, stack, wait_for};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    peers::{INTERNAL_TOKEN, Peers},
    stand::{PATIENCE, config, create_topics, device, get, kafka_admin, kafka_args, remove_topics, user},
};

const CONNECTIONS: u64 = 1_500;
/// The kernel's share is not in here. Measured: 7.0 to 8.4 kB, of which the read buffer is 4 kB.
const MOST_BYTES_EACH: u64 = 12 * 1024;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_cheap() {
    let kafka = kafka_args();
    let tenant = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let cache = TestCache::create(&tenant).await;
    let redis = cache.args();
    let admin = kafka_admin(&kafka);
    create_topics(&admin, &tenant).await;
    let realm = TestRealm::start(&tenant).await;
    let peers = Peers::new(&tenant, &kafka).serve().await;
    let (invocation, arguments) = config(&tenant, &kafka, &redis, &realm, peers);
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
    let gateway = Killed(child);
    let addresses = invocation.process.service;
    let (http, management) = (addresses.http_addr, addresses.management_addr);
    wait_for("a ready gateway", PATIENCE, || async {
        get(management, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")).then_some(())
    })
    .await;

    let mut connections = Vec::new();
    let mut baseline = 0;
    for n in 0..CONNECTIONS + 50 {
        if n == 50 {
            // The first ones pay for tables and threads.
            tokio::time::sleep(Duration::from_millis(500)).await;
            baseline = gateway.resident_bytes();
        }
        let mut stream = TcpStream::connect(http).await.expect("a connection");
        let token = realm.token(user(u128::from(n)), "someone");
        stream.write_all(upgrade(&http.to_string()).as_bytes()).await.expect("an open socket");
        until(&mut stream, b"\r\n\r\n").await;
        let connect =
            format!(r#"{{"id":1,"connect":{{"token":"{token}","device":"{}"}}}}"#, device(u128::from(n)));
        stream.write_all(&masked(connect.as_bytes())).await.expect("an open socket");
        until(&mut stream, b"token_expires_in_seconds").await;
        connections.push(stream);
    }
    let each = gateway.resident_bytes().saturating_sub(baseline) / CONNECTIONS;
    println_figures(each, baseline);
    let metrics = get(management, "/metrics").await.expect("metrics");
    assert!(metrics.contains(&format!("}} {}\n", CONNECTIONS + 50)), "all are open");
    remove_topics(&admin, &tenant).await;
    assert!(each <= MOST_BYTES_EACH, "{each} bytes for an idle connection");
}

#[expect(clippy::print_stdout, reason = "a figure for the reader of the test's output")]
fn println_figures(each: u64, baseline: u64) {
    println!("{each} bytes for an idle connection, {} MiB before them", baseline / 1024 / 1024);
}

fn upgrade(host: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    )
}

/// Returns a text frame masked with zeros.
fn masked(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short frame").to_be_bytes();
    [&[0x81, 0xfe, length[0], length[1], 0, 0, 0, 0], text].concat()
}

async fn until(stream: &mut TcpStream, end: &[u8]) {
    let mut seen = Vec::new();
    let mut part = [0; 1024];
    while !seen.windows(end.len()).any(|window| window == end) {
        let read = stream.read(&mut part).await.expect("an open socket");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
}
