//! What is judged: texts and edits of the log.

use contracts::{
    ChatId, UserId,
    api::Evidence,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind},
};

use super::{Folded, links};

/// Messages of one sender in one chat that are remembered: one more than a rule may allow.
pub const MAX_REMEMBERED: usize = 100;

/// A text or an edit of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub chat: ChatId,
    /// Its place in the log of the chat.
    pub entry_seq: i64,
    /// The message that reads so from it on: itself, or the one that it edits.
    pub seq: i64,
    pub sender: UserId,
    pub is_edit: bool,
    pub text: String,
    /// The name and the media type of each file.
    pub files: Vec<(String, String)>,
    /// Milliseconds since the epoch, by the log's clock.
    pub sent_at_ms: i64,
    pub folded: Folded,
    /// Where its links lead to.
    pub hosts: Vec<String>,
}

impl Post {
    /// Returns what is judged of a record; `None` for one that says nothing.
    pub fn of(record: DeliveredRecord) -> Option<Self> {
        let DeliveredRecord { chat, sender, outcome, .. } = record;
        let DeliveryOutcome::Stored {
            seq: entry_seq, kind, body, target_seq, attachments, sent_at_ms, ..
        } = outcome
        else {
            return None;
        };
        let is_edit = kind == EntryKind::Edit;
        let seq = match kind {
            EntryKind::Text => entry_seq,
            EntryKind::Edit => target_seq?,
            _ => return None,
        };
        // No column of JSON takes it.
        let text = body.replace('\0', "\u{fffd}");
        let files =
            attachments.into_iter().map(|file| (file.name.replace('\0', "\u{fffd}"), file.media_type));
        Some(Self {
            chat,
            entry_seq,
            seq,
            sender,
            is_edit,
            folded: Folded::of(&text),
            hosts: links::hosts(&text),
            text,
            files: files.collect(),
            sent_at_ms,
        })
    }

    /// Returns what is kept of it.
    pub fn evidence(&self) -> Evidence {
        evidence(&self.text, &self.files, self.sent_at_ms)
    }
}

/// Returns what is kept of a text and its files.
pub(super) fn evidence(text: &str, files: &[(String, String)], sent_at_ms: i64) -> Evidence {
    let files = files.iter().map(|(name, media_type)| format!("{name} ({media_type})"));
    Evidence { text: text.to_owned(), files: files.collect(), sent_at_ms }
}

/// What is remembered of a sender in a chat. It is kept with the verdicts, in the same step, so that a replay counts the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The last entry of the sender that was judged.
    pub last_seq: i64,
    /// When the last messages were sent, in milliseconds since the epoch, in the order of the log.
    pub times_ms: Vec<i64>,
}

impl Window {
    /// Counts a post. Returns whether it is to be judged: one that was judged before is announced once more, or read again.
    pub fn take(&mut self, post: &Post) -> bool {
        if post.entry_seq <= self.last_seq {
            return false;
        }
        self.last_seq = post.entry_seq;
        if !post.is_edit {
            self.times_ms.push(post.sent_at_ms);
            let extra = self.times_ms.len().saturating_sub(MAX_REMEMBERED);
            self.times_ms.drain(..extra);
        }
        true
    }

    /// Forgets messages that were sent at a time or before.
    pub fn forget(&mut self, until_ms: i64) {
        self.times_ms.retain(|time_ms| *time_ms > until_ms);
    }

    /// Returns how many messages were sent within a time before a moment, which is included.
    pub fn count(&self, within_ms: i64, at_ms: i64) -> usize {
        self.times_ms.iter().filter(|time_ms| **time_ms > at_ms - within_ms && **time_ms <= at_ms).count()
    }
}

#[cfg(test)]
mod tests {
    use contracts::{DeviceId, MessageKey};
    use uuid::Uuid;

    use super::*;

    fn post(entry_seq: i64, sent_at_ms: i64) -> Post {
        let outcome = DeliveryOutcome::stored(entry_seq, EntryKind::Text, "a\0b", sent_at_ms);
        let (chat, sender) = (ChatId(Uuid::nil()), UserId(Uuid::nil()));
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
        Post::of(DeliveredRecord { v: 1, chat, sender, device, key, outcome }).expect("a text")
    }

    #[test]
    fn an_entry_counts_once() {
        let mut window = Window::default();
        assert!(window.take(&post(1, 1_000)) && window.take(&post(4, 2_000)));
        assert!(!window.take(&post(4, 2_000)) && !window.take(&post(1, 1_000)));
        assert_eq!((window.count(1_000, 2_000), window.count(1_001, 2_000)), (1, 2));
        assert!(window.take(&Post { is_edit: true, ..post(5, 2_500) }));
        assert_eq!(window.times_ms, [1_000, 2_000]);
        for seq in 6..300 {
            window.take(&post(seq, seq));
        }
        assert_eq!(window.times_ms.len(), MAX_REMEMBERED);
    }

    #[test]
    fn evidence_can_be_stored() {
        assert_eq!(post(1, 1).evidence().text, "a\u{fffd}b");
    }
}
