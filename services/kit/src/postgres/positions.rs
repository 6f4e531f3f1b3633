//! How far the partitions of the one topic that a service follows are read: a table `positions` of its schema.

use std::collections::HashMap;

use sqlx::{PgExecutor, PgPool};

/// Returns the offset at which each of these partitions goes on, or `None` where none is noted. From then on each has a row.
pub async fn read(pool: &PgPool, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, sqlx::Error> {
    sqlx::query(
        "INSERT INTO positions (partition) SELECT unnest($1::INT[]) ON CONFLICT (partition) DO NOTHING",
    )
    .bind(partitions)
    .execute(pool)
    .await?;
    let rows: Vec<(i32, Option<i64>)> =
        sqlx::query_as("SELECT partition, next_offset FROM positions WHERE partition = ANY ($1)")
            .bind(partitions)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Notes the offset at which a partition goes on.
pub async fn advance(
    executor: impl PgExecutor<'_>,
    partition: i32,
    next_offset: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO positions (partition, next_offset) VALUES ($1, $2)
         ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset",
    )
    .bind(partition)
    .bind(next_offset)
    .execute(executor)
    .await
    .map(drop)
}
