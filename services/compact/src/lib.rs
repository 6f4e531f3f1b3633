//! `compact`: any set of a tenant's services in one process, for tenants that are too small for a pod of each.
//!
//! The services are the ones that run apart, built from the same implementations. They share the listeners, the runtime
//! and the token verifier, and call each other in process.

use kit::{Hosted, Program};

/// A small tenant has little to do at once, and every thread has a stack and a heap of its own.
const WORKER_THREADS: usize = 2;

/// Every service of a tenant.
pub fn services() -> Vec<Hosted> {
    vec![
        Hosted::of::<gateway::Gateway>(),
        Hosted::of::<auth::Auth>(),
        Hosted::of::<user::User>(),
        Hosted::of::<chat::Chat>(),
        Hosted::of::<message::Message>(),
    ]
}

/// Returns the binary `compact`.
pub fn program() -> Program {
    Program {
        name: "compact",
        about: "Runs services of one tenant in one process.",
        services: services(),
        worker_threads: Some(WORKER_THREADS),
    }
}
