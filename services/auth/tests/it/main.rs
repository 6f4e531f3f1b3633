//! The auth service from outside: its REST stories, and its stores, a real realm among them.

mod api;
mod peers;
mod realm;
mod store;

use auth::store::MemoryStore;
use kit::{catalog, config::OidcArgs};

/// Returns a realm in memory.
fn memory_realm() -> MemoryStore {
    MemoryStore::new(OidcArgs {
        oidc_issuer: "http://realm.test/realms/acme".to_owned(),
        oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
    })
}
