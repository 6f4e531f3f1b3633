//! Where documents are found. Two engines are behind the traits: an index in the process itself, of which each replica has one, and OpenSearch, whose
//! index all replicas share. Both have the same words of a text, and the same suite of tests.

mod embedded;
mod opensearch;
mod turns;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;
use tonic::async_trait;

pub use self::{
    embedded::{EmbeddedGenerations, EmbeddedIndex},
    opensearch::{OpenSearchGenerations, OpenSearchIndex, RequestError, Server},
};
use crate::domain::{Document, DocumentId, Place, Progress, Search};

/// An index of one tenant. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait Index: Send + Sync + 'static {
    /// Returns how far the index has come; `None` for a new one.
    async fn progress(&self) -> Result<Option<Progress>, IndexError>;

    /// Returns those of these documents that the index has. It is for the one task that fills the index, and waits for no search.
    async fn documents(&self, ids: Vec<DocumentId>) -> Result<HashMap<DocumentId, Document>, IndexError>;

    /// Writes all of it. Searches that begin later see it. After an error some of the documents may be there, and the progress is what it was: what
    /// is written again after it changes nothing more.
    async fn write(&self, write: Write) -> Result<(), IndexError>;

    /// Returns where what is found is, the newest first: at most `limit` texts, of chats of `seats` alone and from the seq there on, and of
    /// those of `begun` as far as the index has the entries. A search takes bounded time, and a reader has one at a time.
    async fn search(&self, search: Search) -> Result<Vec<Place>, IndexError>;
}

/// The generations of the index of one tenant: the one that searches use, and at times the next, which is built beside it and takes its place. There are
/// never more than two of them. What was begun is there again after a crash.
#[async_trait]
pub trait Generations: Send + Sync + 'static {
    /// Waits until this process is the one that fills the index, and opens what is there. The token is cancelled with `stop`, and when another process may
    /// fill it: then nothing is begun any more, and the caller waits again. An index in the process itself is filled by it alone.
    ///
    /// `None` when stopped before.
    async fn lead(&self, stop: &CancellationToken) -> Option<CancellationToken> {
        (!stop.is_cancelled()).then(|| stop.child_token())
    }

    /// Returns the one that searches use.
    fn served(&self) -> Arc<dyn Index>;

    /// Returns the next one, if it was begun.
    fn next(&self) -> Option<Arc<dyn Index>>;

    /// Returns whether the one that searches use has another form than a new one would have. It lacks something that is searched for then.
    fn is_outdated(&self) -> bool;

    /// Returns whether there is room for a next one beside the one that searches use: [`IndexError::NoRoom`] without it, and [`IndexError::NotLeading`] where
    /// another process fills the index.
    async fn check_room(&self) -> Result<(), IndexError>;

    /// Begins the next one, which is empty, if there is room for it. Whatever else there is beside the one that searches use is removed.
    async fn begin(&self) -> Result<Arc<dyn Index>, IndexError>;

    /// Lets searches use the next one, and removes the one before, into which nothing is written any more. After an error all is as it was.
    async fn switch(&self) -> Result<(), IndexError>;
}

/// A change of an index.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Each takes the place of what was there.
    pub documents: Vec<Document>,
    pub progress: Progress,
    /// Texts that have disappeared by this time are forgotten. Milliseconds since the epoch.
    pub expired_at_ms: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index in {0} is of another tenant: give the process a folder of its own")]
    OfAnotherTenant(PathBuf),
    #[error("failed to prepare the folder {folder}")]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error(
        "the index has {bytes} bytes, and another one is built beside it up to {most_bytes}, a third of what the folder may hold: \
         enlarge the folder and --index-limit-bytes, or replace the pod, which builds the index in place of this one"
    )]
    NoRoom { bytes: u64, most_bytes: u64 },
    #[error("the next generation of the index was not begun")]
    NotBegun,
    #[error("this process does not fill the index: another one does, or the server does not answer")]
    NotLeading,
    #[error("failed to {step}")]
    Engine { step: &'static str, source: Box<tantivy::TantivyError> },
    #[error("OpenSearch failed to {step}")]
    Server { step: &'static str, source: Box<RequestError> },
    #[error("a document of the index cannot be read")]
    Unreadable(#[source] serde_json::Error),
    #[error("more searches than the process can answer wait already")]
    TooManySearches,
    #[error("the search found too much in the time that it has")]
    TooSlow,
    #[error("a task of the index was cancelled")]
    Cancelled,
}
