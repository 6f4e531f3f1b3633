//! Pages of a chat's history, in both directions.

mod own;

use std::collections::{HashSet, VecDeque};

use contracts::{
    ChatId, UserId,
    event::EntryKind,
    wire::{HISTORY_PAGE_BYTES, MAX_HISTORY_LIMIT, Message},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kit::page::Span;
use tonic::async_trait;

pub use self::own::{OwnTexts, own_texts};
use crate::{
    domain::{BUCKET_SIZE, KeyId, KnownKey, SeatId, TargetId, bucket, visible},
    store::{Result, Room, Run, Store},
};

/// Where a reader's history of a chat begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// At this seq; 1 is the whole history.
    Seq(i64),
    /// At this entry, which may not be stored yet: nothing before it is read in the meantime.
    Entry(KeyId),
}

/// A run of messages of one chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub messages: Vec<Message>,
    /// The newest seq of the chat; not less than the last message here.
    pub head_seq: i64,
    /// The first seq that the reader reads. It may be less than the right one while the entry with which the history begins
    /// is not stored, and then there are no messages.
    pub from_seq: i64,
}

/// A page of a list of messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    pub messages: Vec<Message>,
    /// Whether there are more.
    pub more: bool,
}

/// Messages that are read at once for a list.
const LOOK_UPS: usize = 16;

/// What the APIs read of a [`Store`] of any kind.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Returns the message that a key names.
    async fn known_key_of(&self, id: KeyId) -> Result<Option<KnownKey>>;

    /// Returns the seq with which a history begins; `None` while the entry is not stored.
    async fn beginning_of(&self, beginning: Beginning) -> Result<Option<i64>>;

    /// Returns a page as [`history`] does, and as every reader has it whose history begins at `from_seq`: no reaction is the
    /// reader's own.
    async fn page_of(&self, chat: ChatId, from_seq: i64, span: Span, limit: usize) -> Result<History>;

    /// Returns those of some entries that are stored, in their order, as they are now. No reaction is a reader's own.
    async fn entries_of(&self, ids: Vec<TargetId>) -> Result<Vec<Message>>;

    /// Marks the reactions that are the reader's own.
    async fn mark_own_of(&self, reader: SeatId, messages: &mut [Message]) -> Result<()>;

    /// Returns how many messages are pinned in a chat at a time.
    async fn count_pins_of(&self, chat: ChatId, now_ms: i64) -> Result<usize>;

    /// Returns pinned messages as [`pins`] does.
    async fn pins_of(&self, reader: SeatId, from_seq: i64, before: Option<i64>, limit: usize)
    -> Result<List>;

    /// Returns the replies to a message as [`replies`] does.
    async fn replies_of(
        &self,
        reader: SeatId,
        from_seq: i64,
        (seq, after): (i64, i64),
        limit: usize,
    ) -> Result<Option<List>>;

    /// Returns what a user wrote as [`own_texts`] does.
    async fn own_texts_of(&self, user: UserId, behind: Option<TargetId>, limit: usize) -> Result<OwnTexts>;

    /// Returns the messages of a chat as [`history`] does.
    async fn history_of(
        &self,
        seat: SeatId,
        beginning: Beginning,
        span: Span,
        limit: usize,
    ) -> Result<History>;
}

#[async_trait]
impl<S: Store> Archive for S {
    async fn known_key_of(&self, id: KeyId) -> Result<Option<KnownKey>> {
        self.known_key(id).await
    }

    async fn beginning_of(&self, beginning: Beginning) -> Result<Option<i64>> {
        beginning_seq(self, beginning).await
    }

    async fn page_of(&self, chat: ChatId, from_seq: i64, span: Span, limit: usize) -> Result<History> {
        // The head goes first: rows up to it are durable, so none of them can be missing from the reads behind it.
        let head_seq = self.head(chat).await?.seq;
        page(self, Bounds { chat, from_seq, head_seq }, span, Room::new(limit, HISTORY_PAGE_BYTES)).await
    }

    async fn entries_of(&self, ids: Vec<TargetId>) -> Result<Vec<Message>> {
        let read = ids.into_iter().map(|id| self.entry(id));
        let found: Vec<_> = stream::iter(read).buffered(LOOK_UPS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn mark_own_of(&self, reader: SeatId, messages: &mut [Message]) -> Result<()> {
        mark_own(self, reader, messages).await
    }

    async fn count_pins_of(&self, chat: ChatId, now_ms: i64) -> Result<usize> {
        Ok(self.pins(chat).await?.count(now_ms))
    }

    async fn pins_of(
        &self,
        reader: SeatId,
        from_seq: i64,
        before: Option<i64>,
        limit: usize,
    ) -> Result<List> {
        pins(self, reader, from_seq, before, limit).await
    }

    async fn replies_of(
        &self,
        reader: SeatId,
        from_seq: i64,
        (seq, after): (i64, i64),
        limit: usize,
    ) -> Result<Option<List>> {
        replies(self, reader, from_seq, (seq, after), limit).await
    }

    async fn own_texts_of(&self, user: UserId, behind: Option<TargetId>, limit: usize) -> Result<OwnTexts> {
        own_texts(self, user, behind, limit).await
    }

    async fn history_of(
        &self,
        seat: SeatId,
        beginning: Beginning,
        span: Span,
        limit: usize,
    ) -> Result<History> {
        history(self, seat, beginning, span, limit).await
    }
}

/// Returns a page of a reader's history: at most `limit` entries and about 128 KiB of JSON, without a gap in what is still
/// being written.
pub async fn history<S: Store>(
    store: &S,
    reader: SeatId,
    beginning: Beginning,
    span: Span,
    limit: usize,
) -> Result<History> {
    // The head goes first: rows up to it are durable, so none of them can be missing from the reads behind it.
    let head_seq = store.head(reader.chat).await?.seq;
    history_from(store, reader, beginning, span, head_seq, Room::new(limit, HISTORY_PAGE_BYTES)).await
}

/// Returns a page as [`history`] does, as far as there is room. The head was read before, and may have moved since.
pub(crate) async fn history_from<S: Store>(
    store: &S,
    reader: SeatId,
    beginning: Beginning,
    span: Span,
    head_seq: i64,
    room: Room,
) -> Result<History> {
    let Some(from_seq) = beginning_seq(store, beginning).await? else {
        // Its seq is greater than the head was.
        return Ok(History { messages: Vec::new(), head_seq, from_seq: head_seq + 1 });
    };
    let mut history = page(store, Bounds { chat: reader.chat, from_seq, head_seq }, span, room).await?;
    mark_own(store, reader, &mut history.messages).await?;
    Ok(history)
}

async fn page<S: Store>(store: &S, bounds: Bounds, span: Span, room: Room) -> Result<History> {
    let mut messages = match span {
        Span::After(seq) => bounds.after(store, seq, room).await?,
        Span::Before(seq) => bounds.before(store, seq, room).await?,
        Span::Around(seq) => bounds.around(store, seq, room).await?,
        Span::Since(ms) => bounds.since(store, ms, room).await?,
    };
    let Bounds { from_seq, head_seq, .. } = bounds;
    for message in &mut messages {
        // What a message from before their history says now, a reader does not learn from its edits either.
        if message.kind == EntryKind::Edit && message.target_seq.is_some_and(|seq| seq < from_seq) {
            message.body.clear();
        }
    }
    let head_seq = messages.last().map_or(head_seq, |message| message.seq.max(head_seq));
    Ok(History { messages, head_seq, from_seq })
}

/// Returns the messages that are pinned in a chat, the one that was pinned last first, at most `limit` and about 128 KiB of
/// JSON: those that were pinned by an entry before `before`, and that the reader reads.
pub async fn pins<S: Store>(
    store: &S,
    reader: SeatId,
    from_seq: i64,
    before: Option<i64>,
    limit: usize,
) -> Result<List> {
    let chat = reader.chat;
    let pinned = store.pins(chat).await?.pinned;
    let wanted = pinned
        .into_iter()
        .rev()
        .filter(|(pin, target)| before.is_none_or(|before| *pin < before) && *target >= from_seq);
    let found = wanted.map(|(pin, seq)| async move {
        // The two are written side by side: what one of them does not have yet is not there yet.
        let message = store.entry(TargetId { chat, seq }).await?;
        Ok(message.filter(|message| message.changes.pinned_seq == Some(pin)))
    });
    list(store, reader, found, limit).await
}

/// Returns the replies to a message in the order of their seq, at most `limit` and about 128 KiB of JSON: those behind `after`.
/// `None` for a message that is not there, or that the reader does not read.
pub async fn replies<S: Store>(
    store: &S,
    reader: SeatId,
    from_seq: i64,
    (seq, after): (i64, i64),
    limit: usize,
) -> Result<Option<List>> {
    let chat = reader.chat;
    let id = TargetId { chat, seq };
    let head_seq = store.head(chat).await?.seq;
    let target = if seq < from_seq { None } else { store.entry(id).await? };
    if target.is_none_or(|target| target.kind != EntryKind::Text) {
        return Ok(None);
    }
    let seqs = store.replies(id, after, limit.saturating_add(1)).await?;
    // Behind the head a reply may be there, and one before it not yet.
    let seqs = seqs.into_iter().take_while(|seq| *seq <= head_seq);
    let found = seqs.map(|seq| store.entry(TargetId { chat, seq }));
    list(store, reader, found, limit).await.map(Some)
}

/// Makes a page of what is found.
async fn list<S: Store>(
    store: &S,
    reader: SeatId,
    found: impl Iterator<Item = impl Future<Output = Result<Option<Message>>>>,
    limit: usize,
) -> Result<List> {
    let mut found = stream::iter(found).buffered(LOOK_UPS);
    let (mut list, mut room) = (List::default(), Room::new(limit, HISTORY_PAGE_BYTES));
    while let Some(message) = found.next().await {
        let Some(message) = message? else { continue };
        if !room.take(&message) {
            list.more = true;
            break;
        }
        list.messages.push(message);
    }
    for message in &mut list.messages {
        mark_own(store, reader, std::slice::from_mut(message)).await?;
    }
    Ok(list)
}

/// Returns the seq with which a history begins; `None` while the entry is not stored.
pub(crate) async fn beginning_seq<S: Store>(store: &S, beginning: Beginning) -> Result<Option<i64>> {
    match beginning {
        Beginning::Seq(seq) => Ok(Some(seq)),
        Beginning::Entry(id) => Ok(store.known_key(id).await?.map(|known| known.seq)),
    }
}

/// What a reader may see of a chat.
struct Bounds {
    chat: ChatId,
    from_seq: i64,
    head_seq: i64,
}

impl Bounds {
    async fn after<S: Store>(&self, store: &S, after: i64, mut room: Room) -> Result<Vec<Message>> {
        let after = after.max(self.from_seq - 1);
        let mut messages: Vec<Message> = Vec::new();
        let mut last = after;
        while room.entries() > 0 {
            let current = bucket(last.saturating_add(1));
            messages.extend(store.messages(self.chat, current, Run::After(last), &mut room).await?);
            last = messages.last().map_or(last, |message| message.seq.max(last));
            let next = bucket(last.saturating_add(1));
            if next == current && current >= bucket(self.head_seq) {
                break;
            }
            // A bucket that ends early below the head has lost rows; those behind it are still to be had.
            last = last.max((current + 1) * BUCKET_SIZE - 1);
        }
        let shown = visible(after, self.head_seq, messages.iter().map(|message| message.seq));
        messages.truncate(shown);
        Ok(messages)
    }

    /// Returns entries from the first one on that was sent at or after a time. When the clock of the log went back, an entry counts
    /// as sent with the latest one before it, so that the first one can be found by halves: by less than 64 reads. Where entries are
    /// gone, the next one that is there says; at the end of a bucket, they count as sent before.
    async fn since<S: Store>(&self, store: &S, ms: i64, room: Room) -> Result<Vec<Message>> {
        let (mut before, mut first) = (self.from_seq - 1, self.head_seq.saturating_add(1).max(self.from_seq));
        while first - before > 1 {
            let seq = before + (first - before) / 2;
            match store.time_from(TargetId { chat: self.chat, seq }).await? {
                // There is none from here to the first one.
                Some((found, _)) if found >= first => first = seq,
                Some((_, sent_at_ms)) if sent_at_ms >= ms => first = seq,
                Some((found, _)) => before = found,
                None => before = ((bucket(seq) + 1) * BUCKET_SIZE - 1).min(first - 1),
            }
        }
        let mut messages = self.after(store, first - 1, room).await?;
        // What is behind the head was not looked at.
        let is_early = |message: &Message| message.seq > self.head_seq && message.sent_at_ms < ms;
        if messages.first().is_some_and(is_early) {
            let late = messages.iter().position(|message| !is_early(message)).unwrap_or(messages.len());
            messages.drain(..late);
        }
        Ok(messages)
    }

    async fn before<S: Store>(&self, store: &S, before: i64, mut room: Room) -> Result<Vec<Message>> {
        // The last comes first.
        let mut messages: Vec<Message> = Vec::new();
        for message in self.behind_head(store, before, room.entries()).await?.into_iter().rev() {
            if !room.take(&message) {
                break;
            }
            messages.push(message);
        }
        let mut before = before.min(self.head_seq.saturating_add(1));
        while room.entries() > 0 && before > self.from_seq {
            let current = bucket(before - 1);
            messages.extend(store.messages(self.chat, current, Run::Before(before), &mut room).await?);
            before = current * BUCKET_SIZE;
        }
        messages.reverse();
        messages.retain(|message| message.seq >= self.from_seq);
        Ok(messages)
    }

    /// Returns the last `limit` entries behind the head and before a seq. What was just announced is there, and what a batch
    /// has half written is not taken for the whole: they are read from the head on.
    async fn behind_head<S: Store>(&self, store: &S, before: i64, limit: usize) -> Result<VecDeque<Message>> {
        let mut last = VecDeque::new();
        let mut read = self.head_seq;
        while limit > 0 && read.saturating_add(1) < before {
            let page =
                self.after(store, read, Room::new(MAX_HISTORY_LIMIT as usize, HISTORY_PAGE_BYTES)).await?;
            let Some(newest) = page.last().map(|message| message.seq) else { break };
            read = newest;
            last.extend(page.into_iter().take_while(|message| message.seq < before));
            last.drain(..last.len().saturating_sub(limit));
        }
        Ok(last)
    }

    /// Returns entries on both sides of a seq, which is the first of the later ones, without a gap between them.
    async fn around<S: Store>(&self, store: &S, seq: i64, room: Room) -> Result<Vec<Message>> {
        if seq > self.head_seq.saturating_add(1) {
            // It may be there, or half written, or never: the last entries are the nearest.
            return self.before(store, seq.saturating_add(1), room).await;
        }
        let (later_room, earlier_room) = room.halves();
        let later = self.after(store, seq.saturating_sub(1), later_room).await?;
        let mut messages = self.before(store, seq, earlier_room.beside(&later)).await?;
        messages.extend(later);
        Ok(messages)
    }
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
