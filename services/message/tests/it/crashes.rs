//! Processes that are killed, stopped in mid-sentence, or doubled.

use std::time::Instant;

use contracts::{ChatId, MessageKey, UserId, event::SendRecord};
use kit::{catalog::Topic, testing::wait_for};

use crate::{
    checker::{all_announced, check},
    stand::{Clock, GENERATION, PATIENCE, Running, Stand, text, with_stand},
};

/// A load with one resend in twenty, some of them with another body.
fn load(records: usize, chats: usize) -> Vec<SendRecord> {
    let chats: Vec<ChatId> = (0..chats).map(|_| ChatId::generate()).collect();
    let senders: Vec<UserId> = (0..5).map(|_| UserId::generate()).collect();
    let mut sent: Vec<SendRecord> = Vec::with_capacity(records);
    for i in 0..records {
        let record = if i % 20 == 19 {
            // One of the records since the last resend, in the same batch or in one before it.
            let first = &sent[i - 1 - (i * 7) % 18];
            let body = if i % 60 == 59 { "changed" } else { &first.body };
            text(first.chat, first.sender, first.key, body)
        } else {
            let (chat, sender) = (chats[i % chats.len()], senders[i % senders.len()]);
            text(chat, sender, MessageKey::generate(), &format!("message {i} of a longer conversation"))
        };
        sent.push(record);
    }
    sent
}

async fn announced_at_least(stand: &Stand, count: i64) {
    wait_for("progress", PATIENCE, || async {
        (stand.count(Topic::MessageDelivered).await >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_kills_leave_no_trace_in_the_rows() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let records = load(5_000, 20);
        for (kill, some) in records.chunks(1_000).enumerate() {
            let running = stand.start();
            let before = stand.count(Topic::MessageDelivered).await;
            let (sender, some) = (stand.clone(), some.to_vec());
            let sending = tokio::spawn(async move { sender.send_all(&some).await });
            // In the middle of it: some are announced, the rest is anywhere.
            announced_at_least(&stand, before + 150 + 130 * kill as i64).await;
            running.kill();
            sending.await.expect("the records are in the log");
        }
        let restarted = Instant::now();
        let running = stand.start();
        all_announced(&stand).await;
        let (took, resident_mib) = (restarted.elapsed(), running.resident_mib());
        running.stop().await;
        let checked = check(&stand).await;
        let again = checked.announced - records.len();
        println!("takeover after kill -9 in {took:?}, {again} announced again, {resident_mib} MiB resident");
        assert_eq!(checked.stored, 4_750);
        assert!(checked.announced >= records.len(), "fewer announcements than records");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_log_lost_stop_their_partition() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let some = || -> Vec<SendRecord> {
            (0..3).map(|n| text(chat, sender, MessageKey::generate(), &format!("message {n}"))).collect()
        };
        let running = stand.start_ready().await;
        stand.send_all(&some()).await;
        all_announced(&stand).await;
        running.stop().await;

        // Three more are accepted, and two of them are gone before they are stored.
        stand.send_all(&some()).await;
        stand.lose_sends().await;
        let running = stand.start();
        let partition = stopped(&running, "has lost its records from offset 3 to 5", "gap").await;
        assert_eq!(stand.count(Topic::MessageDelivered).await, 3, "nothing behind the gap is announced");
        running.stop().await;

        // As the runbook says.
        accept_loss(&stand, partition, 5).await;
        let running = stand.start_ready().await;
        announced_at_least(&stand, 4).await;
        stand.send_all(&some()).await;
        announced_at_least(&stand, 7).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_first_records_stops_its_partition_where_nothing_was_applied() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let some: Vec<SendRecord> =
            (0..3).map(|n| text(chat, sender, MessageKey::generate(), &format!("message {n}"))).collect();
        // They are accepted while no message service runs, for longer than the log keeps them.
        stand.send_all(&some).await;
        stand.lose_sends().await;
        let running = stand.start();
        let partition = stopped(&running, "its records before offset 2 are gone", "headless").await;
        assert_eq!(stand.count(Topic::MessageDelivered).await, 0, "nothing behind the gap is announced");
        running.stop().await;

        // As the runbook says.
        accept_loss(&stand, partition, 2).await;
        let running = stand.start_ready().await;
        announced_at_least(&stand, 1).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_where_one_was_applied_stops_its_partition() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let some = |count| -> Vec<SendRecord> {
            (0..count).map(|n| text(chat, sender, MessageKey::generate(), &format!("message {n}"))).collect()
        };
        let running = stand.start_ready().await;
        stand.send_all(&some(3)).await;
        all_announced(&stand).await;
        running.stop().await;
        // The log that it was goes on.
        let running = stand.start_ready().await;
        stand.send_all(&some(1)).await;
        all_announced(&stand).await;
        running.stop().await;

        // As behind an unclean election: offsets that were applied have other records, and more come behind them.
        stand.replace_sends(Clock::Brokers).await;
        stand.send_all(&some(6)).await;
        let running = stand.start();
        let partition = stopped(&running, "has another record at offset 3", "changed").await;
        assert_eq!(stand.count(Topic::MessageDelivered).await, 4, "nothing of the other log is announced");
        running.stop().await;

        // As the runbook says.
        accept_loss(&stand, partition, 4).await;
        let running = stand.start_ready().await;
        announced_at_least(&stand, 6).await;
        running.stop().await;
    })
    .await;
}

/// An unclean election that loses more than one record is one of a log that ends too early, and one of another record when it has grown.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_end_stops_its_partition_until_it_has_grown() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let some = |count| -> Vec<SendRecord> {
            (0..count).map(|n| text(chat, sender, MessageKey::generate(), &format!("message {n}"))).collect()
        };
        let applied = some(4);
        let running = stand.start_ready().await;
        stand.send_all(&applied).await;
        all_announced(&stand).await;
        running.stop().await;

        // The new leader does not have the last two.
        stand.replace_sends(Clock::Brokers).await;
        stand.send_all(&applied[..2]).await;
        let running = stand.start();
        let why = "begins at offset 0 and ends before the applied position 4";
        let partition = stopped(&running, why, "rewound").await;
        running.stop().await;
        // Accepted too early, it is the same.
        accept_loss(&stand, partition, 4).await;
        let running = stand.start();
        stopped(&running, why, "rewound").await;
        assert_eq!(stand.count(Topic::MessageDelivered).await, 4, "nothing is announced");
        running.stop().await;

        // As the runbook says: the offsets that were applied go to others.
        stand.send_all(&some(2)).await;
        let later = some(2);
        stand.send_all(&later).await;
        let running = stand.start_ready().await;
        announced_at_least(&stand, 6).await;
        running.stop().await;
    })
    .await;
}

/// Waits until a partition is stopped that says so. Returns which one.
async fn stopped(running: &Running, why: &str, loss: &str) -> i32 {
    wait_for("a partition that stops", PATIENCE, || async {
        let (status, body) = running.answer("readyz").await?;
        (status == 503 && body.contains(why) && body.contains(&format!("docs/runbook.md#{loss}")))
            .then_some(())
    })
    .await;
    let metrics = running.management("metrics").await.expect("metrics");
    let line = metrics.lines().find(|line| line.starts_with("posthouse_message_stopped_partitions{"));
    let line = line.expect("a stopped partition");
    assert!(line.contains(&format!("loss=\"{loss}\"")) && line.ends_with(" 1"), "{line}");
    let (_, partition) = line.split_once("partition=\"").expect("a label");
    partition.split('"').next().expect("a number").parse().expect("a number")
}

/// Accepts that records before an offset are lost, as docs/runbook.md has it.
async fn accept_loss(stand: &Stand, partition: i32, offset: i64) {
    let runbook = include_str!("../../../../docs/runbook.md");
    let statement = runbook.lines().map(str::trim).find(|line| line.starts_with("INSERT INTO log_positions"));
    let statement = statement.expect("a statement in the runbook");
    let statement = statement
        .replace("GENERATION", GENERATION)
        .replace("PARTITION", &partition.to_string())
        .replace("OFFSET", &offset.to_string());
    stand.session.query_unpaged(statement, ()).await.expect("an accepted loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_thought_dead_writes_the_same_rows() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let records = load(3_000, 10);
        let first = stand.start_ready().await;
        first.signal("STOP");
        stand.send_all(&records[..2_500]).await;
        first.signal("CONT");
        announced_at_least(&stand, 100).await;
        // In the middle of a batch, with more of them in its memory.
        first.signal("STOP");
        let before = stand.count(Topic::MessageDelivered).await;
        assert!(before < 2_500, "the first owner was done before it was stopped");
        // The group gives its partitions away after the session's end.
        let second = stand.start();
        all_announced(&stand).await;
        // The first one wakes up and does not know yet.
        first.signal("CONT");
        stand.send_all(&records[2_500..]).await;
        all_announced(&stand).await;
        first.stop().await;
        second.stop().await;
        let checked = check(&stand).await;
        println!("{} records announced again by two owners", checked.announced - records.len());
        assert_eq!(checked.stored, 2_850);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_is_filled_again_from_the_log() {
    with_stand(|stand| async move {
        stand.migrate().await;
        stand.send_all(&load(400, 5)).await;
        let running = stand.start_ready().await;
        all_announced(&stand).await;
        running.stop().await;
        check(&stand).await;

        for table in ["messages", "message_keys", "chat_heads", "log_positions"] {
            stand.session.query_unpaged(format!("TRUNCATE {table}"), ()).await.expect("an empty table");
        }
        let before = stand.count(Topic::MessageDelivered).await;
        let running = stand.start_ready().await;
        announced_at_least(&stand, before + 400).await;
        running.stop().await;
        assert_eq!(check(&stand).await.stored, 380);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_holds_the_log_up_and_loses_nothing() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let running = stand.start_ready().await;
        for statement in ["DROP TABLE message_keys", "TRUNCATE message_migrations"] {
            stand.session.query_unpaged(statement, ()).await.expect("a broken store");
        }
        stand.send_all(&load(300, 5)).await;
        let why = wait_for("an unready process", PATIENCE, || async {
            let (status, why) = running.answer("readyz").await?;
            (status == 503).then_some(why)
        })
        .await;
        assert!(why.contains("log") && why.contains("message keys"), "{why}");
        assert_eq!(stand.count(Topic::MessageDelivered).await, 0);
        assert!(running.management("livez").await.is_some(), "a restart does not mend a store");

        stand.migrate().await;
        all_announced(&stand).await;
        wait_for("a ready process", PATIENCE, || async { running.is_ready().await.then_some(()) }).await;
        running.stop().await;
        assert_eq!(check(&stand).await.stored, 285);
    })
    .await;
}
