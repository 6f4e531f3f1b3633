//! The notification service from outside: its REST stories, its stores, and what it sends to real receivers.

#![allow(clippy::disallowed_methods, reason = "tests make names and times of their own")]

mod api;
mod banned;
mod broker;
mod carrier;
mod google;
mod peers;
mod rabbitmq;
mod sending;
mod sessions;
mod stand;
mod store;
mod tls;
