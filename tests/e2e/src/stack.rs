//! The local stack: the accounts of its backends, and their processes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use posthouse_client::Messenger;
use tokio::time::timeout;
use url::Url;

use crate::eventually;

/// What is down is up again within this time, also where another make of the stack is at work.
const START: Duration = Duration::from_secs(300);

/// An account of a backend.
#[derive(Clone)]
pub struct Account {
    pub username: String,
    pub password: String,
}

/// Where the backends are, and their administrators.
pub struct Stack {
    pub kafka_bootstrap: String,
    pub kafka_admin: Account,
    pub cql_contact_point: String,
    pub cql_admin: Account,
    pub keycloak_url: String,
    pub keycloak_admin: Account,
    pub pg_host: String,
    pub pg_port: u16,
    pub pg_admin: Account,
    pub redis_addr: String,
    pub redis_admin: Account,
    pub s3_addr: String,
    pub s3_accounts_addr: String,
    pub s3_admin: Account,
    /// Of the management API.
    pub rabbitmq_addr: String,
    /// The file with the authority of its certificate.
    pub rabbitmq_ca: PathBuf,
    pub rabbitmq_admin: Account,
    http_port: u16,
}

/// A backend that a story may kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Kafka,
    Cassandra,
    Keycloak,
    Redis,
    Postgres,
    S3,
    OpenSearch,
    RabbitMq,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// It ends immediately and writes nothing more.
    Kill,
    /// It hangs: its connections stay open and nothing responds.
    Stop,
    Continue,
}

impl Backend {
    /// Those that a stack has on request (`WITH`).
    pub const ON_REQUEST: [Self; 2] = [Self::OpenSearch, Self::RabbitMq];

    /// Returns the name of its pid file and of its log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
            Self::Keycloak => "keycloak",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::S3 => "s3",
            Self::OpenSearch => "opensearch",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

impl Stack {
    /// Reads `.local/stack.env` as it was sourced.
    pub fn from_environment() -> Self {
        let account = |prefix: &str| Account {
            username: variable(&format!("{prefix}_ADMIN_USERNAME")),
            password: variable(&format!("{prefix}_ADMIN_PASSWORD")),
        };
        let http = variable("HTTP_ADDR");
        let port = |text: &str| text.rsplit(':').next().and_then(|port| port.parse().ok());
        Self {
            kafka_bootstrap: variable("KAFKA_BOOTSTRAP"),
            kafka_admin: account("KAFKA"),
            cql_contact_point: variable("CQL_CONTACT_POINTS"),
            cql_admin: account("CQL"),
            keycloak_url: variable("KEYCLOAK_URL"),
            keycloak_admin: account("KEYCLOAK"),
            pg_host: variable("PG_HOST"),
            pg_port: port(&variable("PG_PORT")).expect("PG_PORT is a port"),
            pg_admin: account("PG"),
            redis_addr: format!("{}:{}", variable("REDIS_HOST"), variable("REDIS_PORT")),
            redis_admin: account("REDIS"),
            s3_addr: variable("S3_ADDRESS"),
            s3_accounts_addr: variable("S3_ACCOUNTS_ADDRESS"),
            s3_admin: account("S3"),
            rabbitmq_addr: variable("RABBITMQ_ADDRESS"),
            rabbitmq_ca: variable("RABBITMQ_CA").into(),
            rabbitmq_admin: account("RABBITMQ"),
            http_port: port(&http).expect("HTTP_ADDR ends with a port"),
        }
    }

    /// Returns the messenger of a tenant by its public address.
    pub fn messenger(&self, tenant: &str) -> Messenger {
        let url: Url =
            format!("http://{tenant}.localhost:{}", self.http_port).parse().expect("a tenant id fits a host");
        Messenger::new(&url).expect("an http address")
    }

    /// Sends a signal to a backend's process, which its pid file names.
    pub fn signal(&self, backend: Backend, signal: Signal) -> anyhow::Result<()> {
        let pid = pid(backend)?;
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        // The sandbox that a backend runs in may be a process of its own: the backend is below it.
        for pid in descendants(pid).into_iter().chain([pid]) {
            let status = Command::new("kill").args([name, &pid.to_string()]).status()?;
            // A parent may end with its child.
            ensure!(status.success() || !alive(pid), "kill {name} {pid} failed");
        }
        Ok(())
    }

    /// Returns whether the process of a backend runs.
    pub fn runs(&self, backend: Backend) -> bool {
        pid(backend).is_ok()
    }

    /// Starts what is not running, as `make up-backends` does, and waits until it responds. Of what a stack has on request, that is what it had.
    pub async fn start_backends(&self) -> anyhow::Result<()> {
        let had = Backend::ON_REQUEST.into_iter().filter(|backend| pid_file(*backend).exists());
        let requested: Vec<String> =
            env::var("WITH").into_iter().chain(had.map(|backend| backend.name().to_owned())).collect();
        let started = tokio::process::Command::new(root().join("scripts/up-backends"))
            .env("WITH", requested.join(","))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(START, started)
            .await
            .with_context(|| format!("scripts/up-backends did not end within {} s", START.as_secs()))?
            .context("scripts/up-backends")?;
        ensure!(
            output.status.success(),
            "scripts/up-backends failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Waits until a killed backend is gone from the process table.
    pub async fn await_end(&self, backend: Backend) -> anyhow::Result<()> {
        eventually(&format!("{} ends", backend.name()), Duration::from_secs(20), || async {
            ensure!(pid(backend).is_err(), "it still runs");
            Ok(())
        })
        .await
    }
}

/// Returns of which builds a figure is: of the clients in this process and of the pods, which `make up` has built.
pub fn builds() -> String {
    let clients = if cfg!(debug_assertions) { "dev" } else { "release" };
    let pods = fs::read_to_string(root().join(".local/image-profile")).unwrap_or_default();
    let pods = if pods.is_empty() { "unknown" } else { pods.trim() };
    let note = if (clients, pods) == ("release", "release") {
        ""
    } else {
        "; these are not the figures of a release build, which is faster and smaller: `PROFILE=release make up`, then `PROFILE=release make bench`"
    };
    format!("clients: {clients} build; pods: {pods} build{note}")
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pid_file(backend: Backend) -> PathBuf {
    root().join(".local/pid").join(backend.name())
}

fn pid(backend: Backend) -> anyhow::Result<u32> {
    let text = fs::read_to_string(pid_file(backend))
        .with_context(|| format!("{} is not started by this checkout", backend.name()))?;
    let pid = text.split_whitespace().next().context("an empty pid file")?.parse()?;
    if !alive(pid) {
        bail!("{} with pid {pid} is not running", backend.name());
    }
    Ok(pid)
}

/// Returns whether the process runs; one that ended and was not waited for does not.
fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .flat_map(|child| descendants(child).into_iter().chain([child]))
        .collect()
}

fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run `make up` and `source .local/stack.env`"))
}
