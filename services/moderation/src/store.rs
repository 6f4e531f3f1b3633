//! Where rule sets, verdicts, reports, sanctions and appeals are kept, and what is to be carried out of them.

mod memory;
mod postgres;

use std::collections::HashMap;

use contracts::{
    AppealId, ChatId, ReportId, RuleSetId, SanctionId, UserId,
    api::{
        Appeal, AppealState, AuditEntry, Decision, Figures, Report, ReportState, RuleSet, RuleSetState,
        Sanction, SanctionKind, ShadowRun,
    },
};
use kit::deletions;
use tonic::async_trait;

pub use self::{
    memory::MemoryStore,
    postgres::{PostgresStore, SCHEMA},
};
use crate::domain::{Change, Deletion, Question, Scores, Standing, Verdict, Window};

/// A store of moderation. Its suite (`tests/it/store.rs`) runs on every implementation.
#[async_trait]
pub trait ModerationStore: Send + Sync + 'static {
    /// Returns how far partitions of the log are judged; `None` for the beginning.
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError>;

    /// Returns what is remembered of these senders; those of whom nothing is are left out.
    async fn windows(
        &self,
        senders: &[(ChatId, UserId)],
    ) -> Result<HashMap<(ChatId, UserId), Window>, StoreError>;

    /// Writes what was judged, with all that follows from it and the position behind it: all of it or nothing. What is there of a verdict
    /// already stays as it is, and nothing follows from it again.
    async fn record(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes changes in their order: all of them, or none when one is refused.
    async fn act(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Returns a rule set.
    async fn rule_set(&self, id: RuleSetId) -> Result<Option<RuleSet>, StoreError>;

    /// Returns the rule sets in any of these states, the oldest first.
    async fn rule_sets(&self, states: &[RuleSetState]) -> Result<Vec<RuleSet>, StoreError>;

    /// Returns the rule sets that may be in force for what was sent at a time or later, in milliseconds since the epoch: all that are
    /// enforced, and those that were retired after it. The oldest come first.
    async fn rule_sets_from(&self, sent_at_ms: i64) -> Result<Vec<RuleSet>, StoreError>;

    /// Returns what a rule set did.
    async fn figures(&self, id: RuleSetId) -> Result<Figures, StoreError>;

    /// Returns the last shadow run of a rule set.
    async fn shadow_run(&self, id: RuleSetId) -> Result<Option<ShadowRun>, StoreError>;

    /// Puts a shadow run in the place of the one before it.
    async fn put_shadow_run(&self, run: &ShadowRun) -> Result<(), StoreError>;

    /// Returns a report.
    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError>;

    /// Returns the report of a user about a message.
    async fn report_of(&self, by: UserId, chat: ChatId, seq: i64) -> Result<Option<Report>, StoreError>;

    /// Returns reports in a state, or in any, with their places: the oldest first, behind a place.
    async fn reports(
        &self,
        state: Option<ReportState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Report)>, StoreError>;

    /// Returns a sanction.
    async fn sanction(&self, id: SanctionId) -> Result<Option<Sanction>, StoreError>;

    /// Returns sanctions of a user, or of all, with their places: the newest first, before a place.
    async fn sanctions(
        &self,
        user: Option<UserId>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Sanction)>, StoreError>;

    /// Returns an appeal.
    async fn appeal(&self, id: AppealId) -> Result<Option<Appeal>, StoreError>;

    /// Returns the appeals of a user, the newest first.
    async fn appeals_of(&self, user: UserId, limit: usize) -> Result<Vec<Appeal>, StoreError>;

    /// Returns appeals in a state, or in any, with their places: the oldest first, behind a place.
    async fn appeals(
        &self,
        state: Option<AppealState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Appeal)>, StoreError>;

    /// Returns what was done, as a filter wants it, the newest first, before a place.
    async fn audit(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError>;

    /// Returns how much there is at a time, in milliseconds since the epoch.
    async fn counts(&self, now_ms: i64) -> Result<Counts, StoreError>;

    /// Claims posts that wait for the classifier and that no process has at a time, in milliseconds since the epoch, those first that wait for the longest
    /// time.
    async fn claim_questions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Question>, StoreError>;

    /// Keeps what the classifier answered, without the post, with the verdicts and all that follows from them: all of it or nothing. Returns whether it is
    /// the first answer; otherwise it does nothing.
    async fn answer(
        &self,
        question: &Question,
        scores: &Scores,
        verdicts: &[Verdict],
    ) -> Result<bool, StoreError>;

    /// Gives up posts that wait since before a time. Returns how many. They are not asked about again.
    async fn give_up_questions(&self, before_ms: i64) -> Result<u64, StoreError>;

    /// Claims messages that are to be deleted and that no process has at a time, in milliseconds since the epoch.
    async fn claim_deletions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError>;

    /// Notes that the log has the entry of a deletion.
    async fn finish_deletion(&self, deletion: Deletion) -> Result<(), StoreError>;

    /// Claims standings that changed, or whose bans have ended, likewise: those that were never tried come first, and then those whose claims ended
    /// long ago. A claim is known by its end, and another process may have the standing after it.
    async fn claim_standings(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError>;

    /// Notes that the account of a standing is about to be closed, as the one who claimed it: whatever becomes of the call, the account is opened when
    /// the ban is over. Returns whether the claim is held; without it, nothing may be closed.
    async fn note_closing(&self, standing: &Standing) -> Result<bool, StoreError>;

    /// Notes that the other services know a standing, as the one who claimed it. When the claim has ended meanwhile, another process may have
    /// carried out a newer one before this one: the standing is to be carried out again. Returns whether the claim was held.
    async fn finish_standing(&self, standing: &Standing) -> Result<bool, StoreError>;

    /// Gives up a standing of which it is not known what the other services did with it. It is claimed again when the claim has ended; when it
    /// has, likewise once more, also when the standing was forgotten meanwhile.
    async fn leave_standing(&self, standing: &Standing) -> Result<(), StoreError>;

    /// Forgets what was judged or answered before a time, and windows that were written before another. Returns how much it was.
    async fn forget(&self, verdicts_ms: i64, windows_ms: i64) -> Result<u64, StoreError>;

    /// Forgets standings that the other services know, that change no more by themselves, and whose accounts moderators have not closed. Returns how
    /// many there were.
    async fn forget_standings(&self) -> Result<u64, StoreError>;

    /// Forgets what shadow runs that began before a time show of messages.
    async fn forget_samples(&self, before_ms: i64) -> Result<(), StoreError>;

    /// Forgets what is remembered of a user whose account is deleted at a time, in milliseconds since the epoch: what was sent lately, what shadow runs
    /// show of it, and what is to be carried out. What was decided and reported stays; mutes and bans that are in force are lifted, as they hold for nobody.
    async fn erase(&self, user: UserId, now_ms: i64) -> Result<(), StoreError>;

    /// Returns the place up to which deletions of accounts are carried out.
    fn deletions_position(&self) -> deletions::Position;
}

/// Returns what is said of a sanction that is lifted because its user's account is deleted.
fn lifted_with_account(now_ms: i64) -> Decision {
    Decision { by: None, at_ms: now_ms, note: "the account is deleted".to_owned() }
}

/// What narrows the audit log. What is absent does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who did it.
    pub by: Option<UserId>,
    /// Whom it concerns.
    pub user: Option<UserId>,
    pub action: Option<String>,
    /// Done at this time or later, in milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// Done before this time, likewise.
    pub to_ms: Option<i64>,
}

/// How much there is of what moderators have to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub open_reports: i64,
    pub open_appeals: i64,
    /// Users who are muted everywhere; likewise the next.
    pub muted_users: i64,
    pub banned_users: i64,
    pub enforced_rule_sets: i64,
    /// Posts with a verdict that is kept.
    pub caught: i64,
}

/// What one step over the log has judged.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub partition: i32,
    /// The first offset that is not judged.
    pub next_offset: i64,
    pub windows: HashMap<(ChatId, UserId), Window>,
    pub verdicts: Vec<Verdict>,
    /// What the classifier is to be asked. One that was read before is not asked again.
    pub questions: Vec<Question>,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
}

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the rule set is not a draft any more: create another one with the same rules")]
    NotADraft,
    #[error("another rule set was enforced in this moment: try again")]
    OthersEnforced,
    #[error("the rule set is not enforced")]
    NotEnforced,
    #[error("the rule set is enforced, or was until lately: retire it first, and remove it a day later")]
    InForce,
    #[error("another moderator has decided already")]
    Decided,
    /// By another request with the same idempotency-key, or of the same user about the same message.
    #[error("it was created already")]
    Known,
    #[error("the sanction is lifted already")]
    Lifted,
    #[error("you have appealed against this sanction already")]
    Appealed,
}

impl Change {
    /// Returns why the change is not made when things are not as it needs them.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::RuleSetsCounted { .. } => Refusal::OthersEnforced,
            Self::RuleSetEnforced(_) => Refusal::NotADraft,
            Self::RuleSetRetired(_) => Refusal::NotEnforced,
            Self::RuleSetRemoved { .. } => Refusal::InForce,
            Self::Lifted(_) => Refusal::Lifted,
            Self::Appealed(_) => Refusal::Appealed,
            Self::RuleSetCreated(_) | Self::Reported(_) | Self::Sanctioned(_) => Refusal::Known,
            Self::ReportDecided(_) | Self::AppealDecided(_) | Self::Deleted(_) | Self::Noted(_) => {
                Refusal::Decided
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("failed to write what was judged of partition {partition}")]
    Record { partition: i32, source: sqlx::Error },
    #[error("failed to write what was decided")]
    Write(#[source] sqlx::Error),
    #[error("failed to note what is carried out")]
    Work(#[source] sqlx::Error),
    #[error("failed to read what was decided")]
    Read(#[source] sqlx::Error),
}

pub(crate) const fn rule_set_state(state: RuleSetState) -> &'static str {
    match state {
        RuleSetState::Draft => "draft",
        RuleSetState::Enforced => "enforced",
        RuleSetState::Retired => "retired",
    }
}

pub(crate) const fn report_state(state: ReportState) -> &'static str {
    match state {
        ReportState::Open => "open",
        ReportState::Upheld => "upheld",
        ReportState::Dismissed => "dismissed",
    }
}

pub(crate) const fn appeal_state(state: AppealState) -> &'static str {
    match state {
        AppealState::Open => "open",
        AppealState::Accepted => "accepted",
        AppealState::Refused => "refused",
    }
}

pub(crate) const fn sanction_kind(kind: SanctionKind) -> &'static str {
    match kind {
        SanctionKind::Warning => "warning",
        SanctionKind::Mute => "mute",
        SanctionKind::Ban => "ban",
    }
}

/// Reads what [`sanction_kind`] writes.
pub(crate) fn parse_sanction_kind(text: &str) -> Option<SanctionKind> {
    let kinds = [SanctionKind::Warning, SanctionKind::Mute, SanctionKind::Ban];
    kinds.into_iter().find(|kind| sanction_kind(*kind) == text)
}
