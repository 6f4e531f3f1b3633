//! One suite for every shelf of a cache, and what Redis adds to it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{future::join_all, poll};
use kit::{
    cache::{Cache, Loaded, Metrics, Outcome, Policy, Shelf, Versioned},
    config::{RedisArgs, Tls, TrustArgs},
    testing::{TestCache, wait_for},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

const NAMES: Policy = Policy {
    name: "names",
    format: 1,
    keep: Duration::from_secs(60),
    keep_absence: Some(Duration::from_secs(60)),
};
/// So long that a busy machine makes no difference.
const PATIENT: Duration = Duration::from_secs(20);

/// Where the truth is: a name with a version, or none.
#[derive(Clone)]
struct Truth {
    name: Arc<std::sync::Mutex<Option<String>>>,
    version: Arc<AtomicI64>,
    reads: Arc<AtomicU64>,
    /// How many reads may go on, each with what it found.
    gate: Arc<Semaphore>,
}

impl Truth {
    fn of(name: &str) -> Self {
        Self {
            name: Arc::new(std::sync::Mutex::new(Some(name.to_owned()))),
            version: Arc::new(AtomicI64::new(1)),
            reads: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// Returns one whose reads wait until they are let through.
    fn gated(name: &str) -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::of(name) }
    }

    fn change(&self, name: Option<&str>) -> i64 {
        *self.name.lock().expect("no panic") = name.map(str::to_owned);
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn found(&self) -> Option<Versioned<String>> {
        let name = self.name.lock().expect("no panic").clone();
        name.map(|value| Versioned { value, version: self.version.load(Ordering::SeqCst) })
    }

    async fn read(self) -> Loaded<String, &'static str> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let found = self.found();
        self.gate.acquire().await.expect("it stays open").forget();
        Ok(found)
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

type Names = Cache<String, &'static str>;

fn names(shelf: &Shelf) -> (Names, Metrics) {
    let metrics = Metrics::default();
    (Cache::new(NAMES, shelf.clone(), metrics.clone()), metrics)
}

/// Reads at the truth what is not kept.
async fn get(names: &Names, truth: &Truth) -> Option<String> {
    let truth = truth.clone();
    names.get("ann", move || truth.read()).await.expect("the truth")
}

/// Returns the name that is kept.
async fn kept(names: &Names) -> Option<String> {
    names.get("ann", || async { Err("nothing is kept") }).await.expect("something is kept")
}

async fn is_kept(names: &Names) -> bool {
    names.get("ann", || async { Err("nothing is kept") }).await.is_ok()
}

/// Goes on with a reader until it has begun the first read at the truth, which holds it up.
async fn reads_first(truth: &Truth, reader: &mut (impl Future + Unpin)) {
    let began = async || (truth.reads() == 1).then_some(());
    tokio::select! {
        _ = reader => panic!("it is held up"),
        () = wait_for("the read of version 1", PATIENT, began) => {}
    }
}

fn tenant() -> String {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..12])
}

fn shelf(args: &RedisArgs, tenant: &str) -> Shelf {
    Shelf::patient_redis(args, tenant, PATIENT).expect("settings")
}

/// Two processes: each has a shelf of its own, and both are the same place. Or one, in memory.
macro_rules! suite {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $story() {
                    let shelf = super::Shelf::memory();
                    super::$story(&shelf, &shelf).await;
                }
            )*
        }
        mod redis {
            $(
                #[tokio::test]
                async fn $story() {
                    let tenant = super::tenant();
                    let redis = super::TestCache::create(&tenant).await;
                    let one = super::shelf(&redis.args(), &tenant);
                    super::$story(&one, &super::shelf(&redis.args(), &tenant)).await;
                }
            )*
        }
    };
}

suite![
    what_one_process_read_another_finds,
    a_hundred_readers_at_once_load_once,
    a_slow_reader_puts_nothing_old_over_what_is_newer,
    a_slow_reader_brings_nothing_back_that_was_forgotten,
    who_reads_after_a_change_sees_it,
    what_is_not_there_is_kept_until_it_comes_into_being,
    a_failure_is_kept_for_no_one,
    many_are_found_at_once_and_only_the_missing_are_loaded,
    a_value_without_a_version_and_one_that_is_too_long_are_not_kept,
    a_value_ends_and_before_it_does_one_reader_reads_it_again,
    caches_of_two_names_or_formats_share_nothing,
];

async fn what_one_process_read_another_finds(here: &Shelf, there: &Shelf) {
    let ((one, first), (other, second), truth) = (names(here), names(there), Truth::of("Ann"));
    assert_eq!(get(&one, &truth).await.as_deref(), Some("Ann"));
    for _ in 0..3 {
        assert_eq!(get(&other, &truth).await.as_deref(), Some("Ann"));
    }
    assert_eq!(truth.reads(), 1);
    assert_eq!((first.counted("names", Outcome::Miss), first.counted("names", Outcome::Hit)), (1, 0));
    assert_eq!((second.counted("names", Outcome::Miss), second.counted("names", Outcome::Hit)), (0, 3));
}

async fn a_hundred_readers_at_once_load_once(here: &Shelf, _: &Shelf) {
    let ((names, metrics), truth) = (names(here), Truth::gated("Ann"));
    let readers: Vec<_> = (0..100).map(|_| Box::pin(get(&names, &truth))).collect();
    let mut readers = Box::pin(join_all(readers));
    assert!(poll!(&mut readers).is_pending());
    // However many may go on, one does.
    truth.gate.add_permits(100);
    let found = readers.await;
    assert!(found.iter().all(|name| name.as_deref() == Some("Ann")));
    assert_eq!(truth.reads(), 1);
    let counted = |outcome| metrics.counted("names", outcome);
    assert_eq!((counted(Outcome::Miss), counted(Outcome::Hit)), (1, 99));
}

async fn a_slow_reader_puts_nothing_old_over_what_is_newer(here: &Shelf, there: &Shelf) {
    let ((slow, _), (writer, _), truth) = (names(here), names(there), Truth::gated("Ann"));
    let mut reader = Box::pin(get(&slow, &truth));
    reads_first(&truth, &mut reader).await;
    let version = truth.change(Some("Anna"));
    writer.put("ann", &Versioned { value: "Anna".to_owned(), version }).await;
    truth.gate.add_permits(1);
    assert_eq!(reader.await.as_deref(), Some("Ann"), "it came before the change");
    assert_eq!(kept(&slow).await.as_deref(), Some("Anna"));
    assert_eq!(kept(&writer).await.as_deref(), Some("Anna"));
    // Changes may come in another order than they were made in.
    writer.put("ann", &Versioned { value: "Anne".to_owned(), version: version + 2 }).await;
    writer.put("ann", &Versioned { value: "Annie".to_owned(), version: version + 1 }).await;
    assert_eq!(kept(&slow).await.as_deref(), Some("Anne"));
}

async fn a_slow_reader_brings_nothing_back_that_was_forgotten(here: &Shelf, there: &Shelf) {
    let ((slow, _), (eraser, _), truth) = (names(here), names(there), Truth::gated("Ann"));
    let mut reader = Box::pin(get(&slow, &truth));
    reads_first(&truth, &mut reader).await;
    let version = truth.change(Some("a deleted account"));
    eraser.forget("ann", version).await;
    truth.gate.add_permits(1);
    assert_eq!(reader.await.as_deref(), Some("Ann"), "it came before the change");
    assert!(!is_kept(&slow).await && !is_kept(&eraser).await);
    truth.gate.add_permits(1);
    assert_eq!(get(&slow, &truth).await.as_deref(), Some("a deleted account"));
    assert_eq!(kept(&eraser).await.as_deref(), Some("a deleted account"));
}

async fn who_reads_after_a_change_sees_it(here: &Shelf, _: &Shelf) {
    let ((names, _), truth) = (names(here), Truth::gated("Ann"));
    let mut before = Box::pin(get(&names, &truth));
    reads_first(&truth, &mut before).await;
    let version = truth.change(Some("Anna"));
    names.put("ann", &Versioned { value: "Anna".to_owned(), version }).await;
    let mut after = Box::pin(get(&names, &truth));
    assert!(poll!(&mut after).is_pending(), "it does not share a read that began before it came");
    truth.gate.add_permits(2);
    assert_eq!((before.await.as_deref(), after.await.as_deref()), (Some("Ann"), Some("Anna")));
}

async fn what_is_not_there_is_kept_until_it_comes_into_being(here: &Shelf, there: &Shelf) {
    let ((one, _), (other, _), truth) = (names(here), names(there), Truth::of("Ann"));
    truth.change(None);
    for names in [&one, &other, &one] {
        assert_eq!(get(names, &truth).await, None);
    }
    assert_eq!(truth.reads(), 1);
    other.put("ann", &Versioned { value: "Ann".to_owned(), version: 1 }).await;
    assert_eq!(kept(&one).await.as_deref(), Some("Ann"));
}

async fn a_failure_is_kept_for_no_one(here: &Shelf, _: &Shelf) {
    let ((names, _), truth) = (names(here), Truth::of("Ann"));
    let failed = names.get("ann", || async { Err("the truth is away") }).await;
    assert_eq!(failed, Err("the truth is away"));
    assert_eq!(get(&names, &truth).await.as_deref(), Some("Ann"));
}

/// Returns users, of whom every fifth is not there.
async fn four_of_five(missing: Vec<u32>) -> Result<Vec<(u32, Versioned<String>)>, &'static str> {
    let found = missing.into_iter().filter(|number| number % 5 != 0);
    Ok(found.map(|number| (number, Versioned { value: format!("user {number}"), version: 1 })).collect())
}

async fn many_are_found_at_once_and_only_the_missing_are_loaded(here: &Shelf, there: &Shelf) {
    let ((one, _), (other, metrics)) = (names(here), names(there));
    let keys: Vec<u32> = (1..=20).collect();
    let found = one.get_many(&keys, four_of_five).await.expect("the truth");
    assert_eq!(found.len(), 16, "those that are not there are left out");
    let more: Vec<u32> = (1..=25).chain([1, 1]).collect();
    let found = other
        .get_many(&more, async |mut missing: Vec<u32>| {
            missing.sort_unstable();
            assert_eq!(missing, [21, 22, 23, 24, 25]);
            four_of_five(missing).await
        })
        .await;
    let found = found.expect("the truth");
    let expected: HashMap<u32, String> =
        (1..=25).filter(|number| number % 5 != 0).map(|number| (number, format!("user {number}"))).collect();
    assert_eq!(found, expected);
    assert_eq!((metrics.counted("names", Outcome::Hit), metrics.counted("names", Outcome::Miss)), (20, 5));
    let nothing = other.get_many(&[], |_: Vec<u32>| async { Err("it is not called") }).await;
    assert_eq!(nothing, Ok(HashMap::new()));
}

async fn a_value_without_a_version_and_one_that_is_too_long_are_not_kept(here: &Shelf, _: &Shelf) {
    let (names, _) = names(here);
    let long = "n".repeat(10_000);
    for (value, version) in [("Ann", 0), ("Ann", -1), (long.as_str(), 7)] {
        let loaded = Versioned { value: value.to_owned(), version };
        let found = names.get("ann", move || async move { Ok(Some(loaded)) }).await;
        assert_eq!(found, Ok(Some(value.to_owned())));
        assert!(!is_kept(&names).await, "version {version}");
    }
    // A change to such a value is none that may be missed.
    names.put("ann", &Versioned { value: "Ann".to_owned(), version: 8 }).await;
    assert!(is_kept(&names).await);
    names.put("ann", &Versioned { value: long, version: 9 }).await;
    assert!(!is_kept(&names).await);
}

async fn a_value_ends_and_before_it_does_one_reader_reads_it_again(here: &Shelf, there: &Shelf) {
    let policy = Policy { keep: Duration::from_secs(4), ..NAMES };
    let metrics = Metrics::default();
    let one = Names::new(policy, here.clone(), metrics.clone());
    let other = Names::new(policy, there.clone(), metrics.clone());
    let truth = Truth::of("Ann");
    let began = Instant::now();
    get(&one, &truth).await;
    truth.change(Some("Anna"));
    let is_read_again = async || {
        get(&one, &truth).await;
        (truth.reads() == 2).then_some(())
    };
    wait_for("the last part of its time", PATIENT, is_read_again).await;
    // On a machine that is very busy its end may come first.
    let (renewed, is_late) = (metrics.counted("names", Outcome::Renewed), began.elapsed() >= policy.keep);
    assert!(renewed == 1 || is_late, "{renewed}");
    assert_eq!(get(&other, &truth).await.as_deref(), Some("Anna"));

    // One that no reader uses ends by itself.
    let short = Policy { name: "short", keep: Duration::from_millis(50), ..NAMES };
    let short = Names::new(short, here.clone(), metrics.clone());
    short.put("ann", &Versioned { value: "Ann".to_owned(), version: 1 }).await;
    let is_gone = async || (!is_kept(&short).await).then_some(());
    wait_for("its end", PATIENT, is_gone).await;
}

async fn caches_of_two_names_or_formats_share_nothing(here: &Shelf, _: &Shelf) {
    let ((names, metrics), truth) = (names(here), Truth::of("Ann"));
    get(&names, &truth).await;
    for policy in [Policy { name: "titles", ..NAMES }, Policy { format: 2, ..NAMES }] {
        assert!(!is_kept(&Names::new(policy, here.clone(), metrics.clone())).await, "{policy:?}");
    }
    // What it cannot read is read again.
    let numbers: Cache<u64, &'static str> = Cache::new(NAMES, here.clone(), metrics);
    let loaded = numbers.get("ann", || async { Ok(Some(Versioned { value: 7, version: 1 })) }).await;
    assert_eq!(loaded, Ok(Some(7)));
}

#[tokio::test]
async fn a_process_fills_no_more_than_there_is_room_for() {
    let (names, _) = names(&Shelf::memory());
    let page = |number: u32| -> Vec<u32> { (0..1_000).map(|key| number * 1_000 + key).collect() };
    for number in 0..10 {
        assert_eq!(names.get_many(&page(number), four_of_five).await.expect("the truth").len(), 800);
    }
    let loaded = AtomicU64::new(0);
    for number in 0..10 {
        let load = |missing: Vec<u32>| {
            loaded.fetch_add(missing.len() as u64, Ordering::SeqCst);
            four_of_five(missing)
        };
        names.get_many(&page(number), load).await.expect("the truth");
    }
    // Of 20,000 reads: the burst, and what is added in the seconds that this takes.
    assert!(loaded.load(Ordering::SeqCst) > 5_000, "{loaded:?}");
}

#[tokio::test]
async fn nothing_is_left_of_what_was_forgotten_and_all_of_it_ends() {
    let tenant = tenant();
    let redis = TestCache::create(&tenant).await;
    let ((names, _), truth) = (names(&shelf(&redis.args(), &tenant)), Truth::of("Annabel"));
    get(&names, &truth).await;
    let key = format!("mt:{tenant}:cache:names.1:ann");
    assert_eq!(redis.keys("").await, std::slice::from_ref(&key));
    assert!(redis.members(&key).await.concat().contains("Annabel"));
    names.forget("ann", truth.change(None)).await;
    let left = redis.members(&key).await;
    assert!(left.len() == 1 && !left.concat().contains("Ann"), "{left:?}");
    // One who was slow leaves nothing behind either.
    names.put("ann", &Versioned { value: "Annabel".to_owned(), version: 1 }).await;
    assert_eq!(redis.members(&key).await, left);

    let short = Policy { keep: Duration::from_millis(300), ..NAMES };
    let short = Names::new(short, shelf(&redis.args(), &tenant), Metrics::default());
    short.put("bob", &Versioned { value: "Bob".to_owned(), version: 1 }).await;
    let bob = format!("mt:{tenant}:cache:names.1:bob");
    let is_gone = async || (!redis.keys("").await.contains(&bob)).then_some(());
    wait_for("the end of a key", PATIENT, is_gone).await;
}

#[tokio::test]
async fn another_tenants_cache_is_refused_and_the_truth_is_read() {
    let (acme, globex) = (tenant(), tenant());
    let (redis, other) = (TestCache::create(&acme).await, TestCache::create(&globex).await);
    let (own, _) = names(&shelf(&redis.args(), &acme));
    own.put("ann", &Versioned { value: "Ann of acme".to_owned(), version: 1 }).await;
    // The account of one with the keys of the other.
    let (stranger, metrics) = names(&shelf(&other.args(), &acme));
    let truth = Truth::of("Ann of globex");
    assert_eq!(get(&stranger, &truth).await.as_deref(), Some("Ann of globex"));
    stranger.put("ann", &Versioned { value: "Mallory".to_owned(), version: 9 }).await;
    stranger.forget("ann", 9).await;
    assert_eq!((metrics.counted("names", Outcome::Bypassed), truth.reads()), (1, 1));
    assert_eq!(kept(&own).await.as_deref(), Some("Ann of acme"));
}

#[tokio::test]
async fn while_redis_refuses_the_truth_is_read_and_then_what_is_kept_again() {
    let tenant = tenant();
    let redis = TestCache::create(&tenant).await;
    let ((names, metrics), truth) = (names(&shelf(&redis.args(), &tenant)), Truth::of("Ann"));
    get(&names, &truth).await;
    redis.set_down(true).await;
    truth.change(Some("Anna"));
    for _ in 0..5 {
        assert_eq!(get(&names, &truth).await.as_deref(), Some("Anna"));
    }
    let bypassed = metrics.counted("names", Outcome::Bypassed);
    assert!(bypassed == 5 && truth.reads() == 6, "{bypassed} of {}", truth.reads());
    redis.flush().await;
    redis.set_down(false).await;
    let is_back = async || {
        get(&names, &truth).await;
        (metrics.counted("names", Outcome::Hit) > 0).then_some(())
    };
    wait_for("Redis", PATIENT, is_back).await;
    assert_eq!(kept(&names).await.as_deref(), Some("Anna"));
}

#[tokio::test]
async fn a_redis_that_says_nothing_costs_one_reader_some_milliseconds() {
    // It takes connections, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let args = RedisArgs {
        redis_addr: silent.local_addr().expect("an address").to_string(),
        redis_tls: Tls::Disabled,
        trust: TrustArgs::default(),
        redis_username: "acme".to_owned(),
        redis_password: "a password".to_owned().into(),
    };
    let (names, metrics) = names(&Shelf::redis(&args, "acme").expect("settings"));
    let truth = Truth::of("Ann");
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(get(&names, &truth).await.as_deref(), Some("Ann"));
    }
    // A thousand waits of 25 ms would be 25 s; it is one, and one more for each second that this takes.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((metrics.counted("names", Outcome::Bypassed), truth.reads()), (1_000, 1_000));
}
