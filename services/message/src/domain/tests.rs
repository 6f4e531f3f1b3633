use std::collections::{BTreeMap, HashMap, HashSet};

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
fn entry(offset: i64, sent_at_ms: i64, chat: u128, sender: u128, key: u128, body: &str) -> Entry {
    Entry {
        offset,
        sent_at_ms,
        chat: ChatId(Uuid::from_u128(chat)),
        sender: UserId(Uuid::from_u128(sender)),
        device: DeviceId(Uuid::from_u128(9)),
        key: MessageKey(Uuid::from_u128(key)),
        kind: EntryKind::Text,
        body: body.to_owned(),
        subject: None,
        audience: None,
        content: content_hash(EntryKind::Text, None, body),
    }
}

fn known(seq: i64, offset: i64, body: &str) -> KnownKey {
    KnownKey { seq, content: content_hash(EntryKind::Text, None, body), position: at(offset) }
}

/// An entry about `subject`, who is added to a chat or removed from it.
fn change(offset: i64, sent_at_ms: i64, chat: u128, kind: EntryKind, subject: u128) -> Entry {
    let user = UserId(Uuid::from_u128(subject));
    Entry {
        kind,
        subject: Some(user),
        content: content_hash(kind, Some(user), ""),
        ..entry(offset, sent_at_ms, chat, 77, 1_000 + offset as u128, "")
    }
}

fn store(seq: i64, stamp: i64) -> Verdict {
    Verdict::Store { seq, stamp, standing: None }
}

fn check(
    head: Head,
    known: Option<KnownKey>,
    entry: &Entry,
    expected: Result<(Verdict, Head), Contradiction>,
) {
    let mut heads = HashMap::from([(entry.chat, head)]);
    let known = known.into_iter().map(|known| (entry.key_id(), known)).collect();
    let verdicts = sequence(&generation(), &mut heads, &mut HashMap::new(), known, [entry]);
    match expected {
        Ok((verdict, head)) => {
            assert_eq!(verdicts, Ok(vec![verdict]));
            assert_eq!(heads[&entry.chat], head);
        }
        Err(contradiction) => assert_eq!(verdicts, Err(contradiction)),
    }
}

fn head(seq: i64, applied: i64, stamp: i64) -> Head {
    Head { seq, applied: Some(at(applied)), stamp }
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
    let before = Head { seq: 3, applied: Some(old.clone()), stamp: 9_000 };
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
    let (mut heads, mut standings) = (HashMap::new(), HashMap::new());
    sequence(&generation(), &mut heads, &mut standings, HashMap::new(), entries).expect("verdicts")
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
    ];
    assert_eq!(
        sequence_new(&entries),
        [
            store(1, 1_000),
            Verdict::Store { seq: 2, stamp: 1_001, standing: Some(Standing::Out) },
            Verdict::SenderOut,
            Verdict::Repeated { seq: 1 },
            store(3, 1_004),
            store(1, 1_000),
            Verdict::Store { seq: 4, stamp: 1_005, standing: Some(Standing::Back) },
            store(5, 1_006),
            store(6, 1_007),
        ]
    );
    let refused = Verdict::SenderOut.announcement(&entries[2]);
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
fn the_subject_is_part_of_the_content() {
    let user = UserId(Uuid::from_u128(1));
    let hashes = [
        content_hash(EntryKind::Text, None, "a"),
        content_hash(EntryKind::MemberAdded, None, "a"),
        content_hash(EntryKind::MemberAdded, Some(user), "a"),
        content_hash(EntryKind::MemberRemoved, Some(user), "a"),
    ];
    let distinct: HashSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

// A store with CQL's rules (the greater timestamp wins), two owners that know nothing of each other, and crashes
// between any two steps. Whatever happens, the rows are those of one owner that read the log once.

type RowId = (ChatId, i64);

#[derive(Default)]
struct World {
    rows: BTreeMap<RowId, (i64, Entry)>,
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

    fn put(&mut self, seq: i64, stamp: i64, standing: Option<Standing>, entry: &Entry) {
        let row = (stamp, entry.clone());
        let key = KnownKey { seq, content: entry.content, position: at(entry.offset) };
        // Equal bytes under an equal timestamp, or replicas would have to choose.
        if let Some(before) = self.rows.insert((entry.chat, seq), row.clone()) {
            assert_eq!(before, row, "a row was rewritten with other content");
        }
        if let Some(before) = self.keys.insert(entry.key_id(), (stamp, key.clone())) {
            assert_eq!(before, (stamp, key), "a key row was rewritten with other content");
        }
        if let Some((seat, standing)) = entry.seat_id().zip(standing)
            && let Some(before) = self.standings.insert((seat, seq), standing)
        {
            assert_eq!(before, standing, "a standing was rewritten with other content");
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
    verdicts: Vec<Verdict>,
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
                let known = batch
                    .iter()
                    .filter_map(|entry| Some((entry.key_id(), self.keys.get(&entry.key_id())?.1.clone())))
                    .collect();
                let seats: Vec<_> = batch.iter().filter_map(Entry::seat_id).collect();
                let look_up = |seat: &SeatId| match owner.standings.get(seat) {
                    Some(standing) => *standing,
                    None => self.standing(*seat, heads[&seat.chat].seq),
                };
                let mut standings = seats.iter().filter_map(|seat| Some((*seat, look_up(seat)?))).collect();
                let verdicts = sequence(&generation(), &mut heads, &mut standings, known, batch);
                let verdicts = verdicts.expect("no contradiction");
                let standings = seats.into_iter().map(|seat| (seat, standings.get(&seat).copied())).collect();
                owner.pending = Some(Pending { end, heads, standings, verdicts });
            }
            Step::Write { owner, mask, whole } => {
                let owner = &mut owners[owner];
                let Some(pending) = owner.pending.take() else { return };
                let end = pending.end;
                for (i, (entry, verdict)) in log[owner.next..end].iter().zip(&pending.verdicts).enumerate() {
                    if let Verdict::Store { seq, stamp, standing } = *verdict
                        && (whole || mask >> (i % 16) & 1 == 1)
                    {
                        self.put(seq, stamp, standing, entry);
                    }
                }
                if !whole {
                    owner.pending = Some(pending);
                    return;
                }
                for (entry, verdict) in log[owner.next..end].iter().zip(&pending.verdicts) {
                    self.announced.entry(entry.offset).or_default().push(verdict.announcement(entry));
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

/// What the log means, computed without heads, stamps or replays.
fn reference(log: &[Entry]) -> (BTreeMap<RowId, Entry>, BTreeMap<i64, DeliveredRecord>) {
    let (mut rows, mut outcomes) = (BTreeMap::new(), BTreeMap::new());
    let mut firsts: HashMap<KeyId, (i64, &Entry)> = HashMap::new();
    let mut counts: HashMap<ChatId, i64> = HashMap::new();
    let mut out: HashSet<SeatId> = HashSet::new();
    for entry in log {
        let seat = entry.seat_id().expect("a sender or a subject");
        match entry.kind {
            EntryKind::Text => {}
            EntryKind::MemberAdded => drop(out.remove(&seat)),
            EntryKind::MemberRemoved => drop(out.insert(seat)),
        }
        let verdict = match firsts.get(&entry.key_id()) {
            Some((seq, first)) if first.body == entry.body => Verdict::Repeated { seq: *seq },
            Some(_) => Verdict::Conflict,
            None if entry.kind == EntryKind::Text && out.contains(&seat) => Verdict::SenderOut,
            None => {
                let seq = counts.entry(entry.chat).or_default();
                *seq += 1;
                firsts.insert(entry.key_id(), (*seq, entry));
                rows.insert((entry.chat, *seq), entry.clone());
                Verdict::Announce { seq: *seq }
            }
        };
        outcomes.insert(entry.offset, verdict.announcement(entry));
    }
    (rows, outcomes)
}

fn logs() -> impl Strategy<Value = Vec<Entry>> {
    let kind = prop_oneof![
        8 => Just(EntryKind::Text),
        1 => Just(EntryKind::MemberAdded),
        1 => Just(EntryKind::MemberRemoved),
    ];
    let record = (1..4u128, 1..3u128, 1..12u128, prop::bool::weighted(0.1), -600..700i64, kind);
    prop::collection::vec(record, 1..80).prop_map(|records| {
        let mut clock = 10_000i64;
        let numbered = records.into_iter().enumerate();
        numbered
            .map(|(i, (chat, user, key, other, step, kind))| {
                clock = (clock + step).max(0);
                match kind {
                    EntryKind::Text => {
                        entry(i as i64, clock, chat, user, key, if other { "other" } else { "body" })
                    }
                    EntryKind::MemberAdded | EntryKind::MemberRemoved => {
                        change(i as i64, clock, chat, kind, user)
                    }
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

        let (rows, outcomes) = reference(&log);
        let stored: BTreeMap<_, _> = world.rows.iter().map(|(id, (_, entry))| (*id, entry.clone())).collect();
        prop_assert_eq!(&stored, &rows);
        prop_assert_eq!(world.keys.len(), rows.len());
        for (chat, head) in &world.heads {
            let count = rows.keys().filter(|(of, _)| of == chat).count() as i64;
            let last = log.iter().rfind(|entry| entry.chat == *chat).expect("an entry");
            prop_assert_eq!((head.seq, head.applied.clone()), (count, Some(at(last.offset))));
        }
        prop_assert_eq!(world.announced.len(), log.len());
        for (offset, announced) in &world.announced {
            for announcement in announced {
                prop_assert_eq!(announcement, &outcomes[offset]);
            }
        }
    }
}
