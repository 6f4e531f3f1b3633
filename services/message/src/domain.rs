//! The sequencer: what becomes of the records of a chat's log. Pure; it knows neither Kafka nor CQL.
//!
//! Invariant: a verdict is a function of the chat's log alone. It is computed from the head of the chat, the key rows
//! and the standings of users, all of which are themselves functions of the log, so a replay from any earlier point
//! and a second owner at the same time write byte-equal rows.

mod record;

use std::{collections::HashMap, sync::Arc};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{self, DeliveredRecord, DeliveryOutcome, EntryKind},
};
use sha2::{Digest as _, Sha256};

pub use record::{Logged, RawRecord, Refused, read_record};

/// Messages per store partition: 8192 of at most 16 kB, in practice some megabytes.
pub const BUCKET_SIZE: i64 = 8192;

/// Which incarnation of the topic an offset belongs to: a recreated topic starts again at offset 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    pub sent_at_ms: i64,
    pub chat: ChatId,
    pub sender: UserId,
    pub device: DeviceId,
    pub key: MessageKey,
    pub kind: EntryKind,
    pub body: String,
    pub subject: Option<UserId>,
    pub audience: Option<Vec<UserId>>,
    pub content: ContentHash,
}

impl Entry {
    pub fn key_id(&self) -> KeyId {
        KeyId { chat: self.chat, sender: self.sender, key: self.key }
    }

    /// Returns the user whose standing this entry depends on: the sender of a text, the subject of a change.
    pub fn seat_id(&self) -> Option<SeatId> {
        let user = match self.kind {
            EntryKind::Text => Some(self.sender),
            EntryKind::MemberAdded | EntryKind::MemberRemoved => self.subject,
        };
        user.map(|user| SeatId { chat: self.chat, user })
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is message `seq`; its rows are written with `stamp`, then it is announced. `standing` is what its subject
    /// has from here on, when that is another than before.
    Store { seq: i64, stamp: i64, standing: Option<Standing> },
    /// It is message `seq` and its rows are durable since an earlier run: it is only announced again.
    Announce { seq: i64 },
    /// It repeats message `seq`.
    Repeated { seq: i64 },
    /// Its key names a message with other content.
    Conflict,
    /// Its sender was removed from the chat before it.
    SenderOut,
}

impl Verdict {
    /// Returns what is published to the gateways about it.
    pub fn announcement(self, entry: &Entry) -> DeliveredRecord {
        let outcome = match self {
            Self::Store { seq, .. } | Self::Announce { seq } => DeliveryOutcome::Stored {
                seq,
                kind: entry.kind,
                body: entry.body.clone(),
                subject: entry.subject,
                sent_at_ms: entry.sent_at_ms,
                audience: entry.audience.clone(),
            },
            Self::Repeated { seq } => DeliveryOutcome::Repeated { seq },
            Self::Conflict => DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict },
            Self::SenderOut => DeliveryOutcome::Rejected { code: ErrorCode::NotAMember },
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

/// Decides the entries of one batch in log order.
///
/// `heads` holds a head for every chat of the batch and `standings` the standings at these heads; both are moved past
/// the batch. `known` holds the key rows that the store had before the batch. After an error `heads` and `standings` are
/// partly moved: drop them.
pub fn sequence<'a>(
    generation: &Generation,
    heads: &mut HashMap<ChatId, Head>,
    standings: &mut HashMap<SeatId, Standing>,
    mut known: HashMap<KeyId, KnownKey>,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<Vec<Verdict>, Contradiction> {
    entries
        .into_iter()
        .map(|entry| {
            let head = heads.entry(entry.chat).or_default();
            let seat = entry.seat_id();
            let standing = seat.and_then(|seat| standings.get(&seat).copied());
            let verdict = decide(generation, head, known.get(&entry.key_id()), standing, entry)?;
            if let Verdict::Store { seq, standing, .. } = verdict {
                let position = Position { generation: generation.clone(), offset: entry.offset };
                known.insert(entry.key_id(), KnownKey { seq, content: entry.content, position });
                if let Some((seat, standing)) = seat.zip(standing) {
                    standings.insert(seat, standing);
                }
            }
            Ok(verdict)
        })
        .collect()
}

fn decide(
    generation: &Generation,
    head: &mut Head,
    known: Option<&KnownKey>,
    standing: Option<Standing>,
    entry: &Entry,
) -> Result<Verdict, Contradiction> {
    let (chat, offset) = (entry.chat, entry.offset);
    let here = |known: &KnownKey| known.position.generation == *generation && known.position.offset == offset;
    let later = |known: &KnownKey| known.position.generation == *generation && known.position.offset > offset;
    let replayed = head
        .applied
        .as_ref()
        .is_some_and(|applied| applied.generation == *generation && offset <= applied.offset);
    // A refused record leaves no key row: the key is free, and a sender who is back may have used it since.
    let refused = entry.kind == EntryKind::Text
        && known.is_none_or(later)
        && if replayed { standing.is_some() } else { standing == Some(Standing::Out) };
    if let Some(known) = known
        && later(known)
        && !refused
    {
        return Err(Contradiction::KeyFromLater { chat, offset, found: known.position.offset });
    }
    if replayed {
        return match known {
            _ if refused => Ok(Verdict::SenderOut),
            None => Err(Contradiction::AppliedWithoutKey { chat, offset }),
            Some(known) if here(known) => Ok(Verdict::Announce { seq: known.seq }),
            Some(known) => Ok(resend(known, entry)),
        };
    }

    // Also a repeated or refused entry moves the stamp: two different heads never share one.
    let stamp = (entry.sent_at_ms.saturating_mul(1000)).max(head.stamp + 1);
    let verdict = match known {
        // Whether a record of a removed user came before the removal is known to the log alone.
        _ if refused => Verdict::SenderOut,
        // A key that this very record wrote: a crash came between its rows and the head. The rows may be half
        // written, so they are written again.
        Some(known) if here(known) && known.seq != head.seq + 1 => {
            let (found, expected) = (known.seq, head.seq + 1);
            return Err(Contradiction::SeqMoved { chat, offset, found, expected });
        }
        Some(known) if !here(known) => resend(known, entry),
        Some(_) | None => {
            Verdict::Store { seq: head.seq + 1, stamp, standing: changed(entry.kind, standing) }
        }
    };
    if let Verdict::Store { seq, .. } = verdict {
        head.seq = seq;
    }
    head.stamp = stamp;
    head.applied = Some(Position { generation: generation.clone(), offset });
    Ok(verdict)
}

/// Returns the standing that an entry gives to its subject, when it is not the one before.
fn changed(kind: EntryKind, before: Option<Standing>) -> Option<Standing> {
    let after = match kind {
        EntryKind::Text => None,
        EntryKind::MemberRemoved => Some(Standing::Out),
        // A user who never left needs no row.
        EntryKind::MemberAdded => before.map(|_| Standing::Back),
    };
    after.filter(|after| before != Some(*after))
}

fn resend(known: &KnownKey, entry: &Entry) -> Verdict {
    if known.content == entry.content { Verdict::Repeated { seq: known.seq } } else { Verdict::Conflict }
}

/// Returns the fingerprint of what a key stands for.
pub fn content_hash(kind: EntryKind, subject: Option<UserId>, body: &str) -> ContentHash {
    let mut hash = Sha256::new();
    hash.update(kind.as_str());
    hash.update([0]);
    // The nil UUID is no user's id.
    hash.update(subject.map(|subject| subject.0).unwrap_or_default().as_bytes());
    hash.update(body);
    ContentHash(hash.finalize().into())
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
