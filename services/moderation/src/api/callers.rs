//! Who is a moderator, and how often a user reports and appeals.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use contracts::UserId;
use kit::{
    auth::Caller,
    bucket::{Rate, SharedBuckets},
    error::ApiError,
};

use crate::error::Error;

/// A user who reports a flood, message by message, is not held up for long.
const RATE: Rate = Rate::every(Duration::from_secs(10), 20);

/// A moderator looks at one user after the other, and ends sessions one by one. Each of that is work for the realm, which all users share.
const SESSIONS_RATE: Rate = Rate::every(Duration::from_secs(1), 60);

/// The moderators of the tenant, by their usernames or ids. A username is never another user's once an account has it; one that no account has yet is that
/// of the first user who registers it, and an id is of no other user. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Moderators(Arc<[Named]>);

/// One of them, as the manifest names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Username(String),
    Id(UserId),
}

/// What comes before the id of a moderator. No username has a colon.
const ID: &str = "id:";

impl Moderators {
    /// Reads usernames, and ids behind `id:`, that are separated by commas. An id that is none is reported, and names no user.
    pub fn parse(names: &str) -> Self {
        let mut all = Vec::new();
        for name in names.split(',').map(|name| name.trim().to_lowercase()) {
            let named = match name.strip_prefix(ID).map(str::parse::<UserId>) {
                Some(Ok(id)) => Named::Id(id),
                Some(Err(_)) => {
                    tracing::error!(name, "{name} is no id of a moderator: it is id: and a UUID");
                    continue;
                }
                None if name.is_empty() => continue,
                None => Named::Username(name),
            };
            if !all.contains(&named) {
                all.push(named);
            }
        }
        Self(all.into())
    }

    /// Returns all of them, in their order.
    pub(super) fn named(&self) -> &[Named] {
        &self.0
    }

    /// Reports whether a caller is one of them.
    pub(crate) fn includes(&self, caller: &Caller) -> bool {
        self.names(caller.user_id, Some(&caller.username))
    }

    /// Reports whether a user is one of them. Without a username it is the id alone that says so.
    pub(crate) fn names(&self, user: UserId, username: Option<&str>) -> bool {
        // There are a hundred at most.
        self.0.iter().any(|named| match named {
            Named::Id(id) => *id == user,
            Named::Username(name) => username == Some(name.as_str()),
        })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Username(username) => f.write_str(username),
            Self::Id(id) => write!(f, "{ID}{id}"),
        }
    }
}

/// The caller of a request that is for moderators.
pub(super) struct Moderator(pub(super) UserId);

impl<S> FromRequestParts<S> for Moderator
where
    Moderators: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !Moderators::from_ref(state).includes(&caller) {
            return Err(Error::NotAModerator.into());
        }
        Ok(Self(caller.user_id))
    }
}

/// How often moderators asked about sessions lately through this process. Cheap to clone.
#[derive(Clone)]
pub struct SessionPace(SharedBuckets<UserId>);

impl SessionPace {
    /// Returns one at which nothing was asked.
    pub fn new(rate: Rate) -> Self {
        Self(SharedBuckets::new(rate))
    }
}

impl Default for SessionPace {
    fn default() -> Self {
        Self::new(SESSIONS_RATE)
    }
}

/// The caller of a request about sessions that is for moderators, which was counted.
pub(super) struct PacedModerator(pub(super) UserId);

impl<S> FromRequestParts<S> for PacedModerator
where
    Moderators: FromRef<S>,
    SessionPace: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Moderator(user) = Moderator::from_request_parts(parts, state).await?;
        let SessionPace(buckets) = SessionPace::from_ref(state);
        buckets.try_take(user, Instant::now()).map_err(|wait| Error::TooOften { wait })?;
        Ok(Self(user))
    }
}

/// What users reported and appealed lately through this process. Cheap to clone.
#[derive(Clone)]
pub struct Pace(SharedBuckets<UserId>);

impl Pace {
    /// Returns one at which nothing was reported.
    pub fn new(rate: Rate) -> Self {
        Self(SharedBuckets::new(rate))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(RATE)
    }
}

/// The caller of a report or an appeal, which was counted.
pub(super) struct ReportingCaller(pub(super) UserId);

impl<S> FromRequestParts<S> for ReportingCaller
where
    Pace: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Pace(buckets) = Pace::from_ref(state);
        buckets.try_take(caller.user_id, Instant::now()).map_err(|wait| Error::TooOften { wait })?;
        Ok(Self(caller.user_id))
    }
}
