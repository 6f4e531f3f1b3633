//! What a search and its index cost: 100,000 messages in three languages, read into a new index while others arrive.
//!
//! The log, the chat and the message service are in this process, so that the figures are those of the index. What is found in the end is
//! compared with what was sent: a message that is lost or doubled is an error, and no figure.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "figures are its product")]

#[path = "../tests/it/stand.rs"]
mod stand;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use contracts::{ChatId, event::DeliveryOutcome};
use kit::clock::now_ms;
use search::{
    domain::{Document, DocumentId, Place, Progress, Search},
    events::Times,
    store::{Generations, Index, IndexError, Write},
};
use tokio::time::{MissedTickBehavior, interval};
use tonic::async_trait;

use crate::stand::{BEGAN_MS, Peers, Stand, encoded, index_in, search, stored, text};

const CHATS: usize = 100;
/// Messages of each chat that are there before the index.
const BEFORE: i64 = 1_000;
/// They are read into the index within this time. How far it is is said this often.
const BUILT_WITHIN: Duration = Duration::from_secs(300);
const PROGRESS: Duration = Duration::from_secs(5);
/// Looks at what is waited for.
const POLL: Duration = Duration::from_millis(20);
/// What arrives meanwhile, and for how long.
const PER_SECOND: usize = 500;
const ARRIVING: Duration = Duration::from_secs(30);
const TICKS: usize = 20;
const QUERIES: usize = 1_000;
/// A word that every message has.
const EVERYWHERE: &str = "posthouse";
/// Different words of Russian and of English, and characters of Chinese. Of many words, few are frequent.
const WORDS: u64 = 20_000;
const CHARACTERS: u64 = 3_000;

#[tokio::main]
async fn main() {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!("profile {profile}, {} messages in {CHATS} chats", CHATS as i64 * BEFORE);
    let folder = tempfile::tempdir().expect("a folder");
    let mut stand = Stand::create().await;
    stand.peers = Peers::with_pages_of(500);
    let ann = stand.realm.user("ann");
    let chats: Vec<_> = (0..CHATS).map(|_| ChatId::generate()).collect();
    let mut words = Words(1);
    for chat in &chats {
        stand.peers.join(*chat, &ann);
        for seq in 1..=BEFORE {
            stand.peers.put(stored(text(*chat, ann.id, seq, &words.message())));
        }
    }

    let before = Memory::now();
    let index = Arc::new(Timed { index: index_in(folder.path()).served(), lags_ms: Mutex::default() });
    let began = Instant::now();
    stand.times = Times::default();
    let service = stand.start(Arc::new(One(index.clone()))).await;
    println!("memory of a new index: {}", Memory::now().since(&before));

    let mut next: HashMap<ChatId, i64> = chats.iter().map(|chat| (*chat, BEFORE + 1)).collect();
    let arriving = arrive(&stand, &chats, &mut next, &mut words, ann.id);
    let built = async {
        let mut said = began;
        while !service.standing.is_complete() {
            assert!(
                began.elapsed() < BUILT_WITHIN,
                "{} % are read in {BUILT_WITHIN:?}",
                service.standing.percent()
            );
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                println!("{} % of all chats are read", service.standing.percent());
            }
            tokio::time::sleep(POLL).await;
        }
        println!("all chats were read within {:.1} s, beside what arrived", began.elapsed().as_secs_f64());
    };
    let (sent, ()) = tokio::join!(arriving, built);
    let expected: BTreeSet<(ChatId, i64)> =
        next.iter().flat_map(|(chat, next)| (1..*next).map(|seq| (*chat, seq))).collect();
    let seats: Vec<_> = chats.iter().map(|chat| (*chat, 1)).collect();
    let everything =
        Search { reader: ann.id, limit: 2 * expected.len(), now_ms: now_ms(), ..search(EVERYWHERE, &seats) };
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = loop {
        let found = index.search(everything.clone()).await.expect("an answer");
        if found.len() >= expected.len() || Instant::now() > deadline {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let once: BTreeSet<_> = found.iter().map(|place| (place.chat, place.seq)).collect();
    assert_eq!(once.len(), found.len(), "no message is doubled");
    assert_eq!(once, expected, "no message is lost");
    println!("{sent} messages arrived meanwhile: none of {} is lost or doubled", found.len());
    let mut lags = std::mem::take(&mut *index.lags_ms.lock().unwrap_or_else(PoisonError::into_inner));
    report("from sent to found at 500 messages/s", &mut lags);

    // A first round opens what is mapped.
    for round in 0..2 {
        let mut times: HashMap<&str, Vec<f64>> = HashMap::new();
        for number in 0..QUERIES {
            let (kind, query) = words.query(number);
            let began = Instant::now();
            service.page(&ann, &encoded(&query)).await;
            times.entry(kind).or_default().push(1_000.0 * began.elapsed().as_secs_f64());
        }
        if round > 0 {
            let mut all: Vec<_> = times.values().flatten().copied().collect();
            for (kind, times) in &mut times {
                report(&format!("a search for {kind}"), times);
            }
            report("a search of any kind", &mut all);
        }
    }
    println!("memory with all of it: {}", Memory::now().since(&before));
    println!("files of the index: {} MiB", bytes(folder.path()) >> 20);
    service.end().await;
}

/// Sends messages with a steady rate. Returns how many.
async fn arrive(
    stand: &Stand,
    chats: &[ChatId],
    next: &mut HashMap<ChatId, i64>,
    words: &mut Words,
    sender: contracts::UserId,
) -> usize {
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(TICKS).expect("few"));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let all = PER_SECOND * usize::try_from(ARRIVING.as_secs()).expect("few");
    let mut sent = 0;
    while sent < all {
        ticks.tick().await;
        let mut records = Vec::new();
        for number in sent..sent + PER_SECOND / TICKS {
            let chat = chats[number % chats.len()];
            let seq = next.get_mut(&chat).expect("a chat");
            let mut record = text(chat, sender, *seq, &words.message());
            if let DeliveryOutcome::Stored { sent_at_ms, .. } = &mut record.outcome {
                *sent_at_ms = now_ms();
            }
            *seq += 1;
            records.push(record);
        }
        sent += records.len();
        stand.announce(records).await;
    }
    sent
}

/// The one generation of the benchmark.
struct One(Arc<Timed>);

#[async_trait]
impl Generations for One {
    fn served(&self) -> Arc<dyn Index> {
        self.0.clone()
    }

    fn next(&self) -> Option<Arc<dyn Index>> {
        None
    }

    fn is_outdated(&self) -> bool {
        false
    }

    async fn check_room(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn begin(&self) -> Result<Arc<dyn Index>, IndexError> {
        Err(IndexError::NotBegun)
    }

    async fn switch(&self) -> Result<(), IndexError> {
        Err(IndexError::NotBegun)
    }
}

/// An index that notes when a message that was just sent can be found.
struct Timed {
    index: Arc<dyn Index>,
    lags_ms: Mutex<Vec<f64>>,
}

#[async_trait]
impl Index for Timed {
    async fn progress(&self) -> Result<Option<Progress>, IndexError> {
        self.index.progress().await
    }

    async fn documents(&self, ids: Vec<DocumentId>) -> Result<HashMap<DocumentId, Document>, IndexError> {
        self.index.documents(ids).await
    }

    async fn write(&self, write: Write) -> Result<(), IndexError> {
        let sent_at_ms = write.documents.iter().filter_map(|document| match document {
            Document::Text(text) => Some(text.sent_at_ms),
            Document::Beginning(_) => None,
        });
        // The others were there before.
        let sent_at_ms: Vec<_> = sent_at_ms.filter(|ms| *ms > BEGAN_MS + 2_000 * BEFORE).collect();
        self.index.write(write).await?;
        let now_ms = now_ms();
        let lags = sent_at_ms.into_iter().map(|ms| (now_ms - ms) as f64);
        self.lags_ms.lock().unwrap_or_else(PoisonError::into_inner).extend(lags);
        Ok(())
    }

    async fn search(&self, search: Search) -> Result<Vec<Place>, IndexError> {
        self.index.search(search).await
    }
}

/// Makes the same words in each run.
struct Words(u64);

impl Words {
    /// Returns a number below `end`; a small one more often than a great one.
    fn number(&mut self, end: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64;
        // By the law of Zipf, as good as.
        ((end as f64).powf(random) - 1.0) as u64
    }

    fn russian(&mut self) -> String {
        let number = self.number(WORDS);
        let syllables = ["ка", "то", "ли", "не", "про", "ста", "вер", "му", "ди", "гор"];
        format!(
            "{}{}",
            spelled(&syllables, number),
            ["", "а", "ов", "ами", "ый", "ого"][self.number(6) as usize]
        )
    }

    fn english(&mut self) -> String {
        let number = self.number(WORDS);
        let syllables = ["bar", "ter", "lo", "ing", "con", "st", "ri", "men", "for", "pla"];
        format!(
            "{}{}",
            spelled(&syllables, number),
            ["", "s", "ed", "ing", "er", "ly"][self.number(6) as usize]
        )
    }

    fn chinese(&mut self) -> String {
        let character = 0x4e00 + u32::try_from(self.number(CHARACTERS)).expect("few");
        char::from_u32(character).expect("a character").to_string()
    }

    fn some(&mut self, count: usize, word: fn(&mut Self) -> String, between: &str) -> String {
        (0..count).map(|_| word(self)).collect::<Vec<_>>().join(between)
    }

    fn message(&mut self) -> String {
        let length = 4 + self.number(30) as usize;
        let text = match self.0 % 3 {
            0 => self.some(length, Self::russian, " "),
            1 => self.some(length, Self::english, " "),
            _ => self.some(2 * length, Self::chinese, ""),
        };
        format!("{text} {EVERYWHERE}")
    }

    fn query(&mut self, number: usize) -> (&'static str, String) {
        match number % 8 {
            0 => ("a word of Russian", self.russian()),
            1 => ("a word of English", self.english()),
            2 => ("two characters of Chinese", self.some(2, Self::chinese, "")),
            3 => ("two words of Russian", self.some(2, Self::russian, " ")),
            4 => ("two words of English", self.some(2, Self::english, " ")),
            5 => ("a phrase of English", format!("\"{}\"", self.some(2, Self::english, " "))),
            6 => (
                "the beginning of a word",
                format!("{}*", self.russian().chars().take(3).collect::<String>()),
            ),
            _ => ("what every message has", EVERYWHERE.to_owned()),
        }
    }
}

fn spelled(syllables: &[&str; 10], number: u64) -> String {
    // As long as words are.
    let digits = format!("{:02}", number);
    digits.bytes().map(|digit| syllables[usize::from(digit - b'0')]).collect()
}

fn report(what: &str, times_ms: &mut [f64]) {
    times_ms.sort_by(f64::total_cmp);
    let at = |percent: usize| times_ms[(times_ms.len() * percent).div_ceil(100).saturating_sub(1)];
    println!("{what}: p50 {:.1} ms, p99 {:.1} ms ({})", at(50), at(99), times_ms.len());
}

/// What the process has, in KiB: its own, and pages of files that the system takes back when it needs them.
struct Memory {
    own: i64,
    files: i64,
}

impl Memory {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("a Linux");
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
            line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
        };
        Self { own: of("RssAnon:"), files: of("RssFile:") }
    }

    fn since(&self, before: &Self) -> String {
        let (own, files) = (self.own - before.own, self.files - before.files);
        format!("{} MiB, and {} MiB of files that are mapped", own / 1_024, files / 1_024)
    }
}

fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                bytes(&entry.path())
            } else {
                entry.metadata().map_or(0, |of| of.len())
            }
        })
        .sum()
}
