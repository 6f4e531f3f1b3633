//! What the index keeps of a chat's log.

use std::collections::BTreeMap;

use contracts::{
    ChatId, MessageKey, UserId,
    attachment::Attachment,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, SeqRange},
    wire::Message,
};
use serde::{Deserialize, Serialize};

use super::composed;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId {
    pub chat: ChatId,
    pub seq: i64,
}

/// Names an entry of a chat before its seq is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryName {
    pub sender: UserId,
    pub key: MessageKey,
}

/// What the index keeps of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    Text(Text),
    Beginning(Beginning),
}

/// A text, as later entries left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub chat: ChatId,
    pub seq: i64,
    pub sender: UserId,
    pub sent_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<i64>,
    /// From then on it is not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// Composed (NFC). Empty once it is deleted.
    pub body: String,
    /// The seq of the entry that `body` is of: its own, or that of the last edit.
    pub body_seq: i64,
    /// Edits leave them as they are. None once it is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// It stays so: an entry that comes again brings nothing back.
    #[serde(default)]
    pub deleted: bool,
}

/// A file of a text, as far as it is searched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Composed (NFC).
    pub name: String,
    #[serde(rename = "type")]
    pub media_type: String,
}

/// An entry with which the history of a member may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    pub chat: ChatId,
    pub seq: i64,
    pub entry: EntryName,
}

/// An entry of a chat's log, as far as it concerns the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: DocumentId,
    pub sent_at_ms: i64,
    pub what: What,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Document(Document),
    Edit {
        target: i64,
        body: String,
    },
    Delete {
        target: i64,
    },
    /// The texts of the range before the entry: those of `subject`, or of everyone.
    DeleteRange {
        range: SeqRange,
        subject: Option<UserId>,
    },
}

impl Text {
    /// Returns what has the words of the message: its body, and the names of its files in their order.
    pub(crate) fn worded(&self) -> Vec<&str> {
        let names = self.files.iter().map(|file| file.name.as_str());
        std::iter::once(self.body.as_str()).chain(names).collect()
    }
}

impl From<Attachment> for File {
    fn from(attachment: Attachment) -> Self {
        Self { name: composed(&attachment.name), media_type: attachment.media_type }
    }
}

impl Document {
    /// Returns how many bytes its texts have.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.worded().into_iter().map(str::len).sum(),
            Self::Beginning(_) => 0,
        }
    }

    pub fn id(&self) -> DocumentId {
        match self {
            Self::Text(Text { chat, seq, .. }) | Self::Beginning(Beginning { chat, seq, .. }) => {
                DocumentId { chat: *chat, seq: *seq }
            }
        }
    }

    /// Returns what is kept of an entry as the message service has it now; nothing of most kinds, and of a text that has
    /// disappeared.
    pub fn of_stored(message: Message) -> Option<Self> {
        let Message { chat, seq, sender, key, kind, changes, .. } = message;
        match kind {
            EntryKind::Text if !message.expired => Some(Self::Text(Text {
                chat,
                seq,
                sender,
                sent_at_ms: message.sent_at_ms,
                reply_to: message.target_seq,
                expires_at_ms: message.expires_at_ms,
                body: composed(&message.body),
                body_seq: changes.edited_seq.unwrap_or(seq),
                files: message.attachments.into_iter().map(File::from).collect(),
                deleted: changes.deleted_seq.is_some(),
            })),
            EntryKind::MemberAdded => {
                Some(Self::Beginning(Beginning { chat, seq, entry: EntryName { sender, key } }))
            }
            _ => None,
        }
    }
}

impl Entry {
    /// Returns what an announcement says; nothing for most.
    pub fn of_record(record: DeliveredRecord) -> Option<Self> {
        let DeliveredRecord { chat, sender, key, outcome, .. } = record;
        let DeliveryOutcome::Stored {
            seq,
            kind,
            body,
            subject,
            target_seq,
            range,
            attachments,
            sent_at_ms,
            expires_at_ms,
            ..
        } = outcome
        else {
            return None;
        };
        let what = match kind {
            EntryKind::Text => What::Document(Document::Text(Text {
                chat,
                seq,
                sender,
                sent_at_ms,
                reply_to: target_seq,
                expires_at_ms,
                body: composed(&body),
                body_seq: seq,
                files: attachments.into_iter().map(File::from).collect(),
                deleted: false,
            })),
            EntryKind::MemberAdded => {
                What::Document(Document::Beginning(Beginning { chat, seq, entry: EntryName { sender, key } }))
            }
            EntryKind::Edit => What::Edit { target: target_seq?, body: composed(&body) },
            EntryKind::Delete => What::Delete { target: target_seq? },
            EntryKind::DeleteRange => What::DeleteRange { range: range?, subject },
            _ => return None,
        };
        Some(Self { id: DocumentId { chat, seq }, sent_at_ms, what })
    }

    /// Returns the documents that must be known before the entry is applied.
    pub fn needs(&self) -> impl Iterator<Item = DocumentId> + use<> {
        let DocumentId { chat, seq } = self.id;
        let seqs = match &self.what {
            What::Document(_) => seq..seq + 1,
            What::Edit { target, .. } | What::Delete { target } => *target..target.saturating_add(1),
            What::DeleteRange { range, .. } => range.before(seq),
        };
        seqs.map(move |seq| DocumentId { chat, seq })
    }
}

/// How far an index has come. It is written together with what it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The first offset of each partition of `message.delivered` that may not be in the index.
    pub next: BTreeMap<i32, i64>,
    pub build: Build,
}

/// How far all chats are read into an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// The chats up to `after` are, by id: so many of so many.
    Reading {
        after: Option<ChatId>,
        read: u64,
        of: u64,
    },
    Done,
}

impl Default for Build {
    fn default() -> Self {
        Self::Reading { after: None, read: 0, of: 0 }
    }
}

impl Build {
    /// Returns how much is read, from 0 to 100.
    pub fn percent(self) -> u8 {
        match self {
            Self::Done => 100,
            // All of it is read when it is done, and not before.
            Self::Reading { read, of, .. } => {
                u8::try_from((read.saturating_mul(100) / of.max(1)).min(99)).unwrap_or(99)
            }
        }
    }
}
