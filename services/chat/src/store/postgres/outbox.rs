//! The outbox.

use contracts::ChatId;
use kit::catalog::Topic;
use sqlx::{PgConnection, PgPool};

use super::rows::unknown;
use crate::{domain::OutboxRecord, store::Published};

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
pub(super) async fn published(pool: &PgPool, after: i64, limit: usize) -> Result<Published, sqlx::Error> {
    // Five seconds are for the log itself. Who begins may have read the database up to a minute ago.
    let page: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT published_id, record_key, payload FROM published
         WHERE published_id > $1 AND published_at <= now() - INTERVAL '5 seconds'
           AND ($1 > 0 OR published_at > now() - INTERVAL '1 minute')
         ORDER BY published_id LIMIT $2",
    )
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let last = match page.last() {
        Some((last, _, _)) => *last,
        // Of a database that was created again, whose ids are smaller, it goes on where that is.
        None => {
            let newest = "SELECT coalesce(last_value, 0) FROM pg_sequences
                          WHERE schemaname = current_schema() AND sequencename = 'published_published_id_seq'";
            let newest: Option<i64> = sqlx::query_scalar(newest).fetch_optional(pool).await?;
            newest.map_or(after, |newest| after.min(newest))
        }
    };
    Ok(Published { records: page.into_iter().map(|(_, key, payload)| (key, payload)).collect(), last })
}

impl TryFrom<OutboxRow> for OutboxRecord {
    type Error = sqlx::Error;

    fn try_from(row: OutboxRow) -> Result<Self, Self::Error> {
        let topic = Topic::parse(&row.topic).ok_or_else(|| unknown("topic", &row.topic))?;
        Ok(Self { topic, key: row.record_key, payload: row.payload })
    }
}
