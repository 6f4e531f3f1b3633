//! What messages cost while a part that they go on without is killed: each optional service, and the store of files.
//!
//! For each of them, messages are timed three times in turn, so that a busy moment of the machine affects all: while nothing happens, while as much is started that
//! the tenant has nothing to do with, and while the part is killed and comes back. Clients, services and backends share the machine, and a pod that starts takes
//! its processor from messages of all tenants, whatever it is. So the second time is the control: the same pods of another tenant are killed, which has the
//! same images and no traffic; the store of files has no other tenant's, and what looks for backends that are down is run without one. What is promised is the
//! ratio of a kill to its control. Files are sent, words are searched and messages are judged all the time.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::time::Duration;

use contracts::api::FilePurpose;
use e2e::{
    Cluster, Stack, World, checker,
    cluster::optional_services,
    faults::Part,
    goals::Goals,
    pairs::Pair,
    report,
    stack::builds,
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
/// Has the same services, and no users.
const OTHER: &str = "e2ekillscontrol";
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
/// The p99 of messages while a part is killed is at most so many times that of the control.
const RATIO: f64 = 1.2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    report(builds());
    let name = unused("mod");
    let mut spec = Moderated::spec(&name);
    spec["services"] = optional_services(true);
    for tenant in [OTHER, TENANT] {
        world.cluster.delete_tenant(tenant, CONVERGENCE).await?;
        world.cluster.apply_tenant(tenant, spec.clone()).await?;
        world.cluster.await_ready(tenant, CONVERGENCE).await?;
    }
    let messenger = world.stack.messenger(TENANT);
    let moderator = TestUser::register_as(&messenger, name).await?;
    Moderated { messenger: messenger.clone(), moderator }.enforce(&rules()).await?;
    let users = Witnesses::begin(&messenger).await?;
    let mut pairs = Pair::some(&messenger, "kills", PAIRS).await?;

    // The first messages warm up connections, caches and compilers.
    during(&mut pairs, &users, undisturbed()).await?;
    let (mut quiet, mut control, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for part in Part::BESIDE_PATH {
        let (before, ()) = during(&mut pairs, &users, undisturbed()).await?;
        let (beside, _) = during(&mut pairs, &users, at_least(start_alike(&world, part))).await?;
        let (meanwhile, back) = during(&mut pairs, &users, at_least(part.kill(&world, TENANT))).await?;
        let began = Instant::now();
        users.see(&world, TENANT, part).await?;
        report(format!(
            "{:<18} killed, ready again after {:>4.1} s, has everything {:>4.1} s later; send to delivered {}, control {}, undisturbed {}",
            part.name(),
            back.as_secs_f64(),
            began.elapsed().as_secs_f64(),
            figures(&meanwhile),
            figures(&beside),
            figures(&before),
        ));
        quiet.extend(before);
        control.extend(beside);
        killed.extend(meanwhile);
    }
    for times in [&mut quiet, &mut control, &mut killed] {
        times.sort_by(f64::total_cmp);
    }
    let ratio = |of: &[f64], to: &[f64]| checker::percentile(of, 99) / checker::percentile(to, 99);
    let to_control = ratio(&killed, &control);
    report(format!(
        "send to delivered while each of {} parts is killed: {}; control {}; undisturbed {}; ratio of p99: kill to control {to_control:.2}, \
         kill to undisturbed {:.2}, control to undisturbed {:.2}",
        Part::BESIDE_PATH.len(),
        figures(&killed),
        figures(&control),
        figures(&quiet),
        ratio(&killed, &quiet),
        ratio(&control, &quiet),
    ));
    for tenant in [OTHER, TENANT] {
        world.cluster.delete_tenant(tenant, CONVERGENCE).await?;
    }
    let mut goals = Goals::default();
    goals.at_most("p99 of messages while parts are killed, to the control", to_control, RATIO, "times");
    goals.met()
}

/// Starts what a kill of this part starts, and leaves alone what the tenant uses.
async fn start_alike(world: &World, part: Part) -> anyhow::Result<()> {
    match part {
        Part::Pods(_) => part.kill(world, OTHER).await,
        Part::Backend(_) => world.stack.start_backends().await,
    }
}

/// Waits until it is done, and until the end of the window. Returns how long it took.
async fn at_least(what: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    what.await?;
    let took = began.elapsed();
    sleep_until(began + WINDOW).await;
    Ok(took)
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
