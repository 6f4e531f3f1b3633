//! Where messages, keys and heads live.
//!
//! Every write carries the timestamp that the sequencer computed from the log; the greater one wins. Writing the
//! same again is harmless, an older head or position loses, and no write ever reads first.

pub mod cql;
pub mod memory;
pub mod migrate;

use std::{collections::HashSet, error::Error};

use contracts::{
    ChatId,
    wire::{HISTORY_PAGE_BYTES, Message},
};
use tonic::async_trait;

use crate::domain::{
    BUCKET_SIZE, Effect, Entry, Generation, Head, KeyId, KnownKey, Overwrite, ReactionId, SeatId, Standing,
    Target, TargetId, bucket, visible,
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

    /// Returns messages of one bucket with a seq above `after`, in order, as far as there is room.
    fn messages(
        &self,
        chat: ChatId,
        bucket: i64,
        after: i64,
        room: &mut Room,
    ) -> impl Future<Output = Result<Vec<Message>>> + Send;
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

/// Where a reader's history of a chat begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// At this seq; 1 is the whole history.
    Seq(i64),
    /// At this entry, which may not be stored yet: nothing before it is read in the meantime.
    Entry(KeyId),
}

/// A run of messages of one chat.
#[derive(Debug, PartialEq, Eq)]
pub struct History {
    pub messages: Vec<Message>,
    /// The newest seq of the chat; not less than the last message here.
    pub head_seq: i64,
    /// The first seq that the reader reads. It may be less than the right one while the entry with which the history begins
    /// is not stored, and then there are no messages.
    pub from_seq: i64,
}

/// What the APIs read of a [`Store`] of any kind.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Returns the head of a chat.
    async fn head_of(&self, chat: ChatId) -> Result<Head>;

    /// Returns the message that a key names.
    async fn known_key_of(&self, id: KeyId) -> Result<Option<KnownKey>>;

    /// Returns the messages of a chat as [`history`] does.
    async fn history_of(
        &self,
        seat: SeatId,
        beginning: Beginning,
        after: i64,
        limit: usize,
    ) -> Result<History>;
}

#[async_trait]
impl<S: Store> Archive for S {
    async fn head_of(&self, chat: ChatId) -> Result<Head> {
        self.head(chat).await
    }

    async fn known_key_of(&self, id: KeyId) -> Result<Option<KnownKey>> {
        self.known_key(id).await
    }

    async fn history_of(
        &self,
        seat: SeatId,
        beginning: Beginning,
        after: i64,
        limit: usize,
    ) -> Result<History> {
        history(self, seat, beginning, after, limit).await
    }
}

/// Returns the messages after `after` from the reader's beginning on, at most `limit` and about [`HISTORY_PAGE_BYTES`],
/// without a gap in what is still being written.
pub async fn history<S: Store>(
    store: &S,
    reader: SeatId,
    beginning: Beginning,
    after: i64,
    limit: usize,
) -> Result<History> {
    let chat = reader.chat;
    // The head goes first: rows up to it are durable, so none of them can be missing from the reads below.
    let head_seq = store.head(chat).await?.seq;
    let from_seq = match beginning {
        Beginning::Seq(seq) => seq,
        Beginning::Entry(id) => match store.known_key(id).await? {
            Some(known) => known.seq,
            // Its seq is greater than the head was.
            None => return Ok(History { messages: Vec::new(), head_seq, from_seq: head_seq + 1 }),
        },
    };
    let after = after.max(from_seq - 1);
    let mut messages: Vec<Message> = Vec::new();
    let mut room = Room::new(limit);
    let mut last = after;
    while room.entries() > 0 {
        let current = bucket(last.saturating_add(1));
        messages.extend(store.messages(chat, current, last, &mut room).await?);
        last = messages.last().map_or(last, |message| message.seq.max(last));
        let next = bucket(last.saturating_add(1));
        if next == current && current >= bucket(head_seq) {
            break;
        }
        // A bucket that ends early below the head has lost rows; those behind it are still to be had.
        last = last.max((current + 1) * BUCKET_SIZE - 1);
    }
    let shown = visible(after, head_seq, messages.iter().map(|message| message.seq));
    messages.truncate(shown);
    mark_own(store, reader, &mut messages).await?;
    let head_seq = messages.last().map_or(head_seq, |message| message.seq.max(head_seq));
    Ok(History { messages, head_seq, from_seq })
}

/// Marks the reactions that are the reader's own.
async fn mark_own<S: Store>(store: &S, reader: SeatId, messages: &mut [Message]) -> Result<()> {
    let mut with_reactions = messages.iter().filter(|message| !message.changes.reactions.is_empty());
    let Some(first) = with_reactions.next().map(|message| message.seq) else { return Ok(()) };
    let last = with_reactions.next_back().map_or(first, |message| message.seq);
    let own: HashSet<(i64, String)> = store.reactions_of(reader, first, last).await?.into_iter().collect();
    for message in messages {
        for reactions in &mut message.changes.reactions {
            reactions.own = own.contains(&(message.seq, reactions.emoji.clone()));
        }
    }
    Ok(())
}
