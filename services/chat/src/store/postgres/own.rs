//! How members have their chats.

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId};
use sqlx::PgConnection;

use super::{
    outbox::enqueue,
    rows::{OwnRow, own_columns},
};
use crate::domain::{MAX_DRAFTS, OwnState, OwnUpdate, Refusal, own_state};

/// Changes how a member has a chat, and publishes it. Changes at the same time happen one after the other.
pub(super) async fn update_own(
    connection: &mut PgConnection,
    (chat_id, member): (ChatId, UserId),
    update: &OwnUpdate,
    at: DateTime<Utc>,
) -> Result<Result<Option<OwnState>, Refusal>, sqlx::Error> {
    let Some(before) = locked(connection, chat_id, member).await? else { return Ok(Ok(None)) };
    let own = before.after(update, at);
    if own.version == before.version {
        return Ok(Ok(Some(own)));
    }
    let is_new = before.draft.is_none() && own.draft.is_some();
    if is_new && drafts(connection, member).await? >= MAX_DRAFTS {
        return Ok(Err(Refusal::TooManyDrafts));
    }
    write(connection, (chat_id, member), &own).await?;
    Ok(Ok(Some(own)))
}

/// Reads how a member has a chat, and locks it.
pub(super) async fn locked(
    connection: &mut PgConnection,
    chat_id: ChatId,
    member: UserId,
) -> Result<Option<OwnState>, sqlx::Error> {
    let row: Option<OwnRow> = sqlx::query_as(concat!(
        "SELECT ",
        own_columns!(),
        " FROM members WHERE chat_id = $1 AND user_id = $2 FOR UPDATE",
    ))
    .bind(chat_id.0)
    .bind(member.0)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(OwnState::from))
}

/// Writes how a member has a chat whose row is locked, and publishes it: of two records the later one has the greater id.
pub(super) async fn write(
    connection: &mut PgConnection,
    (chat_id, member): (ChatId, UserId),
    own: &OwnState,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE members SET own_version = $3, muted_until = $4, is_archived = $5, is_favourite = $6,
                            own_changed_at = $7, draft_body = $8, draft_reply_to = $9,
                            scheduled_count = $10, scheduled_refused_count = $11
         WHERE chat_id = $1 AND user_id = $2",
    )
    .bind(chat_id.0)
    .bind(member.0)
    .bind(own.version)
    .bind(own.muted_until)
    .bind(own.is_archived)
    .bind(own.is_favourite)
    .bind(own.changed_at)
    .bind(own.draft.as_ref().map(|draft| &draft.body))
    .bind(own.draft.as_ref().and_then(|draft| draft.reply_to))
    .bind(i32::try_from(own.scheduled.waiting).expect("they are limited"))
    .bind(i32::try_from(own.scheduled.refused).expect("they are limited"))
    .execute(&mut *connection)
    .await?;
    enqueue(connection, &own_state(chat_id, member, own)).await
}

/// Returns how many drafts a user has. New ones of one user are counted one after the other.
async fn drafts(connection: &mut PgConnection, user: UserId) -> Result<usize, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('draft ' || $1::TEXT, 0))")
        .bind(user.0)
        .execute(&mut *connection)
        .await?;
    let drafts: i64 =
        sqlx::query_scalar("SELECT count(*) FROM members WHERE user_id = $1 AND draft_body IS NOT NULL")
            .bind(user.0)
            .fetch_one(connection)
            .await?;
    Ok(usize::try_from(drafts).unwrap_or(usize::MAX))
}
