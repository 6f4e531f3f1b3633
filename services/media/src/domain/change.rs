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
            let files = files_of(&record.outcome);
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

/// Returns the files that a message has.
fn files_of(_: &DeliveryOutcome) -> Vec<FileId> {
    // Records have none yet.
    Vec::new()
}
