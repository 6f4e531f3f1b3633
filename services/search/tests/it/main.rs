//! The search service from outside: its REST stories, how its index is filled, and its engines. The stories of the real log need
//! `make up-backends` and `.local/stack.env`, and those of the real OpenSearch `WITH=opensearch`.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod api;
mod building;
mod kafka;
mod names;
mod opensearch;
mod rebuilding;
mod stand;
mod store;
mod stories;
