//! What a tenant is made of, as data: its services, the topics and Secrets between them, the backends below them.
//!
//! Every list of services, topics, Secrets or backends is this one, iterated: the operator renders it, the CRDs document
//! it, `/docs` links it, images and local scripts are named after it, and tests walk it. A service that is added here
//! appears in all of them.
//!
//! Everything here is constant: no dependency, no I/O.

#[macro_use]
mod table;
mod backend;
mod limits;
mod ports;
mod secret;
mod service;
mod topic;

pub use backend::{
    Backend, BackendEntry, DEAD_LETTERS, JOB_CHANNELS, JOB_EXCHANGE, POSTGRES_POOL, REDIS_COMMANDS, job_queue,
};
pub use limits::{
    CHATS_PER_USER, CONNECTIONS, CONNECTIONS_PER_USER, ENTRY_BYTES, FILE_BYTES, Limit, MEDIA_BYTES,
    MEMBERSHIPS, NoRate, Rate,
};
pub use ports::{
    APP_CLIENT, AUTH_CLIENT, DRAIN_SECONDS, EXTRA_VARIABLES, GRPC_PORT, HTTP_PORT, MANAGEMENT_PORT,
    PROBLEMS_PATH, REALM_FAILURES, REALM_FAILURES_SECONDS, REFRESH_RETRIES, SIGN_IN_CALLBACK_PATH,
    TENANT_HEADER, TOKEN_AUDIENCE, TOKEN_CLIENTS, UNREADY_SECONDS, USERNAME_PATTERN, USERNAME_RULE,
};
pub use secret::{Secret, SecretEntry, SecretKey, SecretSource};
pub use service::{Folder, INDEX_FOLDER, Service, ServiceEntry, Setting};
pub use topic::{
    MAX_ACCESS_TOKEN_SECONDS, PRESENCE_CHANGES_SECONDS, PRESENCE_SAMPLE_SECONDS, Retention,
    SESSION_EVENTS_SECONDS, Topic, TopicEntry,
};
