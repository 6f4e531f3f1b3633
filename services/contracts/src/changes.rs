//! What entries change of messages that were before them: edits, deletions, reactions, replies, pins.
//!
//! The message service keeps the sum of these changes with each message, and a client adds those that come later. Both do it
//! here, so that what a client has is what it would fetch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    UserId,
    event::{EntryKind, is_false},
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
    Deleted,
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
    ReplyDeleted,
}

impl<'a> Change<'a> {
    /// Returns what an entry of this kind changes of its target.
    pub const fn of(kind: EntryKind, user: UserId, body: &'a str) -> Option<Self> {
        Some(match kind {
            EntryKind::Text => Self::Replied,
            EntryKind::Edit => Self::Edited,
            EntryKind::Delete => Self::Deleted,
            EntryKind::Reaction => Self::Reacted { user, emoji: body },
            EntryKind::ReactionRemoved => Self::ReactionRemoved { user, emoji: body },
            EntryKind::Pin => Self::Pinned,
            EntryKind::Unpin => Self::Unpinned,
            EntryKind::MemberAdded
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
            Change::Deleted => {
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
            Change::ReplyDeleted => self.replies = self.replies.saturating_sub(1),
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
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
        assert!(!changes.add(4, react(1)) && !changes.add(6, Change::Deleted));
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
}
