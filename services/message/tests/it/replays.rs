//! What is read from the log again comes out as it was: every kind of entry, and whatever the log's clock shows.

use std::{collections::BTreeMap, sync::Arc};

use contracts::{
    ChatId, FileId, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, Forwarded, Role, SendRecord, SeqRange},
    wire::Attachment,
};
use futures_util::TryStreamExt as _;
use kit::{catalog::Topic, clock::now_ms, page::Span, testing::wait_for};
use message::{
    domain::{Generation, SeatId},
    history::{Beginning, history},
    store::cql::CqlStore,
    sync::{Mark, Marked, Membership, SyncQuery, Syncer, Syncing as _},
};
use uuid::Uuid;

use crate::stand::{Clock, GENERATION, PATIENCE, Stand, text, with_stand};

const HOUR_MS: i64 = 60 * 60 * 1_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A file whose id follows from its name.
fn file(name: &str) -> Attachment {
    let id = FileId(Uuid::from_u128(u128::from(name.as_bytes()[0])));
    let media_type = "text/plain".to_owned();
    Attachment { name: name.to_owned(), media_type, size: 3, ..Attachment::unknown(id) }
}

/// Records of a chat with an entry of each kind, all of which are stored.
fn every_kind(chat: ChatId, ann: UserId, ben: UserId) -> Vec<SendRecord> {
    let said = |kind, body: &str| SendRecord { kind, ..text(chat, ann, MessageKey::generate(), body) };
    let about = |kind, seq, body: &str| SendRecord { target_seq: Some(seq), ..said(kind, body) };
    let subject = |kind, body: &str| SendRecord { subject: Some(ben), ..said(kind, body) };
    let mut records: Vec<SendRecord> =
        ["one", "two", "three", "four"].map(|body| said(EntryKind::Text, body)).into();
    // The third is deleted, and the file with it.
    records[2].attachments = vec![file("b.txt"), file("c.txt")];
    records.extend(EntryKind::ALL.map(|kind| match kind {
        EntryKind::Text => SendRecord {
            mentions: vec![ben],
            mention_roles: vec![Role::Owner],
            mentions_all: true,
            mentions_here: true,
            silent: true,
            attachments: vec![file("a.txt")],
            forwarded: Some(Forwarded { sender: ben, sent_at_ms: 5 }),
            ..about(kind, 1, "a reply")
        },
        EntryKind::Edit => about(kind, 2, "two, edited"),
        EntryKind::Delete => about(kind, 3, ""),
        EntryKind::DeleteRange => {
            SendRecord { range: Some(SeqRange { from_seq: 3, to_seq: 4 }), ..subject(kind, "") }
        }
        EntryKind::Reaction | EntryKind::ReactionRemoved => about(kind, 2, "\u{1f44d}"),
        EntryKind::Pin | EntryKind::Unpin => about(kind, 2, ""),
        EntryKind::MemberAdded | EntryKind::MemberRemoved => subject(kind, "3"),
        EntryKind::RoleChanged => subject(kind, "admin"),
        EntryKind::TitleChanged | EntryKind::TopicChanged | EntryKind::AvatarChanged => said(kind, "new"),
        EntryKind::SlowModeChanged | EntryKind::TtlChanged => said(kind, "3600"),
    }));
    for record in &mut records {
        record.moderates = record.kind == EntryKind::DeleteRange;
    }
    // What is left at the end: one that disappears, is pinned and reacted to, and a user who is back.
    let last = i64::try_from(records.len()).expect("few") + 1;
    records.extend([
        SendRecord {
            mentions: vec![ben],
            attachments: vec![file("d.txt")],
            ..said(EntryKind::Text, "it disappears")
        },
        about(EntryKind::Edit, last, "it still does"),
        about(EntryKind::Reaction, last, "\u{2764}\u{fe0f}"),
        about(EntryKind::Pin, last, ""),
        subject(EntryKind::MemberAdded, "4"),
    ]);
    records
}

/// Waits for more announcements of the log's records, and returns those.
async fn announced(stand: &Stand, before: usize, count: usize) -> Vec<DeliveredRecord> {
    let all = i64::try_from(before + count).expect("few");
    wait_for("the announcements", PATIENCE, || async {
        (stand.count(Topic::MessageDelivered).await >= all).then_some(())
    })
    .await;
    let records = stand.read(Topic::MessageDelivered).await;
    let records = records.iter().skip(before);
    records.map(|record| serde_json::from_slice(&record.payload).expect("an announcement")).collect()
}

/// Reads the log again from offset 0: into an empty store, over all that is there, and over all but the heads. Neither rows nor their timestamps
/// nor announcements change. The log has one partition with records.
async fn replays_change_nothing(stand: &Stand, first: &[DeliveredRecord]) {
    let tables = tables(stand).await;
    let before = contents(stand, &tables).await;
    assert!(before.values().all(|rows| !rows.is_empty()), "a table is not tested: {before:?}");
    let all: Vec<&str> = tables.keys().map(String::as_str).collect();
    let rounds = [&all[..], &["log_positions"][..], &["log_positions", "chat_heads"][..]];
    for (round, emptied) in rounds.into_iter().enumerate() {
        for table in emptied {
            stand.session.query_unpaged(format!("TRUNCATE {table}"), ()).await.expect("an empty table");
        }
        let running = stand.start_ready().await;
        let again = announced(stand, first.len() * (round + 1), first.len()).await;
        running.stop().await;
        assert_eq!(again, first, "announcements without {emptied:?}");
        let after = contents(stand, &tables).await;
        for (table, rows) in &before {
            assert_eq!(&after[table], rows, "rows of {table} without {emptied:?}");
        }
    }
}

/// The tables with what is read of them: all columns, and the timestamps of those that have some. Which heads moved together depends on the
/// moment.
async fn tables(stand: &Stand) -> BTreeMap<String, String> {
    let columns = "SELECT table_name, column_name, kind FROM system_schema.columns WHERE keyspace_name = ?";
    let pager = stand.session.query_iter(columns, (&stand.cql.cql_keyspace,)).await.expect("rows");
    let rows = pager.rows_stream::<(String, String, String)>().expect("rows of this type");
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column, kind) in rows.try_collect::<Vec<_>>().await.expect("all columns") {
        let selected = tables.entry(table).or_default();
        selected.push(column.clone());
        if kind == "regular" && column != "chats" {
            selected.push(format!("WRITETIME({column})"));
        }
    }
    tables.retain(|table, _| !["message_migrations", "moved_heads"].contains(&table.as_str()));
    tables
        .into_iter()
        .map(|(table, selected)| {
            let query = format!("SELECT JSON {} FROM {table}", selected.join(", "));
            (table, query)
        })
        .collect()
}

async fn contents(stand: &Stand, tables: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let mut contents = BTreeMap::new();
    for (table, query) in tables {
        let pager = stand.session.query_iter(query.as_str(), ()).await.expect("rows");
        let rows = pager.rows_stream::<(String,)>().expect("a row of JSON").try_collect::<Vec<_>>().await;
        let mut rows: Vec<String> = rows.expect("all pages").into_iter().map(|(row,)| row).collect();
        rows.sort();
        contents.insert(table.clone(), rows);
    }
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_entries_of_all_kinds_changes_no_byte() {
    with_stand(|stand| async move {
        stand.migrate().await;
        let (chat, ann, ben) = (ChatId::generate(), UserId::generate(), UserId::generate());
        let records = every_kind(chat, ann, ben);
        let running = stand.start_ready().await;
        stand.send_all(&records).await;
        let first = announced(&stand, 0, records.len()).await;
        running.stop().await;
        for (record, announced) in records.iter().zip(&first) {
            let is_stored = matches!(announced.outcome, DeliveryOutcome::Stored { .. });
            assert!(is_stored, "{record:?} became {announced:?}");
        }
        replays_change_nothing(&stand, &first).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_changes_no_order_and_no_replay() {
    with_stand(|stand| async move {
        stand.migrate().await;
        stand.replace_sends(Clock::Producers).await;
        let (chat, ann, ben) = (ChatId::generate(), UserId::generate(), UserId::generate());
        let start = now_ms();
        let said = |kind, body: &str| SendRecord { kind, ..text(chat, ann, MessageKey::generate(), body) };
        let about = |kind, seq, body: &str| SendRecord { target_seq: Some(seq), ..said(kind, body) };
        // What is sent, the time that the log gives it, and when it counts as sent.
        let story = [
            (said(EntryKind::Text, "on time"), start, start),
            (said(EntryKind::Text, "an hour back"), start - HOUR_MS, start),
            (said(EntryKind::Text, "a year ahead"), start + YEAR_MS, start + YEAR_MS),
            (said(EntryKind::Text, "set right"), start + 1, start + 1),
            (said(EntryKind::TtlChanged, "3600"), start + 2, start + 2),
            (said(EntryKind::Text, "it stays for an hour"), start + 2 - HOUR_MS, start + 2),
            (about(EntryKind::Edit, 6, "it stays for an hour, edited"), start + 3, start + 3),
            (about(EntryKind::Reaction, 6, "\u{1f44d}"), start + 3, start + 3),
            (about(EntryKind::Pin, 6, ""), start + 3, start + 3),
            (SendRecord { subject: Some(ben), ..said(EntryKind::MemberRemoved, "1") }, start + 4, start + 4),
            (
                SendRecord { mentions: vec![ben], ..about(EntryKind::Text, 4, "a reply") },
                start + 5,
                start + 5,
            ),
        ];
        let running = stand.start_ready().await;
        for (record, at_ms, _) in &story {
            stand.send_at(record, *at_ms).await;
        }
        let first = announced(&stand, 0, story.len()).await;
        running.stop().await;

        let store =
            Arc::new(CqlStore::prepare(Arc::clone(&stand.session), now_ms).await.expect("statements"));
        let reader = SeatId { chat, user: ann };
        let page = async |span| {
            history(&*store, reader, Beginning::Seq(1), span, 100).await.expect("a history").messages
        };
        let all = page(Span::After(0)).await;
        assert_eq!(all.iter().map(|of| of.seq).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
        assert_eq!(
            all.iter().map(|of| of.sent_at_ms).collect::<Vec<_>>(),
            story.iter().map(|(_, _, sent_at_ms)| *sent_at_ms).collect::<Vec<_>>()
        );
        for ((record, _, sent_at_ms), announced) in story.iter().zip(&first) {
            let DeliveryOutcome::Stored { sent_at_ms: announced, .. } = announced.outcome else {
                panic!("{record:?} became {announced:?}");
            };
            assert_eq!(announced, *sent_at_ms);
        }
        assert_eq!(all[5].body, "it stays for an hour, edited");
        assert_eq!(all[5].expires_at_ms, Some(start + 2 + HOUR_MS));
        let from = async |ms| page(Span::Since(ms)).await.first().map(|of| of.seq);
        assert_eq!(from(start).await, Some(1));
        // What was sent when the clock was ahead counts for what came behind it: too much is shown, and nothing is missing.
        assert_eq!(from(start + 2).await, Some(3));
        assert_eq!(from(start + 2 * YEAR_MS).await, None);

        replays_change_nothing(&stand, &first).await;

        let syncer = Syncer::new(store.clone(), Generation::new(GENERATION));
        let mark = |read_seq| Mark { seat: reader, read_seq, delivered_seq: 0, now_ms: start };
        let marked = syncer.mark(mark(11), Beginning::Seq(1), None).await.expect("a mark");
        let Marked::Moved(watermarks) = marked else { panic!("{marked:?}") };
        assert_eq!((watermarks.read_seq, watermarks.unread), (11, 0), "who writes has read");

        // Another chat in which something was written since is the more active one.
        let other = ChatId::generate();
        let running = stand.start_ready().await;
        stand.send_at(&text(other, ben, MessageKey::generate(), "hi"), start + 10).await;
        announced(&stand, first.len() * 4, 1).await;
        running.stop().await;
        let membership = |chat| Membership {
            chat,
            beginning: Beginning::Seq(1),
            joined_at_ms: start - HOUR_MS,
            own_changed_at_ms: 0,
        };
        let query = SyncQuery { user: ann, cursor: None, limit: 10, entries: 1, now_ms: start };
        let synced = syncer.sync(query, vec![membership(chat), membership(other)]).await.expect("a sync");
        assert_eq!(synced.chats.iter().map(|of| of.chat).collect::<Vec<_>>(), [other, chat]);
    })
    .await;
}
