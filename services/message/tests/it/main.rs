//! Stories on a real event log and a real store. They need `make up-backends` and `.local/stack.env`.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod api;
mod checker;
mod crashes;
mod order;
mod replays;
mod stand;
mod store;
mod sync;
