//! The auth service from outside: its REST stories, and its stores, a real realm among them.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod api;
mod browser;
mod events;
mod external;
mod password;
mod peers;
mod realm;
mod recovery;
mod refreshes;
mod sessions;
mod store;

use std::sync::Arc;

use auth::store::MemoryStore;
use kit::{
    catalog,
    config::{OidcArgs, TrustArgs},
    signing::Issuer,
};

/// Returns a realm in memory.
fn memory_realm() -> MemoryStore {
    MemoryStore::new(issuer())
}

/// Returns a realm in memory with the issuer of its tokens.
fn memory_realm_and_issuer() -> (MemoryStore, Arc<Issuer>) {
    let issuer = issuer();
    (MemoryStore::new(issuer.clone()), issuer)
}

/// Returns an issuer of the realm `acme`, with a key that no other has.
fn issuer() -> Arc<Issuer> {
    Arc::new(Issuer::new(OidcArgs {
        oidc_issuer: "http://realm.test/realms/acme".to_owned(),
        oidc_keys_url: None,
        trust: TrustArgs::default(),
        oidc_audience: catalog::TOKEN_AUDIENCE.to_owned(),
        oidc_clients: catalog::TOKEN_CLIENTS.map(str::to_owned).into(),
    }))
}
