//! What the entries of a batch change of messages that were before them.
//!
//! A message row carries the sum of these changes, so that a page of history needs nothing else. The sum is written whole
//! and names the last entry that it includes, so an entry that is applied again after a crash does not count twice.

use std::collections::{HashMap, HashSet};

use contracts::{ChatId, UserId, changes::Change, event::EntryKind, wire::Changes};
use serde::{Deserialize, Serialize};

use super::Entry;

/// Names a message that other entries speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    pub chat: ChatId,
    pub seq: i64,
}

/// Names a reaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReactionId {
    pub target: TargetId,
    pub user: UserId,
    pub emoji: String,
}

/// A row that other entries speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub sender: UserId,
    pub kind: EntryKind,
    /// What it replies to.
    pub target_seq: Option<i64>,
    pub patch: Patch,
    /// When its text disappears.
    pub expires_at_ms: Option<i64>,
    /// The timestamp to write the patch with, when it changed.
    stamp: Option<i64>,
}

/// The sum of the changes of a message, as its row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The seqs of the edits, whose texts go when the message is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<i64>,
    pub changes: Changes,
}

/// What is written over a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Its text, or that of an edit of it.
    Body {
        target: TargetId,
        stamp: i64,
        body: String,
        /// When the text disappears.
        expires_at_ms: Option<i64>,
    },
    Patch {
        target: TargetId,
        stamp: i64,
        patch: Patch,
    },
}

impl Target {
    /// Returns a row as the store has it.
    pub fn new(sender: UserId, kind: EntryKind, target_seq: Option<i64>, patch: Patch) -> Self {
        Self { sender, kind, target_seq, patch, expires_at_ms: None, stamp: None }
    }

    /// Returns the row with the time at which its text disappears.
    pub fn expiring(self, expires_at_ms: Option<i64>) -> Self {
        Self { expires_at_ms, ..self }
    }

    /// Returns whether an entry may speak of it that becomes `seq`.
    pub(super) fn takes(&self, entry: &Entry, seq: i64) -> bool {
        let is_deleted = self.patch.changes.deleted_seq.is_some_and(|deleted| deleted < seq);
        let is_own = self.sender == entry.sender;
        let may = match entry.kind {
            EntryKind::Edit => is_own,
            EntryKind::Delete => is_own || entry.moderates,
            EntryKind::Text
            | EntryKind::Reaction
            | EntryKind::ReactionRemoved
            | EntryKind::Pin
            | EntryKind::Unpin => true,
            EntryKind::MemberAdded
            | EntryKind::MemberRemoved
            | EntryKind::RoleChanged
            | EntryKind::TitleChanged
            | EntryKind::TopicChanged
            | EntryKind::AvatarChanged
            | EntryKind::SlowModeChanged
            | EntryKind::TtlChanged => false,
        };
        // By the log's clock, so that a replay decides the same.
        let is_expired = self.expires_at_ms.is_some_and(|at_ms| entry.sent_at_ms >= at_ms);
        self.kind == EntryKind::Text && !is_deleted && !is_expired && may
    }

    /// Adds what entry `seq` changes, unless that is included.
    fn add(&mut self, seq: i64, stamp: i64, change: Change<'_>) {
        if self.patch.changes.add(seq, change) {
            self.stamp = Some(stamp);
            if change == Change::Edited {
                self.patch.edits.push(seq);
            }
        }
    }
}

/// Carries out what the stored entry `seq` changes of other messages. Returns the texts that it writes over. `wanted` are the
/// messages that the batch speaks of.
pub(super) fn apply(
    targets: &mut HashMap<TargetId, Target>,
    wanted: &HashSet<TargetId>,
    entry: &Entry,
    (seq, stamp): (i64, i64),
    expires_at_ms: Option<i64>,
) -> Vec<Overwrite> {
    let chat = entry.chat;
    let own = TargetId { chat, seq };
    if entry.kind == EntryKind::Text && wanted.contains(&own) {
        // A later entry of the batch speaks of it. The store may have the row from before a crash.
        let target = Target::new(entry.sender, entry.kind, entry.target_seq, Patch::default());
        let target = || target.expiring(expires_at_ms);
        targets.entry(own).or_insert_with(target);
    }
    let Some((id, target)) = entry.target_id().and_then(|id| Some((id, targets.get_mut(&id)?))) else {
        return Vec::new();
    };
    if let Some(change) = Change::of(entry.kind, entry.sender, &entry.body) {
        target.add(seq, stamp, change);
    }
    match entry.kind {
        EntryKind::Edit => {
            vec![Overwrite::Body { target: id, stamp, body: entry.body.clone(), expires_at_ms }]
        }
        EntryKind::Delete => {
            let erased = [id.seq].into_iter().chain(target.patch.edits.iter().copied());
            let erased = erased.map(|seq| {
                let target = TargetId { seq, ..id };
                Overwrite::Body { target, stamp, body: String::new(), expires_at_ms: None }
            });
            let erased = erased.collect();
            let replied_to = target.target_seq.map(|seq| TargetId { seq, ..id });
            if let Some(replied_to) = replied_to.and_then(|id| targets.get_mut(&id)) {
                replied_to.add(seq, stamp, Change::ReplyDeleted);
            }
            erased
        }
        _ => Vec::new(),
    }
}

/// Takes the patches that changed, in the order of their messages.
pub(super) fn patches(targets: &mut HashMap<TargetId, Target>) -> Vec<Overwrite> {
    let changed = targets.iter_mut().filter_map(|(id, target)| {
        let stamp = target.stamp.take()?;
        Some((*id, Overwrite::Patch { target: *id, stamp, patch: target.patch.clone() }))
    });
    let mut changed: Vec<_> = changed.collect();
    changed.sort_by_key(|(id, _)| *id);
    changed.into_iter().map(|(_, overwrite)| overwrite).collect()
}
