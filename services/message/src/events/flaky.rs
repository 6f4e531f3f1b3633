//! A store with faults, for tests.

use std::{
    collections::{HashMap, HashSet},
    future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use contracts::{ChatId, MessageKey, UserId, wire::Message};
use tokio::sync::Semaphore;

use crate::{
    domain::{
        Counts, Generation, Head, KeyId, KnownKey, Marks, NewestKey, Overwrite, Pins, ReactionId, SeatId,
        Standing, Target, TargetId,
    },
    store::{
        Partition, PlacedHead, Progress, Result, Room, Row, Run, Store, StoreError, memory::MemoryStore,
    },
};

/// A store that fails some of its calls, in no pattern, and writes after half of them is done.
pub(super) struct Flaky {
    pub(super) store: MemoryStore,
    calls: AtomicU32,
    /// It fails one call of so many; nothing for one that is steady.
    one_in: Option<u32>,
    /// How often it was asked for a key.
    key_reads: AtomicU32,
    /// What it says of the newest key of every chat that has a head, instead of what was written.
    newest_key: Option<NewestKey>,
    /// The key of which the first read never ends.
    lost: Option<MessageKey>,
    lost_reads: AtomicU32,
    /// Closed once heads are read; until then their reads wait.
    heads: Semaphore,
    head_reads: AtomicU32,
}

impl Flaky {
    pub(super) fn steady(newest_key: Option<NewestKey>) -> Arc<Self> {
        Arc::new(Self::new(None, newest_key))
    }

    /// Returns one whose first read of this key never ends, and which reads no head before [`Self::read_heads`].
    pub(super) fn losing(key: MessageKey) -> Arc<Self> {
        let heads = Semaphore::new(0);
        Arc::new(Self { lost: Some(key), heads, ..Self::new(None, None) })
    }

    pub(super) fn read_heads(&self) {
        self.heads.close();
    }

    /// Returns how many heads it was to read.
    pub(super) fn head_reads(&self) -> u32 {
        self.head_reads.load(Ordering::Relaxed)
    }

    /// Returns one that fails one call of so many. A batch that makes many more calls than that has next to no chance.
    pub(super) fn failing(one_in: u32) -> Arc<Self> {
        Arc::new(Self::new(Some(one_in), None))
    }

    fn new(one_in: Option<u32>, newest_key: Option<NewestKey>) -> Self {
        let heads = Semaphore::new(0);
        heads.close();
        Self {
            store: MemoryStore::default(),
            calls: AtomicU32::new(0),
            one_in,
            key_reads: AtomicU32::new(0),
            newest_key,
            lost: None,
            lost_reads: AtomicU32::new(0),
            heads,
            head_reads: AtomicU32::new(0),
        }
    }

    pub(super) fn key_reads(&self) -> u32 {
        self.key_reads.load(Ordering::Relaxed)
    }

    fn turn(&self) -> Result<()> {
        let Some(one_in) = self.one_in else { return Ok(()) };
        if scattered(self.calls.fetch_add(1, Ordering::Relaxed)).is_multiple_of(one_in) {
            return Err(StoreError { step: "answer".to_owned(), source: "it is down".into() });
        }
        Ok(())
    }
}

/// Returns a number that looks random and is the same each time (`lowbias32` of Chris Wellons).
const fn scattered(mut number: u32) -> u32 {
    number ^= number >> 16;
    number = number.wrapping_mul(0x7feb_352d);
    number ^= number >> 15;
    number = number.wrapping_mul(0x846c_a68b);
    number ^ (number >> 16)
}

impl Store for Flaky {
    async fn head(&self, chat: ChatId) -> Result<Head> {
        self.turn()?;
        self.head_reads.fetch_add(1, Ordering::Relaxed);
        // An error: it is closed.
        drop(self.heads.acquire().await);
        let head = self.store.head(chat).await?;
        let newest_key = self.newest_key.filter(|_| head.applied.is_some()).unwrap_or(head.newest_key);
        Ok(Head { newest_key, ..head })
    }

    async fn known_key(&self, id: KeyId) -> Result<Option<KnownKey>> {
        self.turn()?;
        self.key_reads.fetch_add(1, Ordering::Relaxed);
        if self.lost == Some(id.key) && self.lost_reads.fetch_add(1, Ordering::Relaxed) == 0 {
            future::pending::<()>().await;
        }
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
        self.store.append(generation, &rows[..rows.len() / 2], &overwrites[..overwrites.len() / 2]).await?;
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

    async fn messages(&self, chat: ChatId, bucket: i64, run: Run, room: &mut Room) -> Result<Vec<Message>> {
        self.store.messages(chat, bucket, run, room).await
    }
}
