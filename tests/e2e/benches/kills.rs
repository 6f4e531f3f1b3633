//! What messages cost while a part that they go on without is killed: each optional service, and the store of files.
//!
//! For each of them, messages are timed while nothing happens and then while it is killed and comes back, so that a busy moment of the machine
//! affects both. Files are sent, words are searched and messages are judged all the time. What is printed last is the ratio of the two.
//! Clients, services and backends share the machine: a pod that starts costs messages of other services its processor time.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::time::Duration;

use contracts::api::FilePurpose;
use e2e::{
    Cluster, Stack, World, checker,
    cluster::optional_services,
    faults::Part,
    pairs::Pair,
    report,
    stories::moderation::{Moderated, rules},
    users::{TestUser, unused},
    witnesses::{Witnesses, photo},
};
use futures_util::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep, sleep_until, timeout},
};

const TENANT: &str = "e2ekills";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(240);
/// Chats of two; in each of them one message follows the other.
const PAIRS: usize = 8;
/// Between two messages of a chat: with all chats 80 a second.
const PACE: Duration = Duration::from_millis(100);
/// How long messages are timed, at least, before each kill and from it on.
const WINDOW: Duration = Duration::from_secs(12);
/// Between two files, and two searches.
const USE: Duration = Duration::from_secs(1);
/// Where a part is gone, its users wait no longer.
const GIVE_UP: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    let name = unused("mod");
    let mut spec = Moderated::spec(&name);
    spec["services"] = optional_services(true);
    world.cluster.apply_tenant(TENANT, spec).await?;
    world.cluster.await_ready(TENANT, CONVERGENCE).await?;
    let messenger = world.stack.messenger(TENANT);
    let moderator = TestUser::register_as(&messenger, name).await?;
    Moderated { messenger: messenger.clone(), moderator }.enforce(&rules()).await?;
    let users = Witnesses::begin(&messenger).await?;
    let mut pairs = Pair::some(&messenger, "kills", PAIRS).await?;

    // The first messages warm up connections, caches and compilers.
    during(&mut pairs, &users, undisturbed()).await?;
    let (mut quiet, mut killed) = (Vec::new(), Vec::new());
    for part in Part::BESIDE_PATH {
        let (before, ()) = during(&mut pairs, &users, undisturbed()).await?;
        let kill = async {
            let began = Instant::now();
            part.kill(&world, TENANT).await?;
            let back = began.elapsed();
            sleep_until(began + WINDOW).await;
            anyhow::Ok(back)
        };
        let (meanwhile, back) = during(&mut pairs, &users, kill).await?;
        let began = Instant::now();
        users.see(&world, TENANT, part).await?;
        report(format!(
            "{:<18} killed, ready again after {:>4.1} s, has everything {:>4.1} s later; send to delivered {}, undisturbed {}",
            part.name(),
            back.as_secs_f64(),
            began.elapsed().as_secs_f64(),
            figures(&meanwhile),
            figures(&before),
        ));
        quiet.extend(before);
        killed.extend(meanwhile);
    }
    for times in [&mut quiet, &mut killed] {
        times.sort_by(f64::total_cmp);
    }
    report(format!(
        "send to delivered while each of {} parts is killed: {}; undisturbed {}; ratio of p99 {:.2}",
        Part::BESIDE_PATH.len(),
        figures(&killed),
        figures(&quiet),
        checker::percentile(&killed, 99) / checker::percentile(&quiet, 99),
    ));
    world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
    Ok(())
}

async fn undisturbed() -> anyhow::Result<()> {
    sleep(WINDOW).await;
    Ok(())
}

/// Times messages while something else happens. Returns the times in milliseconds, sorted, and what came of it.
async fn during<T>(
    pairs: &mut [Pair],
    users: &Witnesses,
    what: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Vec<f64>, T)> {
    let (stop, stopped) = watch::channel(false);
    let talk = try_join_all(pairs.iter_mut().map(|pair| pair.talk(PACE, stopped.clone())));
    let until = async {
        let outcome = what.await;
        stop.send_replace(true);
        outcome
    };
    let (times, (), outcome) = tokio::try_join!(talk, uses(users, stopped.clone()), until)?;
    let mut times: Vec<f64> = times.concat().iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    Ok((times, outcome))
}

/// Sends files and searches until it is stopped. What fails meanwhile is of a part that is gone.
async fn uses(users: &Witnesses, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut clock = interval(USE);
    while !*stopped.borrow() {
        clock.tick().await;
        let photo = photo();
        let upload = users.ann.identity.upload(FilePurpose::Chat(users.chat), &photo);
        drop(timeout(GIVE_UP, upload).await);
        drop(timeout(GIVE_UP, users.ben.search("kettle")).await);
    }
    Ok(())
}

fn figures(sorted: &[f64]) -> String {
    let at = |percent| checker::percentile(sorted, percent);
    format!("p50 {:.1} ms, p99 {:.1} ms of {} messages", at(50), at(99), sorted.len())
}
