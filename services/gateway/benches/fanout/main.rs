//! What the fan-out of the gateway costs, beside a server on the Centrifuge library that does the same in the same run.
//!
//! Both servers are processes of their own and follow a topic of the same log, whose records one publisher writes: what is compared is the
//! last hop, from a record to sockets, with the way through the log in front of both. The gateway is the binary that is deployed, with the
//! real log and the real directory of connections. The services that it calls are those of its own tests, in this process: nothing but
//! connecting and reading pages asks them, and a stack of services on the same cores would drown the figures. The clients of both servers are
//! one loop in this process ([`fleet`]), which finds a mark in each frame and parses nothing around it.
//!
//! Figures of a server are of its own process alone. The rounds alternate, A B B A, and medians count. Each part has a share of the time ([`shares`]),
//! and the report says which was cut. It needs `make up-backends`; a small form (`PH_BENCH_SMALL=1`) takes less than two minutes and fails only on
//! what is far off. `PH_BENCH_PARTS` names the parts that run, separated by commas, by what their names contain.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "figures are its product, and it reads the clock"
)]

#[allow(dead_code, unused_imports, reason = "the tests of the gateway need more of it")]
#[path = "../../tests/it/client.rs"]
mod client;
#[allow(dead_code, unused_imports, reason = "the tests of the gateway need more of it")]
#[path = "../../tests/it/files.rs"]
mod files;
#[allow(dead_code, unused_imports, reason = "the tests of the gateway need more of it")]
#[path = "../../tests/it/peers.rs"]
mod peers;
#[allow(dead_code, unused_imports, reason = "the tests of the gateway need more of it")]
#[path = "../../tests/it/presence.rs"]
mod presence;
#[allow(dead_code, unused_imports, reason = "the tests of the gateway need more of it")]
#[path = "../../tests/it/stand.rs"]
mod stand;

mod fleet;
mod marks;
mod parts;
mod protocol;
mod publisher;
mod report;
mod servers;
mod shares;
mod times;
mod usage;

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use kit::testing::Goals;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

use crate::{
    parts::Sizes,
    protocol::Kind,
    report::{Figures, Part},
    servers::Ground,
    shares::Shares,
};

/// How long all parts take together, of the whole form and of the small one: each has a share of it.
const WHOLE_WITHIN: Duration = Duration::from_secs(18 * 60);
const SMALL_WITHIN: Duration = Duration::from_secs(105);
/// A run that was begun has so many times what it takes, however little is left of the share: cut earlier, it would show nothing.
const PATIENCE: u64 = 2;
/// The small form says how far off something is at the most: it is too short and too small for what is promised.
const SMALL_SLACK: f64 = 3.0;
/// Files of a process that are no connections of clients.
const OTHER_FILES: u64 = 500;
/// Files that are requested: a socket each, and no more than the kernel's own usual limit.
const FILES: u64 = 65_536;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let is_small = is_set("PH_BENCH_SMALL");
    let (sizes, within, slack) =
        if is_small { (Sizes::SMALL, SMALL_WITHIN, SMALL_SLACK) } else { (Sizes::WHOLE, WHOLE_WITHIN, 1.0) };
    let sizes = fitting(sizes)?;
    let began = Instant::now();
    let head = format!(
        "{} build beside {}. {}.\n\n{}{sizes:?}",
        if cfg!(debug_assertions) { "dev" } else { "release" },
        report::peer(),
        report::machine(),
        if is_small { "The small form: " } else { "" },
    );
    println!("{head}");
    let ground = Ground::create(sizes.users()).await?;
    let (mut figures, mut goals) = (Figures::default(), Goals::default());
    let named = env::var("PH_BENCH_PARTS").unwrap_or_default();
    let is_wanted = |part: &Part| {
        (!is_small || part.is_in_small()) && named.split(',').any(|name| part.name().contains(name.trim()))
    };
    let parts: Vec<Part> = Part::ALL.into_iter().filter(is_wanted).collect();
    let mut shares = Shares::new(began + within, parts.iter().map(|part| part.round_seconds(&sizes)).sum());
    for part in parts.iter().copied() {
        let end = shares.next(part.round_seconds(&sizes));
        let mut longest = Duration::ZERO;
        for round in 0..sizes.rounds {
            let begun = Instant::now();
            // The first one is begun in any case, and another one that comes to its end.
            if round > 0 && begun + longest > end {
                figures.cut(part, &format!("{round} of {} rounds", sizes.rounds));
                break;
            }
            let mut kinds = part.kinds(&sizes).to_vec();
            if round % 2 == 1 {
                kinds.reverse();
            }
            for kind in kinds {
                measure(&ground, (part, kind), (&sizes, end), &mut figures, &mut goals).await;
            }
            longest = longest.max(begun.elapsed());
        }
    }
    ground.remove().await;
    let table = figures.table(&parts, slack, &mut goals);
    println!("\n{table}\n{} s, load average {}", began.elapsed().as_secs(), report::load_average());
    if is_set("PH_BENCH_WRITE") {
        report::write(&head, &table).context("failed to write the page")?;
    }
    goals.met()
}

async fn measure(
    ground: &Ground,
    (part, kind): (Part, Kind),
    (sizes, end): (&Sizes, Instant),
    figures: &mut Figures,
    goals: &mut Goals,
) {
    let what = format!("{}, {}", part.name(), kind.name());
    let began = Instant::now();
    let least = Duration::from_secs(PATIENCE * part.seconds(sizes));
    let within = end.saturating_duration_since(began).max(least);
    let run = timeout(within, part.run(ground, kind, sizes)).await;
    goals.part("the deletion of records", ground.forget_records().await);
    let Ok(found) = run else {
        figures.cut(part, &format!("a run of {} after {} s", kind.name(), within.as_secs()));
        return;
    };
    let Some(found) = goals.part(&what, found) else { return };
    println!("{what}, in {:.1} s: {found:.3?}", began.elapsed().as_secs_f64());
    figures.add(part, kind, found);
}

/// Raises the limit of open files as far as it goes, for this process and for the servers, and returns sizes that fit into it.
fn fitting(sizes: Sizes) -> anyhow::Result<Sizes> {
    let limit = getrlimit(Resource::Nofile);
    // Who may raises the upper one as well.
    let wanted = limit.maximum.map(|most| most.max(FILES));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum: wanted }).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
            .context("failed to raise the limit of open files")?;
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if most < sizes.users() {
        println!(
            "{files} open files are allowed (`ulimit -n`): it is measured with {most} connections at most"
        );
    }
    Ok(sizes.at_most(most))
}

fn is_set(name: &str) -> bool {
    env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}
