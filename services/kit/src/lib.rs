//! How a process runs: configuration, telemetry, health, shutdown, tokens, errors and clients of the stores.
//!
//! A service is an implementation of [`Service`], and `kit::main!(Service)` is its binary. A [`Program`] reads the
//! command line of one service or of several, a [`Process`] serves them until SIGTERM and then drains, and each
//! is built in a [`Scope`] of its own.

pub mod auth;
pub mod backoff;
mod bearer;
pub mod bucket;
pub mod budget;
pub mod cache;
pub mod clock;
pub mod config;
#[cfg(feature = "cql")]
pub mod cql;
#[cfg(feature = "postgres")]
pub mod deletions;
pub mod docs;
mod edge;
pub mod error;
pub mod extract;
pub mod flights;
pub mod health;
pub mod hook;
pub mod idempotency;
pub mod identity;
pub mod json;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "kafka")]
pub mod log;
#[cfg(feature = "mail")]
pub mod mail;
pub mod metrics;
pub mod outage;
pub mod page;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod process;
pub mod program;
pub mod reach;
#[cfg(feature = "redis")]
pub mod redis;
pub mod rounds;
pub mod rpc;
pub mod scope;
pub mod service;
#[cfg(feature = "signing")]
pub mod signing;
pub mod tasks;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod tls;
mod trace;
pub mod users;

pub use catalog;
pub use pages::browser;
pub use process::Process;
pub use program::Program;
pub use scope::Scope;
pub use service::{Hosted, Memory, Service, Surface};
pub use traces;
