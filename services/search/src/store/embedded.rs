//! An index in the process itself.
//!
//! A document is one of tantivy, and its words are fields that are indexed and not kept; the document itself is kept beside them as JSON. What
//! a reader may see is compared with each document that has the words, before any of them counts as found.

mod generations;
mod matching;
mod newest;

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
    DocSet as _, Index as Tantivy, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher,
    TERMINATED, TantivyDocument, TantivyError, Term as Word,
    directory::MmapDirectory,
    query::RangeQuery,
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
        Value as _,
    },
    tokenizer::{PreTokenizedString, Token as IndexedToken},
};
use tonic::async_trait;

pub use self::generations::EmbeddedGenerations;
use self::{
    matching::{Clock, Need, each},
    newest::{Columns, Newest},
};
use super::{Index, IndexError, Write, turns::Turns};
use crate::domain::{
    Analyzer, Beginning, Document, DocumentId, EntryName, Form, Has, Place, Progress, Search, Seats, Term,
    Text, Token,
};

/// Counts the forms of the index: its fields, and what is in them. One of an older form is searched until it is built again.
///
/// 2: `has`, and the words in the names of files.
const FORM: u32 = 2;
/// The oldest form that can still be searched and written: a field that it does not have is left out.
const OLDEST_FORM: u32 = 1;
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
    /// Those of all generations in the process.
    turns: Arc<Turns>,
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
    /// Each [`Has`] of a text. None in an index of form 1.
    has: Option<Field>,
}

/// Columns of the texts that can be found, which a search compares.
pub(super) const CHAT_HIGH: &str = "chat_high";
pub(super) const CHAT_LOW: &str = "chat_low";
pub(super) const SEQ: &str = "seq";
pub(super) const SENT_AT: &str = "sent_at";
pub(super) const EXPIRES_AT: &str = "expires_at";

fn schema(form: u32) -> Schema {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let words = TextOptions::default().set_indexing_options(indexing);
    for name in [CHAT_HIGH, CHAT_LOW] {
        schema.add_u64_field(name, FAST);
    }
    for name in [SEQ, SENT_AT] {
        schema.add_i64_field(name, FAST);
    }
    schema.add_i64_field(EXPIRES_AT, FAST | INDEXED);
    for name in ["id", "chat", "sender", "thread", "entry"] {
        schema.add_text_field(name, STRING);
    }
    for name in ["stem", "exact"] {
        schema.add_text_field(name, words.clone());
    }
    schema.add_bytes_field("document", STORED);
    if form >= 2 {
        schema.add_text_field("has", STRING);
    }
    schema.build()
}

impl Fields {
    fn of(schema: &Schema) -> Result<Self, TantivyError> {
        let field = |name| schema.get_field(name);
        Ok(Self {
            chat_high: field(CHAT_HIGH)?,
            chat_low: field(CHAT_LOW)?,
            seq: field(SEQ)?,
            sent_at: field(SENT_AT)?,
            expires_at: field(EXPIRES_AT)?,
            id: field("id")?,
            chat: field("chat")?,
            sender: field("sender")?,
            thread: field("thread")?,
            entry: field("entry")?,
            stem: field("stem")?,
            exact: field("exact")?,
            document: field("document")?,
            has: field("has").ok(),
        })
    }
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

/// Whose an index is, and what its generations share.
#[derive(Clone)]
struct Owner {
    tenant: String,
    analyzer: Arc<Analyzer>,
    turns: Arc<Turns>,
}

impl Owner {
    fn new(tenant: &str, analyzer: Arc<Analyzer>) -> Self {
        Self { tenant: tenant.to_owned(), analyzer, turns: Arc::new(Turns::new(SEARCHES, TURN)) }
    }
}

impl EmbeddedIndex {
    /// Creates an index that ends with its last handle.
    pub fn in_memory(analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        Self::create_in_memory(Owner::new("", analyzer))
    }

    /// Opens the index in a folder of this process, or creates it there. One that cannot be read is removed: the store has all of it.
    /// Refuses the index of another tenant, and a folder that another process has open.
    pub fn open(folder: &Path, tenant: &str, analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        let owner = Owner::new(tenant, analyzer);
        match Self::existing(folder, &owner)? {
            Some(index) => Ok(index),
            None => Self::create(folder, owner),
        }
    }

    fn create_in_memory(owner: Owner) -> Result<Self, IndexError> {
        Self::on(Tantivy::create_in_ram(schema(FORM)), owner)
    }

    /// Creates an index in a folder that has none.
    fn create(folder: &Path, owner: Owner) -> Result<Self, IndexError> {
        let prepared = |source| IndexError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(prepared)?;
        let directory = directory(folder)?;
        let tantivy = Tantivy::create(directory, schema(FORM), IndexSettings::default());
        Self::on(tantivy.map_err(failed("create the index"))?, owner)
    }

    /// Opens the index in a folder; `None` when there is none, or none that can be read, which is removed then.
    fn existing(folder: &Path, owner: &Owner) -> Result<Option<Self>, IndexError> {
        let prepared = |source| IndexError::Folder { folder: folder.to_owned(), source };
        if !folder.try_exists().map_err(prepared)? {
            return Ok(None);
        }
        let open = || -> Result<Option<Self>, IndexError> {
            let directory = directory(folder)?;
            if !Tantivy::exists(&directory).map_err(failed("look for the index"))? {
                return Ok(None);
            }
            let tantivy = Tantivy::open(directory).map_err(failed("open the index"))?;
            let index = Self::on(tantivy, owner.clone())?;
            match index.payload()? {
                Some(payload) if payload.tenant != owner.tenant => {
                    Err(IndexError::OfAnotherTenant(folder.to_owned()))
                }
                _ => Ok(Some(index)),
            }
        };
        match open() {
            Err(error) if is_damage(&error) => {
                let why = kit::error::chain(&error);
                tracing::warn!(folder = %folder.display(), why, "an index is removed, it cannot be used: {why}");
                fs::remove_dir_all(folder).map_err(prepared)?;
                Ok(None)
            }
            opened => opened,
        }
    }

    fn on(tantivy: Tantivy, owner: Owner) -> Result<Self, IndexError> {
        let Owner { tenant, analyzer, turns } = owner;
        let fields = Fields::of(&tantivy.schema()).map_err(failed("read the fields of the index"))?;
        let reader: Result<IndexReader, TantivyError> =
            tantivy.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
        let reader = reader.map_err(failed("read the index"))?;
        let writer = Mutex::new(Some(writer(&tantivy)?));
        Ok(Self(Arc::new(Inner { tenant, tantivy, reader, writer, fields, analyzer, turns })))
    }

    /// Ends the writing for good. Blocks until no thread writes to the files.
    fn retire(&self) -> Result<(), IndexError> {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return Ok(()) };
        writer.wait_merging_threads().map_err(failed("wait for what is written to the index"))
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

fn directory(folder: &Path) -> Result<MmapDirectory, IndexError> {
    MmapDirectory::open(folder).map_err(failed("open the folder of the index"))
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
        let Text { chat, seq, sender, sent_at_ms, reply_to, expires_at_ms, .. } = text;
        let fields = &self.fields;
        indexed.add_text(fields.chat, chat.to_string());
        indexed.add_text(fields.sender, sender.to_string());
        if let Some(target) = reply_to {
            indexed.add_text(fields.thread, id_of(*chat, *target));
        }
        // Between two values of a field is a place without a word, so that no phrase reaches from one into the next.
        for words in text.worded() {
            let tokens = self.analyzer.tokens(words);
            indexed.add_pre_tokenized_text(fields.stem, pre_tokenized(&tokens, |token| &token.stem));
            indexed.add_pre_tokenized_text(fields.exact, pre_tokenized(&tokens, |token| &token.exact));
        }
        if let Some(field) = fields.has {
            for has in Has::ALL.into_iter().filter(|has| has.is_in(text)) {
                indexed.add_text(field, has.as_str());
            }
        }
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
        let mut needs: Vec<_> = search.query.terms.iter().map(|term| self.need(term)).collect();
        // Without the field no text is known to have it.
        needs.extend(search.query.has.iter().map(|what| match fields.has {
            Some(field) => has(field, what.as_str()),
            None => Need::Any(Vec::new()),
        }));
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

#[cfg(test)]
mod tests {
    use contracts::UserId;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Build, File, parse};

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));

    fn search(analyzer: &Analyzer, query: &str) -> Search {
        Search {
            reader: UserId(Uuid::nil()),
            query: parse(analyzer, query).expect("a query"),
            seats: Seats::from([(CHAT, 1)]),
            begun: Vec::new(),
            chat: None,
            thread: None,
            sender: None,
            from_ms: None,
            to_ms: None,
            after: None,
            limit: 10,
            now_ms: 0,
        }
    }

    #[tokio::test]
    async fn an_index_of_an_older_form_is_written_and_searched_as_far_as_it_has_fields() {
        let analyzer = Arc::new(Analyzer::default());
        for form in OLDEST_FORM..=FORM {
            let owner = Owner::new("", analyzer.clone());
            let index = EmbeddedIndex::on(Tantivy::create_in_ram(schema(form)), owner).expect("an index");
            let text = Text {
                chat: CHAT,
                seq: 1,
                sender: UserId(Uuid::nil()),
                sent_at_ms: 1,
                reply_to: None,
                expires_at_ms: None,
                body: "our trip".to_owned(),
                body_seq: 1,
                files: vec![File { name: "sea.png".to_owned(), media_type: "image/png".to_owned() }],
                deleted: false,
            };
            let documents = vec![Document::Text(text)];
            let progress = Progress { build: Build::Done, ..Progress::default() };
            index.write(Write { documents, progress, expired_at_ms: None }).await.expect("a write");
            let found =
                async |query: &str| index.search(search(&analyzer, query)).await.expect("an answer").len();
            assert_eq!(found("trip").await, 1, "{form}");
            let known = usize::from(form >= 2);
            assert_eq!((found("has:image").await, found("trip has:file").await), (known, known), "{form}");
            assert_eq!(found("has:video").await, 0, "{form}");
        }
    }
}
