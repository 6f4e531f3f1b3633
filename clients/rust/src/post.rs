//! What a program adds to a chat's log.

use contracts::{
    ChatId, FileId, MessageKey, UserId,
    event::{EntryKind, Role},
    wire::{Ack, Changes, Command, Delete, DeleteRange, Edit, Forward, Message, Pin, React, Send, Stored},
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
        /// The roles that it calls: owner and admin.
        mention_roles: Vec<Role>,
        /// Whether it calls the members who are connected.
        mention_here: bool,
        /// Whether it disturbs no user.
        silent: bool,
        /// Files that the user has uploaded for this chat, see [`crate::Identity::upload`]. Beside them `body` may be empty.
        attachments: Vec<FileId>,
    },
    /// The text and the files of a message of this or another chat.
    Forward { from_chat: ChatId, from_seq: i64 },
    /// Replaces the text of one's own message `seq`.
    Edit { seq: i64, body: String },
    /// Removes the text of message `seq` for everyone.
    Delete { seq: i64 },
    /// Removes the texts of a range of entries: of one sender; or of everyone, where the user is the owner or an admin, and of the user
    /// themselves elsewhere.
    DeleteRange { from_seq: i64, to_seq: i64, sender: Option<UserId> },
    /// Reacts to message `seq` with one emoji, or takes that back.
    React { seq: i64, emoji: String, remove: bool },
    /// Pins message `seq`, or unpins it.
    Pin { seq: i64, remove: bool },
}

impl From<String> for Post {
    fn from(body: String) -> Self {
        Self::text(body)
    }
}

impl From<&str> for Post {
    fn from(body: &str) -> Self {
        body.to_owned().into()
    }
}

impl Post {
    /// Returns a text that says nothing more.
    pub fn text(body: impl Into<String>) -> Self {
        Self::Text {
            body: body.into(),
            reply_to: None,
            mentions: Vec::new(),
            mention_all: false,
            mention_roles: Vec::new(),
            mention_here: false,
            silent: false,
            attachments: Vec::new(),
        }
    }

    /// Returns a text that replies to message `seq`.
    pub fn reply(seq: i64, body: impl Into<String>) -> Self {
        let mut post = Self::text(body);
        if let Self::Text { reply_to, .. } = &mut post {
            *reply_to = Some(seq);
        }
        post
    }

    /// Returns a text that carries files.
    pub fn files(body: impl Into<String>, files: Vec<FileId>) -> Self {
        let mut post = Self::text(body);
        if let Self::Text { attachments, .. } = &mut post {
            *attachments = files;
        }
        post
    }

    /// Returns whether it may be answered by its seq alone.
    pub(super) const fn takes_ack(&self) -> bool {
        matches!(self, Self::Text { .. })
    }

    /// Returns the command that sends it, with an answer of this kind where it takes one.
    pub(super) fn command(&self, chat: ChatId, key: MessageKey, ack: Ack) -> Command {
        match self.clone() {
            Self::Text {
                body,
                reply_to,
                mentions,
                mention_all,
                mention_roles,
                mention_here,
                silent,
                attachments,
            } => Command::Send(Send {
                chat,
                key,
                body,
                reply_to,
                mentions,
                mention_all,
                mention_roles,
                mention_here,
                silent,
                attachments,
                ack,
            }),
            Self::Forward { from_chat, from_seq } => {
                Command::Forward(Forward { chat, key, from_chat, from_seq })
            }
            Self::DeleteRange { from_seq, to_seq, sender } => {
                Command::DeleteRange(DeleteRange { chat, key, from_seq, to_seq, sender })
            }
            Self::Edit { seq, body } => Command::Edit(Edit { chat, key, seq, body }),
            Self::Delete { seq } => Command::Delete(Delete { chat, key, seq }),
            Self::React { seq, emoji, remove } => Command::React(React { chat, key, seq, emoji, remove }),
            Self::Pin { seq, remove } => Command::Pin(Pin { chat, key, seq, remove }),
        }
    }

    /// Returns the entry that it became; `None` when the messenger has added what is not known here.
    pub(super) fn entry(&self, sender: UserId, stored: &Stored, sent_at_ms: i64) -> Option<Message> {
        let (kind, target_seq, body) = match self {
            // Who of them is a member, who has a role, and what the files are.
            Self::Text { mentions, mention_roles, attachments, .. }
                if !mentions.is_empty() || !mention_roles.is_empty() || !attachments.is_empty() =>
            {
                return None;
            }
            Self::Forward { .. } | Self::DeleteRange { .. } => return None,
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
        let (mentions_all, mentions_here, silent) = match self {
            Self::Text { mention_all, mention_here, silent, .. } => (*mention_all, *mention_here, *silent),
            _ => (false, false, false),
        };
        Some(Message {
            chat: stored.chat,
            seq: stored.seq,
            sender,
            key: stored.key,
            kind,
            body: body.to_owned(),
            subject: None,
            target_seq,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all,
            mentions_here,
            silent,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            sent_at_ms,
            expires_at_ms: stored.expires_at_ms,
            expired: false,
            changes: Changes::default(),
        })
    }
}
