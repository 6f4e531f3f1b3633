//! The user service from outside: its REST and gRPC stories and its stores.

mod api;
mod cost;
mod store;
