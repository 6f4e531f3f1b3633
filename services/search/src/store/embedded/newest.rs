//! Of the texts that have the words, the newest that a reader may see.

use std::{cmp::Reverse, collections::BinaryHeap};

use contracts::ChatId;
use tantivy::{DocId, SegmentReader, columnar::Column};
use uuid::Uuid;

use super::{CHAT_HIGH, CHAT_LOW, EXPIRES_AT, SENT_AT, SEQ};
use crate::domain::{Place, Search};

/// Collects the newest texts of chats that the reader is in, from where the reader's history begins. What the reader does not read is
/// passed over before it counts: neither the number nor the place of other results says anything of it.
pub(super) struct Newest<'a> {
    search: &'a Search,
    /// The oldest on top.
    places: BinaryHeap<Reverse<Place>>,
}

impl<'a> Newest<'a> {
    pub(super) fn new(search: &'a Search) -> Self {
        Self { search, places: BinaryHeap::new() }
    }

    /// Takes a text, if the reader may see it and it is among the newest.
    pub(super) fn take(&mut self, columns: &Columns, doc: DocId) {
        let Some(place) = self.place(columns, doc) else { return };
        self.places.push(Reverse(place));
        if self.places.len() > self.search.limit {
            self.places.pop();
        }
    }

    /// Returns the places of the texts, the newest first.
    pub(super) fn into_places(self) -> Vec<Place> {
        let places = self.places.into_sorted_vec();
        places.into_iter().map(|Reverse(place)| place).collect()
    }

    /// Returns the place of a text that the reader may see and the search allows.
    fn place(&self, columns: &Columns, doc: DocId) -> Option<Place> {
        let search = self.search;
        let sent_at_ms = columns.sent_at.first(doc)?;
        if search.from_ms.is_some_and(|ms| sent_at_ms < ms) || search.to_ms.is_some_and(|ms| sent_at_ms >= ms)
        {
            return None;
        }
        let chat = ChatId(Uuid::from_u64_pair(columns.chat_high.first(doc)?, columns.chat_low.first(doc)?));
        let seq = columns.seq.first(doc)?;
        if search.seats.get(&chat).is_none_or(|from_seq| seq < *from_seq) {
            return None;
        }
        let expires_at_ms = columns.expires_at.as_ref().and_then(|column| column.first(doc));
        if expires_at_ms.is_some_and(|at_ms| at_ms <= search.now_ms) {
            return None;
        }
        let place = Place { sent_at_ms, chat, seq };
        search.after.is_none_or(|after| place < after).then_some(place)
    }
}

/// What a search compares of the texts of a segment.
pub(super) struct Columns {
    chat_high: Column<u64>,
    chat_low: Column<u64>,
    seq: Column<i64>,
    sent_at: Column<i64>,
    /// None in a segment without a text that disappears.
    expires_at: Option<Column<i64>>,
}

impl Columns {
    /// Returns the columns of a segment. It has none that no document of it has.
    pub(super) fn of(reader: &SegmentReader) -> tantivy::Result<Option<Self>> {
        let columns = reader.fast_fields();
        let chat = (columns.column_opt(CHAT_HIGH)?, columns.column_opt(CHAT_LOW)?);
        let place = (columns.column_opt(SEQ)?, columns.column_opt(SENT_AT)?);
        let ((Some(chat_high), Some(chat_low)), (Some(seq), Some(sent_at))) = (chat, place) else {
            return Ok(None);
        };
        let expires_at = columns.column_opt(EXPIRES_AT)?;
        Ok(Some(Self { chat_high, chat_low, seq, sent_at, expires_at }))
    }
}
