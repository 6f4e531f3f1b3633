//! What messages cost while a part that they go on without is killed: each optional service, the store of files, and, where the stack and its cell have them,
//! OpenSearch and RabbitMQ.
//!
//! For each of them, messages are timed three times, close to each other, so that a busy moment of the machine affects all: while nothing happens, while as much is
//! started that the tenant has nothing to do with, and while the part is killed and comes back. Clients, services and backends share the machine, and what starts takes
//! its processor from messages of all tenants, whatever it is. So the second time is the control. For a service, the same pods of another tenant are killed, which has
//! the same images and no traffic. For the store of files, what looks for backends that are down is run without one. OpenSearch and RabbitMQ take a core for a while
//! when they start, so they are killed for the control, too: while the tenant has its index in a pod, and while no user who is away has a message to come. What
//! is promised is the ratio of a kill to its control. Files are sent, words are said and searched for, and messages are judged all the time.
//!
//! After each kill the part has to have everything: files come and go, each text that was said meanwhile is found once, logs are read to their end, and each message to a
//! user who is away has come once by each channel. A part that fails holds up none of the others, and is named at the end.

#![allow(clippy::disallowed_methods, reason = "a measurement makes names of its own, and reads the clock")]

use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use contracts::api::FilePurpose;
use e2e::{
    Cluster, Stack, World, checker,
    cluster::optional_services,
    eventually,
    faults::{Part, RECOVERY},
    goals::Goals,
    notifier::{Audience, NOTIFY_AFTER, Notifier, PATIENCE, Sent},
    pairs::Pair,
    report,
    stack::{Backend, builds},
    stories::moderation::{Moderated, rules},
    users::{TestUser, unused},
    witnesses::{Witnesses, photo},
};
use futures_util::future::try_join_all;
use posthouse_client::Messenger;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

const TENANT: &str = "e2ekills";
/// Has the same services, and no users.
const OTHER: &str = "e2ekillscontrol";
/// All of it takes half of this.
const WITHIN: Duration = Duration::from_secs(45 * 60);
/// A tenant is ready, or gone, within this time, and an index has everything.
const CONVERGENCE: Duration = Duration::from_secs(240);
/// Chats of two; in each of them one message follows the other.
const PAIRS: usize = 8;
/// Between two messages of a chat: with all chats 80 a second.
const PACE: Duration = Duration::from_millis(100);
/// How long messages are timed, at least, before each kill and from it on.
const WINDOW: Duration = Duration::from_secs(12);
/// Between two files, two texts and two searches.
const USE: Duration = Duration::from_secs(1);
/// Where a part is gone, its users wait no longer.
const GIVE_UP: Duration = Duration::from_secs(2);
/// Users who are away.
const AWAY: usize = 10;
/// Between two messages to them, and how many there are at most: for longer than a part takes to come back.
const NOTICE: Duration = Duration::from_millis(500);
const NOTICES: usize = 300;
/// The p99 of messages while a part is killed is at most so many times that of the control.
const RATIO: f64 = 1.2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    report(builds());
    let (mut times, mut goals) = (Times::default(), Goals::default());
    let measured = timeout(WITHIN, measure(&world, &mut times, &mut goals)).await;
    let late = |_| Err(anyhow!("it did not end within {} s", WITHIN.as_secs()));
    goals.part("the measurement", measured.unwrap_or_else(late));
    // One that failed may have left something down.
    goals.part("the backends", world.stack.start_backends().await);
    for tenant in [OTHER, TENANT] {
        let deleted = world.cluster.delete_tenant(tenant, CONVERGENCE).await;
        goals.part(&format!("the end of tenant {tenant}"), deleted);
    }
    times.compare(&mut goals);
    goals.met()
}

/// Kills one part after the other. An error is of what all of them need.
async fn measure(world: &World, times: &mut Times, goals: &mut Goals) -> anyhow::Result<()> {
    let name = unused("mod");
    let mut spec = Moderated::spec(&name);
    spec["services"] = optional_services(true);
    for tenant in [OTHER, TENANT] {
        world.cluster.delete_tenant(tenant, CONVERGENCE).await?;
        world.cluster.apply_tenant(tenant, spec.clone()).await?;
        let took = world.cluster.await_ready(tenant, CONVERGENCE).await?;
        report(format!("tenant {tenant} is ready after {:.1} s", took.as_secs_f64()));
    }
    let messenger = world.stack.messenger(TENANT);
    let moderator = TestUser::register_as(&messenger, name).await?;
    Moderated { messenger: messenger.clone(), moderator }.enforce(&rules()).await?;
    let mut talk = Talk::begin(world, messenger).await?;

    // The first messages warm up connections, caches and compilers.
    talk.during(undisturbed()).await?;
    // Before there are many messages: the index is built again when the tenant changes to it, and back.
    if is_there(world, Backend::OpenSearch).await? {
        let kill = talk.kill_search_engine(&spec).await;
        talk.note(Part::Backend(Backend::OpenSearch), kill, times, goals).await?;
    }
    for part in Part::BESIDE_PATH {
        let kill = talk.kill(part).await;
        talk.note(part, kill, times, goals).await?;
    }
    if is_there(world, Backend::RabbitMq).await? {
        let kill = talk.kill_broker().await;
        talk.note(Part::Backend(Backend::RabbitMq), kill, times, goals).await?;
    }
    Ok(())
}

/// Returns whether the stack and its cell have a backend, and reports when they do not.
async fn is_there(world: &World, backend: Backend) -> anyhow::Result<bool> {
    let is_there = world.stack.runs(backend) && world.cluster.cell_has(backend).await?;
    if !is_there {
        report(format!(
            "{backend:?} is not up, or not in the cell, and is not killed: `make up WITH=opensearch,rabbitmq`"
        ));
    }
    Ok(is_there)
}

/// What became of messages before a kill, beside the control and from the kill on, in milliseconds and sorted.
struct Kill {
    before: Vec<f64>,
    beside: Vec<f64>,
    meanwhile: Vec<f64>,
    /// From the kill until the part was ready again.
    back: Duration,
    /// From then on, until it had everything.
    caught_up: Duration,
}

/// The users of the tenant, of whom some exchange messages that are timed.
struct Talk<'a> {
    world: &'a World,
    messenger: Messenger,
    users: Witnesses,
    pairs: Vec<Pair>,
}

impl<'a> Talk<'a> {
    async fn begin(world: &'a World, messenger: Messenger) -> anyhow::Result<Self> {
        let users = Witnesses::begin(&messenger).await?;
        let pairs = Pair::some(&messenger, "kills", PAIRS).await?;
        Ok(Self { world, messenger, users, pairs })
    }

    /// Kills a service of the tenant, or the store of files.
    async fn kill(&mut self, part: Part) -> anyhow::Result<Kill> {
        let world = self.world;
        let (before, ()) = self.during(undisturbed()).await?;
        let (beside, _) = self.during(at_least(start_alike(world, part))).await?;
        self.kill_beside(part, before, beside).await
    }

    /// Kills a part, of which it is known what became of messages before and beside the control.
    async fn kill_beside(&mut self, part: Part, before: Vec<f64>, beside: Vec<f64>) -> anyhow::Result<Kill> {
        let world = self.world;
        let (meanwhile, back) = self.during(at_least(part.kill(world, TENANT))).await?;
        let began = Instant::now();
        self.users.see(world, TENANT, part).await?;
        Ok(Kill { before, beside, meanwhile, back, caught_up: began.elapsed() })
    }

    /// Kills OpenSearch: for the control while the tenant has its index in a pod, and then while it has it there.
    async fn kill_search_engine(&mut self, spec: &Value) -> anyhow::Result<Kill> {
        let (world, part) = (self.world, Part::Backend(Backend::OpenSearch));
        let (beside, _) = self.during(at_least(part.kill(world, TENANT))).await?;
        let mut on_opensearch = spec.clone();
        on_opensearch["services"]["search"]["engine"] = json!("OpenSearch");
        let kill = async {
            self.change(&on_opensearch).await?;
            let (before, ()) = self.during(undisturbed()).await?;
            self.kill_beside(part, before, beside).await
        };
        let kill = kill.await;
        // Also where it failed: the parts behind it are those of a tenant without it.
        let changed = self.change(spec).await;
        let kill = kill?;
        changed?;
        Ok(kill)
    }

    /// Applies a spec, and waits until the index that comes of it has everything.
    async fn change(&self, spec: &Value) -> anyhow::Result<()> {
        self.world.cluster.apply_tenant(TENANT, spec.clone()).await?;
        self.world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        self.users.see_words_within(CONVERGENCE).await
    }

    /// Kills RabbitMQ: for the control while it has nothing to carry, and then while users who are away are to be notified. Their notifications reach this process
    /// alone, so the notification service is in it meanwhile.
    async fn kill_broker(&mut self) -> anyhow::Result<Kill> {
        let notifier = Notifier::start(self.world, TENANT, NOTIFY_AFTER).await?;
        let kill = self.kill_broker_of(&notifier).await;
        let stopped = notifier.stop(self.world).await;
        let kill = kill?;
        stopped?;
        Ok(kill)
    }

    async fn kill_broker_of(&mut self, notifier: &Notifier) -> anyhow::Result<Kill> {
        let (world, part) = (self.world, Part::Backend(Backend::RabbitMq));
        let audience = Audience::begin(world, TENANT, notifier, (AWAY, NOTICES)).await?;
        report(format!("{AWAY} users who are away have subscribed"));
        carries_jobs(world).await?;
        let (before, ()) = self.during(undisturbed()).await?;
        let (beside, _) = self.during(at_least(part.kill(world, TENANT))).await?;
        carries_jobs(world).await?;

        let (stop, stopped) = watch::channel(false);
        let killed = async {
            let back = at_least(part.kill(world, TENANT)).await;
            stop.send_replace(true);
            back
        };
        let both = async { tokio::try_join!(killed, notices(&audience, stopped)) };
        let (meanwhile, (back, sent)) = self.during(both).await?;
        let began = Instant::now();
        carries_jobs(world).await?;
        eventually("each message has come by each channel", PATIENCE, || async {
            audience.each_once(&sent)?;
            Ok(())
        })
        .await?;
        // What would come a second time waits until then.
        notifier.is_done(PATIENCE).await?;
        audience.each_once(&sent)?;
        report(format!("{} messages to users who are away have come once by each channel", sent.len()));
        Ok(Kill { before, beside, meanwhile, back, caught_up: began.elapsed() })
    }

    /// Times messages while something else happens. Returns the times in milliseconds, sorted, and what came of it.
    async fn during<T>(
        &mut self,
        what: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Vec<f64>, T)> {
        let (stop, stopped) = watch::channel(false);
        let talk = try_join_all(self.pairs.iter_mut().map(|pair| pair.talk(PACE, stopped.clone())));
        let until = async {
            let outcome = what.await;
            stop.send_replace(true);
            outcome
        };
        let (times, (), outcome) = tokio::try_join!(talk, uses(&self.users, stopped.clone()), until)?;
        let mut times: Vec<f64> = times.concat().iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
        times.sort_by(f64::total_cmp);
        Ok((times, outcome))
    }

    /// Notes what came of a kill. After one that failed, what is down is started, and the pairs are others: a message that is late would be taken for the next one.
    async fn note(
        &mut self,
        part: Part,
        kill: anyhow::Result<Kill>,
        times: &mut Times,
        goals: &mut Goals,
    ) -> anyhow::Result<()> {
        if let Some(kill) = goals.part(&format!("a kill of the {}", part.name()), kill) {
            times.add(part, kill);
            return Ok(());
        }
        self.world.stack.start_backends().await?;
        self.world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        self.pairs = Pair::some(&self.messenger, "kills", PAIRS).await?;
        Ok(())
    }
}

/// The times of all kills.
#[derive(Default)]
struct Times {
    quiet: Vec<f64>,
    control: Vec<f64>,
    killed: Vec<f64>,
    parts: usize,
}

impl Times {
    /// Reports a kill, and adds it.
    fn add(&mut self, part: Part, kill: Kill) {
        let Kill { before, beside, meanwhile, back, caught_up } = kill;
        report(format!(
            "{:<18} killed, ready again after {:>4.1} s, has everything {:>4.1} s later; send to delivered {}, control {}, undisturbed {}; ratio of p99, kill to \
             control {:.2}",
            part.name(),
            back.as_secs_f64(),
            caught_up.as_secs_f64(),
            figures(&meanwhile),
            figures(&beside),
            figures(&before),
            ratio(&meanwhile, &beside),
        ));
        self.quiet.extend(before);
        self.control.extend(beside);
        self.killed.extend(meanwhile);
        self.parts += 1;
    }

    /// Reports all of them together, beside what is promised.
    fn compare(mut self, goals: &mut Goals) {
        for times in [&mut self.quiet, &mut self.control, &mut self.killed] {
            times.sort_by(f64::total_cmp);
        }
        let Self { quiet, control, killed, parts } = &self;
        let to_control = ratio(killed, control);
        report(format!(
            "send to delivered while each of {parts} parts is killed: {}; control {}; undisturbed {}; ratio of p99: kill to control {to_control:.2}, \
             kill to undisturbed {:.2}, control to undisturbed {:.2}",
            figures(killed),
            figures(control),
            figures(quiet),
            ratio(killed, quiet),
            ratio(control, quiet),
        ));
        goals.at_most("p99 of messages while parts are killed, to the control", to_control, RATIO, "times");
    }
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

/// Waits until the notification service takes jobs from its queues.
async fn carries_jobs(world: &World) -> anyhow::Result<()> {
    eventually("the notification service takes jobs from its queues", RECOVERY, || async {
        let consumers = world.stack.queue_consumers(TENANT).await?;
        ensure!(consumers > 0, "the queues have no consumer");
        Ok(())
    })
    .await
}

/// Writes to users who are away until it is stopped.
async fn notices(audience: &Audience, stopped: watch::Receiver<bool>) -> anyhow::Result<Sent> {
    let (mut clock, mut sent) = (interval(NOTICE), Sent::new());
    for number in 0..NOTICES {
        clock.tick().await;
        if *stopped.borrow() {
            break;
        }
        let (chat, at) = audience.send(number).await.context("a message to a user who is away")?;
        sent.insert(chat, at);
    }
    Ok(sent)
}

/// Sends files, says words and searches until it is stopped. What fails meanwhile is of a part that is gone, but for words, which are messages.
async fn uses(users: &Witnesses, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut clock = interval(USE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        clock.tick().await;
        users.say().await?;
        let photo = photo();
        let upload = users.ann.identity.upload(FilePurpose::Chat(users.chat), &photo);
        drop(timeout(GIVE_UP, upload).await);
        drop(timeout(GIVE_UP, users.ben.search("kettle")).await);
    }
    Ok(())
}

fn ratio(of: &[f64], to: &[f64]) -> f64 {
    checker::percentile(of, 99) / checker::percentile(to, 99)
}

fn figures(sorted: &[f64]) -> String {
    let at = |percent| checker::percentile(sorted, percent);
    format!("p50 {:.1} ms, p99 {:.1} ms of {} messages", at(50), at(99), sorted.len())
}
