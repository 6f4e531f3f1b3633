//! Accounts that are deleted, for services that keep something of their users.
//!
//! The user service lists deletions in their order. Every process of a service follows the list from a place that the store of that
//! service keeps; what is done twice changes nothing, so none of them leads.

use std::{
    error::Error,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contracts::{
    UserId,
    rpc::{self, ListDeletionsRequest, user_service_client::UserServiceClient},
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tonic::{Status, async_trait};

use crate::{
    backoff::Backoff,
    rounds,
    rpc::{InternalChannel, id},
};

/// After a failure.
const BACKOFF: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// A deletion is looked at again for this long: a request that began before it may still make something of the user, and a deletion that
/// began earlier may be listed after it.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// The place up to which a service has carried out the list. Cheap to clone. It is kept in memory unless a database is named.
#[derive(Clone, Debug, Default)]
pub struct Position(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Memory(Arc<Mutex<Option<String>>>),
    Postgres(PgPool),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Memory(Arc::default())
    }
}

impl Position {
    /// Returns the place that the table `deletions_position` of a service has.
    pub const fn in_postgres(pool: PgPool) -> Self {
        Self(Kept::Postgres(pool))
    }

    /// Returns the place; `None` before the first deletion is carried out.
    pub async fn get(&self) -> Result<Option<String>, sqlx::Error> {
        match &self.0 {
            Kept::Memory(position) => Ok(position.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Kept::Postgres(pool) => {
                sqlx::query_scalar("SELECT position FROM deletions_position").fetch_optional(pool).await
            }
        }
    }

    /// Notes that deletions up to this place are carried out.
    pub async fn set(&self, position: &str) -> Result<(), sqlx::Error> {
        match &self.0 {
            Kept::Memory(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(position.to_owned());
                Ok(())
            }
            Kept::Postgres(pool) => sqlx::query(
                "INSERT INTO deletions_position (position) VALUES ($1)
                 ON CONFLICT (is_only) DO UPDATE SET position = excluded.position",
            )
            .bind(position)
            .execute(pool)
            .await
            .map(drop),
        }
    }
}

/// What a service does for deleted accounts. A store does it, unless another service has to know.
#[async_trait]
pub trait Departures: Send + Sync {
    type Error;

    /// How often deletions are listed.
    const INTERVAL: Duration = Duration::from_secs(5);

    /// Returns the place that the store keeps.
    fn position(&self) -> Position;

    /// Removes what there is of a user. `is_settled` when it is for the last time.
    async fn erase(&self, user_id: UserId, is_settled: bool) -> Result<(), Self::Error>;
}

/// Why deletions were not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError<E> {
    #[error("failed to note which deletions of accounts are carried out")]
    Position(#[source] sqlx::Error),
    #[error("failed to list the deletions of accounts")]
    List(#[source] Box<Status>),
    #[error(transparent)]
    Erase(E),
}

/// A user whose account is deleted.
struct Deletion {
    user_id: UserId,
    /// Its place in the order.
    position: String,
    age: Duration,
}

/// Follows the list of the user service until `stop` is cancelled.
pub async fn follow<D>(users: UserServiceClient<InternalChannel>, departures: Arc<D>, stop: CancellationToken)
where
    D: Departures + ?Sized,
    D::Error: Error + 'static,
{
    let what = "following the deletion of accounts";
    let round = || catch_up(&users, &*departures);
    rounds::repeat(what, D::INTERVAL, Backoff::new(BACKOFF), &stop, round).await;
}

/// Carries out every deletion behind the place that the store keeps, and moves that place behind those that are settled.
pub async fn catch_up<D: Departures + ?Sized>(
    users: &UserServiceClient<InternalChannel>,
    departures: &D,
) -> Result<(), CatchUpError<D::Error>> {
    let place = departures.position();
    let mut after = place.get().await.map_err(CatchUpError::Position)?.unwrap_or_default();
    let mut is_settled = true;
    loop {
        let page = list(users, after).await.map_err(|status| CatchUpError::List(status.into()))?;
        let Some(last) = page.last().map(|deletion| deletion.position.clone()) else { return Ok(()) };
        let mut settled = None;
        for Deletion { user_id, position, age } in page {
            // What comes behind one that is not settled waits for it.
            is_settled &= age >= SETTLED_AFTER;
            departures.erase(user_id, is_settled).await.map_err(CatchUpError::Erase)?;
            if is_settled {
                settled = Some(position);
            }
        }
        // Only what is done is behind the place: a process that is killed does it again.
        if let Some(settled) = settled {
            place.set(&settled).await.map_err(CatchUpError::Position)?;
        }
        after = last;
    }
}

/// Returns the deletions behind a place in their order, or the first ones, as the user service has them.
async fn list(users: &UserServiceClient<InternalChannel>, after: String) -> Result<Vec<Deletion>, Status> {
    let request = ListDeletionsRequest { after, limit: 0, unfinished: false };
    let listed = users.clone().list_deletions(request).await?.into_inner().deletions;
    let deletion = |deletion: rpc::Deletion| {
        Ok(Deletion {
            user_id: id("user_id", &deletion.user_id)?,
            position: deletion.position,
            age: Duration::from_secs(u64::try_from(deletion.age_seconds).unwrap_or(0)),
        })
    };
    listed.into_iter().map(deletion).collect()
}
