//! What a member wants to add to a chat's log, whichever command it came by.

use std::collections::BTreeSet;

use contracts::{
    ChatId, ErrorCode, FileId, MessageKey, UserId,
    event::{EntryKind, Forwarded, Role, SeqRange, Source},
    wire::{
        Ack, Attachment, Changes, Delete, DeleteRange, Edit, Forward, MAX_ATTACHMENTS, MAX_BODY_BYTES,
        MAX_DELETE_RANGE, MAX_EDITS, MAX_EMOJI_BYTES, MAX_MENTIONS, MAX_REACTIONS, Message, Pin, React, Send,
    },
};
use kit::{catalog::ENTRY_BYTES, text::is_emoji};

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
    /// Whose messages the deletion of a range is about, as far as it is said.
    pub(crate) subject: Option<UserId>,
    pub(crate) mentions: Vec<UserId>,
    pub(crate) mention_roles: Vec<Role>,
    pub(crate) mentions_all: bool,
    pub(crate) mentions_here: bool,
    pub(crate) silent: bool,
    /// The files that it carries. Of those of a send no more than the ids is known until they are looked up.
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) forwarded: Option<Forwarded>,
    /// The message that it repeats.
    pub(crate) source: Option<Source>,
    pub(crate) range: Option<SeqRange>,
    /// What answers its sender.
    pub(crate) ack: Ack,
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
        let Send {
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
        } = send;
        Self {
            body,
            target_seq: reply_to,
            mentions,
            mention_roles,
            mentions_all: mention_all,
            mentions_here: mention_here,
            silent,
            attachments: attachments.into_iter().map(Attachment::unknown).collect(),
            ack,
            ..Self::plain(chat, key, EntryKind::Text)
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

impl From<DeleteRange> for Draft {
    fn from(DeleteRange { chat, key, from_seq, to_seq, sender }: DeleteRange) -> Self {
        Self {
            subject: sender,
            range: Some(SeqRange { from_seq, to_seq }),
            ..Self::plain(chat, key, EntryKind::DeleteRange)
        }
    }
}

impl From<React> for Draft {
    fn from(React { chat, key, seq, emoji, remove }: React) -> Self {
        let kind = if remove { EntryKind::ReactionRemoved } else { EntryKind::Reaction };
        // However it was typed, it is one reaction.
        let emoji = kit::text::emoji(&emoji).unwrap_or(emoji);
        Self { body: emoji, ..Self::about(chat, key, seq, kind) }
    }
}

impl From<Pin> for Draft {
    fn from(Pin { chat, key, seq, remove }: Pin) -> Self {
        Self::about(chat, key, seq, if remove { EntryKind::Unpin } else { EntryKind::Pin })
    }
}

impl Draft {
    /// Returns an entry that says nothing beside its kind.
    const fn plain(chat: ChatId, key: MessageKey, kind: EntryKind) -> Self {
        Self {
            chat,
            key,
            kind,
            body: String::new(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            source: None,
            range: None,
            ack: Ack::Accepted,
        }
    }

    fn about(chat: ChatId, key: MessageKey, seq: i64, kind: EntryKind) -> Self {
        Self { target_seq: Some(seq), ..Self::plain(chat, key, kind) }
    }

    /// Returns the text of a message that a member forwards, with the files that it carries. One that cannot be forwarded any more has neither: it
    /// can only be the repetition of what is stored.
    pub(crate) fn forwarded(forward: &Forward, message: Message) -> Self {
        let Forward { chat, key, from_chat, from_seq } = *forward;
        let Message { sender, sent_at_ms, forwarded, body, attachments, .. } = message;
        Self {
            body,
            attachments,
            forwarded: Some(forwarded.unwrap_or(Forwarded { sender, sent_at_ms })),
            source: Some(Source { chat: from_chat, seq: from_seq }),
            ..Self::plain(chat, key, EntryKind::Text)
        }
    }

    /// Refuses what no chat takes.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let invalid = |detail: &str| Err(Refusal::new(ErrorCode::InvalidArgument, detail.to_owned()));
        match (self.kind, self.body.len()) {
            (EntryKind::Text, 0) if self.source.is_some() || !self.attachments.is_empty() => {}
            (EntryKind::Text, 0) => return invalid("a message has a body or attachments"),
            (EntryKind::Edit, 0) => return invalid("an edit has a body"),
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
        if self.mention_roles.contains(&Role::Member) {
            return invalid("mention_roles has owner and admin: mention_all calls every member");
        }
        if matches!(self.mention_roles.as_slice(), [_, _, _, ..]) || is_twice(&self.mention_roles) {
            return invalid("mention_roles has each role once");
        }
        if self.attachments.len() > MAX_ATTACHMENTS {
            return invalid(&format!("a message carries at most {MAX_ATTACHMENTS} files"));
        }
        let ids: BTreeSet<FileId> = self.attachments.iter().map(|of| of.file).collect();
        // What is forwarded was checked when it was sent.
        if ids.len() < self.attachments.len() {
            return invalid("attachments has each file once");
        }
        if let Some(range) = self.range
            && (range.from_seq < 1 || !(1..=MAX_DELETE_RANGE).contains(&range.len()))
        {
            let detail =
                format!("from_seq is 1 or more, and to_seq ends a range of 1 to {MAX_DELETE_RANGE} entries");
            return invalid(&detail);
        }
        match self.target_seq {
            Some(..=0) => invalid("a message has a seq of 1 or more"),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether it is a text that speaks of no message, calls nobody by name or role and carries no files of the sender: nothing has to
    /// be looked up for it.
    pub(crate) fn stands_alone(&self) -> bool {
        self.kind == EntryKind::Text && self.target_seq.is_none() && !self.calls() && !self.brings_files()
    }

    /// Returns whether it carries files that have to be looked up. What is known of those of a forwarded message came with it.
    pub(crate) fn brings_files(&self) -> bool {
        !self.attachments.is_empty() && self.source.is_none()
    }

    /// Returns whether it calls users by name or by their role.
    pub(crate) fn calls(&self) -> bool {
        !self.mentions.is_empty() || !self.mention_roles.is_empty()
    }

    /// Returns for how many bytes of text it counts.
    pub(crate) fn bytes(&self) -> usize {
        counted_bytes(&self.body, self.attachments.len(), self.range)
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

/// Returns for how many bytes of text an entry counts beside itself: each file that it carries for as much as an entry, and the deletion of a
/// range for as much as the entries of the range.
pub(crate) fn counted_bytes(body: &str, files: usize, range: Option<SeqRange>) -> usize {
    let entries = range.map_or(0, |range| range.len().min(MAX_DELETE_RANGE)).saturating_add(files as u64);
    body.len() + usize::try_from(entries * u64::from(ENTRY_BYTES)).unwrap_or(usize::MAX)
}

fn is_twice(roles: &[Role]) -> bool {
    matches!(roles, [one, other] if one == other)
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
        Send::text(CHAT, KEY, body)
    }

    fn react(emoji: &str) -> React {
        React { chat: CHAT, key: KEY, seq: 1, emoji: emoji.into(), remove: false }
    }

    fn check(draft: impl Into<Draft>, expected: Result<(), ErrorCode>) {
        let draft = draft.into();
        assert_eq!(draft.check().map_err(|refusal| refusal.code), expected, "{draft:?}");
    }

    fn message(changes: Changes) -> Message {
        Message {
            chat: CHAT,
            seq: 1,
            sender: ANN,
            key: KEY,
            kind: EntryKind::Text,
            body: "hi".into(),
            subject: None,
            target_seq: None,
            mentions: vec![],
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            sent_at_ms: 5,
            expires_at_ms: None,
            expired: false,
            changes,
        }
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
        check(Send { mention_roles: vec![Role::Owner, Role::Admin], ..send("x") }, Ok(()));
        let files = |ids: std::ops::Range<u128>| ids.map(|n| FileId(Uuid::from_u128(n))).collect::<Vec<_>>();
        check(Send { attachments: files(0..1), ..send("") }, Ok(()));
        check(Send { attachments: files(0..10), ..send("x") }, Ok(()));
        check(Send { attachments: files(0..11), ..send("x") }, Err(InvalidArgument));
        check(Send { attachments: [files(0..2), files(1..2)].concat(), ..send("x") }, Err(InvalidArgument));
        for roles in [vec![Role::Member], vec![Role::Admin; 2], vec![Role::Owner, Role::Admin, Role::Owner]] {
            check(Send { mention_roles: roles, ..send("x") }, Err(InvalidArgument));
        }
        let range = |from_seq, to_seq| DeleteRange { chat: CHAT, key: KEY, from_seq, to_seq, sender: None };
        check(range(1, 1), Ok(()));
        check(range(7, 106), Ok(()));
        for (from_seq, to_seq) in [(7, 107), (0, 1), (2, 1), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            check(range(from_seq, to_seq), Err(InvalidArgument));
        }
        check(Edit { chat: CHAT, key: KEY, seq: 1, body: String::new() }, Err(InvalidArgument));
        check(Edit { chat: CHAT, key: KEY, seq: 1, body: "x".repeat(MAX_BODY_BYTES + 1) }, Err(TooLarge));
        check(Delete { chat: CHAT, key: KEY, seq: -1 }, Err(InvalidArgument));
        check(react("\u{1f44d}"), Ok(()));
        check(React { remove: true, ..react("\u{1f44d}") }, Ok(()));
        for typed in ["\u{2764}", "\u{2764}\u{fe0f}"] {
            assert_eq!(Draft::from(react(typed)).body, "\u{2764}\u{fe0f}", "{typed:?} is one reaction");
            check(react(typed), Ok(()));
        }
        for text in ["", "+1", "\u{1f44d}\u{1f44d}", &"\u{1f44d}\u{200d}".repeat(20)] {
            check(react(text), Err(InvalidArgument));
        }
    }

    #[test]
    fn a_forwarded_text_names_who_wrote_it_first() {
        let forward = Forward { chat: CHAT, key: KEY, from_chat: ChatId(Uuid::from_u128(9)), from_seq: 4 };
        let first = Draft::forwarded(&forward, message(Changes::default()));
        let of_ann = Some(Forwarded { sender: ANN, sent_at_ms: 5 });
        assert_eq!((first.body.as_str(), first.forwarded), ("hi", of_ann));
        assert_eq!(first.source, Some(Source { chat: forward.from_chat, seq: 4 }));
        let again = Message { sender: BEN, sent_at_ms: 8, forwarded: of_ann, ..message(Changes::default()) };
        assert_eq!(Draft::forwarded(&forward, again).forwarded, of_ann);
        check(
            Draft::forwarded(&forward, Message { body: String::new(), ..message(Changes::default()) }),
            Ok(()),
        );
    }

    #[test]
    fn files_are_looked_up_once_and_come_along_with_what_is_forwarded() {
        let file = FileId(Uuid::from_u128(8));
        let draft = Draft::from(Send { attachments: vec![file], ..send("") });
        assert_eq!(draft.attachments, [Attachment::unknown(file)]);
        assert!(draft.brings_files() && !draft.stands_alone());
        assert_eq!(draft.bytes(), 256);
        let known = Attachment { name: "a.txt".into(), size: 3, ..Attachment::unknown(file) };
        let forward = Forward { chat: CHAT, key: KEY, from_chat: ChatId(Uuid::from_u128(9)), from_seq: 4 };
        let message = Message { attachments: vec![known.clone()], ..message(Changes::default()) };
        let again = Draft::forwarded(&forward, message);
        assert_eq!(again.attachments, [known]);
        assert!(!again.brings_files() && again.stands_alone());
    }

    #[test]
    fn the_deletion_of_a_range_counts_as_its_entries() {
        let range = |to_seq| DeleteRange { chat: CHAT, key: KEY, from_seq: 1, to_seq, sender: None };
        assert_eq!(Draft::from(range(10)).bytes(), 2_560);
        assert_eq!(Draft::from(range(i64::MAX)).bytes(), 25_600);
        assert_eq!(Draft::from(send("hi")).bytes(), 2);
    }

    #[test]
    fn who_may_change_a_message_depends_on_it() {
        let target = message;
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
