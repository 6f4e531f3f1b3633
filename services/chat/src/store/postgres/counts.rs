//! What the limits count.

use chrono::{DateTime, Utc};
use contracts::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::limits::{self, CreatedChats, Memberships};

kit::row! {
    struct MembershipCountsRow {
        all_memberships: i64,
        added: i64,
    }
}

kit::row! {
    struct CreatedChatsRow {
        with_members: i64,
        lately: i64,
        first_lately: Option<DateTime<Utc>>,
    }
}

/// Returns how many memberships there are, and how many of them a user added.
pub(super) async fn memberships(
    connection: &mut PgConnection,
    user_id: UserId,
) -> Result<Memberships, sqlx::Error> {
    let MembershipCountsRow { all_memberships, added } = sqlx::query_as(
        "SELECT coalesce(sum(memberships) FILTER (WHERE added_by_user_id = $2), 0)::BIGINT AS all_memberships,
                coalesce(sum(memberships) FILTER (WHERE added_by_user_id = $1), 0)::BIGINT AS added
         FROM membership_counts WHERE added_by_user_id IN ($1, $2)",
    )
    .bind(user_id.0)
    .bind(Uuid::nil())
    .fetch_one(connection)
    .await?;
    Ok(Memberships { all: count(all_memberships), added: count(added) })
}

/// Returns how many chats a user has created.
pub(super) async fn created_chats(
    connection: &mut PgConnection,
    founder: UserId,
    now: DateTime<Utc>,
) -> Result<CreatedChats, sqlx::Error> {
    let CreatedChatsRow { with_members, lately, first_lately } = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE member_count > 0) AS with_members,
                count(*) FILTER (WHERE created_at > $2) AS lately,
                min(created_at) FILTER (WHERE created_at > $2) AS first_lately
         FROM chats WHERE founder_id = $1",
    )
    .bind(founder.0)
    .bind(limits::lately(now))
    .fetch_one(connection)
    .await?;
    Ok(CreatedChats { with_members: count(with_members), lately: count(lately), first_lately })
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
