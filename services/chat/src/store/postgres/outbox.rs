//! The outbox.

use chrono::{DateTime, Utc};
use contracts::ChatId;
use kit::catalog::Topic;
use sqlx::{PgConnection, PgPool};

use super::rows::unknown;
use crate::{
    domain::OutboxRecord,
    store::{Published, PublishedPlace},
};

/// The PostgreSQL channel that announces new rows of the outbox.
pub const WAKE_CHANNEL: &str = "chat_outbox";

kit::row! {
    pub(super) struct OutboxRow {
        topic: String,
        record_key: String,
        payload: Option<String>,
    }
}

/// Returns the id of the newest record about a chat that is not yet published. Every record key begins with the chat.
pub(super) async fn newest_record(
    connection: &mut PgConnection,
    chat_id: ChatId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(outbox_id) FROM outbox WHERE left(record_key, 36) = $1")
        .bind(chat_id.to_string())
        .fetch_one(connection)
        .await
}

/// Adds the records to the outbox in their order and wakes its publisher when the transaction commits.
pub(super) async fn enqueue(
    connection: &mut PgConnection,
    records: &[OutboxRecord],
) -> Result<(), sqlx::Error> {
    let topics: Vec<_> = records.iter().map(|record| record.topic.name).collect();
    let keys: Vec<_> = records.iter().map(|record| record.key.as_str()).collect();
    let payloads: Vec<_> = records.iter().map(|record| record.payload.as_deref()).collect();
    sqlx::query(
        "INSERT INTO outbox (topic, record_key, payload)
         SELECT topic, record_key, payload
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[])
              WITH ORDINALITY AS new (topic, record_key, payload, place)
         ORDER BY place",
    )
    .bind(topics)
    .bind(keys)
    .bind(payloads)
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(WAKE_CHANNEL).execute(connection).await?;
    Ok(())
}

/// Returns what was published behind a place, in pages.
pub(super) async fn published(
    pool: &PgPool,
    from: Option<PublishedPlace>,
    limit: usize,
) -> Result<Published, sqlx::Error> {
    if let Some(from) = from
        && let Some(page) = following(pool, from, limit).await?
    {
        return Ok(page);
    }
    let newest = "SELECT published_id, published_at FROM published ORDER BY published_id DESC LIMIT 1";
    let newest: Option<(i64, DateTime<Utc>)> = sqlx::query_as(newest).fetch_optional(pool).await?;
    let place = newest.map(|(id, at)| PublishedPlace { id, at: Some(at) });
    Ok(Published { place, ..Published::default() })
}

/// Returns the page behind a place; nothing when the record there is forgotten, or another one. Place and page are of one moment, or records
/// between the two could be forgotten meanwhile.
async fn following(
    pool: &PgPool,
    from: PublishedPlace,
    limit: usize,
) -> Result<Option<Published>, sqlx::Error> {
    // Five seconds are for the log itself. The list ends before the first record that is younger: a clock that was set back gives later
    // records older times. What it has in the future is not young.
    let rows: Vec<(i64, DateTime<Utc>, String, String)> = sqlx::query_as(
        "SELECT published_id, published_at, record_key, payload FROM published
         WHERE published_id >= (SELECT published_id FROM published
                                WHERE published_id = $1 AND ($2::TIMESTAMPTZ IS NULL OR published_at = $2))
           AND (published_id = $1
                OR published_id < coalesce(
                    (SELECT min(published_id) FROM (
                         SELECT published_id FROM published
                         WHERE published_at > now() - INTERVAL '5 seconds' AND published_at <= clock_timestamp()
                         OFFSET 0) AS young),
                    9223372036854775807))
         ORDER BY published_id LIMIT $3",
    )
    .bind(from.id)
    .bind(from.at)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
    .fetch_all(pool)
    .await?;
    let Some((id, at, _, _)) = rows.last() else { return Ok(None) };
    let place = Some(PublishedPlace { id: *id, at: Some(*at) });
    let more = rows.len() > limit;
    // The first is the place itself.
    let records = rows.into_iter().skip(1).map(|(_, _, key, payload)| (key, payload)).collect();
    Ok(Some(Published { records, place, follows: true, more }))
}

impl TryFrom<OutboxRow> for OutboxRecord {
    type Error = sqlx::Error;

    fn try_from(row: OutboxRow) -> Result<Self, Self::Error> {
        let topic = Topic::parse(&row.topic).ok_or_else(|| unknown("topic", &row.topic))?;
        Ok(Self { topic, key: row.record_key, payload: row.payload })
    }
}
