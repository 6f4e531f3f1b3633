//! What is made of the log: verdicts, what follows from them, and shadow runs.

use contracts::{
    ChatId, UserId,
    api::{Figures, SanctionKind, ShadowRun, ShadowState},
    event::{DeliveredRecord, EntryKind},
};
use kit::{deletions, testing::wait_for};
use moderation::{domain::Change, peers::Peers, store::ModerationStore};
use serde_json::{Value, json};
use uuid::Uuid;

use super::stand::{PATIENCE, Stand, entry, sanction, text, words};

#[tokio::test]
async fn a_word_is_deleted_by_an_entry_of_its_chat_once() {
    let stand = Stand::start().await;
    let id = stand.enforce(words(&["scam"])).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    let records = [
        text(chat, ann, 1, "hello"),
        text(chat, ann, 2, "a s\u{441}am"),
        // Announced once more.
        text(chat, ann, 2, "a s\u{441}am"),
        entry(chat, ann, 3, (EntryKind::Edit, Some(1)), "SCAM"),
        entry(chat, ann, 4, (EntryKind::Reaction, Some(1)), "scam"),
        // Of no user.
        text(chat, UserId(Uuid::nil()), 5, "scam"),
    ];
    stand.announce(records).await;
    let figures = stand.caught(id, 2).await;
    assert_eq!((figures.deletions, figures.reports, figures.sanctions), (2, 0, 0));
    let sent = stand.sent(2).await;
    let mut targets: Vec<_> = sent.iter().map(|record| record.target_seq).collect();
    targets.sort();
    assert_eq!(targets, [Some(1), Some(2)]);
    for record in sent {
        assert_eq!((record.chat, record.kind, record.moderates), (chat, EntryKind::Delete, true));
        assert_eq!((record.sender, record.device.0), (UserId(Uuid::nil()), Uuid::nil()));
    }
}

#[tokio::test]
async fn a_sanction_of_a_rule_is_carried_out_by_the_other_services() {
    let stand = Stand::start().await;
    let rules = json!([
        {"name": "ban", "test": {"words": {"words": ["scam"]}},
         "action": {"report": true, "sanction": {"kind": "ban", "everywhere": true}}},
        {"name": "mute", "test": {"pattern": {"pattern": "sp+am"}},
         "action": {"sanction": {"kind": "mute", "seconds": 3_000}}},
    ]);
    stand.enforce(rules).await;
    let (chat, ann, ben) = (ChatId::generate(), UserId::generate(), UserId::generate());
    stand.announce([text(chat, ann, 1, "scam"), text(chat, ben, 2, "spppam")]).await;
    stand.peers.is_closed(ann, true).await;
    stand.peers.is_restricted(ann, None, (true, true)).await;
    stand.peers.is_restricted(ben, Some(chat), (true, false)).await;
    let sanctions = stand.store.sanctions(Some(ann), i64::MAX, 10).await.expect("a read");
    assert_eq!(sanctions.len(), 1);
    let (_, sanction) = &sanctions[0];
    assert_eq!((sanction.kind, sanction.until_ms, sanction.by), (SanctionKind::Ban, None, None));
    let reports = stand.store.reports(None, 0, 10).await.expect("a read");
    assert_eq!(reports[0].1.evidence.text, "scam");
}

#[tokio::test]
async fn a_service_that_hangs_holds_up_no_deletion() {
    let stand = Stand::start().await;
    stand.enforce(words(&["scam"])).await;
    stand.peers.hang();
    let chat = ChatId::generate();
    let mute = |_| sanction(UserId::generate(), Some(chat), SanctionKind::Mute, None);
    // Each is given up after four seconds: one after the other, they take longer than the entry is waited for.
    let mutes: Vec<_> = (0..20).map(mute).map(Change::Sanctioned).collect();
    stand.store.act(&mutes).await.expect("they are decided");
    stand.peers.is_hanging().await;
    stand.announce([text(chat, UserId::generate(), 1, "scam")]).await;
    let sent = stand.sent(1).await;
    assert_eq!((sent[0].kind, sent[0].chat, sent[0].target_seq), (EntryKind::Delete, chat, Some(1)));
}

/// Returns what users of two chats write, with floods, edits and what is caught by nothing.
fn traffic() -> Vec<DeliveredRecord> {
    let chats = [ChatId::generate(), ChatId::generate()];
    let users = [(); 3].map(|()| UserId::generate());
    let bodies = ["hello", "buy at https://evil.example/now", "s c a m", "win 100", "fine", "sc\u{430}m"];
    let mut records = Vec::new();
    for seq in 1..=60_i64 {
        let at = usize::try_from(seq).expect("a number");
        let (chat, user) = (chats[at % 2], users[at % 3]);
        let kind = if seq % 10 == 0 { (EntryKind::Edit, Some(seq - 6)) } else { (EntryKind::Text, None) };
        records.push(entry(chat, user, seq, kind, bodies[at % bodies.len()]));
    }
    // Announced once more.
    records.extend_from_within(20..25);
    records
}

fn rules() -> Value {
    json!([
        {"name": "words", "test": {"words": {"words": ["scam"]}}, "action": {"delete": true}},
        {"name": "pattern", "test": {"pattern": {"pattern": r"win\s+\d+"}}, "action": {"report": true}},
        {"name": "links", "test": {"links": {"domains": ["evil.example"]}},
         "action": {"delete": true, "sanction": {"kind": "warning"}}},
        {"name": "rate", "test": {"rate": {"messages": 2, "seconds": 20}},
         "action": {"sanction": {"kind": "mute", "seconds": 60}}},
    ])
}

#[tokio::test]
async fn a_shadow_run_shows_what_enforcement_then_does() {
    let stand = Stand::start().await;
    let moderator = stand.moderator();
    stand.announce(traffic()).await;
    let draft = json!({"name": "new", "rules": rules()});
    let draft = stand.post(&moderator, "rule-sets", draft, 201).await;
    let path = format!("rule-sets/{}/shadow", draft["id"].as_str().expect("an id"));
    stand.post(&moderator, &path, json!({"days": 1}), 202).await;
    let run: ShadowRun = wait_for("the end of the run", PATIENCE, || async {
        let run: ShadowRun = serde_json::from_value(stand.get(&moderator, &path).await).expect("a run");
        (run.state != ShadowState::Running).then_some(run)
    })
    .await;
    assert_eq!((run.state, run.judged), (ShadowState::Done, 60));
    assert!(run.figures.rules.iter().all(|rule| rule.caught > 0) && run.figures.rules.len() == 4, "{run:?}");
    assert!(run.samples.iter().any(|sample| sample.rule == "words" && sample.text.contains('m')));
    // A run does nothing.
    assert!(stand.store.sanctions(None, i64::MAX, 10).await.expect("a read").is_empty());

    // The same log with the same rules in force, in a service that has judged none of it.
    let enforcing = Stand::start().await;
    let id = enforcing.enforce(rules()).await;
    enforcing.announce(replayed(&stand).await).await;
    let figures: Figures = enforcing.caught(id, run.figures.caught).await;
    assert_eq!(figures, run.figures);
}

/// Returns what the log of a tenant has, chat by chat in its order.
async fn replayed(stand: &Stand) -> Vec<DeliveredRecord> {
    use kit::{
        catalog::Topic,
        health::Health,
        log::{Event, Start},
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let check = Health::default().check("log");
    let topic = Topic::MessageDelivered.of(super::stand::TENANT);
    let mut follower =
        stand.log.follow(&topic, "replay", Start::Beginning, &check, &stop).await.expect("a log");
    let mut open = follower.partitions().len();
    let mut records = Vec::new();
    while open > 0 {
        match follower.next(&stop).await.expect("it goes on") {
            Event::End(_) => open -= 1,
            Event::Record(record) => {
                records.push(serde_json::from_slice(record.payload().expect("a payload")).expect("a record"));
            }
        }
    }
    records
}

#[tokio::test]
async fn a_log_that_is_read_again_gives_the_same() {
    let stand = Stand::start().await;
    let id = stand.enforce(rules()).await;
    let records = traffic();
    stand.announce(records.clone()).await;
    let all = |stand: &Stand| {
        let store = stand.store.clone();
        async move {
            let sanctions = store.sanctions(None, i64::MAX, 1_000).await.expect("a read");
            let reports = store.reports(None, 0, 1_000).await.expect("a read");
            (store.figures(id).await.expect("a read"), sanctions.len(), reports.len())
        }
    };
    let is_read = |partitions: i64| {
        let store = stand.store.clone();
        async move {
            wait_for("the end of the log", PATIENCE, || async {
                let positions = store.positions(&[0, 1, 2, 3]).await.expect("positions");
                (positions.values().flatten().sum::<i64>() == partitions).then_some(())
            })
            .await;
        }
    };
    let count = i64::try_from(records.len()).expect("a number");
    is_read(count).await;
    let before = all(&stand).await;
    assert!(before.0.caught > 0 && before.1 > 0 && before.2 > 0);
    // Nothing is remembered of the senders, as before the first read: all of it is judged again. By then no sanction is in force.
    for record in &records {
        stand.store.erase(record.sender, i64::MAX).await.expect("a change");
    }
    stand.announce(records).await;
    is_read(2 * count).await;
    assert_eq!(all(&stand).await, before);
}

#[tokio::test]
async fn a_deleted_account_is_not_remembered() {
    let stand = Stand::start().await;
    let id = stand.enforce(rules()).await;
    let (chat, ann) = (ChatId::generate(), UserId::generate());
    stand.announce([text(chat, ann, 1, "scam")]).await;
    stand.caught(id, 1).await;
    let channel = stand.peers.channel().await;
    let peers = Peers::new(channel.clone(), channel.clone(), channel.clone(), channel);
    stand.peers.deleted.lock().expect("no panic").push(ann);
    assert!(!stand.store.windows(&[(chat, ann)]).await.expect("a read").is_empty());
    deletions::catch_up(peers.users(), &*stand.store as &dyn ModerationStore)
        .await
        .expect("the deletion is carried out");
    assert!(stand.store.windows(&[(chat, ann)]).await.expect("a read").is_empty());
    assert_eq!(stand.store.deletions_position().get().await.expect("a read").as_deref(), Some("1"));
}
