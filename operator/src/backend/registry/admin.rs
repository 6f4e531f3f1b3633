//! Reads and writes a tenant's subjects, over the API of Confluent's registry.

use std::collections::BTreeMap;

use catalog::Topic;
use crds::{CellSchemaRegistry, TenantId};
use futures_util::future::{try_join, try_join_all};
use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    COMPATIBILITY, RegistryChange, RegistryDesired, RegistryObserved, SubjectObserved, Version,
    client::Client, marker_of, name, owner_schema, owner_subject, plan, subjects,
};
use crate::{
    backend::{
        change::ChangeKind,
        contract::{Backend, BackendFacts},
        error::BackendError,
        http,
        login::Credentials,
        ownership::{Claim, Owner, Ownership},
    },
    tenant::{Cell, Tenant},
};

/// Administers tenants in one schema registry. Created without I/O; a request stands alone.
pub struct RegistryAdmin {
    client: Client,
}

/// What a tenant has, as far as it decides whose it is.
struct Found {
    ownership: Ownership,
    subjects: BTreeMap<Topic, Registered>,
}

/// One version of a subject, as the registry describes it.
#[derive(Deserialize)]
struct Registered {
    version: i32,
    id: i32,
    schema: String,
}

/// What a registry says of a subject's compatibility.
#[derive(Deserialize)]
struct Compatibility {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

impl Registered {
    fn version(&self) -> Version {
        Version { number: self.version, id: self.id }
    }
}

impl Backend for RegistryAdmin {
    const ENTRY: catalog::Backend = catalog::Backend::Registry;

    type Desired = RegistryDesired;
    type Observed = RegistryObserved;
    type Change = RegistryChange;

    fn desired(tenant: &Tenant, _password: &SecretString) -> RegistryDesired {
        RegistryDesired::of(tenant)
    }

    fn name(id: &TenantId) -> String {
        name(id)
    }

    /// Services do not call it.
    fn arguments(_tenant: &Tenant) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn in_sync(tenant: &Tenant) -> String {
        format!("schemas of {} topics", tenant.topics().count())
    }

    fn facts(observed: &RegistryObserved) -> BackendFacts {
        observed.facts()
    }

    fn is_of(cell: &Cell) -> bool {
        cell.spec.schema_registry.is_some()
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        of(cell).credentials_secret_ref.as_ref().map(|secret| secret.name.as_str())
    }

    fn endpoint(cell: &Cell) -> String {
        format!("{} {}", of(cell).url, cell.trust())
    }

    fn connect(cell: &Cell, account: Credentials) -> Self {
        let account = of(cell).credentials_secret_ref.as_ref().map(|_| account);
        Self::trusting(&of(cell).url, account, &cell.certificates)
    }

    /// Reads what the tenant has. Writes nothing.
    async fn observe(&self, desired: &RegistryDesired) -> Result<RegistryObserved, BackendError> {
        let Found { ownership, subjects } = self.find(&desired.tenant, &desired.owner).await?;
        let wanted = subjects.into_iter().filter(|(topic, _)| desired.topics.contains(topic));
        let observed = wanted.map(|(topic, latest)| self.observed(&desired.tenant, topic, latest));
        let subjects = try_join_all(observed).await?.into_iter().collect();
        Ok(RegistryObserved { ownership, subjects, tenant: desired.tenant.clone() })
    }

    fn plan(desired: &RegistryDesired, observed: &RegistryObserved) -> Vec<RegistryChange> {
        plan(desired, observed)
    }

    fn kind(change: &RegistryChange) -> ChangeKind {
        change.kind()
    }

    /// Makes one change of a plan.
    async fn apply(&self, desired: &RegistryDesired, change: &RegistryChange) -> Result<(), BackendError> {
        let action = change.to_string();
        let RegistryDesired { tenant, owner, .. } = desired;
        match change {
            RegistryChange::TakeOver { .. } => self.mark(tenant, &owner.marker().to_string(), &action).await,
            RegistryChange::Register { topic, subject, after } => {
                if after.is_none() {
                    // Nothing of a tenant is there without a marker. It is one request more where others were made before.
                    let marker = self.latest(&owner_subject(tenant)).await?;
                    if marker.is_none() {
                        self.mark(tenant, &owner.marker().to_string(), &action).await?;
                    }
                }
                self.register(subject, topic.schema, &action).await?;
                if after.is_none() {
                    self.set_compatibility(subject, &action).await?;
                }
                Ok(())
            }
            RegistryChange::SetCompatibility { subject } => self.set_compatibility(subject, &action).await,
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        Ok(self.find(&claim.name, &claim.owner).await?.ownership)
    }

    /// Removes the tenant's subjects. Returns what was there. The marker goes last, so that what is left after a failure is still
    /// the tenant's.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        let tenant = &claim.name;
        if self.find(tenant, &claim.owner).await?.ownership == Ownership::Absent {
            return Ok(Vec::new());
        }
        let mut removed = Vec::new();
        for (_, subject) in subjects(tenant) {
            if self.delete(&subject).await? {
                removed.push(format!("subject {subject}"));
            }
        }
        self.delete(&owner_subject(tenant)).await?;
        removed.push(format!("owner marker of {tenant}"));
        Ok(removed)
    }

    /// Releases a retained tenant: its records stay, and so do the schemas that they name. No service writes to the registry, so
    /// there is nothing to lock.
    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        let tenant = &claim.name;
        let Found { ownership, subjects } = self.find(tenant, &claim.owner).await?;
        if !ownership.is_in_use() {
            return Ok(());
        }
        if subjects.is_empty() {
            // Nothing is kept that the next owner could take over.
            self.delete(&owner_subject(tenant)).await?;
            return Ok(());
        }
        let action = format!("release subjects {tenant}.*");
        self.mark(tenant, &claim.owner.released().to_string(), &action).await
    }
}

impl RegistryAdmin {
    /// `url` is where the API begins.
    pub fn new(url: &str, account: Option<Credentials>) -> Self {
        Self::trusting(url, account, &[])
    }

    /// Returns one that trusts certificates beside the public ones.
    fn trusting(url: &str, account: Option<Credentials>, certificates: &[reqwest::Certificate]) -> Self {
        Self { client: Client::new(url, account, http::client(certificates)) }
    }

    /// Finds what a tenant has and whose it is. A subject without a marker beside it is another one's.
    async fn find(&self, tenant: &str, owner: &Owner) -> Result<Found, BackendError> {
        let owner_subject = owner_subject(tenant);
        let latest = subjects(tenant).map(|(topic, subject)| async move {
            let latest = self.latest(&subject).await?;
            Ok::<_, BackendError>(latest.map(|latest| (topic, latest)))
        });
        let (marker, found) = try_join(self.latest(&owner_subject), try_join_all(latest)).await?;
        let found: BTreeMap<_, _> = found.into_iter().flatten().collect();
        let ownership = if marker.is_none() && found.is_empty() {
            Ownership::Absent
        } else {
            let object = match found.keys().next() {
                Some(topic) => format!("subject {}", super::subject(tenant, *topic)),
                None => format!("subject {owner_subject}"),
            };
            let marker = marker.map(|latest| marker_of(&latest.schema)).filter(|marker| !marker.is_empty());
            Ownership::of(Self::ENTRY, &object, marker.as_deref(), owner)?
        };
        Ok(Found { ownership, subjects: found })
    }

    /// Reads the rest of what is there of a subject.
    async fn observed(
        &self,
        tenant: &str,
        topic: Topic,
        latest: Registered,
    ) -> Result<(Topic, SubjectObserved), BackendError> {
        let subject = super::subject(tenant, topic);
        let ours = async {
            if is_same(&latest.schema, topic.schema) {
                return Ok::<_, BackendError>(Some(latest.version()));
            }
            let action = format!("look for the schema of subject {subject}");
            let path = format!("subjects/{subject}");
            let found: Option<Registered> =
                self.client.find(&action, Method::POST, &path, Some(registration(topic.schema))).await?;
            Ok(found.map(|found| found.version()))
        };
        let action = format!("read the compatibility of subject {subject}");
        let path = format!("config/{subject}");
        let compatibility = self.client.find::<Compatibility>(&action, Method::GET, &path, None);
        let (ours, compatibility) = try_join(ours, compatibility).await?;
        let compatibility_matches = compatibility.is_some_and(|found| found.level == COMPATIBILITY);
        Ok((topic, SubjectObserved { latest: latest.version(), ours, compatibility_matches }))
    }

    /// Returns the latest version of a subject.
    async fn latest(&self, subject: &str) -> Result<Option<Registered>, BackendError> {
        let action = format!("read subject {subject}");
        self.client.find(&action, Method::GET, &format!("subjects/{subject}/versions/latest"), None).await
    }

    async fn register(&self, subject: &str, schema: &str, action: &str) -> Result<(), BackendError> {
        let path = format!("subjects/{subject}/versions");
        let _: Value = self.client.send(action, Method::POST, &path, Some(registration(schema))).await?;
        Ok(())
    }

    async fn set_compatibility(&self, subject: &str, action: &str) -> Result<(), BackendError> {
        let body = json!({"compatibility": COMPATIBILITY});
        let _: Value =
            self.client.send(action, Method::PUT, &format!("config/{subject}"), Some(body)).await?;
        Ok(())
    }

    /// Writes an owner marker.
    async fn mark(&self, tenant: &str, marker: &str, action: &str) -> Result<(), BackendError> {
        let subject = owner_subject(tenant);
        let number = self.latest(&subject).await?.map_or(1, |latest| latest.version + 1);
        self.register(&subject, &owner_schema(marker, number), action).await
    }

    /// Deletes a subject: first as one that could come back, then for good, as registries want it. Returns whether it was there. One
    /// that an earlier attempt deleted by half is not seen any more, and is deleted for good.
    async fn delete(&self, subject: &str) -> Result<bool, BackendError> {
        let action = format!("delete subject {subject}");
        let path = format!("subjects/{subject}");
        let deleted: Option<Value> = self.client.find(&action, Method::DELETE, &path, None).await?;
        let path = format!("{path}?permanent=true");
        let gone: Option<Value> = self.client.find(&action, Method::DELETE, &path, None).await?;
        Ok(deleted.is_some() || gone.is_some())
    }
}

/// Returns where a cell has its registry.
fn of(cell: &Cell) -> &CellSchemaRegistry {
    cell.spec.schema_registry.as_ref().expect("a backend is called where the cell has it")
}

/// Returns the body of a request about a schema.
fn registration(schema: &str) -> Value {
    json!({"schemaType": "JSON", "schema": schema})
}

/// Reports whether two schemas say the same: a registry may keep the text in another form.
fn is_same(found: &str, ours: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    found == ours || (read(found).is_some() && read(found) == read(ours))
}
