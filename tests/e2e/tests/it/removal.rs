//! Members are removed while they write, and while what decides on memberships is lost or hangs: nothing of theirs is stored behind
//! their removal, and nothing behind it reaches them.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use contracts::{ChatId, ErrorCode, event::EntryKind};
use e2e::{
    World, eventually,
    faults::{Hung, Part},
    report,
    stack::Backend,
    story,
    users::{Online, TestUser, refused},
};
use posthouse_client::SendFailure;
use serde_json::json;
use tokio::time::{interval, sleep, timeout};

const TENANT: &str = "e2eremoval";
/// A tenant is ready, or gone, within this time.
const CONVERGENCE: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(420);
/// From a fault until its removal is answered.
const BACK: Duration = Duration::from_secs(90);
/// How often each of the two writes.
const PACE: Duration = Duration::from_millis(20);
/// So many entries of each are in the chat before the removal.
const BEFORE: usize = 20;
/// How far behind the fault the removal is asked for, or before it.
const OFFSETS: [i64; 3] = [-20, 0, 20];
/// A hang that every deadline of the services notices.
const HANG: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_holds_while_the_chat_service_changes_its_leader_and_postgresql_hangs() {
    story(LIMIT, async |world: &World| {
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        let two = json!({ "replicas": 2 });
        let services = json!({ "gateway": two, "message": two, "chat": two });
        let spec = json!({ "deletionPolicy": "Delete", "services": services });
        world.cluster.apply_tenant(TENANT, spec).await?;
        world.cluster.await_ready(TENANT, CONVERGENCE).await?;
        let messenger = world.stack.messenger(TENANT);
        let (ann, ben) =
            (TestUser::register(&messenger, "ann").await?, TestUser::register(&messenger, "ben").await?);
        let leader_changes = async || Part::Pods("chat").kill(world, TENANT).await;
        let database_hangs = async || {
            let _hung = Hung::stop(&world.stack, Backend::Postgres)?;
            // Not a wait for a condition: for so long the database answers nobody.
            sleep(HANG).await;
            Ok(())
        };
        for offset in OFFSETS {
            removal(&ann, &ben, offset, &leader_changes)
                .await
                .with_context(|| format!("the leader changes, {offset} ms"))?;
            removal(&ann, &ben, offset, &database_hangs)
                .await
                .with_context(|| format!("PostgreSQL hangs, {offset} ms"))?;
        }
        world.cluster.delete_tenant(TENANT, CONVERGENCE).await?;
        Ok(())
    })
    .await;
}

/// Removes ben, `offset` ms behind the begin of a fault or before it, while both write.
async fn removal(
    ann: &TestUser,
    ben: &TestUser,
    offset: i64,
    fault: &impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Pods that took the place of others may not answer at once.
    let others = [ben.id()];
    let chat = eventually("there is a group", BACK, || ann.group("riders", &others)).await?;
    let (hers, his) = (ann.online(&[chat]).await, ben.online(&[chat]).await);
    let (stored, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let rider = |online| ride(online, chat, &stored, &is_over);

    let amid = async {
        eventually("both write", BACK, || async {
            let stored = stored.load(Ordering::Relaxed);
            ensure!(stored >= 2 * BEFORE, "{stored} are stored");
            Ok(())
        })
        .await?;
        let pause = |offset: i64| sleep(Duration::from_millis(offset.try_into().unwrap_or_default()));
        let fault = async {
            pause(-offset).await;
            fault().await
        };
        let removed = async {
            pause(offset).await;
            eventually("ben is removed", BACK, || async {
                Ok(ann.messenger().remove_member(&ann.token().await?, chat, ben.id()).await?)
            })
            .await
        };
        let (fault, removed) = tokio::join!(fault, removed);
        fault.and(removed)?;
        // What begins now comes behind the answer.
        let late = timeout(BACK, his.session.send(chat, "one more"));
        match late.await.context("no answer to what ben sends after his removal")? {
            Ok(receipt) => anyhow::bail!("ben's text is stored at {} after his removal", receipt.seq),
            Err(failure) => {
                ensure!(failure.code() == Some(ErrorCode::NotAMember), "ben is refused with: {failure}");
            }
        }
        let (token, limit) = (ben.token().await?, 10);
        refused(ben.messenger().history(&token, chat, 0, limit).await, ErrorCode::NotAMember)?;
        // What ann goes on writing would reach him, if anything did.
        let seen = stored.load(Ordering::Relaxed);
        eventually("ann writes on", BACK, || async {
            let stored = stored.load(Ordering::Relaxed);
            ensure!(stored >= seen + BEFORE, "{stored} are stored");
            Ok(())
        })
        .await
    };
    let amid = async {
        let outcome = amid.await;
        is_over.store(true, Ordering::Relaxed);
        outcome
    };
    let (amid, of_ann, of_ben) = tokio::join!(amid, rider(&hers), rider(&his));
    amid?;
    let of_ann = of_ann.map_err(|failure| anyhow::anyhow!("ann: {failure}"))?;

    let history = ann.history(chat).await?;
    let removed =
        history.iter().filter(|entry| entry.kind == EntryKind::MemberRemoved).map(|entry| entry.seq);
    let removed: Vec<_> = removed.collect();
    ensure!(removed.len() == 1, "ben was removed at {removed:?}");
    let late = history.iter().filter(|entry| entry.sender == ben.id() && entry.seq > removed[0]);
    let late: Vec<_> = late.map(|entry| entry.seq).collect();
    ensure!(late.is_empty(), "ben was removed at {}, and texts of his are at {late:?}", removed[0]);
    let last = history.last().map_or(0, |entry| entry.seq);
    hers.sees(chat, last, BACK).await?;
    let shown = his.seen().entries.get(&chat).and_then(|entries| entries.last()).map_or(0, |entry| entry.seq);
    ensure!(shown <= removed[0], "ben was removed at {}, and saw entry {shown}", removed[0]);
    report(format!(
        "{offset} ms: {of_ann} of ann, {} of ben; removed at {} of {last}, ben saw up to {shown}",
        match of_ben {
            Ok(number) => format!("{number} (all)"),
            Err(failure) => format!("all until \"{failure}\""),
        },
        removed[0],
    ));
    Ok(())
}

/// Writes at a pace until it is over; ends with the first text that is refused for good.
async fn ride(
    online: &Online,
    chat: ChatId,
    stored: &AtomicUsize,
    is_over: &AtomicBool,
) -> Result<usize, SendFailure> {
    let mut clock = interval(PACE);
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        clock.tick().await;
        online.session.send(chat, format!("{number} of {}", online.name)).await?;
        stored.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    Ok(number)
}
