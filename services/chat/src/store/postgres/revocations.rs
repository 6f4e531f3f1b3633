//! Links that let nobody in any more.

use contracts::{ChatId, InviteId};
use sqlx::PgConnection;
use uuid::Uuid;

/// Revokes links of the chat $1; a condition follows. Another code stands in for theirs, which leads nowhere.
macro_rules! revoke {
    () => {
        "UPDATE invites SET revoked_at = now(), code_hash = sha256(code_hash)
         WHERE chat_id = $1 AND revoked_at IS NULL"
    };
}

/// Revokes one link of a chat.
pub(super) async fn revoke(
    connection: &mut PgConnection,
    chat_id: ChatId,
    invite_id: InviteId,
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(revoke!(), " AND invite_id = $2"))
        .bind(chat_id.0)
        .bind(invite_id.0)
        .execute(connection)
        .await
        .map(drop)
}

/// Revokes the links of users who may not make any now.
pub(super) async fn revoke_of(
    connection: &mut PgConnection,
    chat_id: ChatId,
    makers: Vec<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(revoke!(), " AND made_by_user_id = ANY ($2)"))
        .bind(chat_id.0)
        .bind(makers)
        .execute(connection)
        .await
        .map(drop)
}
