//! What it costs a tenant to be observed: messages of two equal tenants in alternation, of which one is.
//!
//! Of the one that is observed, one message of a hundred is traced, the collector of the stack takes the spans and hands them on, and each pod is scraped once in a slice,
//! by this program: the stack's Prometheus knows tenants that were there when it was started, and scrapes their pods a little less often. The other one has `ratio: 0`,
//! and no scraper. What they have in common is not measured: metrics are counted in every process, and lines of logs are collected for both.
//!
//! Ratios are of slices that follow each other. Beside them are those of two slices of the same tenant: a difference that is not larger is the machine's.

use std::{mem, time::Duration};

use anyhow::{Context, anyhow, ensure};
use e2e::{
    Cluster, Stack, World,
    alternation::{Plan, Side, Slices},
    checker,
    cluster::{ample_limits, management},
    goals::Goals,
    pairs::{self, Pair},
    processes::Costs,
    report,
    stack::builds,
};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};

const OBSERVED: &str = "e2eobserved";
const UNOBSERVED: &str = "e2eunobserved";
/// The part of messages that is traced.
const RATIO: f64 = 0.01;
/// All is measured within this time.
const WITHIN: Duration = Duration::from_secs(300);
/// No pair of slices begins in the last part of it.
const LAST: Duration = Duration::from_secs(20);
/// A tenant is ready, or gone at the beginning, within this time.
const CONVERGENCE: Duration = Duration::from_secs(150);
/// A tenant is gone at the end within this time.
const END: Duration = Duration::from_secs(60);
/// Of either kind, where there is time for them.
const PAIRS_OF_SLICES: usize = 12;
/// Of fewer the median says nothing.
const LEAST: usize = 6;
/// How long a slice takes.
const SLICE: Duration = Duration::from_secs(4);
/// Messages under way at a time while as many are sent as fit.
const WINDOW: usize = 64;
/// Chats of two, of each tenant.
const PAIRS: usize = 16;
/// What connections, caches and compilers are warmed up with, and how often. The last time shows how many messages a slice has.
const WARM: usize = 640;
const WARM_ROUNDS: usize = 3;
/// Messages a second whose times are taken, at most, and what part of those that fit: beyond it they wait for the machine in either tenant.
const PER_SECOND: usize = 250;
const PART_OF_WHAT_FITS: f64 = 0.25;
/// Of the messages that are stored and delivered without being observed, at least this part is with it.
const THROUGHPUT: f64 = 0.97;
/// A message takes at most so many times the processor time, and the p99 of all of them is at most so many times what it is without being observed.
const COST: f64 = 1.03;
const P99: f64 = 1.03;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let end = Instant::now() + WITHIN;
    let world = World { stack: Stack::from_environment(), cluster: Cluster::connect().await? };
    report(builds());
    if !world.cluster.has_collector().await? {
        report("what it costs to be observed is not measured: it needs `make up WITH=observability`");
        return Ok(());
    }
    let mut goals = Goals::default();
    let measured = timeout_at(end, measure(&world, end - LAST, &mut goals)).await;
    let late = |_| Err(anyhow!("it did not end within {} s", WITHIN.as_secs()));
    goals.part("the measurement", measured.unwrap_or_else(late));
    let delete = async |tenant: &'static str| world.cluster.delete_tenant(tenant, END).await;
    let (observed, unobserved) = tokio::join!(delete(OBSERVED), delete(UNOBSERVED));
    goals.part("the end of the observed tenant", observed);
    goals.part("the end of the other tenant", unobserved);
    goals.met()
}

/// Measures both kinds of slices, each in half of the time that is left once both tenants and their users are there.
async fn measure(world: &World, until: Instant, goals: &mut Goals) -> anyhow::Result<()> {
    let (mut observed, mut unobserved) =
        tokio::try_join!(Tenant::begin(world, OBSERVED, RATIO), Tenant::begin(world, UNOBSERVED, 0.0))?;
    let mut messages = 0;
    for _ in 0..WARM_ROUNDS {
        let rate = (observed.rate(WARM).await?, unobserved.rate(WARM).await?);
        // All pairs send as many.
        let each = f64::midpoint(rate.0, rate.1) * SLICE.as_secs_f64() / PAIRS as f64;
        messages = PAIRS * (each as usize).max(1);
    }
    (observed.costs, unobserved.costs) = (Costs::default(), Costs::default());
    let now = Instant::now();
    let half = now + until.saturating_duration_since(now) / 2;

    let what = &format!("stored and delivered, {WINDOW} under way");
    report(format!("{what}: {messages} messages in each slice"));
    let plan = Plan { what, unit: "messages/s", pairs: PAIRS_OF_SLICES, until: half };
    let throughput =
        Slices::measure(plan, async |side| of(side, &mut observed, &mut unobserved).rate(messages).await);
    let throughput = throughput.await?;
    let ratio = summary(plan, &throughput)?;
    goals.at_least("stored and delivered, on to off", ratio, THROUGHPUT, "times");
    let cost = observed.costs.each_ms() / unobserved.costs.each_ms();
    goals.at_most("processor time of a message, on to off", cost, COST, "times");
    for (name, tenant) in [("on", &mut observed), ("off", &mut unobserved)] {
        report(format!("a message, as many as fit, {name}: {}", mem::take(&mut tenant.costs).line()));
    }

    let fits = throughput.median(Side::Off) * PART_OF_WHAT_FITS;
    let per_second = (fits as usize).clamp(PAIRS, PER_SECOND);
    let what = &format!("send to delivered at {per_second} messages/s, p99");
    let plan = Plan { what, unit: "ms", pairs: PAIRS_OF_SLICES, until };
    let latency =
        Slices::measure(plan, async |side| of(side, &mut observed, &mut unobserved).p99(per_second).await);
    // A slice has few messages beyond its p99, and all slices together have more.
    summary(plan, &latency.await?)?;
    let p99 = observed.all_times(99) / unobserved.all_times(99);
    goals.at_most("p99 of send to delivered, on to off", p99, P99, "times");
    for (name, tenant) in [("on", &mut observed), ("off", &mut unobserved)] {
        let (p50, p99) = (tenant.all_times(50), tenant.all_times(99));
        let count = tenant.times.len();
        report(format!(
            "all messages at {per_second} a second, {name}: p50 {p50:.2} ms, p99 {p99:.2} ms of {count}"
        ));
        report(format!("a message at {per_second} a second, {name}: {}", tenant.costs.line()));
    }

    let spans = (observed.pods.exported_spans().await?, unobserved.pods.exported_spans().await?);
    ensure!(
        spans.0 > 0 && spans.1 == 0,
        "{} spans were exported, and {} of the other tenant",
        spans.0,
        spans.1
    );
    report(format!("{} spans were exported, and none of the other tenant", spans.0));
    Ok(())
}

fn of<'a, 'w>(
    side: Side,
    observed: &'a mut Tenant<'w>,
    unobserved: &'a mut Tenant<'w>,
) -> &'a mut Tenant<'w> {
    match side {
        Side::On => observed,
        Side::Off => unobserved,
    }
}

/// Reports what slices came to. Returns the median of the ratios.
fn summary(plan: Plan<'_>, slices: &Slices) -> anyhow::Result<f64> {
    let Plan { what, unit, .. } = plan;
    ensure!(slices.pairs() >= LEAST, "{what}: there was time for {} pairs of slices", slices.pairs());
    let ratios = slices.ratios();
    report(format!(
        "{what}: on {:.1} {unit}, off {:.1} {unit} in the median; ratio on to off {ratios}; noise, ratio of two slices of the same tenant {}",
        slices.median(Side::On),
        slices.median(Side::Off),
        slices.noise(),
    ));
    Ok(ratios.median())
}

/// A tenant with its users.
struct Tenant<'a> {
    cluster: &'a Cluster,
    name: &'static str,
    pods: Pods,
    /// Whether pods are scraped while something is measured.
    is_scraped: bool,
    pairs: Vec<Pair>,
    /// Of all slices since this was taken.
    costs: Costs,
    /// Of all messages of which it was taken, in milliseconds.
    times: Vec<f64>,
}

impl<'a> Tenant<'a> {
    async fn begin(world: &'a World, name: &'static str, ratio: f64) -> anyhow::Result<Self> {
        let World { stack, cluster } = world;
        cluster.delete_tenant(name, CONVERGENCE).await?;
        let spec = json!({
            "deletionPolicy": "Delete",
            "limits": ample_limits(),
            "observability": { "traces": { "ratio": ratio } },
        });
        cluster.apply_tenant(name, spec).await?;
        let took = cluster.await_ready(name, CONVERGENCE).await?;
        report(format!("tenant {name} is ready after {:.1} s", took.as_secs_f64()));
        let pairs = Pair::some(&stack.messenger(name), "observed", PAIRS).await?;
        report(format!("tenant {name} has {PAIRS} pairs of users"));
        Ok(Self {
            cluster,
            name,
            pods: Pods::of(cluster, name).await?,
            is_scraped: ratio > 0.0,
            pairs,
            costs: Costs::default(),
            times: Vec::new(),
        })
    }

    /// Returns how many messages a second are stored and delivered.
    async fn rate(&mut self, messages: usize) -> anyhow::Result<f64> {
        self.slice(messages, async |pairs| pairs::rate(pairs, messages, WINDOW).await).await
    }

    /// Returns the p99 from a send until its delivery at a fixed rate, in milliseconds.
    async fn p99(&mut self, per_second: usize) -> anyhow::Result<f64> {
        let messages = per_second * SLICE.as_secs() as usize;
        let times =
            self.slice(messages, async |pairs| pairs::open_loop(pairs, messages, per_second).await).await?;
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
        times.sort_by(f64::total_cmp);
        let p99 = checker::percentile(&times, 99);
        self.times.extend(times);
        Ok(p99)
    }

    /// Measures something with so many messages, while pods are scraped.
    async fn slice<T>(
        &mut self,
        messages: usize,
        what: impl AsyncFnOnce(&mut [Pair]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (cluster, tenant) = (self.cluster, self.name);
        let Self { pods, is_scraped, pairs, costs, .. } = self;
        let before = cluster.times(tenant).await?;
        let scraped = async { if *is_scraped { pods.scrape().await } else { Ok(()) } };
        let found = tokio::select! {
            found = what(pairs.as_mut_slice()) => found?,
            Err(error) = scraped => return Err(error),
        };
        costs.add(messages, &before, &cluster.times(tenant).await?);
        Ok(found)
    }

    /// Returns a percentile of the times of all messages, in milliseconds.
    fn all_times(&mut self, percent: usize) -> f64 {
        self.times.sort_by(f64::total_cmp);
        checker::percentile(&self.times, percent)
    }
}

/// The pods of a tenant, as a scraper has them.
struct Pods {
    client: reqwest::Client,
    addresses: Vec<String>,
    token: String,
}

impl Pods {
    async fn of(cluster: &Cluster, tenant: &str) -> anyhow::Result<Self> {
        Ok(Self {
            client: reqwest::Client::new(),
            addresses: cluster.running_addresses(tenant).await?,
            token: cluster.metrics_token(tenant).await?,
        })
    }

    /// Scrapes each pod once, spread over a slice as Prometheus spreads its targets over an interval.
    async fn scrape(&self) -> anyhow::Result<()> {
        let (began, number) = (Instant::now(), self.addresses.len() as f64);
        for (place, address) in self.addresses.iter().enumerate() {
            sleep_until(began + SLICE.mul_f64((place as f64 + 0.5) / number)).await;
            self.metrics(address).await?;
        }
        Ok(())
    }

    async fn metrics(&self, address: &str) -> anyhow::Result<String> {
        let metrics = management(&self.client, address, "metrics", Some(&self.token)).await?;
        Ok(metrics.error_for_status()?.text().await?)
    }

    /// Returns how many spans the collector took of them.
    async fn exported_spans(&self) -> anyhow::Result<u64> {
        let mut spans = 0;
        for address in &self.addresses {
            let metrics = self.metrics(address).await?;
            let samples = metrics.lines().filter(|line| {
                line.starts_with("posthouse_process_trace_spans_total{")
                    && line.contains("outcome=\"exported\"")
            });
            for sample in samples {
                let (_, value) = sample.rsplit_once(' ').context("a sample has a value")?;
                spans += value.parse::<u64>().with_context(|| format!("the value of {sample}"))?;
            }
        }
        Ok(spans)
    }
}
