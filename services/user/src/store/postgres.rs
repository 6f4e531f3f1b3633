//! Profiles in PostgreSQL.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    UserId,
    api::{ContactableBy, PresenceVisibleTo},
};
use kit::{
    postgres::Schema,
    text::{About, DisplayName, NameQuery, Username, search_key},
};
use sqlx::{PgConnection, PgExecutor, PgPool};
use tokio::{sync::Semaphore, time::timeout};
use tonic::async_trait;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{ProfileStore, PutContact, PutSettings, StoreError};
use crate::domain::{
    ChatsErased, Contact, Deletion, DeletionPosition, Erasure, Find, MAX_CONTACTS, Newcomer, PresenceShown,
    Profile, ProfileUpdate, RECEIPT_DAYS, ReceiptHash, Search, Settings, Status,
};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "user_service",
    migrations: &[
        ("0001_create_users", include_str!("../../migrations/0001_create_users.sql")),
        ("0002_normalize_names", include_str!("../../migrations/0002_normalize_names.sql")),
        ("0003_add_deletions", include_str!("../../migrations/0003_add_deletions.sql")),
        ("0004_add_contactable_by", include_str!("../../migrations/0004_add_contactable_by.sql")),
        ("0005_add_privacy_and_status", include_str!("../../migrations/0005_add_privacy_and_status.sql")),
        ("0006_create_settings", include_str!("../../migrations/0006_create_settings.sql")),
        ("0007_create_contacts", include_str!("../../migrations/0007_create_contacts.sql")),
        ("0008_create_erasures", include_str!("../../migrations/0008_create_erasures.sql")),
        ("0009_round_erasures", include_str!("../../migrations/0009_round_erasures.sql")),
        ("0010_create_name_words", include_str!("../../migrations/0010_create_name_words.sql")),
        ("0011_index_users_without_key", include_str!("../../migrations/0011_index_users_without_key.sql")),
        ("0012_add_version", include_str!("../../migrations/0012_add_version.sql")),
    ],
};

/// The columns of a [`ProfileRow`].
macro_rules! profile_columns {
    () => {
        "user_id, username, display_name, about, contactable_by, presence_visible_to, read_receipts, status_text, status_emoji, status_expires_at, created_at, deleted_at, version"
    };
}

/// Sorts after every text that starts with a prefix when it is appended to it.
const LAST: char = char::MAX;

/// Searches by words at one time. Each takes a session of the pool, and may keep a core of the server busy for as long as a statement may last.
const WORD_SEARCHES: usize = 2;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(1);
/// So many characters of a word are had by few enough names to compare all of them.
const TELLING_CHARS: usize = 3;

/// Keeps profiles in the tenant's database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    word_searches: Arc<Semaphore>,
}

impl PostgresStore {
    /// Returns a store on a pool whose search path starts with [`SCHEMA`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool, word_searches: Arc::new(Semaphore::new(WORD_SEARCHES)) }
    }

    /// Writes the words of users by which they are to be found and are not yet: who were there before the words were, and whose username a build
    /// wrote that did not know them. Returns of how many users, at most `limit`: fewer, when there are no more that no other process writes.
    pub async fn write_missing_words(&self, limit: usize) -> Result<usize, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Words)?;
        // The lock keeps the names as they are read here, and a trigger writes the words.
        let rows: Vec<UnkeyedRow> = sqlx::query_as(
            "SELECT user_id, username FROM users WHERE username_key IS NULL AND deleted_at IS NULL
             ORDER BY user_id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::Words)?;
        sqlx::query(
            "UPDATE users SET username_key = key
             FROM unnest($1::UUID[], $2::TEXT[]) AS keyed (id, key) WHERE users.user_id = keyed.id",
        )
        .bind(rows.iter().map(|row| row.user_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| search_key(&row.username)).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::Words)?;
        transaction.commit().await.map_err(StoreError::Words)?;
        Ok(rows.len())
    }

    /// Searches by words in its turn. The turn ends with the statement, and not before when the client has left: the server is as busy then.
    async fn search_words(
        &self,
        query: NameQuery,
        among: Option<Vec<UserId>>,
        search: Search,
    ) -> Result<Vec<Profile>, StoreError> {
        // The semaphore is never closed.
        let Ok(Ok(turn)) = timeout(TURN, self.word_searches.clone().acquire_owned()).await else {
            return Err(StoreError::TooManySearches);
        };
        let pool = self.pool.clone();
        let searching = async move {
            let _turn = turn;
            by_words(&pool, &query, among.as_deref(), &search).await
        };
        let found = tokio::spawn(searching.in_current_span()).await;
        found.unwrap_or(Err(sqlx::Error::WorkerCrashed)).map_err(StoreError::Read)
    }
}

kit::row! {
    struct ProfileRow {
        user_id: Uuid,
        username: String,
        display_name: String,
        about: String,
        contactable_by: String,
        presence_visible_to: String,
        read_receipts: bool,
        status_text: Option<String>,
        status_emoji: Option<String>,
        status_expires_at: Option<DateTime<Utc>>,
        created_at: DateTime<Utc>,
        deleted_at: Option<DateTime<Utc>>,
        version: i64,
    }
}

kit::row! {
    struct UnkeyedRow {
        user_id: Uuid,
        username: String,
    }
}

kit::row! {
    struct SettingsRow {
        version: i64,
        settings: String,
    }
}

kit::row! {
    struct NamedRow {
        contact_id: Uuid,
        contact_name: Option<String>,
        added_at: DateTime<Utc>,
    }
}

kit::row! {
    struct ShownRow {
        presence_visible_to: Option<String>,
        has_viewer: bool,
    }
}

kit::row! {
    struct ErasureRow {
        began_at: DateTime<Utc>,
        account_at: Option<DateTime<Utc>>,
        chats_at: Option<DateTime<Utc>>,
        chats_left: i64,
        blocks_lifted: i64,
    }
}

kit::row! {
    struct DeletionRow {
        user_id: Uuid,
        deleted_at: DateTime<Utc>,
    }
}

#[async_trait]
impl ProfileStore for PostgresStore {
    #[tracing::instrument(name = "user.store.ensure", skip_all, fields(user = %newcomer.user_id))]
    async fn ensure(&self, newcomer: &Newcomer, at: DateTime<Utc>) -> Result<Profile, StoreError> {
        // Nearly always the profile is there and current: a read, and no write.
        let stored = self.profile(newcomer.user_id).await?;
        if let Some(profile) = stored.filter(|profile| profile.username == newcomer.username.as_str()) {
            return Ok(profile);
        }
        // The realm gives a name out once more when an account is gone, and the deletion was noted before it went.
        let row: Option<ProfileRow> = sqlx::query_as(concat!(
            "INSERT INTO users (user_id, username, username_key, display_name, display_name_key, created_at)
             SELECT $1, $2, $6, $3, $4, $5
             WHERE NOT EXISTS (
                 SELECT FROM users WHERE username = $2 AND user_id <> $1 AND deleted_at IS NOT NULL
             )
             ON CONFLICT (user_id) DO UPDATE SET username = EXCLUDED.username, username_key = EXCLUDED.username_key
             RETURNING ",
            profile_columns!()
        ))
        .bind(newcomer.user_id.0)
        .bind(newcomer.username.as_str())
        .bind(newcomer.display_name.as_str())
        .bind(search_key(newcomer.display_name.as_str()))
        .bind(at)
        .bind(search_key(newcomer.username.as_str()))
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| StoreError::Ensure { user_id: newcomer.user_id, source })?;
        let row = row.ok_or(StoreError::NameOfDeleted)?;
        row.try_into().map_err(|source| StoreError::Ensure { user_id: newcomer.user_id, source })
    }

    #[tracing::instrument(name = "user.store.profile", skip_all, fields(user = %user_id))]
    async fn profile(&self, user_id: UserId) -> Result<Option<Profile>, StoreError> {
        let row: Option<ProfileRow> =
            sqlx::query_as(concat!("SELECT ", profile_columns!(), " FROM users WHERE user_id = $1"))
                .bind(user_id.0)
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::Read)?;
        row.map(Profile::try_from).transpose().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.profiles", skip_all)]
    async fn profiles(&self, user_ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        let ids: Vec<_> = user_ids.iter().map(|user| user.0).collect();
        let rows: Vec<ProfileRow> =
            sqlx::query_as(concat!("SELECT ", profile_columns!(), " FROM users WHERE user_id = ANY ($1)"))
                .bind(ids)
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter().map(Profile::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.update", skip_all, fields(user = %user_id))]
    async fn update(&self, user_id: UserId, update: &ProfileUpdate) -> Result<Option<Profile>, StoreError> {
        let status = update.status.as_ref().and_then(Option::as_ref);
        let row: Option<ProfileRow> = sqlx::query_as(concat!(
            "UPDATE users
             SET display_name = coalesce($2, display_name),
                 display_name_key = coalesce($3, display_name_key),
                 about = coalesce($4, about),
                 contactable_by = coalesce($5, contactable_by),
                 presence_visible_to = coalesce($6, presence_visible_to),
                 read_receipts = coalesce($7, read_receipts),
                 status_text = CASE WHEN $8 THEN $9 ELSE status_text END,
                 status_emoji = CASE WHEN $8 THEN $10 ELSE status_emoji END,
                 status_expires_at = CASE WHEN $8 THEN $11 ELSE status_expires_at END
             WHERE user_id = $1 AND deleted_at IS NULL
             RETURNING ",
            profile_columns!()
        ))
        .bind(user_id.0)
        .bind(update.display_name.as_ref().map(DisplayName::as_str))
        .bind(update.display_name.as_ref().map(|name| search_key(name.as_str())))
        .bind(update.about.as_ref().map(About::as_str))
        .bind(update.contactable_by.map(ContactableBy::as_str))
        .bind(update.presence_visible_to.map(PresenceVisibleTo::as_str))
        .bind(update.read_receipts)
        .bind(update.status.is_some())
        .bind(status.and_then(|status| status.text.as_deref()))
        .bind(status.and_then(|status| status.emoji.as_deref()))
        .bind(status.and_then(|status| status.expires_at))
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| StoreError::Update { user_id, source })?;
        let profile = row.map(Profile::try_from).transpose();
        profile.map_err(|source| StoreError::Update { user_id, source })
    }

    #[tracing::instrument(name = "user.store.settings", skip_all, fields(user = %user_id))]
    async fn settings(&self, user_id: UserId) -> Result<Settings, StoreError> {
        settings_of(&self.pool, user_id).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.put_settings", skip_all, fields(user = %user_id))]
    async fn put_settings(&self, user_id: UserId, new: &Settings) -> Result<PutSettings, StoreError> {
        let failed = |source| StoreError::Settings { user_id, source };
        let json = new.to_json()?;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        if !locked(&mut transaction, user_id).await.map_err(failed)? {
            return Ok(PutSettings::NoUser);
        }
        let stored = settings_of(&mut *transaction, user_id).await.map_err(failed)?;
        let Some(put) = stored.after(new) else { return Ok(PutSettings::Conflict(stored)) };
        if put != stored {
            sqlx::query(
                "INSERT INTO settings (user_id, version, settings) VALUES ($1, $2, $3)
                 ON CONFLICT (user_id) DO UPDATE SET version = EXCLUDED.version, settings = EXCLUDED.settings",
            )
            .bind(user_id.0)
            .bind(put.version)
            .bind(json)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(PutSettings::Put(put))
    }

    #[tracing::instrument(name = "user.store.put_contact", skip_all)]
    async fn put_contact(
        &self,
        user_id: UserId,
        contact: UserId,
        name: Option<&DisplayName>,
        at: DateTime<Utc>,
    ) -> Result<PutContact, StoreError> {
        let failed = |source| StoreError::Contacts { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // Also puts the changes of one user's contacts in an order, so that their number is exact.
        if !locked(&mut transaction, user_id).await.map_err(failed)? {
            return Ok(PutContact::NoUser);
        }
        let row: Option<ProfileRow> = sqlx::query_as(concat!(
            "SELECT ",
            profile_columns!(),
            " FROM users WHERE user_id = $1 AND deleted_at IS NULL"
        ))
        .bind(contact.0)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        let profile = row.map(Profile::try_from).transpose().map_err(failed)?;
        let Some(profile) = profile else { return Ok(PutContact::NoContact) };
        let NamedRow { contact_name, added_at, .. } = sqlx::query_as(
            "INSERT INTO contacts (user_id, contact_id, contact_name, added_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (user_id, contact_id) DO UPDATE SET contact_name = EXCLUDED.contact_name
             RETURNING contact_id, contact_name, added_at",
        )
        .bind(user_id.0)
        .bind(contact.0)
        .bind(name.map(DisplayName::as_str))
        .bind(at)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM contacts WHERE user_id = $1")
            .bind(user_id.0)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        // A limit that is exceeded was exceeded by this one: none is taken beyond it.
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_CONTACTS {
            return Ok(PutContact::Full);
        }
        transaction.commit().await.map_err(failed)?;
        Ok(PutContact::Put(Box::new(Contact { profile, name: contact_name, added_at })))
    }

    #[tracing::instrument(name = "user.store.remove_contact", skip_all)]
    async fn remove_contact(&self, user_id: UserId, contact: UserId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM contacts WHERE user_id = $1 AND contact_id = $2")
            .bind(user_id.0)
            .bind(contact.0)
            .execute(&self.pool)
            .await
            .map_err(|source| StoreError::Contacts { user_id, source })?;
        Ok(())
    }

    #[tracing::instrument(name = "user.store.contacts", skip_all)]
    async fn contacts(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Contact>, StoreError> {
        let rows: Vec<NamedRow> = sqlx::query_as(
            "SELECT contact_id, contact_name, added_at FROM contacts
             WHERE user_id = $1 AND ($2::UUID IS NULL OR contact_id > $2)
             ORDER BY contact_id LIMIT $3",
        )
        .bind(user_id.0)
        .bind(after.map(|user| user.0))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let ids: Vec<_> = rows.iter().map(|row| UserId(row.contact_id)).collect();
        let profiles = self.profiles(&ids).await?;
        let mut profiles: HashMap<_, _> =
            profiles.into_iter().map(|profile| (profile.user_id.0, profile)).collect();
        let contact = |row: NamedRow| {
            let profile = profiles.remove(&row.contact_id)?;
            Some(Contact { profile, name: row.contact_name, added_at: row.added_at })
        };
        Ok(rows.into_iter().filter_map(contact).collect())
    }

    #[tracing::instrument(name = "user.store.presence_shown", skip_all)]
    async fn presence_shown(
        &self,
        viewer: UserId,
        user_ids: &[UserId],
    ) -> Result<Vec<PresenceShown>, StoreError> {
        let rows: Vec<ShownRow> = sqlx::query_as(
            "SELECT presence_visible_to, contact_id IS NOT NULL AS has_viewer
             FROM unnest($2::UUID[]) WITH ORDINALITY AS wanted (user_id, place)
                  LEFT JOIN users ON users.user_id = wanted.user_id AND deleted_at IS NULL
                  LEFT JOIN contacts ON contacts.user_id = wanted.user_id AND contact_id = $1
             ORDER BY place",
        )
        .bind(viewer.0)
        .bind(user_ids.iter().map(|user| user.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let shown = |row: ShownRow| match row.presence_visible_to {
            None => Ok(PresenceShown::Never),
            Some(setting) => Ok(PresenceShown::by(presence_visible_to(&setting)?, row.has_viewer)),
        };
        rows.into_iter().map(shown).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.search", skip_all)]
    async fn search(&self, search: &Search) -> Result<Vec<Profile>, StoreError> {
        let (username, user_id) =
            search.after.as_ref().map(|cursor| (cursor.username.as_str(), cursor.user_id.0)).unzip();
        let limit = i64::try_from(search.limit).unwrap_or(i64::MAX);
        let (sql, from, to) = match &search.find {
            Find::Words { query, among } => {
                return self.search_words(query.clone(), among.clone(), search.clone()).await;
            }
            // The index on usernames gives a page of all users in its order, and nothing is sorted.
            Find::All => (
                concat!(
                    "SELECT ",
                    profile_columns!(),
                    " FROM users
                 WHERE deleted_at IS NULL AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3"
                ),
                None,
                None,
            ),
            // A prefix as a range: an index serves it under any plan, and no character of it is special.
            Find::Prefix(prefix) => (
                concat!(
                    "SELECT ",
                    profile_columns!(),
                    " FROM users
                 WHERE deleted_at IS NULL
                   AND ((username >= $4 AND username < $5)
                        OR (display_name_key >= $4 AND display_name_key < $5))
                   AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3"
                ),
                Some(prefix.as_str()),
                Some(format!("{prefix}{LAST}")),
            ),
            Find::Username(username) => (
                concat!(
                    "SELECT ",
                    profile_columns!(),
                    " FROM users
                 WHERE deleted_at IS NULL AND username = $4
                   AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3"
                ),
                Some(username.as_str()),
                None,
            ),
            Find::Holder(username) => (
                concat!(
                    "SELECT ",
                    profile_columns!(),
                    " FROM users
                 WHERE username = $4 AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3"
                ),
                Some(username.as_str()),
                None,
            ),
        };
        let mut query = sqlx::query_as(sql).bind(username).bind(user_id).bind(limit);
        if let Some(from) = from {
            query = query.bind(from);
        }
        if let Some(to) = to {
            query = query.bind(to);
        }
        let rows: Vec<ProfileRow> = query.fetch_all(&self.pool).await.map_err(StoreError::Read)?;
        rows.into_iter().map(Profile::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.delete", skip_all, fields(user = %user_id))]
    async fn delete(
        &self,
        user_id: UserId,
        receipt: Option<ReceiptHash>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let Some(Profile { username, .. }) = self.profile(user_id).await? else { return Ok(()) };
        let failed = |source| StoreError::Delete { user_id, source };
        let name = Profile::deleted_name(&username);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query(
            "UPDATE users SET deleted_at = $2, display_name = $3, display_name_key = $4, about = '',
                              status_text = NULL, status_emoji = NULL, status_expires_at = NULL
             WHERE user_id = $1 AND deleted_at IS NULL",
        )
        .bind(user_id.0)
        .bind(at)
        .bind(&name)
        .bind(search_key(&name))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        for own in ["DELETE FROM settings WHERE user_id = $1", "DELETE FROM contacts WHERE user_id = $1"] {
            sqlx::query(own).bind(user_id.0).execute(&mut *transaction).await.map_err(failed)?;
        }
        if let Some(ReceiptHash(receipt)) = receipt {
            // A row for each request: the answer to the one before may have been lost. Those that are too old to be shown go.
            sqlx::query("DELETE FROM erasures WHERE began_at < $1")
                .bind(at - TimeDelta::days(RECEIPT_DAYS))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            sqlx::query("INSERT INTO erasures (receipt, user_id, began_at) VALUES ($1, $2, $3)")
                .bind(receipt.as_slice())
                .bind(user_id.0)
                .bind(at)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "user.store.note_chats_erased", skip_all, fields(user = %user_id))]
    async fn note_chats_erased(
        &self,
        user_id: UserId,
        erased: ChatsErased,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let ChatsErased { left, blocks_lifted, is_settled } = erased;
        let failed = |source| StoreError::Delete { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query(
            "UPDATE erasures SET chats_left = chats_left + $2, blocks_lifted = blocks_lifted + $3,
                                 chats_at = CASE WHEN $4 THEN COALESCE(chats_at, $5) ELSE chats_at END
             WHERE user_id = $1",
        )
        .bind(user_id.0)
        .bind(left)
        .bind(blocks_lifted)
        .bind(is_settled)
        .bind(at)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        forget_finished(&mut transaction, user_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "user.store.erasure", skip_all)]
    async fn erasure(&self, ReceiptHash(receipt): ReceiptHash) -> Result<Option<Erasure>, StoreError> {
        let row: Option<ErasureRow> = sqlx::query_as(
            "SELECT began_at, account_at, chats_at, chats_left, blocks_lifted FROM erasures WHERE receipt = $1",
        )
        .bind(receipt.as_slice())
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(row.map(|row| Erasure {
            began_at: row.began_at,
            account_at: row.account_at,
            chats_at: row.chats_at,
            chats_left: row.chats_left,
            blocks_lifted: row.blocks_lifted,
        }))
    }

    #[tracing::instrument(name = "user.store.finish_deletion", skip_all, fields(user = %user_id))]
    async fn finish_deletion(&self, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let failed = |source| StoreError::Delete { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query("UPDATE erasures SET account_at = COALESCE(account_at, $2) WHERE user_id = $1")
            .bind(user_id.0)
            .bind(at)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        forget_finished(&mut transaction, user_id).await.map_err(failed)?;
        sqlx::query(
            "UPDATE users SET is_deletion_finished = TRUE WHERE user_id = $1 AND deleted_at IS NOT NULL",
        )
        .bind(user_id.0)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "user.store.deletions", skip_all)]
    async fn deletions(
        &self,
        after: Option<DeletionPosition>,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError> {
        let rows: Vec<DeletionRow> = sqlx::query_as(
            "SELECT user_id, deleted_at FROM users
             WHERE deleted_at IS NOT NULL
               AND ($1::TIMESTAMPTZ IS NULL OR (deleted_at, user_id) > ($1, $2))
             ORDER BY deleted_at, user_id LIMIT $3",
        )
        .bind(after.map(|after| after.began_at))
        .bind(after.map(|after| after.user_id.0))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(rows.into_iter().map(Deletion::from).collect())
    }

    #[tracing::instrument(name = "user.store.named", skip_all)]
    async fn named(&self, usernames: &[Username]) -> Result<Vec<Profile>, StoreError> {
        let names: Vec<_> = usernames.iter().map(Username::as_str).collect();
        let rows: Vec<ProfileRow> = sqlx::query_as(concat!(
            "SELECT DISTINCT ON (username) ",
            profile_columns!(),
            " FROM users WHERE username = ANY ($1)
             ORDER BY username, (deleted_at IS NOT NULL), created_at DESC, user_id"
        ))
        .bind(names)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        rows.into_iter().map(Profile::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.count", skip_all)]
    async fn count(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT count(*) FROM users WHERE deleted_at IS NULL")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.unfinished_deletions", skip_all)]
    async fn unfinished_deletions(&self, limit: usize) -> Result<Vec<Deletion>, StoreError> {
        let rows: Vec<DeletionRow> = sqlx::query_as(
            "SELECT user_id, deleted_at FROM users
             WHERE deleted_at IS NOT NULL AND NOT is_deletion_finished
             ORDER BY deleted_at, user_id LIMIT $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(rows.into_iter().map(Deletion::from).collect())
    }
}

/// The statement of [`by_words`], with an end of the query for the candidates.
macro_rules! by_words_sql {
    ($end:literal) => {
        concat!(
            "SELECT ",
            profile_columns!(),
            " FROM users
             WHERE deleted_at IS NULL
               AND user_id IN (SELECT name_words.user_id FROM name_words WHERE word >= $4 AND word < $5",
            $end,
            ")
               AND NOT EXISTS (
                   SELECT FROM unnest($6::TEXT[], $7::TEXT[]) AS beginnings (from_word, to_word)
                   WHERE NOT EXISTS (
                       SELECT FROM name_words
                       WHERE name_words.user_id = users.user_id AND word >= from_word AND word < to_word
                   )
               )
               AND ($8::UUID[] IS NULL OR user_id = ANY ($8))
               AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
             ORDER BY username, user_id LIMIT $3"
        )
    };
}

/// Returns the profiles whose names have words with these beginnings. One beginning is looked up, and the profiles that have it are compared with
/// the others: the longest, which the fewest have. Where that is a letter or two, half of a tenant may have it, and the first 5,000 words count.
async fn by_words(
    pool: &PgPool,
    query: &NameQuery,
    among: Option<&[UserId]>,
    search: &Search,
) -> Result<Vec<Profile>, sqlx::Error> {
    let (username, user_id) =
        search.after.as_ref().map(|cursor| (cursor.username.as_str(), cursor.user_id.0)).unzip();
    let behind = |word: &String| format!("{word}{LAST}");
    let rarest = query.words().iter().max_by_key(|word| word.chars().count());
    let rarest = rarest.expect("a query has a word");
    // Those of a list are few already.
    let is_bounded = among.is_some() || rarest.chars().count() >= TELLING_CHARS;
    let sql = if is_bounded {
        by_words_sql!("")
    } else {
        by_words_sql!(" ORDER BY word, name_words.user_id LIMIT 5000")
    };
    let rows: Vec<ProfileRow> = sqlx::query_as(sql)
        .bind(username)
        .bind(user_id)
        .bind(i64::try_from(search.limit).unwrap_or(i64::MAX))
        .bind(rarest)
        .bind(behind(rarest))
        .bind(query.words())
        .bind(query.words().iter().map(behind).collect::<Vec<_>>())
        .bind(among.map(|among| among.iter().map(|user| user.0).collect::<Vec<Uuid>>()))
        .fetch_all(pool)
        .await?;
    rows.into_iter().map(Profile::try_from).collect()
}

/// Forgets whose the erasures of a user are, once they are finished, and when exactly it was: the time of the deletion stands beside the
/// username. The same as [`Erasure::forget_time`].
async fn forget_finished(connection: &mut PgConnection, user_id: UserId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE erasures SET user_id = NULL,
                             began_at = date_trunc('day', began_at, 'UTC'),
                             account_at = date_trunc('day', account_at, 'UTC'),
                             chats_at = date_trunc('day', chats_at, 'UTC')
         WHERE user_id = $1 AND account_at IS NOT NULL AND chats_at IS NOT NULL",
    )
    .bind(user_id.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks a user whose account is not deleted, so that what is written for them is written before the deletion, which removes it.
/// Returns whether there is one.
async fn locked(connection: &mut PgConnection, user_id: UserId) -> Result<bool, sqlx::Error> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "SELECT user_id FROM users WHERE user_id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
    )
    .bind(user_id.0)
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Returns the settings of a user; the default ones of a user who has none.
async fn settings_of(executor: impl PgExecutor<'_>, user_id: UserId) -> Result<Settings, sqlx::Error> {
    let row: Option<SettingsRow> =
        sqlx::query_as("SELECT version, settings FROM settings WHERE user_id = $1")
            .bind(user_id.0)
            .fetch_optional(executor)
            .await?;
    Ok(row.map(Settings::try_from).transpose()?.unwrap_or_default())
}

fn presence_visible_to(text: &str) -> Result<PresenceVisibleTo, sqlx::Error> {
    PresenceVisibleTo::parse(text).ok_or_else(|| unknown("presence_visible_to", text))
}

fn unknown(column: &str, text: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} has the unknown value {text}").into())
}

impl TryFrom<SettingsRow> for Settings {
    type Error = sqlx::Error;

    fn try_from(row: SettingsRow) -> Result<Self, sqlx::Error> {
        let settings = serde_json::from_str(&row.settings);
        let settings = settings.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self { version: row.version, settings })
    }
}

impl From<DeletionRow> for Deletion {
    fn from(row: DeletionRow) -> Self {
        Self { user_id: UserId(row.user_id), began_at: row.deleted_at }
    }
}

impl TryFrom<ProfileRow> for Profile {
    type Error = sqlx::Error;

    fn try_from(row: ProfileRow) -> Result<Self, sqlx::Error> {
        let contactable_by = ContactableBy::parse(&row.contactable_by)
            .ok_or_else(|| unknown("contactable_by", &row.contactable_by))?;
        let presence_visible_to = presence_visible_to(&row.presence_visible_to)?;
        let status = (row.status_text.is_some() || row.status_emoji.is_some()).then_some(Status {
            text: row.status_text,
            emoji: row.status_emoji,
            expires_at: row.status_expires_at,
        });
        Ok(Self {
            user_id: UserId(row.user_id),
            username: row.username,
            display_name: row.display_name,
            about: row.about,
            contactable_by,
            presence_visible_to,
            read_receipts: row.read_receipts,
            status,
            created_at: row.created_at,
            is_deleted: row.deleted_at.is_some(),
            version: row.version,
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
