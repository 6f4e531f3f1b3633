//! How often one user searches.

use std::time::{Duration, Instant};

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

/// A client that searches with each letter that is typed is not held up.
const RATE: Rate = Rate::every(Duration::from_millis(500), 30);

/// The searches that users began lately in this process. Cheap to clone.
#[derive(Clone)]
pub struct Searches(SharedBuckets<UserId>);

impl Searches {
    /// Returns searches of which none was begun.
    pub fn new(rate: Rate) -> Self {
        Self(SharedBuckets::new(rate))
    }
}

impl Default for Searches {
    fn default() -> Self {
        Self::new(RATE)
    }
}

/// The caller of a search, which was counted.
pub(super) struct SearchingCaller(pub(super) Caller);

impl<S> FromRequestParts<S> for SearchingCaller
where
    Searches: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let Searches(buckets) = Searches::from_ref(state);
        let counted = buckets.try_take(caller.user_id, Instant::now());
        counted.map_err(|wait| Error::TooOften { wait })?;
        Ok(Self(caller))
    }
}
