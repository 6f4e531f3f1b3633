//! What the log of messages says of files.

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, FileId, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SeqRange},
};

/// What an entry of a chat changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A message has files.
    Attached(Attached),
    /// A message has none any more.
    Detached { chat: ChatId, seq: i64 },
    /// Likewise all messages of a range: those of one sender, or of every one.
    RangeDetached { chat: ChatId, range: SeqRange, sender: Option<UserId> },
    /// A chat has another picture, or none.
    Pictured { chat: ChatId, picture: Option<FileId> },
    /// A chat is deleted, with all that it has.
    ChatDeleted { chat: ChatId },
}

/// The files of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub chat: ChatId,
    pub seq: i64,
    pub sender: UserId,
    pub files: Vec<FileId>,
    /// When the message disappears.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Returns what a record of `message.delivered` changes; most change nothing.
///
/// The records of a chat come in their order and may come again. Each change has the same effect then.
pub fn changes_of(record: &DeliveredRecord) -> Option<Change> {
    let DeliveryOutcome::Stored {
        seq,
        kind,
        body,
        target_seq,
        attachments,
        range,
        subject,
        subject_only,
        expires_at_ms,
        ..
    } = &record.outcome
    else {
        return None;
    };
    let chat = record.chat;
    match kind {
        EntryKind::Text => {
            let files = attachments.iter().map(|attachment| attachment.file).collect();
            let expires_at = expires_at_ms.and_then(DateTime::from_timestamp_millis);
            let attached = Attached { chat, seq: *seq, sender: record.sender, files, expires_at };
            (!attached.files.is_empty()).then_some(Change::Attached(attached))
        }
        EntryKind::Delete => target_seq.map(|seq| Change::Detached { chat, seq }),
        EntryKind::DeleteRange => range.map(|range| {
            // What was said after it stays.
            let range = SeqRange { to_seq: range.to_seq.min(*seq), ..range };
            Change::RangeDetached { chat, range, sender: *subject }
        }),
        EntryKind::AvatarChanged => Some(Change::Pictured { chat, picture: body.parse().ok() }),
        EntryKind::MemberRemoved => subject_only.then_some(Change::ChatDeleted { chat }),
        EntryKind::Edit
        | EntryKind::Reaction
        | EntryKind::ReactionRemoved
        | EntryKind::Pin
        | EntryKind::Unpin
        | EntryKind::MemberAdded
        | EntryKind::RoleChanged
        | EntryKind::TitleChanged
        | EntryKind::TopicChanged
        | EntryKind::SlowModeChanged
        | EntryKind::TtlChanged => None,
    }
}

#[cfg(test)]
mod tests {
    use contracts::{DeviceId, MessageKey, attachment::Attachment};
    use uuid::Uuid;

    use super::*;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));
    const ANN: UserId = UserId(Uuid::from_u128(2));
    const BEN: UserId = UserId(Uuid::from_u128(3));
    const FILE: FileId = FileId(Uuid::from_u128(4));

    /// Returns an entry of Ann's with this kind and seq 9, changed.
    fn entry(kind: EntryKind, change: impl FnOnce(&mut DeliveryOutcome)) -> Option<Change> {
        let mut outcome = DeliveryOutcome::stored(9, kind, "", 7);
        change(&mut outcome);
        let (device, key) = (DeviceId(Uuid::nil()), MessageKey(Uuid::nil()));
        changes_of(&DeliveredRecord { v: 1, chat: CHAT, sender: ANN, device, key, outcome })
    }

    #[test]
    fn a_message_with_files_attaches_them_until_it_disappears() {
        let change = entry(EntryKind::Text, |outcome| {
            if let DeliveryOutcome::Stored { attachments, expires_at_ms, .. } = outcome {
                attachments.push(Attachment::unknown(FILE));
                *expires_at_ms = Some(1_500);
            }
        });
        let expires_at = DateTime::from_timestamp_millis(1_500);
        let attached = Attached { chat: CHAT, seq: 9, sender: ANN, files: vec![FILE], expires_at };
        assert_eq!(change, Some(Change::Attached(attached)));
        for kind in [EntryKind::Text, EntryKind::Edit, EntryKind::Reaction, EntryKind::MemberAdded] {
            assert_eq!(entry(kind, |_| {}), None, "{kind:?}");
        }
    }

    #[test]
    fn a_deletion_takes_the_files_of_what_it_deletes() {
        let one = entry(EntryKind::Delete, |outcome| {
            if let DeliveryOutcome::Stored { target_seq, .. } = outcome {
                *target_seq = Some(4);
            }
        });
        assert_eq!(one, Some(Change::Detached { chat: CHAT, seq: 4 }));
        for (to_seq, expected) in [(6, 6), (100, 9)] {
            let many = entry(EntryKind::DeleteRange, |outcome| {
                if let DeliveryOutcome::Stored { range, subject, .. } = outcome {
                    (*range, *subject) = (Some(SeqRange { from_seq: 2, to_seq }), Some(BEN));
                }
            });
            let range = SeqRange { from_seq: 2, to_seq: expected };
            assert_eq!(many, Some(Change::RangeDetached { chat: CHAT, range, sender: Some(BEN) }));
        }
    }

    #[test]
    fn a_chat_has_the_picture_that_its_log_says() {
        for (text, picture) in
            [(FILE.to_string(), Some(FILE)), (String::new(), None), ("cat".to_owned(), None)]
        {
            let change = entry(EntryKind::AvatarChanged, |outcome| {
                if let DeliveryOutcome::Stored { body, .. } = outcome {
                    *body = text;
                }
            });
            assert_eq!(change, Some(Change::Pictured { chat: CHAT, picture }));
        }
    }

    #[test]
    fn a_chat_that_is_deleted_has_no_files() {
        assert_eq!(entry(EntryKind::MemberRemoved, |_| {}), None, "a member who leaves");
        let deleted = entry(EntryKind::MemberRemoved, |outcome| {
            if let DeliveryOutcome::Stored { subject_only, .. } = outcome {
                *subject_only = true;
            }
        });
        assert_eq!(deleted, Some(Change::ChatDeleted { chat: CHAT }));
    }
}
