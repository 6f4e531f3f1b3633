//! The auth service from outside: its REST stories, and its stores, a real realm among them.

mod api;
mod peers;
mod realm;
mod store;
