//! Order, resends and records that can never be stored.

use std::{collections::HashMap, time::Instant};

use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SendRecord},
};
use kit::{catalog::Topic, testing::wait_for};
use serde_json::json;

use crate::{
    checker::{all_announced, check},
    stand::{PATIENCE, text, with_stand},
};

#[tokio::test(flavor = "multi_thread")]
async fn several_producers_get_one_gapless_order() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let running = stand.start_ready().await;
        let chats: Vec<ChatId> = (0..4).map(|_| ChatId::generate()).collect();
        let senders = (0..3).map(|_| {
            let (stand, chats, sender) = (stand.clone(), chats.clone(), UserId::generate());
            tokio::spawn(async move {
                let records: Vec<SendRecord> = (0..200)
                    .map(|i| text(chats[i % 4], sender, MessageKey::generate(), &format!("number {i}")))
                    .collect();
                for some in records.chunks(10) {
                    stand.send_all(some).await;
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.expect("a sender");
        }
        all_announced(&stand).await;
        running.stop().await;
        assert_eq!(check(&stand).await.stored, 600);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_user_sends_behind_the_removal_is_not_stored() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, owner, guest) = (ChatId::generate(), UserId::generate(), UserId::generate());
        let change =
            |kind| SendRecord { kind, subject: Some(guest), ..text(chat, owner, MessageKey::generate(), "") };
        let key = MessageKey::generate();
        let records = [
            text(chat, guest, MessageKey::generate(), "hello"),
            change(EntryKind::MemberRemoved),
            text(chat, guest, key, "too late"),
            text(chat, owner, MessageKey::generate(), "alone again"),
        ];
        let running = stand.start_ready().await;
        stand.send_all(&records).await;
        all_announced(&stand).await;
        running.stop().await;
        // Another process knows of the removal from the store.
        let late = [
            text(chat, guest, MessageKey::generate(), "still too late"),
            change(EntryKind::MemberAdded),
            text(chat, guest, key, "too late"),
        ];
        let running = stand.start_ready().await;
        stand.send_all(&late).await;
        let announced = all_announced(&stand).await;
        running.stop().await;
        let outcomes = records.iter().chain(&late).map(|record| {
            let of_it = announced.iter().find(|announced| announced.device == record.device);
            match of_it.expect("an announcement").outcome {
                DeliveryOutcome::Stored { seq, .. } => seq.to_string(),
                DeliveryOutcome::Marked { .. } => panic!("nobody read anything"),
                DeliveryOutcome::Repeated { .. } => panic!("no key was stored before"),
                DeliveryOutcome::Rejected { code } => code.to_string(),
            }
        });
        let outcomes: Vec<_> = outcomes.collect();
        assert_eq!(outcomes, ["1", "2", "not_a_member", "3", "not_a_member", "4", "5"]);
        assert_eq!(check(&stand).await.stored, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_gets_the_first_seq_and_another_body_is_refused() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let (first, second) = (MessageKey::generate(), MessageKey::generate());
        let joined = SendRecord {
            kind: EntryKind::MemberAdded,
            subject: Some(UserId::generate()),
            ..text(chat, sender, MessageKey::generate(), "")
        };
        let records = [
            joined,
            text(chat, sender, first, "hello"),
            text(chat, sender, second, "again"),
            text(chat, sender, first, "hello"),
            text(chat, sender, first, "good bye"),
            // The same key of another sender is another message.
            text(chat, UserId::generate(), first, "good bye"),
        ];
        let running = stand.start_ready().await;
        stand.send_all(&records).await;
        all_announced(&stand).await;
        running.stop().await;
        // Later, from another process and another batch.
        let late = [text(chat, sender, second, "again"), text(chat, sender, second, "and again")];
        let running = stand.start_ready().await;
        stand.send_all(&late).await;
        let announced = all_announced(&stand).await;
        running.stop().await;

        let outcome = |record: &SendRecord| {
            let of_it = announced.iter().rfind(|announced| announced.device == record.device);
            match of_it.expect("an announcement").outcome {
                DeliveryOutcome::Stored { seq, .. } => format!("stored {seq}"),
                DeliveryOutcome::Marked { .. } => panic!("nobody read anything"),
                DeliveryOutcome::Repeated { seq } => format!("repeated {seq}"),
                DeliveryOutcome::Rejected { code } => code.to_string(),
            }
        };
        let outcomes: Vec<String> = records.iter().chain(&late).map(outcome).collect();
        let conflict = "idempotency_conflict";
        let expected =
            ["stored 1", "stored 2", "stored 3", "repeated 2", conflict, "stored 4", "repeated 3", conflict];
        assert_eq!(outcomes, expected);
        assert_eq!(check(&stand).await.stored, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_never_be_stored_is_answered_and_the_log_moves_on() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, sender) = (ChatId::generate(), UserId::generate());
        let key = chat.to_string();
        let good = |body: &str| text(chat, sender, MessageKey::generate(), body);
        let running = stand.start_ready().await;

        stand.send_all(&[good("before")]).await;
        stand.send_bytes(&key, b"not json at all").await;
        let mut future = serde_json::to_value(good("from the future")).expect("json");
        future["v"] = json!(2);
        stand.send_bytes(&key, future.to_string().as_bytes()).await;
        let mut sticker = serde_json::to_value(good("")).expect("json");
        sticker["kind"] = json!("sticker");
        stand.send_bytes(&key, sticker.to_string().as_bytes()).await;
        let large = good(&"x".repeat(16 * 1024 + 1));
        stand.send_all(std::slice::from_ref(&large)).await;
        let stray = good("under another chat's key");
        stand
            .send_bytes(
                &ChatId::generate().to_string(),
                serde_json::to_string(&stray).expect("json").as_bytes(),
            )
            .await;
        stand.send_all(&[good("after")]).await;

        let announced: Vec<DeliveredRecord> = wait_for("six announcements", PATIENCE, || async {
            let records = stand.read(Topic::MessageDelivered).await;
            let read = |record: &crate::stand::LogRecord| {
                serde_json::from_slice::<DeliveredRecord>(&record.payload).expect("an announcement")
            };
            (records.len() >= 6).then(|| records.iter().map(read).collect())
        })
        .await;
        let mut counts: HashMap<String, u32> = HashMap::new();
        for record in &announced {
            let what = match &record.outcome {
                DeliveryOutcome::Stored { seq, body, .. } => format!("{seq} {body}"),
                DeliveryOutcome::Marked { .. } => "marked".to_owned(),
                DeliveryOutcome::Repeated { .. } => "repeated".to_owned(),
                DeliveryOutcome::Rejected { code } => code.to_string(),
            };
            *counts.entry(what).or_default() += 1;
        }
        let (malformed, large) = (ErrorCode::Malformed.as_str(), ErrorCode::TooLarge.as_str());
        let expected = [("1 before", 1), ("2 after", 1), (malformed, 3), (large, 1)];
        assert_eq!(counts, expected.map(|(what, count)| (what.to_owned(), count)).into());
        let metrics = running.management("metrics").await.expect("metrics");
        let refused = metrics.lines().find(|line| {
            line.starts_with("posthouse_message_records_total{") && line.contains("outcome=\"refused\"")
        });
        assert!(refused.is_some_and(|line| line.ends_with(" 5")), "{refused:?}");
        running.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_worked_off_in_full_batches() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let chats: Vec<ChatId> = (0..200).map(|_| ChatId::generate()).collect();
        let sender = UserId::generate();
        let body = "two hundred bytes ".repeat(11);
        let records: Vec<SendRecord> =
            (0..10_000).map(|i| text(chats[i % 200], sender, MessageKey::generate(), &body)).collect();
        stand.send_all(&records).await;
        let running = stand.start();
        wait_for("the first announcement", PATIENCE, || async {
            (stand.count(Topic::MessageDelivered).await > 0).then_some(())
        })
        .await;
        let (started, first) = (Instant::now(), stand.count(Topic::MessageDelivered).await);
        wait_for("the last announcement", PATIENCE, || async {
            (stand.count(Topic::MessageDelivered).await >= 10_000).then_some(())
        })
        .await;
        let per_second = (10_000 - first) as f64 / started.elapsed().as_secs_f64();

        // One at a time, each from its send to its announcement.
        let mut waits = Vec::new();
        for i in 0..200 {
            let sent = Instant::now();
            stand.send_all(&[text(chats[i % 200], sender, MessageKey::generate(), &body)]).await;
            wait_for("an announcement", PATIENCE, || async {
                (stand.count(Topic::MessageDelivered).await > 10_000 + i as i64).then_some(())
            })
            .await;
            waits.push(sent.elapsed());
        }
        waits.sort();
        println!(
            "backlog: {per_second:.0} records/s; alone: p50 {:?}, p99 {:?} (asking every 5 ms); {} MiB resident",
            waits[100],
            waits[197],
            running.resident_mib()
        );
        let metrics = running.management("metrics").await.expect("metrics");
        let batches = metric(&metrics, "posthouse_message_batch_records_count");
        assert!(batches - 200.0 < 10_000.0 / 50.0, "{batches} batches for 10,000 records");
        running.stop().await;
        assert_eq!(check(&stand).await.stored, 10_200);
    })
    .await;
}

/// Returns the value of a metric that has no labels of its own.
fn metric(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{"))).expect("the metric");
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}
