//! What every backend offers the operator.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
};

use crds::{Reason, TenantId};
use secrecy::SecretString;

use super::{
    change::ChangeKind,
    error::BackendError,
    login::Credentials,
    ownership::{Claim, Owner, Ownership},
};
use crate::{
    leader::Fence,
    tenant::{Cell, Tenant},
};

/// Administers the tenants of one shared system. A value is created without I/O, connects on first use and again after a
/// failure.
pub trait Backend: Sized + Send + Sync + 'static {
    /// Its entry in the catalog.
    const ENTRY: catalog::Backend;

    /// What a tenant should have there.
    type Desired: Debug + Send + Sync + 'static;
    /// What a tenant has there; the default is nothing.
    type Observed: Default + Send + Sync;
    /// One difference between the two. Its text is for administrators.
    type Change: Display + Send + Sync;

    /// Returns what a tenant should have. `password` is what its Secret holds, and empty where no Secret is of this backend.
    fn desired(tenant: &Tenant, password: &SecretString) -> Self::Desired;

    /// Returns how the backend calls the tenant's part: its user, keyspace, realm or role.
    fn name(id: &TenantId) -> String;

    /// Returns the name of the account that the tenant's services use.
    fn username(id: &TenantId) -> String {
        Self::name(id)
    }

    /// Returns what [`Self::ownership`], [`Self::remove`] and [`Self::release`] need.
    fn claim(id: &TenantId, owner: Owner) -> Claim {
        Claim { name: Self::name(id), owner }
    }

    /// Returns the settings of services that use it, as flags and values.
    fn arguments(tenant: &Tenant) -> Vec<(&'static str, String)>;

    /// Returns what to report of a tenant that has what it should have.
    fn in_sync(tenant: &Tenant) -> String;

    /// Returns what is not as the tenant declares it although the backend did all that was planned: why, and the next step.
    fn problem(_tenant: &Tenant) -> Option<(Reason, String)> {
        None
    }

    /// Returns what holds the tenant's data, as an administrator calls it: it is missed when it is gone. Nothing where a backend
    /// holds nothing that cannot be made again, or misses its parts one by one.
    fn data(_desired: &Self::Desired) -> Option<String> {
        None
    }

    /// Returns what the rest of a pass learns from an observed state.
    fn facts(_observed: &Self::Observed) -> BackendFacts {
        BackendFacts::default()
    }

    /// Reports whether a cell has it. Only what the messenger does without may be missing; then nothing below is called.
    fn is_of(_cell: &Cell) -> bool {
        true
    }

    /// Returns the Secret, in the operator's own namespace, with the operator's account. Nothing where it is called without one.
    fn admin_secret(cell: &Cell) -> Option<&str>;

    /// Returns where the cell has it. A connection is kept until this text changes, so it holds all that
    /// [`Self::connect`] reads.
    fn endpoint(cell: &Cell) -> String;

    /// Creates the administration of a cell's backend.
    fn connect(cell: &Cell, account: Credentials) -> Self;

    /// Reads what the tenant has. Writes nothing.
    fn observe(
        &self,
        desired: &Self::Desired,
    ) -> impl Future<Output = Result<Self::Observed, BackendError>> + Send;

    /// Returns what leads from `observed` to `desired`, in the order to apply it. Empty means steady.
    fn plan(desired: &Self::Desired, observed: &Self::Observed) -> Vec<Self::Change>;

    /// Returns why a change is in a plan.
    fn kind(change: &Self::Change) -> ChangeKind;

    /// Makes one change of a plan.
    fn apply(
        &self,
        desired: &Self::Desired,
        change: &Self::Change,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Makes the changes of a plan in order and returns a result for each one that was tried. What comes later in a plan
    /// builds on what comes first, so the first failure is the last result.
    fn apply_all(
        &self,
        desired: &Self::Desired,
        changes: &[Self::Change],
        fence: &Fence,
    ) -> impl Future<Output = Vec<Result<(), BackendError>>> + Send {
        async move {
            let mut results = Vec::with_capacity(changes.len());
            for change in changes {
                if fence.check().is_err() {
                    break;
                }
                results.push(self.apply(desired, change).await);
                if results.last().is_some_and(Result::is_err) {
                    break;
                }
            }
            results
        }
    }

    /// Returns who the tenant's part belongs to. Writes nothing.
    fn ownership(&self, claim: &Claim) -> impl Future<Output = Result<Ownership, BackendError>> + Send;

    /// Removes everything of the tenant and returns what was there.
    fn remove(&self, claim: &Claim) -> impl Future<Output = Result<Vec<String>, BackendError>> + Send;

    /// Releases a retained tenant: its data stays, its account is locked, and the next owner in its namespace re-adopts it.
    fn release(&self, claim: &Claim) -> impl Future<Output = Result<(), BackendError>> + Send;
}

/// What the rest of a pass learns from a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendFacts {
    /// Ids of the tenant's topics by name: the id of a topic is its generation.
    pub topic_ids: BTreeMap<String, String>,
    /// Identity of what [`Backend::data`] names, which is another one when it is recreated. Nothing while it does not exist. Where nothing is missed, it may
    /// be that of the tenant's part: what is recorded is cleaned up with the tenant, whether or not it still has a service that needs it.
    pub generation: Option<String>,
    /// A former owner left something.
    pub is_inherited: bool,
    /// Ids of the schemas of the tenant's records by the names of their topics.
    pub schema_ids: BTreeMap<String, i32>,
    /// What is not as it should be and is left as it is: why, and the next step.
    pub problem: Option<(Reason, String)>,
}

/// Whether a tenant is expected to have data in a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataExpected {
    /// It had some when it was looked at last.
    Recorded,
    /// Nothing is recorded: there is some when a former owner left anything at all.
    IfInherited,
    /// Its loss is accepted.
    No,
}
