//! The backends of a cell in memory. What a tenant should have there, the real backend says: each line of its first plan is a
//! piece here. Markers decide about owners as everywhere.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use crds::{Reason, TenantId};
use secrecy::{ExposeSecret, SecretString};

use super::line::{Call, Kind, Line, Target};
use crate::{
    backend::{
        AnyBackend, Backend, BackendError, BackendFacts, ChangeKind, Claim, Credentials, Former, Of, Owner,
        Ownership, cql::CqlAdmin, kafka::KafkaAdmin, keycloak::KeycloakAdmin, opensearch::OpenSearchAdmin,
        postgres::PostgresAdmin, rabbitmq::RabbitMqAdmin, redis::RedisAdmin, registry::RegistryAdmin,
        s3::S3Admin,
    },
    locks::lock,
    tenant::{Cell, Tenant},
};

/// Every backend in memory, in the order of the catalog.
pub(super) const ALL: &[&dyn AnyBackend] = &[
    &Of::<InMemory<KafkaAdmin>>::NEW,
    &Of::<InMemory<CqlAdmin>>::NEW,
    &Of::<InMemory<PostgresAdmin>>::NEW,
    &Of::<InMemory<KeycloakAdmin>>::NEW,
    &Of::<InMemory<RedisAdmin>>::NEW,
    &Of::<InMemory<S3Admin>>::NEW,
    &Of::<InMemory<RegistryAdmin>>::NEW,
    &Of::<InMemory<OpenSearchAdmin>>::NEW,
    &Of::<InMemory<RabbitMqAdmin>>::NEW,
];

/// A backend and a name in it.
type Key = (&'static str, String);

/// What tenants have in all backends.
#[derive(Clone, Debug, Default)]
pub(super) struct Systems {
    pub parts: BTreeMap<Key, Part>,
    /// How often a part was begun: data that is made again is other data.
    begun: BTreeMap<Key, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    marker: String,
    pieces: BTreeSet<String>,
    password: String,
    is_locked: bool,
    generation: u32,
}

thread_local! {
    /// What an administration is connected to, whatever address the cell names.
    static CONNECTED: RefCell<Option<(Arc<Mutex<Systems>>, Line)>> = const { RefCell::new(None) };
}

/// Leads the connections that this thread opens from now on to these systems.
pub(super) fn connect_to(systems: &Arc<Mutex<Systems>>, line: &Line) {
    CONNECTED.set(Some((systems.clone(), line.clone())));
}

/// The administration of one backend in memory.
pub(super) struct InMemory<B> {
    systems: Arc<Mutex<Systems>>,
    line: Line,
    of: PhantomData<fn() -> B>,
}

#[derive(Debug)]
pub(super) struct PartDesired {
    name: String,
    owner: Owner,
    pieces: BTreeSet<String>,
    password: String,
    data: Option<String>,
    topics: Vec<String>,
}

#[derive(Default)]
pub(super) struct PartObserved {
    ownership: Ownership,
    part: Option<Part>,
    has_data: bool,
    topics: Vec<String>,
}

pub(super) enum PartChange {
    Mark(ChangeKind),
    Make(String),
    Remove(String),
    SetPassword(ChangeKind),
}

impl fmt::Display for PartChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(_) => f.write_str("mark the owner"),
            Self::Make(piece) => f.write_str(piece),
            Self::Remove(piece) => write!(f, "undo: {piece}"),
            Self::SetPassword(_) => f.write_str("set the password"),
        }
    }
}

impl<B: Backend> InMemory<B> {
    /// Makes a call about the part of this name.
    async fn call<T>(
        &self,
        kind: Kind,
        what: &str,
        name: &str,
        work: impl Fn(&mut Systems) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let target = Target::Part { name: name.to_owned() };
        let call = Call { kind, text: format!("{}: {what}", B::ENTRY), target };
        let unavailable = || BackendError::Unavailable {
            backend: B::ENTRY,
            endpoint: "memory".to_owned(),
            detail: "a fault".to_owned(),
        };
        let work = |_| {
            let mut systems = lock(&self.systems);
            work(&mut systems)
        };
        self.line.call(call, work, |_| Err(unavailable())).await
    }

    fn key(name: &str) -> Key {
        (B::ENTRY.as_str(), name.to_owned())
    }

    fn owned(systems: &Systems, name: &str, owner: &Owner) -> Result<Ownership, BackendError> {
        match systems.parts.get(&Self::key(name)) {
            None => Ok(Ownership::Absent),
            Some(part) => Ownership::of(B::ENTRY, name, Some(&part.marker), owner),
        }
    }

    /// Changes a part that is there.
    async fn edit(&self, what: &str, name: &str, edit: impl Fn(&mut Part)) -> Result<(), BackendError> {
        self.call(Kind::BackendWrite, what, name, |systems| {
            let part = systems.parts.get_mut(&Self::key(name)).ok_or_else(|| BackendError::Refused {
                backend: B::ENTRY,
                action: what.to_owned(),
                detail: "there is no part of that name".to_owned(),
                retryable: true,
            })?;
            edit(part);
            Ok(())
        })
        .await
    }
}

impl<B: Backend> Backend for InMemory<B> {
    const ENTRY: catalog::Backend = B::ENTRY;

    type Desired = PartDesired;
    type Observed = PartObserved;
    type Change = PartChange;

    fn desired(tenant: &Tenant, password: &SecretString) -> PartDesired {
        // Of a tenant that has nothing yet, so that nothing is missed.
        let new = Tenant { recorded_topic_ids: BTreeMap::new(), ..tenant.clone() };
        let desired = B::desired(&new, password);
        let plan = B::plan(&desired, &B::Observed::default());
        let topics = tenant.topics().filter(|_| B::ENTRY == catalog::Backend::Kafka);
        PartDesired {
            name: B::name(&tenant.id),
            owner: Owner::of(tenant),
            pieces: plan.iter().map(ToString::to_string).collect(),
            password: password.expose_secret().to_owned(),
            data: B::data(&desired),
            topics: topics.map(|topic| tenant.id.topic(topic.name).to_string()).collect(),
        }
    }

    fn name(id: &TenantId) -> String {
        B::name(id)
    }

    fn username(id: &TenantId) -> String {
        B::username(id)
    }

    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)> {
        B::arguments(tenant)
    }

    fn in_sync(tenant: &Tenant) -> String {
        B::in_sync(tenant)
    }

    fn problem(tenant: &Tenant) -> Option<(Reason, String)> {
        B::problem(tenant)
    }

    fn data(desired: &PartDesired) -> Option<String> {
        desired.data.clone()
    }

    fn facts(observed: &PartObserved) -> BackendFacts {
        let Some(part) = &observed.part else { return BackendFacts::default() };
        let topics = observed.topics.iter();
        let is_inherited =
            matches!(observed.ownership, Ownership::Inherited(Former::Released { .. } | Former::Gone(_)));
        BackendFacts {
            topic_ids: topics.map(|topic| (topic.clone(), format!("id-{}", part.generation))).collect(),
            generation: observed.has_data.then(|| format!("generation-{}", part.generation)),
            is_inherited,
            ..BackendFacts::default()
        }
    }

    fn is_of(cell: &Cell) -> bool {
        B::is_of(cell)
    }

    fn admin_secret(cell: &Cell) -> Option<&str> {
        B::admin_secret(cell)
    }

    fn endpoint(cell: &Cell) -> String {
        B::endpoint(cell)
    }

    fn connect(_: &Cell, _: Credentials) -> Self {
        let (systems, line) =
            CONNECTED.with_borrow(|connected| connected.clone().expect("a simulation runs"));
        Self { systems, line, of: PhantomData }
    }

    async fn observe(&self, desired: &PartDesired) -> Result<PartObserved, BackendError> {
        self.call(Kind::Read, "observe", &desired.name, |systems| {
            Ok(PartObserved {
                ownership: Self::owned(systems, &desired.name, &desired.owner)?,
                part: systems.parts.get(&Self::key(&desired.name)).cloned(),
                has_data: desired.data.is_some(),
                topics: desired.topics.clone(),
            })
        })
        .await
    }

    fn plan(desired: &PartDesired, observed: &PartObserved) -> Vec<PartChange> {
        let mut changes = Vec::new();
        match &observed.ownership {
            Ownership::Absent => changes.push(PartChange::Mark(ChangeKind::Create)),
            Ownership::Ours => {}
            Ownership::Inherited(Former::Itself(_)) => changes.push(PartChange::Mark(ChangeKind::Record)),
            Ownership::Inherited(_) => changes.push(PartChange::Mark(ChangeKind::Adopt)),
        }
        let part = observed.part.clone().unwrap_or_default();
        changes.extend(desired.pieces.difference(&part.pieces).cloned().map(PartChange::Make));
        changes.extend(part.pieces.difference(&desired.pieces).cloned().map(PartChange::Remove));
        if part.is_locked || part.password != desired.password {
            let is_new = part.password.is_empty();
            let kind = if is_new { ChangeKind::Create } else { ChangeKind::Repair };
            changes.push(PartChange::SetPassword(kind));
        }
        changes
    }

    fn kind(change: &PartChange) -> ChangeKind {
        match change {
            PartChange::Mark(kind) | PartChange::SetPassword(kind) => *kind,
            PartChange::Make(_) => ChangeKind::Create,
            PartChange::Remove(_) => ChangeKind::Repair,
        }
    }

    async fn apply(&self, desired: &PartDesired, change: &PartChange) -> Result<(), BackendError> {
        let (what, name) = (change.to_string(), desired.name.as_str());
        match change {
            PartChange::Mark(_) => {
                let mark = |systems: &mut Systems| {
                    let key = Self::key(name);
                    if !systems.parts.contains_key(&key) {
                        let begun = systems.begun.entry(key.clone()).or_default();
                        *begun += 1;
                        let part = Part { generation: *begun, ..Part::default() };
                        systems.parts.insert(key.clone(), part);
                    }
                    let part = systems.parts.get_mut(&key).expect("made above");
                    part.marker = desired.owner.marker().to_string();
                    Ok(())
                };
                self.call(Kind::BackendWrite, &what, name, mark).await
            }
            PartChange::Make(piece) => {
                self.edit(&what, name, |part| _ = part.pieces.insert(piece.clone())).await
            }
            PartChange::Remove(piece) => self.edit(&what, name, |part| _ = part.pieces.remove(piece)).await,
            PartChange::SetPassword(_) => {
                self.edit(&what, name, |part| {
                    part.password.clone_from(&desired.password);
                    part.is_locked = false;
                })
                .await
            }
        }
    }

    async fn ownership(&self, claim: &Claim) -> Result<Ownership, BackendError> {
        let owned = |systems: &mut Systems| Self::owned(systems, &claim.name, &claim.owner);
        self.call(Kind::Read, "ownership", &claim.name, owned).await
    }

    /// Removes the marker last, so that a removal cut short can be repeated.
    async fn remove(&self, claim: &Claim) -> Result<Vec<String>, BackendError> {
        if self.ownership(claim).await? == Ownership::Absent {
            return Ok(Vec::new());
        }
        self.edit("remove all pieces", &claim.name, |part| {
            *part = Part { marker: part.marker.clone(), generation: part.generation, ..Part::default() };
        })
        .await?;
        self.call(Kind::BackendWrite, "remove the marker", &claim.name, |systems| {
            systems.parts.remove(&Self::key(&claim.name));
            Ok(vec![claim.name.clone()])
        })
        .await
    }

    async fn release(&self, claim: &Claim) -> Result<(), BackendError> {
        match self.ownership(claim).await? {
            Ownership::Absent | Ownership::Inherited(Former::Released { .. }) => return Ok(()),
            Ownership::Ours | Ownership::Inherited(_) => {}
        }
        self.edit("lock the account", &claim.name, |part| part.is_locked = true).await?;
        let released = claim.owner.released().to_string();
        self.edit("release the marker", &claim.name, |part| part.marker.clone_from(&released)).await
    }
}
