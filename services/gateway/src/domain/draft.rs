//! What a member wants to add to a chat's log, whichever command it came by.

use contracts::{
    ChatId, ErrorCode, MessageKey, UserId,
    event::EntryKind,
    wire::{
        Changes, Delete, Edit, MAX_BODY_BYTES, MAX_EDITS, MAX_EMOJI_BYTES, MAX_MENTIONS, MAX_REACTIONS,
        Message, Pin, React, Send,
    },
};
use kit::text::is_emoji;

use super::answer::Refusal;

/// An entry that is not checked yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) chat: ChatId,
    pub(crate) key: MessageKey,
    pub(crate) kind: EntryKind,
    pub(crate) body: String,
    /// The message that it speaks of.
    pub(crate) target_seq: Option<i64>,
    pub(crate) mentions: Vec<UserId>,
    pub(crate) mentions_all: bool,
}

/// What an entry may not do to the message that it speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocker {
    /// It is no text, or deleted.
    NoTarget,
    /// Another user wrote it; who moderates the chat may delete it nevertheless.
    NotTheirs,
    /// The message is so already: its sender reacts so, or does not, or it is pinned, or is not.
    NoChange,
    /// It has as many edits or different reactions as it may have.
    TooManyChanges,
}

impl From<Send> for Draft {
    fn from(send: Send) -> Self {
        let Send { chat, key, body, reply_to, mentions, mention_all } = send;
        Self {
            chat,
            key,
            kind: EntryKind::Text,
            body,
            target_seq: reply_to,
            mentions,
            mentions_all: mention_all,
        }
    }
}

impl From<Edit> for Draft {
    fn from(Edit { chat, key, seq, body }: Edit) -> Self {
        Self { body, ..Self::about(chat, key, seq, EntryKind::Edit) }
    }
}

impl From<Delete> for Draft {
    fn from(Delete { chat, key, seq }: Delete) -> Self {
        Self::about(chat, key, seq, EntryKind::Delete)
    }
}

impl From<React> for Draft {
    fn from(React { chat, key, seq, emoji, remove }: React) -> Self {
        let kind = if remove { EntryKind::ReactionRemoved } else { EntryKind::Reaction };
        Self { body: emoji, ..Self::about(chat, key, seq, kind) }
    }
}

impl From<Pin> for Draft {
    fn from(Pin { chat, key, seq, remove }: Pin) -> Self {
        Self::about(chat, key, seq, if remove { EntryKind::Unpin } else { EntryKind::Pin })
    }
}

impl Draft {
    const fn about(chat: ChatId, key: MessageKey, seq: i64, kind: EntryKind) -> Self {
        Self {
            chat,
            key,
            kind,
            body: String::new(),
            target_seq: Some(seq),
            mentions: Vec::new(),
            mentions_all: false,
        }
    }

    /// Refuses what no chat takes.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: &str| Err(Refusal::new(ErrorCode::InvalidArgument, detail.to_owned()));
        match (self.kind, self.body.len()) {
            (EntryKind::Text | EntryKind::Edit, 0) => return invalid("a message has a body"),
            (EntryKind::Text | EntryKind::Edit, bytes) if bytes > MAX_BODY_BYTES => {
                let detail = format!("a body has at most {MAX_BODY_BYTES} bytes");
                return Err(Refusal::new(ErrorCode::TooLarge, detail));
            }
            (EntryKind::Reaction | EntryKind::ReactionRemoved, bytes)
                if bytes > MAX_EMOJI_BYTES || !is_emoji(&self.body) =>
            {
                return invalid("emoji must be one emoji");
            }
            _ => {}
        }
        if self.mentions.len() > MAX_MENTIONS {
            return invalid(&format!("a message mentions at most {MAX_MENTIONS} users by name"));
        }
        match self.target_seq {
            Some(..=0) => invalid("a message has a seq of 1 or more"),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether who moderates the chat may do this to what others wrote.
    pub(crate) const fn may_moderate(&self) -> bool {
        matches!(self.kind, EntryKind::Delete)
    }

    /// Returns what blocks this entry of `sender` about a message, as the message is now. The log decides again:
    /// it may be deleted meanwhile.
    pub(crate) fn blocker(&self, sender: UserId, target: &Message) -> Option<Blocker> {
        let Changes { deleted_seq, pinned_seq, reactions, .. } = &target.changes;
        if target.kind != EntryKind::Text || deleted_seq.is_some() || target.expired {
            return Some(Blocker::NoTarget);
        }
        let is_own = target.sender == sender;
        match self.kind {
            EntryKind::Edit | EntryKind::Delete if !is_own => Some(Blocker::NotTheirs),
            EntryKind::Reaction | EntryKind::ReactionRemoved
                if reactions.iter().any(|of| of.own && of.emoji == self.body)
                    == (self.kind == EntryKind::Reaction) =>
            {
                Some(Blocker::NoChange)
            }
            EntryKind::Pin | EntryKind::Unpin if pinned_seq.is_some() == (self.kind == EntryKind::Pin) => {
                Some(Blocker::NoChange)
            }
            EntryKind::Edit if target.changes.edits >= MAX_EDITS => Some(Blocker::TooManyChanges),
            EntryKind::Reaction
                if reactions.len() >= MAX_REACTIONS && reactions.iter().all(|of| of.emoji != self.body) =>
            {
                Some(Blocker::TooManyChanges)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::wire::Reactions;
    use uuid::Uuid;

    use super::*;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));
    const KEY: MessageKey = MessageKey(Uuid::from_u128(2));
    const ANN: UserId = UserId(Uuid::from_u128(3));
    const BEN: UserId = UserId(Uuid::from_u128(4));

    fn send(body: &str) -> Send {
        Send { chat: CHAT, key: KEY, body: body.into(), reply_to: None, mentions: vec![], mention_all: false }
    }

    fn react(emoji: &str) -> React {
        React { chat: CHAT, key: KEY, seq: 1, emoji: emoji.into(), remove: false }
    }

    fn check(draft: impl Into<Draft>, expected: Result<(), ErrorCode>) {
        let draft = draft.into();
        assert_eq!(draft.check().map_err(|refusal| refusal.code), expected, "{draft:?}");
    }

    #[test]
    fn what_no_chat_takes_is_refused() {
        use ErrorCode::{InvalidArgument, TooLarge};
        check(send(""), Err(InvalidArgument));
        check(send("x"), Ok(()));
        check(send(&"x".repeat(MAX_BODY_BYTES)), Ok(()));
        check(send(&"x".repeat(MAX_BODY_BYTES + 1)), Err(TooLarge));
        check(Send { mentions: vec![ANN; MAX_MENTIONS], ..send("x") }, Ok(()));
        check(Send { mentions: vec![ANN; MAX_MENTIONS + 1], ..send("x") }, Err(InvalidArgument));
        check(Send { reply_to: Some(0), ..send("x") }, Err(InvalidArgument));
        check(Edit { chat: CHAT, key: KEY, seq: 1, body: String::new() }, Err(InvalidArgument));
        check(Edit { chat: CHAT, key: KEY, seq: 1, body: "x".repeat(MAX_BODY_BYTES + 1) }, Err(TooLarge));
        check(Delete { chat: CHAT, key: KEY, seq: -1 }, Err(InvalidArgument));
        check(react("\u{1f44d}"), Ok(()));
        check(React { remove: true, ..react("\u{1f44d}") }, Ok(()));
        for text in ["", "+1", "\u{1f44d}\u{1f44d}", &"\u{1f44d}\u{200d}".repeat(20)] {
            check(react(text), Err(InvalidArgument));
        }
    }

    #[test]
    fn who_may_change_a_message_depends_on_it() {
        let target = |changes: Changes| Message {
            chat: CHAT,
            seq: 1,
            sender: ANN,
            key: KEY,
            kind: EntryKind::Text,
            body: "hi".into(),
            subject: None,
            target_seq: None,
            mentions: vec![],
            mentions_all: false,
            sent_at_ms: 0,
            expires_at_ms: None,
            expired: false,
            changes,
        };
        let check = |draft: Draft, sender: UserId, target: &Message, expected: Option<Blocker>| {
            assert_eq!(draft.blocker(sender, target), expected, "{draft:?} of {sender}");
        };
        let edit = || Draft::from(Edit { chat: CHAT, key: KEY, seq: 1, body: "ho".into() });
        let delete = || Draft::from(Delete { chat: CHAT, key: KEY, seq: 1 });
        let fresh = target(Changes::default());
        check(edit(), ANN, &fresh, None);
        check(edit(), BEN, &fresh, Some(Blocker::NotTheirs));
        check(delete(), BEN, &fresh, Some(Blocker::NotTheirs));
        check(react("\u{1f44d}").into(), BEN, &fresh, None);
        check(Send { reply_to: Some(1), ..send("x") }.into(), BEN, &fresh, None);

        let deleted = target(Changes { deleted_seq: Some(2), ..Changes::default() });
        for draft in [edit(), delete(), react("\u{1f44d}").into()] {
            check(draft, ANN, &deleted, Some(Blocker::NoTarget));
        }
        let mut expired = Message { expires_at_ms: Some(5), ..fresh.clone() };
        expired.expire(4);
        check(edit(), ANN, &expired, None);
        expired.expire(5);
        check(edit(), ANN, &expired, Some(Blocker::NoTarget));
        let joined = Message { kind: EntryKind::MemberAdded, ..fresh };
        check(edit(), ANN, &joined, Some(Blocker::NoTarget));

        let edited = target(Changes { edits: MAX_EDITS, ..Changes::default() });
        check(edit(), ANN, &edited, Some(Blocker::TooManyChanges));
        let reactions = |n: usize| Reactions { emoji: n.to_string(), count: 1, own: false, users: vec![] };
        let mut reactions: Vec<_> = (1..MAX_REACTIONS).map(reactions).collect();
        reactions.push(Reactions { emoji: "\u{1f44d}".into(), count: 1, own: false, users: vec![] });
        let popular = target(Changes { reactions, ..Changes::default() });
        check(react("\u{1f44d}").into(), BEN, &popular, None);
        check(react("\u{2764}").into(), BEN, &popular, Some(Blocker::TooManyChanges));

        let take_back = || Draft::from(React { remove: true, ..react("\u{1f44d}") });
        check(take_back(), BEN, &popular, Some(Blocker::NoChange));
        let own = Reactions { emoji: "\u{1f44d}".into(), count: 1, own: true, users: vec![] };
        let reacted = target(Changes { reactions: vec![own], ..Changes::default() });
        check(take_back(), BEN, &reacted, None);
        check(react("\u{1f44d}").into(), BEN, &reacted, Some(Blocker::NoChange));

        let pin = |remove| Draft::from(Pin { chat: CHAT, key: KEY, seq: 1, remove });
        let pinned = target(Changes { pinned_seq: Some(2), ..Changes::default() });
        check(pin(false), BEN, &pinned, Some(Blocker::NoChange));
        check(pin(true), BEN, &pinned, None);
        check(pin(false), BEN, &reacted, None);
        check(pin(true), BEN, &reacted, Some(Blocker::NoChange));
    }
}
