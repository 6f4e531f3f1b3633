//! From a batch of records to durable rows and the announcements of them. Knows the store, not Kafka.
//!
//! A batch is decided ([`Pipeline::decide`]), written ([`Pipeline::write`]) and taken over ([`Pipeline::accept`]), and may be decided or written
//! again at any time before it is taken over: nothing changes here until then. While it is written, most of what the next one depends on is
//! read ([`Pipeline::look_ahead`]).
//!
//! # Keys that are not looked up
//! A key is looked up only when it may have been used. The first record of a new message has one that was not, and its look-up was a quarter
//! of all statements. When the head of a chat is read, no stored entry has an ordered key behind the newest one that the head names
//! ([`NewestKey`]). What is stored from then on is stored by this owner, which remembers its keys. So an ordered key behind that mark is one of
//! those that are remembered, or none that is stored.
//!
//! The argument uses no clock: a client may choose any keys, and one that is not behind the mark is looked up. It holds after a crash, because
//! all records behind the stored head are applied again, and those that it includes have no key behind its mark; of a key row that was
//! written before the crash by the very record that is applied again, the verdict is the same with and without it. When too many keys are
//! remembered, all are forgotten, and the mark of each chat becomes the newest key of its head as it is then.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use contracts::{
    ChatId,
    event::{DeliveredRecord, EntryKind},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    domain::{
        self, Chats, Contradiction, Entry, Generation, Head, KeyId, KnownKey, Logged, NewestKey, Overwrite,
        Pins, Position, ReactionId, SeatId, Sequenced, Standing, Target, TargetId, Times, Verdict,
    },
    metrics::{KeyLookUp, Metrics, Outcome, Step},
    store::{Partition, Row, Store, StoreError},
};

/// Concurrent look-ups of one batch; the store bounds what is really in flight.
const LOOK_UPS: usize = 128;
/// Heads kept in memory by one owner, some 120 bytes each; beyond it those that are stored are forgotten.
const MAX_HEADS: usize = 20_000;
/// Standings kept in memory by one owner, some 50 bytes each; beyond it all are forgotten.
const MAX_STANDINGS: usize = 50_000;
/// Keys kept in memory by one owner, some 150 bytes each; beyond it all are forgotten.
const MAX_KEYS: usize = 20_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store contradicts the log")]
    Contradiction(#[from] Contradiction),
}

/// The chats of one partition, for as long as this process owns it.
pub(crate) struct Pipeline<S> {
    generation: Generation,
    partition: Partition,
    store: Arc<S>,
    metrics: Metrics,
    heads: HashMap<ChatId, Tracked>,
    /// The standings at these heads; `None` for users who were never removed.
    standings: HashMap<SeatId, Option<Standing>>,
    /// Those that this owner has stored.
    keys: HashMap<KeyId, KnownKey>,
    /// [`MAX_KEYS`].
    max_keys: usize,
    /// [`MAX_HEADS`].
    max_heads: usize,
}

struct Tracked {
    chat: Chat,
    /// The store has this head.
    stored: bool,
}

/// A chat up to a record.
#[derive(Clone)]
struct Chat {
    head: Head,
    /// Of the stored entries that have an ordered key behind this one, all keys are remembered.
    all_behind: NewestKey,
}

impl Chat {
    /// Returns a chat of whose keys none is remembered.
    fn unremembered(head: Head) -> Self {
        Self { all_behind: head.newest_key, head }
    }
}

/// What was read for a batch before its time: it stands behind the batch before it. It has heads and no [`Chat`]: keys that were
/// remembered then may be forgotten when it is used, and a mark of that time would vouch for them.
#[derive(Default)]
pub(crate) struct Found {
    heads: HashMap<ChatId, Head>,
    standings: HashMap<SeatId, Option<Standing>>,
    keys: HashMap<KeyId, Option<KnownKey>>,
}

/// A batch whose verdicts are known, and perhaps not one of its rows is written.
pub(crate) struct Decided {
    verdicts: Vec<Verdict>,
    overwrites: Vec<Overwrite>,
    /// Heads of the batches before that the store does not have, to be written beside the rows.
    due: Vec<(ChatId, Head)>,
    /// What holds behind the batch.
    chats: HashMap<ChatId, Chat>,
    standings: HashMap<SeatId, Option<Standing>>,
    /// Those of the entries that are stored.
    keys: HashMap<KeyId, KnownKey>,
}

impl<S: Store> Pipeline<S> {
    pub(crate) fn new(generation: Generation, partition: Partition, store: Arc<S>, metrics: Metrics) -> Self {
        Self {
            generation,
            partition,
            store,
            metrics,
            heads: HashMap::new(),
            standings: HashMap::new(),
            keys: HashMap::new(),
            max_keys: MAX_KEYS,
            max_heads: MAX_HEADS,
        }
    }

    /// Decides what becomes of a batch. With `flush` the heads of the batches before are written with it.
    pub(crate) async fn decide(
        &mut self,
        batch: &[Logged],
        found: &Found,
        flush: bool,
    ) -> Result<Decided, ApplyError> {
        let started = Instant::now();
        let entries = entries_of(batch);
        let chats = self.chats_of(&entries, found, None).await?;
        let looked_up = tokio::try_join!(
            self.keys_of(&entries, &chats, found, None),
            self.standings_of(&entries, &chats, found, None),
            self.targets_of(&entries),
            self.pins_of(&entries),
            self.reactions_of(&entries, &chats),
        );
        let (keys, seats, targets, pins, reactions) = match looked_up {
            Ok(looked_up) => looked_up,
            Err(error) => return Err(error.into()),
        };
        self.metrics.step(Step::LookUp, started.elapsed());

        let known = keys.into_iter().filter_map(|(id, known)| Some((id, known?))).collect();
        let heads = chats.iter().map(|(id, chat)| (*id, chat.head.clone())).collect();
        let standings = seats.iter().filter_map(|(seat, standing)| Some((*seat, (*standing)?))).collect();
        let mut state = Chats { heads, standings, targets, pins, reactions };
        let sequenced = domain::sequence(&self.generation, &mut state, known, entries.iter().copied())
            .inspect_err(|_| {
                // What is remembered may be what is wrong: the next try reads it again.
                self.forget_keys();
                self.heads.retain(|_, tracked| !tracked.stored);
                self.standings.clear();
            });
        let Sequenced { verdicts, overwrites } = sequenced?;
        let Chats { mut heads, standings, .. } = state;
        let chats = chats.into_iter().filter_map(|(id, Chat { all_behind, .. })| {
            let head = heads.remove(&id)?;
            Some((id, Chat { head, all_behind }))
        });
        let stored = entries.iter().zip(&verdicts).filter_map(|(entry, verdict)| match *verdict {
            Verdict::Store { seq, .. } => {
                let position = Position { generation: self.generation.clone(), offset: entry.offset };
                Some((entry.key_id(), KnownKey { seq, content: entry.content, position }))
            }
            _ => None,
        });
        Ok(Decided {
            chats: chats.collect(),
            standings: seats.into_keys().map(|seat| (seat, standings.get(&seat).copied())).collect(),
            keys: stored.collect(),
            due: if flush { self.unstored() } else { Vec::new() },
            verdicts,
            overwrites,
        })
    }

    /// Writes the rows of a decided batch. Returns the times of its entries; the rows are durable then.
    pub(crate) async fn write(&self, batch: &[Logged], decided: &Decided) -> Result<Vec<Times>, StoreError> {
        let started = Instant::now();
        let entries = entries_of(batch);
        let rows: Vec<Row<'_>> = entries
            .iter()
            .zip(&decided.verdicts)
            .filter_map(|(entry, verdict)| match *verdict {
                Verdict::Store { seq, stamp, counts, effect, times } => {
                    Some(Row { entry, seq, stamp, counts, effect, times })
                }
                Verdict::Announce { .. }
                | Verdict::Repeated { .. }
                | Verdict::Conflict
                | Verdict::SenderOut
                | Verdict::NoTarget => None,
            })
            .collect();
        tokio::try_join!(
            self.store.append(&self.generation, &rows, &decided.overwrites),
            self.put(&decided.due)
        )?;
        self.metrics.step(Step::Write, started.elapsed());
        self.times_of(&entries, &decided.verdicts).await
    }

    /// Reads what the batch behind a decided one depends on, as far as the rows of the decided one do not change it: they may not be written
    /// yet. Which messages it speaks of, what is pinned and who reacts is read in its time.
    pub(crate) async fn look_ahead(&self, decided: &Decided, next: &[Logged]) -> Result<Found, StoreError> {
        let (entries, nothing) = (entries_of(next), Found::default());
        let chats = self.chats_of(&entries, &nothing, Some(decided)).await?;
        let (keys, standings) = tokio::try_join!(
            self.keys_of(&entries, &chats, &nothing, Some(decided)),
            self.standings_of(&entries, &chats, &nothing, Some(decided)),
        )?;
        let heads = chats.into_iter().map(|(id, chat)| (id, chat.head)).collect();
        Ok(Found { heads, standings, keys })
    }

    /// Returns what is announced of a batch that is written, in log order.
    pub(crate) fn announcements(
        &self,
        batch: &[Logged],
        decided: &Decided,
        times: &[Times],
    ) -> Vec<DeliveredRecord> {
        let mut verdicts = decided.verdicts.iter().zip(times);
        let answer = |logged: &Logged| match logged {
            Logged::Refused(refused) => {
                self.metrics.count(Outcome::Refused);
                tracing::warn!(
                    offset = refused.offset,
                    reason = refused.reason,
                    answered = refused.answer.is_some(),
                    "refused the record at offset {}: {}",
                    refused.offset,
                    refused.reason
                );
                refused.answer.as_deref().cloned()
            }
            Logged::Entry(entry) => {
                let (verdict, times) = verdicts.next().expect("every entry of a batch has a verdict");
                let verdict = *verdict;
                self.metrics.count(match verdict {
                    Verdict::Store { .. } => Outcome::Stored,
                    Verdict::Announce { .. } => Outcome::AnnouncedAgain,
                    Verdict::Repeated { .. } => Outcome::Repeated,
                    Verdict::Conflict => Outcome::Conflict,
                    Verdict::SenderOut => Outcome::SenderOut,
                    Verdict::NoTarget => Outcome::NoTarget,
                });
                Some(verdict.announcement(entry, self.partition.0, *times))
            }
        };
        batch.iter().filter_map(answer).collect()
    }

    /// Takes over a batch that is written: what comes next stands behind it.
    pub(crate) fn accept(&mut self, decided: Decided) {
        let Decided { due, mut chats, standings, keys, verdicts: _, overwrites: _ } = decided;
        self.mark_stored(&due);
        if self.keys.len() + keys.len() > self.max_keys {
            self.forget_keys();
            chats.values_mut().for_each(|chat| chat.all_behind = chat.head.newest_key);
        }
        self.keys.extend(keys);
        self.remember(chats);
        if self.standings.len() + standings.len() > MAX_STANDINGS {
            self.standings.clear();
        }
        self.standings.extend(standings);
    }

    /// Writes the heads that the store does not have.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        let due = self.unstored();
        self.put(&due).await?;
        self.mark_stored(&due);
        Ok(())
    }

    async fn put(&self, due: &[(ChatId, Head)]) -> Result<(), StoreError> {
        if due.is_empty() { Ok(()) } else { self.store.put_heads(self.partition, due).await }
    }

    /// Returns the chats of entries that stand behind the batch `before`, when there is one that is not taken over yet.
    async fn chats_of(
        &self,
        entries: &[&Entry],
        found: &Found,
        before: Option<&Decided>,
    ) -> Result<HashMap<ChatId, Chat>, StoreError> {
        let ids: HashSet<ChatId> = entries.iter().map(|entry| entry.chat).collect();
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            let decided = before.and_then(|before| before.chats.get(&id));
            let kept = decided.or_else(|| self.heads.get(&id).map(|tracked| &tracked.chat)).cloned();
            let kept = kept.or_else(|| found.heads.get(&id).cloned().map(Chat::unremembered));
            reads.push(async move {
                Ok::<_, StoreError>(match kept {
                    Some(chat) => (id, chat),
                    None => (id, Chat::unremembered(self.store.head(id).await?)),
                })
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    /// Returns what is known of the keys of entries, and of those with which histories begin; `None` for one that is not stored.
    async fn keys_of(
        &self,
        entries: &[&Entry],
        chats: &HashMap<ChatId, Chat>,
        found: &Found,
        before: Option<&Decided>,
    ) -> Result<HashMap<KeyId, Option<KnownKey>>, StoreError> {
        // They are those of other records, which came before: of them all is read.
        let beginnings: HashSet<KeyId> = entries.iter().filter_map(|entry| entry.reads_from).collect();
        let own = entries.iter().map(|entry| entry.key_id());
        let ids: HashSet<KeyId> = own.chain(beginnings.iter().copied()).collect();
        let (mut keys, mut reads) = (HashMap::with_capacity(ids.len()), Vec::new());
        for id in ids {
            let remembered = before.and_then(|before| before.keys.get(&id)).or_else(|| self.keys.get(&id));
            let is_new = || !beginnings.contains(&id) && chats[&id.chat].all_behind.is_before(id.key);
            if let Some(known) = found.keys.get(&id) {
                keys.insert(id, known.clone());
            } else if let Some(known) = remembered {
                self.metrics.count_key(KeyLookUp::Remembered);
                keys.insert(id, Some(known.clone()));
            } else if is_new() {
                self.metrics.count_key(KeyLookUp::New);
                keys.insert(id, None);
            } else {
                self.metrics.count_key(KeyLookUp::Read);
                reads.push(async move { Ok::<_, StoreError>((id, self.store.known_key(id).await?)) });
            }
        }
        let read: Vec<_> = stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await?;
        keys.extend(read);
        Ok(keys)
    }

    /// Returns the standings at these heads of all users whom the entries depend on.
    async fn standings_of(
        &self,
        entries: &[&Entry],
        chats: &HashMap<ChatId, Chat>,
        found: &Found,
        before: Option<&Decided>,
    ) -> Result<HashMap<SeatId, Option<Standing>>, StoreError> {
        let seats: HashSet<SeatId> = entries.iter().filter_map(|entry| entry.seat_id()).collect();
        let mut reads = Vec::with_capacity(seats.len());
        for seat in seats {
            let decided = before.and_then(|before| before.standings.get(&seat));
            let kept = decided.or_else(|| found.standings.get(&seat));
            let kept = kept.or_else(|| self.standings.get(&seat)).copied();
            let seq = chats[&seat.chat].head.seq;
            reads.push(async move {
                let standing = match kept {
                    Some(standing) => standing,
                    None => self.store.standing(seat, seq).await?,
                };
                Ok::<_, StoreError>((seat, standing))
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    /// Returns the messages that the entries may change, and what those reply to that may be deleted.
    async fn targets_of(&self, entries: &[&Entry]) -> Result<HashMap<TargetId, Target>, StoreError> {
        let ids: HashSet<TargetId> = entries.iter().flat_map(|entry| entry.target_ids(i64::MAX)).collect();
        let mut targets = self.read_targets(ids).await?;
        let deletions =
            entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Delete | EntryKind::DeleteRange));
        let replied_to = deletions
            .flat_map(|entry| entry.target_ids(i64::MAX))
            .filter_map(|id| Some(TargetId { seq: targets.get(&id)?.target_seq?, ..id }));
        let replied_to: HashSet<TargetId> =
            replied_to.filter(|replied_to| !targets.contains_key(replied_to)).collect();
        targets.extend(self.read_targets(replied_to).await?);
        Ok(targets)
    }

    /// Returns what is pinned in the chats where the entries may change it.
    async fn pins_of(&self, entries: &[&Entry]) -> Result<HashMap<ChatId, Pins>, StoreError> {
        let about_pins = entries.iter().filter(|entry| entry.is_about_pins());
        let chats: HashSet<ChatId> = about_pins.map(|entry| entry.chat).collect();
        let mut reads = Vec::with_capacity(chats.len());
        for chat in chats {
            reads.push(async move { Ok::<_, StoreError>((chat, self.store.pins(chat).await?)) });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    async fn read_targets(&self, ids: HashSet<TargetId>) -> Result<HashMap<TargetId, Target>, StoreError> {
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            reads.push(async move { Ok::<_, StoreError>((id, self.store.target(id).await?)) });
        }
        let found: Vec<_> = stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await?;
        Ok(found.into_iter().filter_map(|(id, target)| Some((id, target?))).collect())
    }

    /// Returns whether there was each reaction of the entries, at these heads.
    async fn reactions_of(
        &self,
        entries: &[&Entry],
        chats: &HashMap<ChatId, Chat>,
    ) -> Result<HashMap<ReactionId, bool>, StoreError> {
        let ids: HashSet<ReactionId> = entries.iter().filter_map(|entry| entry.reaction_id()).collect();
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            let seq = chats[&id.target.chat].head.seq;
            reads.push(async move {
                let reacts = self.store.reacts(&id, seq).await?;
                Ok::<_, StoreError>((id, reacts))
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    fn unstored(&self) -> Vec<(ChatId, Head)> {
        let unstored = self.heads.iter().filter(|(_, tracked)| !tracked.stored);
        unstored.map(|(id, tracked)| (*id, tracked.chat.head.clone())).collect()
    }

    fn mark_stored(&mut self, written: &[(ChatId, Head)]) {
        for (chat, head) in written {
            if let Some(tracked) = self.heads.get_mut(chat)
                && tracked.chat.head == *head
            {
                tracked.stored = true;
            }
        }
    }

    fn remember(&mut self, chats: HashMap<ChatId, Chat>) {
        if self.heads.len() + chats.len() > self.max_heads {
            self.heads.retain(|_, tracked| !tracked.stored);
        }
        for (id, chat) in chats {
            match self.heads.get_mut(&id) {
                Some(tracked) if tracked.chat.head == chat.head => {}
                Some(tracked) => {
                    tracked.chat.head = chat.head;
                    tracked.stored = false;
                }
                // A head that was only read may be unchanged; writing it again is harmless.
                None => drop(self.heads.insert(id, Tracked { chat, stored: false })),
            }
        }
    }

    /// Forgets all keys that are remembered: from now on they are looked up, with all others that are not behind the newest ones.
    fn forget_keys(&mut self) {
        self.keys.clear();
        for Tracked { chat, .. } in self.heads.values_mut() {
            chat.all_behind = chat.head.newest_key;
        }
    }

    /// Returns the times of each entry. Of one that is announced again its row has them: the chat's clock and what holds for texts may be
    /// others than they were.
    async fn times_of(&self, entries: &[&Entry], verdicts: &[Verdict]) -> Result<Vec<Times>, StoreError> {
        let mut reads = Vec::with_capacity(verdicts.len());
        for (entry, verdict) in entries.iter().zip(verdicts) {
            let (chat, verdict) = (entry.chat, *verdict);
            reads.push(async move {
                Ok(match verdict {
                    Verdict::Store { times, .. } => times,
                    Verdict::Announce { seq } => {
                        let row = self.store.target(TargetId { chat, seq }).await?;
                        row.map_or_else(Times::default, |row| row.times)
                    }
                    Verdict::Repeated { .. } | Verdict::Conflict | Verdict::SenderOut | Verdict::NoTarget => {
                        Times::default()
                    }
                })
            });
        }
        stream::iter(reads).buffered(LOOK_UPS).try_collect().await
    }
}

fn entries_of(batch: &[Logged]) -> Vec<&Entry> {
    batch.iter().filter_map(Logged::entry).collect()
}

#[cfg(test)]
mod tests {
    use contracts::{
        DeviceId, MessageKey, UserId,
        event::{DeliveryOutcome, EntryKind, SendRecord},
        wire::Message,
    };
    use kit::page::Span;
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{RawRecord, read_record},
        events::flaky::Flaky,
        history::{Beginning, history},
        store::memory::MemoryStore,
    };

    fn chat(n: usize) -> ChatId {
        ChatId(Uuid::from_u128(n as u128))
    }

    fn logged(offset: i64, record: &SendRecord) -> Logged {
        let (key, payload) = (record.chat.to_string(), serde_json::to_vec(record).expect("json"));
        let (key, payload) = (Some(key.as_bytes()), Some(payload.as_slice()));
        read_record(RawRecord { offset, logged_at_ms: Some(1_000), key, payload })
    }

    /// Every seventh record repeats the one before it, every eleventh is none, every fifth edits an earlier one.
    fn log(records: usize) -> Vec<Logged> {
        let record = |i: usize| {
            let of = if i % 7 == 6 { i - 1 } else { i };
            let record = SendRecord {
                body: format!("message {of}"),
                target_seq: (of % 5 == 4).then_some(1 + of as i64 / 7),
                ..SendRecord::new(
                    chat(of % 3),
                    UserId(Uuid::from_u128(1)),
                    DeviceId(Uuid::from_u128(2)),
                    MessageKey(Uuid::from_u128(of as u128)),
                    if of % 5 == 4 { EntryKind::Edit } else { EntryKind::Text },
                )
            };
            let (key, payload) = (record.chat.to_string(), serde_json::to_vec(&record).expect("json"));
            read_record(RawRecord {
                offset: i as i64,
                logged_at_ms: Some(1_000),
                key: Some(key.as_bytes()),
                payload: (i % 11 != 10).then_some(payload.as_slice()),
            })
        };
        (0..records).map(record).collect()
    }

    fn pipeline<S: Store>(store: &Arc<S>) -> Pipeline<S> {
        let metrics = Metrics::register(&mut Registry::default());
        Pipeline::new(Generation::new("g1"), Partition(0), store.clone(), metrics)
    }

    fn reader(n: usize) -> SeatId {
        SeatId { chat: chat(n), user: UserId(Uuid::from_u128(1)) }
    }

    async fn contents<S: Store>(store: &S) -> Vec<(Head, Vec<Message>)> {
        let mut contents = Vec::new();
        for n in 0..3 {
            let head = store.head(chat(n)).await.expect("a head");
            contents.push((
                head,
                history(store, reader(n), Beginning::Seq(1), Span::After(0), 500)
                    .await
                    .expect("a history")
                    .messages,
            ));
        }
        contents
    }

    /// Applies a batch as far as the store lets it: what fails leaves nothing behind here.
    async fn apply<S: Store>(
        pipeline: &mut Pipeline<S>,
        batch: &[Logged],
        flush: bool,
    ) -> Result<Vec<DeliveredRecord>, ApplyError> {
        apply_found(pipeline, batch, &Found::default(), flush).await
    }

    async fn apply_found<S: Store>(
        pipeline: &mut Pipeline<S>,
        batch: &[Logged],
        found: &Found,
        flush: bool,
    ) -> Result<Vec<DeliveredRecord>, ApplyError> {
        let decided = pipeline.decide(batch, found, flush).await?;
        let times = pipeline.write(batch, &decided).await?;
        let announcements = pipeline.announcements(batch, &decided, &times);
        pipeline.accept(decided);
        Ok(announcements)
    }

    /// Applies batches as an owner does that always has the next one, in the order that helps it least: what is found for the next one is found
    /// before a row of this one is written. Each step is repeated until it succeeds.
    async fn apply_ahead<S: Store>(
        pipeline: &mut Pipeline<S>,
        batches: &[&[Logged]],
    ) -> Vec<DeliveredRecord> {
        let (mut found, mut announced) = (Found::default(), Vec::new());
        for (n, batch) in batches.iter().enumerate() {
            let decided = loop {
                if let Ok(decided) = pipeline.decide(batch, &found, n % 2 == 0).await {
                    break decided;
                }
            };
            // The last record of the next batch comes too late to be looked up with the others.
            let next = batches.get(n + 1).and_then(|next| next.split_last());
            let next = next.map_or(&[][..], |(_, others)| others);
            found = loop {
                if let Ok(found) = pipeline.look_ahead(&decided, next).await {
                    break found;
                }
            };
            let times = loop {
                if let Ok(times) = pipeline.write(batch, &decided).await {
                    break times;
                }
            };
            announced.extend(pipeline.announcements(batch, &decided, &times));
            pipeline.accept(decided);
        }
        announced
    }

    #[tokio::test]
    async fn failures_in_between_change_neither_rows_nor_announcements() {
        let log = log(300);
        let steady = Arc::new(MemoryStore::default());
        let mut calm = pipeline(&steady);
        let expected = apply(&mut calm, &log, false).await.expect("a store in memory does not fail");
        calm.flush().await.expect("a store in memory does not fail");

        let flaky = Flaky::failing(8);
        let mut retried = pipeline(&flaky);
        let mut announced = Vec::new();
        for batch in log.chunks(4) {
            announced.extend(loop {
                if let Ok(announcements) = apply(&mut retried, batch, true).await {
                    break announcements;
                }
            });
        }
        while retried.flush().await.is_err() {}
        assert_eq!(announced, expected);
        assert_eq!(contents(&flaky.store).await, contents(&*steady).await);

        // A new owner that starts at the beginning announces the same and changes nothing.
        let mut later = pipeline(&steady);
        let again = apply(&mut later, &log, false).await.expect("a store in memory does not fail");
        assert_eq!(again, expected);
        later.flush().await.expect("a store in memory does not fail");
        assert_eq!(contents(&flaky.store).await, contents(&*steady).await);
    }

    #[tokio::test]
    async fn what_is_looked_up_before_the_batch_before_it_is_written_changes_nothing() {
        let log = log(300);
        let steady = Arc::new(MemoryStore::default());
        let mut calm = pipeline(&steady);
        let expected = apply(&mut calm, &log, false).await.expect("a store in memory does not fail");
        calm.flush().await.expect("a store in memory does not fail");
        for size in [1, 2, 3, 7, 40] {
            let flaky = Flaky::failing(8 * size);
            let mut ahead = pipeline(&flaky);
            let batches: Vec<&[Logged]> = log.chunks(size as usize).collect();
            assert_eq!(apply_ahead(&mut ahead, &batches).await, expected, "batches of {size}");
            while ahead.flush().await.is_err() {}
            assert_eq!(contents(&flaky.store).await, contents(&*steady).await, "batches of {size}");
        }
    }

    /// A key with an order.
    fn ordered(n: u64) -> MessageKey {
        MessageKey(Uuid::from_u128((u128::from(n) << 80) | (7 << 76) | (1 << 63)))
    }

    /// A record of a text, which is the same in all of them.
    fn text(offset: i64, of: usize, key: MessageKey) -> Logged {
        let (user, device) = (UserId(Uuid::from_u128(1)), DeviceId(Uuid::from_u128(2)));
        let record = SendRecord::new(chat(of), user, device, key, EntryKind::Text);
        logged(offset, &SendRecord { body: "hi".to_owned(), ..record })
    }

    /// Numbers without a pattern.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }

    /// A log of texts in three chats, by clients whose clocks differ by more than what many messages take, some of whom resend any earlier message.
    fn resends(records: u64, numbers: &mut Numbers) -> Vec<Logged> {
        let mut sent: Vec<(usize, MessageKey)> = Vec::new();
        let mut log = Vec::new();
        for offset in 0..records {
            let (of, key) = match numbers.below(4) {
                0 if offset > 0 => sent[numbers.below(offset) as usize],
                _ => (numbers.below(3) as usize, ordered((offset + numbers.below(50)) * 1_000 + offset)),
            };
            sent.push((of, key));
            log.push(text(offset as i64, of, key));
        }
        log
    }

    /// Returns how many records are announced as something else than the log makes of them: the first of a key is stored, and every other one
    /// repeats it. It knows neither store nor pipeline.
    fn wrong(log: &[Logged], announced: &[DeliveredRecord]) -> usize {
        let (mut seqs, mut heads) = (HashMap::new(), HashMap::new());
        assert_eq!(log.len(), announced.len());
        let is_wrong = |(logged, announced): &(&Logged, &DeliveredRecord)| {
            let entry = logged.entry().expect("an entry");
            let head: &mut i64 = heads.entry(entry.chat).or_default();
            let first = !seqs.contains_key(&entry.key_id());
            let seq = *seqs.entry(entry.key_id()).or_insert_with(|| {
                *head += 1;
                *head
            });
            match &announced.outcome {
                DeliveryOutcome::Stored { seq: stored, .. } => !first || *stored != seq,
                DeliveryOutcome::Repeated { seq: repeated } => first || *repeated != seq,
                _ => true,
            }
        };
        log.iter().zip(announced).filter(is_wrong).count()
    }

    /// Applies a log by one owner after the other, each of which dies at any place: between rows and their heads, or with heads stored.
    /// Returns what was announced first of each record; `None` when the store contradicts the log.
    async fn apply_with_takeovers<S: Store>(
        store: &Arc<S>,
        log: &[Logged],
        numbers: &mut Numbers,
    ) -> Option<Vec<DeliveredRecord>> {
        let (mut announced, mut committed) = (Vec::new(), 0);
        while announced.len() < log.len() {
            let mut owner = pipeline(store);
            owner.max_keys = 30;
            let mut at: usize = committed;
            for _ in 0..=numbers.below(6) {
                let batch = &log[at..log.len().min(at + 1 + numbers.below(20) as usize)];
                let announcements = apply(&mut owner, batch, numbers.below(2) == 0).await.ok()?;
                let known = announced.len().saturating_sub(at).min(batch.len());
                announced.extend(announcements.into_iter().skip(known));
                at += batch.len();
                if numbers.below(2) == 0 {
                    owner.flush().await.expect("a store in memory does not fail");
                    committed = at;
                }
            }
            // The rows of one batch more, without what comes behind them.
            let batch = &log[at..log.len().min(at + 10)];
            let decided = owner.decide(batch, &Found::default(), false).await.ok()?;
            owner.write(batch, &decided).await.expect("a store in memory does not fail");
        }
        Some(announced)
    }

    #[tokio::test]
    async fn a_key_that_is_not_looked_up_was_never_used() {
        for seed in 0..20 {
            let mut numbers = Numbers(seed);
            let log = resends(400, &mut numbers);
            let announced = apply_with_takeovers(&Flaky::steady(None), &log, &mut numbers).await;
            assert_eq!(wrong(&log, &announced.expect("no contradiction")), 0, "seed {seed}");

            // Keys are forgotten between the look-up of a batch and its verdicts.
            let store = Flaky::failing(8);
            let mut ahead = pipeline(&store);
            ahead.max_keys = 10;
            let batches: Vec<&[Logged]> = log.chunks(4).collect();
            let announced = apply_ahead(&mut ahead, &batches).await;
            assert_eq!(wrong(&log, &announced), 0, "seed {seed}");
        }
    }

    /// The head of a chat is forgotten together with its keys while the next batch, which repeats one of them, is already looked up.
    #[tokio::test]
    async fn a_key_is_looked_up_when_it_is_forgotten_with_the_head_of_its_chat() {
        // The last record repeats the second one: behind the mark of the owner, and not behind the newest key of the chat.
        let sent = [(0, 10), (0, 30), (0, 20), (1, 40), (0, 30), (0, 20)];
        let log: Vec<Logged> =
            (0..).zip(sent).map(|(offset, (of, key))| text(offset, of, ordered(key))).collect();
        let (first, others) = log.split_at(3);
        let (second, third) = others.split_at(1);
        let mut owner = pipeline(&Flaky::steady(None));
        let mut announced = apply(&mut owner, first, false).await.expect("a store in memory does not fail");
        owner.flush().await.expect("a store in memory does not fail");
        (owner.max_heads, owner.max_keys) = (1, 3);

        let decided = owner.decide(second, &Found::default(), false).await.expect("no contradiction");
        // The last record comes too late to be looked up: only the head of its chat is found.
        let found = owner.look_ahead(&decided, &third[..1]).await.expect("a store in memory does not fail");
        let times = owner.write(second, &decided).await.expect("a store in memory does not fail");
        announced.extend(owner.announcements(second, &decided, &times));
        owner.accept(decided);
        assert!(owner.heads.keys().all(|id| *id == chat(1)), "the head of the first chat is forgotten");

        announced.extend(apply_found(&mut owner, third, &found, false).await.expect("no contradiction"));
        assert_eq!(wrong(&log, &announced), 0);
    }

    /// With a store that loses newest keys, and with one that has its heads from a version that keeps none.
    #[tokio::test]
    async fn a_newest_key_that_is_too_old_would_be_seen_and_none_costs_look_ups_alone() {
        for seed in 0..20 {
            let mut numbers = Numbers(seed);
            let log = resends(400, &mut numbers);
            let forgetful = Flaky::steady(Some(NewestKey::default()));
            let announced = apply_with_takeovers(&forgetful, &log, &mut numbers).await;
            let is_seen = announced.is_none_or(|announced| wrong(&log, &announced) > 0);
            assert!(is_seen, "seed {seed}: no message was stored twice");

            let older = Flaky::steady(Some(NewestKey::UNKNOWN));
            let announced = apply_with_takeovers(&older, &log, &mut numbers).await;
            assert_eq!(wrong(&log, &announced.expect("no contradiction")), 0, "seed {seed}");
            assert!(older.key_reads() > 0);
        }
    }

    #[tokio::test]
    async fn new_messages_cost_no_look_up_and_resends_none_while_they_are_remembered() {
        let store = Flaky::steady(None);
        let message = |offset: i64, key: u64| [text(offset, 0, ordered(key))];
        let mut owner = pipeline(&store);
        // The second one overtook the first one on its way.
        for (offset, key) in [(0, 20), (1, 10), (2, 30), (3, 20)] {
            apply(&mut owner, &message(offset, key), false).await.expect("a store in memory does not fail");
        }
        assert_eq!(store.key_reads(), 0);
        owner.flush().await.expect("a store in memory does not fail");
        let mut next = pipeline(&store);
        apply(&mut next, &message(4, 40), false).await.expect("a store in memory does not fail");
        assert_eq!(store.key_reads(), 0, "it is behind all that the owner before has stored");
        apply(&mut next, &message(5, 30), false).await.expect("a store in memory does not fail");
        apply(&mut next, &message(6, 25), false).await.expect("a store in memory does not fail");
        assert_eq!(store.key_reads(), 2, "the owner before may have stored them");
        next.max_keys = 0;
        apply(&mut next, &message(7, 50), false).await.expect("a store in memory does not fail");
        apply(&mut next, &message(8, 40), false).await.expect("a store in memory does not fail");
        assert_eq!(store.key_reads(), 3, "what is forgotten is looked up");
        let head = store.head(chat(0)).await.expect("a head");
        assert_eq!(head.seq, 3);
    }
}
