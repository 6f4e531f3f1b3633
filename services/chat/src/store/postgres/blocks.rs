//! Who has blocked whom.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{
    changes::{self, locked_excerpt},
    outbox::newest_record,
};
use crate::{
    domain::{Block, Concern, MAX_BLOCKS, Refusal},
    store::Publication,
};

kit::row! {
    struct BlockRow {
        blocked_id: Uuid,
        blocked_at: DateTime<Utc>,
    }
}

kit::row! {
    struct PairRow {
        blocker_id: Uuid,
        blocked_id: Uuid,
    }
}

/// Makes what concerns the blocks of a pair and their direct chat happen one after the other, until the end of the transaction.
/// Locks of single users come before it, and those of chats behind it.
pub(super) async fn lock(
    connection: &mut PgConnection,
    one: UserId,
    other: UserId,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::TEXT || $2::TEXT, 1))")
        .bind(one.min(other).0)
        .bind(one.max(other).0)
        .execute(connection)
        .await
        .map(drop)
}

/// Returns whether there is a block between two users.
pub(super) async fn any_of(
    connection: &mut PgConnection,
    one: UserId,
    other: UserId,
) -> Result<bool, sqlx::Error> {
    Ok(!among(connection, one, &[other]).await?.is_empty())
}

/// Returns those of the others with whom the user has a block, in either direction.
pub(super) async fn among(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    others: &[UserId],
) -> Result<BTreeSet<UserId>, sqlx::Error> {
    let blocked: Vec<Uuid> = sqlx::query_scalar(
        "SELECT other FROM unnest($2::UUID[]) AS other, LATERAL (
             SELECT FROM blocks
             WHERE (blocker_id = $1 AND blocked_id = other) OR (blocker_id = other AND blocked_id = $1)
             LIMIT 1
         ) AS pair",
    )
    .bind(user_id.0)
    .bind(others.iter().map(|other| other.0).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    Ok(blocked.into_iter().map(UserId).collect())
}

/// Adds a block, unless there are too many.
pub(super) async fn add(
    connection: &mut PgConnection,
    user_id: UserId,
    blocked: UserId,
    at: DateTime<Utc>,
) -> Result<Result<Option<Publication>, Refusal>, sqlx::Error> {
    // One user's blocks are made one after the other, so that their number is exact.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::TEXT, 2))")
        .bind(user_id.0)
        .execute(&mut *connection)
        .await?;
    lock(connection, user_id, blocked).await?;
    let was_blocked = any_of(connection, user_id, blocked).await?;
    let inserted = sqlx::query(
        "INSERT INTO blocks (blocker_id, blocked_id, blocked_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(user_id.0)
    .bind(blocked.0)
    .bind(at)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() > 0 {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM blocks WHERE blocker_id = $1")
            .bind(user_id.0)
            .fetch_one(&mut *connection)
            .await?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_BLOCKS {
            return Ok(Err(Refusal::TooManyBlocks));
        }
    }
    publish(connection, (user_id, blocked), was_blocked, at).await.map(Ok)
}

/// Removes a block.
pub(super) async fn remove(
    connection: &mut PgConnection,
    user_id: UserId,
    blocked: UserId,
    at: DateTime<Utc>,
) -> Result<Option<Publication>, sqlx::Error> {
    lock(connection, user_id, blocked).await?;
    let was_blocked = any_of(connection, user_id, blocked).await?;
    sqlx::query("DELETE FROM blocks WHERE blocker_id = $1 AND blocked_id = $2")
        .bind(user_id.0)
        .bind(blocked.0)
        .execute(&mut *connection)
        .await?;
    publish(connection, (user_id, blocked), was_blocked, at).await
}

/// Publishes what a change of blocks means for the direct chat of the pair, if they have one. Returns what has to be in the log.
async fn publish(
    connection: &mut PgConnection,
    (one, other): (UserId, UserId),
    was_blocked: bool,
    at: DateTime<Utc>,
) -> Result<Option<Publication>, sqlx::Error> {
    let is_blocked = any_of(connection, one, other).await?;
    let chat_id: Option<Uuid> =
        sqlx::query_scalar("SELECT chat_id FROM chats WHERE low_user_id = $1 AND high_user_id = $2")
            .bind(one.min(other).0)
            .bind(one.max(other).0)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(chat_id) = chat_id.map(ChatId) else { return Ok(None) };
    if was_blocked != is_blocked
        && let Some(mut excerpt) = locked_excerpt(connection, chat_id, &Concern::of([one, other]), at).await?
    {
        let records = excerpt.standing(is_blocked);
        changes::publish(connection, &excerpt, &records).await?;
    }
    let newest = newest_record(connection, chat_id).await?;
    Ok(Some(Publication { chat_id, newest }))
}

/// Returns whom a user blocks, by id.
pub(super) async fn page(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<Block>, sqlx::Error> {
    let rows: Vec<BlockRow> = sqlx::query_as(
        "SELECT blocked_id, blocked_at FROM blocks
         WHERE blocker_id = $1 AND ($2::UUID IS NULL OR blocked_id > $2)
         ORDER BY blocked_id LIMIT $3",
    )
    .bind(user_id.0)
    .bind(after.map(|user| user.0))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(executor)
    .await?;
    let block = |row: BlockRow| Block { user_id: UserId(row.blocked_id), blocked_at: row.blocked_at };
    Ok(rows.into_iter().map(block).collect())
}

/// Returns blocks of a user and of others against them.
pub(super) async fn of_any(
    executor: impl PgExecutor<'_>,
    user_id: UserId,
    limit: usize,
) -> Result<Vec<(UserId, UserId)>, sqlx::Error> {
    let rows: Vec<PairRow> = sqlx::query_as(
        "(SELECT blocker_id, blocked_id FROM blocks WHERE blocker_id = $1 LIMIT $2)
         UNION ALL (SELECT blocker_id, blocked_id FROM blocks WHERE blocked_id = $1 LIMIT $2)
         LIMIT $2",
    )
    .bind(user_id.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| (UserId(row.blocker_id), UserId(row.blocked_id))).collect())
}
