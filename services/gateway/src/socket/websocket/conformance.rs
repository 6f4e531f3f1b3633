//! The Autobahn test suite against a server that echoes: it has the handshake, the stream, the limits and the end of every
//! connection here, and nothing of our own protocol.
//!
//! `wstest` comes with `scripts/test` and with `scripts/autobahn`, which runs these tests alone.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use axum::{extract::Request, response::Response, routing};
use contracts::Encoding;
use kit::{
    Process, Surface, catalog,
    config::{LogFormat, ServiceArgs},
    docs,
    process::{ProcessConfig, socket_of},
    testing::TestRealm,
    traces::TracesArgs,
};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tonic::service::Routes;

use super::*;
use crate::{
    api::upgrade::{Refused, handshake},
    domain::{frame::Form, send_queue::QueuedBytes},
};

/// Cases that need no extension. The others, 12 and 13, are about compression, which no connection here has.
const CASES: usize = 301;
/// Messages of more bytes than are read: of 1 to 16 MiB in one frame (9.1 and 9.2), of 4 MiB in many frames (9.3 and 9.4), and
/// of 1 MiB in many writes (9.5 and 9.6).
const TOO_LARGE: [&str; 12] = [
    "9.1.3", "9.1.4", "9.1.5", "9.1.6", "9.2.3", "9.2.4", "9.2.5", "9.2.6", "9.3.*", "9.4.*", "9.5.*",
    "9.6.*",
];
const TOO_LARGE_CASES: usize = 38;
/// Those of them that take a quarter of the time, one for each way.
const QUICK: [&str; 4] = ["9.1.3", "9.2.3", "9.4.*", "9.5.*"];
const QUICK_CASES: usize = 17;
/// More than the largest message of a case.
const ROOM_BYTES: usize = 17 * 1024 * 1024;
/// The answer to a close frame comes within this time, or never.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Every case but those with larger messages than are read: a connection ends at such a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_is_spoken_as_autobahn_knows_it() {
    let but = [&TOO_LARGE[..], &["12.*", "13.*"]].concat();
    check(MAX_READ_MESSAGE_BYTES, &["*"], &but, CASES - TOO_LARGE_CASES).await;
}

/// The others, where there is room for them; all of them with `AUTOBAHN=all`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_are_read_as_autobahn_knows_it() {
    if std::env::var("AUTOBAHN").is_ok_and(|cases| cases == "all") {
        check(ROOM_BYTES, &TOO_LARGE, &[], TOO_LARGE_CASES).await;
    } else {
        check(ROOM_BYTES, &QUICK, &[], QUICK_CASES).await;
    }
}

/// Runs these cases but those against a server that reads messages of so many bytes, and expects so many.
async fn check(most_bytes: usize, cases: &[&str], but: &[&str], expected: usize) {
    let (addr, process) = serve(most_bytes).await;
    let folder = std::env::temp_dir().join(format!("posthouse-autobahn-{}", addr.port()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).expect("a folder");
    let protocols = Encoding::ALL.map(Encoding::subprotocol);
    let server = json!({"agent": "gateway", "url": format!("ws://{addr}/ws"), "protocols": protocols});
    let spec = json!({
        "outdir": &folder, "servers": [server], "cases": cases, "exclude-cases": but, "exclude-agent-cases": {},
    });
    let outcomes = run(&folder, &spec.to_string()).await;
    process.abort();

    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| !outcome.is_conformant()).collect();
    println!("autobahn: {} passed, {} failed", outcomes.len() - failed.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}\nThe exchanges are in {}", folder.display());
    assert_eq!(outcomes.len(), expected, "{:?}", outcomes.keys());
    std::fs::remove_dir_all(folder).expect("the folder is ours");
}

/// How a case went, and how its connection was closed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    behavior: String,
    behavior_close: String,
}

impl Outcome {
    /// Non-strict is an invalid text that is refused, but only at the end of its frame; informational has no right or wrong.
    fn is_conformant(&self) -> bool {
        let fine = |behavior: &str| matches!(behavior, "OK" | "NON-STRICT" | "INFORMATIONAL");
        fine(&self.behavior) && fine(&self.behavior_close)
    }
}

/// Runs the suite and returns the outcomes by the numbers of the cases.
async fn run(folder: &Path, spec: &str) -> BTreeMap<String, Outcome> {
    let file: PathBuf = folder.join("spec.json");
    std::fs::write(&file, spec).expect("a file");
    let output = Command::new("wstest")
        .args(["--mode", "fuzzingclient", "--spec"])
        .arg(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("wstest is on the PATH: `scripts/autobahn` installs it, and runs this test");
    let report = std::fs::read(folder.join("index.json")).unwrap_or_else(|error| {
        panic!("wstest left no report: {error}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    let mut agents: BTreeMap<String, BTreeMap<String, Outcome>> =
        serde_json::from_slice(&report).expect("a report");
    agents.remove("gateway").expect("the outcomes of this server")
}

/// Starts a process that takes connections as a gateway does, and echoes.
async fn serve(most_bytes: usize) -> (SocketAddr, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let service = ServiceArgs {
        metrics_token: None,
        tenant: "echo".to_owned(),
        http_addr: any_port,
        grpc_addr: any_port,
        management_addr: any_port,
        tenant_services: vec![catalog::Service::Gateway],
        log_format: LogFormat::Text,
        traces: TracesArgs::default(),
        unready_seconds: 0,
        drain_seconds: 0,
        internal_token: "echo".to_owned().into(),
    };
    let oidc = TestRealm::start("echo").await.args();
    let services = vec![catalog::Service::Gateway];
    // No token comes here.
    let peers = BTreeMap::from([(catalog::Service::User, "http://127.0.0.1:9".to_owned())]);
    let process = Process::start(ProcessConfig { service, oidc, services, peers });
    let process = process.expect("a process");
    let listeners = process.listen().expect("free ports");
    let addr = listeners.http_addr().expect("an address");
    let upgrade = routing::get(move |request| upgrade(request, most_bytes));
    let surface = Surface { api: docs::router().route("/ws", upgrade), grpc: Routes::default() };
    (addr, tokio::spawn(process.serve_on(listeners, vec![(catalog::Service::Gateway, surface)])))
}

async fn upgrade(mut request: Request, most_bytes: usize) -> Response {
    let (upgrading, _, response) = match handshake(&mut request, &[]) {
        Ok(answer) => answer,
        Err(refused) => return Refused::into_response(refused),
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrading.await {
            echo(socket_of(upgraded).expect("a socket of the process"), most_bytes).await;
        }
    });
    response
}

/// Sends every message back, and ends as every connection does.
async fn echo(socket: (TcpStream, Bytes), most_bytes: usize) {
    // An eighth of a quarter of it has room for one message, and for what memory grows by beyond that.
    let budget = Arc::new(QueuedBytes::with_budget(128 * ROOM_BYTES));
    let queue = SendQueue::new(4 * ROOM_BYTES, budget);
    let mut socket = Socket::reading(socket, &queue, most_bytes);
    // The client of a user.
    socket.identified();
    let end = loop {
        let frame = match poll_fn(|cx| socket.poll_read(cx)).await {
            Incoming::Text(text, _) => Frame::around(Form::Text, text.as_bytes()),
            Incoming::Binary(bytes) => Frame::around(Form::Binary, &bytes),
            Incoming::Ping(bytes) => Frame::pong(&bytes),
            Incoming::Control => continue,
            Incoming::Ended(end) => break end,
        };
        queue.push_own(frame);
        if let Err(end) = socket.written(&queue).await {
            break end;
        }
    };
    if socket.say(&queue, end).await.is_ok() && !matches!(end, End::Gone) {
        queue.detach();
        socket.part(CLOSE_WITHIN).await;
    }
}
