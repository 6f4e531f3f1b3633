//! Of a segment, the documents that have all that is searched for, in bounded time.
//!
//! The queries of tantivy look neither at the time nor at anything else while they look for the next document that has a phrase, or put
//! together all words with a beginning. Here each step is counted.

use std::time::{Duration, Instant};

use tantivy::{
    BitSet, DocId, DocSet, SeekDangerResult, SegmentReader, TERMINATED, Term as Word,
    query::{BitSetDocSet, EnableScoring, PhraseQuery, Query as _},
    schema::IndexRecordOption,
};

use super::{IndexError, failed};

/// Steps between two looks at the time. The longest one compares the places of all words of a phrase in one document.
const LOOK_EVERY: u32 = 1_024;
const STEP: &str = "search";

/// The time of a search.
pub(super) struct Clock {
    ends: Instant,
    steps: u32,
}

impl Clock {
    pub(super) fn ending_in(time: Duration) -> Self {
        Self { ends: Instant::now() + time, steps: 0 }
    }

    /// Fails once the time is over.
    pub(super) fn look(&self) -> Result<(), IndexError> {
        if Instant::now() < self.ends { Ok(()) } else { Err(IndexError::TooSlow) }
    }

    /// Likewise, and looks now and then only.
    pub(super) fn step(&mut self) -> Result<(), IndexError> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(LOOK_EVERY) { self.look() } else { Ok(()) }
    }
}

/// What a document must have.
#[derive(Debug)]
pub(super) enum Need {
    /// One of these words.
    Any(Vec<Word>),
    /// These words, two at least, in a row.
    Row(Vec<Word>),
    /// Words in a row, of the last of which this is the beginning.
    Beginning(Vec<Word>),
}

/// Calls for each document of a segment that has all of it, in their order.
pub(super) fn each(
    reader: &SegmentReader,
    needs: &[Need],
    clock: &mut Clock,
    mut found: impl FnMut(DocId),
) -> Result<(), IndexError> {
    let mut sets = Vec::with_capacity(needs.len());
    for need in needs {
        sets.push(match need {
            Need::Any(words) if words.len() == 1 => match one(reader, &words[0])? {
                Some(set) => set,
                None => return Ok(()),
            },
            Need::Any(words) => any(reader, words, clock)?,
            Need::Row(words) => match row(reader, words)? {
                Some(set) => set,
                None => return Ok(()),
            },
            Need::Beginning(words) => beginning(reader, words, clock)?,
        });
    }
    // Where the fewest are to be had, the next one is the furthest.
    sets.sort_by_key(|set| set.docs.cost());
    each_in_all(&mut sets, clock, |doc| {
        if !reader.is_deleted(doc) {
            found(doc);
        }
    })
}

/// Documents.
struct Set {
    docs: Box<dyn DocSet>,
    /// None is before this one. It is one of them if it is 0.
    from: DocId,
}

impl Set {
    fn of(docs: impl DocSet + 'static) -> Self {
        Self { from: docs.doc(), docs: Box::new(docs) }
    }
}

/// Documents that have a word; `None` when there are none.
fn one(reader: &SegmentReader, word: &Word) -> Result<Option<Set>, IndexError> {
    let index = reader.inverted_index(word.field()).map_err(failed(STEP))?;
    let places = index.read_postings(word, IndexRecordOption::Basic).map_err(failed(STEP))?;
    Ok(places.map(Set::of))
}

/// Documents that have one of some words.
fn any(reader: &SegmentReader, words: &[Word], clock: &mut Clock) -> Result<Set, IndexError> {
    let mut docs = BitSet::with_max_value(reader.max_doc());
    for word in words {
        if let Some(mut set) = one(reader, word)? {
            insert_all(&mut docs, &mut *set.docs, clock)?;
        }
    }
    Ok(Set::of(BitSetDocSet::from(docs)))
}

/// Documents that have words in a row; `None` when there are none. The first of them is not looked for yet: that may take long.
fn row(reader: &SegmentReader, words: &[Word]) -> Result<Option<Set>, IndexError> {
    for word in words {
        let index = reader.inverted_index(word.field()).map_err(failed(STEP))?;
        if index.get_term_info(word).map_err(failed(STEP))?.is_none() {
            return Ok(None);
        }
    }
    let query = PhraseQuery::new(words.to_vec());
    let weight = query.weight(EnableScoring::disabled_from_schema(reader.schema())).map_err(failed(STEP))?;
    let (begins, docs) = weight.scorer_danger(reader, 0, 1.0).map_err(failed(STEP))?;
    let from = match begins {
        SeekDangerResult::Found => 0,
        SeekDangerResult::SeekLowerBound(from) => from,
    };
    Ok(Some(Set { docs, from }))
}

/// Documents that have words in a row, with any word for the last of them that begins so.
fn beginning(reader: &SegmentReader, words: &[Word], clock: &mut Clock) -> Result<Set, IndexError> {
    let mut docs = BitSet::with_max_value(reader.max_doc());
    let (last, before) = words.split_last().expect("a term has words");
    let index = reader.inverted_index(last.field()).map_err(failed(STEP))?;
    let begin = last.serialized_value_bytes();
    let mut range = index.terms().range().ge(begin);
    if let Some(end) = behind_all_with(begin) {
        range = range.lt(end);
    }
    let mut ends = range.into_stream().map_err(failed(STEP))?;
    while ends.advance() {
        clock.look()?;
        if before.is_empty() {
            let places = index.read_postings_from_terminfo(ends.value(), IndexRecordOption::Basic);
            insert_all(&mut docs, &mut places.map_err(failed(STEP))?, clock)?;
            continue;
        }
        // What is indexed are words of a text.
        let Ok(end) = std::str::from_utf8(ends.key()) else { continue };
        let mut words = before.to_vec();
        words.push(Word::from_field_text(last.field(), end));
        if let Some(set) = row(reader, &words)? {
            each_in_all(&mut [set], clock, |doc| _ = docs.insert(doc))?;
        }
    }
    Ok(Set::of(BitSetDocSet::from(docs)))
}

/// Returns what is greater than all that begins so, and not greater than anything else that is.
fn behind_all_with(beginning: &[u8]) -> Option<Vec<u8>> {
    let mut end = beginning.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn insert_all(into: &mut BitSet, docs: &mut dyn DocSet, clock: &mut Clock) -> Result<(), IndexError> {
    let mut doc = docs.doc();
    while doc != TERMINATED {
        clock.step()?;
        into.insert(doc);
        doc = docs.advance();
    }
    Ok(())
}

/// Calls for each document that is in all of the sets, in their order.
fn each_in_all(sets: &mut [Set], clock: &mut Clock, mut found: impl FnMut(DocId)) -> Result<(), IndexError> {
    let mut target = sets.iter().map(|set| set.from).max().unwrap_or(TERMINATED);
    // All of them begin there then, and must not be sent there again.
    let mut is_in_all = target == 0;
    'next: while target < TERMINATED {
        clock.step()?;
        if !std::mem::take(&mut is_in_all) {
            for set in &mut *sets {
                if let SeekDangerResult::SeekLowerBound(next) = set.docs.seek_danger(target) {
                    target = next;
                    continue 'next;
                }
            }
        }
        found(target);
        target += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tantivy::{Index, TantivyDocument, schema::Schema};

    use super::*;

    /// A segment of documents that have these words.
    fn segment(texts: impl IntoIterator<Item = &'static str>) -> SegmentReader {
        let mut schema = Schema::builder();
        let field = schema.add_text_field("words", tantivy::schema::TEXT);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 15_000_000).expect("a writer");
        for text in texts {
            let mut document = TantivyDocument::default();
            document.add_text(field, text);
            writer.add_document(document).expect("a document");
        }
        writer.commit().expect("a commit");
        index.reader().expect("a reader").searcher().segment_reader(0).clone()
    }

    fn words(reader: &SegmentReader, words: &str) -> Vec<Word> {
        let field = reader.schema().get_field("words").expect("a field");
        words.split(' ').map(|word| Word::from_field_text(field, word)).collect()
    }

    fn found(reader: &SegmentReader, needs: &[Need]) -> Vec<DocId> {
        let (mut clock, mut docs) = (Clock::ending_in(Duration::from_secs(60)), Vec::new());
        each(reader, needs, &mut clock, |doc| docs.push(doc)).expect("in time");
        docs
    }

    #[test]
    fn a_document_is_found_that_has_all_of_it() {
        let reader =
            segment(["red car", "car red", "a red cart", "red red car", "carpet", "blue", "a red car"]);
        let words = |text| words(&reader, text);
        let row = |text| Need::Row(words(text));
        let one = |text| Need::Any(words(text));
        let beginning = |text| Need::Beginning(words(text));
        for (needs, expected) in [
            (vec![one("car")], vec![0, 1, 3, 6]),
            (vec![one("car"), one("a")], vec![6]),
            (vec![one("blue car")], vec![0, 1, 3, 5, 6]),
            (vec![one("green")], vec![]),
            (vec![one("blue"), one("car")], vec![]),
            (vec![row("red car")], vec![0, 3, 6]),
            (vec![row("red red")], vec![3]),
            (vec![row("red car"), one("a")], vec![6]),
            (vec![row("car a")], vec![]),
            (vec![row("red green")], vec![]),
            (vec![beginning("car")], vec![0, 1, 2, 3, 4, 6]),
            (vec![beginning("carx")], vec![]),
            (vec![beginning("red car")], vec![0, 2, 3, 6]),
            (vec![beginning("a red c")], vec![2, 6]),
            (vec![beginning("b"), one("blue")], vec![5]),
            (vec![], vec![]),
        ] {
            assert_eq!(found(&reader, &needs), expected, "{needs:?}");
        }
    }

    #[test]
    fn what_takes_too_long_is_given_up_before_anything_is_found() {
        let many = usize::try_from(LOOK_EVERY).expect("few") * 2;
        let reader = segment(std::iter::repeat_n("red car", many));
        let words = |text| words(&reader, text);
        // Neither of them finds a document on which it could look at the time.
        for need in
            [Need::Row(words("car red")), Need::Beginning(words("re")), Need::Beginning(words("car r"))]
        {
            let mut clock = Clock::ending_in(Duration::ZERO);
            let mut count = 0;
            let ended = each(&reader, std::slice::from_ref(&need), &mut clock, |_| count += 1);
            assert!(matches!(ended, Err(IndexError::TooSlow)), "{need:?}: {ended:?}");
            assert_eq!(count, 0, "{need:?}");
        }
    }
}
