//! 20,000 entries of all kinds by 20 users in 5 chats, over two gateways and two owners of the log, while everything on their path is
//! killed in a random order. The pods of a service come back one after the other: partitions change hands in the middle of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    env,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use contracts::{ChatId, MessageKey, UserId, event::EntryKind};
use e2e::{
    World,
    checker::{self, Acked},
    eventually,
    faults::{Part, RECOVERY},
    processes::memory_line,
    report, story,
    users::{Online, TestUser},
};
use futures_util::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use posthouse_client::{Post, Receipt, SendFailure};
use rand::seq::SliceRandom as _;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

const TENANT: &str = "e2edelivery";
const USERS: usize = 20;
const CHATS: usize = 5;
/// Every user writes in two chats, so each chat has eight members.
const CHATS_PER_USER: usize = 2;
/// Unsettled sends that one user may have: enough to go on through an outage of some seconds.
const WINDOW: usize = 64;
/// What everything but the entries takes: users, outages, the reading of what is stored.
const SLACK: Duration = Duration::from_secs(480);
/// Entries about an earlier message come after so many new messages of a user.
const CHANGE_EVERY: usize = 3;
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(150);
/// Resends of what an outage delayed arrive until then; they do not count as normal operation.
const AFTERMATH: Duration = Duration::from_secs(5);
/// After the last send, until every receiver has everything.
const SETTLING: Duration = Duration::from_secs(120);

/// How many entries are sent in all, how many a second at most, and how often each part is killed meanwhile.
struct Load {
    messages: usize,
    per_second: usize,
    kills: usize,
}

impl Load {
    fn from_environment() -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
        Self {
            messages: number("PH_DELIVERY_MESSAGES").unwrap_or(20_000),
            // Two cores carry the stack, the tenants and these users; 160 pushes a message-second are left over.
            per_second: number("PH_DELIVERY_RATE").unwrap_or(200),
            kills: number("PH_DELIVERY_KILLS").unwrap_or(1),
        }
    }

    /// What the tenant's manifest lets its users send: twice as much as they do, so that none of it is held up.
    fn limits(&self) -> serde_json::Value {
        let twice = |shares: usize| {
            let rate = 2 * self.per_second.div_ceil(shares);
            json!({ "perSecond": rate, "burst": 4 * rate })
        };
        json!({ "userSends": twice(USERS), "chatSends": twice(CHATS), "tenantSends": twice(1) })
    }

    /// How long it may take: twice as long as at the full rate, and a minute for each kill.
    fn limit(&self) -> Duration {
        let minutes = u64::try_from(self.kills * Part::PATH.len()).expect("few kills");
        SLACK
            + Duration::from_secs_f64(2.0 * self.messages as f64 / self.per_second as f64)
            + Duration::from_secs(60 * minutes)
    }
}

/// One settled send.
struct Settled {
    acked: Acked,
    sent_at: Duration,
    stored_after: Duration,
    resends: u32,
}

/// What all senders share.
struct Ledger {
    began: Instant,
    settled: Mutex<Vec<Settled>>,
    sent: Mutex<HashSet<MessageKey>>,
    stored: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acked_is_lost_while_everything_on_the_path_is_killed() {
    let load = Load::from_environment();
    story(load.limit(), async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let services = json!({ "gateway": { "replicas": 2 }, "message": { "replicas": 2 } });
        let spec = json!({ "deletionPolicy": "Delete", "services": services, "limits": load.limits() });
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        report(format!("memory before: {}", memory_line(&world.cluster.usage().await?)));
        let users = TestUser::crowd(&world.stack.messenger(TENANT), "rider", USERS).await?;
        let (chats, members) = chats(&users).await?;
        let mut online = Vec::new();
        for (number, user) in users.iter().enumerate() {
            online.push(user.online(&chats_of(number, &chats)).await);
        }
        let ledger = Ledger {
            began: Instant::now(),
            settled: Mutex::default(),
            sent: Mutex::default(),
            stored: AtomicUsize::new(0),
        };

        let senders = async {
            let each = load.messages / USERS;
            let pace = Duration::from_secs_f64(USERS as f64 / load.per_second as f64);
            let riders = users.iter().zip(&online).enumerate().map(|(number, (user, online))| {
                let chats = chats_of(number, &chats);
                ride(&ledger, user.id(), online, chats, each, pace)
            });
            try_join_all(riders).await.map(drop)
        };
        // A send that fails ends it, and not a limit some hours later.
        let ((), outages) = tokio::try_join!(senders, kills(world, &ledger, &load))?;
        let took = ledger.began.elapsed();
        report(format!("memory after: {}", memory_line(&world.cluster.usage().await?)));

        let histories = histories(&users, &chats).await?;
        for (number, online) in online.iter().enumerate() {
            for chat in chats_of(number, &chats) {
                let head = histories[&chat].last().map_or(0, |message| message.seq);
                online.sees(chat, head, SETTLING).await?;
            }
        }
        report_figures(&ledger, &outages, &online, took, members);
        let settled = ledger.settled.into_inner().expect("no sender panicked");
        ensure!(settled.len() == load.messages / USERS * USERS, "{} messages are stored", settled.len());
        let acked: Vec<Acked> = settled.into_iter().map(|settled| settled.acked).collect();
        let seen: Vec<_> = online
            .iter()
            .flat_map(|online| {
                let entries = std::mem::take(&mut online.seen().entries);
                entries.into_iter().map(|(chat, entries)| (online.name.clone(), chat, entries))
            })
            .collect();
        ensure!(seen.len() == USERS * CHATS_PER_USER, "a member saw nothing of a chat");
        let sent = ledger.sent.into_inner().expect("no sender panicked");
        let faults = checker::verdict(&acked, &sent, &histories, &seen);
        ensure!(faults.is_empty(), "{faults:#?}");
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

async fn chats(users: &[TestUser]) -> anyhow::Result<(Vec<ChatId>, usize)> {
    let mut chats = Vec::new();
    let mut members = 0;
    for chat in 0..CHATS {
        let inside: Vec<&TestUser> =
            (0..users.len()).filter(|user| numbers(*user).any(|c| c == chat)).map(|n| &users[n]).collect();
        members += inside.len();
        let others: Vec<UserId> = inside[1..].iter().map(|user| user.id()).collect();
        chats.push(inside[0].group(&format!("chat {chat}"), &others).await?);
    }
    Ok((chats, members / CHATS))
}

/// Returns the numbers of the chats that a user is in.
fn numbers(user: usize) -> impl Iterator<Item = usize> {
    (0..CHATS_PER_USER).map(move |nth| (user + nth) % CHATS)
}

fn chats_of(user: usize, chats: &[ChatId]) -> Vec<ChatId> {
    numbers(user).map(|number| chats[number]).collect()
}

/// Sends `number` messages of one user at a pace, some of them still under way when the next one is written.
async fn ride(
    ledger: &Ledger,
    sender: UserId,
    online: &Online,
    chats: Vec<ChatId>,
    number: usize,
    pace: Duration,
) -> anyhow::Result<()> {
    let mut clock = interval(pace);
    // After an outage the rate stays what it was, rather than making up for lost time.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    let mut written = 0;
    // By chat, the messages of this user that no later entry speaks of.
    let mut plain: HashMap<ChatId, VecDeque<i64>> = HashMap::new();
    while written < number || !under_way.is_empty() {
        tokio::select! {
            _ = clock.tick(), if written < number && under_way.len() < WINDOW => {
                let (chat, key) = (chats[written % chats.len()], MessageKey::generate());
                let earlier = plain.entry(chat).or_default();
                let target = if written % CHANGE_EVERY == 0 { earlier.pop_front() } else { None };
                let post = post(written, &online.name, target);
                ledger.sent.lock().expect("no sender panicked").insert(key);
                written += 1;
                let sent_at = ledger.began.elapsed();
                let outcome = online.session.send_keyed(chat, key, post.clone());
                under_way.push(async move { (chat, post, sent_at, outcome.await) });
            }
            Some((chat, post, sent_at, outcome)) = under_way.next() => {
                let receipt: Receipt = outcome.map_err(|failure: SendFailure| {
                    anyhow::anyhow!("{}: {failure}; failures: {:?}", online.name, online.seen().failures)
                })?;
                if matches!(post, Post::Text { reply_to: None, .. }) {
                    plain.entry(chat).or_default().push_back(receipt.seq);
                }
                let (kind, body) = stored_as(post);
                let acked = Acked { chat, key: receipt.key, sender, seq: receipt.seq, kind, body };
                let settled = Settled { acked, sent_at, stored_after: receipt.stored_after, resends: receipt.resends };
                ledger.settled.lock().expect("no sender panicked").push(settled);
                ledger.stored.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Returns the entry that a user writes: a message, or one of all kinds about an earlier message of theirs. A message is spoken of once, so
/// that nothing is refused.
fn post(number: usize, name: &str, target: Option<i64>) -> Post {
    let body = format!("message {number} of {name}, {}", "m".repeat(100));
    let Some(seq) = target else { return body.into() };
    match (number / CHANGE_EVERY) % 5 {
        0 => Post::Edit { seq, body },
        1 => Post::React { seq, emoji: "\u{1f40e}".to_owned(), remove: false },
        2 => Post::Text {
            body,
            reply_to: Some(seq),
            mentions: Vec::new(),
            mention_all: true,
            mention_roles: Vec::new(),
            mention_here: false,
            silent: false,
            attachments: Vec::new(),
        },
        // Eight members pin in a chat, which takes a thousand.
        3 if number < 100 * 5 * CHANGE_EVERY => Post::Pin { seq, remove: false },
        3 => Post::React { seq, emoji: "\u{1f44d}".to_owned(), remove: false },
        _ => Post::Delete { seq },
    }
}

/// Returns the kind and the body of what it is stored as.
fn stored_as(post: Post) -> (EntryKind, String) {
    match post {
        Post::Text { body, .. } => (EntryKind::Text, body),
        Post::Edit { body, .. } => (EntryKind::Edit, body),
        Post::React { emoji, remove: false, .. } => (EntryKind::Reaction, emoji),
        Post::React { emoji, remove: true, .. } => (EntryKind::ReactionRemoved, emoji),
        Post::Pin { remove: false, .. } => (EntryKind::Pin, String::new()),
        Post::Pin { remove: true, .. } => (EntryKind::Unpin, String::new()),
        Post::Delete { .. } => (EntryKind::Delete, String::new()),
        Post::DeleteRange { .. } => (EntryKind::DeleteRange, String::new()),
        // Its text is another message's.
        Post::Forward { .. } => (EntryKind::Text, String::new()),
    }
}

/// From a kill until messages were stored again.
struct Outage {
    from: Duration,
    until: Duration,
}

/// Kills everything on the path, in a random order, each when its share of the entries is stored and the one before has recovered.
async fn kills(world: &World, ledger: &Ledger, load: &Load) -> anyhow::Result<Vec<Outage>> {
    let mut targets = Part::PATH.repeat(load.kills);
    targets.shuffle(&mut rand::rng());
    report(format!("to be killed, in this order: {targets:?}"));
    let mut outages = Vec::new();
    for (number, &part) in (1..).zip(&targets) {
        let share = load.messages * number / (targets.len() + 1);
        eventually(&format!("{share} entries are stored"), load.limit(), || async {
            let stored = ledger.stored.load(Ordering::Relaxed);
            ensure!(stored >= share, "{stored} are stored");
            Ok(())
        })
        .await?;
        let from = ledger.began.elapsed();
        part.kill(world, TENANT).await?;
        let what = part.name();
        let back = ledger.began.elapsed();
        // What was on its way before does not count: a message that is sent now must be stored.
        eventually(&format!("messages are stored after the {what} were killed"), RECOVERY, || async {
            let settled = ledger.settled.lock().expect("no sender panicked");
            ensure!(settled.iter().rev().take(2_000).any(|settled| settled.sent_at > back), "none yet");
            Ok(())
        })
        .await?;
        let until = ledger.began.elapsed();
        report(format!(
            "    {:>7.0} s: {share:>9} entries of {}; {what:<12} killed, {:>5.1} s until messages were stored again",
            from.as_secs_f64(),
            load.messages,
            (until - from).as_secs_f64(),
        ));
        outages.push(Outage { from, until });
    }
    Ok(outages)
}

async fn histories(
    users: &[TestUser],
    chats: &[ChatId],
) -> anyhow::Result<HashMap<ChatId, Vec<contracts::wire::Message>>> {
    let mut histories = HashMap::new();
    for (number, &chat) in chats.iter().enumerate() {
        // User n is in chat n by the numbers above.
        histories.insert(chat, users[number].history(chat).await?);
    }
    Ok(histories)
}

fn report_figures(ledger: &Ledger, outages: &[Outage], online: &[Online], took: Duration, members: usize) {
    let settled = ledger.settled.lock().expect("no sender panicked");
    let during = |settled: &Settled| {
        let stored_at = settled.sent_at + settled.stored_after;
        outages.iter().any(|outage| settled.sent_at <= outage.until + AFTERMATH && stored_at >= outage.from)
    };
    let times = |outage: bool| {
        let mut times: Vec<f64> = settled
            .iter()
            .filter(|settled| during(settled) == outage)
            .map(|settled| settled.stored_after.as_secs_f64() * 1_000.0)
            .collect();
        times.sort_by(f64::total_cmp);
        format!(
            "{} messages, p50 {:.1} ms, p99 {:.1} ms",
            times.len(),
            checker::percentile(&times, 50),
            checker::percentile(&times, 99)
        )
    };
    let resent = settled.iter().filter(|settled| settled.resends > 0).count();
    let (mut pushed, mut refetched, mut connected) = (0, 0, 0);
    for online in online {
        let seen = online.seen();
        pushed += seen.pushed;
        refetched += seen.refetched;
        connected += seen.connected;
    }
    report(format!(
        "{} acked in {:.0} s by {USERS} users in {CHATS} chats of {members}; {resent} of them were sent more than once\n\
         entries pushed {pushed}, refetched {refetched}; connections opened {connected}\n\
         send to stored outside outages: {}\n\
         send to stored during outages and {} s after each:  {}",
        settled.len(),
        took.as_secs_f64(),
        times(false),
        AFTERMATH.as_secs(),
        times(true),
    ));
}
