//! The shared systems of a cell, seen from one tenant.
//!
//! Reading order: `contract` is what every backend offers, `ALL` the list of them, `settle` what a pass does with one, `pool`
//! where connections are kept. Each backend's module describes what a tenant should have there
//! ([`kafka::KafkaDesired`] and its neighbours), reads what it has, names the difference as a list of changes, and carries
//! each change out. `plan` in every module is pure; only the `*Admin` types do I/O.
//!
//! A backend is added with its module, its line in `ALL`, its entry in the catalog, and its address in `MessengerCell`. One that
//! only optional services need, or none, may be missing in a cell, and is then not called ([`Backend::is_of`]). So may one that
//! services do without.
//!
//! Invariant: an object of another owner is never changed, adopted or removed: `observe` and `remove` return
//! [`BackendError::Conflict`] before the first write.
//!
//! Invariant: no secret is part of an observed state, a change, an error or a log line.

use std::collections::BTreeMap;

use catalog::Secret;
use crds::TenantId;

mod any;
mod change;
mod contract;
mod error;
mod http;
mod idle;
mod login;
mod marker;
mod ownership;
mod password;
mod pool;
mod settle;
mod statement;
mod tls;

pub mod cql;
pub mod kafka;
pub mod keycloak;
pub mod opensearch;
pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod registry;
pub mod s3;

pub use change::ChangeKind;
pub use contract::{Backend, BackendFacts, DataExpected};
pub use error::{BackendError, Holder};
pub use login::Credentials;
pub use marker::{MarkedOwner, Marker};
pub use ownership::{Claim, Former, Owner, Ownership};
pub use settle::{Settled, settle};
pub use tls::Trust;

pub use crate::mode::Mode;
use crate::workload::{Workload, has_part};

pub(crate) use any::{AnyBackend, Of, Target};
pub(crate) use login::Login;
pub(crate) use pool::Pool;

/// Every backend, in the order of the catalog.
pub(crate) const ALL: &[&dyn AnyBackend] = &[
    &Of::<kafka::KafkaAdmin>::NEW,
    &Of::<cql::CqlAdmin>::NEW,
    &Of::<postgres::PostgresAdmin>::NEW,
    &Of::<keycloak::KeycloakAdmin>::NEW,
    &Of::<redis::RedisAdmin>::NEW,
    &Of::<s3::S3Admin>::NEW,
    &Of::<registry::RegistryAdmin>::NEW,
    &Of::<opensearch::OpenSearchAdmin>::NEW,
    &Of::<rabbitmq::RabbitMqAdmin>::NEW,
];

/// Returns the backend of a catalog entry.
///
/// # Panics
///
/// Never: a test compares the list with the catalog.
pub(crate) fn of(entry: catalog::Backend) -> &'static dyn AnyBackend {
    let found = ALL.iter().find(|backend| backend.entry() == entry);
    *found.expect("every backend of the catalog is in the list")
}

/// Returns the names of the accounts of a tenant with these workloads, by the Secret that holds them.
pub(crate) fn usernames(id: &TenantId, workloads: &[Workload]) -> BTreeMap<Secret, String> {
    let had = ALL.iter().filter(|backend| has_part(workloads, backend.entry()));
    had.filter_map(|backend| Some((backend.entry().secret?, backend.username(id)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_catalog() {
        let listed: Vec<_> = ALL.iter().map(|backend| backend.entry()).collect();
        assert_eq!(listed, catalog::Backend::ALL);
    }

    #[test]
    fn every_backend_has_an_account_of_its_own() {
        let names = usernames(&"acme".parse().expect("legal"), &[]);
        let always = ALL.iter().filter(|backend| !backend.entry().is_optional());
        assert_eq!(names.len(), always.count());
    }
}
