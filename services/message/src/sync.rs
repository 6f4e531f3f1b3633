//! What a client fetches when it begins or comes back: which of a user's chats changed, and how far the user has come in each.

mod heads;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use contracts::{
    ChatId, UserId,
    wire::{HISTORY_PAGE_BYTES, Message, Watermarks},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, try_join};
use kit::page::Span;
use tonic::async_trait;

use self::heads::{Heads, Places};
use crate::{
    domain::{Base, Counts, Cursor, Generation, Head, KeyId, Marks, Place, Point, SeatId, digest},
    history::{Beginning, beginning_seq, history_from},
    store::{Result, Room, Store},
};

/// Chats of a page that are filled concurrently.
const CHATS_AT_ONCE: usize = 16;
/// A chat of a page has at most this many bytes of entries, unless it is a single one.
const CHAT_BYTES: usize = HISTORY_PAGE_BYTES / 8;
/// A cursor of before is refused.
pub const CURSOR_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Clocks of replicas, and a write that was under way when a cursor was made, differ by less. What has no place in the log
/// (a mark, the beginning of a membership, how a user has a chat) counts as changed for this long.
const SLACK_MS: i64 = 2 * 60 * 1000;

/// A chat that a user is in.
#[derive(Clone, Debug)]
pub struct Membership {
    pub chat: ChatId,
    /// Where the user's history begins.
    pub beginning: Beginning,
    pub joined_at_ms: i64,
    /// When the user last changed how they have the chat; 0 for never.
    pub own_changed_at_ms: i64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct SyncQuery {
    pub user: UserId,
    pub cursor: Option<Cursor>,
    /// Chats of the page.
    pub limit: usize,
    /// Last entries of each chat.
    pub entries: usize,
    pub now_ms: i64,
}

/// One page of an answer.
#[derive(Debug)]
pub struct SyncedPage {
    pub chats: Vec<SyncedChat>,
    pub cursor: Cursor,
    pub all_chats: Option<Vec<ChatId>>,
    /// In all chats.
    pub unread: i64,
    pub mentions: i64,
}

/// A chat of a page.
#[derive(Debug)]
pub struct SyncedChat {
    pub chat: ChatId,
    pub head_seq: i64,
    pub from_seq: i64,
    pub watermarks: Watermarks,
    /// Of a direct chat: how far the other user has read and received it.
    pub other_read_seq: i64,
    pub other_delivered_seq: i64,
    pub entries: Vec<Message>,
    pub limited: bool,
}

/// How far a user says they have come.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub seat: SeatId,
    /// 0 when nothing new is read; likewise the next.
    pub read_seq: i64,
    pub delivered_seq: i64,
    pub now_ms: i64,
}

/// What a mark came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// The user reads no such entry.
    NoEntry,
    /// It was so already.
    Before(Watermarks),
    Moved(Watermarks),
}

/// What the APIs need of sync and marks, whatever the store is.
#[async_trait]
pub trait Syncing: Send + Sync {
    /// Returns the page of a query.
    async fn sync(&self, query: SyncQuery, memberships: Vec<Membership>) -> Result<SyncedPage>;

    /// Returns the heads that moved since a moment, and the moment of now; none without one.
    async fn moved(&self, since: Option<Base>, now_ms: i64) -> Result<(Vec<(ChatId, i64)>, Base)>;

    /// Moves the marks of a user forward. `other` is the other user of a direct chat, who is to have them too.
    async fn mark(&self, mark: Mark, beginning: Beginning, other: Option<UserId>) -> Result<Marked>;
}

/// Answers from a store.
pub struct Syncer<S> {
    store: Arc<S>,
    generation: Generation,
    heads: Heads,
}

impl<S: Store> Syncer<S> {
    pub fn new(store: Arc<S>, generation: Generation) -> Self {
        Self { store, generation, heads: Heads::default() }
    }

    fn base(&self, at_ms: i64, chats: u64, places: Places) -> Base {
        let places = places.into_iter().map(|(partition, place)| (partition.0, place)).collect();
        Base::new(at_ms, &self.generation, chats, places)
    }

    /// Fills a chat of a page.
    async fn fill(&self, user: UserId, seat: Seat, entries: usize) -> Result<SyncedChat> {
        let Seat { membership, head_seq, marks, watermarks, .. } = seat;
        let Membership { chat, beginning, .. } = membership;
        // Up to the head that the marks and counts are of, and no further: what was announced since is pushed.
        let (reader, last) = (SeatId { chat, user }, Span::Before(head_seq.saturating_add(1)));
        let room = Room::new(entries, CHAT_BYTES);
        let history = history_from(&*self.store, reader, beginning, last, head_seq, room).await?;
        let from_seq = history.from_seq;
        let first = history.messages.first().map_or(head_seq + 1, |message| message.seq);
        Ok(SyncedChat {
            chat,
            head_seq,
            from_seq,
            watermarks,
            other_read_seq: marks.other_read_seq,
            // What is read was received.
            other_delivered_seq: marks.other_delivered_seq.max(marks.other_read_seq),
            entries: history.messages,
            limited: first > from_seq,
        })
    }

    /// Returns the counts of a chat with what is stored behind its head, and the last entry that they include. It was announced, and the
    /// user's devices have counted it.
    async fn counts_behind(&self, chat: ChatId, head: &Head) -> Result<(Counts, i64)> {
        let (mut counts, mut seq) = (head.counts, head.seq);
        while let Some(behind) = self.store.counts_at(chat, seq + 1).await? {
            (counts, seq) = (behind, seq + 1);
        }
        Ok((counts, seq))
    }

    /// Returns where the history of a member begins who has no mark: what is before is not unread to them. The entry that
    /// adds a member makes a mark, so it is missing for those alone who were added before there were marks, and while the
    /// entry is not stored, which is `None`.
    async fn joined_point(&self, chat: ChatId, id: KeyId) -> Result<Option<Point>> {
        let Some(known) = self.store.known_key(id).await? else { return Ok(None) };
        let counts = self.store.counts_at(chat, known.seq).await?.unwrap_or_default();
        Ok(Some(Point { seq: known.seq, counts }))
    }
}

/// A membership with what decides about it.
struct Seat {
    membership: Membership,
    place: Place,
    has_changed: bool,
    head_seq: i64,
    marks: Marks,
    watermarks: Watermarks,
}

/// Returns what a user has not read of a chat. `counts` are those up to `counted_seq`, and `calls` the texts that call the user by name.
fn watermarks_of(counts: Counts, counted_seq: i64, marks: Marks, calls: &[i64]) -> Watermarks {
    let called = calls.iter().filter(|seq| **seq > marks.read.seq && **seq <= counted_seq).count();
    let read = marks.read.counts;
    let unread = (counts.texts - read.texts).max(0);
    let mentions = (counts.calls - read.calls).max(0) + i64::try_from(called).unwrap_or(i64::MAX);
    Watermarks {
        read_seq: marks.read.seq,
        // What is read was received.
        delivered_seq: marks.delivered_seq.max(marks.read.seq),
        unread,
        mentions: mentions.min(unread),
        counted_seq,
    }
}

#[async_trait]
impl<S: Store> Syncing for Syncer<S> {
    async fn sync(&self, query: SyncQuery, memberships: Vec<Membership>) -> Result<SyncedPage> {
        let SyncQuery { user, cursor, limit, entries, now_ms } = query;
        let (since, page) = cursor.map_or((None, None), |cursor| (cursor.since, cursor.page));
        let chats: Vec<ChatId> = memberships.iter().map(|membership| membership.chat).collect();
        let (heads, places) = self.heads.of(&*self.store, &self.generation, &chats).await?;
        // Behind the heads: what an entry marks is stored before the head that includes it.
        let (mut marks, named) = try_join!(self.store.marks_of(user), self.store.calls_of(user))?;
        let mut calls: HashMap<ChatId, Vec<i64>> = HashMap::new();
        for (chat, seq) in named {
            calls.entry(chat).or_default().push(seq);
        }

        for membership in &memberships {
            let chat = membership.chat;
            if let (Beginning::Entry(id), None) = (membership.beginning, marks.get(&chat)) {
                let joined = self.joined_point(chat, id).await?;
                let head = &heads[&chat].head;
                let read = joined.unwrap_or(Point { seq: head.seq, counts: head.counts });
                marks.insert(chat, Marks { read, ..Marks::default() });
            }
        }

        let chats_digest = digest(chats.iter().copied());
        let first_page = page.is_none();
        let all_chats = since.as_ref().filter(|since| first_page && since.chats != chats_digest);
        let all_chats = all_chats.map(|_| chats);
        let (next, after) = page.map_or_else(
            || (self.base(now_ms, chats_digest, places), None),
            |(next, after)| (next, Some(after)),
        );

        let mut seats: Vec<Seat> = memberships
            .into_iter()
            .map(|membership| {
                let chat = membership.chat;
                let (placed, marks) = (&heads[&chat], marks.get(&chat).copied().unwrap_or_default());
                let of_log = |since: &Base| match (&placed.head.applied, placed.partition) {
                    (Some(applied), Some(partition)) => since.precedes(partition.0, applied),
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                let has_changed = since.as_ref().is_none_or(|since| {
                    let lately = since.at_ms.saturating_sub(SLACK_MS);
                    let times = [membership.joined_at_ms, membership.own_changed_at_ms, marks.at_ms];
                    of_log(since) || times.iter().any(|at_ms| *at_ms >= lately)
                });
                let calls = calls.remove(&chat).unwrap_or_default();
                let head = &placed.head;
                let watermarks = watermarks_of(head.counts, head.seq, marks, &calls);
                // The stamp within the chat's millisecond: beyond it, it stays ahead where the log's clock was.
                let at = head.stamp.min(head.at_ms.saturating_mul(1000).saturating_add(999));
                let activity = at.max(membership.joined_at_ms.saturating_mul(1000));
                let (place, head_seq) = (Place { activity, chat }, placed.head.seq);
                Seat { membership, place, has_changed, head_seq, marks, watermarks }
            })
            .collect();
        let unread = seats.iter().map(|seat| seat.watermarks.unread).sum();
        let mentions = seats.iter().map(|seat| seat.watermarks.mentions).sum();

        seats.retain(|seat| seat.has_changed && after.is_none_or(|after| is_behind(seat.place, after)));
        seats.sort_by_key(|seat| std::cmp::Reverse((seat.place.activity, seat.place.chat)));
        let more = seats.len() > limit;
        seats.truncate(limit);
        let last = seats.last().map(|seat| seat.place);
        let cursor = match last.filter(|_| more) {
            Some(last) => Cursor { user, since, page: Some((next, last)) },
            None => Cursor { user, since: Some(next), page: None },
        };
        let filled = seats.into_iter().map(|seat| self.fill(user, seat, entries));
        let mut chats: Vec<SyncedChat> = stream::iter(filled).buffered(CHATS_AT_ONCE).try_collect().await?;
        bound(&mut chats, HISTORY_PAGE_BYTES);
        Ok(SyncedPage { chats, cursor, all_chats, unread, mentions })
    }

    async fn moved(&self, since: Option<Base>, now_ms: i64) -> Result<(Vec<(ChatId, i64)>, Base)> {
        let nothing = BTreeMap::new();
        let places = since.as_ref().and_then(|since| since.places_in(&self.generation)).unwrap_or(&nothing);
        let (moved, places) = self.heads.moved(&*self.store, &self.generation, places).await?;
        let heads = moved.into_iter().map(|(chat, placed)| (chat, placed.head.seq)).collect();
        Ok((heads, self.base(now_ms, 0, places)))
    }

    async fn mark(&self, mark: Mark, beginning: Beginning, other: Option<UserId>) -> Result<Marked> {
        let Mark { seat, read_seq, delivered_seq, now_ms } = mark;
        let store = &*self.store;
        let chat = seat.chat;
        let asked = read_seq.max(delivered_seq);
        let (head, marks, calls, from_seq) = try_join!(
            store.head(chat),
            store.marks(seat),
            store.calls(seat),
            beginning_seq(store, beginning)
        )?;
        let lowest = [read_seq, delivered_seq].into_iter().filter(|seq| *seq > 0).min();
        if from_seq.is_none_or(|from_seq| lowest.is_some_and(|lowest| lowest < from_seq)) {
            return Ok(Marked::NoEntry);
        }
        // An entry that was just announced may be behind the head that is stored.
        let (read, is_stored) = try_join!(
            async { if read_seq > 0 { store.counts_at(chat, read_seq).await } else { Ok(None) } },
            async { Ok(asked <= head.seq || store.counts_at(chat, asked).await?.is_some()) }
        )?;
        if !is_stored || (read_seq > 0 && read.is_none()) {
            return Ok(Marked::NoEntry);
        }
        let read = read.map_or_else(Point::default, |counts| Point { seq: read_seq, counts });
        let moved = marks.merge(Marks { read, delivered_seq: asked, at_ms: now_ms, ..Marks::default() });
        let (counts, counted_seq) = self.counts_behind(chat, &head).await?;
        let watermarks = watermarks_of(counts, counted_seq, moved, &calls);
        if !moved.is_beyond(marks) {
            return Ok(Marked::Before(watermarks));
        }
        let of_other = async {
            match other {
                Some(user) => store.put_marks(SeatId { chat, user }, moved.of_other()).await,
                None => Ok(()),
            }
        };
        try_join!(store.put_marks(seat, moved), of_other)?;
        if calls.iter().any(|seq| *seq <= moved.read.seq) {
            // Rows of entries behind the head have a greater stamp; the next mark forgets them.
            store.forget_calls(seat, moved.read.seq, head.stamp).await?;
        }
        Ok(Marked::Moved(watermarks))
    }
}

/// Returns whether a chat comes behind the last one of the page before.
fn is_behind(place: Place, last: Place) -> bool {
    (place.activity, place.chat) < (last.activity, last.chat)
}

/// Leaves out entries of the last chats until all have at most `bytes`, and the first one what it has.
fn bound(chats: &mut [SyncedChat], bytes: usize) {
    let mut left = bytes;
    for (index, chat) in chats.iter_mut().enumerate() {
        let size: usize = chat.entries.iter().map(Message::encoded_bytes).sum();
        if size > left && index > 0 {
            chat.limited = chat.limited || !chat.entries.is_empty();
            chat.entries.clear();
            continue;
        }
        left = left.saturating_sub(size);
    }
}
