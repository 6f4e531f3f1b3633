//! How long a new tenant takes on a running stack, from its manifest until it is ready, and from its deletion until nothing of it is left.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Duration;

use anyhow::ensure;
use e2e::{Cluster, Stack, World, goals::Goals, report, stack::builds};
use serde_json::json;
use tokio::time::Instant;

const TENANT: &str = "e2enewtenant";
const ROUNDS: usize = 3;
/// Either is waited for so long.
const CONVERGENCE: Duration = Duration::from_secs(240);
/// Either takes at most so long.
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    report(builds());
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    let mut goals = Goals::default();
    for _ in 0..ROUNDS {
        let outcome = round(&world).await;
        if let Some((ready, gone)) = goals.part("a tenant's life", outcome) {
            report(format!(
                "a new tenant: Ready after {ready:.1} s, and nothing left {gone:.1} s after its deletion"
            ));
            goals.at_most("a new tenant until it is ready", ready, MINUTE.as_secs_f64(), "s");
            goals.at_most("a deleted tenant until nothing is left", gone, MINUTE.as_secs_f64(), "s");
        }
    }
    goals.met()
}

/// Returns after how many seconds a new tenant was ready, and after how many nothing was left of it once it was deleted.
async fn round(world: &World) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    world.cluster.apply_tenant(TENANT, json!({ "deletionPolicy": "Delete" })).await?;
    world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    let ready = began.elapsed();
    let gone = world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    let remains = world.stack.remains(TENANT).await?;
    ensure!(remains.is_empty(), "left behind: {remains:#?}");
    Ok((ready.as_secs_f64(), gone.as_secs_f64()))
}
