//! Users who write in one chat while something is done to their tenant, and what all have of it in the end.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contracts::{ChatId, MessageKey, UserId, event::EntryKind, wire::Message};
use tokio::{sync::watch, time::sleep};

use crate::{
    checker::{self, Acked},
    eventually,
    users::Online,
};

/// Between two messages of one sender.
const PACE: Duration = Duration::from_millis(50);

/// Writes message after message until `stop` is set; each must be stored. Returns them with how long each took.
pub async fn write(
    online: &Online,
    sender: UserId,
    chat: ChatId,
    stored: &AtomicUsize,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<Vec<(Acked, Duration)>> {
    let mut acked = Vec::new();
    while !*stop.borrow() {
        let body = format!("{} {}", online.name, acked.len());
        let began = Instant::now();
        let receipt = online.session.send(chat, body.clone()).await.with_context(|| body.clone())?;
        let (key, seq, kind) = (receipt.key, receipt.seq, EntryKind::Text);
        acked.push((Acked { chat, key, sender, seq, kind, body }, began.elapsed()));
        stored.fetch_add(1, Ordering::Relaxed);
        sleep(PACE).await;
    }
    Ok(acked)
}

/// Waits until so many messages more are stored than now.
pub async fn more_are_stored(
    what: &str,
    stored: &AtomicUsize,
    more: usize,
    limit: Duration,
) -> anyhow::Result<()> {
    let before = stored.load(Ordering::Relaxed);
    eventually(what, limit, || async {
        let since = stored.load(Ordering::Relaxed) - before;
        ensure!(since >= more, "{since} of {more}");
        Ok(())
    })
    .await
}

/// Waits until each of these devices has all of a chat, and fails unless what was acked is there, once and in order, in its history and at each of them.
pub async fn all_is_there(
    online: &[&Online],
    chat: ChatId,
    history: Vec<Message>,
    acked: &[Acked],
    limit: Duration,
) -> anyhow::Result<()> {
    let head = history.last().map_or(0, |message| message.seq);
    for online in online {
        online.sees(chat, head, limit).await?;
    }
    let sent: HashSet<MessageKey> = acked.iter().map(|acked| acked.key).collect();
    let seen: Vec<_> = online
        .iter()
        .map(|online| (online.name.clone(), chat, online.seen().entries[&chat].clone()))
        .collect();
    let faults = checker::verdict(acked, &sent, &HashMap::from([(chat, history)]), &seen);
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}
