//! Generations of an index that is on a server.
//!
//! Each is an index of the server, named after the tenant, its form and its number, such as `mt-acme-v1-7`. The document `served` of `mt-acme-control` names
//! the one that searches use, and is changed in one step: whenever a process is killed, one generation is there that was complete, and what else there
//! is goes on or is removed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kit::{backoff::Backoff, error::chain, outage::Outage};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::async_trait;

use super::{
    Named, OpenSearchIndex, RequestError, Server, Shared,
    client::{Client, failed},
    create,
    form::{FORM, OLDEST_FORM},
    lease::{GIVE_UP_AFTER, Lease, RENEW_EVERY, State, new_holder},
};
use crate::{
    domain::Analyzer,
    store::{Generations, Index, IndexError},
};

/// How often a replica looks whether the index is its to fill.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(4);
/// What an outage is called in the log.
const LEADING: &str = "finding out which replica fills the index";
/// The document that names the generation in use.
const SERVED: &str = "served";

/// Generations on a server. Cheap to clone.
#[derive(Clone)]
pub struct OpenSearchGenerations(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// What all names begin with.
    prefix: String,
    replicas: u32,
    /// Names this process in the lease.
    holder: String,
    /// None while another process fills the index, or may do so.
    held: Mutex<Option<Held>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    served: Name,
    next: Option<Name>,
}

/// Form and number of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    form: u32,
    number: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}-{}", self.form, self.number)
    }
}

impl Name {
    /// Reads the name of an index that begins so, and of no other one.
    fn parse(prefix: &str, index: &str) -> Option<Self> {
        let text = index.strip_prefix(prefix)?.strip_prefix('-')?;
        let (form, number) = text.strip_prefix('v')?.split_once('-')?;
        let name = Self { form: form.parse().ok()?, number: number.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }

    /// Returns the name of its index, which [`Self::parse`] reads.
    fn index(self, prefix: &str) -> String {
        format!("{prefix}-{self}")
    }

    fn is_usable(self) -> bool {
        (OLDEST_FORM..=FORM).contains(&self.form)
    }
}

/// Returns the index with the documents that are about the generations.
fn control(prefix: &str) -> String {
    format!("{prefix}-control")
}

/// The document that names the generation in use, as it was read.
#[derive(Deserialize)]
pub(super) struct InUse {
    #[serde(flatten)]
    state: State,
    #[serde(rename = "_source")]
    source: NamedInUse,
}

#[derive(Deserialize)]
struct NamedInUse {
    index: String,
}

impl InUse {
    async fn read(client: &Client, prefix: &str) -> Result<Option<Self>, IndexError> {
        let path = format!("{}/_doc/{SERVED}", control(prefix));
        client.find(Method::GET, &path, None).await.map_err(failed("read which generation is in use"))
    }

    /// Returns the generation. The name of anything else is none.
    fn name(&self, prefix: &str) -> Option<Name> {
        Name::parse(prefix, &self.source.index)
    }

    /// Returns the generation that is in use.
    async fn named(client: &Client, prefix: &str) -> Result<Option<Name>, IndexError> {
        Ok(Self::read(client, prefix).await?.and_then(|found| found.name(prefix)))
    }

    /// Returns the index that is in use, of those whose names begin so.
    pub(super) async fn index(client: &Client, prefix: &str) -> Result<Option<String>, IndexError> {
        Ok(Self::named(client, prefix).await?.map(|name| name.index(prefix)))
    }
}

impl OpenSearchGenerations {
    /// Returns those of a tenant on a server. Nothing is called before it is used.
    pub fn new(server: &Server, analyzer: Arc<Analyzer>) -> Result<Self, RequestError> {
        let shared = Arc::new(Shared::new(server, analyzer)?);
        let (prefix, replicas) = (server.index.clone(), server.replicas);
        let (holder, held) = (new_holder(), Mutex::default());
        Ok(Self(Arc::new(Inner { shared, prefix, replicas, holder, held })))
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is held, if this process fills the index.
    fn leading(&self) -> Result<Held, IndexError> {
        self.held().ok_or(IndexError::NotLeading)
    }

    /// Returns what stands for the generation that searches use.
    fn in_use(&self) -> Named {
        Named::InUse(self.prefix.clone())
    }

    fn index(&self, name: Name) -> String {
        name.index(&self.prefix)
    }

    fn opened(&self, name: Name, searched: Named) -> Arc<dyn Index> {
        let shared = self.shared.clone();
        Arc::new(OpenSearchIndex { shared, searched, name: Named::Index(self.index(name)) })
    }

    /// Returns a generation that only those look into who name it.
    fn opened_alone(&self, name: Name) -> Arc<dyn Index> {
        self.opened(name, Named::Index(self.index(name)))
    }

    /// Returns the generation that searches use.
    async fn named(&self) -> Result<Option<Name>, IndexError> {
        InUse::named(&self.shared.client, &self.prefix).await
    }

    /// Returns all generations. What is found by an alias has another name, and is none.
    async fn all(&self) -> Result<Vec<Name>, IndexError> {
        let path = format!("{}-*?expand_wildcards=all&filter_path=*.settings.index.uuid", self.prefix);
        let found = self.shared.client.find::<BTreeMap<String, Value>>(Method::GET, &path, None).await;
        let found = found.map_err(failed("read which generations there are"))?.unwrap_or_default();
        Ok(found.keys().filter_map(|index| Name::parse(&self.prefix, index)).collect())
    }

    /// Finds the generations, or makes the first one. One that is of no use is removed.
    async fn open(&self) -> Result<Held, IndexError> {
        let named = self.named().await?;
        let all = self.all().await?;
        let held = match choose(named, &all) {
            Some(held) => held,
            None => {
                let number = all.iter().map(|name| name.number).max().unwrap_or(0) + 1;
                let name = Name { form: FORM, number };
                create(&self.shared.client, &self.index(name), self.replicas).await?;
                Held { served: name, next: None }
            }
        };
        if named != Some(held.served) {
            self.serve(held.served, named).await?;
        }
        self.remove_all_but(&[Some(held.served), held.next]).await?;
        Ok(held)
    }

    /// Lets searches use a generation in place of the one before, in one step, unless another process has changed it meanwhile.
    async fn serve(&self, name: Name, before: Option<Name>) -> Result<(), IndexError> {
        let (client, control) = (&self.shared.client, control(&self.prefix));
        let found = InUse::read(client, &self.prefix).await?;
        if found.as_ref().and_then(|found| found.name(&self.prefix)) != before {
            return Err(IndexError::NotLeading);
        }
        let path = match found {
            Some(InUse { state, .. }) => format!("{control}/_doc/{SERVED}?{}", state.condition()),
            None => format!("{control}/_create/{SERVED}"),
        };
        let body = json!({"index": self.index(name)});
        let changed = client.send::<Value>(Method::PUT, &path, Some(&body)).await;
        changed.map(drop).map_err(failed("let searches use a generation"))
    }

    async fn remove_all_but(&self, kept: &[Option<Name>]) -> Result<(), IndexError> {
        for name in self.all().await?.into_iter().filter(|name| !kept.contains(&Some(*name))) {
            let gone = self.shared.client.find::<Value>(Method::DELETE, &self.index(name), None).await;
            gone.map_err(failed("remove a generation"))?;
        }
        Ok(())
    }

    /// Waits until the lease is this process's and what is there is open. Returns false when stopped before.
    async fn begin(&self, lease: &mut Lease, stop: &CancellationToken) -> bool {
        let (outage, mut backoff) = (Outage::default(), Backoff::new(LOOK_EVERY));
        loop {
            match self.try_begin(lease).await {
                Ok(Some(held)) => {
                    outage.worked(LEADING);
                    *self.held() = Some(held);
                    return true;
                }
                Ok(None) => outage.worked(LEADING),
                Err(error) => outage.failed(LEADING, &error),
            }
            if backoff.pause(stop).await.is_break() {
                return false;
            }
        }
    }

    async fn try_begin(&self, lease: &mut Lease) -> Result<Option<Held>, IndexError> {
        if lease.take().await.map_err(failed("take the lease of the index"))? {
            self.open().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Says that this process fills the index until another one may, or until it is stopped; then the token is cancelled.
    async fn hold(self: Arc<Self>, mut lease: Lease, token: CancellationToken) {
        let mut said = Instant::now();
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                () = sleep(RENEW_EVERY) => {}
            }
            let why = match timeout(RENEW_EVERY, self.renewed(&mut lease)).await {
                Ok(Ok(true)) => {
                    said = Instant::now();
                    continue;
                }
                Ok(Ok(false)) => "another process fills it, or searches use another generation".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(late) => late.to_string(),
            };
            // What the server did not answer may have been done, and is tried again.
            if lease.is_known() && said.elapsed() <= GIVE_UP_AFTER {
                tracing::debug!(why, "renewing the lease of the index fails: {why}");
                continue;
            }
            tracing::warn!(why, "this process does not fill the index any more: {why}");
            break;
        }
        *self.held() = None;
        token.cancel();
        // Without it another replica takes the lease once it has expired.
        _ = lease.release().await;
    }

    /// Renews the lease, and looks whether searches use what is held. Returns whether both are so.
    async fn renewed(&self, lease: &mut Lease) -> Result<bool, IndexError> {
        if !lease.renew().await.map_err(failed("renew the lease of the index"))? {
            return Ok(false);
        }
        // While it is changed, it is that of before or that of after.
        let before = *self.held();
        let named = self.named().await?;
        let after = *self.held();
        let is_served = |held: Held| named == Some(held.served);
        Ok(before.is_some_and(is_served) || after.is_some_and(is_served))
    }
}

/// Returns which generation is in use, and which is being built: the one that is named, or the oldest one, which has been there longest.
fn choose(named: Option<Name>, all: &[Name]) -> Option<Held> {
    let usable = || all.iter().copied().filter(|name| name.is_usable());
    let of_name = usable().find(|name| named == Some(*name));
    let served = of_name.or_else(|| usable().min_by_key(|name| (name.number, name.form)))?;
    let next = usable().filter(|name| name.form == FORM && name.number > served.number);
    Some(Held { served, next: next.min_by_key(|name| name.number) })
}

#[async_trait]
impl Generations for OpenSearchGenerations {
    async fn lead(&self, stop: &CancellationToken) -> Option<CancellationToken> {
        let inner = &self.0;
        let client = inner.shared.client.clone();
        let index = control(&inner.prefix);
        let mut lease = Lease::new(client, index, inner.replicas, inner.holder.clone());
        if !inner.begin(&mut lease, stop).await {
            return None;
        }
        tracing::info!("this process fills the index");
        let token = stop.child_token();
        tokio::spawn(inner.clone().hold(lease, token.clone()));
        Some(token)
    }

    fn served(&self) -> Arc<dyn Index> {
        let inner = &self.0;
        let held = *inner.held();
        match held {
            Some(held) => inner.opened(held.served, inner.in_use()),
            None => {
                let (shared, in_use) = (inner.shared.clone(), inner.in_use());
                Arc::new(OpenSearchIndex { shared, searched: in_use.clone(), name: in_use })
            }
        }
    }

    fn next(&self) -> Option<Arc<dyn Index>> {
        let next = (*self.0.held())?.next?;
        Some(self.0.opened_alone(next))
    }

    /// Without the lease it is not known, and the process that has it builds another one.
    fn is_outdated(&self) -> bool {
        let held = *self.0.held();
        held.is_some_and(|held| held.served.form != FORM)
    }

    /// How much room the server has is the cell's to know. Only the process with the lease begins one.
    async fn check_room(&self) -> Result<(), IndexError> {
        self.0.leading().map(drop)
    }

    async fn begin(&self) -> Result<Arc<dyn Index>, IndexError> {
        let inner = &self.0;
        let Held { served, .. } = inner.leading()?;
        inner.remove_all_but(&[Some(served)]).await?;
        let next = Name { form: FORM, number: served.number + 1 };
        create(&inner.shared.client, &inner.index(next), inner.replicas).await?;
        inner.set(Held { served, next: Some(next) })?;
        Ok(inner.opened_alone(next))
    }

    async fn switch(&self) -> Result<(), IndexError> {
        let inner = &self.0;
        let Held { served: before, next } = inner.leading()?;
        let next = next.ok_or(IndexError::NotBegun)?;
        inner.serve(next, Some(before)).await?;
        inner.set(Held { served: next, next: None })?;
        // No search uses it any more, and what is left of it goes when the index is opened the next time.
        if let Err(error) = inner.remove_all_but(&[Some(next)]).await {
            let why = chain(&error);
            tracing::warn!(generation = %before, why, "an index that is used no more was not removed: {why}");
        }
        Ok(())
    }
}

impl Inner {
    /// Notes the generations, unless another process may fill the index meanwhile.
    fn set(&self, held: Held) -> Result<(), IndexError> {
        let mut known = self.held();
        if known.is_none() {
            return Err(IndexError::NotLeading);
        }
        *known = Some(held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        for (form, number) in [(1, 1), (13, 400)] {
            let name = Name { form, number };
            assert_eq!(Name::parse("mt-acme", &name.index("mt-acme")), Some(name));
            assert_eq!(name.index("mt-acme"), format!("mt-acme-v{form}-{number}"));
        }
        for index in [
            "mt-acme",
            "mt-acme-v1",
            "mt-acme-v01-1",
            "mt-acme-v1-1-write",
            "mt-acme-control",
            "mt-acmex-v1-1",
            "v1-1",
        ] {
            assert_eq!(Name::parse("mt-acme", index), None, "{index}");
        }
    }

    #[test]
    fn a_document_that_names_an_index_of_others_names_none() {
        let named = |index: &str| {
            let text = json!({"_index": "mt-acme-control", "_id": "served", "_version": 3, "_seq_no": 7, "_primary_term": 1,
                "found": true, "_source": {"index": index}});
            let found: InUse = serde_json::from_value(text).expect("a document");
            found.name("mt-acme")
        };
        assert_eq!(named("mt-acme-v1-7"), Some(Name { form: 1, number: 7 }));
        for index in ["mt-globex-v1-7", "mt-acme-*", "mt-acme-v1-7,mt-globex-v1-7", ""] {
            assert_eq!(named(index), None, "{index}");
        }
    }

    #[test]
    fn the_generation_that_is_named_is_in_use_and_a_later_one_is_being_built() {
        let name = |number| Name { form: FORM, number };
        let held = |served, next: Option<u64>| Some(Held { served: name(served), next: next.map(name) });
        assert_eq!(choose(None, &[]), None);
        assert_eq!(choose(Some(name(1)), &[name(1)]), held(1, None));
        assert_eq!(choose(Some(name(1)), &[name(2), name(1)]), held(1, Some(2)));
        // Another one was named, and what was before is not removed yet.
        assert_eq!(choose(Some(name(2)), &[name(1), name(2)]), held(2, None));
        // A process ended between the making of an index and its naming.
        assert_eq!(choose(None, &[name(3), name(1)]), held(1, Some(3)));
        let other = Name { form: FORM + 1, number: 9 };
        assert_eq!(choose(Some(other), &[other]), None, "a later version made it");
    }
}
