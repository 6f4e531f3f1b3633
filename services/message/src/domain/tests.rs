use std::collections::{BTreeMap, HashMap, HashSet};

use contracts::{
    FileId,
    wire::{Attachment, Changes, Reactions},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn generation() -> Generation {
    Generation::new("g1")
}

fn at(offset: i64) -> Position {
    Position { generation: generation(), offset }
}

/// The `key`-th message of a sender in a chat, as the log has it at `offset`.
fn entry(offset: i64, logged_at_ms: i64, chat: u128, sender: u128, key: u128, body: &str) -> Entry {
    Entry {
        offset,
        logged_at_ms,
        chat: ChatId(Uuid::from_u128(chat)),
        sender: UserId(Uuid::from_u128(sender)),
        device: DeviceId(Uuid::from_u128(9)),
        key: MessageKey(Uuid::from_u128(key)),
        kind: EntryKind::Text,
        body: body.to_owned(),
        subject: None,
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
        content: Content::new(EntryKind::Text, body).hash(),
    }
}

fn file(id: u128) -> Attachment {
    let name = format!("{id}.txt");
    Attachment { name, size: 3, ..Attachment::unknown(FileId(Uuid::from_u128(id))) }
}

fn known(seq: i64, offset: i64, body: &str) -> KnownKey {
    KnownKey { seq, content: Content::new(EntryKind::Text, body).hash(), position: at(offset) }
}

/// An entry about `subject`, who is added to a chat or removed from it.
fn change(offset: i64, logged_at_ms: i64, chat: u128, kind: EntryKind, subject: u128) -> Entry {
    let user = UserId(Uuid::from_u128(subject));
    let (subject, body) = match kind {
        EntryKind::RoleChanged => (Some(user), "admin"),
        EntryKind::TitleChanged
        | EntryKind::TopicChanged
        | EntryKind::AvatarChanged
        | EntryKind::SlowModeChanged
        | EntryKind::TtlChanged => (None, "a name"),
        _ => (Some(user), ""),
    };
    Entry {
        kind,
        subject,
        content: Content { subject, ..Content::new(kind, body) }.hash(),
        ..entry(offset, logged_at_ms, chat, 77, 1_000 + offset as u128, body)
    }
}

/// An entry about message `target_seq`.
fn about(offset: i64, kind: EntryKind, sender: u128, target_seq: i64, body: &str) -> Entry {
    let target_seq = Some(target_seq);
    let content = Content { target_seq, ..Content::new(kind, body) }.hash();
    Entry { kind, target_seq, content, ..entry(offset, 1, 1, sender, 2_000 + offset as u128, body) }
}

/// The deletion of a range by `sender`: of what `subject` wrote, or as one who moderates of what all wrote.
fn deletion(offset: i64, sender: u128, subject: Option<u128>, range: (i64, i64)) -> Entry {
    let kind = EntryKind::DeleteRange;
    let (subject, range) = (
        subject.map(|user| UserId(Uuid::from_u128(user))),
        Some(SeqRange { from_seq: range.0, to_seq: range.1 }),
    );
    let content = Content { subject, range, ..Content::new(kind, "") }.hash();
    let moderates = subject != Some(UserId(Uuid::from_u128(sender)));
    Entry {
        kind,
        subject,
        range,
        moderates,
        content,
        ..entry(offset, 1, 1, sender, 3_000 + offset as u128, "")
    }
}

/// A text in a chat of texts.
fn store(seq: i64, stamp: i64) -> Verdict {
    stored(seq, stamp, seq, None)
}

fn stored(seq: i64, stamp: i64, texts: i64, effect: Option<Effect>) -> Verdict {
    // Where no clock was far ahead.
    let times = Times { sent_at_ms: stamp / 1_000, expires_at_ms: None };
    Verdict::Store { seq, stamp, counts: Counts { texts, calls: 0 }, effect, times }
}

fn check(
    head: Head,
    known: Option<KnownKey>,
    entry: &Entry,
    expected: Result<(Verdict, Head), Contradiction>,
) {
    let mut chats = Chats { heads: HashMap::from([(entry.chat, head)]), ..Chats::default() };
    let known = known.into_iter().map(|known| (entry.key_id(), known)).collect();
    let sequenced = sequence(&generation(), &mut chats, known, [entry]);
    match expected {
        Ok((verdict, head)) => {
            assert_eq!(sequenced, Ok(Sequenced { verdicts: vec![verdict], overwrites: vec![] }));
            assert_eq!(chats.heads[&entry.chat], head);
        }
        Err(contradiction) => assert_eq!(sequenced, Err(contradiction)),
    }
}

/// The head of a chat of texts.
fn head(seq: i64, applied: i64, stamp: i64) -> Head {
    let counts = Counts { texts: seq, calls: 0 };
    Head { seq, applied: Some(at(applied)), stamp, counts, at_ms: stamp / 1_000, ..Head::default() }
}

#[test]
fn the_first_message_of_a_chat_is_number_one() {
    let entry = entry(5, 2, 1, 1, 1, "hi");
    check(Head::default(), None, &entry, Ok((store(1, 2_000), head(1, 5, 2_000))));
}

#[test]
fn a_clock_that_steps_back_still_gives_growing_stamps() {
    let entry = entry(6, 1, 1, 1, 2, "hi");
    check(head(1, 5, 2_000), None, &entry, Ok((store(2, 2_001), head(2, 6, 2_001))));
}

#[test]
fn the_clock_of_a_chat_waits_for_one_that_steps_back_a_little_and_follows_one_that_was_far_ahead() {
    const HOUR_MS: i64 = 60 * 60 * 1_000;
    const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
    let start = 10 * YEAR_MS;
    // What the log's clock shows, and what the chat's does.
    let steps = [
        (start, start),
        (start + 5, start + 5),
        (start + 5 - HOUR_MS, start + 5),
        (start + 4, start + 5),
        (start + 6, start + 6),
        (start + YEAR_MS, start + YEAR_MS),
        (start + YEAR_MS - 1, start + YEAR_MS),
        (start + 10, start + 10),
        (start + 9, start + 10),
        (start + 11, start + 11),
        (start + 11 - 2 * HOUR_MS, start + 11),
        (start + 10 - 2 * HOUR_MS, start + 10 - 2 * HOUR_MS),
        (0, 0),
    ];
    let log: Vec<Entry> = (0..)
        .zip(steps)
        .map(|(offset, (logged_at_ms, _))| entry(offset, logged_at_ms, 1, 1, 10 + offset as u128, "hi"))
        .collect();
    let mut last = 0;
    for (verdict, (_, expected)) in sequence_new(&log).into_iter().zip(steps) {
        let Verdict::Store { stamp, times, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(times.sent_at_ms, expected);
        assert!(stamp > last, "timestamps of rows never go back");
        last = stamp;
    }
}

#[test]
fn a_resend_gets_the_first_seq_and_moves_only_the_stamp() {
    let same = entry(9, 3, 1, 1, 1, "hi");
    check(
        head(4, 8, 2_500),
        Some(known(2, 5, "hi")),
        &same,
        Ok((Verdict::Repeated { seq: 2 }, head(4, 9, 3_000))),
    );
    let other = entry(9, 3, 1, 1, 1, "bye");
    check(head(4, 8, 2_500), Some(known(2, 5, "hi")), &other, Ok((Verdict::Conflict, head(4, 9, 3_000))));
}

#[test]
fn a_key_from_the_same_offset_is_the_message_itself() {
    let entry = entry(9, 3, 1, 1, 1, "hi");
    let expected = Ok((store(5, 3_000), head(5, 9, 3_000)));
    check(head(4, 8, 2_500), Some(known(5, 9, "hi")), &entry, expected);
}

#[test]
fn an_applied_offset_is_only_announced_again() {
    let (before, first) = (head(4, 20, 9_000), entry(9, 3, 1, 1, 1, "hi"));
    check(
        before.clone(),
        Some(known(2, 9, "hi")),
        &first,
        Ok((Verdict::Announce { seq: 2 }, before.clone())),
    );
    let again = entry(12, 3, 1, 1, 1, "hi");
    check(
        before.clone(),
        Some(known(2, 9, "hi")),
        &again,
        Ok((Verdict::Repeated { seq: 2 }, before.clone())),
    );
    let other = entry(13, 3, 1, 1, 1, "bye");
    check(before.clone(), Some(known(2, 9, "hi")), &other, Ok((Verdict::Conflict, before)));
}

#[test]
fn offsets_of_another_generation_are_new() {
    let old = Position { generation: Generation::new("g0"), offset: 500 };
    let before = Head { applied: Some(old.clone()), ..head(3, 500, 9_000) };
    let fresh = entry(0, 1, 1, 1, 7, "hi");
    check(before.clone(), None, &fresh, Ok((store(4, 9_001), head(4, 0, 9_001))));
    let resent = KnownKey { position: old, ..known(2, 0, "hi") };
    check(before, Some(resent), &fresh, Ok((Verdict::Repeated { seq: 2 }, head(3, 0, 9_001))));
}

#[test]
fn what_no_crash_can_leave_behind_is_a_contradiction() {
    let entry = entry(9, 3, 1, 1, 1, "hi");
    let chat = entry.chat;
    let lost = Contradiction::AppliedWithoutKey { chat, offset: 9 };
    check(head(4, 20, 1), None, &entry, Err(lost));
    let later = Contradiction::KeyFromLater { chat, offset: 9, found: 11 };
    check(head(4, 8, 1), Some(known(2, 11, "hi")), &entry, Err(later));
    let moved = Contradiction::SeqMoved { chat, offset: 9, found: 7, expected: 5 };
    check(head(4, 8, 1), Some(known(7, 9, "hi")), &entry, Err(moved));
}

/// Returns the verdicts on a log from its beginning.
fn sequence_new(entries: &[Entry]) -> Vec<Verdict> {
    sequence_all(entries).verdicts
}

fn sequence_all(entries: &[Entry]) -> Sequenced {
    sequence(&generation(), &mut Chats::default(), HashMap::new(), entries).expect("verdicts")
}

#[test]
fn what_a_removed_user_sends_is_not_stored_until_they_are_back() {
    use EntryKind::{MemberAdded, MemberRemoved};
    let entries = [
        entry(0, 1, 1, 1, 1, "hi"),
        change(1, 1, 1, MemberRemoved, 1),
        entry(2, 1, 1, 1, 2, "behind the removal"),
        // A resend of what was stored before is still answered with its seq.
        entry(3, 1, 1, 1, 1, "hi"),
        // Others, and the same user elsewhere, go on.
        entry(4, 1, 1, 2, 1, "hi"),
        entry(5, 1, 2, 1, 3, "hi"),
        change(6, 1, 1, MemberAdded, 1),
        // The refused key was never used.
        entry(7, 1, 1, 1, 2, "behind the removal"),
        // Nothing is to be noted of a user who was never removed.
        change(8, 1, 1, MemberAdded, 3),
        // What a group is called and who has which role says nothing of who is in it.
        change(9, 1, 1, MemberRemoved, 1),
        change(10, 1, 1, EntryKind::RoleChanged, 1),
        change(11, 1, 1, EntryKind::TitleChanged, 1),
        entry(12, 1, 1, 1, 9, "behind the removal"),
    ];
    assert_eq!(
        sequence_new(&entries),
        [
            store(1, 1_000),
            stored(2, 1_001, 1, Some(Effect::Standing(Standing::Out))),
            Verdict::SenderOut,
            Verdict::Repeated { seq: 1 },
            stored(3, 1_004, 2, None),
            store(1, 1_000),
            stored(4, 1_005, 2, Some(Effect::Standing(Standing::Back))),
            stored(5, 1_006, 3, None),
            stored(6, 1_007, 3, None),
            stored(7, 1_008, 3, Some(Effect::Standing(Standing::Out))),
            stored(8, 1_009, 3, None),
            stored(9, 1_010, 3, None),
            Verdict::SenderOut,
        ]
    );
    let refused = Verdict::SenderOut.announcement(&entries[2], 0, Times::default());
    assert_eq!(refused.outcome, DeliveryOutcome::Rejected { code: ErrorCode::NotAMember });
}

#[test]
fn a_resend_within_one_batch_is_seen() {
    let entries = [
        entry(0, 1, 1, 1, 1, "hi"),
        entry(1, 1, 1, 1, 1, "hi"),
        entry(2, 1, 1, 1, 1, "bye"),
        // Keys belong to a sender.
        entry(3, 1, 1, 2, 1, "bye"),
    ];
    assert_eq!(
        sequence_new(&entries),
        [store(1, 1_000), Verdict::Repeated { seq: 1 }, Verdict::Conflict, store(2, 1_003),]
    );
}

#[test]
fn a_reader_never_sees_past_a_half_written_batch() {
    let cases: [(i64, i64, &[i64], usize); 6] = [
        (0, 3, &[1, 2, 3], 3),
        (0, 3, &[1, 2, 3, 4, 5], 5),
        (0, 3, &[1, 2, 3, 5], 3),
        (0, 0, &[2, 3], 0),
        (5, 3, &[6, 7, 9], 2),
        (5, 9, &[6, 8, 9, 10], 4),
    ];
    for (after, head_seq, seqs, expected) in cases {
        assert_eq!(visible(after, head_seq, seqs.iter().copied()), expected, "{seqs:?} after {after}");
    }
}

#[test]
fn all_that_an_entry_says_is_part_of_its_content() {
    let users = [UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2))];
    let subject = Some(users[0]);
    let files = [file(1), file(2), file(1)];
    let text = Content::new(EntryKind::Text, "a");
    let range = |from_seq, to_seq| Some(SeqRange { from_seq, to_seq });
    let source = |chat, seq| Some(Source { chat: ChatId(Uuid::from_u128(chat)), seq });
    let about = |kind| Content { target_seq: Some(1), ..Content::new(kind, "a") };
    let hashes = [
        text,
        Content { target_seq: Some(1), ..text },
        Content { target_seq: Some(2), ..text },
        Content { mentions_all: true, ..text },
        Content { mentions: &users, ..text },
        Content { mentions: &users[..1], ..text },
        Content { mentions_here: true, ..text },
        Content { silent: true, ..text },
        Content { silent: true, mentions_here: true, ..text },
        Content { silent: true, mentions_all: true, ..text },
        Content { mention_roles: &[Role::Owner], ..text },
        Content { mention_roles: &[Role::Owner, Role::Admin], ..text },
        Content { attachments: &files[..1], ..text },
        Content { attachments: &files[1..2], ..text },
        Content { attachments: &files[..2], ..text },
        Content { attachments: &files[1..], ..text },
        Content { attachments: &files[..1], silent: true, ..text },
        Content { attachments: &files[..1], body: "", ..text },
        Content { source: source(1, 1), ..text },
        Content { source: source(1, 2), ..text },
        Content { source: source(2, 1), ..text },
        Content { range: range(1, 2), ..Content::new(EntryKind::DeleteRange, "") },
        Content { range: range(1, 3), ..Content::new(EntryKind::DeleteRange, "") },
        Content { range: range(2, 3), subject, ..Content::new(EntryKind::DeleteRange, "") },
        about(EntryKind::Edit),
        about(EntryKind::Reaction),
        Content::new(EntryKind::MemberAdded, "a"),
        Content { subject, ..Content::new(EntryKind::MemberAdded, "a") },
        Content { subject, ..Content::new(EntryKind::MemberRemoved, "a") },
    ];
    let hashes = hashes.map(|content| content.hash());
    let distinct: HashSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

/// A resend may come after an update: what a key stands for is stored.
#[test]
fn the_content_of_what_was_there_before_keeps_its_fingerprint() {
    let check = |content: Content<'_>, expected: &str| {
        let hash: String = content.hash().0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected, "{content:?}");
    };
    let users = [UserId(Uuid::from_u128(1))];
    let text = Content::new(EntryKind::Text, "hi");
    check(text, "5c28185cb0324466cb618ceca0108085ec91512a8a780f9aac1b0f5274e6f6b1");
    check(
        Content { target_seq: Some(7), mentions: &users, mentions_all: true, ..text },
        "101ea0bd62d983caf9ff28c12651b442d1109d001f7f70cb9c0a71a388de751a",
    );
    check(
        Content { subject: Some(users[0]), ..Content::new(EntryKind::MemberAdded, "") },
        "7ade936d0abaf2246aac9899d0f52419cd2693ddce7e52835a491bdec8419d6d",
    );
}

/// The rows that a log makes, from its beginning.
fn rows_of(entries: &[Entry]) -> BTreeMap<i64, (String, Changes)> {
    rows_in_batches(entries, entries.len())
}

/// Returns likewise what is stored when the log is read in batches of so many entries.
fn rows_in_batches(entries: &[Entry], records: usize) -> BTreeMap<i64, (String, Changes)> {
    let mut world = World::default();
    let mut owners = [Owner::default(), Owner::default()];
    for _ in 0..entries.len().div_ceil(records) {
        for step in [Step::Decide { owner: 0, records }, Step::Write { owner: 0, mask: 0, whole: true }] {
            world.step(&mut owners, entries, &step);
        }
    }
    world.messages().into_iter().map(|((_, seq), (_, body, patch))| (seq, (body, patch.changes))).collect()
}

/// Of what was before a member came, a scheduled reply says as little as one that is sent by hand.
#[test]
fn a_reply_that_was_not_checked_before_the_log_speaks_of_what_its_sender_reads() {
    let joined = change(1, 1, 1, EntryKind::MemberAdded, 2);
    let reply = |offset, target, reads_from| Entry {
        reads_from,
        ..about(offset, EntryKind::Text, 2, target, "I agree")
    };
    let (from, nowhere) = (Some(joined.key_id()), Some(entry(9, 1, 1, 9, 9, "").key_id()));
    let log = [
        entry(0, 1, 1, 1, 1, "before"),
        joined,
        entry(2, 1, 1, 1, 2, "behind"),
        reply(3, 1, from),
        reply(4, 3, from),
        reply(5, 1, None),
        reply(6, 3, nowhere),
        Entry { reads_from: from, ..entry(7, 1, 1, 2, 3, "no reply") },
    ];
    let refused: Vec<_> = sequence_new(&log).iter().map(|verdict| *verdict == Verdict::NoTarget).collect();
    assert_eq!(refused, [false, false, false, true, false, false, true, false]);
    let rows = rows_of(&log);
    assert_eq!((rows[&1].1.replies, rows[&3].1.replies), (1, 1), "the one whose sender was checked counts");
    for records in 1..log.len() {
        assert_eq!(rows_in_batches(&log, records), rows, "however the log is cut");
    }
}

#[test]
fn an_edit_replaces_the_text_of_its_senders_message() {
    use EntryKind::Edit;
    let log = [
        entry(0, 1, 1, 1, 1, "hey"),
        about(1, Edit, 1, 1, "hello"),
        about(2, Edit, 2, 1, "of another user"),
        about(3, Edit, 1, 2, "of an edit"),
        about(4, Edit, 1, 5, "of what comes later"),
        entry(5, 1, 1, 2, 2, "hi"),
    ];
    let no = Verdict::NoTarget;
    let verdicts = sequence_new(&log);
    assert_eq!(verdicts, [store(1, 1_000), stored(2, 1_001, 1, None), no, no, no, stored(3, 1_005, 2, None)]);
    let refused = no.announcement(&log[2], 0, Times::default());
    assert_eq!(refused.outcome, DeliveryOutcome::Rejected { code: ErrorCode::NotFound });
    let rows = rows_of(&log);
    let edited = Changes { seq: 2, edited_seq: Some(2), edits: 1, ..Changes::default() };
    assert_eq!(rows[&1], ("hello".into(), edited));
    assert_eq!(rows[&2].0, "hello", "the history of edits stays");
}

#[test]
fn a_deletion_leaves_no_text_and_ends_all_changes() {
    use EntryKind::{Delete, Edit, Pin, Reaction};
    let moderated = |offset, target| Entry { moderates: true, ..about(offset, Delete, 9, target, "") };
    let reply = |offset: i64| about(offset, EntryKind::Text, 2, 1, "I agree");
    let log = [
        entry(0, 1, 1, 1, 1, "secret"),
        about(1, Edit, 1, 1, "still secret"),
        about(2, Reaction, 2, 1, "+"),
        about(3, Pin, 2, 1, ""),
        reply(4),
        reply(5),
        about(6, Delete, 2, 1, ""),
        moderated(7, 1),
        about(8, Delete, 1, 1, ""),
        about(9, Edit, 1, 1, "again"),
        reply(10),
        moderated(11, 6),
    ];
    let rows = rows_of(&log);
    assert_eq!(rows.len(), 8, "what is about a deleted message is refused, and what another user may not do");
    let deleted = Changes {
        seq: 8,
        edited_seq: Some(2),
        edits: 1,
        deleted_seq: Some(7),
        replies: 1,
        last_reply_seq: Some(6),
        ..Changes::default()
    };
    assert_eq!(rows[&1], (String::new(), deleted));
    assert_eq!(rows[&2].0, "", "the text of an edit goes too");
    assert_eq!(rows[&5].0, "I agree");
    assert_eq!((rows[&6].0.as_str(), rows[&6].1.deleted_seq), ("", Some(8)));
}

#[test]
fn the_deletion_of_a_range_passes_over_what_it_may_not_delete() {
    use EntryKind::{Edit, Pin, Reaction};
    let log = [
        entry(0, 1, 1, 1, 1, "parent"),
        entry(1, 1, 1, 2, 2, "of another user"),
        about(2, EntryKind::Text, 1, 1, "reply"),
        about(3, EntryKind::Text, 1, 1, "second reply"),
        about(4, Edit, 1, 3, "edited reply"),
        about(5, Pin, 1, 3, ""),
        about(6, Reaction, 2, 3, "+"),
        about(7, EntryKind::Text, 2, 2, "reply to the other"),
        // What it deletes, what it passes over, and what comes behind it.
        deletion(8, 1, Some(1), (2, 50)),
        entry(9, 1, 1, 1, 9, "later"),
        deletion(10, 1, Some(1), (2, 50)),
        // Also its own targets' parents, in one go.
        deletion(11, 7, None, (1, 9)),
    ];
    let verdicts = sequence_new(&log);
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Store { .. })), "{verdicts:?}");
    let own = rows_of(&log[..9]);
    assert_eq!((own[&1].0.as_str(), own[&1].1.replies), ("parent", 0));
    assert_eq!(own[&1].1.last_reply_seq, Some(4));
    assert_eq!((own[&2].0.as_str(), own[&2].1.replies), ("of another user", 1));
    let reply = &own[&3].1;
    assert_eq!((reply.deleted_seq, reply.pinned_seq, reply.reactions.len()), (Some(9), None, 0));
    assert_eq!([3, 4, 5].map(|seq| own[&seq].0.as_str()), ["", "", ""], "the text of the edit goes too");
    assert_eq!(own[&8].0, "reply to the other");

    let all = rows_of(&log);
    assert_eq!((all[&3].1.deleted_seq, all[&10].1.deleted_seq), (Some(9), Some(11)));
    assert_eq!(all[&1].1.deleted_seq, Some(12));
    let other = &all[&2].1;
    assert_eq!((other.deleted_seq, other.replies), (Some(12), 0), "deleted together with its reply");
    let last =
        verdicts.last().expect("a verdict").announcement(log.last().expect("an entry"), 0, Times::default());
    let DeliveryOutcome::Stored { range, subject, .. } = last.outcome else { panic!("{last:?}") };
    assert_eq!((range, subject), (Some(SeqRange { from_seq: 1, to_seq: 9 }), None));
}

#[test]
fn a_reaction_is_of_one_user_once() {
    use EntryKind::{Reaction, ReactionRemoved};
    let mut log = vec![entry(0, 1, 1, 1, 1, "hi")];
    for (offset, (kind, sender, emoji)) in (1..).zip([
        (Reaction, 1, "+"),
        (Reaction, 2, "+"),
        (Reaction, 2, "+"),
        (Reaction, 2, "!"),
        (ReactionRemoved, 3, "+"),
        (ReactionRemoved, 1, "+"),
        (ReactionRemoved, 2, "!"),
        (Reaction, 1, "+"),
    ]) {
        log.push(about(offset, kind, sender, 1, emoji));
    }
    let refused: Vec<_> = sequence_new(&log).iter().map(|verdict| *verdict == Verdict::NoTarget).collect();
    assert_eq!(refused, [false, false, false, true, false, true, false, false, false]);
    let of = |emoji: &str, users: &[u128]| Reactions {
        emoji: emoji.into(),
        count: users.len() as u32,
        own: false,
        users: users.iter().map(|n| UserId(Uuid::from_u128(*n))).collect(),
    };
    assert_eq!(rows_of(&log[..5])[&1].1.reactions, [of("+", &[1, 2]), of("!", &[2])]);
    assert_eq!(rows_of(&log)[&1].1.reactions, [of("+", &[2, 1])]);
}

#[test]
fn a_pin_ends_with_its_text() {
    let ttl = Entry { body: "1".to_owned(), ..change(0, 1_000, 1, EntryKind::TtlChanged, 7) };
    let at = |logged_at_ms, entry: Entry| Entry { logged_at_ms, ..entry };
    let log = [
        ttl,
        entry(1, 1_000, 1, 1, 1, "it disappears"),
        entry(2, 1_500, 1, 1, 2, "it does later"),
        at(1_500, about(3, EntryKind::Pin, 1, 2, "")),
        at(1_500, about(4, EntryKind::Pin, 1, 3, "")),
        // It is gone by now, and what is not about pins says nothing of it.
        at(2_000, about(5, EntryKind::Unpin, 1, 2, "")),
        at(2_000, about(6, EntryKind::Reaction, 1, 3, "+")),
        at(2_400, about(7, EntryKind::Pin, 1, 3, "")),
    ];
    let chat = log[0].chat;
    for size in 1..=log.len() {
        let mut world = World::default();
        let mut owners = [Owner::default(), Owner::default()];
        for _ in 0..log.len() {
            world.step(&mut owners, &log, &Step::Decide { owner: 0, records: size });
            world.step(&mut owners, &log, &Step::Write { owner: 0, mask: 0, whole: true });
            if owners[0].next == 5 {
                let pins = &world.pins[&chat].1;
                assert_eq!(pins.pinned, [(4, 2), (5, 3)]);
                assert_eq!([1_999, 2_000, 2_499, 2_500].map(|now_ms| pins.count(now_ms)), [2, 1, 1, 0]);
            }
        }
        let pins = &world.pins[&chat].1;
        assert_eq!((pins.seq, &pins.pinned[..]), (7, &[(7, 3)][..]), "in batches of {size}");
        assert_eq!(pins.expiries, BTreeMap::from([(3, 2_500)]));
    }
}

// A store with CQL's rules (the greater timestamp wins), two owners that know nothing of each other, and crashes
// between any two steps. Whatever happens, the rows are those of one owner that read the log once.

type RowId = (ChatId, i64);

#[derive(Default)]
struct World {
    rows: BTreeMap<RowId, (i64, Counts, Times, Entry)>,
    /// The texts, attachments and patches of rows, with their timestamps: a column of a row that is not written yet may be.
    bodies: BTreeMap<RowId, (i64, String)>,
    carried: BTreeMap<RowId, (i64, Vec<Attachment>)>,
    patches: BTreeMap<RowId, (i64, Patch)>,
    pins: BTreeMap<ChatId, (i64, Pins)>,
    reactions: BTreeMap<(ReactionId, i64), bool>,
    keys: HashMap<KeyId, (i64, KnownKey)>,
    standings: BTreeMap<(SeatId, i64), Standing>,
    heads: HashMap<ChatId, Head>,
    committed: usize,
    announced: BTreeMap<i64, Vec<DeliveredRecord>>,
}

impl World {
    fn standing(&self, seat: SeatId, seq: i64) -> Option<Standing> {
        let newest = self.standings.range((seat, i64::MIN)..=(seat, seq)).next_back();
        newest.map(|(_, standing)| *standing)
    }

    fn target(&self, id: TargetId) -> Option<Target> {
        let (_, _, times, entry) = self.rows.get(&(id.chat, id.seq))?;
        let patch = self.patches.get(&(id.chat, id.seq)).map(|(_, patch)| patch.clone()).unwrap_or_default();
        Some(Target::new(entry.sender, entry.kind, entry.target_seq, patch, *times))
    }

    fn reacts(&self, id: &ReactionId, seq: i64) -> bool {
        let newest = self.reactions.range((id.clone(), i64::MIN)..=(id.clone(), seq)).next_back();
        newest.is_some_and(|(_, reacts)| *reacts)
    }

    /// The rows as a reader has them.
    fn messages(&self) -> BTreeMap<RowId, (Entry, String, Patch)> {
        let message = |(id, (_, _, _, entry)): (&RowId, &(i64, Counts, Times, Entry))| {
            let patch = self.patches.get(id).map(|(_, patch)| patch.clone()).unwrap_or_default();
            let entry = Entry { attachments: self.carried[id].1.clone(), ..entry.clone() };
            (*id, (entry, self.bodies[id].1.clone(), patch))
        };
        self.rows.iter().map(message).collect()
    }

    fn put(
        &mut self,
        seq: i64,
        (stamp, counts, times): (i64, Counts, Times),
        effect: Option<Effect>,
        entry: &Entry,
    ) {
        let row = (stamp, counts, times, entry.clone());
        let key = KnownKey { seq, content: entry.content, position: at(entry.offset) };
        // Equal bytes under an equal timestamp, or replicas would have to choose.
        if let Some(before) = self.rows.insert((entry.chat, seq), row.clone()) {
            assert_eq!(before, row, "a row was rewritten with other content");
        }
        set(&mut self.bodies, (entry.chat, seq), stamp, entry.body.clone());
        set(&mut self.carried, (entry.chat, seq), stamp, entry.attachments.clone());
        if let Some(before) = self.keys.insert(entry.key_id(), (stamp, key.clone())) {
            assert_eq!(before, (stamp, key), "a key row was rewritten with other content");
        }
        match effect {
            Some(Effect::Standing(standing)) => {
                let seat = entry.seat_id().expect("a subject");
                if let Some(before) = self.standings.insert((seat, seq), standing) {
                    assert_eq!(before, standing, "a standing was rewritten with other content");
                }
            }
            Some(Effect::Reacts(reacts)) => {
                let reaction = entry.reaction_id().expect("a reaction");
                if let Some(before) = self.reactions.insert((reaction, seq), reacts) {
                    assert_eq!(before, reacts, "a reaction was rewritten with other content");
                }
            }
            None => {}
        }
    }

    fn overwrite(&mut self, overwrite: &Overwrite) {
        match overwrite.clone() {
            Overwrite::Body { target, stamp, body, expires_at_ms: _ } => {
                set(&mut self.bodies, (target.chat, target.seq), stamp, body);
            }
            Overwrite::Erased { target, stamp } => {
                set(&mut self.bodies, (target.chat, target.seq), stamp, String::new());
                set(&mut self.carried, (target.chat, target.seq), stamp, Vec::new());
            }
            Overwrite::Patch { target, stamp, patch } => {
                set(&mut self.patches, (target.chat, target.seq), stamp, patch);
            }
            Overwrite::Pins { chat, stamp, pins } => set(&mut self.pins, chat, stamp, pins),
        }
    }

    fn put_head(&mut self, chat: ChatId, head: &Head) {
        let stored = self.heads.entry(chat).or_default();
        if head.stamp == stored.stamp {
            assert_eq!(head, stored, "two heads share a stamp");
        } else if head.stamp > stored.stamp {
            *stored = head.clone();
        }
    }
}

/// Writes a column as CQL does.
fn set<K: Copy + Ord + std::fmt::Debug, T: PartialEq + std::fmt::Debug>(
    column: &mut BTreeMap<K, (i64, T)>,
    id: K,
    stamp: i64,
    value: T,
) {
    match column.get_mut(&id) {
        Some((before, old)) if *before == stamp => {
            assert_eq!(*old, value, "{id:?} was rewritten with other content");
        }
        Some((before, _)) if *before > stamp => {}
        _ => drop(column.insert(id, (stamp, value))),
    }
}

#[derive(Default)]
struct Owner {
    next: usize,
    flushed: usize,
    heads: HashMap<ChatId, Head>,
    standings: HashMap<SeatId, Option<Standing>>,
    pending: Option<Pending>,
}

struct Pending {
    end: usize,
    heads: HashMap<ChatId, Head>,
    standings: HashMap<SeatId, Option<Standing>>,
    sequenced: Sequenced,
}

#[derive(Clone, Debug)]
enum Step {
    /// Looks up and decides the next records.
    Decide {
        owner: usize,
        records: usize,
    },
    /// Writes the pending rows that the mask selects; all of them when `whole`, and then announces.
    Write {
        owner: usize,
        mask: u16,
        whole: bool,
    },
    Flush {
        owner: usize,
    },
    Commit {
        owner: usize,
    },
    Crash {
        owner: usize,
    },
}

impl World {
    fn step(&mut self, owners: &mut [Owner; 2], log: &[Entry], step: &Step) {
        match *step {
            Step::Decide { owner, records } => {
                let owner = &mut owners[owner];
                let end = (owner.next + records).min(log.len());
                if owner.pending.is_some() || end == owner.next {
                    return;
                }
                let batch = &log[owner.next..end];
                let mut heads = HashMap::new();
                for entry in batch {
                    let stored = || self.heads.get(&entry.chat).cloned().unwrap_or_default();
                    let head = owner.heads.get(&entry.chat).cloned().unwrap_or_else(stored);
                    heads.insert(entry.chat, head);
                }
                let ids = batch.iter().flat_map(|entry| [Some(entry.key_id()), entry.reads_from]).flatten();
                let known = ids.filter_map(|id| Some((id, self.keys.get(&id)?.1.clone()))).collect();
                let seats: Vec<_> = batch.iter().filter_map(Entry::seat_id).collect();
                let look_up = |seat: &SeatId| match owner.standings.get(seat) {
                    Some(standing) => *standing,
                    None => self.standing(*seat, heads[&seat.chat].seq),
                };
                let standings = seats.iter().filter_map(|seat| Some((*seat, look_up(seat)?))).collect();
                let reactions = batch.iter().filter_map(|entry| {
                    let reaction = entry.reaction_id()?;
                    let reacts = self.reacts(&reaction, heads[&entry.chat].seq);
                    Some((reaction, reacts))
                });
                let reactions = reactions.collect();
                let mut targets: HashMap<_, _> = batch
                    .iter()
                    .flat_map(|entry| entry.target_ids(i64::MAX))
                    .filter_map(|id| Some((id, self.target(id)?)))
                    .collect();
                let replied_to: Vec<_> = targets
                    .iter()
                    .filter_map(|(id, target)| Some(TargetId { seq: target.target_seq?, ..*id }))
                    .collect();
                for id in replied_to {
                    if let Some(target) = self.target(id) {
                        targets.entry(id).or_insert(target);
                    }
                }
                let about_pins = batch.iter().filter(|entry| entry.is_about_pins());
                let pins = about_pins.map(|entry| {
                    let pins = self.pins.get(&entry.chat).map(|(_, pins)| pins.clone());
                    (entry.chat, pins.unwrap_or_default())
                });
                let pins = pins.collect();
                let mut chats = Chats { heads, standings, targets, pins, reactions };
                let sequenced = sequence(&generation(), &mut chats, known, batch).expect("no contradiction");
                let Chats { heads, standings, .. } = chats;
                let standings = seats.into_iter().map(|seat| (seat, standings.get(&seat).copied())).collect();
                owner.pending = Some(Pending { end, heads, standings, sequenced });
            }
            Step::Write { owner, mask, whole } => {
                let owner = &mut owners[owner];
                let Some(pending) = owner.pending.take() else { return };
                let end = pending.end;
                let Sequenced { verdicts, overwrites } = &pending.sequenced;
                let is_written = |i: usize| whole || mask >> (i % 16) & 1 == 1;
                for (i, (entry, verdict)) in log[owner.next..end].iter().zip(verdicts).enumerate() {
                    if let Verdict::Store { seq, stamp, counts, effect, times } = *verdict
                        && is_written(i)
                    {
                        self.put(seq, (stamp, counts, times), effect, entry);
                    }
                }
                for (i, overwrite) in overwrites.iter().enumerate() {
                    // Another part of the mask: a patch may be written and its row not.
                    if is_written(i + 5) {
                        self.overwrite(overwrite);
                    }
                }
                if !whole {
                    owner.pending = Some(pending);
                    return;
                }
                for (entry, verdict) in log[owner.next..end].iter().zip(verdicts) {
                    let times = match *verdict {
                        Verdict::Store { times, .. } => times,
                        Verdict::Announce { seq } => self.rows[&(entry.chat, seq)].2,
                        _ => Times::default(),
                    };
                    self.announced
                        .entry(entry.offset)
                        .or_default()
                        .push(verdict.announcement(entry, 0, times));
                }
                owner.next = end;
                owner.heads.extend(pending.heads);
                owner.standings.extend(pending.standings);
            }
            Step::Flush { owner } => {
                let owner = &mut owners[owner];
                for (chat, head) in &owner.heads {
                    self.put_head(*chat, head);
                }
                owner.flushed = owner.next;
            }
            Step::Commit { owner } => self.committed = self.committed.max(owners[owner].flushed),
            Step::Crash { owner } => {
                let next = self.committed;
                owners[owner] = Owner { next, flushed: next, ..Owner::default() };
            }
        }
    }
}

/// A row as it has to be in the end.
#[derive(Clone, Debug, PartialEq)]
struct Expected {
    entry: Entry,
    times: Times,
    body: String,
    changes: Changes,
    /// Who reacts with what, in the order of the first reactions.
    reactions: Vec<(String, Vec<UserId>)>,
}

impl Expected {
    fn reacts(&self, entry: &Entry) -> bool {
        self.reactions.iter().any(|(emoji, users)| *emoji == entry.body && users.contains(&entry.sender))
    }
}

/// The pinned messages of each chat, in the order of the entries that pinned them.
type ExpectedPins = HashMap<ChatId, Vec<(i64, i64)>>;

/// What the log means, computed without heads, stamps or replays.
fn reference(log: &[Entry]) -> (BTreeMap<RowId, Expected>, ExpectedPins, BTreeMap<i64, DeliveredRecord>) {
    let mut pins = ExpectedPins::new();
    let (mut rows, mut outcomes): (BTreeMap<RowId, Expected>, _) = (BTreeMap::new(), BTreeMap::new());
    let mut firsts: HashMap<KeyId, (i64, &Entry)> = HashMap::new();
    let mut counts: HashMap<ChatId, i64> = HashMap::new();
    let mut out: HashSet<SeatId> = HashSet::new();
    let (mut clocks, mut ttls): (HashMap<ChatId, i64>, HashMap<ChatId, i64>) = Default::default();
    for entry in log {
        let clock = clocks.entry(entry.chat).or_default();
        if entry.logged_at_ms >= *clock || *clock - entry.logged_at_ms > 2 * 60 * 60 * 1_000 {
            *clock = entry.logged_at_ms;
        }
        let sent_at_ms = *clock;
        let seat = |user| SeatId { chat: entry.chat, user };
        match (entry.kind, entry.subject) {
            (EntryKind::MemberAdded, Some(subject)) => drop(out.remove(&seat(subject))),
            (EntryKind::MemberRemoved, Some(subject)) => drop(out.insert(seat(subject))),
            _ => {}
        }
        let is_out = entry.kind.is_from_device() && out.contains(&seat(entry.sender));
        let target = entry.target_seq.map(|seq| rows.get(&(entry.chat, seq)));
        let may_target = target.is_none_or(|target| {
            target.is_some_and(|target| {
                let is_own = target.entry.sender == entry.sender;
                target.entry.kind == EntryKind::Text
                    && target.changes.deleted_seq.is_none()
                    && target.times.expires_at_ms.is_none_or(|at_ms| sent_at_ms < at_ms)
                    && match entry.kind {
                        EntryKind::Edit => is_own,
                        EntryKind::Delete => is_own || entry.moderates,
                        EntryKind::Reaction => !target.reacts(entry),
                        EntryKind::ReactionRemoved => target.reacts(entry),
                        _ => true,
                    }
            })
        });
        let mut times = Times::default();
        let verdict = match firsts.get(&entry.key_id()) {
            Some((seq, first)) if first.content == entry.content => Verdict::Repeated { seq: *seq },
            Some(_) => Verdict::Conflict,
            None if entry.target_seq.is_some() && (is_out || !may_target) => Verdict::NoTarget,
            None if is_out => Verdict::SenderOut,
            None => {
                let seq = counts.entry(entry.chat).or_default();
                *seq += 1;
                firsts.insert(entry.key_id(), (*seq, entry));
                let (body, changes) = (entry.body.clone(), Changes::default());
                let ttl_seconds = ttls.get(&entry.chat).copied().filter(|seconds| *seconds > 0);
                let expires_at_ms = match entry.kind {
                    EntryKind::Text => ttl_seconds.map(|seconds| sent_at_ms + seconds * 1_000),
                    EntryKind::Edit => target.flatten().and_then(|target| target.times.expires_at_ms),
                    _ => None,
                };
                if entry.kind == EntryKind::TtlChanged {
                    ttls.insert(entry.chat, entry.body.parse().expect("a number"));
                }
                times = Times { sent_at_ms, expires_at_ms };
                let row = Expected { entry: entry.clone(), times, body, changes, reactions: vec![] };
                rows.insert((entry.chat, *seq), row);
                if let Some(target_seq) = entry.target_seq {
                    change_expected(&mut rows, entry, *seq, (entry.chat, target_seq));
                }
                if let Some(SeqRange { from_seq, to_seq }) = entry.range {
                    for target_seq in from_seq..=to_seq.min(*seq - 1) {
                        let target = &rows[&(entry.chat, target_seq)];
                        let is_meant = entry.subject.is_none_or(|subject| subject == target.entry.sender);
                        if target.entry.kind == EntryKind::Text
                            && target.changes.deleted_seq.is_none()
                            && is_meant
                        {
                            delete_expected(&mut rows, *seq, (entry.chat, target_seq));
                        }
                    }
                }
                let pins = pins.entry(entry.chat).or_default();
                if entry.kind == EntryKind::Pin {
                    pins.push((*seq, entry.target_seq.expect("a target")));
                }
                pins.retain(|(pin, target)| {
                    let target = &rows[&(entry.chat, *target)];
                    let is_over = target.times.expires_at_ms.is_some_and(|at_ms| sent_at_ms >= at_ms);
                    target.changes.pinned_seq == Some(*pin) && !(entry.is_about_pins() && is_over)
                });
                Verdict::Announce { seq: *seq }
            }
        };
        outcomes.insert(entry.offset, verdict.announcement(entry, 0, times));
    }
    (rows, pins, outcomes)
}

fn change_expected(rows: &mut BTreeMap<RowId, Expected>, entry: &Entry, seq: i64, id: RowId) {
    let target = rows.get_mut(&id).expect("a target");
    let user = entry.sender;
    match entry.kind {
        EntryKind::Text => {
            target.changes.replies += 1;
            target.changes.last_reply_seq = Some(seq);
        }
        EntryKind::Edit => {
            target.body.clone_from(&entry.body);
            target.changes.edited_seq = Some(seq);
            target.changes.edits += 1;
        }
        EntryKind::Delete => delete_expected(rows, seq, id),
        EntryKind::Reaction => match target.reactions.iter_mut().find(|(emoji, _)| *emoji == entry.body) {
            Some((_, users)) if users.contains(&user) => {}
            Some((_, users)) => users.push(user),
            None => target.reactions.push((entry.body.clone(), vec![user])),
        },
        EntryKind::ReactionRemoved => {
            for (emoji, users) in &mut target.reactions {
                if *emoji == entry.body {
                    users.retain(|other| *other != user);
                }
            }
            target.reactions.retain(|(_, users)| !users.is_empty());
        }
        EntryKind::Pin => target.changes.pinned_seq = Some(seq),
        EntryKind::Unpin => target.changes.pinned_seq = None,
        EntryKind::DeleteRange
        | EntryKind::MemberAdded
        | EntryKind::MemberRemoved
        | EntryKind::RoleChanged
        | EntryKind::TitleChanged
        | EntryKind::TopicChanged
        | EntryKind::AvatarChanged
        | EntryKind::SlowModeChanged
        | EntryKind::TtlChanged => {}
    }
}

fn delete_expected(rows: &mut BTreeMap<RowId, Expected>, seq: i64, id: RowId) {
    let target = rows.get_mut(&id).expect("a target");
    target.body.clear();
    target.entry.attachments.clear();
    target.reactions.clear();
    target.changes.pinned_seq = None;
    target.changes.deleted_seq = Some(seq);
    let replied_to = target.entry.target_seq;
    for row in rows.values_mut() {
        if row.entry.kind == EntryKind::Edit && (row.entry.chat, row.entry.target_seq) == (id.0, Some(id.1)) {
            row.body.clear();
        }
    }
    if let Some(seq) = replied_to {
        rows.get_mut(&(id.0, seq)).expect("a message").changes.replies -= 1;
    }
}

/// Counts what is unread of a chat up to a seq, entry by entry.
fn counts_of(rows: &BTreeMap<RowId, Expected>, chat: ChatId, seq: i64) -> Counts {
    let texts = || {
        let entries = rows.range((chat, i64::MIN)..=(chat, seq)).map(|(_, row)| &row.entry);
        entries.filter(|entry| entry.kind == EntryKind::Text)
    };
    let calls = texts().filter(|entry| entry.mentions_all).count();
    Counts { texts: texts().count() as i64, calls: calls as i64 }
}

fn logs() -> impl Strategy<Value = Vec<Entry>> {
    // All kinds, so that none is forgotten.
    let weight = |kind: EntryKind| match kind {
        EntryKind::Text => 8,
        EntryKind::Edit | EntryKind::Delete | EntryKind::DeleteRange | EntryKind::Reaction => 2,
        _ => 1,
    };
    let kinds: Vec<EntryKind> =
        EntryKind::ALL.into_iter().flat_map(|kind| std::iter::repeat_n(kind, weight(kind))).collect();
    let kind = prop::sample::select(kinds);
    // The log's clock goes on or back a little, and by a mistake far.
    let far = 365 * 24 * 60 * 60 * 1_000;
    let step = prop_oneof![60 => -600..700i64, 1 => Just(far), 1 => Just(-far)];
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let record = (1..4u128, 1..3u128, 1..12u128, flags, 1..8i64, step, kind);
    prop::collection::vec(record, 1..80).prop_map(|records| {
        let mut clock = 10_000i64;
        let numbered = records.into_iter().enumerate();
        numbered
            .map(|(i, (chat, user, key, (other, reply, moderates), target, step, kind))| {
                clock = (clock + step).max(0);
                if !kind.is_from_device() {
                    let of_chat = change(i as i64, clock, chat, kind, user);
                    // Texts stay, or disappear within some entries.
                    let body = if other { "0" } else { "1" };
                    let body = if kind == EntryKind::TtlChanged { body.to_owned() } else { of_chat.body };
                    return Entry { body, ..of_chat };
                }
                let body = match kind {
                    EntryKind::Text | EntryKind::Edit if other => "other",
                    EntryKind::Text | EntryKind::Edit => "body",
                    EntryKind::Reaction | EntryKind::ReactionRemoved if other => "!",
                    EntryKind::Reaction | EntryKind::ReactionRemoved => "+",
                    _ => "",
                };
                let target_seq = (kind.needs_target() || reply).then_some(target);
                let mentions_all = kind == EntryKind::Text && moderates;
                let is_range = kind == EntryKind::DeleteRange;
                // One's own, another user's, or everyone's.
                let subject = is_range.then_some(if moderates && other { 1 } else { user });
                let subject =
                    subject.filter(|_| !moderates || other).map(|user| UserId(Uuid::from_u128(user)));
                let range = SeqRange { from_seq: target, to_seq: target + step.rem_euclid(7) };
                let range = is_range.then_some(range);
                let target_seq = target_seq.filter(|_| !is_range);
                let silent = kind == EntryKind::Text && other;
                let carries = kind == EntryKind::Text && (other || moderates);
                let attachments =
                    carries.then(|| file(1 + u128::from(other))).into_iter().collect::<Vec<_>>();
                let content = Content {
                    subject,
                    target_seq,
                    mentions_all,
                    silent,
                    range,
                    attachments: &attachments,
                    ..Content::new(kind, body)
                };
                let content = content.hash();
                // Few keys, so that some are used again; keys of texts are seldom those of changes.
                let key = if kind == EntryKind::Text { key } else { key * 7 + i as u128 % 7 };
                Entry {
                    kind,
                    subject,
                    target_seq,
                    range,
                    silent,
                    attachments,
                    mentions_all,
                    moderates,
                    content,
                    ..entry(i as i64, clock, chat, user, key, body)
                }
            })
            .collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let owner = 0..2usize;
    let step = prop_oneof![
        4 => (owner.clone(), 1..9usize).prop_map(|(owner, records)| Step::Decide { owner, records }),
        4 => (owner.clone(), any::<u16>(), prop::bool::weighted(0.7))
            .prop_map(|(owner, mask, whole)| Step::Write { owner, mask, whole }),
        2 => owner.clone().prop_map(|owner| Step::Flush { owner }),
        2 => owner.clone().prop_map(|owner| Step::Commit { owner }),
        1 => owner.prop_map(|owner| Step::Crash { owner }),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn crashes_and_a_second_owner_change_nothing(log in logs(), steps in steps()) {
        let (mut world, mut owners) = (World::default(), [Owner::default(), Owner::default()]);
        for step in &steps {
            world.step(&mut owners, &log, step);
        }
        let last = [
            Step::Crash { owner: 0 },
            Step::Decide { owner: 0, records: log.len() },
            Step::Write { owner: 0, mask: 0, whole: true },
            Step::Flush { owner: 0 },
        ];
        for step in &last {
            world.step(&mut owners, &log, step);
        }

        let (rows, pins, outcomes) = reference(&log);
        let stored: BTreeMap<_, _> = world.messages().into_iter().map(|(id, (entry, body, patch))| {
            let Changes { reactions, .. } = &patch.changes;
            let reactions = reactions.iter().map(|of| (of.emoji.clone(), of.users.clone())).collect();
            let changes = Changes { seq: 0, reactions: vec![], ..patch.changes };
            let times = world.rows[&id].2;
            (id, Expected { entry, times, body, changes, reactions })
        }).collect();
        prop_assert_eq!(&stored, &rows);
        prop_assert_eq!(world.keys.len(), rows.len());
        for (chat, pins) in &pins {
            let stored = world.pins.get(chat).map(|(_, pins)| pins.pinned.clone()).unwrap_or_default();
            prop_assert_eq!(&stored, pins);
        }
        for (chat, head) in &world.heads {
            let count = rows.keys().filter(|(of, _)| of == chat).count() as i64;
            let last = log.iter().rfind(|entry| entry.chat == *chat).expect("an entry");
            prop_assert_eq!((head.seq, head.applied.clone()), (count, Some(at(last.offset))));
            prop_assert_eq!(head.counts, counts_of(&rows, *chat, count));
        }
        for ((chat, seq), (_, counts, _, _)) in &world.rows {
            prop_assert_eq!(*counts, counts_of(&rows, *chat, *seq));
        }
        prop_assert_eq!(world.announced.len(), log.len());
        for (offset, announced) in &world.announced {
            for announcement in announced {
                prop_assert_eq!(announcement, &outcomes[offset]);
            }
        }
    }
}

#[test]
fn a_text_disappears_by_what_held_at_its_place_however_the_log_is_cut() {
    let ttl = |offset, seconds: &str| {
        let content = Content::new(EntryKind::TtlChanged, seconds).hash();
        let kind = EntryKind::TtlChanged;
        Entry { kind, content, ..entry(offset, 1_000, 1, 77, 500 + offset as u128, seconds) }
    };
    let text = |offset, sent_at_ms| entry(offset, sent_at_ms, 1, 1, 10 + offset as u128, "hi");
    let edit =
        |offset, logged_at_ms, seq| Entry { logged_at_ms, ..about(offset, EntryKind::Edit, 1, seq, "ho") };
    let log = [
        text(0, 1_000),
        ttl(1, "60"),
        text(2, 2_000),
        edit(3, 61_999, 3),
        // By the log's clock the text is gone.
        edit(4, 62_000, 3),
        ttl(5, "0"),
        text(6, 70_000),
        edit(7, 70_000, 1),
    ];
    let expected = [None, None, Some(62_000), Some(62_000), None, None, None, None];
    for size in 1..=log.len() {
        let (mut head, mut targets) = (Head::default(), HashMap::new());
        let (mut verdicts, mut bodies) = (Vec::new(), Vec::new());
        for batch in log.chunks(size) {
            // As a store has them from the batches before.
            let heads = HashMap::from([(batch[0].chat, head)]);
            let mut chats = Chats { heads, targets: std::mem::take(&mut targets), ..Chats::default() };
            let done = sequence(&generation(), &mut chats, HashMap::new(), batch).expect("a batch");
            for (entry, verdict) in batch.iter().zip(&done.verdicts) {
                if let Verdict::Store { seq, times, .. } = *verdict {
                    let id = TargetId { chat: entry.chat, seq };
                    let (kind, patch) = (entry.kind, Patch::default());
                    let target = Target::new(entry.sender, kind, entry.target_seq, patch, times);
                    chats.targets.entry(id).or_insert(target);
                }
            }
            verdicts.extend(done.verdicts);
            bodies.extend(done.overwrites.into_iter().filter_map(|overwrite| match overwrite {
                Overwrite::Body { target, expires_at_ms, .. } => Some((target.seq, expires_at_ms)),
                Overwrite::Erased { .. } | Overwrite::Patch { .. } | Overwrite::Pins { .. } => None,
            }));
            head = chats.heads[&batch[0].chat].clone();
            targets = chats.targets;
        }
        let expiries = verdicts.iter().map(|verdict| match *verdict {
            Verdict::Store { times, .. } => times.expires_at_ms,
            _ => None,
        });
        assert_eq!(expiries.collect::<Vec<_>>(), expected, "in batches of {size}");
        assert_eq!(verdicts[4], Verdict::NoTarget);
        assert_eq!(bodies, [(3, Some(62_000)), (1, None)], "an edit goes with its message");
        assert_eq!((head.seq, head.ttl_seconds, head.counts.texts), (7, 0, 3));
    }
    let mut chats = Chats { heads: HashMap::from([(log[0].chat, Head::default())]), ..Chats::default() };
    sequence(&generation(), &mut chats, HashMap::new(), &log[..2]).expect("a batch");
    assert_eq!(chats.heads[&log[0].chat].ttl_seconds, 60);
}
