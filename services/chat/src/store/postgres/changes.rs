//! Changes of a chat, one after the other.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, MessageKey, UserId, event::Role};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    counts::memberships,
    outbox::enqueue,
    reads::members_among,
    revocations,
    rows::{MemberRow, history_of, history_text, kind_of, seconds_of, visibility_of},
};
use crate::domain::{
    self, Change, Concern, DELETED_AT_ONCE, Departure, EntryId, Excerpt, Limits, Member, OutboxRecord,
    READDING_PAUSE, Refusal,
};

/// Departures that are removed with each new one: more than one, so that they get fewer.
const FORGOTTEN_DEPARTURES: i64 = 100;

kit::row! {
    struct LockedRow {
        kind: String,
        title: Option<String>,
        topic: Option<String>,
        history: String,
        visibility: String,
        slow_mode_seconds: i32,
        message_ttl_seconds: i32,
        avatar: Option<String>,
        version: i64,
        member_count: i32,
        deleted_by_user_id: Option<Uuid>,
    }
}

kit::row! {
    struct DepartureRow {
        user_id: Uuid,
        by_user_id: Uuid,
        departed_at: DateTime<Utc>,
    }
}

/// Makes changes of a chat that is locked, and publishes them, unless they add more members than the user may.
pub(super) async fn make(
    connection: &mut PgConnection,
    limits: &Limits,
    excerpt: &mut Excerpt,
    (actor, changes): (UserId, &[Change]),
    at: DateTime<Utc>,
) -> Result<Result<(), Refusal>, sqlx::Error> {
    if changes.is_empty() {
        return Ok(Ok(()));
    }
    if let Some((hand, more)) = domain::additions(actor, changes)
        && let Err(refusal) = limits.check_members(memberships(connection, hand).await?, more)
    {
        return Ok(Err(refusal));
    }
    let records = excerpt.apply(actor, changes, at, MessageKey::generate);
    // Members come and go at once, whatever their number. No change of one command depends on who was removed, and no owner is added
    // before the old one has stepped down.
    remove(connection, excerpt, changes).await?;
    for change in changes {
        write(connection, excerpt, change).await?;
    }
    let added = changes.iter().filter_map(|change| match change {
        Change::Added { user_id, .. } | Change::Admitted { user_id } => excerpt.member(*user_id).cloned(),
        _ => None,
    });
    insert_members(connection, excerpt.chat_id, &added.collect::<Vec<_>>(), Came::Later).await?;
    tidy(connection, excerpt, changes).await?;
    publish(connection, excerpt, &records).await.map(Ok)
}

/// Writes what a change left of a chat, and the records about it.
pub(super) async fn publish(
    connection: &mut PgConnection,
    excerpt: &Excerpt,
    records: &[OutboxRecord],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE chats SET member_count = $2, version = $3 WHERE chat_id = $1")
        .bind(excerpt.chat_id.0)
        .bind(i32::try_from(excerpt.member_count).expect("members are bounded"))
        .bind(excerpt.version)
        .execute(&mut *connection)
        .await?;
    enqueue(connection, records).await
}

/// Reads a chat for a change. The lock on its row puts the changes of the chat, and so its outbox ids, in one order.
pub(super) async fn locked_excerpt(
    connection: &mut PgConnection,
    chat_id: ChatId,
    concern: &Concern,
    now: DateTime<Utc>,
) -> Result<Option<Excerpt>, sqlx::Error> {
    let row: Option<LockedRow> = sqlx::query_as(
        "SELECT kind, title, topic, history, visibility, slow_mode_seconds, message_ttl_seconds, avatar, version, member_count, deleted_by_user_id
         FROM chats WHERE chat_id = $1 FOR UPDATE",
    )
    .bind(chat_id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut members = members_among(connection, chat_id, &concern.users).await?;
    let heir = if concern.heir { heir(connection, chat_id).await? } else { None };
    let departures = departures(connection, chat_id, &concern.users, now).await?;
    let heir_id = heir.as_ref().map(|heir| heir.user_id);
    members.extend(heir.filter(|heir| !concern.users.contains(&heir.user_id)));
    Ok(Some(Excerpt {
        chat_id,
        kind: kind_of(&row.kind)?,
        title: row.title,
        topic: row.topic,
        history: history_of(&row.history)?,
        visibility: visibility_of(&row.visibility)?,
        slow_mode_seconds: seconds_of(row.slow_mode_seconds),
        message_ttl_seconds: seconds_of(row.message_ttl_seconds),
        avatar: row.avatar,
        version: row.version,
        deleted_by: row.deleted_by_user_id.map(UserId),
        member_count: usize::try_from(row.member_count).unwrap_or(0),
        members,
        heir: heir_id,
        departures,
    }))
}

/// Returns who is next when the owner leaves.
async fn heir(connection: &mut PgConnection, chat_id: ChatId) -> Result<Option<Member>, sqlx::Error> {
    for role in [Role::Admin, Role::Member] {
        let row: Option<MemberRow> = sqlx::query_as(
            "SELECT user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
             FROM members WHERE chat_id = $1 AND role = $2 ORDER BY joined_at, user_id LIMIT 1",
        )
        .bind(chat_id.0)
        .bind(role.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(row) = row {
            return row.try_into().map(Some);
        }
    }
    Ok(None)
}

/// Returns who deletes a group and whom the next step removes, in the order in which they came and the owner last; `None` for a chat
/// that is not being deleted. Locks the chat.
pub(super) async fn next_deleted(
    connection: &mut PgConnection,
    chat_id: ChatId,
) -> Result<Option<(UserId, Vec<UserId>)>, sqlx::Error> {
    let by: Option<Option<Uuid>> =
        sqlx::query_scalar("SELECT deleted_by_user_id FROM chats WHERE chat_id = $1 FOR UPDATE")
            .bind(chat_id.0)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(by) = by.flatten() else { return Ok(None) };
    let next: Vec<Uuid> = sqlx::query_scalar(
        "SELECT user_id FROM members WHERE chat_id = $1 ORDER BY role = 'owner', joined_at, user_id LIMIT $2",
    )
    .bind(chat_id.0)
    .bind(i64::try_from(DELETED_AT_ONCE).expect("a step is bounded"))
    .fetch_all(connection)
    .await?;
    Ok(Some((UserId(by), next.into_iter().map(UserId).collect())))
}

/// Returns the departures of users from a chat that still count.
async fn departures(
    connection: &mut PgConnection,
    chat_id: ChatId,
    users: &BTreeSet<UserId>,
    now: DateTime<Utc>,
) -> Result<Vec<Departure>, sqlx::Error> {
    let rows: Vec<DepartureRow> = sqlx::query_as(
        "SELECT user_id, by_user_id, departed_at FROM departures
         WHERE chat_id = $1 AND user_id = ANY ($3) AND departed_at > $2",
    )
    .bind(chat_id.0)
    .bind(now - READDING_PAUSE)
    .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let departure = |row: DepartureRow| Departure {
        user_id: UserId(row.user_id),
        by: UserId(row.by_user_id),
        at: row.departed_at,
    };
    Ok(rows.into_iter().map(departure).collect())
}

/// When members came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// With the chat: they were not in it before.
    First,
    Later,
}

pub(super) async fn insert_members(
    connection: &mut PgConnection,
    chat_id: ChatId,
    members: &[Member],
    came: Came,
) -> Result<(), sqlx::Error> {
    if members.is_empty() {
        return Ok(());
    }
    let users: Vec<_> = members.iter().map(|member| member.user_id.0).collect();
    let roles: Vec<_> = members.iter().map(|member| member.role.as_str()).collect();
    let joined: Vec<_> = members.iter().map(|member| member.joined_at).collect();
    let entries = members.iter().map(|member| member.reads_from);
    let hands: Vec<_> = members.iter().map(|member| member.added_by.map(|user| user.0)).collect();
    let (senders, keys): (Vec<_>, Vec<_>) =
        entries.map(|entry| entry.map(|EntryId { sender, key }| (sender.0, key.0)).unzip()).unzip();
    sqlx::query(
        // How a member has the chat is numbered on from the time at which they came: devices that know of an earlier membership would
        // take what is new for older.
        "INSERT INTO members (chat_id, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id,
                              own_version)
         SELECT $1, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id,
                CASE WHEN $8 THEN 0 ELSE (EXTRACT(EPOCH FROM joined_at) * 1000)::BIGINT END
         FROM unnest($2::UUID[], $3::TEXT[], $4::TIMESTAMPTZ[], $5::UUID[], $6::UUID[], $7::UUID[])
              AS new (user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id)",
    )
    .bind(chat_id.0)
    .bind(users)
    .bind(roles)
    .bind(joined)
    .bind(senders)
    .bind(keys)
    .bind(hands)
    .bind(came == Came::First)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a change that the excerpt has.
async fn write(connection: &mut PgConnection, excerpt: &Excerpt, change: &Change) -> Result<(), sqlx::Error> {
    match *change {
        // See `insert_members` and `remove`.
        Change::Added { .. } | Change::Admitted { .. } | Change::Removed { .. } => Ok(()),
        Change::TitleSet { .. }
        | Change::TopicSet { .. }
        | Change::HistorySet { .. }
        | Change::VisibilitySet { .. }
        | Change::SlowModeSet { .. }
        | Change::TtlSet { .. }
        | Change::AvatarSet { .. }
        | Change::DeletionBegun => {
            sqlx::query(
                "UPDATE chats SET title = $2, topic = $3, history = $4, visibility = $5, search_key = $6,
                                  deleted_by_user_id = $7, slow_mode_seconds = $8, avatar = $9,
                                  message_ttl_seconds = $10
                 WHERE chat_id = $1",
            )
            .bind(excerpt.chat_id.0)
            .bind(&excerpt.title)
            .bind(&excerpt.topic)
            .bind(history_text(excerpt.history))
            .bind(excerpt.visibility.as_str())
            .bind(excerpt.search_key())
            .bind(excerpt.deleted_by.map(|user| user.0))
            .bind(i32::try_from(excerpt.slow_mode_seconds).expect("it is an hour at most"))
            .bind(&excerpt.avatar)
            .bind(i32::try_from(excerpt.message_ttl_seconds).expect("it is a year at most"))
            .execute(connection)
            .await?;
            Ok(())
        }
        Change::RoleSet { user_id, role } => {
            sqlx::query("UPDATE members SET role = $3 WHERE chat_id = $1 AND user_id = $2")
                .bind(excerpt.chat_id.0)
                .bind(user_id.0)
                .bind(role.as_str())
                .execute(connection)
                .await?;
            Ok(())
        }
    }
}

/// Removes the invite links of users who may not make any now, the requests of users who are in, and all of both of a chat in which no
/// one is left.
async fn tidy(
    connection: &mut PgConnection,
    excerpt: &Excerpt,
    changes: &[Change],
) -> Result<(), sqlx::Error> {
    let (mut lost, mut came) = (Vec::new(), Vec::new());
    for change in changes {
        match *change {
            Change::Removed { user_id } | Change::RoleSet { user_id, role: Role::Member } => {
                lost.push(user_id.0)
            }
            Change::Added { user_id, .. } | Change::Admitted { user_id } => came.push(user_id.0),
            _ => {}
        }
    }
    let is_over = excerpt.deleted_by.is_some() || excerpt.member_count == 0;
    if is_over {
        let all = sqlx::query("DELETE FROM invites WHERE chat_id = $1").bind(excerpt.chat_id.0);
        all.execute(&mut *connection).await?;
    } else if !lost.is_empty() {
        revocations::revoke_of(connection, excerpt.chat_id, lost).await?;
    }
    if is_over || !came.is_empty() {
        sqlx::query("DELETE FROM join_requests WHERE chat_id = $1 AND ($2 OR user_id = ANY ($3))")
            .bind(excerpt.chat_id.0)
            .bind(is_over)
            .bind(came)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Removes the members whom the changes remove, writes their departures, and removes some that do not count any more, of
/// whichever chats.
async fn remove(
    connection: &mut PgConnection,
    excerpt: &Excerpt,
    changes: &[Change],
) -> Result<(), sqlx::Error> {
    let removed = changes.iter().filter_map(|change| match change {
        Change::Removed { user_id } => Some(*user_id),
        _ => None,
    });
    let departed = removed
        .filter_map(|user_id| excerpt.departures.iter().rfind(|departure| departure.user_id == user_id));
    let departed: Vec<&Departure> = departed.collect();
    let Some(last) = departed.last() else { return Ok(()) };
    let users: Vec<_> = departed.iter().map(|departure| departure.user_id.0).collect();
    sqlx::query("DELETE FROM members WHERE chat_id = $1 AND user_id = ANY ($2)")
        .bind(excerpt.chat_id.0)
        .bind(&users)
        .execute(&mut *connection)
        .await?;
    if excerpt.deleted_by.is_some() {
        // No one is added any more.
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO departures (chat_id, user_id, by_user_id, departed_at)
         SELECT $1, user_id, $3, $4 FROM unnest($2::UUID[]) AS user_id
         ON CONFLICT (chat_id, user_id, by_user_id) DO UPDATE SET departed_at = EXCLUDED.departed_at",
    )
    .bind(excerpt.chat_id.0)
    .bind(&users)
    .bind(last.by.0)
    .bind(last.at)
    .execute(&mut *connection)
    .await?;
    // What another transaction writes is left to it: two never wait for each other.
    sqlx::query(
        "DELETE FROM departures WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM departures WHERE departed_at <= $1 ORDER BY departed_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(last.at - READDING_PAUSE)
    .bind(FORGOTTEN_DEPARTURES)
    .execute(connection)
    .await?;
    Ok(())
}
