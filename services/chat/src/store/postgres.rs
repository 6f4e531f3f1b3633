//! Chats in PostgreSQL.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, UserId, event::Role};
use kit::{deletions, idempotency::IdempotencyKey, postgres::Schema};
use sqlx::{PgPool, Postgres, Transaction};
use tonic::async_trait;
use uuid::Uuid;

mod blocks;
mod changes;
mod counts;
mod founding;
mod joining;
mod outbox;
mod own;
mod paces;
mod reads;
mod revocations;
mod rows;
mod scheduled;

pub use self::outbox::WAKE_CHANNEL;
use self::{
    changes::{Came, insert_members, locked_excerpt, make, next_deleted},
    counts::{created_chats, memberships},
    founding::{FoundingRow, created_before, founded},
    outbox::{OutboxRow, enqueue, newest_record, published},
    own::update_own,
    reads::{
        all_chats, chat, members, members_among, memberships_of, names_of, restrictions_of, rights, seats_of,
    },
    rows::{MemberRow, OwnedChatRow, chat_columns, history_text},
};
use super::{Added, ChatStore, Created, Publication, Published, PublishedPlace, StoreError};
use crate::domain::{
    self, Block, Change, Chat, Command, Concern, Excerpt, Founding, Limits, Member, Membership, NamedChat,
    NewChat, OutboxRecord, OwnState, OwnUpdate, Refusal, Restriction, Rights, Seat,
};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "chat_service",
    migrations: &[
        ("0001_create_chats", include_str!("../../migrations/0001_create_chats.sql")),
        ("0002_create_outbox", include_str!("../../migrations/0002_create_outbox.sql")),
        ("0003_add_founders", include_str!("../../migrations/0003_add_founders.sql")),
        ("0004_add_publication", include_str!("../../migrations/0004_add_publication.sql")),
        ("0005_add_deletions", include_str!("../../migrations/0005_add_deletions.sql")),
        ("0006_add_history_access", include_str!("../../migrations/0006_add_history_access.sql")),
        ("0007_create_departures", include_str!("../../migrations/0007_create_departures.sql")),
        ("0008_count_memberships", include_str!("../../migrations/0008_count_memberships.sql")),
        ("0009_index_departures", include_str!("../../migrations/0009_index_departures.sql")),
        ("0010_create_blocks", include_str!("../../migrations/0010_create_blocks.sql")),
        ("0011_add_topic", include_str!("../../migrations/0011_add_topic.sql")),
        ("0012_add_own_state", include_str!("../../migrations/0012_add_own_state.sql")),
        ("0013_add_channels", include_str!("../../migrations/0013_add_channels.sql")),
        ("0014_number_records", include_str!("../../migrations/0014_number_records.sql")),
        ("0015_raise_members", include_str!("../../migrations/0015_raise_members.sql")),
        ("0016_add_joining", include_str!("../../migrations/0016_add_joining.sql")),
        ("0017_add_slow_mode", include_str!("../../migrations/0017_add_slow_mode.sql")),
        ("0018_sync_own_state", include_str!("../../migrations/0018_sync_own_state.sql")),
        ("0019_create_scheduled", include_str!("../../migrations/0019_create_scheduled.sql")),
        ("0020_add_message_ttl", include_str!("../../migrations/0020_add_message_ttl.sql")),
        ("0021_count_users_of_links", include_str!("../../migrations/0021_count_users_of_links.sql")),
        ("0022_keep_order_of_scheduled", include_str!("../../migrations/0022_keep_order_of_scheduled.sql")),
        ("0023_list_published", include_str!("../../migrations/0023_list_published.sql")),
        ("0024_pace_scheduled", include_str!("../../migrations/0024_pace_scheduled.sql")),
        ("0025_create_restrictions", include_str!("../../migrations/0025_create_restrictions.sql")),
    ],
};

/// Restrictions that have ended, of which each that is set or taken back forgets so many: more than come.
const RESTRICTIONS_FORGOTTEN_AT_ONCE: i64 = 20;

/// Keeps chats in the tenant's database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    /// What sends wait for. Lists, changes and what is done in the background have the other one, and take none of its sessions.
    checks: PgPool,
    limits: Limits,
}

impl PostgresStore {
    /// Returns a store on a pool whose search path starts with [`SCHEMA`].
    pub fn new(pool: PgPool, limits: Limits) -> Self {
        Self { checks: pool.clone(), pool, limits }
    }

    /// Returns the store with a pool of its own for what sends wait for.
    #[must_use]
    pub fn checking_with(self, checks: PgPool) -> Self {
        Self { checks, ..self }
    }
}

#[async_trait]
impl ChatStore for PostgresStore {
    #[tracing::instrument(name = "chat.store.create", skip_all, fields(chat = %new.chat_id))]
    async fn create(&self, new: &NewChat) -> Result<Created, StoreError> {
        let failed = |source| StoreError::Create { chat_id: new.chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        // One user's creations happen one after the other: a retry finds the chat of the request before it, and the
        // limit on chats is exact.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1::TEXT, 0))")
            .bind(new.founder.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let is_blocked = match new.founding {
            Founding::Direct { other } => {
                blocks::lock(&mut transaction, new.founder, other).await.map_err(failed)?;
                blocks::any_of(&mut transaction, new.founder, other).await.map_err(failed)?
            }
            Founding::Group { .. } => false,
        };
        if let Some(created) = created_before(&mut transaction, &self.limits, new, is_blocked).await? {
            transaction.commit().await.map_err(failed)?;
            return Ok(created);
        }
        if let Founding::Direct { other } = new.founding
            && is_blocked
        {
            return Err(Refusal::Unwanted(other).into());
        }
        let created = created_chats(&mut transaction, new.founder, new.created_at).await.map_err(failed)?;
        self.limits.check_creation(created, new.created_at)?;
        let members = new.members();
        let present = memberships(&mut transaction, new.founder).await.map_err(failed)?;
        self.limits.check_members(present, members.len())?;
        let records = new.records();
        let (low, high) = new.pair().unzip();
        let inserted = sqlx::query(
            "INSERT INTO chats (chat_id, kind, title, low_user_id, high_user_id, member_count, created_at,
                                founder_id, idempotency_key, founding_digest, history, version, visibility, search_key)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (low_user_id, high_user_id) DO NOTHING",
        )
        .bind(new.chat_id.0)
        .bind(new.kind().as_str())
        .bind(new.title())
        .bind(low.map(|user| user.0))
        .bind(high.map(|user| user.0))
        .bind(i32::try_from(members.len()).expect("members are bounded"))
        .bind(new.created_at)
        .bind(new.founder.0)
        .bind(new.group_key().map(IdempotencyKey::as_str))
        .bind(new.group_key().map(|_| new.digest().to_vec()))
        .bind(history_text(new.history()))
        .bind(i64::try_from(records.len()).expect("members are bounded"))
        .bind(new.visibility().as_str())
        .bind(new.search_key())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        if inserted.rows_affected() == 0 {
            // The other of the pair was first, in this moment.
            let created = created_before(&mut transaction, &self.limits, new, is_blocked).await?;
            transaction.commit().await.map_err(failed)?;
            return created.ok_or_else(|| failed(sqlx::Error::RowNotFound));
        }
        insert_members(&mut transaction, new.chat_id, &members, Came::First).await.map_err(failed)?;
        enqueue(&mut transaction, &records).await.map_err(failed)?;
        let chat = chat(&mut transaction, new.chat_id, new.founder).await.map_err(failed)?;
        let chat = chat.ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
        transaction.commit().await.map_err(failed)?;
        let publication = Publication { chat_id: new.chat_id, newest: None };
        Ok(Created { chat, fresh: true, publication })
    }

    #[tracing::instrument(name = "chat.store.newcomers", skip_all)]
    async fn newcomers(&self, new: &NewChat) -> Result<BTreeSet<UserId>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::Read)?;
        let others = new.founding.others();
        let Some(FoundingRow { chat_id, .. }) =
            founded(&mut connection, new).await.map_err(StoreError::Read)?
        else {
            return Ok(others);
        };
        match new.founding {
            Founding::Group { .. } => Ok(BTreeSet::new()),
            Founding::Direct { .. } => {
                let present = members_among(&mut connection, ChatId(chat_id), &others).await;
                let present = present.map_err(StoreError::Read)?;
                let is_there = |user: &UserId| present.iter().any(|member| member.user_id == *user);
                Ok(others.into_iter().filter(|user| !is_there(user)).collect())
            }
        }
    }

    #[tracing::instrument(name = "chat.store.acquaintances", skip_all)]
    async fn acquaintances(
        &self,
        user_id: UserId,
        others: &[UserId],
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let met: Vec<Uuid> = sqlx::query_scalar(
            "SELECT other FROM unnest($2::UUID[]) AS other
             WHERE EXISTS (SELECT FROM members AS own JOIN members AS theirs USING (chat_id)
                           WHERE own.user_id = $1 AND theirs.user_id = other)",
        )
        .bind(user_id.0)
        .bind(others.iter().map(|other| other.0).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(met.into_iter().map(UserId).collect())
    }

    #[tracing::instrument(name = "chat.store.chat", skip_all, fields(chat = %chat_id))]
    async fn chat(&self, chat_id: ChatId, member: UserId) -> Result<Option<Chat>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::Read)?;
        chat(&mut connection, chat_id, member).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.chats", skip_all)]
    async fn chats(
        &self,
        member: UserId,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<Chat>, StoreError> {
        let rows: Vec<OwnedChatRow> = sqlx::query_as(concat!(
            "SELECT ",
            chat_columns!(),
            " FROM members JOIN chats USING (chat_id)
             WHERE user_id = $1 AND ($2::UUID IS NULL OR chat_id < $2)
             ORDER BY chat_id DESC LIMIT $3",
        ))
        .bind(member.0)
        .bind(before.map(|chat| chat.0))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        rows.into_iter().map(Chat::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.membership", skip_all, fields(chat = %chat_id))]
    async fn membership(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Membership>, StoreError> {
        let found = memberships_of(&self.pool, user_id, &[chat_id]).await.map_err(StoreError::Read)?;
        Ok(found.into_iter().next())
    }

    #[tracing::instrument(name = "chat.store.memberships", skip_all)]
    async fn memberships(&self, user_id: UserId, among: &[ChatId]) -> Result<Vec<Membership>, StoreError> {
        memberships_of(&self.pool, user_id, among).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.seats", skip_all)]
    async fn seats(&self, user_id: UserId) -> Result<Vec<Seat>, StoreError> {
        seats_of(&self.pool, user_id).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.names", skip_all)]
    async fn names(&self, user_id: UserId, limit: usize) -> Result<Vec<NamedChat>, StoreError> {
        names_of(&self.pool, user_id, limit).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.member", skip_all, fields(chat = %chat_id))]
    async fn member(&self, chat_id: ChatId, user_id: UserId) -> Result<Option<Member>, StoreError> {
        let row: Option<MemberRow> = sqlx::query_as(
            "SELECT user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
             FROM members WHERE chat_id = $1 AND user_id = $2",
        )
        .bind(chat_id.0)
        .bind(user_id.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        row.map(Member::try_from).transpose().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.members", skip_all, fields(chat = %chat_id))]
    async fn members(
        &self,
        chat_id: ChatId,
        role: Option<Role>,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        members(&self.pool, chat_id, (role, after), limit).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.present", skip_all, fields(chat = %chat_id))]
    async fn present(
        &self,
        chat_id: ChatId,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeSet<UserId>, StoreError> {
        let mut connection = self.checks.acquire().await.map_err(StoreError::Read)?;
        let present = members_among(&mut connection, chat_id, users).await.map_err(StoreError::Read)?;
        Ok(present.into_iter().map(|member| member.user_id).collect())
    }

    #[tracing::instrument(name = "chat.store.rights", skip_all)]
    async fn rights(&self, seats: &[(ChatId, UserId)]) -> Result<Vec<Rights>, StoreError> {
        rights(&self.checks, seats).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.change", skip_all, fields(chat = %chat_id))]
    async fn change(
        &self,
        chat_id: ChatId,
        actor: UserId,
        command: Command,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        let decide = |excerpt: Option<&Excerpt>| match excerpt {
            Some(excerpt) => domain::decide(excerpt, actor, &command),
            None => command.of_stranger(chat_id, actor),
        };
        self.change_as(chat_id, command.concern(actor), actor, at, decide).await
    }

    #[tracing::instrument(name = "chat.store.add", skip_all, fields(chat = %chat_id))]
    async fn add(
        &self,
        chat_id: ChatId,
        actor: UserId,
        users: &BTreeSet<UserId>,
        at: DateTime<Utc>,
    ) -> Result<Added, StoreError> {
        let mut unwanted = BTreeSet::new();
        let decide = |excerpt: Option<&Excerpt>| {
            let additions = domain::add(excerpt.ok_or(Refusal::NotAMember(chat_id))?, actor, users)?;
            unwanted = additions.unwanted;
            Ok(additions.changes)
        };
        let concern = Concern::of(users.iter().copied().chain([actor]));
        let publication = self.change_as(chat_id, concern, actor, at, decide).await?;
        Ok(Added { unwanted, publication })
    }

    #[tracing::instrument(name = "chat.store.empty", skip_all, fields(chat = %chat_id))]
    async fn empty(&self, chat_id: ChatId, at: DateTime<Utc>) -> Result<Option<Publication>, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let next = next_deleted(&mut transaction, chat_id).await.map_err(failed)?;
        let Some((actor, next)) = next.filter(|(_, next)| !next.is_empty()) else { return Ok(None) };
        let concern = Concern::of(next.iter().copied());
        let excerpt = locked_excerpt(&mut transaction, chat_id, &concern, at).await.map_err(failed)?;
        let Some(mut excerpt) = excerpt else { return Ok(None) };
        let changes = domain::empty(&excerpt, &next);
        make(&mut transaction, &self.limits, &mut excerpt, (actor, &changes), at).await.map_err(failed)??;
        let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Some(Publication { chat_id, newest }))
    }

    async fn begun_deletions(&self, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        let chats: Vec<Uuid> = sqlx::query_scalar(
            "SELECT chat_id FROM chats WHERE deleted_by_user_id IS NOT NULL AND member_count > 0 LIMIT $1",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(chats.into_iter().map(ChatId).collect())
    }

    #[tracing::instrument(name = "chat.store.update_own", skip_all, fields(chat = %chat_id))]
    async fn update_own(
        &self,
        chat_id: ChatId,
        member: UserId,
        update: &OwnUpdate,
        at: DateTime<Utc>,
    ) -> Result<Option<OwnState>, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let own = update_own(&mut transaction, (chat_id, member), update, at).await.map_err(failed)??;
        transaction.commit().await.map_err(failed)?;
        Ok(own)
    }

    #[tracing::instrument(name = "chat.store.depart", skip_all, fields(chat = %chat_id))]
    async fn depart(&self, chat_id: ChatId, user_id: UserId, at: DateTime<Utc>) -> Result<(), StoreError> {
        let decide = |excerpt: Option<&Excerpt>| {
            Ok(excerpt.map(|excerpt| domain::depart(excerpt, user_id)).unwrap_or_default())
        };
        let concern = Concern { heir: true, ..Concern::of([user_id]) };
        self.change_as(chat_id, concern, user_id, at, decide).await.map(drop)
    }

    #[tracing::instrument(name = "chat.store.restrict", skip_all)]
    async fn restrict(
        &self,
        user_id: UserId,
        chat_id: Option<ChatId>,
        restriction: Option<Restriction>,
    ) -> Result<(), StoreError> {
        let query = match restriction {
            Some(Restriction { until, is_ban, .. }) => sqlx::query(
                "INSERT INTO restrictions (user_id, chat_id, restricted_until, is_ban) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (user_id, chat_id) DO UPDATE
                 SET restricted_until = excluded.restricted_until, is_ban = excluded.is_ban
                 WHERE (restrictions.restricted_until, restrictions.is_ban)
                       IS DISTINCT FROM (excluded.restricted_until, excluded.is_ban)",
            )
            .bind(user_id.0)
            .bind(chat_id.map_or(Uuid::nil(), |chat| chat.0))
            .bind(until)
            .bind(is_ban),
            None => sqlx::query("DELETE FROM restrictions WHERE user_id = $1 AND chat_id = $2")
                .bind(user_id.0)
                .bind(chat_id.map_or(Uuid::nil(), |chat| chat.0)),
        };
        let failed = |source| StoreError::Restrict { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let changed = query.execute(&mut *transaction).await.map_err(failed)?;
        if changed.rows_affected() == 0 {
            // It is so already, and what is published of it was written with it.
            return Ok(());
        }
        // Some that have ended, of whichever users, so that there are never many.
        sqlx::query(
            "DELETE FROM restrictions WHERE (user_id, chat_id) IN (
                 SELECT user_id, chat_id FROM restrictions WHERE restricted_until < now() - INTERVAL '1 day'
                 ORDER BY restricted_until LIMIT $1 FOR UPDATE SKIP LOCKED)",
        )
        .bind(RESTRICTIONS_FORGOTTEN_AT_ONCE)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        enqueue(&mut transaction, &domain::restriction(chat_id, user_id)).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "chat.store.restrictions", skip_all)]
    async fn restrictions(&self, user_id: UserId) -> Result<Vec<Restriction>, StoreError> {
        restrictions_of(&self.pool, user_id).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.forget_restrictions", skip_all)]
    async fn forget_restrictions(&self, user_id: UserId) -> Result<(), StoreError> {
        let deleting = sqlx::query("DELETE FROM restrictions WHERE user_id = $1").bind(user_id.0);
        let failed = |source| StoreError::Restrict { user_id, source };
        deleting.execute(&self.pool).await.map(drop).map_err(failed)
    }

    #[tracing::instrument(name = "chat.store.block", skip_all)]
    async fn block(
        &self,
        user_id: UserId,
        blocked: UserId,
        at: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError> {
        let failed = |source| StoreError::Block { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let outcome = blocks::add(&mut transaction, user_id, blocked, at).await.map_err(failed)??;
        transaction.commit().await.map_err(failed)?;
        Ok(outcome)
    }

    #[tracing::instrument(name = "chat.store.unblock", skip_all)]
    async fn unblock(
        &self,
        user_id: UserId,
        blocked: UserId,
        at: DateTime<Utc>,
    ) -> Result<Option<Publication>, StoreError> {
        let failed = |source| StoreError::Block { user_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let outcome = blocks::remove(&mut transaction, user_id, blocked, at).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(outcome)
    }

    #[tracing::instrument(name = "chat.store.blocks", skip_all)]
    async fn blocks(
        &self,
        user_id: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Block>, StoreError> {
        blocks::page(&self.pool, user_id, after, limit).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.blocked", skip_all)]
    async fn blocked(&self, user_id: UserId, others: &[UserId]) -> Result<BTreeSet<UserId>, StoreError> {
        blocks::among(&self.pool, user_id, others).await.map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.blocks_of_any", skip_all)]
    async fn blocks_of_any(
        &self,
        user_id: UserId,
        limit: usize,
    ) -> Result<Vec<(UserId, UserId)>, StoreError> {
        blocks::of_any(&self.pool, user_id, limit).await.map_err(StoreError::Read)
    }

    fn deletions_position(&self) -> deletions::Position {
        deletions::Position::in_postgres(self.pool.clone())
    }

    #[tracing::instrument(name = "chat.store.all_chats", skip_all)]
    async fn all_chats(&self, after: Option<ChatId>, limit: usize) -> Result<Vec<ChatId>, StoreError> {
        all_chats(&self.pool, after, limit).await.map_err(StoreError::Read)
    }

    async fn count_chats(&self) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar("SELECT count(*) FROM chats").fetch_one(&self.pool).await;
        count.map_err(StoreError::Read)
    }

    async fn is_published(&self, publication: Publication) -> Result<bool, StoreError> {
        let Publication { chat_id, newest: Some(newest) } = publication else { return Ok(true) };
        sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM outbox WHERE left(record_key, 36) = $1 AND outbox_id <= $2)",
        )
        .bind(chat_id.to_string())
        .bind(newest)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Read)
    }

    async fn pending(&self, limit: usize) -> Result<Vec<OutboxRecord>, StoreError> {
        let rows: Vec<OutboxRow> =
            sqlx::query_as("SELECT topic, record_key, payload FROM outbox ORDER BY outbox_id LIMIT $1")
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter().map(OutboxRecord::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.published", skip_all)]
    async fn published(&self, from: Option<PublishedPlace>, limit: usize) -> Result<Published, StoreError> {
        published(&self.pool, from, limit).await.map_err(StoreError::Read)
    }
}

impl PostgresStore {
    /// Makes the changes that `decide` returns for a chat, `None` when there is no such chat, with the records about them.
    async fn change_as(
        &self,
        chat_id: ChatId,
        concern: Concern,
        actor: UserId,
        at: DateTime<Utc>,
        decide: impl FnOnce(Option<&Excerpt>) -> Result<Vec<Change>, Refusal> + Send,
    ) -> Result<Publication, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let Some(excerpt) = locked_excerpt(&mut transaction, chat_id, &concern, at).await.map_err(failed)?
        else {
            decide(None)?;
            return Ok(Publication { chat_id, newest: None });
        };
        let changes = decide(Some(&excerpt))?;
        self.complete(transaction, excerpt, (actor, &changes), at).await
    }

    /// Makes the changes of a chat that is locked, with the records about them.
    async fn complete(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        mut excerpt: Excerpt,
        (actor, changes): (UserId, &[Change]),
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        let chat_id = excerpt.chat_id;
        let failed = |source| StoreError::Change { chat_id, source };
        if changes.is_empty() {
            // It is so already, and perhaps not yet published.
            let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
            return Ok(Publication { chat_id, newest });
        }
        make(&mut transaction, &self.limits, &mut excerpt, (actor, changes), at).await.map_err(failed)??;
        let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Publication { chat_id, newest })
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
