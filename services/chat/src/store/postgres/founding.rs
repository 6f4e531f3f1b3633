//! New chats, and what they were created from.

use contracts::ChatId;
use kit::idempotency::IdempotencyKey;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    changes::{locked_excerpt, make},
    outbox::newest_record,
    reads::chat,
};
use crate::{
    domain::{self, Concern, Founding, Limits, NewChat, Refusal},
    store::{Created, Publication, StoreError},
};

kit::row! {
    pub(super) struct FoundingRow {
        chat_id: Uuid,
        founding_digest: Option<Vec<u8>>,
    }
}

/// Returns the direct chat that the pair has, with both in it, or the group that the founder has created with the same key.
/// `is_blocked` says whether the pair has a block between them.
pub(super) async fn created_before(
    connection: &mut PgConnection,
    limits: &Limits,
    new: &NewChat,
    is_blocked: bool,
) -> Result<Option<Created>, StoreError> {
    let failed = |source| StoreError::Create { chat_id: new.chat_id, source };
    let Some(FoundingRow { chat_id, founding_digest }) = founded(connection, new).await.map_err(failed)?
    else {
        return Ok(None);
    };
    if founding_digest.is_some_and(|digest| digest != new.digest()) {
        return Err(Refusal::KeyReused.into());
    }
    let chat_id = ChatId(chat_id);
    let mut publication = Publication { chat_id, newest: None };
    if let Founding::Direct { other } = new.founding {
        let (founder, at) = (new.founder, new.created_at);
        let concern = Concern::of([founder, other]);
        let excerpt = locked_excerpt(connection, chat_id, &concern, at).await.map_err(failed)?;
        let mut excerpt = excerpt.ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
        let back = domain::reopen(&excerpt, founder, other, is_blocked)?;
        make(connection, limits, &mut excerpt, (founder, &back), at).await.map_err(failed)??;
        // The records of a chat that no one has ever left need not be waited for.
        if excerpt.members.iter().any(|member| member.reads_from.is_some()) {
            publication.newest = newest_record(connection, chat_id).await.map_err(failed)?;
        }
    }
    let chat = chat(connection, chat_id, new.founder).await.map_err(failed)?;
    Ok(Some(Created { chat: chat.ok_or(Refusal::NotAMember(chat_id))?, fresh: false, publication }))
}

pub(super) async fn founded(
    connection: &mut PgConnection,
    new: &NewChat,
) -> Result<Option<FoundingRow>, sqlx::Error> {
    let (low, high) = new.pair().unzip();
    sqlx::query_as(
        "SELECT chat_id, founding_digest FROM chats
         WHERE (low_user_id = $1 AND high_user_id = $2) OR (founder_id = $3 AND idempotency_key = $4)",
    )
    .bind(low.map(|user| user.0))
    .bind(high.map(|user| user.0))
    .bind(new.founder.0)
    .bind(new.group_key().map(IdempotencyKey::as_str))
    .fetch_optional(connection)
    .await
}
