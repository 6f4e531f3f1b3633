//! What is written together: verdicts with what follows from them, and what moderators decide.

use contracts::{
    ChatId, MessageKey, ReportId, RuleSetId, SanctionId, UserId,
    api::{Appeal, Evidence, Report, ReportState, RuleAction, RuleSet, Sanction, SanctionTerms},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Judgement, Post, Question};

/// What a rule set in force says of a post. There is one for each post and set, whatever is read again, and one more for what its classifier says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rule_set: RuleSetId,
    pub chat: ChatId,
    pub entry_seq: i64,
    pub seq: i64,
    pub sender: UserId,
    pub rules: Vec<String>,
    pub action: RuleAction,
    pub evidence: Evidence,
    /// It is by the rules with a classifier alone.
    pub by_classifier: bool,
}

impl Verdict {
    pub fn new(rule_set: RuleSetId, post: &Post, judgement: Judgement) -> Self {
        let Judgement { rules, action } = judgement;
        Self {
            rule_set,
            chat: post.chat,
            entry_seq: post.entry_seq,
            seq: post.seq,
            sender: post.sender,
            rules,
            action,
            evidence: post.evidence(),
            by_classifier: false,
        }
    }

    /// Returns what rules with a classifier say.
    pub(super) fn classified(rule_set: RuleSetId, question: &Question, judgement: Judgement) -> Self {
        let Judgement { rules, action } = judgement;
        Self {
            rule_set,
            chat: question.chat,
            entry_seq: question.entry_seq,
            seq: question.seq,
            sender: question.sender,
            rules,
            action,
            evidence: question.evidence(),
            by_classifier: true,
        }
    }

    /// Returns a UUID that is the verdict's own for each purpose: what follows from it is the same however often it is made.
    fn id(&self, purpose: &str) -> Uuid {
        let Self { rule_set, chat, entry_seq, by_classifier, .. } = self;
        let part = if *by_classifier { "/classifier" } else { "" };
        derived_id(&format!("{purpose}/{rule_set}/{chat}/{entry_seq}{part}"))
    }
}

/// A message that is to lose its text and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deletion {
    pub chat: ChatId,
    pub seq: i64,
}

impl Deletion {
    /// Returns the key of its entry: the same each time, so that the log stores it once.
    pub fn key(&self) -> MessageKey {
        MessageKey(derived_id(&format!("deletion/{}/{}", self.chat, self.seq)))
    }
}

/// Returns a UUID that follows from a text, and from no other.
pub fn derived_id(text: &str) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    // Version 8: made by a rule of one's own.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// An entry of the audit log that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub at_ms: i64,
    /// Absent for a rule.
    pub by: Option<UserId>,
    pub action: &'static str,
    pub subject: String,
    pub user: Option<UserId>,
}

/// A step of what is written together: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is the first with its id; likewise a sanction.
    RuleSetCreated(RuleSet),
    /// Nothing is changed: no other rule sets than these are enforced, or were retired after a time, in milliseconds since the epoch. No set is enforced
    /// by others from here until all changes are made, as each of those begins so.
    RuleSetsCounted {
        among: Vec<RuleSetId>,
        retired_after_ms: i64,
    },
    /// It was a draft before.
    RuleSetEnforced(RuleSet),
    /// It was enforced before.
    RuleSetRetired(RuleSet),
    /// It was a draft before, or retired before a time, in milliseconds since the epoch.
    RuleSetRemoved {
        id: RuleSetId,
        retired_before_ms: i64,
    },
    /// It is the first of its user about the message; that of rules is the only open one about the sender in the chat by these rules.
    Reported(Report),
    /// It was open before.
    ReportDecided(Report),
    Sanctioned(Sanction),
    /// It was not lifted before.
    Lifted(Sanction),
    /// It is the first of its sanction.
    Appealed(Appeal),
    /// It was open before.
    AppealDecided(Appeal),
    Deleted(Deletion),
    Noted(Audit),
}

/// Returns what follows from a verdict. The times of sanctions are by the clock of the log, so that a replay has the same.
pub fn changes_of(verdict: &Verdict) -> Vec<Change> {
    let Verdict { chat, seq, sender, rules, action, evidence, .. } = verdict;
    let (at_ms, names) = (evidence.sent_at_ms, rules.join(", "));
    let mut changes = Vec::new();
    let note = |action, subject, user| Change::Noted(Audit { at_ms, by: None, action, subject, user });
    if action.delete {
        changes.push(Change::Deleted(Deletion { chat: *chat, seq: *seq }));
        changes.push(note("message_deleted", format!("{chat}/{seq}"), Some(*sender)));
    }
    if action.report {
        let id = ReportId(verdict.id("report"));
        changes.push(Change::Reported(Report {
            id,
            chat: *chat,
            seq: *seq,
            sender: *sender,
            by: None,
            reason: None,
            comment: Some(names.clone()),
            evidence: evidence.clone(),
            state: ReportState::Open,
            created_at_ms: at_ms,
            decision: None,
        }));
        changes.push(note("report_created", id.to_string(), Some(*sender)));
    }
    if let Some(terms) = &action.sanction {
        let id = SanctionId(verdict.id("sanction"));
        changes.push(Change::Sanctioned(sanction(id, *sender, *chat, terms, (None, &names), at_ms)));
        changes.push(note("sanction_created", id.to_string(), Some(*sender)));
    }
    changes
}

/// Returns a sanction with these terms for what a user wrote in a chat, by a moderator or a rule.
pub fn sanction(
    id: SanctionId,
    user: UserId,
    chat: ChatId,
    terms: &SanctionTerms,
    (by, note): (Option<UserId>, &str),
    at_ms: i64,
) -> Sanction {
    Sanction {
        id,
        user,
        chat: (!terms.everywhere).then_some(chat),
        kind: terms.kind,
        until_ms: terms.seconds.map(|seconds| at_ms + i64::from(seconds) * 1_000),
        note: note.to_owned(),
        by,
        created_at_ms: at_ms,
        lifted: None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::api::SanctionKind;

    use super::*;

    #[test]
    fn what_follows_from_a_verdict_is_the_same_each_time() {
        let terms = SanctionTerms { kind: SanctionKind::Mute, everywhere: true, seconds: Some(60) };
        let verdict = Verdict {
            rule_set: RuleSetId(Uuid::from_u128(1)),
            chat: ChatId(Uuid::from_u128(2)),
            entry_seq: 7,
            seq: 5,
            sender: UserId(Uuid::from_u128(3)),
            rules: vec!["scam".to_owned()],
            action: RuleAction { delete: true, report: true, sanction: Some(terms) },
            evidence: Evidence { text: "scam".to_owned(), files: Vec::new(), sent_at_ms: 1_000 },
            by_classifier: false,
        };
        let changes = changes_of(&verdict);
        assert_eq!(changes, changes_of(&verdict));
        let sanctions: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Sanctioned(sanction) => Some((sanction.chat, sanction.until_ms)),
                _ => None,
            })
            .collect();
        assert_eq!(sanctions, [(None, Some(61_000))]);
        assert_eq!(changes.len(), 6);
        assert_ne!(verdict.id("report"), Verdict { entry_seq: 8, ..verdict.clone() }.id("report"));
        let deletion = Deletion { chat: verdict.chat, seq: 5 };
        assert_eq!(deletion.key(), deletion.key());
    }
}
