//! What a program adds to a chat's log.

use contracts::{
    ChatId, MessageKey, UserId,
    event::EntryKind,
    wire::{Changes, Command, Delete, Edit, Message, Pin, React, Send, Stored},
};

/// An entry that a program sends. It is sent once or more, under one key, until it is stored or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Post {
    Text {
        body: String,
        /// The seq of the message that this one replies to.
        reply_to: Option<i64>,
        /// Whom it calls by name.
        mentions: Vec<UserId>,
        mention_all: bool,
    },
    /// Replaces the text of one's own message `seq`.
    Edit { seq: i64, body: String },
    /// Removes the text of message `seq` for everyone.
    Delete { seq: i64 },
    /// Reacts to message `seq` with one emoji, or takes that back.
    React { seq: i64, emoji: String, remove: bool },
    /// Pins message `seq`, or unpins it.
    Pin { seq: i64, remove: bool },
}

impl From<String> for Post {
    fn from(body: String) -> Self {
        Self::Text { body, reply_to: None, mentions: Vec::new(), mention_all: false }
    }
}

impl From<&str> for Post {
    fn from(body: &str) -> Self {
        body.to_owned().into()
    }
}

impl Post {
    /// Returns the command that sends it.
    pub(super) fn command(&self, chat: ChatId, key: MessageKey) -> Command {
        match self.clone() {
            Self::Text { body, reply_to, mentions, mention_all } => {
                Command::Send(Send { chat, key, body, reply_to, mentions, mention_all })
            }
            Self::Edit { seq, body } => Command::Edit(Edit { chat, key, seq, body }),
            Self::Delete { seq } => Command::Delete(Delete { chat, key, seq }),
            Self::React { seq, emoji, remove } => Command::React(React { chat, key, seq, emoji, remove }),
            Self::Pin { seq, remove } => Command::Pin(Pin { chat, key, seq, remove }),
        }
    }

    /// Returns the entry that it became.
    pub(super) fn entry(&self, sender: UserId, stored: &Stored, sent_at_ms: i64) -> Message {
        let (kind, target_seq, body) = match self {
            Self::Text { body, reply_to, .. } => (EntryKind::Text, *reply_to, body.as_str()),
            Self::Edit { seq, body } => (EntryKind::Edit, Some(*seq), body.as_str()),
            Self::Delete { seq } => (EntryKind::Delete, Some(*seq), ""),
            Self::React { seq, emoji, remove: false } => (EntryKind::Reaction, Some(*seq), emoji.as_str()),
            Self::React { seq, emoji, remove: true } => {
                (EntryKind::ReactionRemoved, Some(*seq), emoji.as_str())
            }
            Self::Pin { seq, remove: false } => (EntryKind::Pin, Some(*seq), ""),
            Self::Pin { seq, remove: true } => (EntryKind::Unpin, Some(*seq), ""),
        };
        let (mentions, mentions_all) = match self {
            Self::Text { mentions, mention_all, .. } => (mentions.clone(), *mention_all),
            _ => (Vec::new(), false),
        };
        Message {
            chat: stored.chat,
            seq: stored.seq,
            sender,
            key: stored.key,
            kind,
            body: body.to_owned(),
            subject: None,
            target_seq,
            mentions,
            mentions_all,
            sent_at_ms,
            expires_at_ms: None,
            expired: false,
            changes: Changes::default(),
        }
    }
}
