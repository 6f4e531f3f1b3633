//! From a batch of records to durable rows and the announcements of them. Knows the store, not Kafka.

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
        self, Chats, Contradiction, Entry, Generation, Head, KeyId, KnownKey, Logged, Pins, ReactionId,
        SeatId, Sequenced, Standing, Target, TargetId, Times, Verdict,
    },
    metrics::{Metrics, Outcome, Step},
    store::{Partition, Row, Store, StoreError},
};

/// Concurrent look-ups of one batch; the store bounds what is really in flight.
const LOOK_UPS: usize = 128;
/// Heads kept in memory by one owner, some 100 bytes each; beyond it those that are stored are forgotten.
const MAX_HEADS: usize = 20_000;
/// Standings kept in memory by one owner, some 50 bytes each; beyond it all are forgotten.
const MAX_STANDINGS: usize = 50_000;

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
}

struct Tracked {
    head: Head,
    /// The store has this head.
    stored: bool,
}

impl<S: Store> Pipeline<S> {
    pub(crate) fn new(generation: Generation, partition: Partition, store: Arc<S>, metrics: Metrics) -> Self {
        Self { generation, partition, store, metrics, heads: HashMap::new(), standings: HashMap::new() }
    }

    /// Stores a batch and returns what is to be announced, in log order.
    ///
    /// After an error nothing has changed here; the same batch may be applied again. With `flush` the heads of
    /// the batches before are written on the way.
    pub(crate) async fn apply(
        &mut self,
        batch: &[Logged],
        flush: bool,
    ) -> Result<Vec<DeliveredRecord>, ApplyError> {
        let started = Instant::now();
        let entries: Vec<&Entry> = batch.iter().filter_map(Logged::entry).collect();
        let due = if flush { self.unstored() } else { Vec::new() };
        let heads = self.heads_of(&entries).await?;
        let looked_up = tokio::try_join!(
            self.keys_of(&entries),
            self.standings_of(&entries, &heads),
            self.targets_of(&entries),
            self.pins_of(&entries),
            self.reactions_of(&entries, &heads),
            self.put(&due)
        );
        let (known, seats, targets, pins, reactions, ()) = match looked_up {
            Ok(looked_up) => looked_up,
            Err(error) => return Err(error.into()),
        };
        self.mark_stored(&due);
        self.metrics.step(Step::LookUp, started.elapsed());

        let standings = seats.iter().filter_map(|(seat, standing)| Some((*seat, (*standing)?))).collect();
        let mut chats = Chats { heads, standings, targets, pins, reactions };
        let Sequenced { verdicts, overwrites } =
            domain::sequence(&self.generation, &mut chats, known, entries.iter().copied()).inspect_err(
                |_| {
                    // What is remembered may be what is wrong: the next try reads it again.
                    self.heads.retain(|_, tracked| !tracked.stored);
                    self.standings.clear();
                },
            )?;
        let Chats { heads, standings, .. } = chats;

        let started = Instant::now();
        let rows: Vec<Row<'_>> = entries
            .iter()
            .zip(&verdicts)
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
        self.store.append(&self.generation, &rows, &overwrites).await?;
        self.metrics.step(Step::Write, started.elapsed());

        self.remember(heads);
        if self.standings.len() + seats.len() > MAX_STANDINGS {
            self.standings.clear();
        }
        self.standings.extend(seats.into_keys().map(|seat| (seat, standings.get(&seat).copied())));
        let times = self.times_of(&entries, &verdicts).await?;
        Ok(self.announcements(batch, &verdicts, &times))
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

    async fn heads_of(&self, entries: &[&Entry]) -> Result<HashMap<ChatId, Head>, StoreError> {
        let chats: HashSet<ChatId> = entries.iter().map(|entry| entry.chat).collect();
        let mut reads = Vec::with_capacity(chats.len());
        for chat in chats {
            reads.push(async move {
                match self.heads.get(&chat) {
                    Some(tracked) => Ok((chat, tracked.head.clone())),
                    None => Ok((chat, self.store.head(chat).await?)),
                }
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    async fn keys_of(&self, entries: &[&Entry]) -> Result<HashMap<KeyId, KnownKey>, StoreError> {
        let beginnings = entries.iter().filter_map(|entry| entry.reads_from);
        let ids: HashSet<KeyId> = entries.iter().map(|entry| entry.key_id()).chain(beginnings).collect();
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            reads.push(async move { Ok::<_, StoreError>((id, self.store.known_key(id).await?)) });
        }
        let found: Vec<_> = stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await?;
        Ok(found.into_iter().filter_map(|(id, known)| Some((id, known?))).collect())
    }

    /// Returns the standings at these heads of all users whom the entries depend on.
    async fn standings_of(
        &self,
        entries: &[&Entry],
        heads: &HashMap<ChatId, Head>,
    ) -> Result<HashMap<SeatId, Option<Standing>>, StoreError> {
        let seats: HashSet<SeatId> = entries.iter().filter_map(|entry| entry.seat_id()).collect();
        let mut reads = Vec::with_capacity(seats.len());
        for seat in seats {
            reads.push(async move {
                let standing = match self.standings.get(&seat) {
                    Some(standing) => *standing,
                    None => self.store.standing(seat, heads[&seat.chat].seq).await?,
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
        heads: &HashMap<ChatId, Head>,
    ) -> Result<HashMap<ReactionId, bool>, StoreError> {
        let ids: HashSet<ReactionId> = entries.iter().filter_map(|entry| entry.reaction_id()).collect();
        let mut reads = Vec::with_capacity(ids.len());
        for id in ids {
            let seq = heads[&id.target.chat].seq;
            reads.push(async move {
                let reacts = self.store.reacts(&id, seq).await?;
                Ok::<_, StoreError>((id, reacts))
            });
        }
        stream::iter(reads).buffer_unordered(LOOK_UPS).try_collect().await
    }

    fn unstored(&self) -> Vec<(ChatId, Head)> {
        let unstored = self.heads.iter().filter(|(_, tracked)| !tracked.stored);
        unstored.map(|(chat, tracked)| (*chat, tracked.head.clone())).collect()
    }

    fn mark_stored(&mut self, written: &[(ChatId, Head)]) {
        for (chat, head) in written {
            if let Some(tracked) = self.heads.get_mut(chat)
                && tracked.head == *head
            {
                tracked.stored = true;
            }
        }
    }

    fn remember(&mut self, heads: HashMap<ChatId, Head>) {
        if self.heads.len() + heads.len() > MAX_HEADS {
            self.heads.retain(|_, tracked| !tracked.stored);
        }
        for (chat, head) in heads {
            match self.heads.get_mut(&chat) {
                Some(tracked) if tracked.head == head => {}
                Some(tracked) => *tracked = Tracked { head, stored: false },
                // A head that was only read may be unchanged; writing it again is harmless.
                None => drop(self.heads.insert(chat, Tracked { head, stored: false })),
            }
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

    fn announcements(&self, batch: &[Logged], verdicts: &[Verdict], times: &[Times]) -> Vec<DeliveredRecord> {
        let mut verdicts = verdicts.iter().zip(times);
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
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use contracts::{
        DeviceId, MessageKey, UserId,
        event::{EntryKind, SendRecord},
        wire::Message,
    };
    use kit::page::Span;
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{Counts, Marks, Overwrite, RawRecord, read_record},
        history::{Beginning, history},
        store::{PlacedHead, Progress, Result, Room, Run, memory::MemoryStore},
    };

    /// A store that fails one call in eight, in no pattern, writes after half of them is done.
    #[derive(Default)]
    struct Flaky {
        store: MemoryStore,
        calls: AtomicU32,
    }

    impl Flaky {
        fn turn(&self) -> Result<()> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            if call.wrapping_mul(2_654_435_761) >> 29 == 0 {
                return Err(StoreError { step: "answer".to_owned(), source: "it is down".into() });
            }
            Ok(())
        }
    }

    impl Store for Flaky {
        async fn head(&self, chat: ChatId) -> Result<Head> {
            self.turn()?;
            self.store.head(chat).await
        }

        async fn known_key(&self, id: KeyId) -> Result<Option<KnownKey>> {
            self.turn()?;
            self.store.known_key(id).await
        }

        async fn standing(&self, seat: SeatId, seq: i64) -> Result<Option<Standing>> {
            self.turn()?;
            self.store.standing(seat, seq).await
        }

        async fn target(&self, id: TargetId) -> Result<Option<Target>> {
            self.turn()?;
            self.store.target(id).await
        }

        async fn pins(&self, chat: ChatId) -> Result<Pins> {
            self.turn()?;
            self.store.pins(chat).await
        }

        async fn replies(&self, id: TargetId, after: i64, limit: usize) -> Result<Vec<i64>> {
            self.store.replies(id, after, limit).await
        }

        async fn entry(&self, id: TargetId) -> Result<Option<Message>> {
            self.store.entry(id).await
        }

        async fn time_from(&self, id: TargetId) -> Result<Option<(i64, i64)>> {
            self.store.time_from(id).await
        }

        async fn reacts(&self, id: &ReactionId, seq: i64) -> Result<bool> {
            self.turn()?;
            self.store.reacts(id, seq).await
        }

        async fn reactions_of(&self, seat: SeatId, first: i64, last: i64) -> Result<Vec<(i64, String)>> {
            self.store.reactions_of(seat, first, last).await
        }

        async fn append(
            &self,
            generation: &Generation,
            rows: &[Row<'_>],
            overwrites: &[Overwrite],
        ) -> Result<()> {
            self.store
                .append(generation, &rows[..rows.len() / 2], &overwrites[..overwrites.len() / 2])
                .await?;
            self.turn()?;
            self.store.append(generation, rows, overwrites).await
        }

        async fn put_heads(&self, partition: Partition, heads: &[(ChatId, Head)]) -> Result<()> {
            self.store.put_heads(partition, &heads[..heads.len() / 2]).await?;
            self.turn()?;
            self.store.put_heads(partition, heads).await
        }

        async fn partitions(&self, generation: &Generation) -> Result<Vec<Partition>> {
            self.store.partitions(generation).await
        }

        async fn moved(
            &self,
            generation: &Generation,
            partition: Partition,
            from: i64,
            to: i64,
        ) -> Result<HashSet<ChatId>> {
            self.store.moved(generation, partition, from, to).await
        }

        async fn placed_head(&self, chat: ChatId) -> Result<PlacedHead> {
            self.store.placed_head(chat).await
        }

        async fn counts_at(&self, chat: ChatId, seq: i64) -> Result<Option<Counts>> {
            self.store.counts_at(chat, seq).await
        }

        async fn marks(&self, seat: SeatId) -> Result<Marks> {
            self.store.marks(seat).await
        }

        async fn marks_of(&self, user: UserId) -> Result<HashMap<ChatId, Marks>> {
            self.store.marks_of(user).await
        }

        async fn put_marks(&self, seat: SeatId, marks: Marks) -> Result<()> {
            self.store.put_marks(seat, marks).await
        }

        async fn calls(&self, seat: SeatId) -> Result<Vec<i64>> {
            self.store.calls(seat).await
        }

        async fn calls_of(&self, user: UserId) -> Result<Vec<(ChatId, i64)>> {
            self.store.calls_of(user).await
        }

        async fn forget_calls(&self, seat: SeatId, seq: i64, stamp: i64) -> Result<()> {
            self.store.forget_calls(seat, seq, stamp).await
        }

        async fn progress(&self, generation: &Generation, of: Partition) -> Result<Option<Progress>> {
            self.store.progress(generation, of).await
        }

        async fn put_progress(&self, generation: &Generation, of: Partition, at: Progress) -> Result<()> {
            self.store.put_progress(generation, of, at).await
        }

        async fn messages(
            &self,
            chat: ChatId,
            bucket: i64,
            run: Run,
            room: &mut Room,
        ) -> Result<Vec<Message>> {
            self.store.messages(chat, bucket, run, room).await
        }
    }

    fn chat(n: usize) -> ChatId {
        ChatId(Uuid::from_u128(n as u128))
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

    #[tokio::test]
    async fn failures_in_between_change_neither_rows_nor_announcements() {
        let log = log(300);
        let steady = Arc::new(MemoryStore::default());
        let mut calm = pipeline(&steady);
        let expected = calm.apply(&log, false).await.expect("a store in memory does not fail");
        calm.flush().await.expect("a store in memory does not fail");

        let flaky = Arc::new(Flaky::default());
        let mut retried = pipeline(&flaky);
        let mut announced = Vec::new();
        for batch in log.chunks(4) {
            announced.extend(loop {
                if let Ok(announcements) = retried.apply(batch, true).await {
                    break announcements;
                }
            });
        }
        while retried.flush().await.is_err() {}
        assert_eq!(announced, expected);
        assert_eq!(contents(&flaky.store).await, contents(&*steady).await);

        // A new owner that starts at the beginning announces the same and changes nothing.
        let mut later = pipeline(&steady);
        assert_eq!(later.apply(&log, false).await.expect("a store in memory does not fail"), expected);
        later.flush().await.expect("a store in memory does not fail");
        assert_eq!(contents(&flaky.store).await, contents(&*steady).await);
    }
}
