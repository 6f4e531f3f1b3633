//! Clients that do not read.

use std::{sync::Arc, time::Duration};

use contracts::{
    MessageKey,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, VERSION},
};
use gateway::Limits;
use kit::testing::wait_for;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    client::Client,
    stand::{PATIENCE, Stand, UNLIMITED, chat, device, user, with_rates, with_stand},
};

/// More than the kernel's buffers of one connection hold.
const MESSAGES: i64 = 1200;
const BODY_BYTES: usize = 16 * 1024;
/// How far the announcements run ahead of the quick reader: half of what its send queue holds, so that it never lags
/// however busy the machine is.
const AHEAD: usize = 32;

/// Announces messages of a third user to 1 and 2, one for each permit of `pace`.
async fn flood(stand: Arc<Stand>, pace: Arc<Semaphore>) {
    for seq in 1..=MESSAGES {
        pace.acquire().await.expect("never closed").forget();
        let outcome = DeliveryOutcome::stored(seq, EntryKind::Text, "x".repeat(BODY_BYTES), seq);
        let (sender, device, key) = (user(3), device(3), MessageKey(Uuid::new_v4()));
        stand
            .peers
            .announce(&DeliveredRecord { v: VERSION, chat: chat(), sender, device, key, outcome })
            .await;
    }
}

/// Announces all messages and reads them as the quick reader, which misses none.
async fn read_flood(stand: &Arc<Stand>, quick: &mut Client) {
    let pace = Arc::new(Semaphore::new(AHEAD));
    let flooding = tokio::spawn(flood(stand.clone(), pace.clone()));
    for seq in 1..=MESSAGES {
        assert_eq!(quick.message().await.seq, seq);
        pace.add_permits(1);
    }
    flooding.await.expect("the flood");
}

async fn narrow(stand: &Stand) -> Client {
    let mut client = Client::open_narrow(stand.gateway.http).await;
    client.connect(&stand.realm.token(user(2), "slow"), device(1)).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_notified_of_what_it_missed() {
    // It sleeps for as long as the flood takes on a busy machine, and answers no ping meanwhile.
    let patience = Duration::from_secs(300);
    let limits = Limits { write_stall: patience, pong_within: patience, ..Limits::default() };
    // The flood counts against the chat's send rate, which must not refuse the send at the end.
    with_rates(limits, UNLIMITED, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut quick = stand.connect(user(1), device(1)).await;
        let mut slow = narrow(&stand).await;
        // The quick one sees everything, in order, while the slow one sleeps.
        read_flood(&stand, &mut quick).await;
        assert!(stand.gateway.metric("send_queue_bytes").await <= 1024 * 1024);

        // Awake, it sees a beginning, then what it has to query, and nothing in between twice or out of order.
        let mut seen = 0;
        let head_seq = loop {
            let frame = slow.frame().await.expect("still connected");
            if let Some(lagged) = frame.lagged {
                break lagged.head_seq;
            }
            let seq = frame.message.expect("a message").seq;
            assert_eq!(seq, seen + 1);
            seen = seq;
        };
        assert_eq!(head_seq, MESSAGES);
        assert!(seen < MESSAGES, "it was to be slow");
        assert_eq!(slow.send_text(chat(), "awake").await.key, quick.message().await.key);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_closed_and_affects_no_other() {
    let limits = Limits { write_stall: Duration::from_secs(1), ..Limits::default() };
    with_stand(limits, async |stand| {
        stand.peers.join(chat(), &[user(1), user(2)]).await;
        let mut quick = stand.connect(user(1), device(1)).await;
        let _never = narrow(&stand).await;
        read_flood(&stand, &mut quick).await;
        wait_for("the close", PATIENCE, || async {
            (stand.gateway.metric("closes_total{reason=\"slow\"}").await == 1).then_some(())
        })
        .await;
        wait_for("the end", PATIENCE, || async {
            (stand.gateway.metric("connections").await == 1).then_some(())
        })
        .await;
        assert_eq!(stand.gateway.metric("send_queue_bytes").await, 0, "its memory is free again");
    })
    .await;
}
