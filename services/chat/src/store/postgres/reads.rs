//! Chats as their members see them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId, event::Role};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::rows::{
    MemberRow, MembershipRow, OwnedChatRow, SeatRow, chat_columns, entry_id, kind_of, place_columns,
};
use crate::domain::{Chat, Member, Membership, NamedChat, Restriction, Rights, Seat};

/// Returns the memberships of a user in these chats, or all of them when none is named.
pub(super) async fn memberships_of(
    pool: &PgPool,
    user_id: UserId,
    among: &[ChatId],
) -> Result<Vec<Membership>, sqlx::Error> {
    const ALL: &str = concat!(
        "SELECT ",
        chat_columns!(),
        place_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE user_id = $1"
    );
    // A text of its own: one for both would be planned for all.
    const SOME: &str = concat!(
        "SELECT ",
        chat_columns!(),
        place_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE user_id = $1 AND chat_id = ANY($2)"
    );
    let query = match among {
        [] => sqlx::query_as(ALL).bind(user_id.0),
        among => {
            let among: Vec<Uuid> = among.iter().map(|chat| chat.0).collect();
            sqlx::query_as(SOME).bind(user_id.0).bind(among)
        }
    };
    let rows: Vec<MembershipRow> = query.fetch_all(pool).await?;
    rows.into_iter().map(|row| row.of(user_id)).collect()
}

/// Returns all seats of a user. Columns are taken by their place, because there may be thousands of rows.
pub(super) async fn seats_of(pool: &PgPool, user_id: UserId) -> Result<Vec<Seat>, sqlx::Error> {
    type Columns = (Uuid, DateTime<Utc>, Option<Uuid>, Option<Uuid>, Option<DateTime<Utc>>);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT chat_id, joined_at, entry_sender_id, entry_key, own_changed_at FROM members WHERE user_id = $1",
    )
    .bind(user_id.0)
    .fetch_all(pool)
    .await?;
    let seats = rows.into_iter().map(|(chat_id, joined_at, sender, key, own_changed_at)| Seat {
        chat_id: ChatId(chat_id),
        joined_at,
        reads_from: entry_id(sender, key),
        own_changed_at,
    });
    Ok(seats.collect())
}

/// Returns where moderators let a user write nothing now.
pub(super) async fn restrictions_of(pool: &PgPool, user_id: UserId) -> Result<Vec<Restriction>, sqlx::Error> {
    let rows: Vec<(Uuid, DateTime<Utc>, bool)> = sqlx::query_as(
        "SELECT chat_id, restricted_until, is_ban FROM restrictions
         WHERE user_id = $1 AND restricted_until > now()",
    )
    .bind(user_id.0)
    .fetch_all(pool)
    .await?;
    let restriction = |(chat_id, until, is_ban): (Uuid, DateTime<Utc>, bool)| Restriction {
        chat_id: (!chat_id.is_nil()).then_some(ChatId(chat_id)),
        until,
        is_ban,
    };
    Ok(rows.into_iter().map(restriction).collect())
}

/// Returns what the newest chats of a user are called, the newest first. Columns are taken by their place, as those of seats are.
pub(super) async fn names_of(
    pool: &PgPool,
    user_id: UserId,
    limit: usize,
) -> Result<Vec<NamedChat>, sqlx::Error> {
    type Columns = (Uuid, String, Option<String>, Option<Uuid>);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT chat_id, kind, title, CASE WHEN low_user_id = $1 THEN high_user_id ELSE low_user_id END
         FROM members JOIN chats USING (chat_id)
         WHERE user_id = $1
         ORDER BY chat_id DESC LIMIT $2",
    )
    .bind(user_id.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await?;
    let named = rows.into_iter().map(|(chat_id, kind, title, other)| {
        Ok(NamedChat { chat_id: ChatId(chat_id), kind: kind_of(&kind)?, title, other: other.map(UserId) })
    });
    named.collect()
}

/// Returns the first chats of the tenant behind `after`, by id.
pub(super) async fn all_chats(
    pool: &PgPool,
    after: Option<ChatId>,
    limit: usize,
) -> Result<Vec<ChatId>, sqlx::Error> {
    let after = after.map_or(Uuid::nil(), |chat| chat.0);
    let chats: Vec<Uuid> =
        sqlx::query_scalar("SELECT chat_id FROM chats WHERE chat_id > $1 ORDER BY chat_id LIMIT $2")
            .bind(after)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await?;
    Ok(chats.into_iter().map(ChatId).collect())
}

pub(super) async fn chat(
    connection: &mut PgConnection,
    chat_id: ChatId,
    member: UserId,
) -> Result<Option<Chat>, sqlx::Error> {
    let row: Option<OwnedChatRow> = sqlx::query_as(concat!(
        "SELECT ",
        chat_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE chat_id = $1 AND user_id = $2"
    ))
    .bind(chat_id.0)
    .bind(member.0)
    .fetch_optional(connection)
    .await?;
    row.map(Chat::try_from).transpose()
}

/// Returns the members of a chat behind `after`, by id: all of them, or those with a role.
pub(super) async fn members(
    executor: impl PgExecutor<'_>,
    chat_id: ChatId,
    (role, after): (Option<Role>, Option<UserId>),
    limit: usize,
) -> Result<Vec<Member>, sqlx::Error> {
    let rows: Vec<MemberRow> = sqlx::query_as(
        "SELECT user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id FROM members
         WHERE chat_id = $1 AND user_id > $2 AND ($3::TEXT IS NULL OR role = $3)
         ORDER BY user_id LIMIT $4",
    )
    .bind(chat_id.0)
    .bind(after.map_or(Uuid::nil(), |user| user.0))
    .bind(role.map(Role::as_str))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Member::try_from).collect()
}

/// Returns those of these users who are in a chat, by id.
pub(super) async fn members_among(
    connection: &mut PgConnection,
    chat_id: ChatId,
    users: &BTreeSet<UserId>,
) -> Result<Vec<Member>, sqlx::Error> {
    let rows: Vec<MemberRow> = sqlx::query_as(
        "SELECT user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
         FROM members WHERE chat_id = $1 AND user_id = ANY ($2) ORDER BY user_id",
    )
    .bind(chat_id.0)
    .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Member::try_from).collect()
}

/// Returns what holds for each of these users in the chat, in their order.
pub(super) async fn rights(
    executor: impl PgExecutor<'_>,
    seats: &[(ChatId, UserId)],
) -> Result<Vec<Rights>, sqlx::Error> {
    let chats: Vec<_> = seats.iter().map(|(chat, _)| chat.0).collect();
    let users: Vec<_> = seats.iter().map(|(_, user)| user.0).collect();
    let rows: Vec<SeatRow> = sqlx::query_as(
        "SELECT kind, members.role, member_count, is_blocked, slow_mode_seconds, is_restricted
         FROM unnest($1::UUID[], $2::UUID[]) WITH ORDINALITY AS seats (chat_id, user_id, place)
              LEFT JOIN members USING (chat_id, user_id)
              LEFT JOIN chats ON chats.chat_id = members.chat_id
              LEFT JOIN LATERAL (
                  SELECT TRUE AS is_blocked FROM blocks
                  WHERE (blocker_id = low_user_id AND blocked_id = high_user_id)
                     OR (blocker_id = high_user_id AND blocked_id = low_user_id)
                  LIMIT 1
              ) AS pair ON TRUE
              LEFT JOIN LATERAL (
                  SELECT TRUE AS is_restricted FROM restrictions
                  WHERE restrictions.user_id = seats.user_id
                    AND restrictions.chat_id IN (seats.chat_id, '00000000-0000-0000-0000-000000000000')
                    AND restrictions.restricted_until > now()
                  LIMIT 1
              ) AS restriction ON TRUE
         ORDER BY place",
    )
    .bind(chats)
    .bind(users)
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Rights::try_from).collect()
}
