//! An index on OpenSearch, which all replicas of the service share.
//!
//! A generation is an index of the server. Its documents have the id of their entry and a version, and of two versions the later stands: which
//! process writes a document, and how often, makes no difference. How far the index has come is a document of its own, which is written when the others can be
//! found: what is lost of a write is written again from there.
//!
//! Nothing is called by an alias: an account that may set aliases decides which index one leads to, and its name says nothing of that. The tenants'
//! role has no such right, and which generation is in use is a document ([`generations`]).
//!
//! One replica fills the index at a time, so that the others do not do the same work ([`lease`]). Nothing relies on it being one.
//!
//! What a reader may see is a part of the query. A search takes bounded time: no term of it expands, and neither the chats of a reader nor anything else
//! makes a query longer than the server takes.

mod client;
mod form;
mod generations;
mod lease;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use contracts::ChatId;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tonic::async_trait;

use self::{
    client::{Client, add_line, failed, kind_of},
    generations::InUse,
};
pub use self::{
    client::{RequestError, Server},
    generations::OpenSearchGenerations,
};
use super::{Index, IndexError, Write, turns::Turns};
use crate::domain::{Analyzer, Document, DocumentId, EntryName, Place, Progress, Search, Seats};

/// Searches at one time. The server does the work; what they wait for is bounded all the same.
const SEARCHES: usize = 16;
/// How long a search waits for its turn.
const TURN: Duration = Duration::from_secs(1);
/// How long a search may take.
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// Documents of one request, and about how many bytes they may have.
const BULK: usize = 1_000;
const BULK_BYTES: usize = 4 << 20;
/// Entries of one request for where histories begin.
const BEGINNINGS: usize = 1_000;
/// The document with how far the index has come. No entry has this id.
const PROGRESS: &str = "progress";

/// An index of a server. Cheap to clone.
#[derive(Clone)]
pub struct OpenSearchIndex {
    shared: Arc<Shared>,
    /// Where searches look.
    searched: Named,
    /// The generation. While it is not known it is the one in use, and nothing is written.
    name: Named,
}

/// Which index of the server is meant.
#[derive(Clone)]
enum Named {
    /// That of this name.
    Index(String),
    /// The generation that is in use at the moment of a call, of those whose names begin so.
    InUse(String),
}

impl Named {
    /// Returns the name of the index; nothing while no generation is in use.
    async fn find(&self, client: &Client) -> Result<Option<String>, IndexError> {
        match self {
            Self::Index(name) => Ok(Some(name.clone())),
            Self::InUse(prefix) => InUse::index(client, prefix).await,
        }
    }
}

/// What the generations of an index share.
struct Shared {
    client: Client,
    analyzer: Arc<Analyzer>,
    turns: Arc<Turns>,
}

/// A document with its fields.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    found: bool,
    #[serde(rename = "_source", default)]
    source: Source,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Source {
    document: Option<Document>,
    progress: Option<Progress>,
}

#[derive(Deserialize)]
struct ManyFound {
    docs: Vec<Found>,
}

/// What became of many documents that were written, each below the name of what was done.
#[derive(Deserialize)]
struct Written {
    items: Vec<HashMap<String, WrittenItem>>,
}

#[derive(Deserialize)]
struct WrittenItem {
    status: u16,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Answer<T> {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits<T>,
}

#[derive(Deserialize)]
struct Shards {
    failed: u32,
}

#[derive(Deserialize)]
struct Hits<T> {
    hits: Vec<Hit<T>>,
}

/// What is known of a document that was found: what it was sorted by.
#[derive(Deserialize)]
struct Hit<T> {
    sort: T,
}

impl Shared {
    fn new(server: &Server, analyzer: Arc<Analyzer>) -> Result<Self, RequestError> {
        let turns = Arc::new(Turns::new(SEARCHES, TURN));
        Ok(Self { client: Client::new(server)?, analyzer, turns })
    }

    /// Searches at one place. What is not there has nothing.
    async fn sorted<T: serde::de::DeserializeOwned>(
        &self,
        searched: &str,
        body: &Value,
    ) -> Result<Vec<T>, IndexError> {
        let path = format!("{searched}/_search?request_cache=false");
        let answer = self.client.find::<Answer<T>>(Method::POST, &path, Some(body)).await;
        let Some(Answer { timed_out, shards, hits }) = answer.map_err(failed("search"))? else {
            return Ok(Vec::new());
        };
        // A part of what there is would look like all of it.
        if timed_out || shards.failed > 0 {
            return Err(IndexError::TooSlow);
        }
        Ok(hits.hits.into_iter().map(|hit| hit.sort).collect())
    }

    /// Returns the places that a search finds, the newest first.
    async fn search(&self, searched: &str, mut search: Search) -> Result<Vec<Place>, IndexError> {
        let (mut seats, begun) = (std::mem::take(&mut search.seats), std::mem::take(&mut search.begun));
        self.add_seats(searched, &begun, &mut seats).await?;
        let mut places: Vec<Place> = Vec::new();
        for mut query in form::queries(&search, &seats) {
            query["timeout"] = json!(format!("{}ms", SEARCH_TIME.as_millis()));
            let found: Vec<(i64, ChatId, i64)> = self.sorted(searched, &query).await?;
            places.extend(found.into_iter().map(|(sent_at_ms, chat, seq)| Place { sent_at_ms, chat, seq }));
        }
        places.sort_unstable_by(|one, other| other.cmp(one));
        places.truncate(search.limit);
        Ok(places)
    }

    /// Adds the chats whose history begins, for the reader, with an entry that the index has: at its seq.
    async fn add_seats(
        &self,
        searched: &str,
        begun: &[(ChatId, EntryName)],
        seats: &mut Seats,
    ) -> Result<(), IndexError> {
        for some in begun.chunks(BEGINNINGS) {
            let found: Vec<(ChatId, i64)> = self.sorted(searched, &form::beginnings(some)).await?;
            seats.extend(found);
        }
        Ok(())
    }
}

impl OpenSearchIndex {
    /// Returns an index of this name on a server, which is made if it is not there. Searches look there alone.
    pub async fn create(server: &Server, name: &str, analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        let shared = Shared::new(server, analyzer).map_err(failed("be called"))?;
        create(&shared.client, name, server.replicas).await?;
        let named = Named::Index(name.to_owned());
        Ok(Self { shared: Arc::new(shared), searched: named.clone(), name: named })
    }

    /// Returns where documents are written.
    fn written(&self) -> Result<&str, IndexError> {
        match &self.name {
            Named::Index(name) => Ok(name),
            Named::InUse(_) => Err(IndexError::NotLeading),
        }
    }

    /// Checks that the index is there. A write would make another one of its name, with none of its fields, or go to where an alias leads.
    async fn check(&self) -> Result<(), IndexError> {
        let (name, step) = (self.written()?, "find the index that is written");
        let path = format!("{name}?filter_path=*.settings.index.uuid");
        let found = self.shared.client.send::<BTreeMap<String, Value>>(Method::GET, &path, None).await;
        if found.map_err(failed(step))?.contains_key(name) {
            Ok(())
        } else {
            Err(RequestError::Alias(name.to_owned()).in_step(step))
        }
    }

    /// Writes some documents, unless what is there is later.
    async fn write_some(&self, lines: String) -> Result<(), IndexError> {
        let step = "write documents";
        let path = format!("{}/_bulk?filter_path=items.*.status,items.*.error.type", self.written()?);
        let Written { items } = self.shared.client.send_lines(&path, lines).await.map_err(failed(step))?;
        let refused =
            items.iter().flat_map(HashMap::values).find(|item| item.status >= 300 && item.status != 409);
        match refused {
            None => Ok(()),
            Some(WrittenItem { status, error }) => {
                let kind = kind_of(error).to_owned();
                Err(RequestError::Refused { status: *status, kind }.in_step(step))
            }
        }
    }

    async fn write_all(&self, documents: &[Document]) -> Result<(), IndexError> {
        let mut lines = String::new();
        let mut count = 0;
        for document in documents {
            add_line(&mut lines, &line(&form::id_of(document.id()), form::version_of(document)));
            let fields = form::indexed(&self.shared.analyzer, document).map_err(IndexError::Unreadable)?;
            add_line(&mut lines, &fields);
            count += 1;
            if count == BULK || lines.len() >= BULK_BYTES {
                self.write_some(std::mem::take(&mut lines)).await?;
                count = 0;
            }
        }
        if count > 0 { self.write_some(lines).await } else { Ok(()) }
    }
}

/// Returns what comes before a document that is written in one request with others. Of equal versions the document is the same, so it does not matter
/// which of them stands.
fn line(id: &str, version: i64) -> Value {
    json!({"index": {"_id": id, "version": version, "version_type": "external_gte"}})
}

/// Makes an index for documents, if it is not there.
async fn create(client: &Client, name: &str, replicas: u32) -> Result<(), IndexError> {
    client.create(name, &form::index(replicas)).await.map_err(failed("create the index"))
}

#[async_trait]
impl Index for OpenSearchIndex {
    async fn progress(&self) -> Result<Option<Progress>, IndexError> {
        let Some(name) = self.name.find(&self.shared.client).await? else { return Ok(None) };
        let path = format!("{name}/_doc/{PROGRESS}");
        let found = self.shared.client.find::<Found>(Method::GET, &path, None).await;
        let found = found.map_err(failed("read how far the index has come"))?;
        Ok(found.filter(|found| found.found).and_then(|found| found.source.progress))
    }

    async fn documents(&self, ids: Vec<DocumentId>) -> Result<HashMap<DocumentId, Document>, IndexError> {
        let path = format!("{}/_mget?_source=document", self.written()?);
        let mut known = HashMap::with_capacity(ids.len());
        for some in ids.chunks(BULK) {
            let names: Vec<_> = some.iter().map(|id| form::id_of(*id)).collect();
            let body = json!({"ids": names});
            let found = self.shared.client.send::<ManyFound>(Method::POST, &path, Some(&body)).await;
            let ManyFound { docs } = found.map_err(failed("look up documents"))?;
            let documents =
                docs.into_iter().filter(|found| found.found).filter_map(|found| found.source.document);
            known.extend(documents.map(|document| (document.id(), document)));
        }
        Ok(known)
    }

    async fn write(&self, write: Write) -> Result<(), IndexError> {
        let Write { documents, progress, expired_at_ms } = write;
        let (client, name) = (&self.shared.client, self.written()?);
        self.check().await?;
        self.write_all(&documents).await?;
        let path = format!("{name}/_refresh");
        client.send::<Value>(Method::POST, &path, None).await.map_err(failed("show what was written"))?;
        if let Some(now_ms) = expired_at_ms {
            let path = format!("{name}/_delete_by_query?conflicts=proceed&refresh=true");
            let body = json!({"query": {"range": {"expires_at": {"lte": now_ms}}}});
            let forgot = client.send::<Value>(Method::POST, &path, Some(&body)).await;
            forgot.map_err(failed("forget texts that have disappeared"))?;
        }
        let path = format!("{name}/_doc/{PROGRESS}");
        let body = json!({"progress": progress});
        let noted = client.send::<Value>(Method::PUT, &path, Some(&body)).await;
        noted.map_err(failed("note how far the index has come"))?;
        Ok(())
    }

    async fn search(&self, search: Search) -> Result<Vec<Place>, IndexError> {
        let turn = self.shared.turns.begin(search.reader).await?;
        let (shared, searched) = (self.shared.clone(), self.searched.clone());
        // The server goes on with a search whose client has left, and so does the turn.
        let searching = tokio::spawn(async move {
            let _turn = turn;
            let ends = Instant::now() + SEARCH_TIME;
            let finding = async {
                match searched.find(&shared.client).await? {
                    Some(index) => shared.search(&index, search).await,
                    None => Ok(Vec::new()),
                }
            };
            let found = timeout_at(ends, finding).await;
            found.unwrap_or(Err(IndexError::TooSlow))
        });
        searching.await.unwrap_or(Err(IndexError::Cancelled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_id_and_version() {
        assert_eq!(
            line("a/1", 7),
            json!({"index": {"_id": "a/1", "version": 7, "version_type": "external_gte"}})
        );
    }

    #[test]
    fn what_is_found_is_told_by_what_it_was_sorted_by() {
        let chat = "00000000-0000-0000-0000-000000000007";
        let answer =
            json!({"timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": [{"sort": [5, chat, 3]}]}});
        let answer: Answer<(i64, ChatId, i64)> = serde_json::from_value(answer).expect("an answer");
        assert_eq!(answer.hits.hits[0].sort.1.to_string(), chat);
    }

    #[test]
    fn a_document_that_is_not_there_has_no_fields() {
        let found = json!({"docs": [{"_id": "a/1", "found": false}, {"_id": "progress", "found": true, "_source": {}}]});
        let found: ManyFound = serde_json::from_value(found).expect("an answer");
        assert!(found.docs.iter().all(|found| found.source.document.is_none()));
    }
}
