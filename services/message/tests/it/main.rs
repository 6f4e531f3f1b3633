//! Stories on a real event log and a real store. They need `make up-backends` and `.local/stack.env`.

mod api;
mod checker;
mod crashes;
mod order;
mod stand;
mod store;
