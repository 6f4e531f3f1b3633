//! How often one user changes chats.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use contracts::{ChatId, UserId};
use kit::{
    auth::Caller,
    bucket::{Buckets, Rate, SharedBuckets},
    error::ApiError,
};

use crate::error::Error;

/// An admin who adds the members of a group one by one is not held up, and a program that adds and removes, leaves and comes back, or
/// gives and takes a role, makes fewer records and entries than it may send messages.
const RATE: Rate = Rate::every(Duration::from_millis(50), 200);

/// How often one user joins chats, by whichever way: as many at once as a user who is new somewhere, and more than anyone reads.
const JOINS: Rate = Rate::every(Duration::from_secs(30), 30);
/// How often one user joins one chat: each time is an entry that all its members receive, and so is each departure.
const JOINS_OF_CHAT: Rate = Rate::every(Duration::from_secs(60), 5);
/// What a client writes while its user types: some pages of a text, as fast as a user leaves fields.
const DRAFTS: Rate = Rate::every(Duration::from_millis(500), 20);

/// The changes that users made lately through this process. Cheap to clone.
#[derive(Clone)]
pub struct Changes {
    all: SharedBuckets<UserId>,
    joins: Arc<Mutex<Joins>>,
}

/// How often users join chats by themselves.
struct Joins {
    all: Buckets<UserId>,
    of_chat: Buckets<(UserId, ChatId)>,
}

impl Changes {
    /// Returns changes of which none was made.
    pub fn new(rate: Rate) -> Self {
        Self {
            all: SharedBuckets::new(rate),
            joins: Arc::new(Mutex::new(Joins {
                all: Buckets::new(JOINS),
                of_chat: Buckets::new(JOINS_OF_CHAT),
            })),
        }
    }

    /// Counts a change; an error is the time to wait, and counts nothing.
    pub(super) fn take(&self, user: UserId, now: Instant) -> Result<(), Duration> {
        self.all.try_take(user, now)
    }

    /// Counts that a user joins a chat by themselves, by whichever way; an error is the time to wait, and counts nothing. What the chat
    /// refuses then has counted: it costs as much. Each process counts for itself.
    pub(super) fn join(&self, user: UserId, chat: ChatId, now: Instant) -> Result<(), Error> {
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = [joins.all.wait(&user, now), joins.of_chat.wait(&(user, chat), now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(Error::TooManyJoins { wait });
        }
        joins.all.take(user, now);
        joins.of_chat.take((user, chat), now);
        Ok(())
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new(RATE)
    }
}

/// The changes of drafts that users made lately through this process: each is a record with a text. Cheap to clone.
#[derive(Clone)]
pub struct Drafts(pub(super) Changes);

impl Default for Drafts {
    fn default() -> Self {
        Self(Changes::new(DRAFTS))
    }
}

/// The caller of a request that changes something, which was counted.
pub(super) struct ChangingCaller(pub(super) Caller);

impl<S> FromRequestParts<S> for ChangingCaller
where
    Changes: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let counted = Changes::from_ref(state).take(caller.user_id, Instant::now());
        counted.map_err(|wait| Error::TooManyChanges { wait })?;
        Ok(Self(caller))
    }
}
