//! How members have their chats.

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId};
use sqlx::PgConnection;

use crate::domain::{OwnState, OwnUpdate};

kit::row! {
    struct OwnRow {
        own_version: i64,
        muted_until: Option<DateTime<Utc>>,
        is_archived: bool,
        is_favourite: bool,
    }
}

/// Changes how a member has a chat. Changes at the same time happen one after the other.
pub(super) async fn update_own(
    connection: &mut PgConnection,
    chat_id: ChatId,
    member: UserId,
    update: &OwnUpdate,
) -> Result<Option<OwnState>, sqlx::Error> {
    let row: Option<OwnRow> = sqlx::query_as(
        "SELECT own_version, muted_until, is_archived, is_favourite FROM members
         WHERE chat_id = $1 AND user_id = $2 FOR UPDATE",
    )
    .bind(chat_id.0)
    .bind(member.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(OwnRow { own_version: version, muted_until, is_archived, is_favourite }) = row else {
        return Ok(None);
    };
    let own = OwnState { version, muted_until, is_archived, is_favourite }.after(update);
    if own.version != version {
        sqlx::query(
            "UPDATE members SET own_version = $3, muted_until = $4, is_archived = $5, is_favourite = $6
             WHERE chat_id = $1 AND user_id = $2",
        )
        .bind(chat_id.0)
        .bind(member.0)
        .bind(own.version)
        .bind(own.muted_until)
        .bind(own.is_archived)
        .bind(own.is_favourite)
        .execute(connection)
        .await?;
    }
    Ok(Some(own))
}
