//! Helpers for stories that run on a real cluster and real backends; the stories are in `tests/`.
//!
//! A story is a function of a [`World`]. It waits for conditions, then queries Kafka, the store or the realm itself.
//! When it fails, the state of pods and tenants and the end of the operator's log are printed.
//!
//! Stories share the example tenants and kill pods and backends. Hence `.config/nextest.toml` runs them one at a time; with
//! `cargo test`, use `--test-threads=1`.

use std::{fmt::Display, future::Future, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep, timeout};

pub mod alternation;
pub mod backends;
pub mod checker;
pub mod cluster;
pub mod faults;
pub mod histories;
pub mod notifier;
pub mod pairs;
pub mod processes;
pub mod replacement;
pub mod rest;
pub mod stack;
pub mod stories;
pub mod streams;
pub mod users;
pub mod witnesses;
pub mod writing;

pub use cluster::Cluster;
pub use kit::testing::goals;
pub use stack::Stack;

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(250);

/// What a story acts on.
pub struct World {
    pub stack: Stack,
    pub cluster: Cluster,
}

/// Runs a story within `limit`; panics with its error, after printing what is needed to find the cause.
pub async fn story(limit: Duration, body: impl AsyncFnOnce(&World) -> anyhow::Result<()>) {
    let stack = Stack::from_environment();
    let cluster = Cluster::connect().await.expect("the cluster of KUBECONFIG is reachable: run `make up`");
    let world = World { stack, cluster };
    let outcome = match timeout(limit, body(&world)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(anyhow::anyhow!("the story did not end within {} s", limit.as_secs())),
    };
    if let Err(error) = outcome {
        report(world.cluster.state_of_things().await);
        panic!("{error:?}");
    }
}

/// Polls until `look` returns a value. Its last error is in the error when `limit` is over.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("{what}: not within {} s", limit.as_secs()));
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Prints a figure or a finding; shown for stories that pass by `--nocapture`.
#[expect(clippy::print_stdout, reason = "a story's figures are its product")]
pub fn report(text: impl Display) {
    println!("{text}");
}
