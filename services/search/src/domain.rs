//! What is indexed and what is searched for. No I/O.

mod batch;
mod document;
mod excerpt;
mod has;
mod query;
mod words;

pub(crate) use self::{
    batch::Batch,
    document::{Entry, What},
    excerpt::excerpts,
    query::{Form, Term},
    words::{Token, composed},
};
pub use self::{
    document::{Beginning, Build, Document, DocumentId, EntryName, File, Progress, Text},
    has::Has,
    query::{Place, Query, Search, Seats, parse},
    words::Analyzer,
};
