//! What every store does: the same suite on the one in memory and on the real one.

use std::sync::Arc;

use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    event::EntryKind,
    wire::{HISTORY_PAGE_BYTES, MAX_BODY_BYTES},
};
use message::{
    domain::{Entry, Generation, Head, KnownKey, Position, SeatId, Standing, content_hash},
    store::{
        Beginning, History, Partition, Room, Row, Store, cql::CqlStore, history, memory::MemoryStore,
        migrate::migrate,
    },
};
use uuid::Uuid;

use crate::stand::with_stand;

fn generation() -> Generation {
    Generation::new("g1")
}

fn entry(chat: ChatId, offset: i64, body: &str) -> Entry {
    let subject = (offset % 2 == 0).then(|| UserId(Uuid::from_u128(7)));
    Entry {
        offset,
        sent_at_ms: 1_700_000_000_000 + offset,
        chat,
        sender: UserId(Uuid::from_u128(2)),
        device: DeviceId(Uuid::from_u128(3)),
        key: MessageKey(Uuid::from_u128(1_000 + offset as u128)),
        kind: EntryKind::Text,
        body: body.to_owned(),
        subject,
        audience: None,
        content: content_hash(EntryKind::Text, subject, body),
    }
}

/// Appends messages with these seqs, the offset of each being its seq.
async fn append<S: Store>(store: &S, chat: ChatId, seqs: impl IntoIterator<Item = i64>) {
    let entries: Vec<(i64, Entry)> =
        seqs.into_iter().map(|seq| (seq, entry(chat, seq, &format!("message {seq}")))).collect();
    let rows: Vec<Row<'_>> = entries
        .iter()
        .map(|(seq, entry)| Row { entry, seq: *seq, stamp: seq * 10, standing: None })
        .collect();
    store.append(&generation(), &rows).await.expect("rows");
}

fn head(seq: i64) -> Head {
    let applied = Some(Position { generation: generation(), offset: seq });
    Head { seq, applied, stamp: seq * 10 }
}

async fn suite<S: Store>(store: &S) {
    what_was_appended_is_found(store).await;
    the_older_head_loses(store).await;
    the_lower_position_loses(store).await;
    an_older_stamp_changes_no_row(store).await;
    a_standing_is_that_at_a_seq(store).await;
    history_goes_across_buckets(store).await;
    history_ends_before_an_unfinished_write(store).await;
    history_ends_at_its_bytes(store).await;
    history_begins_where_its_reader_was_added(store).await;
}

async fn what_was_appended_is_found<S: Store>(store: &S) {
    let chat = ChatId::generate();
    assert_eq!(store.head(chat).await.expect("a head"), Head::default());
    append(store, chat, 1..=120).await;
    let wanted = entry(chat, 60, "message 60");
    let known = store.known_key(wanted.key_id()).await.expect("an answer");
    let position = Position { generation: generation(), offset: 60 };
    assert_eq!(known, Some(KnownKey { seq: 60, content: wanted.content, position }));
    let unknown = entry(chat, 500, "").key_id();
    assert_eq!(store.known_key(unknown).await.expect("an answer"), None);

    let found = store.messages(chat, 0, 59, &mut Room::new(2)).await.expect("messages");
    assert_eq!(found.len(), 2);
    let message = &found[0];
    assert_eq!((message.chat, message.seq, message.body.as_str()), (chat, 60, "message 60"));
    assert_eq!((message.sender, message.key), (wanted.sender, wanted.key));
    assert_eq!((message.subject, message.sent_at_ms), (wanted.subject, wanted.sent_at_ms));
    assert_eq!(found[1].subject, None);
}

async fn the_older_head_loses<S: Store>(store: &S) {
    let chats = [ChatId::generate(), ChatId::generate()];
    store.put_heads(&chats.map(|chat| (chat, head(5)))).await.expect("heads");
    store.put_heads(&[(chats[0], head(4)), (chats[1], head(6))]).await.expect("heads");
    assert_eq!(store.head(chats[0]).await.expect("a head"), head(5));
    assert_eq!(store.head(chats[1]).await.expect("a head"), head(6));
}

async fn the_lower_position_loses<S: Store>(store: &S) {
    let (generation, other, partition) = (generation(), Generation::new("g2"), Partition(1));
    assert_eq!(store.next_offset(&generation, partition).await.expect("a position"), None);
    for offset in [10, 30, 20] {
        store.put_next_offset(&generation, partition, offset).await.expect("a position");
    }
    store.put_next_offset(&other, partition, 1).await.expect("a position");
    assert_eq!(store.next_offset(&generation, partition).await.expect("a position"), Some(30));
    assert_eq!(store.next_offset(&other, partition).await.expect("a position"), Some(1));
    assert_eq!(store.next_offset(&generation, Partition(2)).await.expect("a position"), None);
}

async fn an_older_stamp_changes_no_row<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let (newer, older) = (entry(chat, 2, "newer"), entry(chat, 1, "older"));
    for (entry, stamp) in [(&newer, 20), (&older, 10)] {
        store.append(&generation(), &[Row { entry, seq: 1, stamp, standing: None }]).await.expect("a row");
    }
    assert_eq!(store.messages(chat, 0, 0, &mut Room::new(10)).await.expect("messages")[0].body, "newer");
}

async fn a_standing_is_that_at_a_seq<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let seat = SeatId { chat, user: UserId(Uuid::from_u128(7)) };
    for (seq, standing) in [(4, Standing::Out), (6, Standing::Back), (8, Standing::Out)] {
        let entry = entry(chat, seq, "");
        let row = Row { entry: &entry, seq, stamp: seq * 10, standing: Some(standing) };
        store.append(&generation(), &[row]).await.expect("a row");
    }
    let cases = [(3, None), (4, Some(Standing::Out)), (7, Some(Standing::Back)), (100, Some(Standing::Out))];
    for (seq, expected) in cases {
        assert_eq!(store.standing(seat, seq).await.expect("an answer"), expected, "at {seq}");
    }
    for other in [SeatId { chat: ChatId::generate(), ..seat }, SeatId { user: UserId::generate(), ..seat }] {
        assert_eq!(store.standing(other, 100).await.expect("an answer"), None);
    }
}

async fn seqs<S: Store>(store: &S, chat: ChatId, after: i64, limit: usize) -> (Vec<i64>, i64) {
    let found = history(store, chat, Beginning::Seq(1), after, limit).await.expect("a history");
    (found.messages.iter().map(|message| message.seq).collect(), found.head_seq)
}

async fn history_goes_across_buckets<S: Store>(store: &S) {
    let chat = ChatId::generate();
    assert_eq!(seqs(store, chat, 0, 10).await, (vec![], 0));
    append(store, chat, 8_180..=8_200).await;
    store.put_heads(&[(chat, head(8_200))]).await.expect("a head");
    assert_eq!(seqs(store, chat, 8_188, 6).await, ((8_189..=8_194).collect(), 8_200));
    assert_eq!(seqs(store, chat, 8_190, 500).await, ((8_191..=8_200).collect(), 8_200));
    assert_eq!(seqs(store, chat, 8_191, 1).await, (vec![8_192], 8_200));
    assert_eq!(seqs(store, chat, 8_200, 10).await, (vec![], 8_200));
    assert_eq!(seqs(store, chat, i64::MAX, 10).await, (vec![], 8_200));
    // Rows are in the second bucket before the head is.
    let early = ChatId::generate();
    append(store, early, 8_190..=8_193).await;
    store.put_heads(&[(early, head(8_190))]).await.expect("a head");
    assert_eq!(seqs(store, early, 8_189, 500).await, ((8_190..=8_193).collect(), 8_193));
}

async fn history_ends_before_an_unfinished_write<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, [1, 2, 3, 4, 6, 7]).await;
    store.put_heads(&[(chat, head(3))]).await.expect("a head");
    assert_eq!(seqs(store, chat, 0, 500).await, (vec![1, 2, 3, 4], 4));
    assert_eq!(seqs(store, chat, 5, 500).await, (vec![6, 7], 7));
    assert_eq!(seqs(store, chat, 0, 2).await, (vec![1, 2], 3));
}

async fn history_ends_at_its_bytes<S: Store>(store: &S) {
    let chat = ChatId::generate();
    // Large ones, and one whose every byte is six as JSON.
    let bodies = (1..=40).map(|seq| match seq {
        20 => "\u{1}".repeat(MAX_BODY_BYTES),
        _ => "x".repeat(MAX_BODY_BYTES),
    });
    let entries: Vec<(i64, Entry)> =
        (1..).zip(bodies).map(|(seq, body)| (seq, entry(chat, seq, &body))).collect();
    for (seq, entry) in &entries {
        let row = Row { entry, seq: *seq, stamp: seq * 10, standing: None };
        store.append(&generation(), &[row]).await.expect("a row");
    }
    store.put_heads(&[(chat, head(40))]).await.expect("a head");
    let mut after = 0;
    while after < 40 {
        let found = history(store, chat, Beginning::Seq(1), after, 500).await.expect("a history");
        let bytes = serde_json::to_string(&found.messages).expect("json").len();
        assert!(bytes <= HISTORY_PAGE_BYTES, "{bytes} bytes after {after}");
        assert_eq!(found.head_seq, 40);
        let seqs: Vec<i64> = found.messages.iter().map(|message| message.seq).collect();
        let last = *seqs.last().expect("every page goes on");
        assert_eq!(seqs, (after + 1..=last).collect::<Vec<_>>());
        after = last;
    }
    // Small ones are all there, over several pages of the store.
    let small = ChatId::generate();
    append(store, small, 1..=500).await;
    store.put_heads(&[(small, head(500))]).await.expect("a head");
    let (all, _) = seqs(store, small, 0, 500).await;
    let last = *all.last().expect("some");
    assert!(last >= 300, "a page of {last} small entries");
    assert_eq!(all, (1..=last).collect::<Vec<_>>());
    assert_eq!(seqs(store, small, 0, 120).await, ((1..=120).collect(), 500));
}

async fn history_begins_where_its_reader_was_added<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let read = async |beginning, after| {
        let History { messages, head_seq, from_seq } =
            history(store, chat, beginning, after, 500).await.expect("a history");
        (messages.iter().map(|message| message.seq).collect::<Vec<_>>(), head_seq, from_seq)
    };
    append(store, chat, 1..=5).await;
    store.put_heads(&[(chat, head(5))]).await.expect("a head");
    // The membership is known before its entry is stored.
    let added = Beginning::Entry(entry(chat, 7, "").key_id());
    assert_eq!(read(added, 0).await, (vec![], 5, 6));
    assert_eq!(read(added, 3).await, (vec![], 5, 6));
    append(store, chat, [6]).await;
    store.put_heads(&[(chat, head(6))]).await.expect("a head");
    assert_eq!(read(added, 0).await, (vec![], 6, 7));
    // The head follows its rows.
    append(store, chat, 7..=9).await;
    assert_eq!(read(added, 0).await, (vec![7, 8, 9], 9, 7));
    store.put_heads(&[(chat, head(9))]).await.expect("a head");
    assert_eq!(read(added, 0).await, (vec![7, 8, 9], 9, 7));
    assert_eq!(read(added, 8).await, (vec![9], 9, 7));
    assert_eq!(read(added, 9).await, (vec![], 9, 7));
    assert_eq!(read(Beginning::Seq(7), 0).await, (vec![7, 8, 9], 9, 7));
    assert_eq!(read(Beginning::Seq(1), 0).await, ((1..=9).collect(), 9, 1));
}

#[tokio::test]
async fn the_store_in_memory_does_what_every_store_does() {
    suite(&MemoryStore::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_cql_does_what_every_store_does() {
    with_stand(|stand| async move {
        let flavor = stand.cql.cql_flavor;
        let ran = migrate(&stand.session, flavor).await.expect("migrations");
        assert_eq!(ran.len(), 5);
        let again = migrate(&stand.session, flavor).await.expect("migrations");
        assert!(again.is_empty(), "{again:?} ran twice");
        let store = CqlStore::prepare(Arc::clone(&stand.session)).await.expect("statements");
        suite(&store).await;
    })
    .await;
}
