//! How fast scheduled messages are sent, and when they were.

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId};
use kit::config::SendRates;
use sqlx::PgConnection;
use uuid::Uuid;

use super::rows::entry_id;
use crate::domain::{Pace, Rights, SLOW_REMEMBERED, Spent, Turn};

/// Rows that are forgotten with each change: more than one, so that they get fewer.
const FORGOTTEN_AT_ONCE: i64 = 200;

/// Puts what one user schedules and sends in one order, over all chats, until the transaction ends.
pub(super) async fn lock_user(connection: &mut PgConnection, user_id: UserId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('scheduled ' || $1::TEXT, 0))")
        .bind(user_id.0)
        .execute(connection)
        .await
        .map(drop)
}

/// Keeps everything else of the user and of the tenant from being sent until the transaction ends. These locks come last, and the tenant's
/// behind the user's.
pub(super) async fn lock(connection: &mut PgConnection, user_id: UserId) -> Result<(), sqlx::Error> {
    lock_user(&mut *connection, user_id).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('scheduled', 0))")
        .execute(connection)
        .await
        .map(drop)
}

/// Does so without a wait; false when another transaction has one of the two locks.
pub(super) async fn try_lock(connection: &mut PgConnection, user_id: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('scheduled ' || $1::TEXT, 0))
            AND pg_try_advisory_xact_lock(hashtextextended('scheduled', 0))",
    )
    .bind(user_id.0)
    .fetch_one(connection)
    .await
}

/// Returns what decides when messages of a user are sent in a chat that is locked, under the locks of [`lock`].
pub(super) async fn turn(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    (rights, rates): (Rights, SendRates),
) -> Result<Turn, sqlx::Error> {
    let last_sent: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT sent_at FROM scheduled_turns WHERE chat_id = $1 AND user_id = $2")
            .bind(chat_id.0)
            .bind(user_id.0)
            .fetch_optional(&mut *connection)
            .await?;
    let mut pace = Pace { rates, ..Pace::default() };
    let rows: Vec<(String, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT payer, sends_until, bytes_until FROM scheduled_spent
         WHERE (payer, payer_id) IN (('user', $1), ('chat', $2), ('tenant', $3))",
    )
    .bind(user_id.0)
    .bind(chat_id.0)
    .bind(Uuid::nil())
    .fetch_all(&mut *connection)
    .await?;
    for (payer, sends_until, bytes_until) in rows {
        let spent = Spent { sends_until, bytes_until };
        match payer.as_str() {
            "user" => pace.user = spent,
            "chat" => pace.chat = spent,
            _ => pace.tenant = spent,
        }
    }
    let place: Option<(Option<Uuid>, Option<Uuid>)> =
        sqlx::query_as("SELECT entry_sender_id, entry_key FROM members WHERE chat_id = $1 AND user_id = $2")
            .bind(chat_id.0)
            .bind(user_id.0)
            .fetch_optional(connection)
            .await?;
    let reads_from = place.and_then(|(sender, key)| entry_id(sender, key));
    Ok(Turn { rights, last_sent, pace, reads_from })
}

/// Writes what is known behind a message of the user that was sent now.
pub(super) async fn took(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    pace: &Pace,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO scheduled_turns (chat_id, user_id, sent_at) VALUES ($1, $2, $3)
         ON CONFLICT (chat_id, user_id) DO UPDATE SET sent_at = EXCLUDED.sent_at",
    )
    .bind(chat_id.0)
    .bind(user_id.0)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let Pace { rates: _, user, chat, tenant } = *pace;
    let all = [user, chat, tenant];
    sqlx::query(
        "INSERT INTO scheduled_spent (payer, payer_id, sends_until, bytes_until)
         SELECT payer, payer_id, sends_until, bytes_until
         FROM unnest($1::TEXT[], $2::UUID[], $3::TIMESTAMPTZ[], $4::TIMESTAMPTZ[])
              AS new (payer, payer_id, sends_until, bytes_until)
         ON CONFLICT (payer, payer_id) DO UPDATE
         SET sends_until = EXCLUDED.sends_until, bytes_until = EXCLUDED.bytes_until",
    )
    .bind(["user", "chat", "tenant"])
    .bind([user_id.0, chat_id.0, Uuid::nil()])
    .bind(all.map(|of| of.sends_until))
    .bind(all.map(|of| of.bytes_until))
    .execute(&mut *connection)
    .await?;
    // Some of whichever users, so that there are never many.
    sqlx::query(
        "DELETE FROM scheduled_turns WHERE (chat_id, user_id) IN (
             SELECT chat_id, user_id FROM scheduled_turns WHERE sent_at < $1
             ORDER BY sent_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now - SLOW_REMEMBERED)
    .bind(FORGOTTEN_AT_ONCE)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM scheduled_spent WHERE (payer, payer_id) IN (
             SELECT payer, payer_id FROM scheduled_spent WHERE greatest(sends_until, bytes_until) < $1
             ORDER BY greatest(sends_until, bytes_until) LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(now)
    .bind(FORGOTTEN_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(())
}
