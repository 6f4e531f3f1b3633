//! What is measured, one run each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    fleet::{Fleet, KEPT_RECORDS, Progress},
    protocol::Kind,
    publisher::Publisher,
    report::{Found, Metric, Part},
    servers::{Ground, Layout},
    usage::Usage,
};

/// Connections that are opened at a time where that is not what is measured.
const OPENING: usize = 128;
/// The first connections pay for tables, threads and keys.
const FIRST: usize = 100;
/// Members of a small room.
const SMALL: usize = 10;
/// Members of a room of which all were away.
const KEPT: usize = 100;
/// Deliveries under way at saturation, or so many records where that is more.
const WINDOW: u64 = 64_000;
const WINDOW_RECORDS: u64 = 32;
/// Records of each room that come while all are away, of those that they have to have in the end.
const MISSED: u32 = KEPT_RECORDS * 3 / 4;
/// The others come meanwhile, one each.
const BETWEEN_RECORDS: Duration = Duration::from_millis(250);

/// How large it is, and how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub sockets: usize,
    pub large: usize,
    pub idle: usize,
    pub storm: usize,
    pub cut: usize,
    /// Whether saturation is measured with frames in CBOR, too.
    pub is_cbor_saturated: bool,
    pub rounds: usize,
    pub warming: Duration,
    pub measuring: Duration,
    /// For a rate at which little comes.
    pub measuring_lone: Duration,
    /// Memory is looked at this long after the last delivery.
    pub settling: Duration,
    /// Records of each room that come at once.
    pub burst: usize,
}

impl Sizes {
    pub const WHOLE: Self = Self {
        sockets: 1_000,
        large: 5_000,
        idle: 10_000,
        storm: 5_000,
        cut: 10_000,
        is_cbor_saturated: true,
        rounds: 3,
        warming: Duration::from_secs(1),
        measuring: Duration::from_secs(4),
        measuring_lone: Duration::from_secs(10),
        settling: Duration::from_secs(4),
        burst: 50,
    };

    pub const SMALL: Self = Self {
        sockets: 500,
        large: 1_000,
        idle: 2_000,
        storm: 1_000,
        cut: 1_000,
        is_cbor_saturated: false,
        rounds: 1,
        warming: Duration::from_millis(300),
        measuring: Duration::from_secs(1),
        measuring_lone: Duration::from_secs(3),
        settling: Duration::from_secs(1),
        burst: 50,
    };

    /// Returns how many users there are at most.
    pub fn users(&self) -> usize {
        [self.sockets, self.large, self.idle, self.storm, self.cut].into_iter().max().unwrap_or(0)
    }

    /// Returns the sizes with at most so many sockets at once, in whole rooms.
    pub fn at_most(self, most: usize) -> Self {
        let least = |size: usize| size.min(most / KEPT * KEPT).max(KEPT);
        Self {
            sockets: least(self.sockets),
            large: least(self.large),
            idle: least(self.idle),
            storm: least(self.storm),
            cut: least(self.cut),
            ..self
        }
    }
}

impl Part {
    /// Returns the servers and encodings that it is measured with, one after the other.
    pub const fn kinds(self, sizes: &Sizes) -> &'static [Kind] {
        let has_cbor = match self {
            Self::Room => sizes.is_cbor_saturated,
            Self::Moderate => true,
            _ => false,
        };
        if has_cbor { &[Kind::Centrifuge, Kind::Json, Kind::Cbor] } else { &[Kind::Centrifuge, Kind::Json] }
    }

    /// Returns how many seconds a run of one kind takes, about.
    pub const fn seconds(self, sizes: &Sizes) -> u64 {
        match self {
            Self::Room
            | Self::LargeRoom
            | Self::SmallRooms
            | Self::DirectChats
            | Self::Moderate
            | Self::Busy => 4 + sizes.measuring.as_secs(),
            Self::Lone => 4 + sizes.measuring_lone.as_secs(),
            Self::Idle => 6 + 3 * sizes.settling.as_secs(),
            Self::Storm => 6,
            Self::Cut => 12,
        }
    }

    /// Returns how many seconds a round of all kinds takes, about: its share of the time.
    pub const fn round_seconds(self, sizes: &Sizes) -> u64 {
        self.seconds(sizes) * self.kinds(sizes).len() as u64
    }

    /// Runs it once.
    pub async fn run(self, ground: &Ground, kind: Kind, sizes: &Sizes) -> anyhow::Result<Found> {
        let one_room = Layout::rooms(1, sizes.sockets);
        let direct = Layout::rooms(sizes.sockets / 2, 2);
        match self {
            Self::Room => saturated(ground, kind, one_room, sizes).await,
            Self::LargeRoom => saturated(ground, kind, Layout::rooms(1, sizes.large), sizes).await,
            Self::SmallRooms => {
                saturated(ground, kind, Layout::rooms(sizes.sockets / SMALL, SMALL), sizes).await
            }
            Self::DirectChats => saturated(ground, kind, direct, sizes).await,
            Self::Lone => at_rate(ground, (kind, direct), 100.0, sizes.warming, sizes.measuring_lone).await,
            Self::Moderate => {
                at_rate(ground, (kind, one_room), 50_000.0, sizes.warming, sizes.measuring).await
            }
            Self::Busy => at_rate(ground, (kind, one_room), 200_000.0, sizes.warming, sizes.measuring).await,
            Self::Idle => idle(ground, kind, sizes).await,
            Self::Storm => storm(ground, kind, sizes.storm).await,
            Self::Cut => cut(ground, kind, sizes.cut).await,
        }
    }
}

/// Where a measurement began, or ended.
struct Moment {
    at: Instant,
    delivered: u64,
    bytes: u64,
    usage: Usage,
}

/// Ends a thread that publishes, also when the measurement fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Delivers as much as the server takes.
async fn saturated(ground: &Ground, kind: Kind, layout: Layout, sizes: &Sizes) -> anyhow::Result<Found> {
    let server = ground.start(kind, layout).await?;
    let mut fleet = Fleet::new(&server.target);
    fleet.connect(0..layout.users(), OPENING).await?;
    let progress = fleet.progress.clone();
    let look = || {
        anyhow::Ok(Moment {
            at: Instant::now(),
            delivered: progress.delivered(),
            bytes: progress.bytes.load(Ordering::Relaxed),
            usage: server.usage()?,
        })
    };
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let window = WINDOW.max(WINDOW_RECORDS * layout.size as u64);
    let mut publisher = Publisher::of(&server, ground)?;
    let publishing = spawn_blocking({
        let (progress, stop) = (progress.clone(), stop.0.clone());
        move || publisher.saturate(&progress, window, &stop)
    });
    sleep(sizes.warming).await;
    let begin = look()?;
    sleep(sizes.measuring).await;
    let end = look()?;
    drop(stop);
    let due = publishing.await??;
    progress.until("the last deliveries", |progress| progress.delivered() >= due).await?;
    ensure!(progress.delivered() == due, "{} deliveries of {due}: some came twice", progress.delivered());

    let delivered = (end.delivered - begin.delivered) as f64;
    ensure!(delivered > 0.0, "nothing was delivered");
    let processor = (end.usage - begin.usage).processor.as_secs_f64();
    Ok(vec![
        (Metric::PerProcessor, delivered / processor / 1e6),
        (Metric::PerSecond, delivered / (end.at - begin.at).as_secs_f64() / 1e6),
        (Metric::BytesEach, (end.bytes - begin.bytes) as f64 / delivered),
    ])
}

/// Delivers at a fixed rate, and times each delivery from the moment that its record was due.
async fn at_rate(
    ground: &Ground,
    (kind, layout): (Kind, Layout),
    per_second: f64,
    warming: Duration,
    measuring: Duration,
) -> anyhow::Result<Found> {
    let server = ground.start(kind, layout).await?;
    let mut fleet = Fleet::new(&server.target);
    fleet.connect(0..layout.users(), OPENING).await?;
    let progress = fleet.progress.clone();
    let mut publisher = Publisher::of(&server, ground)?;
    // Whose records come late is timed too: nothing of it is left out.
    let (mut publisher, warmed) = spawn_blocking(move || {
        publisher.at_rate(per_second, warming).map(|deliveries| (publisher, deliveries))
    })
    .await??;
    progress.until("the first deliveries", |progress| progress.delivered() >= warmed).await?;
    progress.take_times();
    let (before, bytes) = (server.usage()?, progress.bytes.load(Ordering::Relaxed));
    let deliveries = spawn_blocking(move || publisher.at_rate(per_second, measuring)).await??;
    let all = warmed + deliveries;
    progress.until("the last deliveries", |progress| progress.delivered() >= all).await?;
    let used = server.usage()? - before;
    let bytes = progress.bytes.load(Ordering::Relaxed) - bytes;
    let times = &progress.times;
    Ok(vec![
        (Metric::P50, times.percentile_ms(0.5)),
        (Metric::P99, times.percentile_ms(0.99)),
        (Metric::P999, times.percentile_ms(0.999)),
        (Metric::ProcessorEach, used.processor.as_secs_f64() * 1e6 / deliveries as f64),
        (Metric::BytesEach, bytes as f64 / deliveries as f64),
    ])
}

/// Weighs connections that do nothing, and again when each has read a page and taken a burst.
async fn idle(ground: &Ground, kind: Kind, sizes: &Sizes) -> anyhow::Result<Found> {
    let layout = Layout::rooms(sizes.idle / KEPT, KEPT);
    let server = ground.start(kind, layout).await?;
    server.store_pages();
    let mut fleet = Fleet::new(&server.target);
    fleet.connect(0..FIRST, OPENING).await?;
    sleep(sizes.settling).await;
    let before = server.usage()?;
    fleet.connect(FIRST..layout.users(), OPENING).await?;
    sleep(sizes.settling).await;
    let fresh = server.usage()? - before;

    fleet.read_pages(OPENING).await?;
    let progress = fleet.progress.clone();
    let due = progress.delivered() + (layout.users() * sizes.burst) as u64;
    let mut publisher = Publisher::of(&server, ground)?;
    let burst = sizes.burst;
    spawn_blocking(move || (0..burst).try_for_each(|number| publisher.publish_to_all(number))).await??;
    progress.until("the burst", |progress| progress.delivered() >= due).await?;
    sleep(sizes.settling).await;
    let used = server.usage()? - before;
    let each = (layout.users() - FIRST) as f64;
    Ok(vec![
        (Metric::ResidentFresh, fresh.resident_kib / each),
        (Metric::PrivateFresh, fresh.private_kib / each),
        (Metric::ResidentUsed, used.resident_kib / each),
        (Metric::PrivateUsed, used.private_kib / each),
        (Metric::Repeated, fleet.progress.repeated.load(Ordering::Relaxed) as f64),
    ])
}

/// Connects all at the same moment.
async fn storm(ground: &Ground, kind: Kind, users: usize) -> anyhow::Result<Found> {
    let server = ground.start(kind, Layout::rooms(1, users)).await?;
    // The first connection has the keys of the realm fetched.
    let mut first = Fleet::new(&server.target);
    first.connect(0..1, 1).await?;
    drop(first.cut().await);
    let before = server.usage()?;
    let mut fleet = Fleet::new(&server.target);
    let took = fleet.connect(0..users, users).await?;
    let used = server.usage()? - before;
    Ok(vec![
        (Metric::Authenticated, took.as_secs_f64()),
        (Metric::ProcessorEach, used.processor.as_secs_f64() * 1e6 / users as f64),
        (Metric::FailedTries, fleet.progress.failed_tries.load(Ordering::Relaxed) as f64),
    ])
}

/// Cuts all connections at once. All come back at the same moment and fetch what they missed, while more comes.
async fn cut(ground: &Ground, kind: Kind, users: usize) -> anyhow::Result<Found> {
    let layout = Layout { is_kept: true, ..Layout::rooms(users / KEPT, KEPT) };
    let users = layout.users();
    let server = ground.start(kind, layout).await?;
    let mut before = Fleet::new(&server.target);
    before.connect(0..users, OPENING).await?;
    let epochs = before.cut().await;
    let mut publisher = Publisher::of(&server, ground)?;
    let mut publisher = spawn_blocking(move || {
        (0..MISSED as usize).try_for_each(|number| publisher.publish_to_all(number)).map(|()| publisher)
    })
    .await??;

    let used = server.usage()?;
    let began = Instant::now();
    let publishing = spawn_blocking(move || {
        (MISSED as usize..KEPT_RECORDS as usize).try_for_each(|number| {
            std::thread::sleep(BETWEEN_RECORDS);
            publisher.publish_to_all(number)
        })
    });
    let mut fleet = Fleet::new(&server.target);
    let authenticated = fleet.connect_again(0..users, users, epochs).await?;
    publishing.await??;
    let complete = |progress: &Progress| progress.complete.load(Ordering::Relaxed);
    let outcome = fleet.progress.until("all records", |progress| complete(progress) >= users).await;
    let took = began.elapsed();
    let used = server.usage()? - used;
    if let Err(error) = outcome {
        // Who misses something is counted.
        println!("{error:#}");
    }
    let gaps = users - complete(&fleet.progress);
    Ok(vec![
        (Metric::Authenticated, authenticated.as_secs_f64()),
        (Metric::Complete, took.as_secs_f64()),
        (Metric::Gaps, gaps as f64),
        (Metric::Repeated, fleet.progress.repeated.load(Ordering::Relaxed) as f64),
        (Metric::ProcessorEach, used.processor.as_secs_f64() * 1e6 / users as f64),
        (Metric::FailedTries, fleet.progress.failed_tries.load(Ordering::Relaxed) as f64),
    ])
}
