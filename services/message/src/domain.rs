//! The sequencer: what becomes of the records of a chat's log. Pure; it knows neither Kafka nor CQL.
//!
//! Invariant: a verdict is a function of the chat's log alone. It is computed from the head of the chat, the key rows
//! and the standings of users, all of which are themselves functions of the log, so a replay from any earlier point
//! and a second owner at the same time write byte-equal rows.

mod change;
mod cursor;
mod mark;
mod newest;
mod record;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{self, DeliveredRecord, DeliveryOutcome, EntryKind, Forwarded, LogPlace, Role, SeqRange, Source},
    wire::Attachment,
};
use sha2::{Digest as _, Sha256};

pub use change::{Overwrite, Patch, Pins, ReactionId, Target, TargetId};
pub use cursor::{Base, Cursor, InvalidCursor, Place, digest};
pub use mark::{Marks, Point};
pub use newest::NewestKey;
pub use record::{Logged, RawRecord, RecordHash, Refused, read_record};

/// Messages per store partition: 8192 of at most 16 kB, in practice some megabytes.
pub const BUCKET_SIZE: i64 = 8192;

/// A clock of the log that steps back by at most this much is one that is set right, or back to winter time: the clock of a chat waits for
/// it. One that steps back by more was ahead by mistake, and the chat goes back with it.
const MAX_WAIT_MS: i64 = 2 * 60 * 60 * 1000;

/// Which incarnation of the topic an offset belongs to: a recreated topic starts again at offset 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(Arc<str>);

impl Generation {
    /// Names a generation; the id that Kafka gave the topic.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A place in the log. Offsets of different generations have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub generation: Generation,
    pub offset: i64,
}

/// What a chat's log amounts to, up to and including `applied`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The newest seq; 0 for a chat without messages.
    pub seq: i64,
    /// The last record that was applied, whatever its verdict.
    pub applied: Option<Position>,
    /// CQL timestamp (microseconds) of the last applied record; grows by at least 1 with each of them.
    pub stamp: i64,
    pub counts: Counts,
    /// How long after it was sent a text disappears that comes next; 0 for never.
    pub ttl_seconds: u32,
    /// When the last applied record was sent, by the chat's clock, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The newest key of a stored entry.
    pub newest_key: NewestKey,
}

impl Head {
    /// Returns when a record was sent that comes next, by the chat's clock: the log's, which does not go back a little here.
    fn clock(&self, logged_at_ms: i64) -> i64 {
        let back_ms = self.at_ms.saturating_sub(logged_at_ms);
        if (1..=MAX_WAIT_MS).contains(&back_ms) { self.at_ms } else { logged_at_ms }
    }
}

/// When an entry was sent, by the clock of its chat, and when its text disappears: milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub sent_at_ms: i64,
    /// `None` for a text that stays, and for what is no text.
    pub expires_at_ms: Option<i64>,
}

/// What of a chat's entries counts as unread, up to and including one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Texts.
    pub texts: i64,
    /// Texts that call all members.
    pub calls: i64,
}

impl Counts {
    /// Returns the counts with one more entry.
    fn with(self, entry: &Entry) -> Self {
        let is_text = entry.kind == EntryKind::Text;
        Self {
            texts: self.texts + i64::from(is_text),
            calls: self.calls + i64::from(is_text && entry.mentions_all),
        }
    }
}

/// Names a message for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId {
    pub chat: ChatId,
    pub sender: UserId,
    pub key: MessageKey,
}

/// What the store knows of a key: the message that it first named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub seq: i64,
    pub content: ContentHash,
    pub position: Position,
}

/// Names a user in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeatId {
    pub chat: ChatId,
    pub user: UserId,
}

/// What a chat's log says of a user who was removed from the chat at least once. A user who never was has no standing:
/// whether such a user is a member was decided before the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The last membership entry about the user is a removal: what the user sends is refused.
    Out,
    /// The user was added again since.
    Back,
}

/// Fingerprint of what a sender may not change under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

/// A well-formed record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    /// Milliseconds since the epoch by the log's clock; never negative.
    pub logged_at_ms: i64,
    pub chat: ChatId,
    pub sender: UserId,
    pub device: DeviceId,
    pub key: MessageKey,
    pub kind: EntryKind,
    pub body: String,
    pub subject: Option<UserId>,
    pub target_seq: Option<i64>,
    /// The members whom a text calls, by name or by role.
    pub mentions: Vec<UserId>,
    pub mention_roles: Vec<Role>,
    pub mentions_all: bool,
    pub mentions_here: bool,
    pub silent: bool,
    /// The files that a text carries.
    pub attachments: Vec<Attachment>,
    pub forwarded: Option<Forwarded>,
    /// What the deletion of a range is about.
    pub range: Option<SeqRange>,
    /// Whether the sender may delete what others wrote.
    pub moderates: bool,
    /// Whether no member but `subject` receives it.
    pub subject_only: bool,
    /// The entry with which the history of the sender begins, when that is for the log to compare.
    pub reads_from: Option<KeyId>,
    pub content: ContentHash,
}

impl Entry {
    pub fn key_id(&self) -> KeyId {
        KeyId { chat: self.chat, sender: self.sender, key: self.key }
    }

    /// Returns the user whose standing this entry depends on: the sender of what a device sent, the subject of a change of
    /// members.
    pub fn seat_id(&self) -> Option<SeatId> {
        let user = match self.kind {
            kind if kind.is_from_device() => Some(self.sender),
            kind if kind.is_membership() => self.subject,
            _ => None,
        };
        user.map(|user| SeatId { chat: self.chat, user })
    }

    /// Returns the message that this entry speaks of.
    pub fn target_id(&self) -> Option<TargetId> {
        self.target_seq.map(|seq| TargetId { chat: self.chat, seq })
    }

    /// Returns the messages that this entry may change as entry `seq`: the one that it speaks of, or those of its range.
    pub fn target_ids(&self, seq: i64) -> impl Iterator<Item = TargetId> + use<> {
        let chat = self.chat;
        let range = self.range.map_or(0..0, |range| range.before(seq));
        self.target_seq.into_iter().chain(range).map(move |seq| TargetId { chat, seq })
    }

    /// Returns whether it may change which messages are pinned.
    pub fn is_about_pins(&self) -> bool {
        matches!(self.kind, EntryKind::Pin | EntryKind::Unpin | EntryKind::Delete | EntryKind::DeleteRange)
    }

    /// Returns after how many seconds texts disappear that come behind this entry, when it says so. Only the chat service writes such an entry.
    fn sets_ttl(&self) -> Option<u32> {
        (self.kind == EntryKind::TtlChanged).then(|| self.body.parse().unwrap_or(0))
    }

    /// Returns the reaction that this entry makes or takes back.
    pub fn reaction_id(&self) -> Option<ReactionId> {
        let is_reaction = matches!(self.kind, EntryKind::Reaction | EntryKind::ReactionRemoved);
        let target = self.target_id().filter(|_| is_reaction)?;
        Some(ReactionId { target, user: self.sender, emoji: self.body.clone() })
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is entry `seq`; its rows are written with `stamp`, then it is announced. `effect` is what it changes beside them.
    /// `counts` are those up to and including it.
    Store { seq: i64, stamp: i64, counts: Counts, effect: Option<Effect>, times: Times },
    /// It is message `seq` and its rows are durable since an earlier run: it is only announced again.
    Announce { seq: i64 },
    /// It repeats message `seq`.
    Repeated { seq: i64 },
    /// Its key names a message with other content.
    Conflict,
    /// Its sender was removed from the chat before it.
    SenderOut,
    /// The message that it speaks of is not one that its sender may speak of so: there is none, it is deleted, it is
    /// another user's, or the sender reacts so already. A sender who was removed from the chat gets the same for an entry that speaks of another, because a
    /// replay cannot tell which of the two it was.
    NoTarget,
}

/// What an entry changes in rows that are kept by seq, so that each is known as of any seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What its subject has from here on, when that is another than before.
    Standing(Standing),
    /// Whether its sender reacts with this emoji from here on.
    Reacts(bool),
}

impl Verdict {
    /// Returns what is published to the gateways about an entry of a partition. Of one that is announced again the row has the times.
    pub fn announcement(self, entry: &Entry, partition: i32, times: Times) -> DeliveredRecord {
        let outcome = match self {
            Self::Store { seq, .. } | Self::Announce { seq } => DeliveryOutcome::Stored {
                seq,
                kind: entry.kind,
                body: entry.body.clone(),
                subject: entry.subject,
                target_seq: entry.target_seq,
                mentions: entry.mentions.clone(),
                mention_roles: entry.mention_roles.clone(),
                mentions_all: entry.mentions_all,
                mentions_here: entry.mentions_here,
                silent: entry.silent,
                attachments: entry.attachments.clone(),
                forwarded: entry.forwarded,
                range: entry.range,
                sent_at_ms: times.sent_at_ms,
                subject_only: entry.subject_only,
                expires_at_ms: times.expires_at_ms,
                place: Some(LogPlace { partition, offset: entry.offset }),
            },
            Self::Repeated { seq } => DeliveryOutcome::Repeated { seq },
            Self::Conflict => DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict },
            Self::SenderOut => DeliveryOutcome::Rejected { code: ErrorCode::NotAMember },
            Self::NoTarget => DeliveryOutcome::Rejected { code: ErrorCode::NotFound },
        };
        DeliveredRecord {
            v: event::VERSION,
            chat: entry.chat,
            sender: entry.sender,
            device: entry.device,
            key: entry.key,
            outcome,
        }
    }
}

/// The store and the log disagree in a way that no crash can leave behind: rows were lost, or the topic was
/// recreated under its old generation. An operator has to decide; going on would assign a seq twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    #[error("offset {offset} of chat {chat} counts as applied and has no key row")]
    AppliedWithoutKey { chat: ChatId, offset: i64 },
    #[error("offset {offset} of chat {chat} has its key from the later offset {found}")]
    KeyFromLater { chat: ChatId, offset: i64, found: i64 },
    #[error("offset {offset} of chat {chat} was seq {found} and would now be seq {expected}")]
    SeqMoved { chat: ChatId, offset: i64, found: i64, expected: i64 },
}

/// What the store says of the chats of a batch, beside the keys. It is moved past the batch.
#[derive(Debug, Default)]
pub struct Chats {
    /// A head for every chat of the batch.
    pub heads: HashMap<ChatId, Head>,
    /// The standings at these heads of the users whom the batch depends on.
    pub standings: HashMap<SeatId, Standing>,
    /// The messages that the batch speaks of, and what a deleted reply replied to. They may be ahead of the heads.
    pub targets: HashMap<TargetId, Target>,
    /// What is pinned in the chats of the batch where it changes that. It may be ahead of the heads.
    pub pins: HashMap<ChatId, Pins>,
    /// Whether there was each reaction of the batch, at these heads.
    pub reactions: HashMap<ReactionId, bool>,
}

/// What a batch comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// Of each entry, in its order.
    pub verdicts: Vec<Verdict>,
    /// What is written over messages of before.
    pub overwrites: Vec<Overwrite>,
}

/// Decides the entries of one batch in log order.
///
/// `known` holds the key rows that the store had before the batch, those of the entries with which histories begin among them. After an error `chats` are partly moved: drop them.
pub fn sequence<'a>(
    generation: &Generation,
    chats: &mut Chats,
    mut known: HashMap<KeyId, KnownKey>,
    entries: impl IntoIterator<Item = &'a Entry, IntoIter: Clone>,
) -> Result<Sequenced, Contradiction> {
    let entries = entries.into_iter();
    let wanted: HashSet<TargetId> = entries.clone().flat_map(|entry| entry.target_ids(i64::MAX)).collect();
    let mut bodies = Vec::new();
    let mut verdicts = Vec::new();
    for entry in entries {
        let verdict = decide(generation, chats, &known, entry)?;
        if let Verdict::Store { seq, stamp, effect, times, .. } = verdict {
            let position = Position { generation: generation.clone(), offset: entry.offset };
            known.insert(entry.key_id(), KnownKey { seq, content: entry.content, position });
            chats.note(entry, effect);
            bodies.extend(change::apply(chats, &wanted, entry, (seq, stamp), times));
        }
        verdicts.push(verdict);
    }
    let overwrites = bodies.into_iter().chain(change::patches(chats)).collect();
    Ok(Sequenced { verdicts, overwrites })
}

impl Chats {
    fn note(&mut self, entry: &Entry, effect: Option<Effect>) {
        match effect {
            Some(Effect::Standing(standing)) => {
                if let Some(seat) = entry.seat_id() {
                    self.standings.insert(seat, standing);
                }
            }
            Some(Effect::Reacts(reacts)) => {
                if let Some(reaction) = entry.reaction_id() {
                    self.reactions.insert(reaction, reacts);
                }
            }
            None => {}
        }
    }

    /// Returns when the text of an entry that is stored disappears: by the time at which it was sent and what holds for texts at its place,
    /// or, of an edit, with the message that it changes.
    fn expiry(&self, entry: &Entry, sent_at_ms: i64, ttl_seconds: u32) -> Option<i64> {
        match entry.kind {
            EntryKind::Text if ttl_seconds > 0 => {
                Some(sent_at_ms.saturating_add(i64::from(ttl_seconds) * 1000))
            }
            EntryKind::Edit => self.targets.get(&entry.target_id()?)?.times.expires_at_ms,
            _ => None,
        }
    }

    /// Returns what an entry that is stored changes.
    fn effect(&self, entry: &Entry) -> Option<Effect> {
        let before = entry.seat_id().and_then(|seat| self.standings.get(&seat).copied());
        match entry.kind {
            EntryKind::MemberRemoved => {
                (before != Some(Standing::Out)).then_some(Effect::Standing(Standing::Out))
            }
            // A user who never left needs no row.
            EntryKind::MemberAdded => {
                (before == Some(Standing::Out)).then_some(Effect::Standing(Standing::Back))
            }
            EntryKind::Reaction | EntryKind::ReactionRemoved => {
                Some(Effect::Reacts(entry.kind == EntryKind::Reaction))
            }
            EntryKind::Text
            | EntryKind::Edit
            | EntryKind::Delete
            | EntryKind::DeleteRange
            | EntryKind::Pin
            | EntryKind::Unpin
            | EntryKind::RoleChanged
            | EntryKind::TitleChanged
            | EntryKind::TopicChanged
            | EntryKind::AvatarChanged
            | EntryKind::SlowModeChanged
            | EntryKind::TtlChanged => None,
        }
    }
}

fn decide(
    generation: &Generation,
    chats: &mut Chats,
    all_known: &HashMap<KeyId, KnownKey>,
    entry: &Entry,
) -> Result<Verdict, Contradiction> {
    let known = all_known.get(&entry.key_id());
    let (chat, offset) = (entry.chat, entry.offset);
    let here = |known: &KnownKey| known.position.generation == *generation && known.position.offset == offset;
    let later = |known: &KnownKey| known.position.generation == *generation && known.position.offset > offset;
    let head = chats.heads.entry(chat).or_default().clone();
    let replayed = head
        .applied
        .as_ref()
        .is_some_and(|applied| applied.generation == *generation && offset <= applied.offset);
    let sent_at_ms = head.clock(entry.logged_at_ms);
    // A refused record leaves no key row: the key is free, and a sender who is back may have used it since.
    let place = (head.seq + 1, sent_at_ms);
    let refuse = || match reads_target(entry, all_known) {
        true => chats.refusal(entry, place, replayed),
        false => Some(Verdict::NoTarget),
    };
    let refusal = known.is_none_or(later).then(refuse).flatten();
    if let Some(known) = known
        && later(known)
        && refusal.is_none()
    {
        return Err(Contradiction::KeyFromLater { chat, offset, found: known.position.offset });
    }
    if replayed {
        return match (refusal, known) {
            (Some(refusal), _) => Ok(refusal),
            (None, None) => Err(Contradiction::AppliedWithoutKey { chat, offset }),
            (None, Some(known)) if here(known) => Ok(Verdict::Announce { seq: known.seq }),
            (None, Some(known)) => Ok(resend(known, entry)),
        };
    }

    // Also a repeated or refused entry moves the stamp: two different heads never share one.
    let stamp = (entry.logged_at_ms.saturating_mul(1000)).max(head.stamp + 1);
    let verdict = match (refusal, known) {
        // Whether a record of a removed user came before the removal is known to the log alone.
        (Some(refusal), _) => refusal,
        // A key that this very record wrote: a crash came between its rows and the head. The rows may be half
        // written, so they are written again.
        (None, Some(known)) if here(known) && known.seq != head.seq + 1 => {
            let (found, expected) = (known.seq, head.seq + 1);
            return Err(Contradiction::SeqMoved { chat, offset, found, expected });
        }
        (None, Some(known)) if !here(known) => resend(known, entry),
        (None, Some(_) | None) => {
            let counts = head.counts.with(entry);
            let times =
                Times { sent_at_ms, expires_at_ms: chats.expiry(entry, sent_at_ms, head.ttl_seconds) };
            Verdict::Store { seq: head.seq + 1, stamp, counts, effect: chats.effect(entry), times }
        }
    };
    let (seq, counts, ttl_seconds, newest_key) = match verdict {
        Verdict::Store { seq, counts, .. } => {
            let ttl_seconds = entry.sets_ttl().unwrap_or(head.ttl_seconds);
            (seq, counts, ttl_seconds, head.newest_key.with(entry.key))
        }
        _ => (head.seq, head.counts, head.ttl_seconds, head.newest_key),
    };
    let applied = Some(Position { generation: generation.clone(), offset });
    let at_ms = sent_at_ms;
    chats.heads.insert(chat, Head { seq, applied, stamp, counts, ttl_seconds, at_ms, newest_key });
    Ok(verdict)
}

impl Chats {
    /// Returns whether an entry makes a reaction that is there, or takes back one that is not. Every one that is stored counts, so
    /// that clients need not know all users who react.
    fn is_idle(&self, entry: &Entry) -> bool {
        let Some(reaction) = entry.reaction_id() else { return false };
        self.reactions.get(&reaction).copied().unwrap_or_default() == (entry.kind == EntryKind::Reaction)
    }

    /// Returns why an entry without a key row is not stored. The place is the seq and the time that it would have, unless it is replayed: then
    /// the standings and targets are those of later, and what may have been refused was, or it had a key row.
    fn refusal(&self, entry: &Entry, (seq, at_ms): (i64, i64), replayed: bool) -> Option<Verdict> {
        if !entry.kind.is_from_device() {
            return None;
        }
        let standing = entry.seat_id().and_then(|seat| self.standings.get(&seat).copied());
        let is_out = if replayed { standing.is_some() } else { standing == Some(Standing::Out) };
        match entry.target_id() {
            Some(_) if replayed || is_out => Some(Verdict::NoTarget),
            Some(target) => {
                let target = self.targets.get(&target).filter(|_| target.seq < seq);
                let may = target.is_some_and(|target| target.takes(entry, seq, at_ms));
                (!may || self.is_idle(entry)).then_some(Verdict::NoTarget)
            }
            None => is_out.then_some(Verdict::SenderOut),
        }
    }
}

/// Returns whether the sender reads the message that an entry speaks of, as far as that was not decided before the log. The entry with which a
/// history begins comes before all that its reader sends, so a replay knows its seq too.
fn reads_target(entry: &Entry, known: &HashMap<KeyId, KnownKey>) -> bool {
    match (entry.reads_from, entry.target_seq) {
        (Some(beginning), Some(target)) => known.get(&beginning).is_some_and(|known| known.seq <= target),
        (Some(_), None) | (None, _) => true,
    }
}

fn resend(known: &KnownKey, entry: &Entry) -> Verdict {
    if known.content == entry.content { Verdict::Repeated { seq: known.seq } } else { Verdict::Conflict }
}

/// What a sender may not change under one key: all that was said.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub kind: EntryKind,
    pub subject: Option<UserId>,
    pub target_seq: Option<i64>,
    /// Those whom a text calls by name, members or not.
    pub mentions: &'a [UserId],
    pub mentions_all: bool,
    pub mention_roles: &'a [Role],
    pub mentions_here: bool,
    pub silent: bool,
    /// The files that a text carries, of which the ids were said and nothing else.
    pub attachments: &'a [Attachment],
    pub range: Option<SeqRange>,
    /// What a text repeats. It stands for the body and the attachments.
    pub source: Option<Source>,
    pub body: &'a str,
}

impl<'a> Content<'a> {
    /// Returns the content of an entry that has a text alone.
    pub const fn new(kind: EntryKind, body: &'a str) -> Self {
        Self {
            kind,
            subject: None,
            target_seq: None,
            mentions: &[],
            mentions_all: false,
            mention_roles: &[],
            mentions_here: false,
            silent: false,
            attachments: &[],
            range: None,
            source: None,
            body,
        }
    }

    /// Returns its fingerprint. One without the fields that came later is as it always was.
    pub fn hash(&self) -> ContentHash {
        let is_plain = self.target_seq.is_none() && self.mentions.is_empty() && !self.mentions_all;
        let has_more = self.silent
            || self.mentions_here
            || !self.mention_roles.is_empty()
            || self.range.is_some()
            || self.source.is_some();
        let attachments = if self.source.is_none() { self.attachments } else { &[] };
        let has_files = !attachments.is_empty();
        let mut hash = Sha256::new();
        hash.update(self.kind.as_str());
        hash.update([u8::from(!is_plain) | u8::from(has_more) << 1 | u8::from(has_files) << 2]);
        // The nil UUID is no user's id.
        hash.update(self.subject.map(|subject| subject.0).unwrap_or_default().as_bytes());
        if !is_plain {
            // No entry has the seq 0.
            hash.update(self.target_seq.unwrap_or_default().to_be_bytes());
            hash.update([u8::from(self.mentions_all)]);
            hash.update(self.mentions.len().to_be_bytes());
            self.mentions.iter().for_each(|user| hash.update(user.0.as_bytes()));
        }
        if has_more {
            let flags = [self.silent, self.mentions_here, self.source.is_some()];
            hash.update(flags.map(u8::from));
            hash.update(self.mention_roles.len().to_be_bytes());
            for role in self.mention_roles {
                // No role is part of another, so they need no frame.
                hash.update(role.as_str());
            }
            let SeqRange { from_seq, to_seq } = self.range.unwrap_or(SeqRange { from_seq: 0, to_seq: 0 });
            hash.update(from_seq.to_be_bytes());
            hash.update(to_seq.to_be_bytes());
            if let Some(Source { chat, seq }) = self.source {
                hash.update(chat.0.as_bytes());
                hash.update(seq.to_be_bytes());
            }
        }
        if has_files {
            hash.update(attachments.len().to_be_bytes());
            attachments.iter().for_each(|of| hash.update(of.file.0.as_bytes()));
        }
        if self.source.is_none() {
            hash.update(self.body);
        }
        ContentHash(hash.finalize().into())
    }
}

/// Returns the store partition that holds a message.
pub const fn bucket(seq: i64) -> i64 {
    seq / BUCKET_SIZE
}

/// Returns how many of the `seqs` read after `after` may be shown.
///
/// Up to `head_seq` all rows are durable. Beyond it a batch may be half written, so only what follows without a
/// gap counts: a reader must never take an unfinished write for the whole.
pub fn visible(after: i64, head_seq: i64, seqs: impl IntoIterator<Item = i64>) -> usize {
    let mut last = after;
    seqs.into_iter()
        .take_while(|&seq| {
            let shown = seq <= head_seq || seq == last.max(head_seq) + 1;
            last = seq;
            shown
        })
        .count()
}

#[cfg(test)]
mod tests;
