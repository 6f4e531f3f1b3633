//! Which replica fills the index.
//!
//! A document of the tenant names the replica, which writes it again every few seconds. One that has stayed as it is for a while is another replica's to
//! take. How long it has stayed each replica finds out by its own clock, and of two that take it at the same time the server lets one.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::client::{Client, RequestError};

/// How often the replica that fills the index says so.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(4);
/// After so long without a word it may be another replica.
pub(super) const EXPIRES_AFTER: Duration = Duration::from_secs(15);
/// It stops before that when it cannot say so: what is under way then ends in time.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(7);
/// The document.
const LEASE: &str = "lease";

/// Which state of the document is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct State {
    #[serde(rename = "_seq_no")]
    seq_no: u64,
    #[serde(rename = "_primary_term")]
    primary_term: u64,
}

impl State {
    /// Returns what lets a write of the document through in this state of it alone.
    pub(super) fn condition(self) -> String {
        format!("if_seq_no={}&if_primary_term={}", self.seq_no, self.primary_term)
    }
}

#[derive(Deserialize)]
struct Known {
    #[serde(flatten)]
    state: State,
    #[serde(rename = "_source")]
    source: Held,
}

#[derive(Deserialize)]
struct Held {
    /// Empty when it was released.
    holder: String,
}

/// The lease as one replica knows it.
pub(super) struct Lease {
    client: Client,
    /// The index with the document.
    index: String,
    replicas: u32,
    /// Names this replica.
    holder: String,
    /// The state that was seen last, and since when.
    seen: Option<(State, Instant)>,
}

impl Lease {
    pub(super) fn new(client: Client, index: String, replicas: u32, holder: String) -> Self {
        Self { client, index, replicas, holder, seen: None }
    }

    /// Returns whether it is as this replica wrote it last, as far as it knows.
    pub(super) fn is_known(&self) -> bool {
        self.seen.is_some()
    }

    /// Takes the lease, if no other replica has it. Returns whether this replica has it now.
    pub(super) async fn take(&mut self) -> Result<bool, RequestError> {
        let path = format!("{}/_doc/{LEASE}", self.index);
        let Some(Known { state, source }) = self.client.find(Method::GET, &path, None).await? else {
            self.create().await?;
            let path = format!("{}/_create/{LEASE}", self.index);
            return self.put(&path, &self.holder.clone()).await;
        };
        let now = Instant::now();
        let since = match self.seen {
            Some((seen, since)) if seen == state => since,
            _ => now,
        };
        self.seen = Some((state, since));
        let is_free = source.holder.is_empty() || source.holder == self.holder;
        if is_free || now.duration_since(since) >= EXPIRES_AFTER { self.renew().await } else { Ok(false) }
    }

    /// Says that this replica still fills the index. Returns whether it does.
    pub(super) async fn renew(&mut self) -> Result<bool, RequestError> {
        let holder = self.holder.clone();
        self.replace(&holder).await
    }

    /// Releases the lease, so that another replica takes it at once.
    pub(super) async fn release(&mut self) -> Result<bool, RequestError> {
        self.replace("").await
    }

    async fn replace(&mut self, holder: &str) -> Result<bool, RequestError> {
        let Some((state, _)) = self.seen else { return Ok(false) };
        let path = format!("{}/_doc/{LEASE}?{}", self.index, state.condition());
        self.put(&path, holder).await
    }

    /// Writes the document, unless another replica has written it meanwhile.
    async fn put(&mut self, path: &str, holder: &str) -> Result<bool, RequestError> {
        let body = json!({"holder": holder});
        match self.client.send::<State>(Method::PUT, path, Some(&body)).await {
            Ok(state) => {
                self.seen = Some((state, Instant::now()));
                Ok(true)
            }
            Err(error) if error.is_conflict() => {
                self.seen = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the index for the document, if it is not there.
    async fn create(&self) -> Result<(), RequestError> {
        let body = json!({
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": self.replicas}},
            "mappings": {"dynamic": false},
        });
        self.client.create(&self.index, &body).await
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: no two replicas are the same one")]
pub(super) fn new_holder() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_say_that_it_goes_on_stops_before_another_begins() {
        // It notices at the end of an attempt, which begins a while after the one before and takes as long at most.
        assert!(RENEW_EVERY < GIVE_UP_AFTER && GIVE_UP_AFTER + 2 * RENEW_EVERY <= EXPIRES_AFTER);
    }

    #[test]
    fn a_lease_is_read_with_the_state_that_it_is_in() {
        let text = json!({"_index": "i", "_id": "lease", "_version": 3, "_seq_no": 7, "_primary_term": 1, "found": true,
            "_source": {"holder": "a"}});
        let Known { state, source } = serde_json::from_value(text).expect("a lease");
        assert_eq!((state, source.holder.as_str()), (State { seq_no: 7, primary_term: 1 }, "a"));
    }
}
