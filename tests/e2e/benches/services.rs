//! What the optional services do and cost under load, in processes of their own and in one: how fast what breaks the rules is hidden, what
//! becomes of pushes while their provider is down, and the memory of each process before and after.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::{env, time::Duration};

use e2e::{
    Cluster, Stack, World,
    cluster::optional_services,
    notifier::{Outage, outage},
    processes::memory_of,
    report,
    stories::moderation::{Load, Moderated, rules},
    users::{TestUser, unused},
    witnesses::Witnesses,
};
use serde_json::json;
use tokio::time::sleep;

const TENANT: &str = "e2eservices";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(240);
/// A process is idle so long after it has started.
const IDLE: Duration = Duration::from_secs(15);
/// Photos that are sent, each of them made smaller and shown.
const PHOTOS: usize = 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let number = |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let load = Load {
        messages: number("PH_MODERATED_MESSAGES", 10_000),
        per_second: number("PH_MODERATED_RATE", 500),
    };
    let size = Outage {
        messages: number("PH_NOTICES", 1_000),
        users: 25,
        lasts: Duration::from_secs(number("PH_NOTICES_OUTAGE", 60) as u64),
    };
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    for topology in ["Distributed", "Compact"] {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let name = unused("mod");
        let mut spec = Moderated::spec(&name);
        spec["services"] = optional_services(true);
        spec["topology"] = json!(topology);
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        sleep(IDLE).await;
        let memory = async || anyhow::Ok(memory_of(&world.cluster.usage().await?, TENANT));
        report(format!("{topology}, idle: {}", memory().await?));

        let messenger = world.stack.messenger(TENANT);
        let moderator = TestUser::register_as(&messenger, name).await?;
        let house = Moderated { messenger: messenger.clone(), moderator };
        house.enforce(&rules()).await?;
        let judged = house.judged(load).await?;
        report(format!("{topology}: {}", judged.summary()));
        let users = Witnesses::begin(&messenger).await?;
        for _ in 0..PHOTOS {
            users.see_files().await?;
        }
        users.see_words().await?;
        users.see_presence().await?;
        report(format!("{topology}, after {} messages: {}", judged.messages, memory().await?));
        drop(users);
        if topology == "Distributed" {
            outage(&world, TENANT, size).await?;
        }
    }
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    Ok(())
}
