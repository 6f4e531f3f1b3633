//! The presence service from outside: replicas on a real Redis, and its stores. They need `make up-backends` and
//! `.local/stack.env`.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod cost;
mod gateway;
mod replicas;
mod samples;
mod stand;
mod store;
mod visibility;
