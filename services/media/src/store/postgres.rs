//! Files in PostgreSQL.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, FileId, UserId,
    api::{FilePurpose, FileRefusal},
    event::SeqRange,
};
use kit::{
    deletions,
    postgres::{Schema, positions},
};
use sqlx::{PgConnection, PgPool};
use tonic::async_trait;
use uuid::Uuid;

use super::{Claimed, Created, Discarded, FileStore, Offered, Refusal, StoreError};
use crate::domain::{
    Attached, Change, Declared, FREE_HOURS, Facts, File, FileName, MAX_CLAIMS, MAX_FREE_FILES, MediaType,
    NewFile, Outcome, QUARANTINE_DAYS, Quotas, Readers, State, Thumbnail, UPLOAD_SLACK,
};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "media_service",
    migrations: &[("0001_create_files", include_str!("../../migrations/0001_create_files.sql"))],
};

/// The columns of a [`FileRow`].
macro_rules! file_columns {
    () => {
        "file_id, owner_id, purpose, chat_id, name, declared_type, declared_bytes, sha256, created_at, multipart_id, state, refusal, media_type, bytes, width, height, duration_ms, blur, thumbnail_type, thumbnail_bytes, attempts, kept_bytes"
    };
}

/// Attachments that one transaction removes: far fewer than a statement has time for. A chat may have any number.
const STEP: i64 = 1_000;

/// Whose usage the row with the sum of all is.
const ALL_USERS: Uuid = Uuid::nil();

/// Keeps what files there are in the tenant's database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Returns a store on a pool whose search path starts with [`SCHEMA`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

kit::row! {
    struct FileRow {
        file_id: Uuid,
        owner_id: Uuid,
        purpose: String,
        chat_id: Option<Uuid>,
        name: String,
        declared_type: String,
        declared_bytes: i64,
        sha256: Option<Vec<u8>>,
        created_at: DateTime<Utc>,
        multipart_id: Option<String>,
        state: String,
        refusal: Option<String>,
        media_type: Option<String>,
        bytes: Option<i64>,
        width: Option<i32>,
        height: Option<i32>,
        duration_ms: Option<i64>,
        blur: Option<String>,
        thumbnail_type: Option<String>,
        thumbnail_bytes: Option<i64>,
        attempts: i32,
        kept_bytes: i64,
    }
}

impl PostgresStore {
    /// Runs the query of one or no file.
    async fn one(
        &self,
        sql: &'static str,
        bind: impl FnOnce(FileQuery) -> FileQuery,
    ) -> Result<Option<File>, sqlx::Error> {
        let row = bind(sqlx::query_as(sql)).fetch_optional(&self.pool).await?;
        row.map(File::try_from).transpose()
    }

    /// Runs the query of files.
    async fn many(
        &self,
        sql: &'static str,
        bind: impl FnOnce(FileQuery) -> FileQuery,
    ) -> Result<Vec<File>, sqlx::Error> {
        let rows = bind(sqlx::query_as(sql)).fetch_all(&self.pool).await?;
        rows.into_iter().map(File::try_from).collect()
    }
}

type FileQuery = sqlx::query::QueryAs<'static, sqlx::Postgres, FileRow, sqlx::postgres::PgArguments>;

#[async_trait]
impl FileStore for PostgresStore {
    #[tracing::instrument(name = "media.store.create", skip_all, fields(file = %new.file_id))]
    async fn create(
        &self,
        new: &NewFile,
        quotas: &Quotas,
        upload_until: DateTime<Utc>,
    ) -> Result<Created, StoreError> {
        let file_id = new.file_id;
        let failed = |source| StoreError::Create { file_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // One after the other for one user, so that none of two sees room that the other takes.
        ensure_usage(&mut transaction, new.owner).await.map_err(failed)?;
        if let Some(key) = &new.key {
            let found: Option<KeyRow> = sqlx::query_as(
                "SELECT file_id, request_digest FROM files WHERE owner_id = $1 AND request_key = $2",
            )
            .bind(new.owner.0)
            .bind(key.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
            if let Some(found) = found {
                if found.request_digest != new.digest() {
                    return Err(Refusal::KeyReused.into());
                }
                drop(transaction);
                let file = self.file(FileId(found.file_id)).await?;
                let gone = || StoreError::Read(sqlx::Error::RowNotFound);
                return file.map(|file| Created { file, is_new: false }).ok_or_else(gone);
            }
        }
        let bytes = new.declared.bytes;
        if bytes > quotas.file_bytes {
            return Err(Refusal::FileTooLarge(quotas.file_bytes).into());
        }
        let free: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM files
             WHERE owner_id = $1 AND (free_since IS NOT NULL OR (purpose = 'avatar' AND state = 'removing'))",
        )
        .bind(new.owner.0)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        if free >= MAX_FREE_FILES {
            return Err(Refusal::TooManyFree.into());
        }
        if !take(&mut transaction, new.owner.0, bytes, quotas.user_bytes).await.map_err(failed)? {
            return Err(Refusal::UserFull(quotas.user_bytes).into());
        }
        if !take(&mut transaction, ALL_USERS, bytes, quotas.tenant_bytes).await.map_err(failed)? {
            return Err(Refusal::TenantFull.into());
        }
        sqlx::query(
            "INSERT INTO files (file_id, owner_id, purpose, chat_id, name, declared_type, declared_bytes, sha256,
                                request_key, request_digest, created_at, kept_bytes, upload_until, free_since)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $7, $12, $11)",
        )
        .bind(file_id.0)
        .bind(new.owner.0)
        .bind(purpose_name(new.purpose))
        .bind(new.purpose.chat().map(|chat| chat.0))
        .bind(new.name.as_str())
        .bind(new.declared.media_type.as_str())
        .bind(bytes)
        .bind(new.declared.checksum.map(|checksum| checksum.to_vec()))
        .bind(new.key.as_ref().map(|key| key.as_str().to_owned()))
        .bind(new.digest().to_vec())
        .bind(new.created_at)
        .bind(upload_until)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Created { file: new.file(), is_new: true })
    }

    #[tracing::instrument(name = "media.store.file", skip_all, fields(file = %file_id))]
    async fn file(&self, file_id: FileId) -> Result<Option<File>, StoreError> {
        let sql = concat!("SELECT ", file_columns!(), " FROM files WHERE file_id = $1");
        self.one(sql, |query| query.bind(file_id.0)).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "media.store.set_multipart", skip_all, fields(file = %file_id))]
    async fn set_multipart(&self, file_id: FileId, multipart_id: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(
            "UPDATE files SET multipart_id = COALESCE(multipart_id, $2)
             WHERE file_id = $1 AND state = 'pending' RETURNING multipart_id",
        )
        .bind(file_id.0)
        .bind(multipart_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| StoreError::Change { file_id, source })
    }

    #[tracing::instrument(name = "media.store.extend_upload", skip_all, fields(file = %file_id))]
    async fn extend_upload(&self, file_id: FileId, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let extended = sqlx::query(
            "UPDATE files SET upload_until = greatest(upload_until, $2) WHERE file_id = $1 AND state = 'pending'",
        )
        .bind(file_id.0)
        .bind(until)
        .execute(&self.pool)
        .await
        .map_err(|source| StoreError::Change { file_id, source })?;
        Ok(extended.rows_affected() == 1)
    }

    #[tracing::instrument(name = "media.store.begin", skip_all, fields(file = %file_id))]
    async fn begin(&self, file_id: FileId, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let begun = sqlx::query(
            "UPDATE files SET state = 'processing', claimed_until = $2 WHERE file_id = $1 AND state = 'pending'",
        )
        .bind(file_id.0)
        .bind(at)
        .execute(&self.pool)
        .await
        .map_err(|source| StoreError::Change { file_id, source })?;
        Ok(begun.rows_affected() == 1)
    }

    #[tracing::instrument(name = "media.store.claim", skip_all)]
    async fn claim(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Claimed>, StoreError> {
        let sql = concat!(
            "UPDATE files SET claimed_until = $2, attempts = attempts + 1
             WHERE file_id = (
                 SELECT file_id FROM files AS waiting
                 WHERE state = 'processing' AND claimed_until <= $1
                   AND $3 > (SELECT count(*) FROM files AS claimed
                             WHERE claimed.state = 'processing' AND claimed.claimed_until > $1
                               AND claimed.owner_id = waiting.owner_id)
                 ORDER BY claimed_until LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING ",
            file_columns!()
        );
        let bind = |query: FileQuery| query.bind(now).bind(until).bind(MAX_CLAIMS);
        let row: Option<FileRow> =
            bind(sqlx::query_as(sql)).fetch_optional(&self.pool).await.map_err(StoreError::Read)?;
        let claimed = |row: FileRow| {
            let attempts = row.attempts;
            Ok(Claimed { file: row.try_into()?, attempts })
        };
        row.map(claimed).transpose().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "media.store.give_claim_back", skip_all, fields(file = %file_id))]
    async fn give_claim_back(
        &self,
        file_id: FileId,
        again_at: DateTime<Utc>,
        is_counted: bool,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE files SET claimed_until = $2, attempts = greatest(attempts - $3, 0)
             WHERE file_id = $1 AND state = 'processing'",
        )
        .bind(file_id.0)
        .bind(again_at)
        .bind(if is_counted { 0 } else { 1 })
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(|source| StoreError::Change { file_id, source })
    }

    #[tracing::instrument(name = "media.store.finish", skip_all, fields(file = %file_id))]
    async fn finish(
        &self,
        file_id: FileId,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<Option<File>, StoreError> {
        let failed = |source| StoreError::Change { file_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let before: Option<KeptRow> = sqlx::query_as(
            "SELECT owner_id, purpose, declared_bytes, kept_bytes FROM files
             WHERE file_id = $1 AND state = 'processing' FOR UPDATE",
        )
        .bind(file_id.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(before) = before else {
            drop(transaction);
            return self.file(file_id).await;
        };
        let kept_bytes = outcome.charged_bytes(before.declared_bytes);
        let (state, refusal, facts) = match outcome {
            Outcome::Ready(facts) => (READY, None, Some(facts)),
            Outcome::Refused(refusal) => ("refused", Some(refusal.as_str()), None),
            Outcome::Quarantined => ("quarantined", None, None),
        };
        let thumbnail = facts.and_then(|facts| facts.thumbnail.as_ref());
        // A chat may have a file as its picture before the check ends. What is not a picture is the chat's no longer.
        sqlx::query(
            "UPDATE files SET state = $2, refusal = $3, kept_bytes = $4, claimed_until = NULL, media_type = $5, bytes = $6,
                              width = $7, height = $8, duration_ms = $9, blur = $10, thumbnail_type = $11,
                              thumbnail_bytes = $12,
                              free_since = CASE WHEN $2 = 'ready' THEN free_since ELSE COALESCE(free_since, $13) END
             WHERE file_id = $1",
        )
        .bind(file_id.0)
        .bind(state)
        .bind(refusal)
        .bind(kept_bytes)
        .bind(facts.map(|facts| facts.media_type.as_str().to_owned()))
        .bind(facts.map(|facts| facts.bytes))
        .bind(facts.and_then(|facts| facts.width).and_then(|width| i32::try_from(width).ok()))
        .bind(facts.and_then(|facts| facts.height).and_then(|height| i32::try_from(height).ok()))
        .bind(facts.and_then(|facts| facts.duration_ms))
        .bind(facts.and_then(|facts| facts.blur.clone()))
        .bind(thumbnail.map(|thumbnail| thumbnail.media_type.as_str().to_owned()))
        .bind(thumbnail.map(|thumbnail| thumbnail.bytes))
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if before.purpose == AVATAR && facts.is_some() {
            sqlx::query(
                "UPDATE files SET free_since = CASE WHEN file_id = $2 THEN NULL ELSE COALESCE(free_since, $3) END
                 WHERE owner_id = $1 AND purpose = 'avatar' AND state <> 'removing'
                   AND (file_id = $2 OR free_since IS NULL)",
            )
            .bind(before.owner_id)
            .bind(file_id.0)
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        give_back(&mut transaction, before.owner_id, before.kept_bytes - kept_bytes).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.file(file_id).await
    }

    #[tracing::instrument(name = "media.store.readers", skip_all, fields(file = %file_id))]
    async fn readers(
        &self,
        file_id: FileId,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Readers>, StoreError> {
        let rows: Vec<(Uuid, Option<i64>)> = sqlx::query_as(
            "SELECT chat_id, CASE WHEN bool_or(is_offered) THEN NULL ELSE max(seq) END
             FROM (
                 SELECT chat_id, seq, FALSE AS is_offered FROM attachments
                 WHERE file_id = $1 AND (expires_at IS NULL OR expires_at > $2)
                 UNION ALL
                 SELECT chat_id, NULL::BIGINT, TRUE FROM offers WHERE file_id = $1 AND offered_until > $2
             ) AS messages
             GROUP BY chat_id ORDER BY chat_id LIMIT $3",
        )
        .bind(file_id.0)
        .bind(now)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(rows.into_iter().map(|(chat, seq)| Readers { chat: ChatId(chat), seq }).collect())
    }

    #[tracing::instrument(name = "media.store.offer", skip_all, fields(chat = %chat_id))]
    async fn offer(
        &self,
        file_ids: &[FileId],
        owner: UserId,
        chat_id: ChatId,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Offered, StoreError> {
        let Some(&file_id) = file_ids.first() else { return Ok(Offered::Files(Vec::new())) };
        let failed = |source| StoreError::Change { file_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // Locked up to the end, so that none of them is given up in between.
        let sql = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files
             WHERE file_id = ANY ($1) AND owner_id = $2 AND purpose = 'chat' AND chat_id = $3 AND state = 'ready'
               AND discarded_at IS NULL
             ORDER BY file_id FOR UPDATE"
        );
        let rows: Vec<FileRow> = sqlx::query_as(sql)
            .bind(uuids(file_ids))
            .bind(owner.0)
            .bind(chat_id.0)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed)?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            found.insert(FileId(row.file_id), File::try_from(row).map_err(failed)?);
        }
        let mut files = Vec::with_capacity(file_ids.len());
        for file_id in file_ids {
            let Some(file) = found.remove(file_id) else { return Ok(Offered::NotFound(*file_id)) };
            files.push(file);
        }
        let file_ids = uuids(file_ids);
        sqlx::query(
            "UPDATE files SET free_since = greatest(free_since, $2)
             WHERE file_id = ANY ($1) AND free_since IS NOT NULL",
        )
        .bind(&file_ids)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(
            "INSERT INTO offers (file_id, chat_id, offered_until) SELECT unnest($1::UUID[]), $2, $3
             ON CONFLICT (file_id, chat_id) DO UPDATE SET offered_until = excluded.offered_until",
        )
        .bind(&file_ids)
        .bind(chat_id.0)
        .bind(until)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Offered::Files(files))
    }

    #[tracing::instrument(name = "media.store.avatars", skip_all, fields(users = users.len()))]
    async fn avatars(&self, users: &[UserId]) -> Result<Vec<File>, StoreError> {
        let sql = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files
             WHERE owner_id = ANY ($1) AND purpose = 'avatar' AND free_since IS NULL AND state = 'ready'"
        );
        let owners: Vec<_> = users.iter().map(|user| user.0).collect();
        self.many(sql, |query| query.bind(owners)).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "media.store.discard", skip_all, fields(file = %file_id))]
    async fn discard(
        &self,
        file_id: FileId,
        owner: UserId,
        now: DateTime<Utc>,
    ) -> Result<Discarded, StoreError> {
        let failed = |source| StoreError::Change { file_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let owned: Option<OwnedRow> = sqlx::query_as(
            "SELECT file_id, state, purpose, free_since IS NOT NULL AS is_free FROM files
             WHERE file_id = $1 AND owner_id = $2 FOR UPDATE",
        )
        .bind(file_id.0)
        .bind(owner.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let Some(owned) = owned else { return Ok(Discarded::NotFound) };
        if owned.state == REMOVING {
            return Ok(Discarded::Begun);
        }
        if !owned.is_free && owned.purpose != AVATAR {
            return Ok(Discarded::InUse);
        }
        give_up(&mut transaction, &[owned], now).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Discarded::Begun)
    }

    #[tracing::instrument(name = "media.store.collect", skip_all)]
    async fn collect(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut transaction = self.pool.begin().await.map_err(StoreError::Remove)?;
        // Up to when every partition was read; NULL while one never was, and then no file that is ready goes.
        let read_until: Option<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT CASE WHEN bool_and(caught_up_at IS NOT NULL) THEN min(caught_up_at) END FROM positions",
        )
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::Remove)?;
        let read_until = read_until.map(|until| until.min(now));
        let free_before = now - TimeDelta::hours(FREE_HOURS);
        let read_free_before = read_until.map(|until| until - TimeDelta::hours(FREE_HOURS));
        let found: Vec<Uuid> = sqlx::query_scalar(
            "SELECT file_id FROM files
             WHERE (free_since < CASE state WHEN 'ready' THEN $2 WHEN 'quarantined' THEN $3 ELSE $1 END
                    OR (free_since < $5 AND discarded_at < $5
                        AND NOT EXISTS (SELECT FROM offers
                                        WHERE offers.file_id = files.file_id AND offered_until > $6)))
               AND state <> 'removing'
               AND NOT EXISTS (SELECT FROM attachments WHERE attachments.file_id = files.file_id)
             ORDER BY free_since LIMIT $4 FOR UPDATE SKIP LOCKED",
        )
        .bind(free_before)
        .bind(read_free_before)
        .bind(now - TimeDelta::days(QUARANTINE_DAYS))
        .bind(limit)
        .bind(read_until)
        .bind(now)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::Remove)?;
        remove(&mut transaction, &found).await.map_err(StoreError::Remove)?;
        transaction.commit().await.map_err(StoreError::Remove)?;
        let sql = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files
             WHERE state = 'removing' AND (NOT is_emptied OR upload_until IS NULL OR upload_until < $2)
             ORDER BY file_id LIMIT $1"
        );
        self.many(sql, |query| query.bind(limit).bind(now - UPLOAD_SLACK)).await.map_err(StoreError::Remove)
    }

    #[tracing::instrument(name = "media.store.forget", skip_all, fields(file = %file_id))]
    async fn forget(&self, file_id: FileId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Remove)?;
        let gone: Option<GoneRow> = sqlx::query_as(
            "DELETE FROM files
             WHERE file_id = $1 AND state = 'removing' AND (upload_until IS NULL OR upload_until < $2)
             RETURNING owner_id, kept_bytes",
        )
        .bind(file_id.0)
        .bind(now - UPLOAD_SLACK)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::Remove)?;
        let is_forgotten = gone.is_some();
        match gone {
            Some(gone) => give_back(&mut transaction, gone.owner_id, gone.kept_bytes).await,
            None => {
                sqlx::query("UPDATE files SET is_emptied = TRUE WHERE file_id = $1 AND state = 'removing'")
                    .bind(file_id.0)
                    .execute(&mut *transaction)
                    .await
                    .map(drop)
            }
        }
        .map_err(StoreError::Remove)?;
        transaction.commit().await.map_err(StoreError::Remove)?;
        Ok(is_forgotten)
    }

    #[tracing::instrument(name = "media.store.uploaded", skip_all)]
    async fn uploaded(&self, now: DateTime<Utc>, limit: usize) -> Result<Vec<File>, StoreError> {
        let sql = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files
             WHERE upload_until < $1 AND state IN ('ready', 'refused', 'quarantined')
             ORDER BY upload_until LIMIT $2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let until = now - UPLOAD_SLACK;
        self.many(sql, |query| query.bind(until).bind(limit)).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "media.store.forget_upload", skip_all, fields(file = %file_id))]
    async fn forget_upload(&self, file_id: FileId) -> Result<(), StoreError> {
        let failed = |source| StoreError::Change { file_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let sql = concat!(
            "SELECT ",
            file_columns!(),
            " FROM files WHERE file_id = $1 AND upload_until IS NOT NULL FOR UPDATE"
        );
        let row: Option<FileRow> =
            sqlx::query_as(sql).bind(file_id.0).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let Some(row) = row else { return Ok(()) };
        let charged_bytes = row.kept_bytes;
        let file = File::try_from(row).map_err(failed)?;
        // What is being removed by now gives everything back with its row.
        let Some(outcome) = file.state.outcome() else { return Ok(()) };
        let kept_bytes = outcome.kept_bytes(file.declared.bytes);
        sqlx::query("UPDATE files SET upload_until = NULL, kept_bytes = $2 WHERE file_id = $1")
            .bind(file_id.0)
            .bind(kept_bytes)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        give_back(&mut transaction, file.owner.0, charged_bytes - kept_bytes).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "media.store.expire", skip_all)]
    async fn expire(&self, now: DateTime<Utc>, limit: usize) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Remove)?;
        let gone: Vec<DetachedRow> = sqlx::query_as(
            "DELETE FROM attachments WHERE (chat_id, seq, file_id) IN (
                 SELECT chat_id, seq, file_id FROM attachments WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)
             RETURNING file_id, chat_id",
        )
        .bind(now)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::Remove)?;
        let has_more = gone.len() == limit;
        release(&mut transaction, gone, now).await.map_err(StoreError::Remove)?;
        sqlx::query("DELETE FROM offers WHERE offered_until <= $1")
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::Remove)?;
        transaction.commit().await.map_err(StoreError::Remove)?;
        Ok(has_more)
    }

    #[tracing::instrument(name = "media.store.positions", skip_all)]
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        positions::read(&self.pool, partitions).await.map_err(StoreError::Position)
    }

    #[tracing::instrument(name = "media.store.apply", skip_all, fields(partition))]
    async fn apply(
        &self,
        partition: i32,
        next_offset: i64,
        changes: &[Change],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Apply { partition, source };
        // Each in transactions of its own: what one locks is locked in one order, and a chat with any number of files goes in steps. The
        // position moves behind them all, and what is done again has the same effect.
        for change in changes {
            let mut has_more = true;
            while has_more {
                let mut transaction = self.pool.begin().await.map_err(failed)?;
                has_more = apply(&mut transaction, change, now).await.map_err(failed)?;
                transaction.commit().await.map_err(failed)?;
            }
        }
        positions::advance(&self.pool, partition, next_offset).await.map_err(failed)
    }

    #[tracing::instrument(name = "media.store.caught_up", skip_all, fields(partition))]
    async fn caught_up(&self, partition: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("UPDATE positions SET caught_up_at = $2 WHERE partition = $1")
            .bind(partition)
            .bind(at)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(StoreError::Position)
    }

    #[tracing::instrument(name = "media.store.erase", skip_all, fields(user = %user_id))]
    async fn erase(&self, user_id: UserId, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Remove)?;
        let found: Vec<OwnedRow> = sqlx::query_as(
            "SELECT file_id, state, purpose, free_since IS NOT NULL AS is_free FROM files
             WHERE owner_id = $1 AND (free_since IS NOT NULL OR purpose = 'avatar') AND state <> 'removing'
               AND discarded_at IS NULL
             ORDER BY file_id FOR UPDATE",
        )
        .bind(user_id.0)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::Remove)?;
        give_up(&mut transaction, &found, now).await.map_err(StoreError::Remove)?;
        transaction.commit().await.map_err(StoreError::Remove)?;
        Ok(found.len() as u64)
    }

    fn deletions_position(&self) -> deletions::Position {
        deletions::Position::in_postgres(self.pool.clone())
    }

    #[tracing::instrument(name = "media.store.used_bytes", skip_all)]
    async fn used_bytes(&self) -> Result<i64, StoreError> {
        let bytes: Option<i64> = sqlx::query_scalar("SELECT bytes FROM usage WHERE user_id = $1")
            .bind(ALL_USERS)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Read)?;
        Ok(bytes.unwrap_or(0))
    }
}

kit::row! {
    struct KeyRow {
        file_id: Uuid,
        request_digest: Vec<u8>,
    }
}

kit::row! {
    struct KeptRow {
        owner_id: Uuid,
        purpose: String,
        declared_bytes: i64,
        kept_bytes: i64,
    }
}

kit::row! {
    struct OwnedRow {
        file_id: Uuid,
        state: String,
        purpose: String,
        is_free: bool,
    }
}

kit::row! {
    struct GoneRow {
        owner_id: Uuid,
        kept_bytes: i64,
    }
}

kit::row! {
    struct DetachedRow {
        file_id: Uuid,
        chat_id: Uuid,
    }
}

/// Creates the row of a user's usage and that of all users where they are missing, and locks the user's.
async fn ensure_usage(connection: &mut PgConnection, user_id: UserId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO usage (user_id, bytes) SELECT unnest($1::UUID[]), 0 ON CONFLICT (user_id) DO NOTHING",
    )
    .bind(vec![user_id.0, ALL_USERS])
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT bytes FROM usage WHERE user_id = $1 FOR UPDATE")
        .bind(user_id.0)
        .execute(connection)
        .await
        .map(drop)
}

/// Takes bytes of a quota. Returns whether there was room.
async fn take(
    connection: &mut PgConnection,
    user: Uuid,
    bytes: i64,
    quota: i64,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query("UPDATE usage SET bytes = bytes + $2 WHERE user_id = $1 AND bytes + $2 <= $3")
        .bind(user)
        .bind(bytes)
        .bind(quota)
        .execute(connection)
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// Gives bytes back that a user's file takes no more; less than none takes more, whatever the quotas are.
async fn give_back(connection: &mut PgConnection, user: Uuid, bytes: i64) -> Result<(), sqlx::Error> {
    // As of a file that takes what was declared: the row of all users is one that every upload waits for.
    if bytes == 0 {
        return Ok(());
    }
    // In the order in which a creation takes them, or two would wait for each other.
    for row in [user, ALL_USERS] {
        sqlx::query("UPDATE usage SET bytes = greatest(bytes - $2, 0) WHERE user_id = $1")
            .bind(row)
            .bind(bytes)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Gives files up whose rows are locked: removes those that no message may have, and notes of the others when it was.
async fn give_up(
    connection: &mut PgConnection,
    files: &[OwnedRow],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if files.is_empty() {
        return Ok(());
    }
    let (waiting, gone): (Vec<_>, Vec<_>) =
        files.iter().partition(|file| file.state == READY && file.purpose != AVATAR);
    let ids = |files: Vec<&OwnedRow>| files.into_iter().map(|file| file.file_id).collect::<Vec<_>>();
    remove(connection, &ids(gone)).await?;
    sqlx::query("UPDATE files SET discarded_at = COALESCE(discarded_at, $2) WHERE file_id = ANY ($1)")
        .bind(ids(waiting))
        .bind(now)
        .execute(connection)
        .await
        .map(drop)
}

/// Begins the removal of files whose rows are locked: of those that no message has. Nothing refers to them from here on.
async fn remove(connection: &mut PgConnection, file_ids: &[Uuid]) -> Result<(), sqlx::Error> {
    if file_ids.is_empty() {
        return Ok(());
    }
    // What its upload or a check in progress may write still is removed before the row is, see `collect`.
    let removed: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE files SET state = 'removing', request_key = NULL, claimed_until = NULL, discarded_at = NULL,
                          upload_until = greatest(upload_until, claimed_until)
         WHERE file_id = ANY ($1)
           AND NOT EXISTS (SELECT FROM attachments WHERE attachments.file_id = files.file_id)
         RETURNING file_id",
    )
    .bind(file_ids)
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM offers WHERE file_id = ANY ($1)")
        .bind(removed)
        .execute(connection)
        .await
        .map(drop)
}

/// Locks the rows of files in one order, so that no two transactions wait for each other, and returns those that are not being
/// removed. Whether a message has one of them is looked for behind this.
async fn lock(connection: &mut PgConnection, file_ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT file_id FROM files WHERE file_id = ANY ($1) AND state <> 'removing' ORDER BY file_id FOR UPDATE",
    )
    .bind(file_ids)
    .fetch_all(connection)
    .await
}

/// Notes what follows from messages that do not have files any more.
async fn release(
    connection: &mut PgConnection,
    gone: Vec<DetachedRow>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let (files, chats): (Vec<Uuid>, Vec<Uuid>) =
        gone.into_iter().map(|row| (row.file_id, row.chat_id)).unzip();
    // Another partition may be attaching one of them, and a gateway may be offering one: both lock it first.
    let locked = lock(connection, &files).await?;
    sqlx::query(
        "DELETE FROM offers WHERE (file_id, chat_id) IN (SELECT * FROM unnest($1::UUID[], $2::UUID[]))",
    )
    .bind(files)
    .bind(chats)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE files SET free_since = $2
         WHERE file_id = ANY ($1) AND free_since IS NULL
           AND NOT EXISTS (SELECT FROM attachments WHERE attachments.file_id = files.file_id)",
    )
    .bind(locked)
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

/// Notes which file is the picture of a chat, if any. One that is being checked is, unless it is refused then.
async fn picture(
    connection: &mut PgConnection,
    chat: ChatId,
    picture: Option<FileId>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE files SET free_since = CASE WHEN file_id = $2 AND state IN ('processing', 'ready') THEN NULL
                                            ELSE COALESCE(free_since, $3) END
         WHERE chat_id = $1 AND purpose = 'chat_picture' AND state <> 'removing'
           AND (file_id = $2 OR free_since IS NULL)",
    )
    .bind(chat.0)
    .bind(picture.map(|picture| picture.0))
    .bind(now)
    .execute(connection)
    .await
    .map(drop)
}

/// Carries out one change, or a step of it. Returns whether there may be more.
async fn apply(
    connection: &mut PgConnection,
    change: &Change,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    match change {
        Change::Attached(attached) => attach(connection, attached).await.map(|()| false),
        Change::Pictured { chat, picture: file } => {
            picture(connection, *chat, *file, now).await.map(|()| false)
        }
        Change::Detached { chat, seq } => {
            detach(connection, *chat, SeqRange { from_seq: *seq, to_seq: *seq }, None, now).await
        }
        Change::RangeDetached { chat, range, sender } => {
            detach(connection, *chat, *range, *sender, now).await
        }
        Change::ChatDeleted { chat } => {
            picture(connection, *chat, None, now).await?;
            let all = SeqRange { from_seq: 0, to_seq: i64::MAX };
            let has_more = detach(connection, *chat, all, None, now).await?;
            sqlx::query("DELETE FROM offers WHERE chat_id = $1").bind(chat.0).execute(connection).await?;
            Ok(has_more)
        }
    }
}

/// Notes that a message has files.
async fn attach(connection: &mut PgConnection, attached: &Attached) -> Result<(), sqlx::Error> {
    let Attached { chat, seq, sender, files, expires_at } = attached;
    let files = lock(connection, &uuids(files)).await?;
    sqlx::query(
        "INSERT INTO attachments (chat_id, seq, file_id, sender_id, expires_at)
         SELECT $1, $2, unnest($3::UUID[]), $4, $5
         ON CONFLICT (chat_id, seq, file_id) DO NOTHING",
    )
    .bind(chat.0)
    .bind(*seq)
    .bind(&files)
    .bind(sender.0)
    .bind(*expires_at)
    .execute(&mut *connection)
    .await?;
    // The message says from here on who may read them, and up to when: an offer would outlast one that disappears.
    sqlx::query("DELETE FROM offers WHERE chat_id = $1 AND file_id = ANY ($2)")
        .bind(chat.0)
        .bind(&files)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE files SET free_since = NULL WHERE file_id = ANY ($1) AND free_since IS NOT NULL")
        .bind(&files)
        .execute(connection)
        .await
        .map(drop)
}

/// Notes that messages of a range have no files any more: those of one sender, or of every one. Returns whether there may be more.
async fn detach(
    connection: &mut PgConnection,
    chat: ChatId,
    range: SeqRange,
    sender: Option<UserId>,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let gone: Vec<DetachedRow> = sqlx::query_as(
        "DELETE FROM attachments WHERE (chat_id, seq, file_id) IN (
             SELECT chat_id, seq, file_id FROM attachments
             WHERE chat_id = $1 AND seq BETWEEN $2 AND $3 AND ($4::UUID IS NULL OR sender_id = $4)
             LIMIT $5)
         RETURNING file_id, chat_id",
    )
    .bind(chat.0)
    .bind(range.from_seq)
    .bind(range.to_seq)
    .bind(sender.map(|sender| sender.0))
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await?;
    let has_more = gone.len() as i64 == STEP;
    release(connection, gone, now).await?;
    Ok(has_more)
}

fn uuids(file_ids: &[FileId]) -> Vec<Uuid> {
    file_ids.iter().map(|file_id| file_id.0).collect()
}

const CHAT: &str = "chat";
const CHAT_PICTURE: &str = "chat_picture";
const AVATAR: &str = "avatar";
/// States that decide what becomes of a file which is given up.
const READY: &str = "ready";
const REMOVING: &str = "removing";

const fn purpose_name(purpose: FilePurpose) -> &'static str {
    match purpose {
        FilePurpose::Chat(_) => CHAT,
        FilePurpose::ChatPicture(_) => CHAT_PICTURE,
        FilePurpose::Avatar => AVATAR,
    }
}

fn unknown(column: &str, text: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} has the unknown value {text}").into())
}

impl TryFrom<FileRow> for File {
    type Error = sqlx::Error;

    fn try_from(row: FileRow) -> Result<Self, sqlx::Error> {
        let state = match row.state.as_str() {
            "pending" => State::Pending,
            "processing" => State::Processing,
            READY => State::Ready(row.facts()?),
            "refused" => {
                let refusal = row.refusal.as_deref().unwrap_or_default();
                State::Refused(FileRefusal::parse(refusal).ok_or_else(|| unknown("refusal", refusal))?)
            }
            "quarantined" => State::Quarantined,
            REMOVING => State::Removing,
            other => return Err(unknown("state", other)),
        };
        let purpose = match (row.purpose.as_str(), row.chat_id.map(ChatId)) {
            (CHAT, Some(chat)) => FilePurpose::Chat(chat),
            (CHAT_PICTURE, Some(chat)) => FilePurpose::ChatPicture(chat),
            (AVATAR, None) => FilePurpose::Avatar,
            (other, _) => return Err(unknown("purpose", other)),
        };
        let checksum =
            row.sha256.map(|bytes| bytes.try_into().map_err(|_| unknown("sha256", "of another length")));
        Ok(Self {
            file_id: FileId(row.file_id),
            owner: UserId(row.owner_id),
            purpose,
            name: FileName::of(&row.name),
            declared: Declared {
                media_type: MediaType::of(&row.declared_type),
                bytes: row.declared_bytes,
                checksum: checksum.transpose()?,
            },
            state,
            multipart_id: row.multipart_id,
            created_at: row.created_at,
        })
    }
}

impl FileRow {
    fn facts(&self) -> Result<Facts, sqlx::Error> {
        let missing = |column: &str| unknown(column, "NULL in a file that is ready");
        let pixels = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
        let thumbnail = self.thumbnail_type.as_deref().zip(self.thumbnail_bytes);
        Ok(Facts {
            media_type: MediaType::of(self.media_type.as_deref().ok_or_else(|| missing("media_type"))?),
            bytes: self.bytes.ok_or_else(|| missing("bytes"))?,
            width: pixels(self.width),
            height: pixels(self.height),
            duration_ms: self.duration_ms,
            blur: self.blur.clone(),
            thumbnail: thumbnail
                .map(|(media_type, bytes)| Thumbnail { media_type: MediaType::of(media_type), bytes }),
        })
    }
}

#[cfg(test)]
mod tests {
    use kit::testing::migration_files;

    use super::*;

    #[test]
    fn every_migration_file_is_declared_in_order() {
        let declared: Vec<_> = SCHEMA.migrations.iter().map(|(name, _)| *name).collect();
        assert_eq!(migration_files(env!("CARGO_MANIFEST_DIR")), declared);
    }
}
