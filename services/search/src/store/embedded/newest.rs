//! Of the texts that have the words, the newest that a reader may see.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Instant};

use contracts::ChatId;
use tantivy::{
    DocAddress, DocId, Score, SegmentOrdinal, SegmentReader, TantivyError,
    collector::{Collector, SegmentCollector},
    columnar::Column,
};
use uuid::Uuid;

use super::{CHAT_HIGH, CHAT_LOW, EXPIRES_AT, SENT_AT, SEQ};
use crate::domain::{Place, Search, Seats};

/// Documents between two looks at the time.
const LOOK_EVERY: u32 = 4_096;

/// Collects the newest texts of chats that the reader is in, from where the reader's history begins. What the reader does not read is
/// passed over before it counts: neither the number nor the place of other results says anything of it.
pub(super) struct Newest {
    bounds: Bounds,
}

#[derive(Clone)]
struct Bounds {
    seats: Arc<Seats>,
    from_ms: i64,
    to_ms: i64,
    now_ms: i64,
    after: Option<Place>,
    limit: usize,
    deadline: Instant,
}

/// What was collected.
#[derive(Default)]
pub(super) struct Found {
    /// The newest first.
    pub places: Vec<(Place, DocAddress)>,
    /// The time was over before all were compared.
    pub gave_up: bool,
}

impl Newest {
    pub(super) fn new(search: &Search, deadline: Instant) -> Self {
        let bounds = Bounds {
            seats: search.seats.clone(),
            from_ms: search.from_ms.unwrap_or(i64::MIN),
            to_ms: search.to_ms.unwrap_or(i64::MAX),
            now_ms: search.now_ms,
            after: search.after,
            limit: search.limit,
            deadline,
        };
        Self { bounds }
    }
}

impl Collector for Newest {
    type Fruit = Found;
    type Child = OfSegment;

    fn for_segment(&self, segment: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<OfSegment> {
        Ok(OfSegment {
            bounds: self.bounds.clone(),
            segment,
            columns: Columns::of(reader)?,
            newest: BinaryHeap::new(),
            seen: 0,
            gave_up: false,
        })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, fruits: Vec<Found>) -> Result<Found, TantivyError> {
        let gave_up = fruits.iter().any(|found| found.gave_up);
        let mut places: Vec<_> = fruits.into_iter().flat_map(|found| found.places).collect();
        places.sort_unstable_by_key(|(place, _)| Reverse(*place));
        places.truncate(self.bounds.limit);
        Ok(Found { places, gave_up })
    }
}

struct Columns {
    chat_high: Column<u64>,
    chat_low: Column<u64>,
    seq: Column<i64>,
    sent_at: Column<i64>,
    /// None in a segment without a text that disappears.
    expires_at: Option<Column<i64>>,
}

impl Columns {
    /// Returns the columns of a segment. It has none that no document of it has.
    fn of(reader: &SegmentReader) -> tantivy::Result<Option<Self>> {
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

pub(super) struct OfSegment {
    bounds: Bounds,
    segment: SegmentOrdinal,
    /// None in a segment without a text that can be found.
    columns: Option<Columns>,
    /// The oldest on top.
    newest: BinaryHeap<Reverse<(Place, DocId)>>,
    seen: u32,
    gave_up: bool,
}

impl OfSegment {
    /// Returns the place of a text that the reader may see and the search allows.
    fn place(&self, doc: DocId) -> Option<Place> {
        let (bounds, columns) = (&self.bounds, self.columns.as_ref()?);
        let sent_at_ms = columns.sent_at.first(doc)?;
        if sent_at_ms < bounds.from_ms || sent_at_ms >= bounds.to_ms {
            return None;
        }
        let chat = ChatId(Uuid::from_u64_pair(columns.chat_high.first(doc)?, columns.chat_low.first(doc)?));
        let seq = columns.seq.first(doc)?;
        if bounds.seats.get(&chat).is_none_or(|from_seq| seq < *from_seq) {
            return None;
        }
        let expires_at_ms = columns.expires_at.as_ref().and_then(|column| column.first(doc));
        if expires_at_ms.is_some_and(|at_ms| at_ms <= bounds.now_ms) {
            return None;
        }
        let place = Place { sent_at_ms, chat, seq };
        bounds.after.is_none_or(|after| place < after).then_some(place)
    }
}

impl SegmentCollector for OfSegment {
    type Fruit = Found;

    fn collect(&mut self, doc: DocId, _: Score) {
        self.seen += 1;
        if self.seen.is_multiple_of(LOOK_EVERY) && Instant::now() > self.bounds.deadline {
            self.gave_up = true;
        }
        if self.gave_up {
            return;
        }
        let Some(place) = self.place(doc) else { return };
        self.newest.push(Reverse((place, doc)));
        if self.newest.len() > self.bounds.limit {
            self.newest.pop();
        }
    }

    fn harvest(self) -> Found {
        let Self { segment, newest, gave_up, .. } = self;
        let places = newest.into_iter();
        let places = places.map(|Reverse((place, doc))| (place, DocAddress::new(segment, doc))).collect();
        Found { places, gave_up }
    }
}
