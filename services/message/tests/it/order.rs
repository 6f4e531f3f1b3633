//! Order, resends and records that can never be stored.

use std::collections::HashMap;

use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SendRecord},
    topic::MESSAGE_DELIVERED,
};
use serde_json::json;

use crate::{
    checker::{all_announced, check},
    stand::{text, wait_for, with_stand},
};

#[tokio::test(flavor = "multi_thread")]
async fn several_producers_get_one_order_without_holes() {
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
            let of_it = announced.iter().filter(|announced| announced.device == record.device);
            match of_it.last().expect("an announcement").outcome {
                DeliveryOutcome::Stored { seq, .. } => format!("stored {seq}"),
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

        let announced: Vec<DeliveredRecord> = wait_for("six announcements", || async {
            let records = stand.read(MESSAGE_DELIVERED).await;
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
            line.starts_with("posthouse_message_records_total{") && line.contains("outcome=\"Refused\"")
        });
        assert!(refused.is_some_and(|line| line.ends_with(" 5")), "{refused:?}");
        running.stop().await;
    })
    .await;
}
