//! Stories on a real event log and a real cache. They need `make up-backends` and `.local/stack.env`.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod changes;
mod client;
mod connections;
mod docs;
mod drain;
mod files;
mod frames;
mod lost;
mod memory;
mod outage;
mod peers;
mod presence;
mod rates;
mod readers;
mod restricted;
mod sessions;
mod stand;
mod stomp;
mod streams;
mod sync;
mod talk;
mod times;
mod tokens;
