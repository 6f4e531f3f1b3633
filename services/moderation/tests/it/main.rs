//! The moderation service from outside: its REST stories, its stores, and what it makes of the log.

#![allow(clippy::disallowed_methods, reason = "tests make names and times of their own")]

mod api;
mod classifier;
mod log;
mod stand;
mod store;
