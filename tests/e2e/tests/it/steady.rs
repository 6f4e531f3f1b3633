//! A tenant that is as it should be costs no write: not to the API server, not to a backend.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    time::Duration,
};

use anyhow::{Context, ensure};
use e2e::{World, cluster::OPERATOR_NAMESPACE, report, stack::root, story};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The full figure is taken with PH_STEADY_SECONDS=300.
const WINDOW: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_tenant_causes_no_write() {
    let window = env::var("PH_STEADY_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(WINDOW, Duration::from_secs);
    story(window + Duration::from_secs(180), async |world: &World| {
        let mut tenants = Vec::new();
        for tenant in ["acme", "globex"] {
            world.cluster.await_ready(tenant, Duration::from_secs(90)).await?;
            tenants.push((tenant, world.cluster.owner(tenant).await?));
        }
        let names: Vec<&str> = tenants.iter().map(|(tenant, _)| *tenant).collect();
        let mut audit = Audit::open()?;
        let before = world.stack.writes(&tenants).await?;
        let counted = world.cluster.operator_counters("writes_total").await?;
        let began = Instant::now();
        while began.elapsed() < window {
            let writes = audit.writes_about(&names)?;
            ensure!(writes.is_empty(), "the operator wrote to the API server: {writes:#?}");
            sleep(Duration::from_secs(1)).await;
        }
        let after = world.stack.writes(&tenants).await?;
        ensure!(before == after, "a backend was written to: {before:?} became {after:?}");
        let counts = world.cluster.operator_counters("writes_total").await?;
        ensure!(counts == counted, "the operator counts writes: {counted:?} became {counts:?}");
        ensure!(audit.heartbeats > 0, "the audit log shows nothing of the operator, not even its lease");
        report(format!(
            "two tenants in {} s: no write of the operator but {} renewals of its lease; backends: {after:?}",
            window.as_secs(),
            audit.heartbeats
        ));
        Ok(())
    })
    .await;
}

/// The end of the API server's audit log.
struct Audit {
    log: BufReader<File>,
    heartbeats: usize,
}

impl Audit {
    fn open() -> anyhow::Result<Self> {
        let path = root().join(".local/log/audit.log");
        let mut log = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
        log.seek(SeekFrom::End(0))?;
        Ok(Self { log, heartbeats: 0 })
    }

    /// Returns what the operator wrote about the tenants since the last call, or beside all tenants, its own lease
    /// apart.
    fn writes_about(&mut self, tenants: &[&str]) -> anyhow::Result<Vec<String>> {
        let account = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:");
        let mut writes = Vec::new();
        let mut line = String::new();
        loop {
            let position = self.log.stream_position()?;
            line.clear();
            if self.log.read_line(&mut line)? == 0 {
                return Ok(writes);
            }
            if !line.ends_with('\n') {
                // The server is in the middle of it.
                self.log.seek(SeekFrom::Start(position))?;
                return Ok(writes);
            }
            let record: Value = serde_json::from_str(&line)?;
            let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if !text("/user/username").starts_with(&account) {
                continue;
            }
            let namespace = text("/objectRef/namespace");
            if text("/objectRef/resource") == "leases" {
                self.heartbeats += 1;
            } else if namespace.is_empty() || tenants.contains(&namespace) {
                writes.push(format!("{} {}", text("/verb"), text("/requestURI")));
            }
        }
    }
}
