//! An index in the process itself.
//!
//! A document is one of tantivy, and its words are fields that are indexed and not kept; the document itself is kept beside them as JSON. What
//! a reader may see is compared with each document that has the words, before any of them counts as found.

mod matching;
mod newest;
mod turns;

use std::{
    collections::HashMap,
    fs,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::ChatId;
use serde::{Deserialize, Serialize};
use tantivy::{
    DocSet as _, Index as Tantivy, IndexReader, IndexWriter, ReloadPolicy, Searcher, TERMINATED,
    TantivyDocument, TantivyError, Term as Word,
    directory::MmapDirectory,
    query::RangeQuery,
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
        Value as _,
    },
    tokenizer::{PreTokenizedString, Token as IndexedToken},
};
use tonic::async_trait;

use self::{
    matching::{Clock, Need, each},
    newest::{Columns, Newest},
    turns::Turns,
};
use super::{Index, IndexError, Write};
use crate::domain::{
    Analyzer, Beginning, Document, DocumentId, EntryName, Form, Place, Progress, Search, Seats, Term, Text,
    Token,
};

/// Counts the forms of the index. One of another form is built again.
const FORM: &str = "v1";
/// Memory of what is about to be written: the least that tantivy takes, and more than a second of messages.
const WRITER_BYTES: usize = 15_000_000;
/// Searches at one time. Each keeps a core busy, and the process has other work.
const SEARCHES: usize = 2;
/// How long a search waits for its turn.
const TURN: Duration = Duration::from_secs(1);
/// How long a search may take. Within it, a hundred million documents are compared.
const SEARCH_TIME: Duration = Duration::from_secs(2);

/// An index in the process. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedIndex(Arc<Inner>);

struct Inner {
    tenant: String,
    tantivy: Tantivy,
    reader: IndexReader,
    /// None after a failure: the next write makes another one, from what was committed.
    writer: Mutex<Option<IndexWriter>>,
    fields: Fields,
    analyzer: Arc<Analyzer>,
    turns: Turns,
}

/// What is written with each commit.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    tenant: String,
    progress: Progress,
}

#[derive(Clone, Copy)]
pub(super) struct Fields {
    chat_high: Field,
    chat_low: Field,
    seq: Field,
    sent_at: Field,
    expires_at: Field,
    /// Chat and seq, which is what a document is replaced by.
    id: Field,
    chat: Field,
    sender: Field,
    /// Chat and seq of the message that a text replies to.
    thread: Field,
    /// Chat, sender and key of a [`Beginning`].
    entry: Field,
    stem: Field,
    exact: Field,
    /// The document.
    document: Field,
}

/// Columns of the texts that can be found, which a search compares.
pub(super) const CHAT_HIGH: &str = "chat_high";
pub(super) const CHAT_LOW: &str = "chat_low";
pub(super) const SEQ: &str = "seq";
pub(super) const SENT_AT: &str = "sent_at";
pub(super) const EXPIRES_AT: &str = "expires_at";

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let words = TextOptions::default().set_indexing_options(indexing);
    // In the order of the indexes that there are: a field is its number.
    let fields = Fields {
        chat_high: schema.add_u64_field(CHAT_HIGH, FAST),
        chat_low: schema.add_u64_field(CHAT_LOW, FAST),
        seq: schema.add_i64_field(SEQ, FAST),
        sent_at: schema.add_i64_field(SENT_AT, FAST),
        expires_at: schema.add_i64_field(EXPIRES_AT, FAST | INDEXED),
        id: schema.add_text_field("id", STRING),
        chat: schema.add_text_field("chat", STRING),
        sender: schema.add_text_field("sender", STRING),
        thread: schema.add_text_field("thread", STRING),
        entry: schema.add_text_field("entry", STRING),
        stem: schema.add_text_field("stem", words.clone()),
        exact: schema.add_text_field("exact", words),
        document: schema.add_bytes_field("document", STORED),
    };
    (schema.build(), fields)
}

fn id_of(chat: ChatId, seq: i64) -> String {
    format!("{chat}/{seq}")
}

fn name_of(chat: ChatId, EntryName { sender, key }: EntryName) -> String {
    format!("{chat}/{sender}/{key}")
}

/// Names the step that failed.
fn failed<E: Into<TantivyError>>(step: &'static str) -> impl FnOnce(E) -> IndexError {
    move |source| IndexError::Engine { step, source: Box::new(source.into()) }
}

impl EmbeddedIndex {
    /// Creates an index that ends with its last handle.
    pub fn in_memory(analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        Self::on(Tantivy::create_in_ram(schema().0), "", analyzer)
    }

    /// Opens the index in a folder of this process, or creates it there. One that cannot be read is removed: the store has all of it.
    /// Refuses the index of another tenant, and a folder that another process has open.
    pub fn open(folder: &Path, tenant: &str, analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        let folder = folder.join(FORM);
        let prepared = |source| IndexError::Folder { folder: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(prepared)?;
        let open = || -> Result<Self, IndexError> {
            let directory = MmapDirectory::open(&folder).map_err(failed("open the folder of the index"))?;
            let tantivy = Tantivy::open_or_create(directory, schema().0);
            let index = Self::on(tantivy.map_err(failed("open the index"))?, tenant, analyzer.clone())?;
            match index.payload()? {
                Some(payload) if payload.tenant != tenant => Err(IndexError::OfAnotherTenant(folder.clone())),
                _ => Ok(index),
            }
        };
        match open() {
            Err(error) if is_damage(&error) => {
                let why = kit::error::chain(&error);
                tracing::warn!(folder = %folder.display(), why, "the index is built again, it cannot be used: {why}");
                fs::remove_dir_all(&folder).and_then(|()| fs::create_dir_all(&folder)).map_err(prepared)?;
                open()
            }
            opened => opened,
        }
    }

    fn on(tantivy: Tantivy, tenant: &str, analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        let reader: Result<IndexReader, TantivyError> =
            tantivy.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
        let reader = reader.map_err(failed("read the index"))?;
        let writer = writer(&tantivy)?;
        Ok(Self(Arc::new(Inner {
            tenant: tenant.to_owned(),
            tantivy,
            reader,
            writer: Mutex::new(Some(writer)),
            fields: schema().1,
            analyzer,
            turns: Turns::new(SEARCHES, TURN),
        })))
    }

    fn payload(&self) -> Result<Option<Payload>, IndexError> {
        let metas = self.0.tantivy.load_metas().map_err(failed("read how far the index has come"))?;
        metas.payload.map(|text| serde_json::from_str(&text).map_err(IndexError::Unreadable)).transpose()
    }

    /// Runs what blocks where it may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or(Err(IndexError::Cancelled))
    }
}

/// Returns whether another index in its place would help.
fn is_damage(error: &IndexError) -> bool {
    match error {
        IndexError::Unreadable(_) => true,
        IndexError::Engine { source, .. } => {
            !matches!(**source, TantivyError::LockFailure(..) | TantivyError::IoError(_))
        }
        _ => false,
    }
}

fn writer(tantivy: &Tantivy) -> Result<IndexWriter, IndexError> {
    tantivy.writer_with_num_threads(1, WRITER_BYTES).map_err(failed("open the index for writing"))
}

#[async_trait]
impl Index for EmbeddedIndex {
    async fn progress(&self) -> Result<Option<Progress>, IndexError> {
        Ok(self.payload()?.map(|payload| payload.progress))
    }

    async fn documents(&self, ids: Vec<DocumentId>) -> Result<HashMap<DocumentId, Document>, IndexError> {
        self.run(move |inner| {
            let searcher = inner.reader.searcher();
            let mut found = HashMap::with_capacity(ids.len());
            for id in ids {
                let word = Word::from_field_text(inner.fields.id, &id_of(id.chat, id.seq));
                if let Some(document) = inner.document(&searcher, &word)? {
                    found.insert(id, document);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn write(&self, write: Write) -> Result<(), IndexError> {
        self.run(move |inner| {
            let mut held = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let mut writer = match held.take() {
                Some(writer) => writer,
                None => writer(&inner.tantivy)?,
            };
            inner.commit(&mut writer, write)?;
            *held = Some(writer);
            inner.reader.reload().map_err(failed("read what was written to the index"))
        })
        .await
    }

    async fn search(&self, search: Search) -> Result<Vec<Place>, IndexError> {
        let inner = self.0.clone();
        self.0.turns.run(search.reader, move || inner.search(search)).await
    }
}

impl Inner {
    /// Returns the document that has a word which no other document has.
    fn document(&self, searcher: &Searcher, word: &Word) -> Result<Option<Document>, IndexError> {
        let step = "look up a document";
        for (segment, reader) in (0..).zip(searcher.segment_readers()) {
            let words = reader.inverted_index(word.field()).map_err(failed(step))?;
            let places = words.read_postings(word, IndexRecordOption::Basic).map_err(failed(step))?;
            let Some(mut places) = places else { continue };
            while places.doc() != TERMINATED {
                let place = places.doc();
                if !reader.is_deleted(place) {
                    let address = tantivy::DocAddress::new(segment, place);
                    return self.read(searcher, address).map(Some);
                }
                places.advance();
            }
        }
        Ok(None)
    }

    fn read(&self, searcher: &Searcher, address: tantivy::DocAddress) -> Result<Document, IndexError> {
        let kept: TantivyDocument = searcher.doc(address).map_err(failed("read a document"))?;
        let json =
            kept.get_first(self.fields.document).and_then(|value| value.as_bytes().map(<[u8]>::to_vec));
        serde_json::from_slice(&json.unwrap_or_default()).map_err(IndexError::Unreadable)
    }

    fn commit(&self, writer: &mut IndexWriter, write: Write) -> Result<(), IndexError> {
        let Write { documents, progress, expired_at_ms } = write;
        for document in documents {
            let DocumentId { chat, seq } = document.id();
            writer.delete_term(Word::from_field_text(self.fields.id, &id_of(chat, seq)));
            writer.add_document(self.indexed(&document)?).map_err(failed("add a document"))?;
        }
        if let Some(now_ms) = expired_at_ms {
            let now = Word::from_field_i64(self.fields.expires_at, now_ms);
            let expired = RangeQuery::new(Bound::Unbounded, Bound::Included(now));
            writer.delete_query(Box::new(expired)).map_err(failed("forget texts"))?;
        }
        let payload = Payload { tenant: self.tenant.clone(), progress };
        let payload = serde_json::to_string(&payload).map_err(IndexError::Unreadable)?;
        let mut commit = writer.prepare_commit().map_err(failed("prepare a commit"))?;
        commit.set_payload(&payload);
        commit.commit().map_err(failed("commit"))?;
        Ok(())
    }

    /// Returns a document as tantivy has it. Only a text that can be found has words and columns.
    fn indexed(&self, document: &Document) -> Result<TantivyDocument, IndexError> {
        let fields = &self.fields;
        let mut indexed = TantivyDocument::default();
        let DocumentId { chat, seq } = document.id();
        indexed.add_text(fields.id, id_of(chat, seq));
        indexed.add_bytes(fields.document, &serde_json::to_vec(document).map_err(IndexError::Unreadable)?);
        match document {
            Document::Beginning(Beginning { entry, .. }) => {
                indexed.add_text(fields.entry, name_of(chat, *entry));
                indexed.add_i64(fields.seq, seq);
            }
            Document::Text(text) if text.deleted => {}
            Document::Text(text) => self.add_text(&mut indexed, text),
        }
        Ok(indexed)
    }

    fn add_text(&self, indexed: &mut TantivyDocument, text: &Text) {
        let Text { chat, seq, sender, sent_at_ms, reply_to, expires_at_ms, body, .. } = text;
        let fields = &self.fields;
        indexed.add_text(fields.chat, chat.to_string());
        indexed.add_text(fields.sender, sender.to_string());
        if let Some(target) = reply_to {
            indexed.add_text(fields.thread, id_of(*chat, *target));
        }
        let tokens = self.analyzer.tokens(body);
        indexed.add_pre_tokenized_text(fields.stem, pre_tokenized(&tokens, |token| &token.stem));
        indexed.add_pre_tokenized_text(fields.exact, pre_tokenized(&tokens, |token| &token.exact));
        let (high, low) = chat.0.as_u64_pair();
        indexed.add_u64(fields.chat_high, high);
        indexed.add_u64(fields.chat_low, low);
        indexed.add_i64(fields.seq, *seq);
        indexed.add_i64(fields.sent_at, *sent_at_ms);
        if let Some(expires_at_ms) = expires_at_ms {
            indexed.add_i64(fields.expires_at, *expires_at_ms);
        }
    }

    fn search(&self, mut search: Search) -> Result<Vec<Place>, IndexError> {
        let (searcher, mut clock) = (self.reader.searcher(), Clock::ending_in(SEARCH_TIME));
        let begun = std::mem::take(&mut search.begun);
        self.add_seats(&searcher, begun, &mut search.seats, &mut clock)?;
        let needs = self.needs(&search);
        let mut newest = Newest::new(&search);
        for reader in searcher.segment_readers() {
            clock.look()?;
            // A segment without a text that can be found has no such columns.
            let Some(columns) = Columns::of(reader).map_err(failed("open the columns"))? else { continue };
            each(reader, &needs, &mut clock, |doc| newest.take(&columns, doc))?;
        }
        Ok(newest.into_places())
    }

    /// Adds the chats whose history begins, for the reader, with an entry that the index has: at its seq.
    fn add_seats(
        &self,
        searcher: &Searcher,
        begun: Vec<(ChatId, EntryName)>,
        seats: &mut Seats,
        clock: &mut Clock,
    ) -> Result<(), IndexError> {
        let step = "look up where histories begin";
        let word = |(chat, entry)| (chat, Word::from_field_text(self.fields.entry, &name_of(chat, entry)));
        let words: Vec<_> = begun.into_iter().map(word).collect();
        if words.is_empty() {
            return Ok(());
        }
        for reader in searcher.segment_readers() {
            let index = reader.inverted_index(self.fields.entry).map_err(failed(step))?;
            let Some(seqs) = reader.fast_fields().column_opt::<i64>(SEQ).map_err(failed(step))? else {
                continue;
            };
            for (chat, word) in &words {
                clock.step()?;
                let places = index.read_postings(word, IndexRecordOption::Basic).map_err(failed(step))?;
                let Some(mut places) = places else { continue };
                while places.doc() != TERMINATED {
                    if !reader.is_deleted(places.doc())
                        && let Some(seq) = seqs.first(places.doc())
                    {
                        seats.insert(*chat, seq);
                    }
                    places.advance();
                }
            }
        }
        Ok(())
    }

    /// Returns what a text must have. Whether the reader reads it is compared by [`Newest`].
    fn needs(&self, search: &Search) -> Vec<Need> {
        let fields = &self.fields;
        let has = |field, text: &str| Need::Any(vec![Word::from_field_text(field, text)]);
        let mut needs: Vec<_> = search.terms.iter().map(|term| self.need(term)).collect();
        needs.extend(search.chat.map(|chat| has(fields.chat, &chat.to_string())));
        needs.extend(search.sender.map(|sender| has(fields.sender, &sender.to_string())));
        if let (Some(chat), Some(seq)) = (search.chat, search.thread) {
            let id = id_of(chat, seq);
            let either = [fields.id, fields.thread].map(|field| Word::from_field_text(field, &id));
            needs.push(Need::Any(either.into()));
        }
        needs
    }

    fn need(&self, term: &Term) -> Need {
        let (field, of): (Field, fn(&Token) -> &str) = match term.form {
            Form::Word => (self.fields.stem, |token| token.stem.as_str()),
            Form::Exact | Form::Prefix => (self.fields.exact, |token| token.exact.as_str()),
        };
        let words: Vec<_> = term.tokens.iter().map(|token| Word::from_field_text(field, of(token))).collect();
        match (term.form, words.len()) {
            (Form::Prefix, _) => Need::Beginning(words),
            (_, 1) => Need::Any(words),
            _ => Need::Row(words),
        }
    }
}

fn pre_tokenized(tokens: &[Token], of: impl Fn(&Token) -> &String) -> PreTokenizedString {
    let tokens = tokens.iter().enumerate().map(|(position, token)| IndexedToken {
        offset_from: token.place.start,
        offset_to: token.place.end,
        position,
        text: of(token).clone(),
        position_length: 1,
    });
    // The text is not kept, so none is needed.
    PreTokenizedString { text: String::new(), tokens: tokens.collect() }
}
