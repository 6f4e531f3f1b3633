//! The descriptions of the REST APIs, as `compact dev` serves them.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use catalog::Service;

use crate::{derived::Derived, docs_index::OPENAPI};

/// A busy machine takes a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the description of every service that has a REST API.
pub fn descriptions() -> Result<Vec<Derived>> {
    let messenger = Messenger::start()?;
    let described = Service::ALL.iter().filter(|service| service.description == OPENAPI);
    described.map(|service| messenger.description(*service)).collect()
}

/// A whole messenger in one process. It ends when it is dropped.
struct Messenger {
    process: Child,
    address: SocketAddr,
}

impl Messenger {
    /// Starts `compact`, which lies beside this program, and waits until it listens.
    fn start() -> Result<Self> {
        let program = env::current_exe()?.with_file_name("compact");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(&program)
            .args(["dev", "--http-addr", &address.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {}: `make generate` builds it", program.display()))?;
        let mut messenger = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(messenger.process.try_wait()?.is_none(), "{} ended", program.display());
            ensure!(began.elapsed() < START_TIMEOUT, "{} does not listen", program.display());
            sleep(POLL);
        }
        Ok(messenger)
    }

    fn description(&self, service: Service) -> Result<Derived> {
        let path = service.probe_path();
        let body = self.get(&path).with_context(|| format!("failed to read {path}"))?;
        let description: serde_json::Value =
            serde_json::from_str(&body).with_context(|| format!("{path} is not JSON"))?;
        Ok(Derived::new(format!("docs/api/{service}.{OPENAPI}"), format!("{description:#}\n")))
    }

    /// HTTP/1.0 keeps the response in one piece and ends the connection after it.
    fn get(&self, path: &str) -> Result<String> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(IO_TIMEOUT))?;
        write!(connection, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "{status}");
        Ok(body.to_owned())
    }
}

impl Drop for Messenger {
    fn drop(&mut self) {
        // It keeps nothing, so nothing is lost.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
