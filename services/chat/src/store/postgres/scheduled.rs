//! Messages that are sent at a time.
//!
//! Rows are locked in one order: the chat, members, their messages. A change of the chat does so too, when it removes a member with all
//! that is theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use contracts::{ChatId, ErrorCode, MessageKey, UserId, api::MAX_SCHEDULED};
use sqlx::PgConnection;
use tonic::async_trait;
use uuid::Uuid;

use super::{
    PostgresStore,
    outbox::{enqueue, newest_record},
    own, reads,
    rows::unknown,
};
use crate::{
    domain::{
        self, Dispatch, OutboxRecord, OwnState, Refusal, Rights, Scheduled, ScheduledCounts, ScheduledText,
    },
    store::{Publication, ScheduleStore, StoreError},
};

/// Messages of one chat that are sent in one transaction.
const AT_ONCE: i64 = 100;

/// The columns of [`ScheduledRow`].
macro_rules! scheduled_columns {
    () => {
        "chat_id, user_id, message_key, body, reply_to, mentions, mentions_all, send_at, refused"
    };
}

kit::row! {
    struct ScheduledRow {
        chat_id: Uuid,
        user_id: Uuid,
        message_key: Uuid,
        body: String,
        reply_to: Option<i64>,
        mentions: Vec<Uuid>,
        mentions_all: bool,
        send_at: DateTime<Utc>,
        refused: Option<String>,
    }
}

impl TryFrom<ScheduledRow> for Scheduled {
    type Error = sqlx::Error;

    fn try_from(row: ScheduledRow) -> Result<Self, sqlx::Error> {
        let refused = row.refused.map(|code| code_of(&code)).transpose()?;
        Ok(Self {
            chat_id: ChatId(row.chat_id),
            user_id: UserId(row.user_id),
            key: MessageKey(row.message_key),
            text: ScheduledText {
                body: row.body,
                reply_to: row.reply_to,
                mentions: row.mentions.into_iter().map(UserId).collect(),
                mentions_all: row.mentions_all,
            },
            send_at: row.send_at,
            refused,
        })
    }
}

fn code_of(text: &str) -> Result<ErrorCode, sqlx::Error> {
    let known = ErrorCode::ALL.into_iter().find(|code| code.as_str() == text);
    known.ok_or_else(|| unknown("refused", text))
}

#[async_trait]
impl ScheduleStore for PostgresStore {
    #[tracing::instrument(name = "chat.store.schedule", skip_all, fields(chat = %new.chat_id))]
    async fn schedule(&self, new: &Scheduled) -> Result<Option<(Scheduled, bool)>, StoreError> {
        let seat = (new.chat_id, new.user_id);
        let failed = |source| StoreError::Change { chat_id: new.chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let Some(own) = own::locked(&mut transaction, seat.0, seat.1).await.map_err(failed)? else {
            return Ok(None);
        };
        if let Some(known) = message(&mut transaction, seat, new.key).await.map_err(failed)? {
            return if known.is_as(new) {
                Ok(Some((known, false)))
            } else {
                Err(Refusal::ScheduledKeyReused.into())
            };
        }
        let now = now(&mut transaction).await.map_err(failed)?;
        new.check_time(now)?;
        if count(&mut transaction, new.user_id).await.map_err(failed)? >= MAX_SCHEDULED {
            return Err(Refusal::TooManyScheduled.into());
        }
        put(&mut transaction, new).await.map_err(failed)?;
        recount(&mut transaction, seat, &own, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some((new.clone(), true)))
    }

    #[tracing::instrument(name = "chat.store.reschedule", skip_all, fields(chat = %of.chat_id))]
    async fn reschedule(&self, of: &Scheduled) -> Result<bool, StoreError> {
        let seat = (of.chat_id, of.user_id);
        let failed = |source| StoreError::Change { chat_id: of.chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let own = own::locked(&mut transaction, seat.0, seat.1).await.map_err(failed)?;
        let known = message(&mut transaction, seat, of.key).await.map_err(failed)?;
        let (Some(own), Some(known)) = (own, known) else { return Ok(false) };
        if known.is_as(of) && known.refused.is_none() {
            return Ok(true);
        }
        let now = now(&mut transaction).await.map_err(failed)?;
        of.check_time(now)?;
        put(&mut transaction, of).await.map_err(failed)?;
        recount(&mut transaction, seat, &own, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    #[tracing::instrument(name = "chat.store.unschedule", skip_all, fields(chat = %chat_id))]
    async fn unschedule(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
    ) -> Result<bool, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let own = own::locked(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let Some(own) = own else { return Ok(false) };
        if !remove(&mut transaction, (chat_id, user_id), key).await.map_err(failed)? {
            return Ok(false);
        }
        let now = now(&mut transaction).await.map_err(failed)?;
        recount(&mut transaction, (chat_id, user_id), &own, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    #[tracing::instrument(name = "chat.store.scheduled", skip_all, fields(chat = %chat_id))]
    async fn scheduled(
        &self,
        chat_id: ChatId,
        user_id: UserId,
    ) -> Result<Option<Vec<Scheduled>>, StoreError> {
        let rows: Vec<ScheduledRow> = sqlx::query_as(concat!(
            "SELECT ",
            scheduled_columns!(),
            " FROM scheduled WHERE chat_id = $1 AND user_id = $2 ORDER BY send_at, message_key"
        ))
        .bind(chat_id.0)
        .bind(user_id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        if rows.is_empty() {
            // Of one who is not in the chat there is none.
            let is_member: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM members WHERE chat_id = $1 AND user_id = $2)")
                    .bind(chat_id.0)
                    .bind(user_id.0)
                    .fetch_one(&self.pool)
                    .await
                    .map_err(StoreError::Read)?;
            return Ok(is_member.then(Vec::new));
        }
        rows.into_iter()
            .map(Scheduled::try_from)
            .collect::<Result<_, _>>()
            .map(Some)
            .map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.send_now", skip_all, fields(chat = %chat_id))]
    async fn send_now(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        key: MessageKey,
    ) -> Result<Option<Publication>, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let seat = (chat_id, user_id);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query("SELECT FROM chats WHERE chat_id = $1 FOR UPDATE")
            .bind(chat_id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let own = own::locked(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let message = message(&mut transaction, seat, key).await.map_err(failed)?;
        let (Some(own), Some(message)) = (own, message) else { return Ok(None) };
        let now = now(&mut transaction).await.map_err(failed)?;
        let rights = reads::rights(&mut *transaction, &[seat]).await.map_err(failed)?;
        let last_sent =
            last_sent(&mut transaction, chat_id, &BTreeSet::from([user_id])).await.map_err(failed)?;
        let rights = rights.first().copied().unwrap_or(Rights::NONE);
        domain::send_now(chat_id, rights, last_sent.get(&user_id).copied(), now)?;
        let dispatch = Dispatch { sent: vec![message], ..Dispatch::default() };
        carry_out(&mut transaction, chat_id, &dispatch, BTreeMap::from([(user_id, own)]), now)
            .await
            .map_err(failed)?;
        let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(Publication { chat_id, newest }))
    }

    async fn until_next(&self) -> Result<Option<Duration>, StoreError> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM min(send_at) - now())::FLOAT8 FROM scheduled WHERE refused IS NULL",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)))
    }

    async fn due_chats(&self, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        let chats: Vec<Uuid> = sqlx::query_scalar(
            "SELECT chat_id FROM scheduled WHERE refused IS NULL AND send_at <= now()
             GROUP BY chat_id ORDER BY min(send_at) LIMIT $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(chats.into_iter().map(ChatId).collect())
    }

    #[tracing::instrument(name = "chat.store.send_due", skip_all, fields(chat = %chat_id))]
    async fn send_due(&self, chat_id: ChatId) -> Result<usize, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let is_locked: Option<bool> =
            sqlx::query_scalar("SELECT TRUE FROM chats WHERE chat_id = $1 FOR UPDATE SKIP LOCKED")
                .bind(chat_id.0)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
        if is_locked.is_none() {
            return Ok(0);
        }
        let owns = lock_senders(&mut transaction, chat_id).await.map_err(failed)?;
        let now = now(&mut transaction).await.map_err(failed)?;
        let users: Vec<Uuid> = owns.keys().map(|user| user.0).collect();
        let rows: Vec<ScheduledRow> = sqlx::query_as(concat!(
            "SELECT ",
            scheduled_columns!(),
            " FROM scheduled
              WHERE chat_id = $1 AND user_id = ANY ($2) AND refused IS NULL AND send_at <= now()
              ORDER BY send_at, message_key LIMIT $3 FOR UPDATE"
        ))
        .bind(chat_id.0)
        .bind(users)
        .bind(AT_ONCE)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        let messages: Vec<Scheduled> =
            rows.into_iter().map(Scheduled::try_from).collect::<Result<_, _>>().map_err(failed)?;
        let senders: BTreeSet<UserId> = messages.iter().map(|message| message.user_id).collect();
        let seats: Vec<_> = senders.iter().map(|user| (chat_id, *user)).collect();
        let rights = reads::rights(&mut *transaction, &seats).await.map_err(failed)?;
        let rights = senders.iter().copied().zip(rights).collect();
        let last_sent = last_sent(&mut transaction, chat_id, &senders).await.map_err(failed)?;
        let changed = messages.len();
        let dispatch = domain::dispatch(messages, &rights, last_sent, now);
        let owns = owns.into_iter().filter(|(user, _)| senders.contains(user)).collect();
        carry_out(&mut transaction, chat_id, &dispatch, owns, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(changed)
    }
}

/// Returns the time of the database, at which the transaction began.
async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("SELECT now()").fetch_one(connection).await
}

/// Reads and locks a message of a member.
async fn message(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    key: MessageKey,
) -> Result<Option<Scheduled>, sqlx::Error> {
    let row: Option<ScheduledRow> = sqlx::query_as(concat!(
        "SELECT ",
        scheduled_columns!(),
        " FROM scheduled WHERE chat_id = $1 AND user_id = $2 AND message_key = $3 FOR UPDATE"
    ))
    .bind(chat_id.0)
    .bind(user_id.0)
    .bind(key.0)
    .fetch_optional(connection)
    .await?;
    row.map(Scheduled::try_from).transpose()
}

/// Writes a message whose member is locked.
async fn put(connection: &mut PgConnection, of: &Scheduled) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO scheduled (chat_id, user_id, message_key, body, reply_to, mentions, mentions_all, send_at, refused)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)
         ON CONFLICT (chat_id, user_id, message_key) DO UPDATE
         SET body = EXCLUDED.body, reply_to = EXCLUDED.reply_to, mentions = EXCLUDED.mentions,
             mentions_all = EXCLUDED.mentions_all, send_at = EXCLUDED.send_at, refused = NULL",
    )
    .bind(of.chat_id.0)
    .bind(of.user_id.0)
    .bind(of.key.0)
    .bind(&of.text.body)
    .bind(of.text.reply_to)
    .bind(of.text.mentions.iter().map(|user| user.0).collect::<Vec<_>>())
    .bind(of.text.mentions_all)
    .bind(of.send_at)
    .execute(connection)
    .await?;
    Ok(())
}

async fn remove(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    key: MessageKey,
) -> Result<bool, sqlx::Error> {
    let removed =
        sqlx::query("DELETE FROM scheduled WHERE chat_id = $1 AND user_id = $2 AND message_key = $3")
            .bind(chat_id.0)
            .bind(user_id.0)
            .bind(key.0)
            .execute(connection)
            .await?;
    Ok(removed.rows_affected() > 0)
}

/// Returns how many messages a user has, in all chats. New ones of one user are counted one after the other.
async fn count(connection: &mut PgConnection, user_id: UserId) -> Result<usize, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('scheduled ' || $1::TEXT, 0))")
        .bind(user_id.0)
        .execute(&mut *connection)
        .await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM scheduled WHERE user_id = $1")
        .bind(user_id.0)
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Writes how many messages a member has, which is a change of how they have the chat.
async fn recount(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    own: &OwnState,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (waiting, refused): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE refused IS NULL), count(*) FILTER (WHERE refused IS NOT NULL)
         FROM scheduled WHERE chat_id = $1 AND user_id = $2",
    )
    .bind(chat_id.0)
    .bind(user_id.0)
    .fetch_one(&mut *connection)
    .await?;
    let count = |count: i64| u32::try_from(count).expect("they are limited");
    let counts = ScheduledCounts { waiting: count(waiting), refused: count(refused) };
    own::write(connection, (chat_id, user_id), &own.with_scheduled(counts, now)).await
}

/// Locks the members of a chat whose messages are due, in one order, and returns how they have the chat.
async fn lock_senders(
    connection: &mut PgConnection,
    chat_id: ChatId,
) -> Result<BTreeMap<UserId, OwnState>, sqlx::Error> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT user_id FROM scheduled
         WHERE chat_id = $1 AND refused IS NULL AND send_at <= now() ORDER BY user_id",
    )
    .bind(chat_id.0)
    .fetch_all(&mut *connection)
    .await?;
    let mut owns = BTreeMap::new();
    for user in users.into_iter().map(UserId) {
        let own = own::locked(connection, chat_id, user).await?;
        owns.extend(own.map(|own| (user, own)));
    }
    Ok(owns)
}

/// Returns when a scheduled message of each of these members was sent last.
async fn last_sent(
    connection: &mut PgConnection,
    chat_id: ChatId,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, DateTime<Utc>>, sqlx::Error> {
    let sent: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT user_id, scheduled_sent_at FROM members
         WHERE chat_id = $1 AND user_id = ANY ($2) AND scheduled_sent_at IS NOT NULL",
    )
    .bind(chat_id.0)
    .bind(users.iter().map(|user| user.0).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    Ok(sent.into_iter().map(|(user, at)| (UserId(user), at)).collect())
}

/// Writes what becomes of messages, with the records by which they are sent. `owns` are their senders, who are locked.
async fn carry_out(
    connection: &mut PgConnection,
    chat_id: ChatId,
    dispatch: &Dispatch,
    owns: BTreeMap<UserId, OwnState>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let Dispatch { sent, refused, later } = dispatch;
    for message in sent {
        remove(connection, (chat_id, message.user_id), message.key).await?;
        sqlx::query("UPDATE members SET scheduled_sent_at = $3 WHERE chat_id = $1 AND user_id = $2")
            .bind(chat_id.0)
            .bind(message.user_id.0)
            .bind(now)
            .execute(&mut *connection)
            .await?;
    }
    for message in refused.iter().chain(later) {
        sqlx::query(
            "UPDATE scheduled SET send_at = $4, refused = $5
             WHERE chat_id = $1 AND user_id = $2 AND message_key = $3",
        )
        .bind(chat_id.0)
        .bind(message.user_id.0)
        .bind(message.key.0)
        .bind(message.send_at)
        .bind(message.refused.map(ErrorCode::as_str))
        .execute(&mut *connection)
        .await?;
    }
    let called: BTreeSet<UserId> = sent.iter().flat_map(|message| &message.text.mentions).copied().collect();
    let present = match called.is_empty() {
        true => Vec::new(),
        false => reads::members_among(connection, chat_id, &called).await?,
    };
    let present = present.into_iter().map(|member| member.user_id).collect();
    let records: Vec<OutboxRecord> = sent.iter().map(|message| message.record(&present)).collect();
    if !records.is_empty() {
        enqueue(connection, &records).await?;
    }
    for (user, own) in owns {
        recount(connection, (chat_id, user), &own, now).await?;
    }
    Ok(())
}
