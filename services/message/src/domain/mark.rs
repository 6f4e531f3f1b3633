//! How far users have come in their chats.

use super::Counts;

/// An entry of a chat, with the counts up to and including it. Of two points of one chat, the greater is the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    pub seq: i64,
    pub counts: Counts,
}

impl Point {
    /// Returns the later of two points.
    pub fn max(self, other: Self) -> Self {
        if other.seq > self.seq { other } else { self }
    }
}

/// The watermarks of a user in a chat. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Up to where the user has read.
    pub read: Point,
    /// Up to where a device of the user has received the chat.
    pub delivered_seq: i64,
    /// In a direct chat: up to where the other user has read and received it.
    pub other_read_seq: i64,
    pub other_delivered_seq: i64,
    /// When one of the users said so last, in milliseconds since the epoch; 0 for marks that the log alone made.
    pub at_ms: i64,
}

impl Marks {
    /// Returns the greater of each mark.
    pub fn merge(self, other: Self) -> Self {
        Self {
            read: self.read.max(other.read),
            delivered_seq: self.delivered_seq.max(other.delivered_seq),
            other_read_seq: self.other_read_seq.max(other.other_read_seq),
            other_delivered_seq: self.other_delivered_seq.max(other.other_delivered_seq),
            at_ms: self.at_ms.max(other.at_ms),
        }
    }

    /// Returns these marks as the other user of a direct chat has them.
    pub fn of_other(self) -> Self {
        Self {
            other_read_seq: self.read.seq,
            other_delivered_seq: self.delivered_seq,
            at_ms: self.at_ms,
            ..Self::default()
        }
    }

    /// Returns whether the user has come beyond other marks of theirs.
    pub fn is_beyond(self, other: Self) -> bool {
        self.read.seq > other.read.seq || self.delivered_seq > other.delivered_seq
    }
}
