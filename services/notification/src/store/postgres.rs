//! Notifications in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, SessionId, SubscriptionId, UserId,
    api::{NotificationChannel, NotificationLevel},
};
use kit::{catalog::Topic, deletions, mail::Email, postgres::Schema};
use secrecy::ExposeSecret as _;
use sqlx::{PgConnection, PgPool};
use tonic::async_trait;
use url::Url;
use uuid::Uuid;

use super::{Begun, NotificationStore, Place, Preferences, StoreError};
use crate::domain::{
    Batch, Busy, CODE_FOR, CODES_COUNT_FOR, CodeOutcome, DIGEST_AFTER, Job, MAX_CODES, MAX_OF_HOST,
    MAX_OF_USER, MAX_SUBSCRIPTIONS, MAX_TRIES, NewCode, NewSubscription, PhoneNumber, Places, Quiet,
    Subscription, Taken, Target, Ticket, Unseen, is_of_digests, needs_confirmation,
};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "notification_service",
    migrations: &[
        ("0001_create_subscriptions", include_str!("../../migrations/0001_create_subscriptions.sql")),
        ("0002_add_tickets_to_jobs", include_str!("../../migrations/0002_add_tickets_to_jobs.sql")),
        ("0003_bind_devices_to_sessions", include_str!("../../migrations/0003_bind_devices_to_sessions.sql")),
        ("0004_index_unbound_devices", include_str!("../../migrations/0004_index_unbound_devices.sql")),
    ],
};

/// Stands for all chats, in the job of a digest.
const ALL_CHATS: Uuid = Uuid::nil();
/// Stands for all sessions of a user whose account is deleted: no session is called so.
const ALL_SESSIONS: &str = "";
/// Seats of one chat that one statement tells of news: those of all chats that it takes end within its time limit. The others follow.
const SLICE: i64 = 200;
/// Devices that one statement lets count as not seen: a tenant may have a hundred thousand.
const DOUBTED_AT_ONCE: u64 = 5_000;
/// Jobs that are looked at for those that have a place.
const CANDIDATES: i64 = 256;
/// Codes are noted and numbers confirmed one after the other, under this lock of the database, "codes" in ASCII: two codes of one number are counted
/// one by one, and of two users who confirm it at once the second has it.
const CODES_LOCK: i64 = 0x0063_6f64_6573;

/// Jobs of a channel are handed over by one process at a time, under a lock of the database, "jobs" in ASCII and the place of the channel behind it: what
/// another one has just handed over has its place. No channel waits for another one.
const HANDING_LOCKS: i64 = 0x006a_6f62_7300;

/// Ends of sessions are noted under this lock of the database, "ends" in ASCII, and devices are subscribed and preferences set while no end is: of a session
/// that ends at that moment, either its end finds what was noted, or the request finds its end.
const ENDS_LOCK: i64 = 0x656e_6473;

/// Keeps notifications in the tenant's database.
///
/// Rows are locked in one order, so that no two transactions wait for each other: news, then seats by chat and user, then jobs by subscription and chat.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Returns a store on a pool whose search path starts with [`SCHEMA`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Notes whose accounts are deleted, and then forgets those users. The list of deletions says the same of them, for a minute: a process that knows a user
    /// takes an access token of theirs for longer.
    ///
    /// They are forgotten behind the note and one by one. Nobody who subscribes waits for all that they had, and no statement meets its time limit however many
    /// they are.
    async fn note_gone(&self, gone: &BTreeSet<UserId>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
        if gone.is_empty() {
            return Ok(());
        }
        let (users, sessions): (Vec<Uuid>, Vec<String>) =
            gone.iter().map(|user| (user.0, ALL_SESSIONS.to_owned())).unzip();
        let mut transaction = self.pool.begin().await?;
        note_ends(&mut transaction, users, sessions, now).await?;
        transaction.commit().await?;
        for user in gone {
            self.forget(*user).await?;
        }
        Ok(())
    }

    /// Lets all devices count as not seen, some with each statement: none meets its time limit however many there are. Returns how many that were.
    async fn doubt_sessions(&self) -> Result<u64, sqlx::Error> {
        let mut doubtful = 0;
        loop {
            let done = sqlx::query(
                "WITH doubted AS MATERIALIZED (
                    SELECT subscription_id FROM subscriptions
                    WHERE session IS NOT NULL AND session_seen_at > '-infinity'
                    ORDER BY subscription_id LIMIT $1 FOR NO KEY UPDATE
                 )
                 UPDATE subscriptions SET session_seen_at = '-infinity' FROM doubted
                 WHERE subscriptions.subscription_id = doubted.subscription_id",
            )
            .bind(DOUBTED_AT_ONCE.cast_signed())
            .execute(&self.pool)
            .await?;
            doubtful += done.rows_affected();
            // Those that were asked for meanwhile are not looked for again.
            if done.rows_affected() < DOUBTED_AT_ONCE {
                return Ok(doubtful);
            }
        }
    }

    /// Forgets a user. Returns whether anything was known.
    async fn forget(&self, user_id: UserId) -> Result<bool, sqlx::Error> {
        let forget = sqlx::query("DELETE FROM users WHERE user_id = $1").bind(user_id.0);
        Ok(forget.execute(&self.pool).await?.rows_affected() > 0)
    }
}

kit::row! {
    struct SubscriptionRow {
        subscription_id: Uuid,
        user_id: Uuid,
        channel: String,
        endpoint: String,
        public_key: Option<Vec<u8>>,
        auth: Option<Vec<u8>>,
        secret: Option<String>,
        sender_key: Option<String>,
        is_confirmed: bool,
        created_at: DateTime<Utc>,
    }
}

kit::row! {
    struct JobRow {
        subscription_id: Uuid,
        user_id: Uuid,
        channel: String,
        endpoint: String,
        public_key: Option<Vec<u8>>,
        auth: Option<Vec<u8>>,
        secret: Option<String>,
        sender_key: Option<String>,
        is_confirmed: bool,
        created_at: DateTime<Utc>,
        chat_id: Uuid,
        seq: i64,
        is_called: bool,
        version: i64,
        attempts: i32,
        ticket: Option<i64>,
    }
}

kit::row! {
    struct TicketRow {
        ticket: i64,
        subscription_id: Uuid,
        chat_id: Uuid,
        attempts: i32,
    }
}

kit::row! {
    struct DeadRow {
        ticket: i64,
    }
}

kit::row! {
    struct PreferencesRow {
        level: String,
        shows_text: bool,
        quiet_from: Option<i32>,
        quiet_to: Option<i32>,
        time_zone: Option<String>,
        minute: Option<i32>,
    }
}

kit::row! {
    struct PositionRow {
        partition: i32,
        next_offset: Option<i64>,
    }
}

kit::row! {
    struct UserRow {
        user_id: Uuid,
    }
}

kit::row! {
    struct UnseenRow {
        subscription_id: Uuid,
        user_id: Uuid,
        session: Option<String>,
    }
}

kit::row! {
    struct NextRow {
        due_at: Option<DateTime<Utc>>,
    }
}

kit::row! {
    struct CountRow {
        channel: String,
        waiting: i64,
        dead: i64,
    }
}

kit::row! {
    struct CountedCodesRow {
        of_user: i64,
        of_number: i64,
        first_of_user: Option<DateTime<Utc>>,
        first_of_number: Option<DateTime<Utc>>,
    }
}

kit::row! {
    struct NumberToConfirmRow {
        endpoint: String,
        is_confirmed: bool,
    }
}

kit::row! {
    struct CodeRow {
        code: Vec<u8>,
        tries: i32,
    }
}

kit::row! {
    struct NumberRow {
        number: i64,
    }
}

kit::row! {
    struct FactRow {
        is_so: bool,
    }
}

#[async_trait]
impl NotificationStore for PostgresStore {
    #[tracing::instrument(name = "notification.store.subscribe", skip_all, fields(subscription = %new.id))]
    async fn subscribe(&self, new: &NewSubscription) -> Result<Subscription, StoreError> {
        let failed = StoreError::Subscriptions;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        if has_ended(&mut transaction, new.user_id, new.session.as_str()).await.map_err(failed)? {
            return Err(StoreError::SessionOver);
        }
        ensure_user(&mut transaction, new.user_id).await.map_err(failed)?;
        // One after the other for one user, so that none of two sees room that the other takes. The chats are listed again: a user who comes
        // back may have joined some that no record is left of.
        sqlx::query("UPDATE users SET listed_at = NULL WHERE user_id = $1")
            .bind(new.user_id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let (target, channel) = (&new.target, new.target.channel());
        if target.is_device() {
            // Of two users who subscribe it at once, the second has it.
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(target.endpoint())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            sqlx::query("DELETE FROM subscriptions WHERE channel = $3 AND endpoint = $1 AND user_id <> $2")
                .bind(target.endpoint())
                .bind(new.user_id.0)
                .bind(channel.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        let count: NumberRow = sqlx::query_as(
            "SELECT count(*) AS number FROM subscriptions
             WHERE user_id = $1 AND NOT (channel = $2 AND endpoint = $3)",
        )
        .bind(new.user_id.0)
        .bind(channel.as_str())
        .bind(target.endpoint())
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        if usize::try_from(count.number).is_ok_and(|count| count >= MAX_SUBSCRIPTIONS) {
            return Err(StoreError::TooMany);
        }
        let (public_key, auth, secret) = match target {
            Target::WebPush { public_key, auth, .. } => (Some(public_key), Some(auth), None),
            Target::Webhook { secret, .. } => (None, None, Some(secret.expose_secret().to_owned())),
            Target::Email { .. } | Target::Fcm { .. } | Target::Sms { .. } => (None, None, None),
        };
        let row: SubscriptionRow = sqlx::query_as(
            "INSERT INTO subscriptions
                (subscription_id, user_id, channel, endpoint, public_key, auth, secret, is_confirmed, created_at, host, sender_key,
                    session, session_seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (user_id, channel, endpoint) DO UPDATE
                SET public_key = excluded.public_key, auth = excluded.auth, secret = excluded.secret,
                    sender_key = excluded.sender_key, session = excluded.session, session_seen_at = excluded.session_seen_at
             RETURNING subscription_id, user_id, channel, endpoint, public_key, auth, secret, sender_key, is_confirmed, created_at",
        )
        .bind(new.id.0)
        .bind(new.user_id.0)
        .bind(channel.as_str())
        .bind(target.endpoint())
        .bind(public_key.cloned())
        .bind(auth.cloned())
        .bind(secret)
        .bind(!needs_confirmation(channel))
        .bind(new.created_at)
        .bind(target.host().map(str::to_owned))
        .bind(target.sender_key().map(str::to_owned))
        .bind(new.bound_to().map(|session| session.as_str().to_owned()))
        .bind(new.bound_to().map(|_| new.created_at))
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Subscription::try_from(row).map_err(failed)
    }

    async fn subscriptions(&self, user_id: UserId) -> Result<Vec<Subscription>, StoreError> {
        let rows: Vec<SubscriptionRow> = sqlx::query_as(
            "SELECT subscription_id, user_id, channel, endpoint, public_key, auth, secret, sender_key, is_confirmed, created_at
             FROM subscriptions WHERE user_id = $1 ORDER BY created_at, subscription_id",
        )
        .bind(user_id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Subscriptions)?;
        let subscriptions = rows.into_iter().map(Subscription::try_from);
        subscriptions.collect::<Result<_, _>>().map_err(StoreError::Subscriptions)
    }

    async fn confirm(&self, id: SubscriptionId) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE subscriptions SET is_confirmed = TRUE WHERE subscription_id = $1")
            .bind(id.0)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Subscriptions)?;
        Ok(done.rows_affected() > 0)
    }

    #[tracing::instrument(name = "notification.store.note_code", skip_all, fields(subscription = %new.subscription))]
    async fn note_code(&self, new: &NewCode) -> Result<Option<TimeDelta>, StoreError> {
        let failed = StoreError::Subscriptions;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        lock(&mut transaction, CODES_LOCK).await.map_err(failed)?;
        let counted: CountedCodesRow = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE user_id = $1) AS of_user,
                count(*) FILTER (WHERE number = $2) AS of_number,
                min(sent_at) FILTER (WHERE user_id = $1) AS first_of_user,
                min(sent_at) FILTER (WHERE number = $2) AS first_of_number
             FROM codes WHERE (user_id = $1 OR number = $2) AND sent_at > $3",
        )
        .bind(new.user_id.0)
        .bind(new.number.clone())
        .bind(new.sent_at - CODES_COUNT_FOR)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        let wait = |count: i64, first: Option<DateTime<Utc>>| {
            first.filter(|_| count >= MAX_CODES).map(|first| first + CODES_COUNT_FOR - new.sent_at)
        };
        let of_user = wait(counted.of_user, counted.first_of_user);
        let wait = of_user.max(wait(counted.of_number, counted.first_of_number));
        if wait.is_some() {
            return Ok(wait);
        }
        sqlx::query(
            "INSERT INTO codes (subscription_id, user_id, number, code, sent_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(new.subscription.0)
        .bind(new.user_id.0)
        .bind(new.number.clone())
        .bind(new.code.clone())
        .bind(new.sent_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(None)
    }

    #[tracing::instrument(name = "notification.store.try_code", skip_all, fields(subscription = %id))]
    async fn try_code(
        &self,
        id: SubscriptionId,
        user_id: UserId,
        code: &[u8],
        now: DateTime<Utc>,
    ) -> Result<CodeOutcome, StoreError> {
        let failed = StoreError::Subscriptions;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // One after the other for one number of a user, so that each attempt counts.
        let found: Option<NumberToConfirmRow> = sqlx::query_as(
            "SELECT endpoint, channel = 'sms' AND is_confirmed AS is_confirmed FROM subscriptions
             WHERE subscription_id = $1 AND user_id = $2 FOR UPDATE",
        )
        .bind(id.0)
        .bind(user_id.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(NumberToConfirmRow { endpoint, is_confirmed }) = found else {
            return Ok(CodeOutcome::NoSubscription);
        };
        if is_confirmed {
            return Ok(CodeOutcome::Confirmed);
        }
        let tried: Option<CodeRow> = sqlx::query_as(
            "UPDATE codes SET tries = tries + 1
             WHERE code_id = (SELECT max(code_id) FROM codes WHERE subscription_id = $1)
                AND tries < $2 AND sent_at > $3
             RETURNING code, tries",
        )
        .bind(id.0)
        .bind(MAX_TRIES)
        .bind(now - CODE_FOR)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(tried) = tried else { return Ok(CodeOutcome::NoCode) };
        if tried.code != code {
            transaction.commit().await.map_err(failed)?;
            return Ok(CodeOutcome::Wrong { left: MAX_TRIES - tried.tries });
        }
        lock(&mut transaction, CODES_LOCK).await.map_err(failed)?;
        sqlx::query(
            "DELETE FROM subscriptions WHERE channel = 'sms' AND endpoint = $1 AND user_id <> $2 AND is_confirmed",
        )
        .bind(endpoint)
        .bind(user_id.0)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE subscriptions SET is_confirmed = TRUE WHERE subscription_id = $1")
            .bind(id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        // It is good once.
        sqlx::query("UPDATE codes SET tries = $2 WHERE subscription_id = $1")
            .bind(id.0)
            .bind(MAX_TRIES)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(CodeOutcome::Confirmed)
    }

    async fn forget_codes(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM codes WHERE sent_at < $1")
            .bind(before)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Subscriptions)?;
        Ok(done.rows_affected())
    }

    async fn unsubscribe(&self, id: SubscriptionId, of: Option<UserId>) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "DELETE FROM subscriptions WHERE subscription_id = $1 AND ($2::UUID IS NULL OR user_id = $2)",
        )
        .bind(id.0)
        .bind(of.map(|user| user.0))
        .execute(&self.pool)
        .await
        .map_err(StoreError::Subscriptions)?;
        Ok(done.rows_affected() > 0)
    }

    async fn preferences(
        &self,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<(Preferences, Option<u16>), StoreError> {
        let row: Option<PreferencesRow> = sqlx::query_as(
            "SELECT level, shows_text, quiet_from, quiet_to, time_zone,
                (EXTRACT(HOUR FROM $2::TIMESTAMPTZ AT TIME ZONE time_zone) * 60
                    + EXTRACT(MINUTE FROM $2::TIMESTAMPTZ AT TIME ZONE time_zone))::INT AS minute
             FROM users WHERE user_id = $1",
        )
        .bind(user_id.0)
        .bind(now)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Preferences)?;
        Ok(row.map_or_else(Default::default, read_preferences))
    }

    async fn set_preferences(&self, user_id: UserId, preferences: &Preferences) -> Result<(), StoreError> {
        let (quiet, failed) = (preferences.quiet.as_ref(), StoreError::Preferences);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        if has_ended(&mut transaction, user_id, ALL_SESSIONS).await.map_err(failed)? {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO users (user_id, level, shows_text, quiet_from, quiet_to, time_zone)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (user_id) DO UPDATE SET level = excluded.level, shows_text = excluded.shows_text,
                quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to, time_zone = excluded.time_zone",
        )
        .bind(user_id.0)
        .bind(preferences.level.as_str())
        .bind(preferences.shows_text)
        .bind(quiet.map(|quiet| i32::from(quiet.from)))
        .bind(quiet.map(|quiet| i32::from(quiet.to)))
        .bind(quiet.map(|quiet| quiet.time_zone.clone()))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn knows_time_zone(&self, name: &str) -> Result<bool, StoreError> {
        let row: FactRow =
            sqlx::query_as("SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1) AS is_so")
                .bind(name.to_owned())
                .fetch_one(&self.pool)
                .await
                .map_err(StoreError::Preferences)?;
        Ok(row.is_so)
    }

    async fn positions(
        &self,
        topic: Topic,
        partitions: &[i32],
    ) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        sqlx::query(
            "INSERT INTO positions (topic, partition) SELECT $1, unnest($2::INT[])
             ON CONFLICT (topic, partition) DO NOTHING",
        )
        .bind(topic.as_str())
        .bind(partitions)
        .execute(&self.pool)
        .await
        .map_err(StoreError::Position)?;
        let rows: Vec<PositionRow> = sqlx::query_as(
            "SELECT partition, next_offset FROM positions WHERE topic = $1 AND partition = ANY ($2)",
        )
        .bind(topic.as_str())
        .bind(partitions)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Position)?;
        Ok(rows.into_iter().map(|row| (row.partition, row.next_offset)).collect())
    }

    #[tracing::instrument(name = "notification.store.apply", skip_all, fields(partition = place.partition))]
    async fn apply(
        &self,
        place: Place,
        batch: &Batch,
        delay: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Place { topic, partition, next_offset } = place;
        let failed = |source| StoreError::Apply { topic, partition, source };
        self.note_gone(&batch.gone, now).await.map_err(failed)?;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        note_ended(&mut transaction, &batch.ended, now).await.map_err(failed)?;
        // News before seats, as spreading locks them: neither waits for the other while it has what that one wants.
        note_news(&mut transaction, batch, now + delay).await.map_err(failed)?;
        note_seats(&mut transaction, batch, now).await.map_err(failed)?;
        note_taken(&mut transaction, batch).await.map_err(failed)?;
        sqlx::query(
            "INSERT INTO positions (topic, partition, next_offset) VALUES ($1, $2, $3)
             ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
        )
        .bind(topic.as_str())
        .bind(partition)
        .bind(next_offset)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "notification.store.ends_read", skip_all, fields(partition))]
    async fn ends_read(
        &self,
        partition: i32,
        at: DateTime<Utc>,
        since: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let (topic, failed) = (Topic::SessionEvents.as_str(), StoreError::Sessions);
        let before: Option<FactRow> = sqlx::query_as(
            "SELECT coalesce(read_at < $3, FALSE) AS is_so FROM positions WHERE topic = $1 AND partition = $2",
        )
        .bind(topic)
        .bind(partition)
        .bind(since)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let is_doubtful = before.is_some_and(|before| before.is_so);
        let doubtful = if is_doubtful { self.doubt_sessions().await.map_err(failed)? } else { 0 };
        // Behind the doubt: who is stopped in between begins it again.
        sqlx::query("UPDATE positions SET read_at = $3 WHERE topic = $1 AND partition = $2")
            .bind(topic)
            .bind(partition)
            .bind(at)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(doubtful)
    }

    async fn forget_ends(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM ended_sessions WHERE ended_at < $1")
            .bind(before)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Sessions)?;
        Ok(done.rows_affected())
    }

    async fn take_unseen(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Unseen>, StoreError> {
        let rows: Vec<UnseenRow> = sqlx::query_as(
            "WITH due AS MATERIALIZED (
                SELECT subscription_id FROM subscriptions WHERE session_seen_at < $1
                ORDER BY session_seen_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
             )
             UPDATE subscriptions SET session_seen_at = $2 FROM due
             WHERE subscriptions.subscription_id = due.subscription_id
             RETURNING subscriptions.subscription_id, subscriptions.user_id, subscriptions.session",
        )
        .bind(since)
        .bind(until)
        .bind(limit_of(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Sessions)?;
        rows.into_iter().map(Unseen::try_from).collect::<Result<_, _>>().map_err(StoreError::Sessions)
    }

    async fn note_seen(&self, device: &Unseen, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE subscriptions SET session_seen_at = $3 WHERE subscription_id = $1 AND session = $2",
        )
        .bind(device.id.0)
        .bind(device.session.as_ref().map(|session| session.as_str().to_owned()))
        .bind(at)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Sessions)
    }

    async fn end_unseen(&self, device: &Unseen, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let failed = StoreError::Sessions;
        let Some(session) = &device.session else {
            let done =
                sqlx::query("DELETE FROM subscriptions WHERE subscription_id = $1 AND session IS NULL")
                    .bind(device.id.0)
                    .execute(&self.pool)
                    .await
                    .map_err(failed)?;
            return Ok(done.rows_affected() > 0);
        };
        let ended = BTreeSet::from([(device.user_id, session.clone())]);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let removed = note_ended(&mut transaction, &ended, now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(removed > 0)
    }

    async fn note_unbound(&self, until: DateTime<Utc>) -> Result<i64, StoreError> {
        let unbound: NumberRow = sqlx::query_as(
            // In the words of its index, which has no other rows.
            "WITH noted AS (
                UPDATE subscriptions SET session_seen_at = $1
                WHERE session IS NULL AND channel IN ('web_push', 'fcm') AND session_seen_at IS NULL
             )
             SELECT count(*) AS number FROM subscriptions
             WHERE session IS NULL AND channel IN ('web_push', 'fcm')",
        )
        .bind(until)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Sessions)?;
        Ok(unbound.number)
    }

    async fn unlisted(&self, since: DateTime<Utc>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let rows: Vec<UserRow> = sqlx::query_as(
            "SELECT user_id FROM users WHERE listed_at IS NULL OR listed_at < $1
             ORDER BY listed_at NULLS FIRST LIMIT $2",
        )
        .bind(since)
        .bind(limit_of(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::List)?;
        Ok(rows.into_iter().map(|row| UserId(row.user_id)).collect())
    }

    async fn list(
        &self,
        user_id: UserId,
        chats: &[(ChatId, i64)],
        listed_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::List;
        let (ids, versions): (Vec<Uuid>, Vec<i64>) =
            chats.iter().map(|(chat, version)| (chat.0, *version)).unzip();
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query("SELECT FROM seats WHERE user_id = $1 ORDER BY chat_id FOR UPDATE")
            .bind(user_id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO seats (chat_id, user_id, is_member, version, changed_at)
             SELECT listed.chat_id, $1, TRUE, listed.version, $4
             FROM unnest($2::UUID[], $3::BIGINT[]) AS listed (chat_id, version)
             WHERE EXISTS (SELECT FROM users WHERE user_id = $1)
             ORDER BY 1
             ON CONFLICT (chat_id, user_id) DO UPDATE
                SET is_member = TRUE, version = excluded.version, changed_at = excluded.changed_at
                WHERE seats.version <= excluded.version",
        )
        .bind(user_id.0)
        .bind(&ids)
        .bind(&versions)
        .bind(listed_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        // What changed since may be a chat that the list does not have yet.
        sqlx::query(
            "UPDATE seats SET is_member = FALSE, changed_at = $3
             WHERE user_id = $1 AND is_member AND changed_at < $3 AND chat_id <> ALL ($2)",
        )
        .bind(user_id.0)
        .bind(&ids)
        .bind(listed_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query("UPDATE users SET listed_at = $2 WHERE user_id = $1")
            .bind(user_id.0)
            .bind(listed_at)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn list_again(&self, user_id: UserId, listed_at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET listed_at = $2 WHERE user_id = $1")
            .bind(user_id.0)
            .bind(listed_at)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(StoreError::List)
    }

    #[tracing::instrument(name = "notification.store.spread", skip_all)]
    async fn spread(&self, now: DateTime<Utc>, limit: usize) -> Result<usize, StoreError> {
        let row: NumberRow = sqlx::query_as(
            "WITH due AS (
                SELECT chat_id, seq, called, calls_all, told_to FROM news
                WHERE due_at <= $1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
             ), slice AS MATERIALIZED (
                SELECT due.chat_id, due.seq, seated.user_id,
                    due.calls_all OR seated.user_id = ANY (due.called) AS is_called
                FROM due CROSS JOIN LATERAL (
                    SELECT user_id FROM seats WHERE seats.chat_id = due.chat_id AND user_id > due.told_to
                    ORDER BY user_id LIMIT $6
                ) AS seated
             ), locked AS MATERIALIZED (
                SELECT seats.chat_id, seats.user_id, slice.seq, slice.is_called
                FROM slice JOIN seats ON seats.chat_id = slice.chat_id AND seats.user_id = slice.user_id
                WHERE seats.is_member AND seats.told_seq < slice.seq AND seats.taken_seq < slice.seq
                ORDER BY seats.chat_id, seats.user_id FOR UPDATE OF seats
             ), told AS (
                UPDATE seats SET told_seq = locked.seq FROM locked
                WHERE seats.chat_id = locked.chat_id AND seats.user_id = locked.user_id
                RETURNING seats.user_id, seats.chat_id, locked.seq, locked.is_called
             ), made AS (
                INSERT INTO jobs (subscription_id, chat_id, channel, seq, is_called, due_at)
                SELECT subscriptions.subscription_id,
                    CASE WHEN channel = ANY ($5) THEN $3 ELSE told.chat_id END, channel, max(told.seq),
                    bool_or(told.is_called),
                    CASE WHEN channel = ANY ($5) THEN GREATEST($4, next_at) ELSE $1 END
                FROM told JOIN subscriptions USING (user_id)
                WHERE is_confirmed
                GROUP BY subscriptions.subscription_id, 2, channel, next_at
                ORDER BY 1, 2
                ON CONFLICT (subscription_id, chat_id) DO UPDATE SET
                    seq = GREATEST(jobs.seq, excluded.seq),
                    is_called = jobs.is_called OR excluded.is_called,
                    version = excluded.version,
                    due_at = CASE WHEN jobs.dead_at IS NULL THEN jobs.due_at ELSE excluded.due_at END,
                    attempts = CASE WHEN jobs.dead_at IS NULL THEN jobs.attempts ELSE 0 END,
                    ticket = CASE WHEN jobs.dead_at IS NULL THEN jobs.ticket END,
                    is_begun = jobs.is_begun AND jobs.dead_at IS NULL,
                    dead_at = NULL, death = NULL
             ), ends AS MATERIALIZED (
                SELECT due.chat_id, count(slice.user_id) = $6 AS is_full,
                    (array_agg(slice.user_id ORDER BY slice.user_id DESC))[1] AS told_to
                FROM due LEFT JOIN slice USING (chat_id) GROUP BY due.chat_id
             ), sliced AS (
                UPDATE news SET told_to = ends.told_to, due_at = $1 FROM ends
                WHERE news.chat_id = ends.chat_id AND ends.is_full
             ), followed AS (
                UPDATE news SET seq = next_seq, called = next_called, calls_all = next_calls_all,
                    due_at = next_due_at, told_to = $3,
                    next_seq = NULL, next_called = '{}', next_calls_all = FALSE, next_due_at = NULL
                FROM ends
                WHERE news.chat_id = ends.chat_id AND NOT ends.is_full AND next_seq IS NOT NULL
             ), over AS (
                DELETE FROM news USING ends
                WHERE news.chat_id = ends.chat_id AND NOT ends.is_full AND next_seq IS NULL
             )
             SELECT count(*) AS number FROM due",
        )
        .bind(now)
        .bind(limit_of(limit))
        .bind(ALL_CHATS)
        .bind(now + DIGEST_AFTER)
        .bind(digest_channels())
        .bind(SLICE)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Jobs)?;
        Ok(usize::try_from(row.number).unwrap_or(0))
    }

    async fn next_news(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row: NextRow = sqlx::query_as("SELECT min(due_at) AS due_at FROM news")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::Jobs)?;
        Ok(row.due_at)
    }

    async fn next_job(&self, channel: NotificationChannel) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row: NextRow =
            sqlx::query_as("SELECT min(due_at) AS due_at FROM jobs WHERE channel = $1 AND dead_at IS NULL")
                .bind(channel.as_str())
                .fetch_one(&self.pool)
                .await
                .map_err(StoreError::Jobs)?;
        Ok(row.due_at)
    }

    #[tracing::instrument(name = "notification.store.claim", skip_all)]
    async fn claim(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: usize,
        busy: &Busy,
    ) -> Result<Vec<Job>, StoreError> {
        let (users, of_users): (Vec<Uuid>, Vec<i64>) =
            busy.users.iter().map(|(user, number)| (user.0, *number)).unzip();
        let (hosts, of_hosts): (Vec<String>, Vec<i64>) =
            busy.hosts.iter().map(|(host, number)| (host.clone(), *number)).unzip();
        // Those whose user or host has no place are passed over before anything is ranked: however many they are, the first one of the others is found.
        // Those that are chosen are locked, and no others: a lock is a write, and most of what is looked at stays.
        let rows: Vec<JobRow> = sqlx::query_as(
            "WITH busy_users AS (
                SELECT * FROM unnest($5::UUID[], $6::BIGINT[]) AS counted (user_id, number)
             ), busy_hosts AS (
                SELECT * FROM unnest($7::TEXT[], $8::BIGINT[]) AS counted (host, number)
             ), due AS (
                SELECT jobs.subscription_id, jobs.chat_id, jobs.due_at, subscriptions.user_id, subscriptions.host
                FROM jobs JOIN subscriptions ON subscriptions.subscription_id = jobs.subscription_id
                WHERE jobs.channel = $1 AND jobs.dead_at IS NULL AND jobs.due_at <= $2
                    AND NOT EXISTS (
                        SELECT FROM busy_users
                        WHERE busy_users.user_id = subscriptions.user_id AND busy_users.number >= $9
                    )
                    AND NOT EXISTS (
                        SELECT FROM busy_hosts
                        WHERE busy_hosts.host = subscriptions.host AND busy_hosts.number >= $10
                    )
                ORDER BY jobs.due_at LIMIT $11
             ), ranked AS (
                SELECT due.subscription_id, due.chat_id, due.due_at, due.host,
                    row_number() OVER (PARTITION BY due.user_id ORDER BY due.due_at, due.chat_id)
                        + COALESCE(busy_users.number, 0) AS of_user,
                    row_number() OVER (PARTITION BY due.host ORDER BY due.due_at, due.chat_id)
                        + COALESCE(busy_hosts.number, 0) AS of_host
                FROM due
                LEFT JOIN busy_users ON busy_users.user_id = due.user_id
                LEFT JOIN busy_hosts ON busy_hosts.host = due.host
             ), chosen AS MATERIALIZED (
                SELECT subscription_id, chat_id FROM ranked
                WHERE of_user <= $9 AND (host IS NULL OR of_host <= $10) ORDER BY due_at LIMIT $4
             ), locked AS MATERIALIZED (
                -- Another process may have taken some meanwhile: they are not due any more.
                SELECT jobs.subscription_id, jobs.chat_id FROM jobs JOIN chosen
                    ON jobs.subscription_id = chosen.subscription_id AND jobs.chat_id = chosen.chat_id
                WHERE jobs.dead_at IS NULL AND jobs.due_at <= $2
                ORDER BY jobs.subscription_id, jobs.chat_id FOR UPDATE OF jobs SKIP LOCKED
             )
             UPDATE jobs SET due_at = $3, attempts = attempts + 1, ticket = NULL, is_begun = FALSE
             FROM subscriptions
             WHERE subscriptions.subscription_id = jobs.subscription_id
                AND (jobs.subscription_id, jobs.chat_id) IN (SELECT subscription_id, chat_id FROM locked)
             RETURNING jobs.subscription_id, user_id, jobs.channel, endpoint, public_key, auth, secret, sender_key,
                is_confirmed, created_at, jobs.chat_id, jobs.seq, jobs.is_called, jobs.version, jobs.attempts, jobs.ticket",
        )
        .bind(channel.as_str())
        .bind(now)
        .bind(until)
        .bind(limit_of(limit))
        .bind(users)
        .bind(of_users)
        .bind(hosts)
        .bind(of_hosts)
        .bind(MAX_OF_USER)
        .bind(MAX_OF_HOST)
        .bind(CANDIDATES)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Jobs)?;
        rows.into_iter().map(Job::try_from).collect::<Result<_, _>>().map_err(StoreError::Jobs)
    }

    #[tracing::instrument(name = "notification.store.hand_over", skip_all)]
    async fn hand_over(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        places: Places,
        few: &BTreeMap<String, i64>,
    ) -> Result<Vec<Ticket>, StoreError> {
        let failed = StoreError::Jobs;
        let (few_hosts, of_few): (Vec<String>, Vec<i64>) =
            few.iter().map(|(host, places)| (host.clone(), *places)).unzip();
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        lock(&mut transaction, handing_lock(channel)).await.map_err(failed)?;
        let rows: Vec<TicketRow> = sqlx::query_as(
            "WITH handed AS (
                SELECT subscriptions.user_id, subscriptions.host
                FROM jobs JOIN subscriptions ON subscriptions.subscription_id = jobs.subscription_id
                WHERE jobs.channel = $1 AND jobs.ticket IS NOT NULL AND jobs.dead_at IS NULL AND jobs.due_at > $2
             ), of_users AS (
                SELECT user_id, count(*) AS number FROM handed GROUP BY user_id
             ), of_hosts AS (
                SELECT host, count(*) AS number FROM handed WHERE host IS NOT NULL GROUP BY host
             ), few_hosts AS (
                SELECT * FROM unnest($8::TEXT[], $9::BIGINT[]) AS counted (host, places)
             ), due AS (
                SELECT jobs.subscription_id, jobs.chat_id, jobs.due_at, subscriptions.user_id, subscriptions.host
                FROM jobs JOIN subscriptions ON subscriptions.subscription_id = jobs.subscription_id
                WHERE jobs.channel = $1 AND jobs.dead_at IS NULL AND jobs.due_at <= $2
                    AND NOT EXISTS (
                        SELECT FROM of_users
                        WHERE of_users.user_id = subscriptions.user_id AND of_users.number >= $5
                    )
                    AND NOT EXISTS (
                        SELECT FROM of_hosts
                        WHERE of_hosts.host = subscriptions.host AND of_hosts.number >= $6
                    )
                    AND NOT EXISTS (
                        SELECT FROM few_hosts LEFT JOIN of_hosts ON of_hosts.host = few_hosts.host
                        WHERE few_hosts.host = subscriptions.host
                            AND COALESCE(of_hosts.number, 0) >= few_hosts.places
                    )
                ORDER BY jobs.due_at LIMIT $7
             ), ranked AS (
                SELECT due.subscription_id, due.chat_id, due.due_at, due.host,
                    row_number() OVER (PARTITION BY due.user_id ORDER BY due.due_at, due.chat_id)
                        + COALESCE(of_users.number, 0) AS of_user,
                    row_number() OVER (PARTITION BY due.host ORDER BY due.due_at, due.chat_id)
                        + COALESCE(of_hosts.number, 0) AS of_host,
                    LEAST(few_hosts.places, $6) AS host_places
                FROM due
                LEFT JOIN of_users ON of_users.user_id = due.user_id
                LEFT JOIN of_hosts ON of_hosts.host = due.host
                LEFT JOIN few_hosts ON few_hosts.host = due.host
             ), chosen AS MATERIALIZED (
                SELECT subscription_id, chat_id FROM ranked
                WHERE of_user <= $5 AND (host IS NULL OR of_host <= host_places)
                ORDER BY due_at LIMIT GREATEST($4 - (SELECT count(*) FROM handed), 0)
             ), locked AS MATERIALIZED (
                -- A process without a queue may have taken some meanwhile: they are not due any more.
                SELECT jobs.subscription_id, jobs.chat_id FROM jobs JOIN chosen
                    ON jobs.subscription_id = chosen.subscription_id AND jobs.chat_id = chosen.chat_id
                WHERE jobs.dead_at IS NULL AND jobs.due_at <= $2
                ORDER BY jobs.subscription_id, jobs.chat_id FOR UPDATE OF jobs SKIP LOCKED
             )
             UPDATE jobs SET due_at = $3, ticket = nextval('job_tickets'), is_begun = FALSE
             WHERE (subscription_id, chat_id) IN (SELECT subscription_id, chat_id FROM locked)
             RETURNING ticket, subscription_id, chat_id, attempts",
        )
        .bind(channel.as_str())
        .bind(now)
        .bind(until)
        .bind(places.all)
        .bind(places.of_user)
        .bind(places.of_host)
        .bind(CANDIDATES)
        .bind(few_hosts)
        .bind(of_few)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(rows.into_iter().map(Ticket::from).collect())
    }

    #[tracing::instrument(name = "notification.store.begin", skip_all)]
    async fn begin(
        &self,
        channel: NotificationChannel,
        taken: &[Taken],
        until: DateTime<Utc>,
    ) -> Result<Begun, StoreError> {
        let numbers: Vec<i64> = taken.iter().map(|one| one.ticket.number).collect();
        let subscriptions: Vec<Uuid> = taken.iter().map(|one| one.ticket.subscription_id.0).collect();
        let chats: Vec<Uuid> = taken.iter().map(|one| place_of(one.ticket.chat_id)).collect();
        let attempts: Vec<i32> = taken.iter().map(|one| one.ticket.attempts).collect();
        let revived: Vec<bool> = taken.iter().map(|one| one.is_revived).collect();
        let rows: Vec<JobRow> = sqlx::query_as(
            "WITH locked AS MATERIALIZED (
                SELECT jobs.subscription_id, jobs.chat_id
                FROM unnest($1::BIGINT[], $2::UUID[], $3::UUID[], $4::INT[], $5::BOOLEAN[])
                    AS taken (number, subscription_id, chat_id, attempts, is_revived)
                JOIN jobs ON jobs.subscription_id = taken.subscription_id AND jobs.chat_id = taken.chat_id
                WHERE jobs.ticket = taken.number AND jobs.channel = $7
                    AND CASE WHEN taken.is_revived THEN jobs.dead_at IS NOT NULL
                        ELSE jobs.dead_at IS NULL AND NOT jobs.is_begun AND jobs.attempts = taken.attempts END
                ORDER BY jobs.subscription_id, jobs.chat_id FOR UPDATE OF jobs
             )
             UPDATE jobs SET due_at = $6, is_begun = TRUE, dead_at = NULL, death = NULL,
                attempts = CASE WHEN jobs.dead_at IS NULL THEN jobs.attempts + 1 ELSE 1 END
             FROM locked, subscriptions
             WHERE jobs.subscription_id = locked.subscription_id AND jobs.chat_id = locked.chat_id
                AND subscriptions.subscription_id = jobs.subscription_id
             RETURNING jobs.subscription_id, user_id, jobs.channel, endpoint, public_key, auth, secret, sender_key,
                is_confirmed, created_at, jobs.chat_id, jobs.seq, jobs.is_called, jobs.version, jobs.attempts, jobs.ticket",
        )
        .bind(numbers.clone())
        .bind(subscriptions)
        .bind(chats)
        .bind(attempts)
        .bind(revived)
        .bind(until)
        .bind(channel.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Jobs)?;
        let mut begun = Begun::default();
        for row in rows {
            let number = row.ticket.unwrap_or_default();
            begun.jobs.push((number, Job::try_from(row).map_err(StoreError::Jobs)?));
        }
        // Most tickets stand for what is to be done: then nothing is asked for the others.
        if begun.jobs.len() < taken.len() {
            let dead: Vec<DeadRow> =
                sqlx::query_as("SELECT ticket FROM jobs WHERE ticket = ANY ($1) AND dead_at IS NOT NULL")
                    .bind(numbers)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(StoreError::Jobs)?;
            begun.dead.extend(dead.into_iter().map(|row| row.ticket));
        }
        Ok(begun)
    }

    async fn take_back(&self, tickets: &[Ticket], until: DateTime<Utc>) -> Result<(), StoreError> {
        let numbers: Vec<i64> = tickets.iter().map(|ticket| ticket.number).collect();
        let subscriptions: Vec<Uuid> = tickets.iter().map(|ticket| ticket.subscription_id.0).collect();
        sqlx::query(
            "WITH locked AS MATERIALIZED (
                SELECT subscription_id, chat_id FROM jobs
                WHERE subscription_id = ANY ($2) AND ticket = ANY ($1) AND NOT is_begun AND dead_at IS NULL
                ORDER BY subscription_id, chat_id FOR UPDATE
             )
             UPDATE jobs SET ticket = NULL, due_at = $3 FROM locked
             WHERE jobs.subscription_id = locked.subscription_id AND jobs.chat_id = locked.chat_id",
        )
        .bind(numbers)
        .bind(subscriptions)
        .bind(until)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Jobs)
    }

    async fn take_all_back(
        &self,
        channel: NotificationChannel,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "WITH locked AS MATERIALIZED (
                SELECT subscription_id, chat_id FROM jobs
                WHERE channel = $1 AND ticket IS NOT NULL AND NOT is_begun AND dead_at IS NULL
                ORDER BY subscription_id, chat_id FOR UPDATE
             )
             UPDATE jobs SET ticket = NULL, due_at = LEAST(due_at, $2) FROM locked
             WHERE jobs.subscription_id = locked.subscription_id AND jobs.chat_id = locked.chat_id",
        )
        .bind(channel.as_str())
        .bind(now)
        .execute(&self.pool)
        .await
        .map_err(StoreError::Jobs)?;
        Ok(done.rows_affected())
    }

    async fn finish(
        &self,
        job: &Job,
        now: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
    ) -> Result<(), StoreError> {
        let failed = StoreError::Jobs;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // Another process has the job when the lease has ended: then it is that one's.
        sqlx::query(
            "DELETE FROM jobs WHERE subscription_id = $1 AND chat_id = $2 AND attempts = $3 AND version = $4",
        )
        .bind(job.subscription.id.0)
        .bind(chat_of(job))
        .bind(job.attempts)
        .bind(job.version)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "UPDATE jobs SET due_at = GREATEST($4, $5), attempts = 0, ticket = NULL, is_begun = FALSE
             WHERE subscription_id = $1 AND chat_id = $2 AND attempts = $3 AND dead_at IS NULL",
        )
        .bind(job.subscription.id.0)
        .bind(chat_of(job))
        .bind(job.attempts)
        .bind(now)
        .bind(next_at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if next_at.is_some() {
            sqlx::query("UPDATE subscriptions SET next_at = $2 WHERE subscription_id = $1")
                .bind(job.subscription.id.0)
                .bind(next_at)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn put_off(&self, job: &Job, until: DateTime<Utc>, is_counted: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET due_at = $4, attempts = attempts - $5, ticket = NULL, is_begun = FALSE
             WHERE subscription_id = $1 AND chat_id = $2 AND attempts = $3 AND dead_at IS NULL",
        )
        .bind(job.subscription.id.0)
        .bind(chat_of(job))
        .bind(job.attempts)
        .bind(until)
        .bind(i32::from(!is_counted))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Jobs)
    }

    async fn bury(&self, job: &Job, now: DateTime<Utc>, death: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET dead_at = $4, death = $5
             WHERE subscription_id = $1 AND chat_id = $2 AND attempts = $3 AND dead_at IS NULL",
        )
        .bind(job.subscription.id.0)
        .bind(chat_of(job))
        .bind(job.attempts)
        .bind(now)
        .bind(death.to_owned())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Jobs)
    }

    async fn forget_dead(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM jobs WHERE dead_at < $1")
            .bind(before)
            .execute(&self.pool)
            .await
            .map_err(StoreError::Jobs)?;
        Ok(done.rows_affected())
    }

    async fn counts(&self) -> Result<HashMap<NotificationChannel, (i64, i64)>, StoreError> {
        let rows: Vec<CountRow> = sqlx::query_as(
            // Each half is read from an index alone.
            "SELECT channel, count(*) AS waiting, 0::BIGINT AS dead
             FROM jobs WHERE dead_at IS NULL GROUP BY channel
             UNION ALL
             SELECT channel, 0, count(*) FROM jobs WHERE dead_at IS NOT NULL GROUP BY channel",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Jobs)?;
        let mut counts: HashMap<_, (i64, i64)> = HashMap::new();
        for row in rows {
            let Some(channel) = NotificationChannel::parse(&row.channel) else { continue };
            let (waiting, dead) = counts.entry(channel).or_default();
            *waiting += row.waiting;
            *dead += row.dead;
        }
        Ok(counts)
    }

    #[tracing::instrument(name = "notification.store.erase", skip_all, fields(user = %user_id))]
    async fn erase(&self, user_id: UserId) -> Result<bool, StoreError> {
        self.forget(user_id).await.map_err(StoreError::Erase)
    }

    fn deletions_position(&self) -> deletions::Position {
        deletions::Position::in_postgres(self.pool.clone())
    }
}

/// Waits for a lock of the database, and has it until the transaction ends.
async fn lock(connection: &mut PgConnection, key: i64) -> Result<(), sqlx::Error> {
    let locked = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(connection).await;
    locked.map(drop)
}

/// Returns the lock under which jobs of a channel are handed over.
fn handing_lock(channel: NotificationChannel) -> i64 {
    let place = (0..).zip(NotificationChannel::ALL).find(|(_, one)| *one == channel);
    HANDING_LOCKS + place.map_or(0, |(place, _)| place)
}

/// Returns whether a session of a user is known to have ended. No end is noted until the transaction ends.
async fn has_ended(
    connection: &mut PgConnection,
    user_id: UserId,
    session: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)").bind(ENDS_LOCK).execute(&mut *connection).await?;
    let ended: FactRow = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM ended_sessions WHERE user_id = $1 AND session IN ($2, $3)) AS is_so",
    )
    .bind(user_id.0)
    .bind(session.to_owned())
    .bind(ALL_SESSIONS)
    .fetch_one(connection)
    .await?;
    Ok(ended.is_so)
}

/// Notes which sessions have ended, and removes their devices with what was to be sent there. Returns how many there were.
async fn note_ended(
    connection: &mut PgConnection,
    ended: &BTreeSet<(UserId, SessionId)>,
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    if ended.is_empty() {
        return Ok(0);
    }
    let (users, sessions): (Vec<Uuid>, Vec<String>) =
        ended.iter().map(|(user, session)| (user.0, session.as_str().to_owned())).unzip();
    note_ends(&mut *connection, users.clone(), sessions.clone(), now).await?;
    let done = sqlx::query(
        "WITH bound AS MATERIALIZED (
            SELECT subscriptions.subscription_id
            FROM unnest($1::UUID[], $2::TEXT[]) AS said (user_id, session)
            JOIN subscriptions ON subscriptions.user_id = said.user_id AND subscriptions.session = said.session
            ORDER BY subscriptions.subscription_id FOR UPDATE OF subscriptions
         )
         DELETE FROM subscriptions USING bound WHERE subscriptions.subscription_id = bound.subscription_id",
    )
    .bind(users)
    .bind(sessions)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Notes the ends of sessions, each with its user. Who asks with [`has_ended`] waits from then on until the transaction ends.
async fn note_ends(
    connection: &mut PgConnection,
    users: Vec<Uuid>,
    sessions: Vec<String>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    lock(&mut *connection, ENDS_LOCK).await?;
    sqlx::query(
        "INSERT INTO ended_sessions (user_id, session, ended_at)
         SELECT said.user_id, said.session, $3 FROM unnest($1::UUID[], $2::TEXT[]) AS said (user_id, session)
         ON CONFLICT (user_id, session) DO NOTHING",
    )
    .bind(users)
    .bind(sessions)
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

async fn ensure_user(connection: &mut PgConnection, user_id: UserId) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO users (user_id) VALUES ($1) ON CONFLICT (user_id) DO NOTHING");
    insert.bind(user_id.0).execute(connection).await.map(drop)
}

/// Notes who is in which chat, of the users of this service.
async fn note_seats(
    connection: &mut PgConnection,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (mut chats, mut users, mut members, mut versions) = (vec![], vec![], vec![], vec![]);
    for ((chat, user), seat) in &batch.seats {
        chats.push(chat.0);
        users.push(user.0);
        members.push(seat.is_member);
        // What has no version is a tombstone, which is behind all that was said before it.
        versions.push(seat.version.unwrap_or(0));
    }
    if chats.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO seats (chat_id, user_id, is_member, version, changed_at)
         SELECT said.chat_id, said.user_id, said.is_member, said.version, $5
         FROM unnest($1::UUID[], $2::UUID[], $3::BOOLEAN[], $4::BIGINT[])
            AS said (chat_id, user_id, is_member, version)
         JOIN users ON users.user_id = said.user_id
         ORDER BY 1, 2
         ON CONFLICT (chat_id, user_id) DO UPDATE
            SET is_member = excluded.is_member, version = GREATEST(seats.version, excluded.version),
                changed_at = excluded.changed_at
            WHERE excluded.version = 0 OR seats.version <= excluded.version",
    )
    .bind(chats)
    .bind(users)
    .bind(members)
    .bind(versions)
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

/// Notes what devices of the users of this service took.
async fn note_taken(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let (mut chats, mut users, mut seqs) = (vec![], vec![], vec![]);
    for ((chat, user), seq) in &batch.taken {
        chats.push(chat.0);
        users.push(user.0);
        seqs.push(*seq);
    }
    if chats.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH locked AS MATERIALIZED (
            SELECT seats.chat_id, seats.user_id, said.seq
            FROM unnest($1::UUID[], $2::UUID[], $3::BIGINT[]) AS said (chat_id, user_id, seq)
            JOIN seats ON seats.chat_id = said.chat_id AND seats.user_id = said.user_id
            WHERE seats.taken_seq < said.seq
            ORDER BY seats.chat_id, seats.user_id FOR UPDATE OF seats
         )
         UPDATE seats SET taken_seq = locked.seq FROM locked
         WHERE seats.chat_id = locked.chat_id AND seats.user_id = locked.user_id",
    )
    .bind(chats)
    .bind(users)
    .bind(seqs)
    .execute(connection)
    .await
    .map(drop)
}

async fn note_news(
    connection: &mut PgConnection,
    batch: &Batch,
    due_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    for (chat, news) in &batch.news {
        let called: Vec<Uuid> = news.called.iter().map(|user| user.0).collect();
        sqlx::query(
            // What is known already comes again, and makes nothing wait longer.
            "INSERT INTO news (chat_id, seq, called, calls_all, due_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (chat_id) DO UPDATE SET
                next_seq = excluded.seq, next_calls_all = news.next_calls_all OR excluded.calls_all,
                next_called = ARRAY (SELECT unnest(news.next_called) UNION SELECT unnest(excluded.called)),
                next_due_at = excluded.due_at
                WHERE excluded.seq > GREATEST(news.seq, news.next_seq)",
        )
        .bind(chat.0)
        .bind(news.seq)
        .bind(called)
        .bind(news.calls_all)
        .bind(due_at)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Returns the channels that sum up all chats.
fn digest_channels() -> Vec<String> {
    let channels = NotificationChannel::ALL.into_iter().filter(|channel| is_of_digests(*channel));
    channels.map(|channel| channel.as_str().to_owned()).collect()
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn chat_of(job: &Job) -> Uuid {
    place_of(job.chat_id)
}

/// Returns the chat of a job as its row has it.
fn place_of(chat: Option<ChatId>) -> Uuid {
    chat.map_or(ALL_CHATS, |chat| chat.0)
}

/// Returns the chat of a row as a job has it.
fn chat_at(place: Uuid) -> Option<ChatId> {
    (place != ALL_CHATS).then_some(ChatId(place))
}

fn read_preferences(row: PreferencesRow) -> (Preferences, Option<u16>) {
    let minute = |minute: Option<i32>| minute.and_then(|minute| u16::try_from(minute).ok());
    let quiet = match (minute(row.quiet_from), minute(row.quiet_to), row.time_zone) {
        (Some(from), Some(to), Some(time_zone)) => Some(Quiet { from, to, time_zone }),
        _ => None,
    };
    let level = NotificationLevel::parse(&row.level).unwrap_or_default();
    (Preferences { level, shows_text: row.shows_text, quiet }, minute(row.minute))
}

/// A row that this build did not write.
fn unreadable(column: &str) -> sqlx::Error {
    sqlx::Error::ColumnNotFound(column.to_owned())
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = sqlx::Error;

    fn try_from(row: SubscriptionRow) -> Result<Self, sqlx::Error> {
        let url = || Url::parse(&row.endpoint).map_err(|_| unreadable("endpoint"));
        let target = match NotificationChannel::parse(&row.channel) {
            None => return Err(unreadable("channel")),
            Some(NotificationChannel::WebPush) => Target::WebPush {
                endpoint: url()?,
                public_key: row.public_key.ok_or_else(|| unreadable("public_key"))?,
                auth: row.auth.ok_or_else(|| unreadable("auth"))?,
                sender_key: row.sender_key.ok_or_else(|| unreadable("sender_key"))?,
            },
            Some(NotificationChannel::Webhook) => Target::Webhook {
                url: url()?,
                secret: row.secret.ok_or_else(|| unreadable("secret"))?.into(),
            },
            Some(NotificationChannel::Email) => {
                let address = Email::parse("endpoint", &row.endpoint);
                Target::Email { address: address.map_err(|_| unreadable("endpoint"))? }
            }
            Some(NotificationChannel::Fcm) => Target::Fcm { token: row.endpoint },
            Some(NotificationChannel::Sms) => {
                let number = PhoneNumber::parse("endpoint", &row.endpoint);
                Target::Sms { number: number.map_err(|_| unreadable("endpoint"))? }
            }
        };
        Ok(Self {
            id: SubscriptionId(row.subscription_id),
            user_id: UserId(row.user_id),
            target,
            is_confirmed: row.is_confirmed,
            created_at: row.created_at,
        })
    }
}

impl TryFrom<UnseenRow> for Unseen {
    type Error = sqlx::Error;

    fn try_from(row: UnseenRow) -> Result<Self, sqlx::Error> {
        let session = row.session.map(SessionId::try_from).transpose();
        Ok(Self {
            id: SubscriptionId(row.subscription_id),
            user_id: UserId(row.user_id),
            session: session.map_err(|_| unreadable("session"))?,
        })
    }
}

impl TryFrom<JobRow> for Job {
    type Error = sqlx::Error;

    fn try_from(row: JobRow) -> Result<Self, sqlx::Error> {
        let JobRow {
            subscription_id, user_id, channel, endpoint, public_key, auth, secret, sender_key, ..
        } = row;
        let subscription = SubscriptionRow {
            subscription_id,
            user_id,
            channel,
            endpoint,
            public_key,
            auth,
            secret,
            sender_key,
            is_confirmed: row.is_confirmed,
            created_at: row.created_at,
        };
        Ok(Self {
            subscription: subscription.try_into()?,
            chat_id: chat_at(row.chat_id),
            seq: row.seq,
            is_called: row.is_called,
            version: row.version,
            attempts: row.attempts,
        })
    }
}

impl From<TicketRow> for Ticket {
    fn from(row: TicketRow) -> Self {
        Self {
            number: row.ticket,
            subscription_id: SubscriptionId(row.subscription_id),
            chat_id: chat_at(row.chat_id),
            attempts: row.attempts,
        }
    }
}

#[cfg(test)]
mod tests {
    use kit::testing::migration_files;

    use super::*;
    use crate::domain::is_of_one_device;

    #[test]
    fn every_migration_file_is_declared_in_order() {
        let declared: Vec<_> = SCHEMA.migrations.iter().map(|(name, _)| *name).collect();
        assert_eq!(migration_files(env!("CARGO_MANIFEST_DIR")), declared);
    }

    /// Indexes and statements name them in their text.
    #[test]
    fn a_device_is_a_browser_or_an_app() {
        let devices = NotificationChannel::ALL.into_iter().filter(|channel| is_of_one_device(*channel));
        let devices: BTreeSet<_> = devices.map(NotificationChannel::as_str).collect();
        assert_eq!(devices, BTreeSet::from(["web_push", "fcm"]));
    }

    #[test]
    fn no_channel_waits_for_a_lock_of_another_one() {
        let of_channels = NotificationChannel::ALL.into_iter().map(handing_lock);
        let all: BTreeSet<i64> = of_channels.chain([CODES_LOCK, ENDS_LOCK]).collect();
        assert_eq!(all.len(), NotificationChannel::ALL.len() + 2);
    }
}
