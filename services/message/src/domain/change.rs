//! What the entries of a batch change of messages that were before them.
//!
//! A message row carries the sum of these changes, so that a page of history needs nothing else. The sum is written whole
//! and names the last entry that it includes, so an entry that is applied again after a crash does not count twice.

use std::collections::{BTreeMap, HashMap, HashSet};

use contracts::{
    ChatId, UserId,
    changes::{Change, InRange, deletions},
    event::EntryKind,
    wire::Changes,
};
use serde::{Deserialize, Serialize};

use super::{Chats, Entry, Times};

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
    pub times: Times,
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

/// The pinned messages of a chat, as its row has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The last entry that changed them. What entries up to it change is included.
    pub seq: i64,
    /// Entries that pinned a message, and the messages: in the order of the entries.
    pub pinned: Vec<(i64, i64)>,
    /// When the texts of pinned messages disappear that do, by their seqs. A pin ends with its text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expiries: BTreeMap<i64, i64>,
    /// The timestamp to write them with, when they changed.
    #[serde(skip)]
    stamp: Option<i64>,
}

impl Pins {
    /// Returns the pins as the store has them.
    pub const fn new(seq: i64, pinned: Vec<(i64, i64)>, expiries: BTreeMap<i64, i64>) -> Self {
        Self { seq, pinned, expiries, stamp: None }
    }

    /// Returns how many messages are pinned at a time.
    pub fn count(&self, now_ms: i64) -> usize {
        self.pinned.iter().filter(|(_, target)| !self.is_over(*target, now_ms)).count()
    }

    fn is_over(&self, target: i64, now_ms: i64) -> bool {
        self.expiries.get(&target).is_some_and(|at_ms| now_ms >= *at_ms)
    }

    /// Adds what entry `seq` changes that was sent at a time, unless that is included: which messages are pinned no more, and which one is
    /// from here on, with when its text disappears.
    fn add(
        &mut self,
        (seq, stamp, at_ms): (i64, i64, i64),
        unpinned: &[i64],
        pinned: Option<(i64, Option<i64>)>,
    ) {
        if seq <= self.seq {
            return;
        }
        let before = self.pinned.len();
        let mut kept = std::mem::take(&mut self.pinned);
        kept.retain(|(_, target)| {
            let is_again = pinned.is_some_and(|(pinned, _)| pinned == *target);
            !unpinned.contains(target) && !is_again && !self.is_over(*target, at_ms)
        });
        kept.extend(pinned.map(|(target, _)| (seq, target)));
        self.pinned = kept;
        if let Some((target, Some(expires_at_ms))) = pinned {
            self.expiries.insert(target, expires_at_ms);
        }
        let targets: HashSet<i64> = self.pinned.iter().map(|(_, target)| *target).collect();
        self.expiries.retain(|target, _| targets.contains(target));
        if pinned.is_some() || self.pinned.len() != before {
            self.seq = seq;
            self.stamp = Some(stamp);
        }
    }
}

/// What is written over what was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Its text.
    Body {
        target: TargetId,
        stamp: i64,
        body: String,
        /// When the text disappears.
        expires_at_ms: Option<i64>,
    },
    /// Its text, or that of an edit of it, and what it carries: there is none any more.
    Erased {
        target: TargetId,
        stamp: i64,
    },
    Patch {
        target: TargetId,
        stamp: i64,
        patch: Patch,
    },
    /// What is pinned in a chat.
    Pins {
        chat: ChatId,
        stamp: i64,
        pins: Pins,
    },
}

impl Target {
    /// Returns a row as the store has it.
    pub fn new(sender: UserId, kind: EntryKind, target_seq: Option<i64>, patch: Patch, times: Times) -> Self {
        Self { sender, kind, target_seq, patch, times, stamp: None }
    }

    /// Returns whether an entry may speak of it that becomes `seq` and was sent at a time.
    pub(super) fn takes(&self, entry: &Entry, seq: i64, at_ms: i64) -> bool {
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
            EntryKind::DeleteRange
            | EntryKind::MemberAdded
            | EntryKind::MemberRemoved
            | EntryKind::RoleChanged
            | EntryKind::TitleChanged
            | EntryKind::TopicChanged
            | EntryKind::AvatarChanged
            | EntryKind::SlowModeChanged
            | EntryKind::TtlChanged => false,
        };
        // By the chat's clock, so that a replay decides the same.
        let is_expired = self.times.expires_at_ms.is_some_and(|expires_at_ms| at_ms >= expires_at_ms);
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
    chats: &mut Chats,
    wanted: &HashSet<TargetId>,
    entry: &Entry,
    (seq, stamp): (i64, i64),
    times: Times,
) -> Vec<Overwrite> {
    let Chats { targets, pins, .. } = chats;
    let chat = entry.chat;
    let own = TargetId { chat, seq };
    if entry.kind == EntryKind::Text && wanted.contains(&own) {
        // A later entry of the batch speaks of it. The store may have the row from before a crash.
        let target = || Target::new(entry.sender, entry.kind, entry.target_seq, Patch::default(), times);
        targets.entry(own).or_insert_with(target);
    }
    let (unpinned, erased) = match entry.kind {
        EntryKind::DeleteRange => delete_range(targets, entry, seq, stamp),
        _ => change_target(targets, entry, (seq, stamp), times.expires_at_ms),
    };
    // Only these, although the pins are there for all entries of the batch: what ends with its text has to end at the same entry however the
    // log is cut into batches.
    if let Some(pins) = pins.get_mut(&chat).filter(|_| entry.is_about_pins()) {
        let pinned = entry.target_id().filter(|_| entry.kind == EntryKind::Pin);
        let pinned = pinned.map(|id| {
            let target = targets.get(&id);
            (id.seq, target.and_then(|target| target.times.expires_at_ms))
        });
        pins.add((seq, stamp, times.sent_at_ms), &unpinned, pinned);
    }
    erased
}

/// Changes the message that an entry speaks of. Returns that one when it is pinned no more, and the texts that are written over.
fn change_target(
    targets: &mut HashMap<TargetId, Target>,
    entry: &Entry,
    (seq, stamp): (i64, i64),
    expires_at_ms: Option<i64>,
) -> (Vec<i64>, Vec<Overwrite>) {
    let Some((id, target)) = entry.target_id().and_then(|id| Some((id, targets.get_mut(&id)?))) else {
        return (Vec::new(), Vec::new());
    };
    if let Some(change) = Change::of(entry.kind, entry.sender, &entry.body) {
        target.add(seq, stamp, change);
    }
    match entry.kind {
        EntryKind::Edit => {
            (Vec::new(), vec![Overwrite::Body { target: id, stamp, body: entry.body.clone(), expires_at_ms }])
        }
        EntryKind::Unpin => (vec![id.seq], Vec::new()),
        EntryKind::Delete => {
            let erased = erased(id, target, stamp).collect();
            let replied_to = target.target_seq.map(|seq| TargetId { seq, ..id });
            if let Some(replied_to) = replied_to.and_then(|id| targets.get_mut(&id)) {
                replied_to.add(seq, stamp, Change::RepliesDeleted(1));
            }
            (vec![id.seq], erased)
        }
        _ => (Vec::new(), Vec::new()),
    }
}

/// Deletes what a range has to be deleted. Returns likewise.
fn delete_range(
    targets: &mut HashMap<TargetId, Target>,
    entry: &Entry,
    seq: i64,
    stamp: i64,
) -> (Vec<i64>, Vec<Overwrite>) {
    let in_range = entry.target_ids(seq).filter_map(|id| {
        let Target { sender, kind, target_seq, patch, .. } = targets.get(&id)?;
        let (sender, kind, target_seq) = (*sender, *kind, *target_seq);
        Some(InRange { seq: id.seq, kind, sender, target_seq, changes: &patch.changes })
    });
    let changes = deletions(seq, entry.subject, in_range);
    let (mut unpinned, mut overwrites) = (Vec::new(), Vec::new());
    for (target_seq, change) in changes {
        let id = TargetId { chat: entry.chat, seq: target_seq };
        let Some(target) = targets.get_mut(&id) else { continue };
        target.add(seq, stamp, change);
        if matches!(change, Change::Deleted { .. }) {
            unpinned.push(target_seq);
            overwrites.extend(erased(id, target, stamp));
        }
    }
    (unpinned, overwrites)
}

/// Returns what empties a message and the texts of its edits.
fn erased(id: TargetId, target: &Target, stamp: i64) -> impl Iterator<Item = Overwrite> + use<'_> {
    let seqs = [id.seq].into_iter().chain(target.patch.edits.iter().copied());
    seqs.map(move |seq| Overwrite::Erased { target: TargetId { seq, ..id }, stamp })
}

/// Takes the patches and pins that changed, in the order of their messages and chats.
pub(super) fn patches(Chats { targets, pins, .. }: &mut Chats) -> Vec<Overwrite> {
    let changed = targets.iter_mut().filter_map(|(id, target)| {
        let stamp = target.stamp.take()?;
        Some((*id, Overwrite::Patch { target: *id, stamp, patch: target.patch.clone() }))
    });
    let mut changed: Vec<_> = changed.collect();
    changed.sort_by_key(|(id, _)| *id);
    let pins = pins.iter_mut().filter_map(|(chat, pins)| {
        let stamp = pins.stamp.take()?;
        Some((*chat, Overwrite::Pins { chat: *chat, stamp, pins: pins.clone() }))
    });
    let mut pins: Vec<_> = pins.collect();
    pins.sort_by_key(|(chat, _)| *chat);
    let changed = changed.into_iter().map(|(_, overwrite)| overwrite);
    changed.chain(pins.into_iter().map(|(_, overwrite)| overwrite)).collect()
}
