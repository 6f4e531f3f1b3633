//! What the optional services do and cost under load, in processes of their own and in one: how fast what breaks the rules is hidden, how fast a banned user is
//! out, what becomes of pushes while their provider is down, and the memory of each process before and after.
//!
//! Messages are judged at the rate that the machine takes, which is looked for first: beyond it, times are those of a queue that grows as long as there is
//! one. A figure that misses what is promised, and a part that fails, hold up nothing; they are named at the end.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::{env, time::Duration};

use anyhow::anyhow;
use e2e::{
    Cluster, Stack, World, checker,
    cluster::optional_services,
    goals::Goals,
    notifier::{NOTIFY_AFTER, Outage, outage},
    pairs::Pair,
    processes::memory_of,
    report,
    stack::builds,
    stories::moderation::{Load, Moderated, OUT_WITHIN, judged, rules},
    users::{TestUser, unused},
    witnesses::Witnesses,
};
use posthouse_client::Messenger;
use serde_json::json;
use tokio::time::{sleep, timeout};

const TENANT: &str = "e2eservices";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(240);
/// A topology is measured within this time.
const ROUND: Duration = Duration::from_secs(25 * 60);
/// A process is idle so long after it has started.
const IDLE: Duration = Duration::from_secs(15);
/// Photos that are sent, each of them made smaller and shown.
const PHOTOS: usize = 20;
/// How many seconds of messages each round of the search for a rate has.
const RAMP_SECONDS: usize = 5;
const RAMP_ROUNDS: usize = 5;
/// Messages are judged for so long at most, where the machine takes few.
const JUDGED_SECONDS: usize = 180;
/// A rate is taken when so much of it is stored and judged in a round, whose end is the last judgement.
const TAKEN: f64 = 0.85;

/// A message that is caught is seen for less, usually: in the median.
const HIDDEN_WITHIN: Duration = Duration::from_secs(1);
/// At p99, webhooks come within this time and [`NOTIFY_AFTER`], whatever another channel waits for.
const HOOKED_WITHIN: Duration = Duration::from_secs(15);

/// How much is measured.
#[derive(Clone, Copy)]
struct Sizes {
    /// The rate is the highest that is tried.
    load: Load,
    outage: Outage,
}

impl Sizes {
    fn from_environment() -> Self {
        let number =
            |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        Self {
            load: Load {
                messages: number("PH_MODERATED_MESSAGES", 10_000),
                per_second: number("PH_MODERATED_RATE", 500),
            },
            outage: Outage {
                messages: number("PH_NOTICES", 1_000),
                users: 25,
                lasts: Duration::from_secs(number("PH_NOTICES_OUTAGE", 60) as u64),
            },
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sizes = Sizes::from_environment();
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    let mut goals = Goals::default();
    report(builds());
    for topology in ["Distributed", "Compact"] {
        let round = timeout(ROUND, round(&world, topology, sizes, &mut goals)).await;
        let late = |_| Err(anyhow!("it did not end within {} s", ROUND.as_secs()));
        goals.part(topology, round.unwrap_or_else(late));
    }
    let deleted = world.cluster.delete_tenant(TENANT, CONVERGENCE).await;
    goals.part("the end of the tenant", deleted);
    goals.met()
}

/// Measures everything in one topology. An error is of what all the rest needs.
async fn round(world: &World, topology: &str, sizes: Sizes, goals: &mut Goals) -> anyhow::Result<()> {
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    let name = unused("mod");
    let mut spec = Moderated::spec(&name);
    spec["services"] = optional_services(true);
    spec["topology"] = json!(topology);
    world.cluster.apply_tenant(TENANT, spec).await?;
    let took = world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    report(format!("{topology}: ready after {:.1} s", took.as_secs_f64()));
    sleep(IDLE).await;
    let memory = async || anyhow::Ok(memory_of(&world.cluster.usage().await?, TENANT));
    report(format!("{topology}, idle: {}", memory().await?));

    let messenger = world.stack.messenger(TENANT);
    let moderator = TestUser::register_as(&messenger, name).await?;
    let house = Moderated { messenger: messenger.clone(), moderator };
    house.enforce(&rules()).await?;
    let moderated = moderation(&house, topology, sizes.load, goals).await;
    goals.part(&format!("{topology}, moderation"), moderated);
    let used = beside(&messenger).await;
    goals.part(&format!("{topology}, files, words and presence"), used);
    report(format!("{topology}, after all messages: {}", memory().await?));
    // What takes the place of a pod has none to take where all services are in one.
    if topology == "Distributed" {
        let Outage { messages, lasts, .. } = sizes.outage;
        report(format!("{topology}: {messages} messages while pushes are down for {} s", lasts.as_secs()));
        let weathered = outage(world, TENANT, sizes.outage).await;
        if let Some(weathered) = goals.part(&format!("{topology}, an outage of pushes"), weathered) {
            report(format!("{topology}: {}", weathered.summary()));
            let p99 = checker::percentile(&weathered.hooked_after_ms, 99);
            goals.at_most(
                "webhooks in an outage of pushes, p99",
                p99,
                ms(NOTIFY_AFTER + HOOKED_WITHIN),
                "ms",
            );
        }
    }
    Ok(())
}

/// Times what is hidden at the rate that the machine takes, and a ban.
async fn moderation(house: &Moderated, topology: &str, load: Load, goals: &mut Goals) -> anyhow::Result<()> {
    let mut pairs = house.pairs().await?;
    let per_second = rate(&mut pairs, topology, load.per_second).await?;
    let messages = load.messages.min(per_second * JUDGED_SECONDS);
    let judged = judged(&mut pairs, Load { messages, per_second }).await?;
    report(format!("{topology}: {}", judged.summary()));
    let p50 = checker::percentile(&judged.hidden_after_ms, 50);
    goals.at_most(&format!("{topology}, hidden after, p50"), p50, ms(HIDDEN_WITHIN), "ms");
    drop(pairs);

    let out = house.ban().await?;
    report(format!("{topology}: a banned user was out {:.0} ms after the ban", ms(out)));
    goals.at_most(&format!("{topology}, out after a ban"), ms(out), ms(OUT_WITHIN), "ms");
    Ok(())
}

/// Returns the rate at which messages are stored and judged as fast as they are sent, in messages a second: `most`, or what the machine takes.
async fn rate(pairs: &mut [Pair], topology: &str, most: usize) -> anyhow::Result<usize> {
    let mut per_second = most;
    for _ in 0..RAMP_ROUNDS {
        let load = Load { messages: per_second * RAMP_SECONDS, per_second };
        let round = judged(pairs, load).await?;
        report(format!(
            "{topology}, {per_second} messages a second are offered: {:.0} are taken",
            round.per_second
        ));
        if round.per_second >= TAKEN * per_second as f64 {
            break;
        }
        // Of more than it takes the machine shows what that is.
        per_second = ((round.per_second * TAKEN) as usize).max(1);
    }
    Ok(per_second)
}

/// Uses the services that no other part does.
async fn beside(messenger: &Messenger) -> anyhow::Result<()> {
    let users = Witnesses::begin(messenger).await?;
    report(format!("{PHOTOS} photos are sent and shown"));
    for _ in 0..PHOTOS {
        users.see_files().await?;
    }
    users.see_words().await?;
    users.see_presence().await
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
