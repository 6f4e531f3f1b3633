//! Changes of a chat, one after the other.

use chrono::{DateTime, Utc};
use contracts::{ChatId, MessageKey, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    counts::memberships,
    outbox::enqueue,
    reads::members,
    rows::{history_of, history_text, kind_of},
};
use crate::domain::{
    self, Change, Departure, EntryId, Limits, Member, OutboxRecord, READDING_PAUSE, Refusal, Roster,
};

/// Departures that are removed with each new one: more than one, so that they get fewer.
const FORGOTTEN_DEPARTURES: i64 = 100;

kit::row! {
    struct LockedRow {
        kind: String,
        title: Option<String>,
        topic: Option<String>,
        history: String,
        version: i64,
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
    roster: &mut Roster,
    (actor, changes): (UserId, &[Change]),
    at: DateTime<Utc>,
) -> Result<Result<(), Refusal>, sqlx::Error> {
    if changes.is_empty() {
        return Ok(Ok(()));
    }
    let more = domain::additions(changes);
    if more > 0
        && let Err(refusal) = limits.check_members(memberships(connection, actor).await?, more)
    {
        return Ok(Err(refusal));
    }
    let records = roster.apply(actor, changes, at, MessageKey::generate);
    // At once, whatever their number: a group of a thousand may be deleted. No change of one command depends on who was removed.
    remove(connection, roster, changes).await?;
    for change in changes {
        write(connection, roster, change).await?;
    }
    publish(connection, roster, &records).await.map(Ok)
}

/// Writes what a change left of a chat, and the records about it.
pub(super) async fn publish(
    connection: &mut PgConnection,
    roster: &Roster,
    records: &[OutboxRecord],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE chats SET member_count = $2, version = $3 WHERE chat_id = $1")
        .bind(roster.chat_id.0)
        .bind(i32::try_from(roster.members.len()).expect("members are bounded"))
        .bind(roster.version)
        .execute(&mut *connection)
        .await?;
    enqueue(connection, records).await
}

/// Reads a chat for a change. The lock on its row puts the changes of the chat, and so its outbox ids, in one order.
pub(super) async fn locked_roster(
    connection: &mut PgConnection,
    chat_id: ChatId,
    now: DateTime<Utc>,
) -> Result<Option<Roster>, sqlx::Error> {
    let row: Option<LockedRow> = sqlx::query_as(
        "SELECT kind, title, topic, history, version FROM chats WHERE chat_id = $1 FOR UPDATE",
    )
    .bind(chat_id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(LockedRow { kind, title, topic, history, version }) = row else { return Ok(None) };
    let (kind, history) = (kind_of(&kind)?, history_of(&history)?);
    let members = members(connection, chat_id).await?;
    let departures = departures(connection, chat_id, now).await?;
    Ok(Some(Roster { chat_id, kind, title, topic, history, version, members, departures }))
}

/// Returns the departures from a chat that still count.
async fn departures(
    connection: &mut PgConnection,
    chat_id: ChatId,
    now: DateTime<Utc>,
) -> Result<Vec<Departure>, sqlx::Error> {
    let rows: Vec<DepartureRow> = sqlx::query_as(
        "SELECT user_id, by_user_id, departed_at FROM departures WHERE chat_id = $1 AND departed_at > $2",
    )
    .bind(chat_id.0)
    .bind(now - READDING_PAUSE)
    .fetch_all(connection)
    .await?;
    let departure = |row: DepartureRow| Departure {
        user_id: UserId(row.user_id),
        by: UserId(row.by_user_id),
        at: row.departed_at,
    };
    Ok(rows.into_iter().map(departure).collect())
}

pub(super) async fn insert_members(
    connection: &mut PgConnection,
    chat_id: ChatId,
    members: &[Member],
) -> Result<(), sqlx::Error> {
    let users: Vec<_> = members.iter().map(|member| member.user_id.0).collect();
    let roles: Vec<_> = members.iter().map(|member| member.role.as_str()).collect();
    let joined: Vec<_> = members.iter().map(|member| member.joined_at).collect();
    let entries = members.iter().map(|member| member.reads_from);
    let hands: Vec<_> = members.iter().map(|member| member.added_by.map(|user| user.0)).collect();
    let (senders, keys): (Vec<_>, Vec<_>) =
        entries.map(|entry| entry.map(|EntryId { sender, key }| (sender.0, key.0)).unzip()).unzip();
    sqlx::query(
        "INSERT INTO members (chat_id, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id)
         SELECT $1, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
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
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a change that the roster has.
async fn write(connection: &mut PgConnection, roster: &Roster, change: &Change) -> Result<(), sqlx::Error> {
    let chat_id = roster.chat_id;
    match *change {
        Change::Added { user_id, .. } => {
            let added: Vec<_> = roster.member(user_id).cloned().into_iter().collect();
            insert_members(connection, chat_id, &added).await
        }
        // See `remove`.
        Change::Removed { .. } => Ok(()),
        Change::TitleSet { ref title } => {
            sqlx::query("UPDATE chats SET title = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(title)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::TopicSet { ref topic } => {
            sqlx::query("UPDATE chats SET topic = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(topic)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::HistorySet { history } => {
            sqlx::query("UPDATE chats SET history = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(history_text(history))
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::RoleSet { user_id, role } => {
            sqlx::query("UPDATE members SET role = $3 WHERE chat_id = $1 AND user_id = $2")
                .bind(chat_id.0)
                .bind(user_id.0)
                .bind(role.as_str())
                .execute(connection)
                .await?;
            Ok(())
        }
    }
}

/// Removes the members whom the changes remove, writes their departures, and removes some that do not count any more, of
/// whichever chats.
async fn remove(
    connection: &mut PgConnection,
    roster: &Roster,
    changes: &[Change],
) -> Result<(), sqlx::Error> {
    let removed = changes.iter().filter_map(|change| match change {
        Change::Removed { user_id } => Some(*user_id),
        _ => None,
    });
    let departed = removed
        .filter_map(|user_id| roster.departures.iter().rfind(|departure| departure.user_id == user_id));
    let departed: Vec<&Departure> = departed.collect();
    let Some(last) = departed.last() else { return Ok(()) };
    let users: Vec<_> = departed.iter().map(|departure| departure.user_id.0).collect();
    sqlx::query("DELETE FROM members WHERE chat_id = $1 AND user_id = ANY ($2)")
        .bind(roster.chat_id.0)
        .bind(&users)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO departures (chat_id, user_id, by_user_id, departed_at)
         SELECT $1, user_id, $3, $4 FROM unnest($2::UUID[]) AS user_id
         ON CONFLICT (chat_id, user_id, by_user_id) DO UPDATE SET departed_at = EXCLUDED.departed_at",
    )
    .bind(roster.chat_id.0)
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
