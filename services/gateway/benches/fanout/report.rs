//! The figures, beside what is promised of them.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::anyhow;
use kit::testing::Goals;

use crate::protocol::Kind;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Room,
    LargeRoom,
    SmallRooms,
    DirectChats,
    Lone,
    Moderate,
    Busy,
    Idle,
    Storm,
    Cut,
}

impl Part {
    pub const ALL: [Self; 10] = [
        Self::Room,
        Self::LargeRoom,
        Self::SmallRooms,
        Self::DirectChats,
        Self::Lone,
        Self::Moderate,
        Self::Busy,
        Self::Idle,
        Self::Storm,
        Self::Cut,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Room => "saturated: one room",
            Self::LargeRoom => "saturated: one large room",
            Self::SmallRooms => "saturated: rooms of 10",
            Self::DirectChats => "saturated: direct chats",
            Self::Lone => "100 deliveries/s in direct chats",
            Self::Moderate => "50,000 deliveries/s in one room",
            Self::Busy => "200,000 deliveries/s in one room",
            Self::Idle => "idle connections",
            Self::Storm => "connect at the same moment",
            Self::Cut => "cut at once and back",
        }
    }

    /// Returns whether the small form has it too, which leaves out what differs from another part by a number.
    pub const fn is_in_small(self) -> bool {
        !matches!(self, Self::LargeRoom | Self::Lone | Self::Busy)
    }
}

/// What is measured of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Millions of deliveries for each second of the server's processor time.
    PerProcessor,
    /// Millions of deliveries a second, with clients and log on the same cores.
    PerSecond,
    BytesEach,
    P50,
    P99,
    P999,
    /// Of the server, in microseconds: for a delivery, or a connection.
    ProcessorEach,
    ResidentFresh,
    PrivateFresh,
    ResidentUsed,
    PrivateUsed,
    /// Seconds until all are authenticated.
    Authenticated,
    /// Tries to connect that failed.
    FailedTries,
    /// Seconds until all that was missed is there.
    Complete,
    /// Connections that miss something in the end.
    Gaps,
    /// Requests of a page that there was no room for, and that were repeated.
    Repeated,
}

impl Metric {
    const fn name(self) -> &'static str {
        match self {
            Self::PerProcessor => "M deliveries per server-CPU-second",
            Self::PerSecond => "M deliveries a second",
            Self::BytesEach => "bytes on the wire per delivery",
            Self::P50 => "p50, ms",
            Self::P99 => "p99, ms",
            Self::P999 => "p99.9, ms",
            Self::ProcessorEach => "server CPU each, us",
            Self::ResidentFresh => "resident kB each, fresh",
            Self::PrivateFresh => "private kB each, fresh",
            Self::ResidentUsed => "resident kB each, after a page and a burst",
            Self::PrivateUsed => "private kB each, after a page and a burst",
            Self::Authenticated => "s until all are authenticated",
            Self::FailedTries => "tries that failed",
            Self::Complete => "s until all have what they missed",
            Self::Gaps => "connections with a gap",
            Self::Repeated => "pages requested again",
        }
    }
}

/// What one run of a part found.
pub type Found = Vec<(Metric, f64)>;

/// What is promised of a figure.
#[derive(Clone, Copy)]
enum Goal {
    None,
    AtLeastTimes(f64),
    AtMostTimes(f64),
    AtMost(f64),
}

impl Goal {
    /// Returns it in words; nothing where nothing is promised.
    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeastTimes(times) => format!("at least {times} times"),
            Self::AtMostTimes(times) => format!("at most {times:.2} times"),
            Self::AtMost(most) => format!("at most {most}"),
        }
    }

    /// Returns a figure, and what it is in parts of Centrifuge's, in parts of what is promised. It is not a number where nothing is.
    fn share(self, ours: f64, ratio: f64) -> f64 {
        match self {
            Self::None => f64::NAN,
            Self::AtLeastTimes(times) | Self::AtMostTimes(times) => ratio / times,
            Self::AtMost(most) => ours / most,
        }
    }

    /// Returns how a figure stands to what is promised, and notes one that is off by more than `slack` times.
    fn verdict(self, what: &str, (ours, ratio): (f64, f64), slack: f64, goals: &mut Goals) -> String {
        let (is_met, passes) = match self {
            Self::None => return String::new(),
            Self::AtLeastTimes(times) => {
                (ratio >= times, goals.at_least(what, ratio, times / slack, "times Centrifuge"))
            }
            Self::AtMostTimes(times) => {
                (ratio <= times, goals.at_most(what, ratio, times * slack, "times Centrifuge"))
            }
            Self::AtMost(most) => (ours <= most, goals.at_most(what, ours, most * slack, "")),
        };
        let share = self.share(ours, ratio);
        let share = if share.is_finite() { format!(", {share:.2} of it") } else { String::new() };
        match (is_met, passes) {
            (true, _) => format!("ok{share}"),
            (false, true) => format!("missed{share}, which the small form lets pass"),
            (false, false) => format!("**missed**{share}"),
        }
    }
}

/// A line of the table.
struct Row(Part, Metric, Goal);

/// What is promised of the gateway in JSON: ratios to Centrifuge in the same run, or figures.
const ROWS: [Row; 34] = [
    Row(Part::Room, Metric::PerProcessor, Goal::AtLeastTimes(4.5)),
    Row(Part::Room, Metric::PerSecond, Goal::None),
    Row(Part::LargeRoom, Metric::PerProcessor, Goal::AtLeastTimes(10.0)),
    Row(Part::LargeRoom, Metric::PerSecond, Goal::None),
    Row(Part::SmallRooms, Metric::PerProcessor, Goal::AtLeastTimes(3.0)),
    Row(Part::SmallRooms, Metric::PerSecond, Goal::None),
    Row(Part::DirectChats, Metric::PerProcessor, Goal::AtLeastTimes(3.0)),
    Row(Part::DirectChats, Metric::PerSecond, Goal::None),
    Row(Part::Lone, Metric::P50, Goal::AtMostTimes(1.0)),
    Row(Part::Lone, Metric::P99, Goal::None),
    Row(Part::Lone, Metric::P999, Goal::None),
    Row(Part::Moderate, Metric::P50, Goal::None),
    Row(Part::Moderate, Metric::P99, Goal::AtMostTimes(0.75)),
    Row(Part::Moderate, Metric::P999, Goal::None),
    Row(Part::Moderate, Metric::ProcessorEach, Goal::AtMostTimes(0.67)),
    Row(Part::Moderate, Metric::BytesEach, Goal::AtMostTimes(1.5)),
    Row(Part::Busy, Metric::P50, Goal::None),
    Row(Part::Busy, Metric::P99, Goal::AtMostTimes(0.75)),
    Row(Part::Busy, Metric::P999, Goal::None),
    Row(Part::Busy, Metric::ProcessorEach, Goal::AtMostTimes(0.67)),
    Row(Part::Idle, Metric::ResidentFresh, Goal::AtMost(4.0)),
    Row(Part::Idle, Metric::PrivateFresh, Goal::None),
    Row(Part::Idle, Metric::ResidentUsed, Goal::AtMost(6.0)),
    Row(Part::Idle, Metric::PrivateUsed, Goal::None),
    Row(Part::Idle, Metric::Repeated, Goal::None),
    Row(Part::Storm, Metric::Authenticated, Goal::AtMost(1.0)),
    // Of before: 140 us beside 176 of Centrifuge, when 128 connected at a time.
    Row(Part::Storm, Metric::ProcessorEach, Goal::AtMostTimes(0.8)),
    Row(Part::Storm, Metric::FailedTries, Goal::None),
    Row(Part::Cut, Metric::Authenticated, Goal::None),
    Row(Part::Cut, Metric::Complete, Goal::AtMost(10.0)),
    Row(Part::Cut, Metric::Gaps, Goal::AtMost(0.0)),
    Row(Part::Cut, Metric::Repeated, Goal::None),
    Row(Part::Cut, Metric::ProcessorEach, Goal::None),
    Row(Part::Cut, Metric::FailedTries, Goal::None),
];

/// What is promised of the gateway in CBOR, beside Centrifuge in JSON.
const ROWS_IN_CBOR: [Row; 4] = [
    Row(Part::Room, Metric::PerProcessor, Goal::None),
    Row(Part::Moderate, Metric::P99, Goal::None),
    Row(Part::Moderate, Metric::ProcessorEach, Goal::None),
    Row(Part::Moderate, Metric::BytesEach, Goal::AtMostTimes(0.8)),
];

/// What all runs found.
#[derive(Default)]
pub struct Figures {
    found: BTreeMap<(Part, Metric, Kind), Vec<f64>>,
    /// Parts whose share of the time was over, with how far each came.
    cut: Vec<String>,
}

impl Figures {
    pub fn add(&mut self, part: Part, kind: Kind, found: Found) {
        for (metric, figure) in found {
            self.found.entry((part, metric, kind)).or_default().push(figure);
        }
    }

    fn median(&self, part: Part, metric: Metric, kind: Kind) -> Option<f64> {
        let mut figures = self.found.get(&(part, metric, kind))?.clone();
        figures.sort_by(f64::total_cmp);
        Some(figures[figures.len() / 2])
    }

    /// Notes that the share of a part is over, and how far it came.
    pub fn cut(&mut self, part: Part, how: &str) {
        let cut = format!("{}: {how}", part.name());
        println!("CUT {cut}");
        self.cut.push(cut);
    }

    /// Returns the table of these parts, with what was cut. Notes what is missed by more than `slack` times, and what was not measured.
    pub fn table(&self, parts: &[Part], slack: f64, goals: &mut Goals) -> String {
        let mut table =
            "| work | | Centrifuge | Posthouse | ratio | promised | |\n|---|---|---|---|---|---|---|\n"
                .to_owned();
        let rows = ROWS.iter().map(|row| (Kind::Json, row));
        for (kind, row) in rows.chain(ROWS_IN_CBOR.iter().map(|row| (Kind::Cbor, row))) {
            let Row(part, metric, goal) = *row;
            if !parts.contains(&part) {
                continue;
            }
            let theirs = self.median(part, metric, Kind::Centrifuge);
            let ours = self.median(part, metric, kind);
            let encoding = if kind == Kind::Cbor { ", CBOR" } else { "" };
            let what = format!("{}{encoding}, {}", part.name(), metric.name());
            let ratio = ours.zip(theirs).map_or(f64::NAN, |(ours, theirs)| ours / theirs);
            let verdict = match (ours, goal) {
                (Some(ours), _) => goal.verdict(&what, (ours, ratio), slack, goals),
                (None, Goal::None) => continue,
                (None, _) => {
                    goals.part::<()>(&what, Err(anyhow!("there is no figure")));
                    "**not measured**".to_owned()
                }
            };
            let text = |found: Option<f64>| found.map_or_else(|| "-".to_owned(), figure);
            let (theirs, ours) = (text(theirs), text(ours));
            let ratio = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
            let (part, metric, promised) = (part.name(), metric.name(), goal.text());
            writeln!(
                table,
                "| {part}{encoding} | {metric} | {theirs} | {ours} | {ratio} | {promised} | {verdict} |"
            )
            .expect("a text takes everything");
        }
        if !self.cut.is_empty() {
            let cut = self.cut.join("; ");
            writeln!(table, "\nCut, as the share of the time was over: {cut}.")
                .expect("a text takes everything");
        }
        table
    }
}

fn figure(figure: f64) -> String {
    match figure {
        figure if figure.abs() >= 100.0 => format!("{figure:.0}"),
        figure if figure.abs() >= 10.0 => format!("{figure:.1}"),
        figure => format!("{figure:.2}"),
    }
}

/// Returns what the figures depend on, beside the code.
pub fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores ({processor}), memory {memory}, Linux {}, load average {}",
        kernel.trim(),
        load_average()
    )
}

/// Returns how many processes wanted to run in the last 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Returns the peer with its version.
pub fn peer() -> String {
    const MODULES: &str = include_str!("centrifuge/go.mod");
    let module = "github.com/centrifugal/centrifuge ";
    let version = MODULES.lines().find_map(|line| line.trim().strip_prefix(module)).unwrap_or("unknown");
    format!("Centrifuge library {version}")
}

/// Writes the page in `docs/benchmarks`.
pub fn write(head: &str, table: &str) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(&root).output()?;
    let commit = String::from_utf8_lossy(&commit.stdout);
    let page = format!(
        "# Fan-out of the gateway beside Centrifuge\n\n\
         Written by `PH_BENCH_WRITE=1 BENCH=fanout make bench` at commit {}. `services/gateway/benches/fanout` says how it is measured: both\n\
         servers follow the same log, one program is the clients of both, and only the server's own processor time counts. Medians of the rounds,\n\
         which alternate between the two. A ratio below 1 is less than Centrifuge has.\n\n{head}\n\n{table}",
        commit.trim()
    );
    let folder = root.join("docs/benchmarks");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("fanout.md"), page)?;
    Ok(())
}
