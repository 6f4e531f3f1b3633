//! Where messages, keys and heads live.
//!
//! Every write carries the timestamp that the sequencer computed from the log; the greater one wins. Writing the
//! same again is harmless, an older head or position loses, and no write ever reads first.

pub mod cql;
pub mod memory;
pub mod migrate;

use std::error::Error;

use contracts::{
    ChatId,
    wire::{HISTORY_PAGE_BYTES, Message},
};

use crate::domain::{
    Effect, Entry, Generation, Head, KeyId, KnownKey, Overwrite, ReactionId, SeatId, Standing, Target,
    TargetId,
};

/// A message on its way into the store.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub entry: &'a Entry,
    pub seq: i64,
    pub stamp: i64,
    /// The number of texts up to and including this entry.
    pub texts: i64,
    /// What the entry changes from this seq on.
    pub effect: Option<Effect>,
}

/// A partition of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partition(pub i32);

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

    /// Returns the message that a key names.
    fn known_key(&self, id: KeyId) -> impl Future<Output = Result<Option<KnownKey>>> + Send;

    /// Returns what the entries of a chat up to `seq` say of a user; `None` for one who was never removed.
    fn standing(&self, seat: SeatId, seq: i64) -> impl Future<Output = Result<Option<Standing>>> + Send;

    /// Returns a message that other entries speak of, with what they changed of it.
    fn target(&self, id: TargetId) -> impl Future<Output = Result<Option<Target>>> + Send;

    /// Returns whether the entries of a chat up to `seq` have a reaction.
    fn reacts(&self, id: &ReactionId, seq: i64) -> impl Future<Output = Result<bool>> + Send;

    /// Returns what a user reacts with now to messages of a chat with seqs from `first` to `last`.
    fn reactions_of(
        &self,
        seat: SeatId,
        first: i64,
        last: i64,
    ) -> impl Future<Output = Result<Vec<(i64, String)>>> + Send;

    /// Writes the message row, the key row and the effect of each, and the changes of messages of before; durable when it
    /// returns, half done when it fails.
    fn append(
        &self,
        generation: &Generation,
        rows: &[Row<'_>],
        overwrites: &[Overwrite],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Writes heads. The rows that they count are durable before.
    fn put_heads(&self, heads: &[(ChatId, Head)]) -> impl Future<Output = Result<()>> + Send;

    /// Returns the first offset whose effects may be missing here; `None` when nothing was ever recorded.
    fn next_offset(
        &self,
        generation: &Generation,
        partition: Partition,
    ) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// Records that everything before `offset` is in the store. A lower offset than before loses.
    fn put_next_offset(
        &self,
        generation: &Generation,
        partition: Partition,
        offset: i64,
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
    /// Returns the room of an empty page of at most `entries`.
    pub fn new(entries: usize) -> Self {
        Self { entries, bytes: HISTORY_PAGE_BYTES, is_empty: true }
    }

    /// Returns the rooms of the two halves of such a page; the second has the odd entry.
    pub fn halves(entries: usize) -> (Self, Self) {
        let half = |entries| Self { entries, bytes: HISTORY_PAGE_BYTES / 2, is_empty: true };
        (half(entries / 2), half(entries.div_ceil(2)))
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
