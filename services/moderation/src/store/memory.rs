//! The store of `posthouse dev`, and of the tests of the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{
    AppealId, ChatId, ReportId, RuleSetId, SanctionId, UserId,
    api::{
        Appeal, AppealState, AuditEntry, Figures, Report, ReportState, RuleAction, RuleSet, RuleSetState,
        Sanction, SanctionKind, ShadowRun,
    },
};
use kit::deletions;
use tonic::async_trait;

use super::{AuditFilter, Batch, Counts, ModerationStore, StoreError, lifted_with_account};
use crate::domain::{
    Audit, Change, Deletion, Place, Question, Scores, Standing, Tally, Verdict, Window, changes_of, end_ms,
    next_change_ms, standing,
};

/// Keeps all of it for as long as the process lives.
#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Clone, Default)]
struct Tables {
    rule_sets: Vec<RuleSet>,
    shadow_runs: HashMap<RuleSetId, ShadowRun>,
    positions: HashMap<i32, Option<i64>>,
    /// With when they were written.
    windows: HashMap<(ChatId, UserId), (Window, i64)>,
    verdicts: Vec<Verdict>,
    questions: BTreeMap<(ChatId, i64), Waiting>,
    reports: Vec<Report>,
    sanctions: Vec<Sanction>,
    appeals: Vec<Appeal>,
    audit: Vec<AuditEntry>,
    /// Until when a process has them.
    deletions: BTreeMap<Deletion, i64>,
    standings: BTreeMap<Place, Row>,
    deletions_position: deletions::Position,
}

#[derive(Clone)]
struct Waiting {
    /// Absent once it is answered or given up.
    question: Option<Question>,
    written_at_ms: i64,
    claimed_until_ms: i64,
}

#[derive(Clone, Copy, Default)]
struct Row {
    version: i64,
    done_version: i64,
    has_closed: bool,
    due_at_ms: Option<i64>,
    claimed_until_ms: i64,
}

impl MemoryStore {
    /// Returns how many standings are to be carried out, by whichever process has them.
    pub fn unfinished_standings(&self) -> usize {
        self.tables().standings.values().filter(|row| row.done_version < row.version).count()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns items with their places, which are from 1 on.
fn placed<T>(items: &[T]) -> impl DoubleEndedIterator<Item = (i64, &T)> {
    items.iter().enumerate().map(|(at, item)| (i64::try_from(at + 1).unwrap_or(i64::MAX), item))
}

impl Tables {
    /// Makes a change. Returns whether things were as it needs them.
    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::RuleSetCreated(set) => {
                if self.rule_sets.iter().any(|other| other.id == set.id) {
                    return false;
                }
                self.rule_sets.push(set.clone());
            }
            Change::RuleSetsCounted { among, retired_after_ms } => {
                return self.sets_from(*retired_after_ms).all(|set| among.contains(&set.id));
            }
            Change::RuleSetEnforced(set) => return self.replace_set(set, RuleSetState::Draft),
            Change::RuleSetRetired(set) => return self.replace_set(set, RuleSetState::Enforced),
            Change::RuleSetRemoved { id, retired_before_ms } => {
                let may_go = |set: &RuleSet| match set.state {
                    RuleSetState::Draft => true,
                    RuleSetState::Enforced => false,
                    RuleSetState::Retired => {
                        set.retired_from_ms.is_some_and(|from_ms| from_ms < *retired_before_ms)
                    }
                };
                let before = self.rule_sets.len();
                self.rule_sets.retain(|set| set.id != *id || !may_go(set));
                if self.rule_sets.len() == before {
                    return false;
                }
                self.shadow_runs.remove(id);
            }
            Change::Reported(report) => {
                let is_it = |other: &Report| {
                    let place = |of: &Report| (of.by, of.chat, of.seq);
                    let caught = |of: &Report| (of.by, of.chat, of.sender, of.comment.clone());
                    let is_caught_again = other.state == ReportState::Open && caught(other) == caught(report);
                    let is_by_user = report.by.is_some();
                    let is_same = if is_by_user { place(other) == place(report) } else { is_caught_again };
                    other.id == report.id || is_same
                };
                if self.reports.iter().any(is_it) {
                    return false;
                }
                self.reports.push(report.clone());
            }
            Change::ReportDecided(report) => {
                let open = |other: &&mut Report| other.id == report.id && other.state == ReportState::Open;
                let Some(other) = self.reports.iter_mut().find(open) else { return false };
                other.clone_from(report);
            }
            Change::Sanctioned(sanction) => {
                if self.sanctions.iter().any(|other| other.id == sanction.id) {
                    return false;
                }
                self.sanctions.push(sanction.clone());
                self.change_standing(sanction);
            }
            Change::Lifted(sanction) => {
                let whole = |other: &&mut Sanction| other.id == sanction.id && other.lifted.is_none();
                let Some(other) = self.sanctions.iter_mut().find(whole) else { return false };
                other.clone_from(sanction);
                self.change_standing(sanction);
            }
            Change::Appealed(appeal) => {
                if self.appeals.iter().any(|other| other.sanction == appeal.sanction) {
                    return false;
                }
                self.appeals.push(appeal.clone());
            }
            Change::AppealDecided(appeal) => {
                let open = |other: &&mut Appeal| other.id == appeal.id && other.state == AppealState::Open;
                let Some(other) = self.appeals.iter_mut().find(open) else { return false };
                other.clone_from(appeal);
            }
            Change::Deleted(deletion) => {
                self.deletions.entry(*deletion).or_insert(0);
            }
            Change::Noted(audit) => self.note(audit),
        }
        true
    }

    /// Returns the rule sets that are enforced, and those that were retired after a time.
    fn sets_from(&self, sent_at_ms: i64) -> impl Iterator<Item = &RuleSet> {
        self.rule_sets.iter().filter(move |set| {
            let is_retired_later = set.retired_from_ms.is_some_and(|from_ms| from_ms > sent_at_ms);
            set.state == RuleSetState::Enforced || is_retired_later
        })
    }

    fn replace_set(&mut self, set: &RuleSet, before: RuleSetState) -> bool {
        let is_it = |other: &&mut RuleSet| other.id == set.id && other.state == before;
        let Some(other) = self.rule_sets.iter_mut().find(is_it) else { return false };
        other.clone_from(set);
        true
    }

    fn change_standing(&mut self, sanction: &Sanction) {
        if sanction.kind != SanctionKind::Warning {
            let place = Place { user: sanction.user, scope: sanction.chat };
            self.standings.entry(place).or_default().version += 1;
        }
    }

    /// Writes a verdict with what follows from it, unless it is there.
    fn judge(&mut self, verdict: &Verdict) {
        let place = |of: &Verdict| (of.rule_set, of.chat, of.entry_seq, of.by_classifier);
        if self.verdicts.iter().any(|other| place(other) == place(verdict)) {
            return;
        }
        self.verdicts.push(verdict.clone());
        let mut is_made = true;
        for change in changes_of(verdict) {
            // What is not made is not noted.
            if is_made || !matches!(change, Change::Noted(_)) {
                is_made = self.apply(&change);
            }
        }
    }

    fn note(&mut self, audit: &Audit) {
        let Audit { at_ms, by, action, subject, user } = audit.clone();
        let id = i64::try_from(self.audit.len() + 1).unwrap_or(i64::MAX);
        let action = action.to_owned();
        self.audit.push(AuditEntry { id, at_ms, by, action, subject, user });
    }
}

#[async_trait]
impl ModerationStore for MemoryStore {
    async fn positions(&self, partitions: &[i32]) -> Result<HashMap<i32, Option<i64>>, StoreError> {
        let tables = self.tables();
        let position = |partition: &i32| (*partition, tables.positions.get(partition).copied().flatten());
        Ok(partitions.iter().map(position).collect())
    }

    async fn windows(
        &self,
        senders: &[(ChatId, UserId)],
    ) -> Result<HashMap<(ChatId, UserId), Window>, StoreError> {
        let tables = self.tables();
        let window = |sender: &(ChatId, UserId)| Some((*sender, tables.windows.get(sender)?.0.clone()));
        Ok(senders.iter().filter_map(window).collect())
    }

    async fn record(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for verdict in &batch.verdicts {
            tables.judge(verdict);
        }
        for question in &batch.questions {
            let place = (question.chat, question.entry_seq);
            let question = Some(question.clone());
            let waiting = Waiting { question, written_at_ms: batch.now_ms, claimed_until_ms: 0 };
            tables.questions.entry(place).or_insert(waiting);
        }
        for (sender, window) in &batch.windows {
            let (kept, written_at_ms) = tables.windows.entry(*sender).or_default();
            if kept.last_seq < window.last_seq {
                kept.clone_from(window);
                *written_at_ms = batch.now_ms;
            }
        }
        tables.positions.insert(batch.partition, Some(batch.next_offset));
        Ok(())
    }

    async fn act(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut changed = tables.clone();
        for change in changes {
            if !changed.apply(change) {
                return Err(change.refusal().into());
            }
        }
        *tables = changed;
        Ok(())
    }

    async fn rule_set(&self, id: RuleSetId) -> Result<Option<RuleSet>, StoreError> {
        Ok(self.tables().rule_sets.iter().find(|set| set.id == id).cloned())
    }

    async fn rule_sets(&self, states: &[RuleSetState]) -> Result<Vec<RuleSet>, StoreError> {
        let tables = self.tables();
        Ok(tables.rule_sets.iter().filter(|set| states.contains(&set.state)).cloned().collect())
    }

    async fn rule_sets_from(&self, sent_at_ms: i64) -> Result<Vec<RuleSet>, StoreError> {
        Ok(self.tables().sets_from(sent_at_ms).cloned().collect())
    }

    async fn figures(&self, id: RuleSetId) -> Result<Figures, StoreError> {
        let tables = self.tables();
        // What the classifier said of a post, and the other rules, is one.
        let mut caught = BTreeMap::<(ChatId, i64), (Vec<String>, RuleAction)>::new();
        for verdict in tables.verdicts.iter().filter(|verdict| verdict.rule_set == id) {
            let (rules, action) = caught.entry((verdict.chat, verdict.entry_seq)).or_default();
            rules.extend_from_slice(&verdict.rules);
            action.delete |= verdict.action.delete;
            action.report |= verdict.action.report;
            action.sanction = action.sanction.take().or_else(|| verdict.action.sanction.clone());
        }
        let mut tally = Tally::default();
        for (rules, action) in caught.values() {
            tally.add(rules, action);
        }
        Ok(tally.into())
    }

    async fn shadow_run(&self, id: RuleSetId) -> Result<Option<ShadowRun>, StoreError> {
        Ok(self.tables().shadow_runs.get(&id).cloned())
    }

    async fn put_shadow_run(&self, run: &ShadowRun) -> Result<(), StoreError> {
        self.tables().shadow_runs.insert(run.rule_set, run.clone());
        Ok(())
    }

    async fn report(&self, id: ReportId) -> Result<Option<Report>, StoreError> {
        Ok(self.tables().reports.iter().find(|report| report.id == id).cloned())
    }

    async fn report_of(&self, by: UserId, chat: ChatId, seq: i64) -> Result<Option<Report>, StoreError> {
        let is_it = |report: &&Report| (report.by, report.chat, report.seq) == (Some(by), chat, seq);
        Ok(self.tables().reports.iter().find(is_it).cloned())
    }

    async fn reports(
        &self,
        state: Option<ReportState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Report)>, StoreError> {
        let tables = self.tables();
        let found = placed(&tables.reports)
            .filter(|(place, report)| *place > after && state.is_none_or(|state| report.state == state));
        Ok(found.take(limit).map(|(place, report)| (place, report.clone())).collect())
    }

    async fn sanction(&self, id: SanctionId) -> Result<Option<Sanction>, StoreError> {
        Ok(self.tables().sanctions.iter().find(|sanction| sanction.id == id).cloned())
    }

    async fn sanctions(
        &self,
        user: Option<UserId>,
        before: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Sanction)>, StoreError> {
        let tables = self.tables();
        let found = placed(&tables.sanctions)
            .rev()
            .filter(|(place, sanction)| *place < before && user.is_none_or(|user| sanction.user == user));
        Ok(found.take(limit).map(|(place, sanction)| (place, sanction.clone())).collect())
    }

    async fn appeal(&self, id: AppealId) -> Result<Option<Appeal>, StoreError> {
        Ok(self.tables().appeals.iter().find(|appeal| appeal.id == id).cloned())
    }

    async fn appeals_of(&self, user: UserId, limit: usize) -> Result<Vec<Appeal>, StoreError> {
        let tables = self.tables();
        Ok(tables.appeals.iter().rev().filter(|appeal| appeal.user == user).take(limit).cloned().collect())
    }

    async fn appeals(
        &self,
        state: Option<AppealState>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Appeal)>, StoreError> {
        let tables = self.tables();
        let found = placed(&tables.appeals)
            .filter(|(place, appeal)| *place > after && state.is_none_or(|state| appeal.state == state));
        Ok(found.take(limit).map(|(place, appeal)| (place, appeal.clone())).collect())
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let AuditFilter { by, user, action, from_ms, to_ms } = filter;
        let is_wanted = |entry: &&AuditEntry| {
            entry.id < before
                && by.is_none_or(|by| entry.by == Some(by))
                && user.is_none_or(|user| entry.user == Some(user))
                && action.as_ref().is_none_or(|action| entry.action == *action)
                && from_ms.is_none_or(|from_ms| entry.at_ms >= from_ms)
                && to_ms.is_none_or(|to_ms| entry.at_ms < to_ms)
        };
        let tables = self.tables();
        Ok(tables.audit.iter().rev().filter(is_wanted).take(limit).cloned().collect())
    }

    async fn counts(&self, now_ms: i64) -> Result<Counts, StoreError> {
        let tables = self.tables();
        let count = |items: usize| i64::try_from(items).unwrap_or(i64::MAX);
        let users = |kind: SanctionKind| {
            let is_in_force = |sanction: &&Sanction| {
                sanction.kind == kind
                    && sanction.chat.is_none()
                    && sanction.lifted.is_none()
                    && end_ms(sanction) > now_ms
            };
            let users = tables.sanctions.iter().filter(is_in_force).map(|sanction| sanction.user);
            count(users.collect::<BTreeSet<_>>().len())
        };
        let posts = tables.verdicts.iter().map(|verdict| (verdict.chat, verdict.entry_seq));
        Ok(Counts {
            open_reports: count(
                tables.reports.iter().filter(|report| report.state == ReportState::Open).count(),
            ),
            open_appeals: count(
                tables.appeals.iter().filter(|appeal| appeal.state == AppealState::Open).count(),
            ),
            muted_users: users(SanctionKind::Mute),
            banned_users: users(SanctionKind::Ban),
            enforced_rule_sets: count(
                tables.rule_sets.iter().filter(|set| set.state == RuleSetState::Enforced).count(),
            ),
            caught: count(posts.collect::<BTreeSet<_>>().len()),
        })
    }

    async fn claim_questions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Question>, StoreError> {
        let mut tables = self.tables();
        let is_free = |row: &&mut Waiting| row.question.is_some() && row.claimed_until_ms <= now_ms;
        let mut free: Vec<_> = tables.questions.values_mut().filter(is_free).collect();
        free.sort_by_key(|row| row.written_at_ms);
        let claim = |row: &mut Waiting| {
            row.claimed_until_ms = until_ms;
            row.question.clone()
        };
        Ok(free.into_iter().take(limit).filter_map(claim).collect())
    }

    async fn answer(
        &self,
        question: &Question,
        _scores: &Scores,
        verdicts: &[Verdict],
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let waiting = tables.questions.get_mut(&(question.chat, question.entry_seq));
        if waiting.and_then(|row| row.question.take()).is_none() {
            return Ok(false);
        }
        for verdict in verdicts {
            tables.judge(verdict);
        }
        Ok(true)
    }

    async fn give_up_questions(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let late = tables.questions.values_mut().filter(|row| row.written_at_ms < before_ms);
        Ok(late.filter_map(|row| row.question.take()).count() as u64)
    }

    async fn claim_deletions(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Deletion>, StoreError> {
        let mut tables = self.tables();
        let free = tables.deletions.iter_mut().filter(|(_, claimed_until_ms)| **claimed_until_ms <= now_ms);
        let claim = |(deletion, claimed_until_ms): (&Deletion, &mut i64)| {
            *claimed_until_ms = until_ms;
            *deletion
        };
        Ok(free.take(limit).map(claim).collect())
    }

    async fn finish_deletion(&self, deletion: Deletion) -> Result<(), StoreError> {
        self.tables().deletions.remove(&deletion);
        Ok(())
    }

    async fn claim_standings(
        &self,
        now_ms: i64,
        until_ms: i64,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        let mut tables = self.tables();
        let Tables { standings, sanctions, .. } = &mut *tables;
        let is_due = |row: &Row| {
            let is_to_do =
                row.done_version < row.version || row.due_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
            row.claimed_until_ms <= now_ms && is_to_do
        };
        let mut due: Vec<_> = standings.iter_mut().filter(|(_, row)| is_due(row)).collect();
        due.sort_by_key(|(_, row)| row.claimed_until_ms);
        let claim = |(place, row): (&Place, &mut Row)| {
            row.claimed_until_ms = until_ms;
            let of_place = sanctions
                .iter()
                .filter(|sanction| Place { user: sanction.user, scope: sanction.chat } == *place)
                .filter(|sanction| sanction.lifted.is_none())
                .map(|sanction| (sanction.kind, end_ms(sanction)));
            let (silent_until_ms, banned_until_ms) = standing(of_place, now_ms);
            Standing {
                place: *place,
                version: row.version,
                claimed_until_ms: until_ms,
                silent_until_ms,
                banned_until_ms,
                has_closed: row.has_closed,
            }
        };
        Ok(due.into_iter().take(limit).map(claim).collect())
    }

    async fn note_closing(&self, standing: &Standing) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let row = tables.standings.get_mut(&standing.place);
        let row = row.filter(|row| row.claimed_until_ms == standing.claimed_until_ms);
        Ok(row.is_some_and(|row| {
            row.has_closed = true;
            true
        }))
    }

    async fn finish_standing(&self, standing: &Standing) -> Result<bool, StoreError> {
        let is_held = match self.tables().standings.get_mut(&standing.place) {
            Some(row) if row.claimed_until_ms == standing.claimed_until_ms => {
                row.done_version = row.done_version.max(standing.version);
                row.has_closed = standing.has_closed;
                row.due_at_ms = next_change_ms(standing);
                row.claimed_until_ms = 0;
                true
            }
            _ => false,
        };
        if !is_held {
            self.leave_standing(standing).await?;
        }
        Ok(is_held)
    }

    async fn leave_standing(&self, standing: &Standing) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let row = tables.standings.entry(standing.place).or_default();
        if row.claimed_until_ms != standing.claimed_until_ms {
            row.version += 1;
            row.has_closed |= standing.has_closed;
        }
        Ok(())
    }

    async fn forget(&self, verdicts_ms: i64, windows_ms: i64) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let before = tables.verdicts.len() + tables.windows.len() + tables.questions.len();
        tables.questions.retain(|_, row| row.question.is_some() || row.written_at_ms >= verdicts_ms);
        tables.verdicts.retain(|verdict| verdict.evidence.sent_at_ms >= verdicts_ms);
        tables.windows.retain(|_, (_, written_at_ms)| *written_at_ms >= windows_ms);
        let after = tables.verdicts.len() + tables.windows.len() + tables.questions.len();
        Ok((before - after) as u64)
    }

    async fn forget_standings(&self) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let before = tables.standings.len();
        tables.standings.retain(|_, row| {
            let is_done = row.done_version >= row.version && row.claimed_until_ms == 0;
            !is_done || row.due_at_ms.is_some() || row.has_closed
        });
        Ok((before - tables.standings.len()) as u64)
    }

    async fn forget_samples(&self, before_ms: i64) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for run in tables.shadow_runs.values_mut().filter(|run| run.started_at_ms < before_ms) {
            run.samples.clear();
        }
        Ok(())
    }

    async fn erase(&self, user: UserId, now_ms: i64) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let holds = |of: &&mut Sanction| {
            let is_in_force = of.lifted.is_none() && end_ms(of) > now_ms;
            of.user == user && of.kind != SanctionKind::Warning && is_in_force
        };
        let mut lifted = Vec::new();
        for sanction in tables.sanctions.iter_mut().filter(holds) {
            sanction.lifted = Some(lifted_with_account(now_ms));
            lifted.push(sanction.id.to_string());
        }
        for subject in lifted {
            let (action, user) = ("sanction_lifted", Some(user));
            tables.note(&Audit { at_ms: now_ms, by: None, action, subject, user });
        }
        tables.windows.retain(|(_, sender), _| *sender != user);
        tables
            .questions
            .retain(|_, row| row.question.as_ref().is_none_or(|question| question.sender != user));
        tables.standings.retain(|place, _| place.user != user);
        for run in tables.shadow_runs.values_mut() {
            run.samples.retain(|sample| sample.sender != user);
        }
        Ok(())
    }

    fn deletions_position(&self) -> deletions::Position {
        self.tables().deletions_position.clone()
    }
}
