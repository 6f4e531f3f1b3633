//! Profiles in PostgreSQL.

use chrono::{DateTime, Utc};
use contracts::{UserId, api::ContactableBy};
use kit::{
    postgres::Schema,
    text::{About, DisplayName, search_key},
};
use sqlx::PgPool;
use tonic::async_trait;
use uuid::Uuid;

use super::{ProfileStore, StoreError};
use crate::domain::{Deletion, DeletionPosition, Find, Newcomer, Profile, ProfileUpdate, Search};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "user_service",
    migrations: &[
        ("0001_create_users", include_str!("../../migrations/0001_create_users.sql")),
        ("0002_normalize_names", include_str!("../../migrations/0002_normalize_names.sql")),
        ("0003_add_deletions", include_str!("../../migrations/0003_add_deletions.sql")),
        ("0004_add_contactable_by", include_str!("../../migrations/0004_add_contactable_by.sql")),
    ],
};

/// Sorts after every text that starts with a prefix when it is appended to it.
const LAST: char = char::MAX;

/// Keeps profiles in the tenant's database.
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
    struct ProfileRow {
        user_id: Uuid,
        username: String,
        display_name: String,
        about: String,
        contactable_by: String,
        created_at: DateTime<Utc>,
        deleted_at: Option<DateTime<Utc>>,
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
        let row: ProfileRow = sqlx::query_as(
            "INSERT INTO users (user_id, username, display_name, display_name_key, created_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (user_id) DO UPDATE SET username = EXCLUDED.username
             RETURNING user_id, username, display_name, about, contactable_by, created_at, deleted_at",
        )
        .bind(newcomer.user_id.0)
        .bind(newcomer.username.as_str())
        .bind(newcomer.display_name.as_str())
        .bind(search_key(newcomer.display_name.as_str()))
        .bind(at)
        .fetch_one(&self.pool)
        .await
        .map_err(|source| StoreError::Ensure { user_id: newcomer.user_id, source })?;
        row.try_into().map_err(|source| StoreError::Ensure { user_id: newcomer.user_id, source })
    }

    #[tracing::instrument(name = "user.store.profile", skip_all, fields(user = %user_id))]
    async fn profile(&self, user_id: UserId) -> Result<Option<Profile>, StoreError> {
        let row: Option<ProfileRow> = sqlx::query_as(
            "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users WHERE user_id = $1",
        )
        .bind(user_id.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        row.map(Profile::try_from).transpose().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.profiles", skip_all)]
    async fn profiles(&self, user_ids: &[UserId]) -> Result<Vec<Profile>, StoreError> {
        let ids: Vec<_> = user_ids.iter().map(|user| user.0).collect();
        let rows: Vec<ProfileRow> = sqlx::query_as(
            "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users WHERE user_id = ANY ($1)",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        rows.into_iter().map(Profile::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "user.store.update", skip_all, fields(user = %user_id))]
    async fn update(&self, user_id: UserId, update: &ProfileUpdate) -> Result<Option<Profile>, StoreError> {
        let row: Option<ProfileRow> = sqlx::query_as(
            "UPDATE users
             SET display_name = coalesce($2, display_name),
                 display_name_key = coalesce($3, display_name_key),
                 about = coalesce($4, about),
                 contactable_by = coalesce($5, contactable_by)
             WHERE user_id = $1 AND deleted_at IS NULL
             RETURNING user_id, username, display_name, about, contactable_by, created_at, deleted_at",
        )
        .bind(user_id.0)
        .bind(update.display_name.as_ref().map(DisplayName::as_str))
        .bind(update.display_name.as_ref().map(|name| search_key(name.as_str())))
        .bind(update.about.as_ref().map(About::as_str))
        .bind(update.contactable_by.map(ContactableBy::as_str))
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| StoreError::Update { user_id, source })?;
        let profile = row.map(Profile::try_from).transpose();
        profile.map_err(|source| StoreError::Update { user_id, source })
    }

    #[tracing::instrument(name = "user.store.search", skip_all)]
    async fn search(&self, search: &Search) -> Result<Vec<Profile>, StoreError> {
        let (username, user_id) =
            search.after.as_ref().map(|cursor| (cursor.username.as_str(), cursor.user_id.0)).unzip();
        let limit = i64::try_from(search.limit).unwrap_or(i64::MAX);
        let (sql, from, to) = match &search.find {
            // The index on usernames gives a page of all users in its order, and nothing is sorted.
            Find::All => (
                "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users
                 WHERE deleted_at IS NULL AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3",
                None,
                None,
            ),
            // A prefix as a range: an index serves it under any plan, and no character of it is special.
            Find::Prefix(prefix) => (
                "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users
                 WHERE deleted_at IS NULL
                   AND ((username >= $4 AND username < $5)
                        OR (display_name_key >= $4 AND display_name_key < $5))
                   AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3",
                Some(prefix.as_str()),
                Some(format!("{prefix}{LAST}")),
            ),
            Find::Username(username) => (
                "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users
                 WHERE deleted_at IS NULL AND username = $4
                   AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3",
                Some(username.as_str()),
                None,
            ),
            Find::Holder(username) => (
                "SELECT user_id, username, display_name, about, contactable_by, created_at, deleted_at FROM users
                 WHERE username = $4 AND ($1::TEXT IS NULL OR (username, user_id) > ($1, $2))
                 ORDER BY username, user_id LIMIT $3",
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
    async fn delete(&self, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let Some(Profile { username, .. }) = self.profile(user_id).await? else { return Ok(()) };
        let name = Profile::deleted_name(&username);
        sqlx::query(
            "UPDATE users SET deleted_at = $2, display_name = $3, display_name_key = $4, about = ''
             WHERE user_id = $1 AND deleted_at IS NULL",
        )
        .bind(user_id.0)
        .bind(at)
        .bind(&name)
        .bind(search_key(&name))
        .execute(&self.pool)
        .await
        .map_err(|source| StoreError::Delete { user_id, source })?;
        Ok(())
    }

    #[tracing::instrument(name = "user.store.finish_deletion", skip_all, fields(user = %user_id))]
    async fn finish_deletion(&self, user_id: UserId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE users SET is_deletion_finished = TRUE WHERE user_id = $1 AND deleted_at IS NOT NULL",
        )
        .bind(user_id.0)
        .execute(&self.pool)
        .await
        .map_err(|source| StoreError::Delete { user_id, source })?;
        Ok(())
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

impl From<DeletionRow> for Deletion {
    fn from(row: DeletionRow) -> Self {
        Self { user_id: UserId(row.user_id), began_at: row.deleted_at }
    }
}

impl TryFrom<ProfileRow> for Profile {
    type Error = sqlx::Error;

    fn try_from(row: ProfileRow) -> Result<Self, sqlx::Error> {
        let contactable_by = ContactableBy::parse(&row.contactable_by).ok_or_else(|| {
            let problem = format!("column contactable_by has the unknown value {}", row.contactable_by);
            sqlx::Error::Decode(problem.into())
        })?;
        Ok(Self {
            user_id: UserId(row.user_id),
            username: row.username,
            display_name: row.display_name,
            about: row.about,
            contactable_by,
            created_at: row.created_at,
            is_deleted: row.deleted_at.is_some(),
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
