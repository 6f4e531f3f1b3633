//! Where messages, keys and heads live.
//!
//! Every write carries the timestamp that the sequencer computed from the log; the greater one wins. Writing the
//! same again is harmless, an older head or position loses, and no write ever reads first.

pub mod cql;
pub mod memory;
pub mod migrate;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
};

use contracts::{ChatId, UserId, event::EntryKind, wire::Message};

use crate::domain::{
    Counts, Effect, Entry, Generation, Head, KeyId, KnownKey, Marks, Overwrite, Pins, Point, ReactionId,
    RecordHash, SeatId, Standing, Target, TargetId, Times,
};

/// Calls of one user that are counted; more are shown as this many.
pub const MAX_CALLS: usize = 1_000;

/// Returns the milliseconds since the epoch. A store compares them with when texts disappear; who makes it says which clock it is.
pub type Clock = fn() -> i64;

/// A message on its way into the store.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub entry: &'a Entry,
    pub seq: i64,
    pub stamp: i64,
    /// Those up to and including this entry.
    pub counts: Counts,
    /// What the entry changes from this seq on.
    pub effect: Option<Effect>,
    /// From when its text disappears on, nothing returns it, and the store forgets it.
    pub times: Times,
}

impl Row<'_> {
    /// Returns who has read up to this entry by its nature: who wrote the text, and who joins here.
    fn reader(&self) -> Option<SeatId> {
        let chat = self.entry.chat;
        let user = match self.entry.kind {
            EntryKind::Text => Some(self.entry.sender),
            EntryKind::MemberAdded => self.entry.subject,
            _ => None,
        };
        user.map(|user| SeatId { chat, user })
    }

    /// Returns whom the entry calls by name, and not with all.
    fn called(&self) -> impl Iterator<Item = UserId> {
        let entry = self.entry;
        let is_call = entry.kind == EntryKind::Text && !entry.mentions_all;
        entry.mentions.iter().copied().filter(move |user| is_call && *user != entry.sender)
    }

    /// Returns the message that the entry replies to.
    fn replied_to(&self) -> Option<TargetId> {
        self.entry.target_id().filter(|_| self.entry.kind == EntryKind::Text)
    }

    fn point(&self) -> Point {
        Point { seq: self.seq, counts: self.counts }
    }
}

/// Returns how far the entries of a batch say that users have read, once for each user and chat.
fn read_by(rows: &[Row<'_>]) -> HashMap<SeatId, Point> {
    let mut read = HashMap::new();
    for row in rows {
        if let Some(seat) = row.reader() {
            let point: &mut Point = read.entry(seat).or_default();
            *point = point.max(row.point());
        }
    }
    read
}

/// The head of a chat, and where the chat's log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedHead {
    pub head: Head,
    /// `None` for a chat without a head, and for one that was written before this was kept.
    pub partition: Option<Partition>,
}

/// A partition of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// How far a partition of the log was applied. Of two, the one that is further is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The first offset whose effects may be missing here.
    pub next_offset: i64,
    /// The record before it. `None` at the beginning of the log, where a loss was accepted, and for what was recorded before this was kept.
    pub last: Option<RecordHash>,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to {step}")]
pub struct StoreError {
    /// What was tried: "read the head of chat ...".
    pub step: String,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// The message store of one tenant.
pub trait Store: Send + Sync + 'static {
    /// Returns the head of a chat; the default head for a chat that has none.
    fn head(&self, chat: ChatId) -> impl Future<Output = Result<Head>> + Send;

    /// Returns the head of a chat with its place.
    fn placed_head(&self, chat: ChatId) -> impl Future<Output = Result<PlacedHead>> + Send;

    /// Returns the counts up to and including a stored entry; `None` for one that is not there.
    fn counts_at(&self, chat: ChatId, seq: i64) -> impl Future<Output = Result<Option<Counts>>> + Send;

    /// Returns how far a user has come in a chat.
    fn marks(&self, seat: SeatId) -> impl Future<Output = Result<Marks>> + Send;

    /// Returns how far a user has come in all chats, also in those they have left.
    fn marks_of(&self, user: UserId) -> impl Future<Output = Result<HashMap<ChatId, Marks>>> + Send;

    /// Writes how far a user has come. What is less than before loses, each mark for itself.
    fn put_marks(&self, seat: SeatId, marks: Marks) -> impl Future<Output = Result<()>> + Send;

    /// Returns the texts of a chat that call a user by name and are not forgotten, at most [`MAX_CALLS`].
    fn calls(&self, seat: SeatId) -> impl Future<Output = Result<Vec<i64>>> + Send;

    /// Returns those of all chats, at most [`MAX_CALLS`].
    fn calls_of(&self, user: UserId) -> impl Future<Output = Result<Vec<(ChatId, i64)>>> + Send;

    /// Forgets the calls up to and including `seq`, which were written with a timestamp of at most `stamp`.
    fn forget_calls(&self, seat: SeatId, seq: i64, stamp: i64) -> impl Future<Output = Result<()>> + Send;

    /// Returns the message that a key names.
    fn known_key(&self, id: KeyId) -> impl Future<Output = Result<Option<KnownKey>>> + Send;

    /// Returns what the entries of a chat up to `seq` say of a user; `None` for one who was never removed.
    fn standing(&self, seat: SeatId, seq: i64) -> impl Future<Output = Result<Option<Standing>>> + Send;

    /// Returns a message that other entries speak of, with what they changed of it.
    fn target(&self, id: TargetId) -> impl Future<Output = Result<Option<Target>>> + Send;

    /// Returns what is pinned in a chat.
    fn pins(&self, chat: ChatId) -> impl Future<Output = Result<Pins>> + Send;

    /// Returns the seqs of the first `limit` replies to a message behind `after`.
    fn replies(
        &self,
        id: TargetId,
        after: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<i64>>> + Send;

    /// Returns one entry, as later ones left it.
    fn entry(&self, id: TargetId) -> impl Future<Output = Result<Option<Message>>> + Send;

    /// Returns the first entry from a seq on that is there in the bucket of that seq, and when it was sent by the log's clock, or the latest
    /// entry before it when that clock went back, in milliseconds since the epoch: of two entries, the later one is never before
    /// the other.
    fn time_from(&self, id: TargetId) -> impl Future<Output = Result<Option<(i64, i64)>>> + Send;

    /// Returns whether the entries of a chat up to `seq` have a reaction.
    fn reacts(&self, id: &ReactionId, seq: i64) -> impl Future<Output = Result<bool>> + Send;

    /// Returns what a user reacts with now to messages of a chat with seqs from `first` to `last`.
    fn reactions_of(
        &self,
        seat: SeatId,
        first: i64,
        last: i64,
    ) -> impl Future<Output = Result<Vec<(i64, String)>>> + Send;

    /// Writes the message row, the key row and the effect of each, what its nature says of who has read it, whom it calls and what it replies to, and the changes of messages of before; durable when it
    /// returns, half done when it fails.
    fn append(
        &self,
        generation: &Generation,
        rows: &[Row<'_>],
        overwrites: &[Overwrite],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Writes heads of chats of one partition and notes that they moved. The rows that they count are durable before.
    fn put_heads(
        &self,
        partition: Partition,
        heads: &[(ChatId, Head)],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Returns the partitions of a log that something was stored of.
    fn partitions(&self, generation: &Generation) -> impl Future<Output = Result<Vec<Partition>>> + Send;

    /// Returns the chats whose heads were moved by records from offset `from` on, as far as they are stored: all that were
    /// moved by records before `to`, which is a [`Self::next_offset`], and perhaps some more. They are known for a day.
    fn moved(
        &self,
        generation: &Generation,
        partition: Partition,
        from: i64,
        to: i64,
    ) -> impl Future<Output = Result<HashSet<ChatId>>> + Send;

    /// Returns how far a partition was applied; `None` when nothing was ever recorded.
    fn progress(
        &self,
        generation: &Generation,
        partition: Partition,
    ) -> impl Future<Output = Result<Option<Progress>>> + Send;

    /// Returns the first offset whose effects may be missing here; `None` when nothing was ever recorded.
    fn next_offset(
        &self,
        generation: &Generation,
        partition: Partition,
    ) -> impl Future<Output = Result<Option<i64>>> + Send {
        async move { Ok(self.progress(generation, partition).await?.map(|progress| progress.next_offset)) }
    }

    /// Records that everything before an offset is in the store. A lower one than before loses.
    fn put_progress(
        &self,
        generation: &Generation,
        partition: Partition,
        progress: Progress,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Returns messages of one bucket, in the order of the run, as far as there is room.
    fn messages(
        &self,
        chat: ChatId,
        bucket: i64,
        run: Run,
        room: &mut Room,
    ) -> impl Future<Output = Result<Vec<Message>>> + Send;
}

/// Messages on one side of a seq, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    After(i64),
    Before(i64),
}

/// What still fits on a page of history: entries, and bytes as JSON.
#[derive(Debug)]
pub struct Room {
    entries: usize,
    bytes: usize,
    is_empty: bool,
}

impl Room {
    /// Returns the room of an empty page of at most so many entries and bytes.
    pub fn new(entries: usize, bytes: usize) -> Self {
        Self { entries, bytes, is_empty: true }
    }

    /// Returns the room of the first half of an empty page, with the odd entry, and what the page has for the other one until the
    /// first is known.
    pub fn halves(self) -> (Self, Self) {
        let Self { entries, bytes, .. } = self;
        let first = Self { entries: entries.div_ceil(2), bytes: bytes / 2, is_empty: true };
        (first, Self { entries: entries / 2, bytes, is_empty: true })
    }

    /// Returns what is left of the room beside the other half of the page.
    pub fn beside(self, other: &[Message]) -> Self {
        let taken: usize = other.iter().map(Message::encoded_bytes).sum();
        let is_empty = self.is_empty && other.is_empty();
        Self { bytes: self.bytes.saturating_sub(taken), is_empty, ..self }
    }

    /// Returns how many entries fit at most.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Takes the room of a message. Returns false, and has no more room, when the message does not fit. The first one
    /// always does, or a reader would never get beyond it.
    pub fn take(&mut self, message: &Message) -> bool {
        let bytes = message.encoded_bytes();
        if self.entries == 0 || (bytes > self.bytes && !self.is_empty) {
            self.entries = 0;
            return false;
        }
        self.entries -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        true
    }
}
