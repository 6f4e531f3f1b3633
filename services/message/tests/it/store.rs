//! What every store does: the same suite on the one in memory and on the real one.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use contracts::{
    ChatId, DeviceId, FileId, MessageKey, UserId,
    event::{EntryKind, Forwarded, Role, SeqRange},
    wire::{Attachment, Changes, HISTORY_PAGE_BYTES, MAX_BODY_BYTES, Reactions},
};
use kit::{clock::now_ms, page::Span, testing::wait_for};
use message::{
    domain::{
        Content, Counts, Effect, Entry, Generation, Head, KnownKey, NewestKey, Overwrite, Patch, Pins,
        Position, RecordHash, SeatId, Standing, TargetId, Times,
    },
    history::{Beginning, History, OwnTexts, history, own_texts, pins as pins_of, replies as replies_of},
    store::{
        Partition, PlacedHead, Progress, Room, Row, Run, Store, cql::CqlStore, memory::MemoryStore,
        migrate::migrate,
    },
};
use scylla::client::session::Session;
use uuid::Uuid;

use crate::stand::with_stand;

fn generation() -> Generation {
    Generation::new("g1")
}

fn entry(chat: ChatId, offset: i64, body: &str) -> Entry {
    let subject = (offset % 2 == 0).then(|| UserId(Uuid::from_u128(7)));
    Entry {
        offset,
        logged_at_ms: 1_700_000_000_000 + offset,
        chat,
        sender: UserId(Uuid::from_u128(2)),
        device: DeviceId(Uuid::from_u128(3)),
        key: MessageKey(Uuid::from_u128(1_000 + offset as u128)),
        kind: EntryKind::Text,
        body: body.to_owned(),
        subject,
        target_seq: None,
        mentions: Vec::new(),
        mention_roles: Vec::new(),
        mentions_all: false,
        mentions_here: false,
        silent: false,
        attachments: Vec::new(),
        forwarded: None,
        range: None,
        moderates: false,
        subject_only: false,
        reads_from: None,
        content: Content { subject, ..Content::new(EntryKind::Text, body) }.hash(),
    }
}

const fn row(entry: &Entry, seq: i64, effect: Option<Effect>) -> Row<'_> {
    let times = Times { sent_at_ms: entry.logged_at_ms, expires_at_ms: None };
    Row { entry, seq, stamp: seq * 10, counts: Counts { texts: seq, calls: 0 }, effect, times }
}

/// Appends messages with these seqs, the offset of each being its seq.
async fn append<S: Store>(store: &S, chat: ChatId, seqs: impl IntoIterator<Item = i64>) {
    let entries: Vec<(i64, Entry)> =
        seqs.into_iter().map(|seq| (seq, entry(chat, seq, &format!("message {seq}")))).collect();
    let rows: Vec<Row<'_>> = entries.iter().map(|(seq, entry)| row(entry, *seq, None)).collect();
    store.append(&generation(), &rows, &[]).await.expect("rows");
}

fn head(seq: i64) -> Head {
    let applied = Some(Position { generation: generation(), offset: seq });
    Head {
        seq,
        applied,
        stamp: seq * 10,
        counts: Counts { texts: seq, calls: 0 },
        at_ms: 5 * seq,
        ..Head::default()
    }
}

async fn suite<S: Store>(store: &S) {
    what_was_appended_is_found(store).await;
    the_older_head_loses(store).await;
    what_moved_is_known_behind_an_offset(store).await;
    the_lower_position_loses(store).await;
    an_older_stamp_changes_no_row(store).await;
    a_standing_is_that_at_a_seq(store).await;
    a_reaction_is_that_at_a_seq(store).await;
    a_message_is_as_later_entries_left_it(store).await;
    a_change_is_not_seen_before_its_key(store).await;
    all_that_a_text_says_is_kept(store).await;
    files_go_with_the_text_that_carries_them(store).await;
    pins_are_listed_from_the_last_one(store).await;
    replies_are_listed_in_their_order(store).await;
    history_goes_from_a_time_on(store).await;
    an_edit_of_what_a_reader_does_not_read_has_no_text(store).await;
    a_text_disappears_and_its_row_stays(store).await;
    history_goes_across_buckets(store).await;
    history_goes_backwards(store).await;
    history_ends_before_an_unfinished_write(store).await;
    history_has_what_is_behind_the_head(store).await;
    history_ends_at_its_bytes(store).await;
    history_begins_where_its_reader_was_added(store).await;
    what_a_user_wrote_is_found_in_every_chat(store).await;
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

    let found = store
        .messages(chat, 0, Run::After(59), &mut Room::new(2, HISTORY_PAGE_BYTES))
        .await
        .expect("messages");
    assert_eq!(found.len(), 2);
    let message = &found[0];
    assert_eq!((message.chat, message.seq, message.body.as_str()), (chat, 60, "message 60"));
    assert_eq!((message.sender, message.key), (wanted.sender, wanted.key));
    assert_eq!((message.subject, message.sent_at_ms), (wanted.subject, wanted.logged_at_ms));
    assert_eq!(found[1].subject, None);
}

async fn a_text_disappears_and_its_row_stays<S: Store>(store: &S) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let chat = ChatId::generate();
    let now = now_ms();
    let entries: Vec<Entry> = (1..=4).map(|seq| entry(chat, seq, &format!("message {seq}"))).collect();
    // One that is gone by the time it is written, as in a replay, two that are about to go, and one that stays.
    let expiries = [Some(now - 1), Some(now + 1_500), Some(now + 3_600_000), None];
    let rows = || {
        let rows = (1..).zip(&entries).zip(expiries);
        let times = |entry: &Entry, expires_at_ms| Times { sent_at_ms: entry.logged_at_ms, expires_at_ms };
        rows.map(|((seq, entry), at_ms)| Row { times: times(entry, at_ms), ..row(entry, seq, None) })
            .collect::<Vec<_>>()
    };
    // Again, as after a crash.
    for _ in 0..2 {
        store.append(&generation(), &rows(), &[]).await.expect("rows");
    }
    store.put_heads(Partition(0), &[(chat, Head { ttl_seconds: 60, ..head(4) })]).await.expect("a head");
    assert_eq!(store.head(chat).await.expect("a head").ttl_seconds, 60);
    let reader = SeatId { chat, user: UserId(Uuid::from_u128(9)) };
    let read = async || {
        let page = history(store, reader, Beginning::Seq(1), Span::After(0), 10).await.expect("a history");
        page.messages.into_iter().map(|of| (of.seq, of.body, of.expired)).collect::<Vec<_>>()
    };
    let gone = |seq: i64| (seq, String::new(), true);
    let there = |seq: i64, body: &str| (seq, body.to_owned(), false);
    let all = read().await;
    assert_eq!((&all[0], &all[2..]), (&gone(1), &[there(3, "message 3"), there(4, "message 4")][..]));
    let is_gone = || async { (read().await[1] == gone(2)).then_some(()) };
    wait_for("that a text disappears", PATIENCE, is_gone).await;

    let edit = |seq: i64, expires_at_ms| Overwrite::Body {
        target: TargetId { chat, seq },
        stamp: 1_000,
        body: "edited".to_owned(),
        expires_at_ms,
    };
    let edits: Vec<Overwrite> = (1..=4).zip(expiries).map(|(seq, at_ms)| edit(seq, at_ms)).collect();
    store.append(&generation(), &[], &edits).await.expect("edits");
    assert_eq!(read().await, [gone(1), gone(2), there(3, "edited"), there(4, "edited")]);
    // A replay of the first write changes nothing of it.
    store.append(&generation(), &rows(), &[]).await.expect("rows");
    assert_eq!(read().await, [gone(1), gone(2), there(3, "edited"), there(4, "edited")]);
    for (seq, expires_at_ms) in (1..).zip(expiries) {
        let target = store.target(TargetId { chat, seq }).await.expect("an answer").expect("its row stays");
        assert_eq!(target.times.expires_at_ms, expires_at_ms);
        assert_eq!(target.times.sent_at_ms, entries[seq as usize - 1].logged_at_ms);
        assert!(
            store.counts_at(chat, seq).await.expect("an answer").is_some_and(|counts| counts.texts == seq)
        );
    }
}

async fn the_older_head_loses<S: Store>(store: &S) {
    let chats = [ChatId::generate(), ChatId::generate()];
    store.put_heads(Partition(0), &chats.map(|chat| (chat, head(5)))).await.expect("heads");
    store.put_heads(Partition(0), &[(chats[0], head(4)), (chats[1], head(6))]).await.expect("heads");
    assert_eq!(store.head(chats[0]).await.expect("a head"), head(5));
    assert_eq!(store.head(chats[1]).await.expect("a head"), head(6));
}

/// As a version does that knows nothing of the newest key, before this one runs, beside it or after it.
async fn a_head_that_another_version_wrote_says_nothing_of_keys(session: &Session, store: &CqlStore) {
    let chat = ChatId::generate();
    let known = Head { newest_key: NewestKey::default().with(MessageKey::generate()), ..head(5) };
    store.put_heads(Partition(0), &[(chat, known.clone())]).await.expect("a head");
    assert_eq!(store.head(chat).await.expect("a head"), known);
    let insert = "INSERT INTO chat_heads (chat_id, head_seq, generation, partition, applied_offset, stamp, texts, \
        calls, ttl_seconds, sent_at) VALUES (?, 6, 'g1', 0, 6, 60, 6, 0, 0, 30) USING TIMESTAMP 60";
    session.query_unpaged(insert, (chat.0,)).await.expect("a head");
    let unknown = Head { newest_key: NewestKey::UNKNOWN, ..head(6) };
    assert_eq!(store.head(chat).await.expect("a head"), unknown);
    // What is not known is not made known by writing it.
    store
        .put_heads(Partition(0), &[(chat, Head { newest_key: NewestKey::UNKNOWN, ..head(7) })])
        .await
        .expect("a head");
    assert_eq!(store.head(chat).await.expect("a head").newest_key, NewestKey::UNKNOWN);
}

async fn what_moved_is_known_behind_an_offset<S: Store>(store: &S) {
    let (generation, partition) = (Generation::new(&Uuid::new_v4().to_string()), Partition(7));
    let [early, both, late, elsewhere] = [(); 4].map(|()| ChatId::generate());
    let at =
        |offset| Head { applied: Some(Position { generation: generation.clone(), offset }), ..head(offset) };
    store.put_heads(partition, &[(early, at(3)), (both, at(5))]).await.expect("heads");
    store.put_heads(partition, &[(both, at(65_535)), (late, at(65_540))]).await.expect("heads");
    store.put_heads(Partition(8), &[(elsewhere, at(70_000))]).await.expect("heads");
    let placed = store.placed_head(late).await.expect("a head");
    assert_eq!(placed, PlacedHead { head: at(65_540), partition: Some(partition) });
    let moved = async |from, to| store.moved(&generation, partition, from, to).await.expect("chats");
    let all = HashSet::from([early, both, late]);
    assert_eq!(moved(0, 65_541).await, all);
    // What was written together may come together.
    assert!(moved(4, 65_541).await.is_superset(&HashSet::from([both, late])));
    assert_eq!(moved(6, 65_536).await, HashSet::from([both, late]), "written with one of the next window");
    assert_eq!(moved(65_541, 65_541).await, HashSet::new());
    // A former owner that wakes up, or one that began before the last commit, has moved others with the same last record.
    let others = [(); 3].map(|()| ChatId::generate());
    let heads: Vec<(ChatId, Head)> =
        (65_537..).zip(others).map(|(offset, chat)| (chat, at(offset))).chain([(late, at(65_540))]).collect();
    store.put_heads(partition, &heads).await.expect("heads");
    let everything: HashSet<ChatId> = others.into_iter().chain([both, late]).collect();
    assert_eq!(moved(6, 65_541).await, everything, "no note takes another away");
}

async fn the_lower_position_loses<S: Store>(store: &S) {
    let (generation, other, partition) = (generation(), Generation::new("g2"), Partition(1));
    assert_eq!(store.next_offset(&generation, partition).await.expect("a position"), None);
    let behind = |next_offset: i64| {
        let hash = [u8::try_from(next_offset).expect("small"); 32];
        Progress { next_offset, last: Some(RecordHash(hash)) }
    };
    for offset in [10, 30, 20] {
        store.put_progress(&generation, partition, behind(offset)).await.expect("a position");
    }
    assert_eq!(store.progress(&generation, partition).await.expect("a position"), Some(behind(30)));
    let first = Progress { next_offset: 1, last: None };
    store.put_progress(&other, partition, first).await.expect("a position");
    assert_eq!(store.progress(&other, partition).await.expect("a position"), Some(first));
    assert_eq!(store.next_offset(&generation, partition).await.expect("a position"), Some(30));
    assert_eq!(store.next_offset(&other, partition).await.expect("a position"), Some(1));
    assert_eq!(store.next_offset(&generation, Partition(2)).await.expect("a position"), None);
}

async fn an_older_stamp_changes_no_row<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let (newer, older) = (entry(chat, 2, "newer"), entry(chat, 1, "older"));
    for (entry, stamp) in [(&newer, 20), (&older, 10)] {
        store.append(&generation(), &[Row { stamp, ..row(entry, 1, None) }], &[]).await.expect("a row");
    }
    assert_eq!(
        store
            .messages(chat, 0, Run::After(0), &mut Room::new(10, HISTORY_PAGE_BYTES))
            .await
            .expect("messages")[0]
            .body,
        "newer"
    );
}

async fn a_standing_is_that_at_a_seq<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let seat = SeatId { chat, user: UserId(Uuid::from_u128(7)) };
    for (seq, standing) in [(4, Standing::Out), (6, Standing::Back), (8, Standing::Out)] {
        let entry = entry(chat, seq, "");
        let row = row(&entry, seq, Some(Effect::Standing(standing)));
        store.append(&generation(), &[row], &[]).await.expect("a row");
    }
    let cases = [(3, None), (4, Some(Standing::Out)), (7, Some(Standing::Back)), (100, Some(Standing::Out))];
    for (seq, expected) in cases {
        assert_eq!(store.standing(seat, seq).await.expect("an answer"), expected, "at {seq}");
    }
    for other in [SeatId { chat: ChatId::generate(), ..seat }, SeatId { user: UserId::generate(), ..seat }] {
        assert_eq!(store.standing(other, 100).await.expect("an answer"), None);
    }
}

fn reader(chat: ChatId) -> SeatId {
    SeatId { chat, user: UserId(Uuid::from_u128(2)) }
}

fn reaction(chat: ChatId, seq: i64, target_seq: i64, kind: EntryKind, user: u128) -> Entry {
    let sender = UserId(Uuid::from_u128(user));
    Entry { kind, target_seq: Some(target_seq), sender, ..entry(chat, seq, "+") }
}

async fn a_reaction_is_that_at_a_seq<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=2).await;
    let changes =
        [(3, EntryKind::Reaction, 2), (5, EntryKind::ReactionRemoved, 2), (6, EntryKind::Reaction, 3)];
    for (seq, kind, user) in changes {
        let entry = reaction(chat, seq, 1, kind, user);
        let effect = Some(Effect::Reacts(kind == EntryKind::Reaction));
        store.append(&generation(), &[row(&entry, seq, effect)], &[]).await.expect("a row");
    }
    let id = |user, target_seq| {
        reaction(chat, 0, target_seq, EntryKind::Reaction, user).reaction_id().expect("one")
    };
    for (user, target, seq, expected) in [
        (2, 1, 2, false),
        (2, 1, 3, true),
        (2, 1, 4, true),
        (2, 1, 5, false),
        (3, 1, 9, true),
        (2, 2, 9, false),
    ] {
        let found = store.reacts(&id(user, target), seq).await.expect("an answer");
        assert_eq!(found, expected, "user {user}, message {target}, at {seq}");
    }
    let of = |user| SeatId { chat, user: UserId(Uuid::from_u128(user)) };
    assert_eq!(store.reactions_of(of(3), 1, 9).await.expect("an answer"), [(1, "+".to_owned())]);
    assert_eq!(store.reactions_of(of(3), 2, 9).await.expect("an answer"), []);
    assert_eq!(store.reactions_of(of(2), 1, 9).await.expect("an answer"), [], "taken back");
}

async fn a_message_is_as_later_entries_left_it<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=3).await;
    let target = |seq| TargetId { chat, seq };
    let patch = |seq, reacted: &[u128]| {
        let reactions = Reactions {
            emoji: "+".into(),
            count: 1,
            own: false,
            users: reacted.iter().map(|user| UserId(Uuid::from_u128(*user))).collect(),
        };
        let changes =
            Changes { seq, edited_seq: Some(seq), reactions: vec![reactions], ..Changes::default() };
        Patch { edits: vec![seq], changes }
    };
    let edited = |stamp, body: &str| Overwrite::Body {
        target: target(1),
        stamp,
        body: body.to_owned(),
        expires_at_ms: None,
    };
    let patched = |stamp, patch| Overwrite::Patch { target: target(1), stamp, patch };
    let reacts = reaction(chat, 2, 1, EntryKind::Reaction, 2);
    let mentioning = Entry {
        target_seq: Some(1),
        mentions: vec![UserId(Uuid::from_u128(5)), UserId(Uuid::from_u128(4))],
        mentions_all: true,
        ..entry(chat, 3, "message 3")
    };
    let rows = [row(&reacts, 2, Some(Effect::Reacts(true))), row(&mentioning, 3, None)].map(|row| {
        // Written again after what `append` wrote.
        Row { stamp: row.stamp + 1, ..row }
    });
    let overwrites = [edited(20, "edited"), patched(20, patch(2, &[2]))];
    store.append(&generation(), &rows, &overwrites).await.expect("rows");
    // What is written again later with an older timestamp changes nothing: the message itself, an earlier edit.
    let first = entry(chat, 1, "message 1");
    let older = [edited(15, "older"), patched(15, Patch::default())];
    store.append(&generation(), &[row(&first, 1, None)], &older).await.expect("rows");

    let found = store.target(target(1)).await.expect("an answer").expect("a message");
    assert_eq!((found.sender, found.kind, found.target_seq), (first.sender, EntryKind::Text, None));
    assert_eq!(found.patch, patch(2, &[2]));
    assert_eq!(store.target(target(9)).await.expect("an answer"), None);
    store.put_heads(Partition(0), &[(chat, head(3))]).await.expect("a head");
    let page = history(store, reader(chat), Beginning::Seq(1), Span::After(0), 10)
        .await
        .expect("a history")
        .messages;
    assert_eq!((page[0].body.as_str(), page[0].changes.edited_seq), ("edited", Some(2)));
    assert!(page[0].changes.reactions[0].own, "the reader is user 2");
    assert_eq!((page[1].kind, page[1].target_seq), (EntryKind::Reaction, Some(1)));
    assert_eq!((&page[2].mentions, page[2].mentions_all), (&mentioning.mentions, true));
    let other = SeatId { chat, user: UserId(Uuid::from_u128(3)) };
    let page = history(store, other, Beginning::Seq(1), Span::After(0), 1).await.expect("a history").messages;
    assert!(!page[0].changes.reactions[0].own);
}

async fn a_change_is_not_seen_before_its_key<S: Store>(store: &S) {
    const CHANGES: i64 = 100;
    let chat = ChatId::generate();
    append(store, chat, 1..=CHANGES).await;
    for target_seq in 1..=CHANGES {
        let (seq, target) = (CHANGES + target_seq, TargetId { chat, seq: target_seq });
        let deletion =
            Entry { kind: EntryKind::Delete, target_seq: Some(target_seq), ..entry(chat, seq, "") };
        let changes = Changes { seq, deleted_seq: Some(seq), ..Changes::default() };
        let patch = Patch { changes, ..Patch::default() };
        let overwrites = [Overwrite::Patch { target, stamp: seq * 10, patch }];
        let rows = [row(&deletion, seq, None)];
        let (generation, id) = (generation(), deletion.key_id());
        let is_known_then = async {
            loop {
                let seen = store.target(target).await.expect("an answer").expect("a message");
                let known = store.known_key(id).await.expect("an answer");
                if seen.patch.changes.deleted_seq.is_some() {
                    return known.is_some();
                }
            }
        };
        let written = store.append(&generation, &rows, &overwrites);
        let (written, is_known_then) = tokio::join!(written, is_known_then);
        written.expect("rows");
        assert!(is_known_then, "who sends the deletion of {target_seq} again is refused");
    }
}

fn picture() -> Attachment {
    Attachment {
        name: "two \"cats\".jpg".into(),
        media_type: "image/jpeg".into(),
        size: 48_213,
        width: Some(1_600),
        height: Some(1_200),
        blur: Some("1QcSHQRnh493V4dIh4eXh1h4kJUI".into()),
        has_thumbnail: true,
        ..Attachment::unknown(FileId(Uuid::from_u128(6)))
    }
}

/// An edit keeps what a message carries, a deletion takes it, and neither is undone by a replay; what disappears takes it along.
async fn files_go_with_the_text_that_carries_them<S: Store>(store: &S) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let (chat, now) = (ChatId::generate(), now_ms());
    let carrying = |seq| Entry { attachments: vec![picture()], ..entry(chat, seq, "look") };
    let entries = [carrying(1), carrying(2), carrying(3), carrying(4)];
    let expiries = [None, None, Some(now + 3_600_000), Some(now + 1_500)];
    let rows: Vec<Row<'_>> = (1..)
        .zip(&entries)
        .zip(expiries)
        .map(|((seq, entry), expires_at_ms)| {
            let times = Times { sent_at_ms: entry.logged_at_ms, expires_at_ms };
            Row { times, ..row(entry, seq, None) }
        })
        .collect();
    store.append(&generation(), &rows, &[]).await.expect("rows");
    let target = |seq| TargetId { chat, seq };
    let edit = |seq, expires_at_ms| Overwrite::Body {
        target: target(seq),
        stamp: 1_000,
        body: "edited".into(),
        expires_at_ms,
    };
    let erased = Overwrite::Erased { target: target(2), stamp: 1_001 };
    let overwrites = [edit(1, None), edit(2, None), erased, edit(3, expiries[2])];
    store.append(&generation(), &[], &overwrites).await.expect("changes");
    // Again, as after a crash.
    store.append(&generation(), &rows, &overwrites).await.expect("rows");
    let found = async |seq| {
        let message = store.entry(target(seq)).await.expect("an answer").expect("a message");
        (message.body, message.attachments)
    };
    assert_eq!(found(1).await, ("edited".to_owned(), vec![picture()]));
    assert_eq!(found(2).await, (String::new(), Vec::new()));
    assert_eq!(found(3).await, ("edited".to_owned(), vec![picture()]));
    let is_gone = || async { (found(4).await == (String::new(), Vec::new())).then_some(()) };
    wait_for("that a message disappears", PATIENCE, is_gone).await;
}

async fn all_that_a_text_says_is_kept<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let said = Entry {
        mention_roles: vec![Role::Owner, Role::Admin],
        mentions_here: true,
        silent: true,
        attachments: vec![picture()],
        forwarded: Some(Forwarded { sender: UserId(Uuid::from_u128(6)), sent_at_ms: 1_700_000_000_007 }),
        ..entry(chat, 1, "forwarded")
    };
    let range = Some(SeqRange { from_seq: 1, to_seq: 100 });
    let deletion = Entry { kind: EntryKind::DeleteRange, range, ..entry(chat, 2, "") };
    let rows = [row(&said, 1, None), row(&deletion, 2, None)];
    store.append(&generation(), &rows, &[]).await.expect("rows");
    let found = async |seq| store.entry(TargetId { chat, seq }).await.expect("an answer");
    let text = found(1).await.expect("a message");
    assert_eq!((&text.mention_roles, text.mentions_here), (&said.mention_roles, true));
    assert_eq!((text.silent, text.forwarded, text.range), (true, said.forwarded, None));
    assert_eq!(text.attachments, [picture()]);
    let ranged = found(2).await.expect("an entry");
    assert_eq!((ranged.kind, ranged.range, ranged.silent), (EntryKind::DeleteRange, range, false));
    assert_eq!(found(3).await, None);
}

async fn pins_are_listed_from_the_last_one<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=9).await;
    assert_eq!(store.pins(chat).await.expect("pins"), Pins::default());
    let pinned = |target_seq, seq| {
        let changes = Changes { seq, pinned_seq: Some(seq), ..Changes::default() };
        let target = TargetId { chat, seq: target_seq };
        Overwrite::Patch { target, stamp: 900 + seq, patch: Patch { edits: vec![], changes } }
    };
    let pins = |stamp, pins| Overwrite::Pins { chat, stamp, pins };
    // The one of before is written again.
    let written = [
        pinned(3, 10),
        pinned(1, 11),
        pinned(5, 12),
        pins(20, Pins::new(12, vec![(10, 3), (11, 1), (12, 5)], BTreeMap::from([(1, 7)]))),
        pins(10, Pins::new(10, vec![(10, 3)], BTreeMap::new())),
    ];
    store.append(&generation(), &[], &written).await.expect("rows");
    let list = async |from_seq, before, limit| {
        let list = pins_of(store, reader(chat), from_seq, before, limit).await.expect("a list");
        (list.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), list.more)
    };
    assert_eq!(list(1, None, 10).await, (vec![5, 1, 3], false));
    assert_eq!(list(1, None, 2).await, (vec![5, 1], true));
    assert_eq!(list(1, Some(11), 2).await, (vec![3], false));
    assert_eq!(
        list(2, None, 10).await,
        (vec![5, 3], false),
        "what is before the reader's history is not theirs"
    );
    // A message that is not pinned any more, of which the list does not say so yet.
    let patch = Patch { edits: vec![], changes: Changes { seq: 13, ..Changes::default() } };
    let unpinned = Overwrite::Patch { target: TargetId { chat, seq: 1 }, stamp: 950, patch };
    store.append(&generation(), &[], &[unpinned]).await.expect("rows");
    assert_eq!(list(1, None, 2).await, (vec![5, 3], false));
}

async fn replies_are_listed_in_their_order<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=4).await;
    let reply = |seq, target| Entry { target_seq: Some(target), ..entry(chat, seq, "a reply") };
    let replies = [reply(5, 1), reply(6, 2), reply(7, 1), reply(8, 1), reply(9, 1)];
    let edit = Entry { kind: EntryKind::Edit, ..reply(10, 1) };
    let rows = (5..).zip(replies.iter().chain([&edit])).map(|(seq, entry)| row(entry, seq, None));
    store.append(&generation(), &rows.collect::<Vec<_>>(), &[]).await.expect("rows");
    store.put_heads(Partition(0), &[(chat, head(8))]).await.expect("a head");
    let list = async |from_seq, seq, after, limit| {
        let list = replies_of(store, reader(chat), from_seq, (seq, after), limit).await.expect("a list");
        list.map(|list| (list.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), list.more))
    };
    assert_eq!(list(1, 1, 0, 10).await, Some((vec![5, 7, 8], false)), "up to the head");
    assert_eq!(list(1, 1, 0, 2).await, Some((vec![5, 7], true)));
    assert_eq!(list(1, 1, 7, 2).await, Some((vec![8], false)));
    assert_eq!(list(1, 3, 0, 2).await, Some((vec![], false)));
    for (from_seq, seq) in [(2, 1), (1, 11), (1, 10), (1, i64::MIN)] {
        assert_eq!(list(from_seq, seq, 0, 10).await, None, "message {seq} from {from_seq} on");
    }
}

async fn history_goes_from_a_time_on<S: Store>(store: &S) {
    let chat = ChatId::generate();
    // The clock goes back behind the third entry, and entry 6 is lost.
    let times = [(1, 100), (2, 200), (3, 900), (4, 300), (5, 400), (7, 950), (8, 1_000)];
    let mut stamp = 0;
    for (seq, sent_at_ms) in times {
        let entry = Entry { logged_at_ms: sent_at_ms, ..entry(chat, seq, "hi") };
        stamp = (sent_at_ms * 1_000).max(stamp + 1);
        store.append(&generation(), &[Row { stamp, ..row(&entry, seq, None) }], &[]).await.expect("a row");
    }
    store.put_heads(Partition(0), &[(chat, head(8))]).await.expect("a head");
    let first = async |from_seq, ms| {
        let page = history(store, reader(chat), Beginning::Seq(from_seq), Span::Since(ms), 2).await;
        page.expect("a page").messages.first().map(|message| message.seq)
    };
    for (ms, expected) in
        [(0, 1), (100, 1), (101, 2), (200, 2), (201, 3), (350, 3), (900, 3), (901, 7), (950, 7), (1_000, 8)]
    {
        assert_eq!(first(1, ms).await, Some(expected), "from {ms} ms on");
    }
    assert_eq!(first(1, 1_001).await, None);
    assert_eq!(first(1, i64::MAX).await, None);
    assert_eq!(first(4, 0).await, Some(4));
    assert_eq!(first(4, 500).await, Some(4), "it counts as sent with the one before it");
    assert_eq!(first(9, 0).await, None);
    // Behind the head, which follows its rows.
    let late = Entry { logged_at_ms: 2_000, ..entry(chat, 9, "late") };
    let row = Row { stamp: 2_000_000, ..row(&late, 9, None) };
    store.append(&generation(), &[row], &[]).await.expect("a row");
    assert_eq!(first(1, 1_500).await, Some(9));
    assert_eq!(first(1, 2_001).await, None);
}

async fn seqs<S: Store>(store: &S, chat: ChatId, after: i64, limit: usize) -> (Vec<i64>, i64) {
    let found =
        history(store, reader(chat), Beginning::Seq(1), Span::After(after), limit).await.expect("a history");
    (found.messages.iter().map(|message| message.seq).collect(), found.head_seq)
}

async fn an_edit_of_what_a_reader_does_not_read_has_no_text<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=4).await;
    let edit =
        |seq, target| Entry { kind: EntryKind::Edit, target_seq: Some(target), ..entry(chat, seq, "edited") };
    let edits = [edit(5, 2), edit(6, 3)];
    let rows: Vec<_> = (5..).zip(&edits).map(|(seq, entry)| row(entry, seq, None)).collect();
    store.append(&generation(), &rows, &[]).await.expect("rows");
    store.put_heads(Partition(0), &[(chat, head(6))]).await.expect("a head");
    let texts = async |from_seq, span| {
        let page = history(store, reader(chat), Beginning::Seq(from_seq), span, 2).await.expect("a page");
        page.messages.into_iter().map(|message| message.body).collect::<Vec<_>>()
    };
    for span in [Span::After(4), Span::Before(7), Span::Around(6)] {
        assert_eq!(texts(1, span).await, ["edited", "edited"]);
        assert_eq!(texts(3, span).await, ["", "edited"], "{span:?}");
    }
}

async fn history_goes_across_buckets<S: Store>(store: &S) {
    let chat = ChatId::generate();
    assert_eq!(seqs(store, chat, 0, 10).await, (vec![], 0));
    append(store, chat, 8_180..=8_200).await;
    store.put_heads(Partition(0), &[(chat, head(8_200))]).await.expect("a head");
    assert_eq!(seqs(store, chat, 8_188, 6).await, ((8_189..=8_194).collect(), 8_200));
    assert_eq!(seqs(store, chat, 8_190, 500).await, ((8_191..=8_200).collect(), 8_200));
    assert_eq!(seqs(store, chat, 8_191, 1).await, (vec![8_192], 8_200));
    assert_eq!(seqs(store, chat, 8_200, 10).await, (vec![], 8_200));
    assert_eq!(seqs(store, chat, i64::MAX, 10).await, (vec![], 8_200));
    // Rows are in the second bucket before the head is.
    let early = ChatId::generate();
    append(store, early, 8_190..=8_193).await;
    store.put_heads(Partition(0), &[(early, head(8_190))]).await.expect("a head");
    assert_eq!(seqs(store, early, 8_189, 500).await, ((8_190..=8_193).collect(), 8_193));
}

async fn history_goes_backwards<S: Store>(store: &S) {
    let chat = ChatId::generate();
    let page = async |beginning, span, limit| {
        let found = history(store, reader(chat), Beginning::Seq(beginning), span, limit).await;
        let History { messages, head_seq, .. } = found.expect("a history");
        (messages.iter().map(|message| message.seq).collect::<Vec<_>>(), head_seq)
    };
    assert_eq!(page(1, Span::Before(10), 10).await, (vec![], 0));
    // The last three are behind the head, and follow it without a gap.
    append(store, chat, 8_180..=8_203).await;
    store.put_heads(Partition(0), &[(chat, head(8_200))]).await.expect("a head");
    assert_eq!(page(1, Span::Before(8_195), 6).await.0, (8_189..=8_194).collect::<Vec<_>>());
    assert_eq!(page(1, Span::Before(i64::MAX), 3).await.0, [8_201, 8_202, 8_203]);
    assert_eq!(page(1, Span::Before(i64::MAX), 5).await.0, (8_199..=8_203).collect::<Vec<_>>());
    assert_eq!(page(8_191, Span::Before(8_195), 6).await.0, (8_191..=8_194).collect::<Vec<_>>());
    assert_eq!(page(8_191, Span::Before(8_191), 6).await.0, Vec::<i64>::new());
    assert_eq!(page(8_190, Span::Around(8_193), 4).await.0, (8_191..=8_194).collect::<Vec<_>>());
    assert_eq!(page(8_193, Span::Around(8_193), 5).await.0, [8_193, 8_194, 8_195]);
    assert_eq!(page(1, Span::Around(8_201), 2).await.0, [8_200, 8_201], "a whole write is read");
    assert_eq!(page(1, Span::Around(9_000), 2).await.0, [8_202, 8_203]);
}

async fn history_ends_before_an_unfinished_write<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, [1, 2, 3, 4, 6, 7]).await;
    store.put_heads(Partition(0), &[(chat, head(3))]).await.expect("a head");
    assert_eq!(seqs(store, chat, 0, 500).await, (vec![1, 2, 3, 4], 4));
    assert_eq!(seqs(store, chat, 5, 500).await, (vec![6, 7], 7));
    assert_eq!(seqs(store, chat, 0, 2).await, (vec![1, 2], 3));
}

/// An entry is announced before its head is stored, and may be asked for at once.
async fn history_has_what_is_behind_the_head<S: Store>(store: &S) {
    let chat = ChatId::generate();
    append(store, chat, 1..=12).await;
    store.put_heads(Partition(0), &[(chat, head(6))]).await.expect("a head");
    // What follows the gap is half written.
    append(store, chat, 14..=15).await;
    let page = async |span, limit| {
        let page = history(store, reader(chat), Beginning::Seq(1), span, limit).await.expect("a page");
        page.messages.iter().map(|message| message.seq).collect::<Vec<_>>()
    };
    assert_eq!(page(Span::Before(i64::MAX), 4).await, [9, 10, 11, 12]);
    assert_eq!(page(Span::Before(i64::MAX), 8).await, [5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(page(Span::Before(10), 3).await, [7, 8, 9]);
    assert_eq!(page(Span::Before(6), 3).await, [3, 4, 5]);
    for seq in 1..=20 {
        for limit in 1..=8 {
            let found = page(Span::Around(seq), limit).await;
            assert!(!found.is_empty() && found.len() <= limit, "{found:?} around {seq}");
            assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "{found:?} around {seq}");
            assert!(found.contains(&seq.min(12)), "{found:?} around {seq}");
        }
    }
    let fresh = ChatId::generate();
    append(store, fresh, 1..=3).await;
    let page = history(store, reader(fresh), Beginning::Seq(1), Span::Before(9), 9).await.expect("a page");
    assert_eq!(page.messages.len(), 3, "the first head is not stored yet");
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
        let row = row(entry, *seq, None);
        store.append(&generation(), &[row], &[]).await.expect("a row");
    }
    store.put_heads(Partition(0), &[(chat, head(40))]).await.expect("a head");
    let mut after = 0;
    while after < 40 {
        let found = history(store, reader(chat), Beginning::Seq(1), Span::After(after), 500)
            .await
            .expect("a history");
        let bytes = serde_json::to_string(&found.messages).expect("json").len();
        assert!(bytes <= HISTORY_PAGE_BYTES, "{bytes} bytes after {after}");
        assert_eq!(found.head_seq, 40);
        let seqs: Vec<i64> = found.messages.iter().map(|message| message.seq).collect();
        let last = *seqs.last().expect("every page goes on");
        assert_eq!(seqs, (after + 1..=last).collect::<Vec<_>>());
        after = last;
    }
    for seq in 15..=25 {
        let found =
            history(store, reader(chat), Beginning::Seq(1), Span::Around(seq), 500).await.expect("a history");
        let bytes = serde_json::to_string(&found.messages).expect("json").len();
        assert!(bytes <= HISTORY_PAGE_BYTES, "{bytes} bytes around {seq}");
    }
    // Small ones are all there, over several pages of the store.
    let small = ChatId::generate();
    append(store, small, 1..=500).await;
    store.put_heads(Partition(0), &[(small, head(500))]).await.expect("a head");
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
            history(store, reader(chat), beginning, Span::After(after), 500).await.expect("a history");
        (messages.iter().map(|message| message.seq).collect::<Vec<_>>(), head_seq, from_seq)
    };
    append(store, chat, 1..=5).await;
    store.put_heads(Partition(0), &[(chat, head(5))]).await.expect("a head");
    // The membership is known before its entry is stored.
    let added = Beginning::Entry(entry(chat, 7, "").key_id());
    assert_eq!(read(added, 0).await, (vec![], 5, 6));
    assert_eq!(read(added, 3).await, (vec![], 5, 6));
    append(store, chat, [6]).await;
    store.put_heads(Partition(0), &[(chat, head(6))]).await.expect("a head");
    assert_eq!(read(added, 0).await, (vec![], 6, 7));
    // The head follows its rows.
    append(store, chat, 7..=9).await;
    assert_eq!(read(added, 0).await, (vec![7, 8, 9], 9, 7));
    store.put_heads(Partition(0), &[(chat, head(9))]).await.expect("a head");
    assert_eq!(read(added, 0).await, (vec![7, 8, 9], 9, 7));
    assert_eq!(read(added, 8).await, (vec![9], 9, 7));
    assert_eq!(read(added, 9).await, (vec![], 9, 7));
    assert_eq!(read(Beginning::Seq(7), 0).await, (vec![7, 8, 9], 9, 7));
    assert_eq!(read(Beginning::Seq(1), 0).await, ((1..=9).collect(), 9, 1));
}

/// Appends messages of others with these seqs, and one of this user wherever `is_own` says so.
async fn append_between<S: Store>(
    store: &S,
    chat: ChatId,
    user: UserId,
    last: i64,
    is_own: impl Fn(i64) -> bool,
) {
    let entries: Vec<Entry> = (1..=last)
        .map(|seq| {
            let entry = entry(chat, seq, &format!("message {seq}"));
            if is_own(seq) { Entry { sender: user, ..entry } } else { entry }
        })
        .collect();
    let rows: Vec<Row<'_>> = entries.iter().zip(1..).map(|(entry, seq)| row(entry, seq, None)).collect();
    store.append(&generation(), &rows, &[]).await.expect("rows");
    store.put_heads(Partition(0), &[(chat, head(last))]).await.expect("a head");
}

async fn what_a_user_wrote_is_found_in_every_chat<S: Store>(store: &S) {
    let user = UserId::generate();
    let mut chats = [ChatId::generate(), ChatId::generate()];
    chats.sort_unstable();
    for chat in chats {
        append_between(store, chat, user, 60, |seq| seq % 3 == 0).await;
    }
    let (mut found, mut behind) = (Vec::new(), None);
    loop {
        let OwnTexts { messages, last } = own_texts(store, user, behind, 7).await.expect("a page");
        assert!(messages.len() <= 7 && messages.iter().all(|message| message.sender == user));
        found.extend(messages.into_iter().map(|message| (message.chat, message.seq)));
        behind = last;
        if behind.is_none() {
            break;
        }
    }
    let expected: Vec<_> =
        chats.into_iter().flat_map(|chat| (1..=20).map(move |nth| (chat, 3 * nth))).collect();
    assert_eq!(found, expected);
    let silent = own_texts(store, UserId::generate(), None, 7).await.expect("a page");
    assert_eq!(silent, OwnTexts::default());
}

#[tokio::test]
async fn who_wrote_little_in_a_long_chat_gets_pages_in_time() {
    let (store, chat, user) = (MemoryStore::default(), ChatId::generate(), UserId::generate());
    append_between(&store, chat, user, 6_000, |seq| seq == 1 || seq == 6_000).await;
    let first = own_texts(&store, user, None, 100).await.expect("a page");
    assert_eq!(first.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), [1]);
    let behind = first.last.expect("more");
    assert!((5_000..6_000).contains(&behind.seq), "{behind:?}");
    let second = own_texts(&store, user, Some(behind), 100).await.expect("a page");
    assert_eq!(second.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), [6_000]);
    assert_eq!(second.last, None);
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
        let again = migrate(&stand.session, flavor).await.expect("migrations");
        assert!(again.is_empty(), "{again:?} ran twice");
        // What another process has just run, or this one before a crash, is run again without harm.
        stand.session.query_unpaged("TRUNCATE message_migrations", ()).await.expect("no note of any");
        assert_eq!(migrate(&stand.session, flavor).await.expect("migrations"), ran);
        let store = CqlStore::prepare(Arc::clone(&stand.session), now_ms).await.expect("statements");
        suite(&store).await;
        a_head_that_another_version_wrote_says_nothing_of_keys(&stand.session, &store).await;
    })
    .await;
}
