//! The operator: keeps every tenant as its [`crds::MessengerTenant`] says, in Kubernetes and in the five shared systems.
//!
//! Reading order: [`controller`] has the six steps of a pass, [`tenant`] what a valid tenant is, [`desired`] what should
//! exist for it, [`plan`] what differs, [`status`] how it is told.
//!
//! Invariant: only [`observe`], [`apply`] and [`backend`] do I/O; everything in between is pure and snapshot-tested on
//! every example.

pub mod apply;
pub mod backend;
pub mod catalog;
pub mod config;
pub mod controller;
pub mod desired;
pub mod events;
pub mod leader;
pub mod management;
pub mod metrics;
pub mod observe;
pub mod placement;
pub mod plan;
mod rendered;
pub mod retry;
pub mod run;
pub mod secrets;
pub mod status;
pub mod tenant;

pub use rendered::{example_tenant, rendered_args};
