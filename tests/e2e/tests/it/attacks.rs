//! One account against its own tenant: as many messages as its sockets take, and groups of users that it made up.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    api::CreateChatRequest,
    wire::{Outcome, ServerFrame},
};
use e2e::{
    World, checker, report,
    stories::{connect, send, text},
    story,
    users::{Online, TestUser, refused},
};
use futures_util::{SinkExt, StreamExt, future::try_join_all};
use posthouse_client::Socket;
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_tungstenite::tungstenite::Message as Raw;
use uuid::Uuid;

const TENANT: &str = "acme";
const LIMIT: Duration = Duration::from_secs(180);
/// How long each part is measured.
const WINDOW: Duration = Duration::from_secs(10);
const SOCKETS: usize = 10;
/// What one user sent in all before there was a limit, and others waited thirty times as long.
const SEEN_PER_SECOND: u32 = 1_230;
/// Of each of the two users who go on talking.
const PACE: Duration = Duration::from_millis(100);
/// What a user may send: at once, and each second after that.
const BURST: usize = 100;
const PER_SECOND: usize = 25;
/// Beyond what the flood's sockets and their queues take for as long as they are open.
const MEMORY_MEBIBYTES: u64 = 32;
const GROUPS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_user_is_held_back_and_no_other_is_refused() {
    story(LIMIT, async |world: &World| {
        let messenger = world.stack.messenger(TENANT);
        let (ann, ben, chat) = TestUser::two(&messenger).await?;
        let (ann_online, ben_online) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
        let (mallory, _, other) = TestUser::two(&messenger).await?;
        // The first messages open connections and fill caches.
        ann_online.send(chat, "hello").await?;
        ben_online.send(chat, "hello").await?;

        let talkers = [&ann_online, &ben_online];
        let quiet = talk(&talkers, chat).await?;
        let before = gateway_mebibytes(world).await?;
        let elsewhere = elsewhere()?;
        let mallory = Arc::new(mallory);
        let began = Instant::now();
        let mut accepted = 0;
        for per_second in [Some(SEEN_PER_SECOND), None] {
            let attacker = mallory.clone();
            let sockets = async move { try_join_all((0..SOCKETS).map(|_| connect(&attacker))).await };
            let sockets = elsewhere.spawn(sockets).await??;
            let end = Instant::now() + WINDOW;
            let pace = per_second.map(|per_second| Duration::from_secs(1) * SOCKETS as u32 / per_second);
            let floods = sockets.into_iter().map(|socket| elsewhere.spawn(flood(socket, other, pace, end)));
            let floods = async { anyhow::Ok(try_join_all(floods).await?) };
            let (flooded, counts) = tokio::try_join!(talk(&talkers, chat), floods)?;
            let counts = counts.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
            let sum = |of: fn(&Count) -> usize| counts.iter().map(of).sum::<usize>();
            accepted += sum(|count| count.accepted);
            report(format!(
                "{SOCKETS} sockets of one user sent {} in {} s, {}: {} accepted, {} refused; two others meanwhile: p50 {:.0} ms, \
                 p99 {:.0} ms, in quiet {:.0} and {:.0}",
                sum(|count| count.sent),
                WINDOW.as_secs(),
                per_second.map_or("all that they take".to_owned(), |number| format!("{number} a second")),
                sum(|count| count.accepted),
                sum(|count| count.refused),
                checker::percentile(&flooded, 50),
                checker::percentile(&flooded, 99),
                checker::percentile(&quiet, 50),
                checker::percentile(&quiet, 99),
            ));
        }
        let took = began.elapsed();
        elsewhere.shutdown_background();
        let after = gateway_mebibytes(world).await?;
        let stored = mallory.history(other).await?.len();
        report(format!("{stored} stored; gateway {before} MiB before, {after} after"));
        // On a busy machine the sockets are read so slowly that nothing has to be refused.
        ensure!(stored > 0, "the flood did not come");
        // One of the second count's bursts may come on top: records come back bunched.
        let allowed = 2 * BURST + PER_SECOND * (took.as_secs() as usize + 1);
        ensure!(stored <= allowed, "{stored} were stored, and {allowed} were allowed");
        ensure!(stored >= accepted, "{accepted} were accepted, and {stored} are stored");
        ensure!(after <= before + MEMORY_MEBIBYTES, "the gateway grew from {before} to {after} MiB");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_users_who_do_not_exist_leave_nothing() {
    story(LIMIT, async |world: &World| {
        let mallory = TestUser::register(&world.stack.messenger(TENANT), "mallory").await?;
        let before = gateway_mebibytes(world).await?;
        let chats = mallory.messenger().chats(&mallory.token().await?).await?.len();
        for _ in 0..GROUPS {
            let invented: Vec<UserId> = (0..999).map(|_| UserId(Uuid::from_u128(rand::random()))).collect();
            let request = CreateChatRequest::group("us", invented);
            let outcome = mallory.messenger().create_chat(&mallory.token().await?, &request).await;
            refused(outcome, ErrorCode::NotFound)?;
        }
        let after = gateway_mebibytes(world).await?;
        report(format!("{GROUPS} groups of invented users: gateway {before} MiB before, {after} after"));
        ensure!(mallory.messenger().chats(&mallory.token().await?).await?.len() == chats, "a group was made");
        ensure!(after <= before + MEMORY_MEBIBYTES, "the gateway grew from {before} to {after} MiB");
        Ok(())
    })
    .await;
}

/// Returns where an attacker's client runs. It would have a machine of its own, so here it takes what all others leave of the
/// processors.
fn elsewhere() -> anyhow::Result<Runtime> {
    let step_back = || {
        // Of this thread alone: Linux has a priority for each.
        rustix::process::setpriority_process(None, 19).expect("a process may lower its own priority");
    };
    let mut runtime = runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().on_thread_start(step_back);
    runtime.build().context("the threads of the attacker's client")
}

/// Lets users send at a pace; returns the times in milliseconds until each message was stored, in order of size. None is
/// refused.
async fn talk(users: &[&Online], chat: ChatId) -> anyhow::Result<Vec<f64>> {
    let end = Instant::now() + WINDOW;
    let each = users.iter().map(async |user| {
        let mut times = Vec::new();
        let mut clock = interval(PACE);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < end {
            clock.tick().await;
            let began = Instant::now();
            user.send(chat, "are you still there?").await?;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        anyhow::Ok(times)
    });
    let mut times = try_join_all(each).await?.concat();
    times.sort_by(f64::total_cmp);
    Ok(times)
}

#[derive(Default)]
struct Count {
    sent: usize,
    accepted: usize,
    refused: usize,
}

/// Sends at a pace, or as fast as the socket takes it, until `end`, and counts the responses until none comes any more.
async fn flood(socket: Socket, chat: ChatId, pace: Option<Duration>, end: Instant) -> anyhow::Result<Count> {
    let (mut write, mut read) = socket.split();
    let writing = async {
        let mut sent = 0;
        let mut clock = pace.map(interval);
        while Instant::now() < end {
            if let Some(clock) = &mut clock {
                clock.tick().await;
            }
            let frame = text(&send(sent as u32 + 2, chat, MessageKey::generate(), "flood"));
            if timeout_at(end, write.send(frame)).await.is_err() {
                break;
            }
            sent += 1;
        }
        anyhow::Ok(sent)
    };
    let reading = async {
        let mut count = Count::default();
        // What is on its way when the writing ends is answered soon after.
        while let Ok(Some(frame)) = timeout_at(end + Duration::from_secs(3), read.next()).await {
            let Raw::Text(text) = frame? else { continue };
            let frame: ServerFrame = serde_json::from_str(&text)?;
            if matches!(frame.result, Some(Outcome::Accepted(_))) {
                count.accepted += 1;
            } else if let Some(error) = frame.error {
                ensure!(error.code == ErrorCode::RateLimited, "refused with {}", error.code);
                ensure!(error.retry_after_ms.is_some(), "a refusal does not say how long to wait");
                count.refused += 1;
            }
        }
        anyhow::Ok(count)
    };
    let (sent, count) = tokio::try_join!(writing, reading)?;
    Ok(Count { sent, ..count })
}

async fn gateway_mebibytes(world: &World) -> anyhow::Result<u64> {
    let workload = world.cluster.workload(TENANT, "gateway").await?;
    let usage = world.cluster.usage().await?;
    let gateway = usage.get(&(workload.to_owned(), TENANT.to_owned())).context("the gateway runs")?;
    Ok(gateway.resident_mebibytes)
}
