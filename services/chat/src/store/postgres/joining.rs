//! Invite links and requests to join.

use chrono::{DateTime, Utc};
use contracts::{ChatId, InviteId, UserId, event::ChatKind};
use kit::idempotency::IdempotencyKey;
use sqlx::{FromRow, PgConnection, PgExecutor, postgres::PgRow};
use tonic::async_trait;
use uuid::Uuid;

use super::{
    PostgresStore, blocks, changes::locked_excerpt, outbox::newest_record, revocations, rows::kind_of,
};
use crate::{
    domain::{
        self, Admission, CodeHash, Concern, Entrance, Invite, JoinRequest, LINK_KEPT, MAX_INVITES,
        MAX_REQUESTS, NewInvite, Preview, PublicChat, Refusal,
    },
    store::{Invited, JoinStore, Publication, StoreError},
};

/// The columns of [`InviteRow`].
macro_rules! invite_columns {
    () => {
        "invite_id, invites.chat_id, made_by_user_id, invites.created_at, expires_at, max_uses, uses, needs_approval"
    };
}

kit::row! {
    struct InviteRow {
        invite_id: Uuid,
        chat_id: Uuid,
        made_by_user_id: Uuid,
        created_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
        max_uses: Option<i32>,
        uses: i32,
        needs_approval: bool,
    }
}

kit::row! {
    struct GoalRow {
        title: String,
        member_count: i32,
        is_member: bool,
        has_used: bool,
    }
}

kit::row! {
    struct RevocationRow {
        is_revoked: bool,
    }
}

/// A link that was made with a key.
struct KeyedRow {
    invite: InviteRow,
    revocation: RevocationRow,
}

impl FromRow<'_, PgRow> for KeyedRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { invite: InviteRow::from_row(row)?, revocation: RevocationRow::from_row(row)? })
    }
}

/// A link, with where it leads.
struct PreviewRow {
    invite: InviteRow,
    goal: GoalRow,
}

impl FromRow<'_, PgRow> for PreviewRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { invite: InviteRow::from_row(row)?, goal: GoalRow::from_row(row)? })
    }
}

kit::row! {
    struct PublicChatRow {
        chat_id: Uuid,
        kind: String,
        title: String,
        topic: Option<String>,
        member_count: i32,
    }
}

kit::row! {
    struct RequestRow {
        user_id: Uuid,
        requested_at: DateTime<Utc>,
    }
}

#[async_trait]
impl JoinStore for PostgresStore {
    #[tracing::instrument(name = "chat.store.public_chats", skip_all)]
    async fn public_chats(
        &self,
        search: &str,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<PublicChat>, StoreError> {
        let rows: Vec<PublicChatRow> = sqlx::query_as(
            "SELECT chat_id, kind, title, topic, member_count FROM chats
             WHERE visibility = 'public' AND member_count > 0 AND deleted_by_user_id IS NULL
               AND chat_id < $1 AND ($2 = '' OR strpos(search_key, $2) > 0)
             ORDER BY chat_id DESC LIMIT $3",
        )
        .bind(before.map_or(Uuid::max(), |chat| chat.0))
        .bind(search)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        rows.into_iter().map(PublicChat::try_from).collect::<Result<_, _>>().map_err(StoreError::Read)
    }

    #[tracing::instrument(name = "chat.store.join", skip_all, fields(chat = %chat_id))]
    async fn join(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        let decide = |excerpt: Option<&domain::Excerpt>| {
            let excerpt = excerpt.ok_or(Refusal::NotAMember(chat_id))?;
            Ok(match domain::join(excerpt, user_id, Entrance::Public)? {
                Admission::Present | Admission::Requested => Vec::new(),
                Admission::Joined(change) => vec![change],
            })
        };
        self.change_as(chat_id, Concern::of([user_id]), user_id, at, decide).await
    }

    #[tracing::instrument(name = "chat.store.create_invite", skip_all, fields(chat = %new.invite.chat_id))]
    async fn create_invite(&self, new: &NewInvite) -> Result<(Invite, bool), StoreError> {
        let invite = &new.invite;
        let (chat_id, at) = (invite.chat_id, invite.created_at);
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        managed(&mut transaction, chat_id, invite.made_by, at).await?;
        let before = with_key(&mut transaction, new).await.map_err(failed)?;
        if let Some((before, is_revoked)) = before {
            if !before.is_alike(invite) {
                return Err(Refusal::InviteKeyReused.into());
            }
            if is_revoked {
                return Err(Refusal::InviteRevoked.into());
            }
            sqlx::query("UPDATE invites SET code_hash = $2 WHERE invite_id = $1")
                .bind(before.invite_id.0)
                .bind(&new.code_hash.0[..])
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            return Ok((before, false));
        }
        // As `Invite::is_past` has it.
        sqlx::query(
            "DELETE FROM invites
             WHERE chat_id = $1 AND created_at <= $3 AND (revoked_at IS NOT NULL OR expires_at <= $2 OR uses >= max_uses)",
        )
        .bind(chat_id.0)
        .bind(at)
        .bind(at - LINK_KEPT)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM invites
             WHERE chat_id = $1 AND revoked_at IS NULL
               AND (expires_at IS NULL OR expires_at > $2) AND (max_uses IS NULL OR uses < max_uses)",
        )
        .bind(chat_id.0)
        .bind(at)
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_INVITES {
            return Err(Refusal::TooManyInvites.into());
        }
        sqlx::query(
            "INSERT INTO invites (invite_id, chat_id, made_by_user_id, code_hash, created_at, expires_at, max_uses,
                                  needs_approval, idempotency_key)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(invite.invite_id.0)
        .bind(chat_id.0)
        .bind(invite.made_by.0)
        .bind(&new.code_hash.0[..])
        .bind(at)
        .bind(invite.expires_at)
        .bind(invite.max_uses.map(|uses| i32::try_from(uses).expect("uses are bounded")))
        .bind(invite.needs_approval)
        .bind(new.key.as_ref().map(IdempotencyKey::as_str))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok((invite.clone(), true))
    }

    #[tracing::instrument(name = "chat.store.invites", skip_all, fields(chat = %chat_id))]
    async fn invites(&self, chat_id: ChatId, now: DateTime<Utc>) -> Result<Vec<Invite>, StoreError> {
        let rows: Vec<InviteRow> = sqlx::query_as(concat!(
            "SELECT ",
            invite_columns!(),
            " FROM invites JOIN members ON members.chat_id = invites.chat_id AND user_id = made_by_user_id
             WHERE invites.chat_id = $1 AND revoked_at IS NULL AND role <> 'member' ORDER BY invite_id"
        ))
        .bind(chat_id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(rows.into_iter().map(Invite::from).filter(|invite| invite.is_good(now)).collect())
    }

    #[tracing::instrument(name = "chat.store.revoke_invite", skip_all, fields(chat = %chat_id))]
    async fn revoke_invite(
        &self,
        chat_id: ChatId,
        actor: UserId,
        invite_id: InviteId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        managed(&mut transaction, chat_id, actor, at).await?;
        revocations::revoke(&mut transaction, chat_id, invite_id).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "chat.store.preview", skip_all)]
    async fn preview(
        &self,
        code: CodeHash,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<Option<Preview>, StoreError> {
        let row: Option<PreviewRow> = sqlx::query_as(concat!(
            "SELECT ",
            invite_columns!(),
            ", title, member_count,
               EXISTS (SELECT FROM members WHERE chat_id = invites.chat_id AND user_id = $2) AS is_member,
               EXISTS (SELECT FROM invite_uses AS used WHERE used.invite_id = invites.invite_id AND user_id = $2) AS has_used
             FROM invites
                  JOIN chats ON chats.chat_id = invites.chat_id AND deleted_by_user_id IS NULL
                  JOIN members AS maker ON maker.chat_id = invites.chat_id AND maker.user_id = made_by_user_id
             WHERE code_hash = $1 AND maker.role <> 'member'
               AND NOT EXISTS (SELECT FROM blocks
                               WHERE (blocker_id = $2 AND blocked_id = made_by_user_id)
                                  OR (blocker_id = made_by_user_id AND blocked_id = $2))"
        ))
        .bind(&code.0[..])
        .bind(user_id.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let Some(PreviewRow { invite, goal }) = row else { return Ok(None) };
        let invite = Invite::from(invite);
        Ok(invite.is_good_for(goal.has_used, now).then(|| Preview {
            invite,
            title: goal.title,
            member_count: goal.member_count.into(),
            is_member: goal.is_member,
        }))
    }

    async fn invited_to(&self, code: CodeHash) -> Result<Option<ChatId>, StoreError> {
        let invite = invite(&self.pool, code).await.map_err(StoreError::Read)?;
        Ok(invite.map(|invite| invite.chat_id))
    }

    #[tracing::instrument(name = "chat.store.join_by_invite", skip_all)]
    async fn join_by_invite(
        &self,
        code: CodeHash,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Invited, StoreError> {
        let found = invite(&self.pool, code).await.map_err(StoreError::Read)?;
        let Invite { chat_id, made_by, .. } = found.ok_or(Refusal::NoSuchInvite)?;
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let is_blocked = blocks::any_of(&mut transaction, user_id, made_by).await.map_err(failed)?;
        let concern = Concern::of([user_id, made_by]);
        let excerpt = locked_excerpt(&mut transaction, chat_id, &concern, at).await.map_err(failed)?;
        let excerpt = excerpt.ok_or(Refusal::NoSuchInvite)?;
        // As it is under the lock: it may have been used or revoked meanwhile.
        let found = invite(&mut *transaction, code).await.map_err(failed)?;
        let invite = found.ok_or(Refusal::NoSuchInvite)?;
        let asked = request(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let has_used = has_used(&mut transaction, &invite, user_id).await.map_err(failed)?;
        let is_good = invite.is_good_for(has_used, at) && !is_blocked;
        let entrance = Entrance::Invite { invite: &invite, is_good, has_requested: asked.is_some() };
        let admission = domain::join(&excerpt, user_id, entrance)?;
        match (admission, asked) {
            (Admission::Present, _) => {
                let newest = newest_record(&mut transaction, chat_id).await.map_err(failed)?;
                Ok(Invited::Member(Publication { chat_id, newest }))
            }
            (Admission::Joined(change), _) => {
                use_once(&mut transaction, &invite, user_id).await.map_err(failed)?;
                let publication = self.complete(transaction, excerpt, (user_id, &[change]), at).await?;
                Ok(Invited::Member(publication))
            }
            (Admission::Requested, Some(asked)) => Ok(Invited::Asked(asked)),
            (Admission::Requested, None) => {
                ask(&mut transaction, (chat_id, user_id), at).await.map_err(failed)??;
                use_once(&mut transaction, &invite, user_id).await.map_err(failed)?;
                transaction.commit().await.map_err(failed)?;
                Ok(Invited::Asked(JoinRequest { chat_id, user_id, requested_at: at }))
            }
        }
    }

    #[tracing::instrument(name = "chat.store.requests", skip_all, fields(chat = %chat_id))]
    async fn requests(
        &self,
        chat_id: ChatId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<JoinRequest>, StoreError> {
        let rows: Vec<RequestRow> = sqlx::query_as(
            "SELECT user_id, requested_at FROM join_requests
             WHERE chat_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3",
        )
        .bind(chat_id.0)
        .bind(after.map_or(Uuid::nil(), |user| user.0))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        Ok(rows.into_iter().map(|row| row.of(chat_id)).collect())
    }

    #[tracing::instrument(name = "chat.store.approve", skip_all, fields(chat = %chat_id))]
    async fn approve(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let concern = Concern::of([actor, user_id]);
        let excerpt = locked_excerpt(&mut transaction, chat_id, &concern, at).await.map_err(failed)?;
        let excerpt = excerpt.ok_or(Refusal::NotAMember(chat_id))?;
        let asked = request(&mut transaction, chat_id, user_id).await.map_err(failed)?;
        let changes = domain::approve(&excerpt, actor, user_id, asked.is_some())?;
        self.complete(transaction, excerpt, (actor, &changes), at).await
    }

    #[tracing::instrument(name = "chat.store.withdraw", skip_all, fields(chat = %chat_id))]
    async fn withdraw(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError::Change { chat_id, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        if actor != user_id {
            managed(&mut transaction, chat_id, actor, at).await?;
        }
        sqlx::query("DELETE FROM join_requests WHERE chat_id = $1 AND user_id = $2")
            .bind(chat_id.0)
            .bind(user_id.0)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "chat.store.withdraw_all", skip_all)]
    async fn withdraw_all(&self, user_id: UserId) -> Result<(), StoreError> {
        sqlx::query(
            "WITH unused AS (DELETE FROM invite_uses WHERE user_id = $1),
                  untimed AS (DELETE FROM scheduled_turns WHERE user_id = $1),
                  unspent AS (DELETE FROM scheduled_spent WHERE payer = 'user' AND payer_id = $1)
             DELETE FROM join_requests WHERE user_id = $1",
        )
        .bind(user_id.0)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Requests)
    }
}

/// Locks a chat for one who manages who comes into it, and refuses all others.
async fn managed(
    connection: &mut PgConnection,
    chat_id: ChatId,
    actor: UserId,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Change { chat_id, source };
    let excerpt = locked_excerpt(connection, chat_id, &Concern::of([actor]), at).await.map_err(failed)?;
    let excerpt = excerpt.ok_or(Refusal::NotAMember(chat_id))?;
    Ok(domain::manage(&excerpt, actor)?)
}

async fn invite(executor: impl PgExecutor<'_>, code: CodeHash) -> Result<Option<Invite>, sqlx::Error> {
    let row: Option<InviteRow> =
        sqlx::query_as(concat!("SELECT ", invite_columns!(), " FROM invites WHERE code_hash = $1"))
            .bind(&code.0[..])
            .fetch_optional(executor)
            .await?;
    Ok(row.map(Invite::from))
}

/// Returns the link that its maker has made with the same key, and whether it is revoked.
async fn with_key(
    connection: &mut PgConnection,
    new: &NewInvite,
) -> Result<Option<(Invite, bool)>, sqlx::Error> {
    let row: Option<KeyedRow> = sqlx::query_as(concat!(
        "SELECT ",
        invite_columns!(),
        ", revoked_at IS NOT NULL AS is_revoked FROM invites WHERE chat_id = $1 AND made_by_user_id = $2 AND idempotency_key = $3"
    ))
    .bind(new.invite.chat_id.0)
    .bind(new.invite.made_by.0)
    .bind(new.key.as_ref().map(IdempotencyKey::as_str))
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|KeyedRow { invite, revocation }| (invite.into(), revocation.is_revoked)))
}

/// Returns whether a user has taken a use of a link.
async fn has_used(
    connection: &mut PgConnection,
    invite: &Invite,
    user_id: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM invite_uses WHERE invite_id = $1 AND user_id = $2)")
        .bind(invite.invite_id.0)
        .bind(user_id.0)
        .fetch_one(connection)
        .await
}

async fn request(
    connection: &mut PgConnection,
    chat_id: ChatId,
    user_id: UserId,
) -> Result<Option<JoinRequest>, sqlx::Error> {
    let row: Option<RequestRow> =
        sqlx::query_as("SELECT user_id, requested_at FROM join_requests WHERE chat_id = $1 AND user_id = $2")
            .bind(chat_id.0)
            .bind(user_id.0)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|row| row.of(chat_id)))
}

/// Adds a request, unless there are too many. The chat is locked, so that their number is exact.
async fn ask(
    connection: &mut PgConnection,
    (chat_id, user_id): (ChatId, UserId),
    at: DateTime<Utc>,
) -> Result<Result<(), Refusal>, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM join_requests WHERE chat_id = $1")
        .bind(chat_id.0)
        .fetch_one(&mut *connection)
        .await?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_REQUESTS {
        return Ok(Err(Refusal::TooManyRequests));
    }
    sqlx::query("INSERT INTO join_requests (chat_id, user_id, requested_at) VALUES ($1, $2, $3)")
        .bind(chat_id.0)
        .bind(user_id.0)
        .bind(at)
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

/// Counts a use, unless the user has taken one before. The chat is locked, so that there are as many as the link allows.
async fn use_once(
    connection: &mut PgConnection,
    invite: &Invite,
    user_id: UserId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH used AS (
             INSERT INTO invite_uses (invite_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING TRUE
         )
         UPDATE invites SET uses = uses + 1 WHERE invite_id = $1 AND EXISTS (SELECT FROM used)",
    )
    .bind(invite.invite_id.0)
    .bind(user_id.0)
    .execute(connection)
    .await
    .map(drop)
}

impl From<InviteRow> for Invite {
    fn from(row: InviteRow) -> Self {
        Self {
            invite_id: InviteId(row.invite_id),
            chat_id: ChatId(row.chat_id),
            made_by: UserId(row.made_by_user_id),
            created_at: row.created_at,
            expires_at: row.expires_at,
            max_uses: row.max_uses.and_then(|uses| u32::try_from(uses).ok()),
            uses: u32::try_from(row.uses).unwrap_or(0),
            needs_approval: row.needs_approval,
        }
    }
}

impl RequestRow {
    fn of(self, chat_id: ChatId) -> JoinRequest {
        JoinRequest { chat_id, user_id: UserId(self.user_id), requested_at: self.requested_at }
    }
}

impl TryFrom<PublicChatRow> for PublicChat {
    type Error = sqlx::Error;

    fn try_from(row: PublicChatRow) -> Result<Self, Self::Error> {
        let kind: ChatKind = kind_of(&row.kind)?;
        Ok(Self {
            chat_id: ChatId(row.chat_id),
            kind,
            title: row.title,
            topic: row.topic,
            member_count: row.member_count.into(),
        })
    }
}
