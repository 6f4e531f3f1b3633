//! A backend whatever its types are.

use std::{fmt::Debug, marker::PhantomData};

use crds::{DeletionPolicy, Reason, TenantId};
use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{
    contract::Backend,
    error::BackendError,
    login::Login,
    ownership::{Owner, Ownership},
    pool::Pool,
    settle::{self, Settled, settle},
};
use crate::{
    leader::Fence,
    metrics::Metrics,
    mode::Mode,
    tenant::{Cell, Tenant},
};

/// What a call to a cell's backend needs.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub cell: &'a Cell,
    pub login: &'a Login,
    pub pool: &'a Pool,
    pub fence: &'a Fence,
    pub metrics: &'a Metrics,
}

/// A [`Backend`] without its types: what passes, deletions, cells and conditions do with each one.
pub(crate) trait AnyBackend: Sync {
    fn entry(&self) -> catalog::Backend;
    fn is_of(&self, cell: &Cell) -> bool;
    fn admin_secret<'a>(&self, cell: &'a Cell) -> Option<&'a str>;
    fn username(&self, id: &TenantId) -> String;
    fn endpoint(&self, cell: &Cell) -> String;
    fn arguments(&self, tenant: &Tenant) -> Vec<(&'static str, String)>;
    fn in_sync(&self, tenant: &Tenant) -> String;
    fn problem(&self, tenant: &Tenant) -> Option<(Reason, String)>;
    /// Returns what a tenant should have, for tests.
    fn desired(&self, tenant: &Tenant) -> Box<dyn Debug>;
    /// Returns what would be done for a tenant that has nothing, for tests.
    fn first_changes(&self, tenant: &Tenant) -> Vec<String>;

    /// Brings a tenant's part to what is desired. `password` is what the tenant's Secret holds, if it has one for this.
    fn settle<'a>(
        &self,
        target: Target<'a>,
        tenant: &'a Tenant,
        password: &SecretString,
        mode: Mode,
    ) -> BoxFuture<'a, Result<Settled, BackendError>>;

    /// Returns who a tenant's part belongs to.
    fn ownership<'a>(
        &self,
        target: Target<'a>,
        id: &TenantId,
        owner: Owner,
    ) -> BoxFuture<'a, Result<Ownership, BackendError>>;

    /// Removes a tenant's part, or releases it with its data. Returns what was removed.
    fn clean_up<'a>(
        &self,
        target: Target<'a>,
        id: &TenantId,
        owner: Owner,
        policy: DeletionPolicy,
    ) -> BoxFuture<'a, Result<Vec<String>, BackendError>>;
}

/// Returns what a tenant whose Secrets are complete should have.
fn desired<B: Backend>(tenant: &Tenant) -> B::Desired {
    let password = tenant.password(B::ENTRY);
    B::desired(tenant, &password.expect("the Secrets of an example are complete"))
}

/// The types of a backend without a value of them.
pub(crate) struct Of<B>(PhantomData<fn() -> B>);

impl<B> Of<B> {
    pub const NEW: Self = Self(PhantomData);
}

impl<B: Backend> AnyBackend for Of<B> {
    fn entry(&self) -> catalog::Backend {
        B::ENTRY
    }

    fn is_of(&self, cell: &Cell) -> bool {
        B::is_of(cell)
    }

    fn admin_secret<'a>(&self, cell: &'a Cell) -> Option<&'a str> {
        B::admin_secret(cell)
    }

    fn username(&self, id: &TenantId) -> String {
        B::username(id)
    }

    fn endpoint(&self, cell: &Cell) -> String {
        B::endpoint(cell)
    }

    fn arguments(&self, tenant: &Tenant) -> Vec<(&'static str, String)> {
        B::arguments(tenant)
    }

    fn in_sync(&self, tenant: &Tenant) -> String {
        B::in_sync(tenant)
    }

    fn problem(&self, tenant: &Tenant) -> Option<(Reason, String)> {
        B::problem(tenant)
    }

    fn desired(&self, tenant: &Tenant) -> Box<dyn Debug> {
        Box::new(desired::<B>(tenant))
    }

    fn first_changes(&self, tenant: &Tenant) -> Vec<String> {
        let changes = B::plan(&desired::<B>(tenant), &B::Observed::default());
        changes.iter().map(ToString::to_string).collect()
    }

    fn settle<'a>(
        &self,
        target: Target<'a>,
        tenant: &'a Tenant,
        password: &SecretString,
        mode: Mode,
    ) -> BoxFuture<'a, Result<Settled, BackendError>> {
        let backend = target.pool.get::<B>(target.cell, target.login);
        let desired = B::desired(tenant, password);
        let expected = tenant.expected_data(B::ENTRY);
        Box::pin(
            async move { settle(&*backend, &desired, expected, mode, target.fence, target.metrics).await },
        )
    }

    fn ownership<'a>(
        &self,
        target: Target<'a>,
        id: &TenantId,
        owner: Owner,
    ) -> BoxFuture<'a, Result<Ownership, BackendError>> {
        let backend = target.pool.get::<B>(target.cell, target.login);
        let claim = B::claim(id, owner);
        Box::pin(async move { backend.ownership(&claim).await })
    }

    fn clean_up<'a>(
        &self,
        target: Target<'a>,
        id: &TenantId,
        owner: Owner,
        policy: DeletionPolicy,
    ) -> BoxFuture<'a, Result<Vec<String>, BackendError>> {
        let backend = target.pool.get::<B>(target.cell, target.login);
        let claim = B::claim(id, owner);
        Box::pin(
            async move { settle::clean_up(&*backend, &claim, policy, target.fence, target.metrics).await },
        )
    }
}
