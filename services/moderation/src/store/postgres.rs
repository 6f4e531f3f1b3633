//! Moderation in PostgreSQL.

use std::collections::HashMap;

use contracts::{
    AppealId, ChatId, ReportId, RuleSetId, SanctionId, UserId,
    api::{
        Appeal, AppealState, AuditEntry, Figures, Report, ReportState, RuleFigures, RuleSet, RuleSetState,
        Sanction, SanctionKind, ShadowRun,
    },
};
use kit::{
    deletions,
    postgres::{Schema, positions},
};
use serde::de::DeserializeOwned;
use sqlx::{
    PgConnection, PgPool, Postgres, QueryBuilder,
    postgres::PgArguments,
    query::{QueryAs, QueryScalar},
    types::Json,
};
use tonic::async_trait;
use uuid::Uuid;

use super::{
    AuditFilter, Batch, Counts, ModerationStore, StoreError, appeal_state, lifted_with_account,
    parse_sanction_kind, report_state, rule_set_state, sanction_kind,
};
use crate::domain::{
    Audit, Change, Deletion, Place, Question, Scope, Scores, Standing, Verdict, Window, changes_of, end_ms,
    next_change_ms, standing,
};

/// The tables of this service.
pub const SCHEMA: Schema = Schema {
    name: "moderation_service",
    migrations: &[
        ("0001_create_moderation", include_str!("../../migrations/0001_create_moderation.sql")),
        ("0002_create_questions", include_str!("../../migrations/0002_create_questions.sql")),
        ("0003_index_audit", include_str!("../../migrations/0003_index_audit.sql")),
        ("0004_index_audit_by_action", include_str!("../../migrations/0004_index_audit_by_action.sql")),
    ],
};

/// Rows that one statement forgets: a slow disk manages that in time.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// Rule sets are enforced one after the other, under this lock of the database, "rulesets" in ASCII: each is compared with all that are.
const RULE_SETS_LOCK: i64 = 0x7275_6c65_7365_7473;

/// What a table has as one value of JSON.
trait Document: DeserializeOwned + Send + Unpin + 'static {}

impl<T: DeserializeOwned + Send + Unpin + 'static> Document for T {}

/// A query for documents.
type Documents<'q, T> = QueryScalar<'q, Postgres, Json<T>, PgArguments>;

/// A query for documents with their places in a list.
type Placed<'q, T> = QueryAs<'q, Postgres, (i64, Json<T>), PgArguments>;

/// Keeps all of it in the tenant's database.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Returns a store on a pool whose search path starts with [`SCHEMA`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    async fn document<T: Document>(&self, query: Documents<'_, T>) -> Result<Option<T>, StoreError> {
        let found = query.fetch_optional(&self.pool).await.map_err(StoreError::Read)?;
        Ok(found.map(|Json(document)| document))
    }

    async fn documents<T: Document>(&self, query: Documents<'_, T>) -> Result<Vec<T>, StoreError> {
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::Read)?;
        Ok(found.into_iter().map(|Json(document)| document).collect())
    }

    async fn placed<T: Document>(&self, query: Placed<'_, T>) -> Result<Vec<(i64, T)>, StoreError> {
        let found = query.fetch_all(&self.pool).await.map_err(StoreError::Read)?;
        Ok(found.into_iter().map(|(place, Json(document))| (place, document)).collect())
    }
}

kit::row! {
    struct WindowRow {
        chat_id: Uuid,
        sender_id: Uuid,
        last_seq: i64,
        times_ms: Vec<i64>,
    }
}

kit::row! {
    struct FiguresRow {
        caught: i64,
        deletions: i64,
        reports: i64,
        sanctions: i64,
    }
}

kit::row! {
    struct RuleRow {
        rule: String,
        caught: i64,
    }
}

kit::row! {
    struct AuditRow {
        audit_id: i64,
        at_ms: i64,
        by_id: Option<Uuid>,
        action: String,
        subject: String,
        user_id: Option<Uuid>,
    }
}

kit::row! {
    struct CountsRow {
        open_reports: i64,
        open_appeals: i64,
        muted_users: i64,
        banned_users: i64,
        enforced_rule_sets: i64,
        caught: i64,
    }
}

kit::row! {
    struct DeletionRow {
        chat_id: Uuid,
        seq: i64,
    }
}

kit::row! {
    struct StandingRow {
        user_id: Uuid,
        chat_id: Uuid,
        version: i64,
        has_closed: bool,
    }
}

/// Returns a scope as the tables have it.
fn scope_id(scope: Scope) -> Uuid {
    scope.map_or(Uuid::nil(), |chat| chat.0)
}

fn scope_of(id: Uuid) -> Scope {
    (!id.is_nil()).then_some(ChatId(id))
}

fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl ModerationStore for PostgresStore {
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        positions::read(&self.pool, partitions).await.map_err(StoreError::Read)
    }

    async fn windows(
        &self,
        senders: &[(ChatId, UserId)],
    ) -> Result<HashMap<(ChatId, UserId), Window>, StoreError> {
        let chats: Vec<_> = senders.iter().map(|(chat, _)| chat.0).collect();
        let users: Vec<_> = senders.iter().map(|(_, user)| user.0).collect();
        let rows: Vec<WindowRow> = sqlx::query_as(
            "SELECT chat_id, sender_id, last_seq, times_ms
             FROM unnest($1::UUID[], $2::UUID[]) AS senders (chat_id, sender_id)
                  JOIN windows USING (chat_id, sender_id)",
        )
        .bind(chats)
        .bind(users)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let window = |row: WindowRow| {
            let of = (ChatId(row.chat_id), UserId(row.sender_id));
            (of, Window { last_seq: row.last_seq, times_ms: row.times_ms })
        };
        Ok(rows.into_iter().map(window).collect())
    }

    #[tracing::instrument(name = "moderation.store.record", skip_all, fields(partition = batch.partition))]
    async fn record(&self, batch: &Batch) -> Result<(), StoreError> {
        let failed = |source| StoreError::Record { partition: batch.partition, source };
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        for verdict in &batch.verdicts {
            judge(&mut transaction, verdict).await.map_err(failed)?;
        }
        if !batch.questions.is_empty() {
            write_questions(&mut transaction, batch).await.map_err(failed)?;
        }
        if !batch.windows.is_empty() {
            write_windows(&mut transaction, batch).await.map_err(failed)?;
        }
        positions::advance(&mut *transaction, batch.partition, batch.next_offset).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    #[tracing::instrument(name = "moderation.store.act", skip_all)]
    async fn act(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Write)?;
        for change in changes {
            if !apply(&mut transaction, change).await.map_err(StoreError::Write)? {
                return Err(change.refusal().into());
            }
        }
        transaction.commit().await.map_err(StoreError::Write)
    }

    async fn rule_set(&self, id: RuleSetId) -> Result<Option<RuleSet>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM rule_sets WHERE rule_set_id = $1").bind(id.0);
        self.document(query).await
    }

    async fn rule_sets(&self, states: &[RuleSetState]) -> Result<Vec<RuleSet>, StoreError> {
        let states: Vec<String> = states.iter().map(|state| rule_set_state(*state).to_owned()).collect();
        let query = sqlx::query_scalar(
            "SELECT body FROM rule_sets WHERE state = ANY ($1) ORDER BY created_at_ms, rule_set_id",
        )
        .bind(states);
        self.documents(query).await
    }

    async fn rule_sets_from(&self, sent_at_ms: i64) -> Result<Vec<RuleSet>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT body FROM rule_sets WHERE state = 'enforced' OR retired_from_ms > $1
             ORDER BY created_at_ms, rule_set_id",
        )
        .bind(sent_at_ms);
        self.documents(query).await
    }

    async fn figures(&self, id: RuleSetId) -> Result<Figures, StoreError> {
        let all: FiguresRow = sqlx::query_as(
            // What the classifier said of a post, and the other rules, is one.
            "SELECT count(*) AS caught, count(*) FILTER (WHERE is_deletion) AS deletions,
                    count(*) FILTER (WHERE is_report) AS reports,
                    count(*) FILTER (WHERE is_sanction) AS sanctions
             FROM (
                 SELECT bool_or(is_deletion) AS is_deletion, bool_or(is_report) AS is_report,
                        bool_or(is_sanction) AS is_sanction
                 FROM verdicts WHERE rule_set_id = $1 GROUP BY chat_id, entry_seq
             ) AS posts",
        )
        .bind(id.0)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let rules: Vec<RuleRow> = sqlx::query_as(
            r#"SELECT rule, count(*) AS caught FROM verdicts, unnest(rules) AS rule
               WHERE rule_set_id = $1 GROUP BY rule ORDER BY rule COLLATE "C""#,
        )
        .bind(id.0)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let FiguresRow { caught, deletions, reports, sanctions } = all;
        let rules = rules.into_iter().map(|row| RuleFigures { rule: row.rule, caught: row.caught });
        Ok(Figures { caught, deletions, reports, sanctions, rules: rules.collect() })
    }

    async fn shadow_run(&self, id: RuleSetId) -> Result<Option<ShadowRun>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM shadow_runs WHERE rule_set_id = $1").bind(id.0);
        self.document(query).await
    }

    async fn put_shadow_run(&self, run: &ShadowRun) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO shadow_runs (rule_set_id, body) VALUES ($1, $2)
             ON CONFLICT (rule_set_id) DO UPDATE SET body = excluded.body",
        )
        .bind(run.rule_set.0)
        .bind(Json(run.clone()))
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Write)
    }

    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM reports WHERE report_id = $1").bind(id.0);
        self.document(query).await
    }

    async fn report_of(&self, by: UserId, chat: ChatId, seq: i64) -> Result<Option<Report>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT body FROM reports WHERE by_id = $1 AND chat_id = $2 AND seq = $3")
                .bind(by.0)
                .bind(chat.0)
                .bind(seq);
        self.document(query).await
    }

    async fn reports(
        &self,
        state: Option<ReportState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Report)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT place, body FROM reports WHERE ($1::TEXT IS NULL OR state = $1) AND place > $2
             ORDER BY place LIMIT $3",
        )
        .bind(state.map(|state| report_state(state).to_owned()))
        .bind(after)
        .bind(rows_of(limit));
        self.placed(query).await
    }

    async fn sanction(&self, id: SanctionId) -> Result<Option<Sanction>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM sanctions WHERE sanction_id = $1").bind(id.0);
        self.document(query).await
    }

    async fn sanctions(
        &self,
        user: Option<UserId>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Sanction)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT place, body FROM sanctions WHERE ($1::UUID IS NULL OR user_id = $1) AND place < $2
             ORDER BY place DESC LIMIT $3",
        )
        .bind(user.map(|user| user.0))
        .bind(before)
        .bind(rows_of(limit));
        self.placed(query).await
    }

    async fn appeal(&self, id: AppealId) -> Result<Option<Appeal>, StoreError> {
        let query = sqlx::query_scalar("SELECT body FROM appeals WHERE appeal_id = $1").bind(id.0);
        self.document(query).await
    }

    async fn appeals_of(&self, user: UserId, limit: usize) -> Result<Vec<Appeal>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT body FROM appeals WHERE user_id = $1 ORDER BY place DESC LIMIT $2")
                .bind(user.0)
                .bind(rows_of(limit));
        self.documents(query).await
    }

    async fn appeals(
        &self,
        state: Option<AppealState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Appeal)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT place, body FROM appeals WHERE ($1::TEXT IS NULL OR state = $1) AND place > $2
             ORDER BY place LIMIT $3",
        )
        .bind(state.map(|state| appeal_state(state).to_owned()))
        .bind(after)
        .bind(rows_of(limit));
        self.placed(query).await
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let AuditFilter { by, user, action, from_ms, to_ms } = filter.clone();
        // Only the conditions that there are: a plan for all of them at once uses the index of none.
        let mut query = QueryBuilder::<Postgres>::new(
            "SELECT audit_id, at_ms, by_id, action, subject, user_id FROM audit WHERE audit_id < ",
        );
        query.push_bind(before);
        if let Some(by) = by {
            query.push(" AND by_id = ").push_bind(by.0);
        }
        if let Some(user) = user {
            query.push(" AND user_id = ").push_bind(user.0);
        }
        if let Some(action) = action {
            query.push(" AND action = ").push_bind(action);
        }
        if let Some(from_ms) = from_ms {
            query.push(" AND at_ms >= ").push_bind(from_ms);
        }
        if let Some(to_ms) = to_ms {
            query.push(" AND at_ms < ").push_bind(to_ms);
        }
        query.push(" ORDER BY audit_id DESC LIMIT ").push_bind(rows_of(limit));
        let rows: Vec<AuditRow> =
            query.build_query_as().fetch_all(&self.pool).await.map_err(StoreError::Read)?;
        let entry = |row: AuditRow| AuditEntry {
            id: row.audit_id,
            at_ms: row.at_ms,
            by: row.by_id.map(UserId),
            action: row.action,
            subject: row.subject,
            user: row.user_id.map(UserId),
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn counts(&self, now_ms: i64) -> Result<Counts, StoreError> {
        let row: CountsRow = sqlx::query_as(
            "SELECT (SELECT count(*) FROM reports WHERE state = 'open') AS open_reports,
                    (SELECT count(*) FROM appeals WHERE state = 'open') AS open_appeals,
                    (SELECT count(DISTINCT user_id) FROM sanctions
                     WHERE kind = 'mute' AND NOT is_lifted AND chat_id = $1 AND until_ms > $2) AS muted_users,
                    (SELECT count(DISTINCT user_id) FROM sanctions
                     WHERE kind = 'ban' AND NOT is_lifted AND chat_id = $1 AND until_ms > $2) AS banned_users,
                    (SELECT count(*) FROM rule_sets WHERE state = 'enforced') AS enforced_rule_sets,
                    (SELECT count(*) FROM (SELECT DISTINCT chat_id, entry_seq FROM verdicts) AS posts) AS caught",
        )
        .bind(scope_id(None))
        .bind(now_ms)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Read)?;
        let CountsRow { open_reports, open_appeals, muted_users, banned_users, enforced_rule_sets, caught } =
            row;
        Ok(Counts { open_reports, open_appeals, muted_users, banned_users, enforced_rule_sets, caught })
    }

    async fn claim_questions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Question>, StoreError> {
        let posts: Vec<Json<Question>> = sqlx::query_scalar(
            "UPDATE questions SET claimed_until_ms = $2
             WHERE (chat_id, entry_seq) IN (
                 SELECT chat_id, entry_seq FROM questions WHERE post IS NOT NULL AND claimed_until_ms <= $1
                 ORDER BY written_at_ms LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING post",
        )
        .bind(now_ms)
        .bind(until_ms)
        .bind(rows_of(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        Ok(posts.into_iter().map(|Json(post)| post).collect())
    }

    #[tracing::instrument(name = "moderation.store.answer", skip_all)]
    async fn answer(
        &self,
        question: &Question,
        scores: &Scores,
        verdicts: &[Verdict],
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(StoreError::Work)?;
        let answered = sqlx::query(
            "UPDATE questions SET post = NULL, scores = $3
             WHERE chat_id = $1 AND entry_seq = $2 AND post IS NOT NULL",
        )
        .bind(question.chat.0)
        .bind(question.entry_seq)
        .bind(Json(scores.clone()))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::Work)?;
        if answered.rows_affected() == 0 {
            return Ok(false);
        }
        for verdict in verdicts {
            judge(&mut transaction, verdict).await.map_err(StoreError::Work)?;
        }
        transaction.commit().await.map_err(StoreError::Work)?;
        Ok(true)
    }

    async fn give_up_questions(&self, before_ms: i64) -> Result<u64, StoreError> {
        let given_up =
            sqlx::query("UPDATE questions SET post = NULL WHERE post IS NOT NULL AND written_at_ms < $1")
                .bind(before_ms)
                .execute(&self.pool)
                .await
                .map_err(StoreError::Work)?;
        Ok(given_up.rows_affected())
    }

    async fn claim_deletions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError> {
        let rows: Vec<DeletionRow> = sqlx::query_as(
            "UPDATE deletions SET claimed_until_ms = $2
             WHERE (chat_id, seq) IN (
                 SELECT chat_id, seq FROM deletions WHERE claimed_until_ms <= $1
                 ORDER BY claimed_until_ms LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING chat_id, seq",
        )
        .bind(now_ms)
        .bind(until_ms)
        .bind(rows_of(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        Ok(rows.into_iter().map(|row| Deletion { chat: ChatId(row.chat_id), seq: row.seq }).collect())
    }

    async fn finish_deletion(&self, deletion: Deletion) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM deletions WHERE chat_id = $1 AND seq = $2")
            .bind(deletion.chat.0)
            .bind(deletion.seq)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(StoreError::Work)
    }

    async fn claim_standings(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        // Nothing to do is one statement. What failed has a claim that has ended, and comes behind what was never tried.
        let rows: Vec<StandingRow> = sqlx::query_as(
            "UPDATE standings SET claimed_until_ms = $2
             WHERE (user_id, chat_id) IN (
                 SELECT user_id, chat_id FROM standings
                 WHERE claimed_until_ms <= $1 AND (done_version < version OR due_at_ms <= $1)
                 ORDER BY claimed_until_ms, user_id, chat_id LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING user_id, chat_id, version, has_closed",
        )
        .bind(now_ms)
        .bind(until_ms)
        .bind(rows_of(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let claim = (row, until_ms);
            claimed.push(claimed_standing(&self.pool, claim, now_ms).await.map_err(StoreError::Work)?);
        }
        Ok(claimed)
    }

    async fn note_closing(&self, standing: &Standing) -> Result<bool, StoreError> {
        let noted = sqlx::query(
            "UPDATE standings SET has_closed = TRUE
             WHERE user_id = $1 AND chat_id = $2 AND claimed_until_ms = $3",
        )
        .bind(standing.place.user.0)
        .bind(scope_id(standing.place.scope))
        .bind(standing.claimed_until_ms)
        .execute(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        Ok(noted.rows_affected() == 1)
    }

    async fn finish_standing(&self, standing: &Standing) -> Result<bool, StoreError> {
        // A newer version is still to be carried out.
        let finished = sqlx::query(
            "UPDATE standings SET done_version = greatest(done_version, $3), has_closed = $4, due_at_ms = $5,
                                  claimed_until_ms = 0
             WHERE user_id = $1 AND chat_id = $2 AND claimed_until_ms = $6",
        )
        .bind(standing.place.user.0)
        .bind(scope_id(standing.place.scope))
        .bind(standing.version)
        .bind(standing.has_closed)
        .bind(next_change_ms(standing))
        .bind(standing.claimed_until_ms)
        .execute(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        if finished.rows_affected() == 1 {
            return Ok(true);
        }
        self.leave_standing(standing).await?;
        Ok(false)
    }

    async fn leave_standing(&self, standing: &Standing) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO standings (user_id, chat_id, version, has_closed) VALUES ($1, $2, 1, $4)
             ON CONFLICT (user_id, chat_id) DO UPDATE
             SET version = standings.version + 1, has_closed = standings.has_closed OR excluded.has_closed
             WHERE standings.claimed_until_ms <> $3",
        )
        .bind(standing.place.user.0)
        .bind(scope_id(standing.place.scope))
        .bind(standing.claimed_until_ms)
        .bind(standing.has_closed)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Work)
    }

    async fn forget(&self, verdicts_ms: i64, windows_ms: i64) -> Result<u64, StoreError> {
        const VERDICTS: &str = "DELETE FROM verdicts WHERE (rule_set_id, chat_id, entry_seq) IN (
                 SELECT rule_set_id, chat_id, entry_seq FROM verdicts WHERE sent_at_ms < $1 LIMIT $2)";
        const WINDOWS: &str = "DELETE FROM windows WHERE (chat_id, sender_id) IN (
                 SELECT chat_id, sender_id FROM windows WHERE written_at_ms < $1 LIMIT $2)";
        const QUESTIONS: &str = "DELETE FROM questions WHERE (chat_id, entry_seq) IN (
                 SELECT chat_id, entry_seq FROM questions WHERE post IS NULL AND written_at_ms < $1 LIMIT $2)";
        let mut forgotten = 0;
        for (statement, before_ms) in
            [(VERDICTS, verdicts_ms), (QUESTIONS, verdicts_ms), (WINDOWS, windows_ms)]
        {
            loop {
                let deleting = sqlx::query(statement).bind(before_ms).bind(rows_of(FORGOTTEN_AT_ONCE));
                let deleted = deleting.execute(&self.pool).await.map_err(StoreError::Work)?.rows_affected();
                forgotten += deleted;
                if deleted < FORGOTTEN_AT_ONCE as u64 {
                    break;
                }
            }
        }
        Ok(forgotten)
    }

    async fn forget_standings(&self) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            // One that changes in this moment stays: what it is then is looked at once more.
            let deleted = sqlx::query(
                "DELETE FROM standings
                 WHERE (user_id, chat_id) IN (
                     SELECT user_id, chat_id FROM standings
                     WHERE done_version >= version AND due_at_ms IS NULL AND NOT has_closed AND claimed_until_ms = 0
                     LIMIT $1 FOR UPDATE SKIP LOCKED)
                   AND done_version >= version AND due_at_ms IS NULL AND NOT has_closed AND claimed_until_ms = 0",
            )
            .bind(rows_of(FORGOTTEN_AT_ONCE))
            .execute(&self.pool)
            .await
            .map_err(StoreError::Work)?
            .rows_affected();
            forgotten += deleted;
            if deleted < FORGOTTEN_AT_ONCE as u64 {
                return Ok(forgotten);
            }
        }
    }

    async fn forget_samples(&self, before_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE shadow_runs SET body = jsonb_set(body, '{samples}', '[]')
             WHERE (body->>'started_at_ms')::BIGINT < $1 AND jsonb_array_length(body->'samples') > 0",
        )
        .bind(before_ms)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Work)
    }

    #[tracing::instrument(name = "moderation.store.erase", skip_all)]
    async fn erase(&self, user: UserId, now_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "WITH lifted AS (
                 UPDATE sanctions SET is_lifted = TRUE, body = jsonb_set(body, '{lifted}', $2)
                 WHERE user_id = $1 AND NOT is_lifted AND kind <> 'warning' AND until_ms > $3
                 RETURNING sanction_id
             )
             INSERT INTO audit (at_ms, action, subject, user_id)
             SELECT $3, 'sanction_lifted', sanction_id::TEXT, $1 FROM lifted",
        )
        .bind(user.0)
        .bind(Json(lifted_with_account(now_ms)))
        .bind(now_ms)
        .execute(&self.pool)
        .await
        .map_err(StoreError::Work)?;
        for statement in [
            "DELETE FROM windows WHERE sender_id = $1",
            "DELETE FROM questions WHERE sender_id = $1 AND post IS NOT NULL",
            "DELETE FROM standings WHERE user_id = $1",
        ] {
            sqlx::query(statement).bind(user.0).execute(&self.pool).await.map_err(StoreError::Work)?;
        }
        sqlx::query(
            "UPDATE shadow_runs SET body = jsonb_set(body, '{samples}', (
                 SELECT coalesce(jsonb_agg(sample ORDER BY place), '[]')
                 FROM jsonb_array_elements(body->'samples') WITH ORDINALITY AS samples (sample, place)
                 WHERE sample->>'sender' <> $1))
             WHERE body->'samples' @> jsonb_build_array(jsonb_build_object('sender', $1::TEXT))",
        )
        .bind(user.to_string())
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(StoreError::Work)
    }

    fn deletions_position(&self) -> deletions::Position {
        deletions::Position::in_postgres(self.pool.clone())
    }
}

/// Writes what is remembered of senders, unless more is.
async fn write_windows(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    let (mut chats, mut senders, mut last, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((chat, sender), window) in &batch.windows {
        chats.push(chat.0);
        senders.push(sender.0);
        last.push(window.last_seq);
        // Rows of an array have one length: each is a text, as the database writes it.
        let times_ms: Vec<String> = window.times_ms.iter().map(i64::to_string).collect();
        times.push(format!("{{{}}}", times_ms.join(",")));
    }
    sqlx::query(
        "INSERT INTO windows (chat_id, sender_id, last_seq, times_ms, written_at_ms)
         SELECT chat_id, sender_id, last_seq, times_ms::BIGINT[], $5
         FROM unnest($1::UUID[], $2::UUID[], $3::BIGINT[], $4::TEXT[])
              AS new (chat_id, sender_id, last_seq, times_ms)
         ON CONFLICT (chat_id, sender_id) DO UPDATE
         SET last_seq = excluded.last_seq, times_ms = excluded.times_ms, written_at_ms = excluded.written_at_ms
         WHERE windows.last_seq < excluded.last_seq",
    )
    .bind(chats)
    .bind(senders)
    .bind(last)
    .bind(times)
    .bind(batch.now_ms)
    .execute(connection)
    .await
    .map(drop)
}

/// Writes what the classifier is to be asked, unless it was.
async fn write_questions(connection: &mut PgConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    for question in &batch.questions {
        sqlx::query(
            "INSERT INTO questions (chat_id, entry_seq, sender_id, written_at_ms, post)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (chat_id, entry_seq) DO NOTHING",
        )
        .bind(question.chat.0)
        .bind(question.entry_seq)
        .bind(question.sender.0)
        .bind(batch.now_ms)
        .bind(Json(question.clone()))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes a verdict with what follows from it, unless it is there.
async fn judge(connection: &mut PgConnection, verdict: &Verdict) -> Result<(), sqlx::Error> {
    if !insert_verdict(&mut *connection, verdict).await? {
        return Ok(());
    }
    let mut is_made = true;
    for change in changes_of(verdict) {
        // What is not made is not noted.
        if is_made || !matches!(change, Change::Noted(_)) {
            is_made = apply(&mut *connection, &change).await?;
        }
    }
    Ok(())
}

/// Writes a verdict. Returns whether it was not there.
async fn insert_verdict(connection: &mut PgConnection, verdict: &Verdict) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO verdicts (rule_set_id, chat_id, entry_seq, seq, sender_id, rules, is_deletion, is_report,
                               is_sanction, sent_at_ms, by_classifier)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
    )
    .bind(verdict.rule_set.0)
    .bind(verdict.chat.0)
    .bind(verdict.entry_seq)
    .bind(verdict.seq)
    .bind(verdict.sender.0)
    .bind(verdict.rules.clone())
    .bind(verdict.action.delete)
    .bind(verdict.action.report)
    .bind(verdict.action.sanction.is_some())
    .bind(verdict.evidence.sent_at_ms)
    .bind(verdict.by_classifier)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Returns what holds for a user now.
async fn claimed_standing(
    pool: &PgPool,
    (row, claimed_until_ms): (StandingRow, i64),
    now_ms: i64,
) -> Result<Standing, sqlx::Error> {
    let StandingRow { user_id, chat_id, version, has_closed } = row;
    // One row for each kind, whatever there was.
    let ends: Vec<(String, i64)> = sqlx::query_as(
        "SELECT kind, max(until_ms) FROM sanctions
         WHERE user_id = $1 AND chat_id = $2 AND NOT is_lifted AND kind <> 'warning' AND until_ms > $3
         GROUP BY kind",
    )
    .bind(user_id)
    .bind(chat_id)
    .bind(now_ms)
    .fetch_all(pool)
    .await?;
    let mut sums = Vec::with_capacity(ends.len());
    for (kind, until_ms) in ends {
        let known = parse_sanction_kind(&kind).ok_or_else(|| sqlx::Error::Decode(kind.into()))?;
        sums.push((known, until_ms));
    }
    let (silent_until_ms, banned_until_ms) = standing(sums, now_ms);
    let place = Place { user: UserId(user_id), scope: scope_of(chat_id) };
    Ok(Standing { place, version, claimed_until_ms, silent_until_ms, banned_until_ms, has_closed })
}

/// Makes a change. Returns whether things were as it needs them.
async fn apply(connection: &mut PgConnection, change: &Change) -> Result<bool, sqlx::Error> {
    match change {
        Change::RuleSetCreated(set) => {
            let query = sqlx::query(
                "INSERT INTO rule_sets (rule_set_id, state, created_at_ms, retired_from_ms, body)
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (rule_set_id) DO NOTHING",
            )
            .bind(set.id.0)
            .bind(rule_set_state(set.state))
            .bind(set.created_at_ms)
            .bind(set.retired_from_ms)
            .bind(Json(set.clone()));
            query.execute(connection).await.map(|done| done.rows_affected() == 1)
        }
        Change::RuleSetsCounted { among, retired_after_ms } => {
            let locking = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(RULE_SETS_LOCK);
            locking.execute(&mut *connection).await?;
            let among: Vec<Uuid> = among.iter().map(|id| id.0).collect();
            sqlx::query_scalar(
                "SELECT NOT EXISTS (
                     SELECT FROM rule_sets
                     WHERE (state = 'enforced' OR retired_from_ms > $1) AND rule_set_id <> ALL ($2))",
            )
            .bind(*retired_after_ms)
            .bind(among)
            .fetch_one(connection)
            .await
        }
        Change::RuleSetEnforced(set) => replace_set(connection, set, RuleSetState::Draft).await,
        Change::RuleSetRetired(set) => replace_set(connection, set, RuleSetState::Enforced).await,
        Change::RuleSetRemoved { id, retired_before_ms } => {
            let query = sqlx::query(
                "DELETE FROM rule_sets
                 WHERE rule_set_id = $1
                   AND (state = 'draft' OR (state = 'retired' AND retired_from_ms < $2))",
            )
            .bind(id.0)
            .bind(*retired_before_ms);
            query.execute(connection).await.map(|done| done.rows_affected() == 1)
        }
        Change::Reported(report) => insert_report(connection, report).await,
        Change::ReportDecided(report) => {
            let query = sqlx::query(
                "UPDATE reports SET state = $2, body = $3 WHERE report_id = $1 AND state = 'open'",
            )
            .bind(report.id.0)
            .bind(report_state(report.state))
            .bind(Json(report.clone()));
            query.execute(connection).await.map(|done| done.rows_affected() == 1)
        }
        Change::Sanctioned(sanction) => {
            let query = sqlx::query(
                "INSERT INTO sanctions (sanction_id, user_id, chat_id, kind, until_ms, body)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (sanction_id) DO NOTHING",
            )
            .bind(sanction.id.0)
            .bind(sanction.user.0)
            .bind(scope_id(sanction.chat))
            .bind(sanction_kind(sanction.kind))
            .bind(end_ms(sanction))
            .bind(Json(sanction.clone()));
            if query.execute(&mut *connection).await?.rows_affected() == 0 {
                return Ok(false);
            }
            change_standing(connection, sanction).await.map(|()| true)
        }
        Change::Lifted(sanction) => {
            let query = sqlx::query(
                "UPDATE sanctions SET is_lifted = TRUE, body = $2 WHERE sanction_id = $1 AND NOT is_lifted",
            )
            .bind(sanction.id.0)
            .bind(Json(sanction.clone()));
            if query.execute(&mut *connection).await?.rows_affected() == 0 {
                return Ok(false);
            }
            change_standing(connection, sanction).await.map(|()| true)
        }
        Change::Appealed(appeal) => {
            let query = sqlx::query(
                "INSERT INTO appeals (appeal_id, sanction_id, user_id, state, body) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (sanction_id) DO NOTHING",
            )
            .bind(appeal.id.0)
            .bind(appeal.sanction.0)
            .bind(appeal.user.0)
            .bind(appeal_state(appeal.state))
            .bind(Json(appeal.clone()));
            query.execute(connection).await.map(|done| done.rows_affected() == 1)
        }
        Change::AppealDecided(appeal) => {
            let query = sqlx::query(
                "UPDATE appeals SET state = $2, body = $3 WHERE appeal_id = $1 AND state = 'open'",
            )
            .bind(appeal.id.0)
            .bind(appeal_state(appeal.state))
            .bind(Json(appeal.clone()));
            query.execute(connection).await.map(|done| done.rows_affected() == 1)
        }
        Change::Deleted(deletion) => {
            let query =
                sqlx::query("INSERT INTO deletions (chat_id, seq) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(deletion.chat.0)
                    .bind(deletion.seq);
            query.execute(connection).await.map(|_| true)
        }
        Change::Noted(audit) => note(connection, audit).await.map(|()| true),
    }
}

async fn replace_set(
    connection: &mut PgConnection,
    set: &RuleSet,
    before: RuleSetState,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "UPDATE rule_sets SET state = $2, retired_from_ms = $3, body = $4 WHERE rule_set_id = $1 AND state = $5",
    )
    .bind(set.id.0)
    .bind(rule_set_state(set.state))
    .bind(set.retired_from_ms)
    .bind(Json(set.clone()))
    .bind(rule_set_state(before))
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Writes a report. Returns whether there is none of the same message by the same user, or open one of the same sender and chat by the same rules.
async fn insert_report(connection: &mut PgConnection, report: &Report) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "INSERT INTO reports (report_id, chat_id, seq, by_id, state, created_at_ms, body, sender_id, rules)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(report.id.0)
    .bind(report.chat.0)
    .bind(report.seq)
    .bind(report.by.map(|user| user.0))
    .bind(report_state(report.state))
    .bind(report.created_at_ms)
    .bind(Json(report.clone()))
    .bind(report.sender.0)
    .bind(report.comment.clone().filter(|_| report.by.is_none()))
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Notes that what holds for the user of a sanction has changed.
async fn change_standing(connection: &mut PgConnection, sanction: &Sanction) -> Result<(), sqlx::Error> {
    if sanction.kind == SanctionKind::Warning {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO standings (user_id, chat_id, version) VALUES ($1, $2, 1)
         ON CONFLICT (user_id, chat_id) DO UPDATE SET version = standings.version + 1",
    )
    .bind(sanction.user.0)
    .bind(scope_id(sanction.chat))
    .execute(connection)
    .await
    .map(drop)
}

async fn note(connection: &mut PgConnection, audit: &Audit) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO audit (at_ms, by_id, action, subject, user_id) VALUES ($1, $2, $3, $4, $5)")
        .bind(audit.at_ms)
        .bind(audit.by.map(|user| user.0))
        .bind(audit.action)
        .bind(audit.subject.clone())
        .bind(audit.user.map(|user| user.0))
        .execute(connection)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use kit::testing::migration_files;

    use super::*;

    #[test]
    fn every_migration_is_declared() {
        let declared: Vec<_> = SCHEMA.migrations.iter().map(|(name, _)| *name).collect();
        assert_eq!(migration_files(env!("CARGO_MANIFEST_DIR")), declared);
    }
}
