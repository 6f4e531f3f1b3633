//! The auth service from outside: its REST and gRPC stories, and its stores, a real realm among them.

mod api;
mod config;
mod peers;
mod realm;
mod store;
