//! The REST and gRPC surfaces.

mod blocks;
mod changes;
mod chats;
pub mod grpc;
mod invites;
mod joining;
mod members;
mod problems;
mod scheduled;
mod users;

use std::{sync::Arc, time::Duration};

use axum::extract::FromRef;
use kit::docs::{self, OpenApiRouter, routes};

pub use self::{
    changes::{Changes, Drafts},
    invites::Guesses,
    users::Users,
};
use crate::{scheduled::Alarm, store::ChatStore};

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub store: Arc<dyn ChatStore>,
    pub users: Users,
    pub patience: Patience,
    pub changes: Changes,
    pub drafts: Drafts,
    pub guesses: Guesses,
    pub alarm: Alarm,
}

/// How long the response to a change waits for the event log.
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

impl Default for Patience {
    /// A publisher that was killed is replaced within this time.
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(chats::create, chats::list))
        .routes(routes!(chats::get, chats::update, chats::delete))
        .routes(routes!(chats::update_own))
        .routes(routes!(members::list, members::add))
        .routes(routes!(members::put, members::remove))
        .routes(routes!(members::leave))
        .routes(routes!(joining::public))
        .routes(routes!(joining::join))
        .routes(routes!(joining::requests))
        .routes(routes!(joining::approve, joining::decline))
        .routes(routes!(invites::create, invites::list))
        .routes(routes!(invites::revoke))
        .routes(routes!(invites::preview))
        .routes(routes!(invites::join))
        .routes(routes!(scheduled::create, scheduled::list))
        .routes(routes!(scheduled::replace, scheduled::cancel))
        .routes(routes!(scheduled::send))
        .routes(routes!(blocks::list))
        .routes(routes!(blocks::block, blocks::unblock))
        .with_state(state)
}
