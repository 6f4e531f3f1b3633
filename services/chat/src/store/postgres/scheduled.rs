//! Messages that are sent at a time.
//!
//! Rows are locked in one order: the chat, members, their messages. A change of the chat does so too, when it removes a member with all
//! that is theirs. Behind these come the locks of a user and of the tenant, see `paces.rs`.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, ErrorCode, MessageKey, UserId, api::MAX_SCHEDULED, event::Role, wire::MAX_ROLE_MENTIONS,
};
use sqlx::PgConnection;
use tonic::async_trait;
use uuid::Uuid;

use super::{
    PostgresStore,
    outbox::{enqueue, newest_record},
    own, paces, reads,
    rows::{role_of, unknown},
};
use crate::{
    domain::{
        self, Audience, Dispatch, OutboxRecord, OwnState, Refusal, Rights, SENT_REMEMBERED, Scheduled,
        ScheduledCounts, ScheduledText, Turn,
    },
    store::{Hindrance, Publication, ScheduleStore, Sent, StoreError},
};

/// Messages of one member that are sent in one transaction.
const AT_ONCE: i64 = 100;
/// A request to send a message at once waits no longer for any lock: it has a session meanwhile, and perhaps its chat.
const LOCK_WITHIN: &str = "250ms";

/// The columns of [`ScheduledRow`].
macro_rules! scheduled_columns {
    () => {
        "chat_id, user_id, message_key, body, reply_to, mentions, mention_roles, mentions_all, mentions_here, silent, send_at, \
         not_before, attempts, refused"
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
        mention_roles: Vec<String>,
        mentions_all: bool,
        mentions_here: bool,
        silent: bool,
        send_at: DateTime<Utc>,
        not_before: Option<DateTime<Utc>>,
        attempts: i32,
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
                mention_roles: row
                    .mention_roles
                    .iter()
                    .map(|role| role_of(role))
                    .collect::<Result<_, _>>()?,
                mentions_all: row.mentions_all,
                mentions_here: row.mentions_here,
                silent: row.silent,
            },
            send_at: row.send_at,
            not_before: row.not_before,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
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
        if let Some(sent) = sent_digest(&mut transaction, seat, new.key).await.map_err(failed)? {
            return if sent == new.digest() {
                Ok(Some((new.clone(), false)))
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
        sqlx::query("SELECT set_config('lock_timeout', $1, TRUE)")
            .bind(LOCK_WITHIN)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
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
        let audience =
            audience(&mut transaction, chat_id, std::slice::from_ref(&message)).await.map_err(failed)?;
        let rights = (rights.first().copied().unwrap_or(Rights::NONE), self.limits.sends);
        paces::lock(&mut transaction, user_id).await.map_err(failed)?;
        let mut turn = paces::turn(&mut transaction, seat, rights).await.map_err(failed)?;
        domain::send_now(&message, &mut turn, &audience, now)?;
        let dispatch = Dispatch { sent: vec![message], ..Dispatch::default() };
        let done = (&dispatch, &turn);
        carry_out(&mut transaction, (seat, &own), done, &audience, now).await.map_err(failed)?;
        let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(Publication { chat_id, newest }))
    }

    async fn until_next(&self) -> Result<Option<Duration>, StoreError> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM min(greatest(send_at, not_before)) - now())::FLOAT8
             FROM scheduled WHERE refused IS NULL",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)))
    }

    async fn due_senders(&self, limit: usize) -> Result<Vec<(ChatId, UserId)>, StoreError> {
        let senders: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT chat_id, user_id FROM scheduled
             WHERE refused IS NULL AND greatest(send_at, not_before) <= now()
             GROUP BY chat_id, user_id ORDER BY min(greatest(send_at, not_before)) LIMIT $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(senders.into_iter().map(|(chat, user)| (ChatId(chat), UserId(user))).collect())
    }

    #[tracing::instrument(name = "chat.store.send_due", skip_all, fields(chat = %chat_id))]
    async fn send_due(&self, chat_id: ChatId, user_id: UserId) -> Result<Sent, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let seat = (chat_id, user_id);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let is_locked: Option<bool> =
            sqlx::query_scalar("SELECT TRUE FROM chats WHERE chat_id = $1 FOR UPDATE SKIP LOCKED")
                .bind(chat_id.0)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
        if is_locked.is_none() {
            return Ok(Sent::default());
        }
        let own = own::locked(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let Some(own) = own else { return Ok(Sent::default()) };
        let now = now(&mut transaction).await.map_err(failed)?;
        // Also those that were put off: the others come behind them.
        let rows: Vec<ScheduledRow> = sqlx::query_as(concat!(
            "SELECT ",
            scheduled_columns!(),
            " FROM scheduled WHERE chat_id = $1 AND user_id = $2 AND refused IS NULL AND send_at <= now()
              ORDER BY send_at, message_key LIMIT $3 FOR UPDATE"
        ))
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(AT_ONCE)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        let is_due = |row: &ScheduledRow| row.not_before.is_none_or(|at| at <= now);
        if !rows.iter().any(is_due) {
            // Another process was here meanwhile.
            return Ok(Sent::default());
        }
        let messages: Vec<Scheduled> =
            rows.into_iter().map(Scheduled::try_from).collect::<Result<_, _>>().map_err(failed)?;
        let rights = reads::rights(&mut *transaction, &[seat]).await.map_err(failed)?;
        let rights = (rights.first().copied().unwrap_or(Rights::NONE), self.limits.sends);
        let audience = audience(&mut transaction, chat_id, &messages).await.map_err(failed)?;
        if !paces::try_lock(&mut transaction, user_id).await.map_err(failed)? {
            // Those who change this chat, and the sessions of this process, do not wait for what is sent in another one.
            return Ok(Sent::default());
        }
        let mut turn = paces::turn(&mut transaction, seat, rights).await.map_err(failed)?;
        let dispatch = domain::dispatch(messages, &mut turn, &audience, now);
        let done = (&dispatch, &turn);
        carry_out(&mut transaction, (seat, &own), done, &audience, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Sent::of(&dispatch, now))
    }

    #[tracing::instrument(name = "chat.store.put_off", skip_all, fields(chat = %chat_id))]
    async fn put_off(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        hindrance: Hindrance,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let own = own::locked(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let Some(own) = own else { return Ok(()) };
        // It is not read as a whole: that may be what fails.
        let first: Option<(Uuid, i32)> = sqlx::query_as(
            "SELECT message_key, attempts FROM scheduled
             WHERE chat_id = $1 AND user_id = $2 AND refused IS NULL AND send_at <= now()
             ORDER BY send_at, message_key LIMIT 1 FOR UPDATE",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some((first, attempts)) = first else { return Ok(()) };
        let now = now(&mut transaction).await.map_err(failed)?;
        let wait = hindrance.wait(u32::try_from(attempts).unwrap_or(0));
        sqlx::query(
            "UPDATE scheduled
             SET attempts = attempts + (message_key = $3 AND $6)::INTEGER, not_before = $4,
                 refused = CASE WHEN message_key = $3 THEN $5 END
             WHERE chat_id = $1 AND user_id = $2 AND refused IS NULL AND send_at <= now()",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(first)
        .bind(wait.map(|wait| now + wait))
        .bind(wait.is_none().then(|| ErrorCode::Internal.as_str()))
        .bind(hindrance == Hindrance::Message)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if wait.is_none() {
            recount(&mut transaction, (chat_id, user_id), &own, now).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
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
        "INSERT INTO scheduled (chat_id, user_id, message_key, body, reply_to, mentions, mention_roles, mentions_all,
                                mentions_here, silent, send_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (chat_id, user_id, message_key) DO UPDATE
         SET body = EXCLUDED.body, reply_to = EXCLUDED.reply_to, mentions = EXCLUDED.mentions,
             mention_roles = EXCLUDED.mention_roles, mentions_all = EXCLUDED.mentions_all,
             mentions_here = EXCLUDED.mentions_here, silent = EXCLUDED.silent, send_at = EXCLUDED.send_at,
             not_before = NULL, attempts = 0, refused = NULL",
    )
    .bind(of.chat_id.0)
    .bind(of.user_id.0)
    .bind(of.key.0)
    .bind(&of.text.body)
    .bind(of.text.reply_to)
    .bind(of.text.mentions.iter().map(|user| user.0).collect::<Vec<_>>())
    .bind(of.text.mention_roles.iter().map(|role| role.as_str()).collect::<Vec<_>>())
    .bind(of.text.mentions_all)
    .bind(of.text.mentions_here)
    .bind(of.text.silent)
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
    paces::lock_user(&mut *connection, user_id).await?;
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

/// Returns what a message that was sent lately said, under this key.
async fn sent_digest(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    key: MessageKey,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT digest FROM scheduled_sent WHERE chat_id = $1 AND user_id = $2 AND message_key = $3",
    )
    .bind(chat_id.0)
    .bind(user_id.0)
    .bind(key.0)
    .fetch_optional(connection)
    .await
}

/// Returns who is in a chat of those whom these messages call.
async fn audience(
    connection: &mut PgConnection,
    chat_id: ChatId,
    messages: &[Scheduled],
) -> Result<Audience, sqlx::Error> {
    let mut audience = Audience::default();
    let named: BTreeSet<UserId> = messages.iter().flat_map(|of| &of.text.mentions).copied().collect();
    if !named.is_empty() {
        let present = reads::members_among(connection, chat_id, &named).await?;
        audience.present = present.into_iter().map(|member| member.user_id).collect();
    }
    let roles: BTreeSet<Role> = messages.iter().flat_map(|of| &of.text.mention_roles).copied().collect();
    for role in roles {
        // The sender may be one of them, and one more is too many.
        let most = MAX_ROLE_MENTIONS + 2;
        let members = reads::members(&mut *connection, chat_id, (Some(role), None), most).await?;
        audience.with_role.insert(role, members.into_iter().map(|member| member.user_id).collect());
    }
    Ok(audience)
}

/// Writes what becomes of messages of a member, who is locked, with the records by which they are sent.
async fn carry_out(
    connection: &mut PgConnection,
    ((chat_id, user_id), own): ((ChatId, UserId), &OwnState),
    (dispatch, turn): (&Dispatch, &Turn),
    audience: &Audience,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let Dispatch { sent, refused, later, resumes_at: _ } = dispatch;
    // All messages by one statement each: the tenant sends nothing else meanwhile.
    if !sent.is_empty() {
        let (keys, digests): (Vec<_>, Vec<_>) =
            sent.iter().map(|of| (of.key.0, of.digest().to_vec())).unzip();
        sqlx::query("DELETE FROM scheduled WHERE chat_id = $1 AND user_id = $2 AND message_key = ANY ($3)")
            .bind(chat_id.0)
            .bind(user_id.0)
            .bind(&keys)
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "INSERT INTO scheduled_sent (chat_id, user_id, message_key, digest, sent_at)
             SELECT $1, $2, message_key, digest, $5
             FROM unnest($3::UUID[], $4::BYTEA[]) AS sent (message_key, digest)
             ON CONFLICT (chat_id, user_id, message_key) DO UPDATE
             SET digest = EXCLUDED.digest, sent_at = EXCLUDED.sent_at",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(keys)
        .bind(digests)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    if !refused.is_empty() {
        let (keys, codes): (Vec<_>, Vec<_>) =
            refused.iter().map(|of| (of.key.0, of.refused.map(ErrorCode::as_str))).unzip();
        sqlx::query(
            "UPDATE scheduled SET refused = decided.refused
             FROM unnest($3::UUID[], $4::TEXT[]) AS decided (message_key, refused)
             WHERE chat_id = $1 AND user_id = $2 AND scheduled.message_key = decided.message_key",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(keys)
        .bind(codes)
        .execute(&mut *connection)
        .await?;
    }
    if !later.is_empty() {
        let (keys, times): (Vec<_>, Vec<_>) = later.iter().map(|of| (of.key.0, of.not_before)).unzip();
        sqlx::query(
            "UPDATE scheduled SET not_before = put_off.not_before
             FROM unnest($3::UUID[], $4::TIMESTAMPTZ[]) AS put_off (message_key, not_before)
             WHERE chat_id = $1 AND user_id = $2 AND scheduled.message_key = put_off.message_key",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(keys)
        .bind(times)
        .execute(&mut *connection)
        .await?;
    }
    let records: Vec<OutboxRecord> =
        sent.iter().map(|message| message.record(audience, turn.reads_from)).collect();
    if !records.is_empty() {
        enqueue(connection, &records).await?;
        paces::took(connection, (chat_id, user_id), &turn.pace, now).await?;
        // Some of whichever members, so that there are never many.
        sqlx::query(
            "DELETE FROM scheduled_sent WHERE (chat_id, user_id, message_key) IN (
                 SELECT chat_id, user_id, message_key FROM scheduled_sent WHERE sent_at < $1
                 ORDER BY sent_at LIMIT 200 FOR UPDATE SKIP LOCKED)",
        )
        .bind(now - SENT_REMEMBERED)
        .execute(&mut *connection)
        .await?;
    }
    if sent.is_empty() && refused.is_empty() {
        // A queue that waits may be looked at often, and nothing has changed for the devices of its user.
        return Ok(());
    }
    recount(connection, (chat_id, user_id), own, now).await
}
