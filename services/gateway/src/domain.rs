//! What a connection is, apart from its socket: synchronous and tested without a runtime.

pub(crate) mod bucket;
pub(crate) mod outbox;
pub(crate) mod session;
