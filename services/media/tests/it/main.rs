//! The media service from outside: its REST and gRPC stories, its stores, and what it follows.

#![allow(clippy::disallowed_methods, reason = "tests make names and times of their own")]

mod api;
mod log;
mod objects;
mod peers;
mod stand;
mod store;
