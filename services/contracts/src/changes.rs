//! What entries change of messages that were before them: edits, deletions, reactions, replies, pins.
//!
//! The message service keeps the sum of these changes with each message, and a client adds those that come later. Both do it
//! here, so that what a client has is what it would fetch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    UserId,
    event::{EntryKind, is_false},
    own::is_zero,
};

/// Users whom a message lists of those who reacted alike; beyond it they are counted only.
pub const MAX_LISTED_REACTORS: usize = 8;
/// A UUID in a list of JSON.
pub(crate) const UUID_BYTES: usize = 39;

/// What later entries changed of a message, as of one moment. Each of them is an entry of its own, and comes to a client that has the
/// message already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// The seq of the last entry that is included. Those with a greater one are still to be added.
    pub seq: i64,
    /// The seq of the last edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_seq: Option<i64>,
    /// The number of edits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub edits: u32,
    /// The seq of the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_seq: Option<i64>,
    /// The seq of the entry that pinned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_seq: Option<i64>,
    /// The number of replies that are not deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replies: u32,
    /// The seq of the last reply, deleted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply_seq: Option<i64>,
    /// In the order in which they were first made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reactions>,
}

/// The reactions to a message with one emoji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reactions {
    pub emoji: String,
    pub count: u32,
    /// Whether the reader is among them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own: bool,
    /// Some of them: the first, as long as they react so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
}

/// A change of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Edited,
    /// So many of its replies are deleted by the same entry.
    Deleted {
        replies: u32,
    },
    /// A user who did not react with this emoji does so from here on.
    Reacted {
        user: UserId,
        emoji: &'a str,
    },
    /// A user who did does not any more.
    ReactionRemoved {
        user: UserId,
        emoji: &'a str,
    },
    Pinned,
    Unpinned,
    Replied,
    /// So many of its replies are deleted.
    RepliesDeleted(u32),
}

impl<'a> Change<'a> {
    /// Returns what an entry of this kind changes of its target.
    pub const fn of(kind: EntryKind, user: UserId, body: &'a str) -> Option<Self> {
        Some(match kind {
            EntryKind::Text => Self::Replied,
            EntryKind::Edit => Self::Edited,
            EntryKind::Delete => Self::Deleted { replies: 0 },
            EntryKind::Reaction => Self::Reacted { user, emoji: body },
            EntryKind::ReactionRemoved => Self::ReactionRemoved { user, emoji: body },
            EntryKind::Pin => Self::Pinned,
            EntryKind::Unpin => Self::Unpinned,
            // What it changes of each message is what [`deletions`] returns.
            EntryKind::DeleteRange
            | EntryKind::MemberAdded
            | EntryKind::MemberRemoved
            | EntryKind::RoleChanged
            | EntryKind::TitleChanged
            | EntryKind::TopicChanged
            | EntryKind::AvatarChanged
            | EntryKind::SlowModeChanged
            | EntryKind::TtlChanged => return None,
        })
    }
}

impl Changes {
    /// Returns whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what entry `seq` changes. Returns false, and adds nothing, when it is included.
    pub fn add(&mut self, seq: i64, change: Change<'_>) -> bool {
        if seq <= self.seq {
            return false;
        }
        self.seq = seq;
        match change {
            Change::Edited => {
                self.edited_seq = Some(seq);
                self.edits += 1;
            }
            Change::Deleted { replies } => {
                self.replies = self.replies.saturating_sub(replies);
                self.deleted_seq = Some(seq);
                self.pinned_seq = None;
                self.reactions.clear();
            }
            Change::Reacted { user, emoji } => self.react(user, emoji),
            Change::ReactionRemoved { user, emoji } => self.take_back(user, emoji),
            Change::Pinned => self.pinned_seq = Some(seq),
            Change::Unpinned => self.pinned_seq = None,
            Change::Replied => {
                self.replies += 1;
                self.last_reply_seq = Some(seq);
            }
            Change::RepliesDeleted(replies) => self.replies = self.replies.saturating_sub(replies),
        }
        true
    }

    fn react(&mut self, user: UserId, emoji: &str) {
        let of = match self.reactions.iter().position(|of| of.emoji == emoji) {
            Some(at) => &mut self.reactions[at],
            None => {
                let emoji = emoji.to_owned();
                self.reactions.push(Reactions { emoji, count: 0, own: false, users: Vec::new() });
                self.reactions.last_mut().expect("one was added")
            }
        };
        of.count += 1;
        if of.users.len() < MAX_LISTED_REACTORS {
            of.users.push(user);
        }
    }

    fn take_back(&mut self, user: UserId, emoji: &str) {
        if let Some(of) = self.reactions.iter_mut().find(|of| of.emoji == emoji) {
            of.count = of.count.saturating_sub(1);
            of.users.retain(|other| *other != user);
        }
        self.reactions.retain(|of| of.count > 0);
    }

    /// Returns how many bytes they have as JSON, at most.
    pub(crate) fn encoded_bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let reactions = self.reactions.iter();
        280 + reactions.map(|of| 64 + of.emoji.len() + UUID_BYTES * of.users.len()).sum::<usize>()
    }
}

/// A message of a range that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRange<'a> {
    pub seq: i64,
    pub kind: EntryKind,
    pub sender: UserId,
    /// What it replies to.
    pub target_seq: Option<i64>,
    pub changes: &'a Changes,
}

/// Returns what entry `seq`, the deletion of a range, changes: of each message that it deletes, and of what those reply to. It
/// deletes texts, of `subject` or of everyone, that are not deleted by an entry before it, and passes over everything else.
pub fn deletions<'a>(
    seq: i64,
    subject: Option<UserId>,
    range: impl IntoIterator<Item = InRange<'a>>,
) -> BTreeMap<i64, Change<'static>> {
    let mut deleted = BTreeSet::new();
    let mut replies: BTreeMap<i64, u32> = BTreeMap::new();
    for message in range {
        let is_left = message.changes.deleted_seq.is_none_or(|deleted| deleted >= seq);
        let is_meant = subject.is_none_or(|subject| subject == message.sender);
        if message.kind == EntryKind::Text && is_left && is_meant {
            deleted.insert(message.seq);
            if let Some(replied_to) = message.target_seq {
                *replies.entry(replied_to).or_default() += 1;
            }
        }
    }
    let of_replies = replies.iter().map(|(seq, replies)| (*seq, Change::RepliesDeleted(*replies)));
    let of_range = deleted.iter().map(|seq| {
        let replies = replies.get(seq).copied().unwrap_or_default();
        (*seq, Change::Deleted { replies })
    });
    of_replies.chain(of_range).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn a_change_is_added_once() {
        let mut changes = Changes::default();
        let react = |n| Change::Reacted { user: user(n), emoji: "+" };
        assert!(changes.add(4, react(1)) && changes.add(6, react(2)));
        let before = changes.clone();
        assert!(!changes.add(4, react(1)) && !changes.add(6, Change::Deleted { replies: 0 }));
        assert_eq!(changes, before);
        assert_eq!((changes.reactions[0].count, changes.seq), (2, 6));
    }

    #[test]
    fn users_are_listed_as_far_as_there_is_room() {
        let mut changes = Changes::default();
        let mut seq = 0;
        let mut add = |changes: &mut Changes, change| {
            seq += 1;
            assert!(changes.add(seq, change));
        };
        for n in 1..=20 {
            add(&mut changes, Change::Reacted { user: user(n), emoji: "+" });
        }
        let of = &changes.reactions[0];
        assert_eq!((of.count, of.users.as_slice()), (20, (1..=8).map(user).collect::<Vec<_>>().as_slice()));
        add(&mut changes, Change::ReactionRemoved { user: user(1), emoji: "+" });
        add(&mut changes, Change::ReactionRemoved { user: user(20), emoji: "+" });
        assert_eq!((changes.reactions[0].count, changes.reactions[0].users.len()), (18, 7));
        for n in 2..=19 {
            add(&mut changes, Change::ReactionRemoved { user: user(n), emoji: "+" });
        }
        assert_eq!(changes.reactions, []);
    }

    #[test]
    fn a_range_deletes_texts_once_and_counts_their_replies() {
        let fresh = Changes::default();
        let deleted = |seq| Changes { seq, deleted_seq: Some(seq), ..Changes::default() };
        let (before, by_it) = (deleted(5), deleted(9));
        let message = |seq, kind, sender, target_seq, changes| InRange {
            seq,
            kind,
            sender: user(sender),
            target_seq,
            changes,
        };
        let range = [
            message(1, EntryKind::Text, 1, None, &fresh),
            message(2, EntryKind::Text, 1, Some(1), &fresh),
            message(3, EntryKind::Text, 2, Some(1), &by_it),
            message(4, EntryKind::Text, 1, Some(1), &before),
            message(5, EntryKind::Delete, 1, Some(4), &fresh),
            message(6, EntryKind::MemberAdded, 1, None, &fresh),
            message(7, EntryKind::Text, 2, Some(0), &fresh),
        ];
        let gone = |replies| Change::Deleted { replies };
        let all = [(0, Change::RepliesDeleted(1)), (1, gone(2)), (2, gone(0)), (3, gone(0)), (7, gone(0))];
        assert_eq!(deletions(9, None, range), BTreeMap::from(all));
        let of_one = [(1, gone(1)), (2, gone(0))];
        assert_eq!(deletions(9, Some(user(1)), range), BTreeMap::from(of_one));
        assert_eq!(deletions(9, Some(user(3)), range), BTreeMap::new());
    }
}
