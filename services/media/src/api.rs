//! The REST and gRPC surfaces.

mod avatars;
mod content;
mod files;
pub mod grpc;
mod previews;
mod problems;
mod streams;
mod uploads;

use std::{sync::Arc, time::Duration};

use axum::extract::FromRef;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    UserId,
    api::{self, FileLinks, FilePurpose},
};
use kit::docs::{self, OpenApiRouter, routes};
use tokio::sync::Notify;

pub use self::{streams::Streams, uploads::Uploads};
use crate::{
    chats::Chats,
    domain::{File, Link, LinkKey, Quotas, State, Variant},
    error::Error,
    metrics::Metrics,
    objects::Objects,
    preview::Previews,
    store::FileStore,
    users::Users,
};

/// How long a link is good. A client gets another one with the file.
const LINK_MINUTES: i64 = 5;
/// How long the requests of an upload are good: a part of 16 MiB takes so long at 20 KB/s.
const UPLOAD_VALIDITY: Duration = Duration::from_secs(15 * 60);
/// Chats that are looked at for whether a user may read a file: as many as the chat service checks with one call.
const MAX_READERS: usize = 1000;

/// What a request handler holds.
#[derive(Clone, FromRef)]
pub struct AppState {
    pub files: Files,
    pub uploads: Uploads,
    pub streams: Streams,
    pub signals: Signals,
    pub users: Users,
    pub previews: Previews,
}

/// Files and who may read them. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    pub store: Arc<dyn FileStore>,
    pub objects: Arc<dyn Objects>,
    pub chats: Chats,
    pub quotas: Quotas,
    pub links: LinkKey,
    pub metrics: Metrics,
}

/// What the tasks of this process are notified with, and what they notify. Cheap to clone.
#[derive(Clone, Default)]
pub struct Signals {
    /// There is a file to check.
    pub uploaded: Arc<Notify>,
    /// A file was checked.
    pub checked: Arc<Notify>,
    /// There is a file to remove.
    pub discarded: Arc<Notify>,
}

/// Returns the REST API with its state applied.
pub fn router(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(files::create))
        .routes(routes!(files::get, files::remove))
        .routes(routes!(files::complete))
        .routes(routes!(avatars::get))
        .routes(routes!(avatars::find))
        .routes(routes!(previews::create))
        .routes(routes!(content::get))
        .with_state(state)
}

impl Files {
    /// Reports whether a user may read a file at this moment.
    async fn is_readable(&self, file: &File, user: UserId, now: DateTime<Utc>) -> Result<bool, Error> {
        if !matches!(file.state, State::Ready(_)) {
            return Ok(false);
        }
        if file.owner == user {
            return Ok(true);
        }
        match file.purpose {
            FilePurpose::Avatar => Ok(true),
            FilePurpose::ChatPicture(chat) => self.chats.is_in(user, chat).await,
            FilePurpose::Chat(_) => {
                let readers = self.store.readers(file.file_id, now, MAX_READERS).await?;
                self.chats.is_among(user, &readers).await
            }
        }
    }

    /// Returns a file as a user sees it, with links when it is ready.
    fn shown(&self, file: &File, viewer: UserId, now: DateTime<Utc>) -> Result<api::File, Error> {
        let state = file.state.shown().ok_or(Error::NotFound(file.file_id))?;
        let facts = file.facts();
        let refused = match file.state {
            State::Refused(refusal) => Some(refusal),
            _ => None,
        };
        let media_type = facts.map_or(&file.declared.media_type, |facts| &facts.media_type);
        Ok(api::File {
            id: file.file_id,
            purpose: file.purpose,
            owner: file.owner,
            name: file.name.as_str().to_owned(),
            media_type: media_type.as_str().to_owned(),
            size: facts.map_or(file.declared.bytes, |facts| facts.bytes),
            state,
            refused,
            width: facts.and_then(|facts| facts.width),
            height: facts.and_then(|facts| facts.height),
            duration_ms: facts.and_then(|facts| facts.duration_ms),
            blur: facts.and_then(|facts| facts.blur.clone()),
            has_thumbnail: facts.is_some_and(|facts| facts.thumbnail.is_some()),
            created_at_ms: file.created_at.timestamp_millis(),
            upload: None,
            links: facts.map(|facts| self.links_of(file, facts.thumbnail.is_some(), viewer, now)),
        })
    }

    fn links_of(&self, file: &File, has_thumbnail: bool, viewer: UserId, now: DateTime<Utc>) -> FileLinks {
        let expires_at = now + TimeDelta::minutes(LINK_MINUTES);
        let path = |variant| {
            let link = Link { file_id: file.file_id, variant, user_id: viewer, expires_at };
            format!("/content/{}", self.links.token(&link))
        };
        FileLinks {
            content: path(Variant::Content),
            thumbnail: has_thumbnail.then(|| path(Variant::Thumbnail)),
            // The token has whole seconds.
            expires_at_ms: expires_at.timestamp() * 1000,
        }
    }
}
