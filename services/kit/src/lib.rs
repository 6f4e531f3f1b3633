//! How a process runs: configuration, telemetry, health, shutdown, tokens, errors and clients of the stores.
//!
//! A service is a library plus a thin `main`. It starts a [`Process`], builds its state, and hands its REST and
//! gRPC surfaces to [`Process::serve`], which answers until SIGTERM and then drains.

pub mod auth;
pub mod config;
pub mod cql;
pub mod docs;
pub mod error;
pub mod extract;
pub mod health;
pub mod kafka;
pub mod metrics;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod rpc;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use process::{Process, Surface};
