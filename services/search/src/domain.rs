//! What is indexed and what is searched for. No I/O.

mod batch;
mod document;
mod excerpt;
mod query;
mod words;

pub(crate) use self::{
    batch::Batch,
    document::{Entry, What},
    excerpt::excerpt,
    query::{Form, Term},
    words::{Token, composed},
};
pub use self::{
    document::{Beginning, Build, Document, DocumentId, EntryName, Progress, Text},
    query::{Place, Search, Seats, parse},
    words::Analyzer,
};
