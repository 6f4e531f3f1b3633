//! What is indexed and what is searched for. No I/O.

mod batch;
mod document;
mod excerpt;
mod query;
mod words;

pub use self::{
    batch::Batch,
    document::{Beginning, Build, Document, DocumentId, Entry, EntryName, Progress, Text, What},
    excerpt::excerpt,
    query::{Form, MAX_QUERY_CHARS, Place, Search, Seats, Term, parse},
    words::{Analyzer, Token, composed},
};
