//! The operator: keeps every tenant as its [`crds::MessengerTenant`] declares, in Kubernetes and in the shared backends.
//!
//! Reading order: `controller::pass` is one pass over a tenant, `tenant` what a valid tenant is, `desired` what should exist
//! for it, `plan` what differs, `status` how it is reported.
//!
//! Invariant: only `observe`, `apply` and [`backend`] do I/O; everything in between is pure and snapshot-tested on every
//! example.
//!
//! What is public here is what `main`, the tests and the end-to-end suite use: all else is private, so that the compiler
//! reports what is not needed.

mod amounts;
mod api;
mod apply;
pub mod backend;
mod certificates;
pub mod config;
mod connections;
mod consent;
pub mod console;
mod contested;
pub mod controller;
mod desired;
mod domains;
mod endpoints;
mod env_secrets;
mod events;
mod fleet;
mod isolation;
pub mod leader;
mod limits;
mod locks;
mod management;
pub mod metrics;
mod mode;
mod named_secrets;
mod objectives;
mod observe;
mod placement;
mod plan;
mod previous;
mod providers;
mod referenced;
mod rendered;
mod retry;
mod rollout;
pub mod run;
mod sample;
mod secrets;
mod status;
mod succession;
mod suspension;
mod tenant;
mod text;
mod time_limit;
mod usage;
mod wake;
pub mod waker;
mod watched;
mod workload;

pub use rendered::{RenderedBackend, RenderedObject, rendered_args, rendered_backends, rendered_objects};
