//! What needs a running system, or is the same for every implementation of something.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod cache;
mod identity;
mod log;
mod profiles;
mod tls;
