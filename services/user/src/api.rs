//! The REST and gRPC surfaces.

mod contacts;
mod erasures;
pub mod grpc;
mod me;
mod settings;
mod users;

use std::sync::Arc;

use chrono::Utc;
use contracts::api::{OwnProfile, UserProfile, UserStatus};
use kit::{
    auth::Caller,
    docs::{self, OpenApiRouter, routes},
};

use crate::{
    domain::{Newcomer, Profile, Status},
    error::Error,
    shown::Shown,
    store::ProfileStore,
};

/// Returns the REST API with its state applied.
pub fn router(shown: Shown) -> OpenApiRouter {
    docs::router()
        .routes(routes!(me::get, me::update))
        .routes(routes!(settings::get, settings::put))
        .routes(routes!(contacts::list))
        .routes(routes!(contacts::put, contacts::remove))
        .routes(routes!(erasures::get))
        .routes(routes!(users::get))
        .routes(routes!(users::search))
        .with_state(shown)
}

/// Returns the caller's profile, which their first request creates. A caller whose account is deleted is refused, whatever
/// time the token has left.
#[expect(clippy::disallowed_methods, reason = "an edge: the time of the request")]
async fn ensured(store: &Arc<dyn ProfileStore>, caller: &Caller) -> Result<Profile, Error> {
    let newcomer = Newcomer::parse(caller.user_id, &caller.username, "")?;
    let profile = store.ensure(&newcomer, Utc::now()).await?;
    if profile.is_deleted { Err(Error::Deleted) } else { Ok(profile) }
}

impl From<Profile> for OwnProfile {
    fn from(profile: Profile) -> Self {
        Self {
            contactable_by: profile.contactable_by,
            presence_visible_to: profile.presence_visible_to,
            read_receipts: profile.read_receipts,
            profile: profile.into(),
        }
    }
}

impl From<Profile> for UserProfile {
    #[expect(clippy::disallowed_methods, reason = "an edge: whether a status has expired")]
    fn from(profile: Profile) -> Self {
        let status = profile.status_at(Utc::now()).cloned();
        Self {
            status: status.map(UserStatus::from),
            user_id: profile.user_id,
            username: profile.username,
            display_name: profile.display_name,
            about: profile.about,
            deleted: profile.is_deleted,
        }
    }
}

impl From<Status> for UserStatus {
    fn from(status: Status) -> Self {
        let Status { text, emoji, expires_at } = status;
        Self { text, emoji, expires_at_ms: expires_at.map(|at| at.timestamp_millis()) }
    }
}
