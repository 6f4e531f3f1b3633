//! A store in memory, for `posthouse dev` and for tests. It keeps CQL's rule that the greater timestamp wins.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{
    ChatId, UserId,
    wire::{Changes, Message},
};

use super::{Partition, Result, Room, Row, Run, Store};
use crate::domain::{
    Effect, Generation, Head, KeyId, KnownKey, Overwrite, Patch, Position, ReactionId, SeatId, Standing,
    Target, TargetId, bucket,
};

#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    messages: BTreeMap<(ChatId, i64), Stored>,
    keys: HashMap<KeyId, Stamped<KnownKey>>,
    standings: BTreeMap<(ChatId, UserId, i64), Standing>,
    /// By chat, user, message, emoji, and the seq of the entry.
    reactions: BTreeMap<(ChatId, UserId, i64, String, i64), bool>,
    heads: HashMap<ChatId, Head>,
    next_offsets: HashMap<(Generation, Partition), i64>,
}

/// A value with the timestamp that it was written with.
type Stamped<T> = (i64, T);

/// Writes a value over one with a smaller timestamp.
fn set<T>(stored: &mut Stamped<T>, stamp: i64, value: T) {
    if stamp > stored.0 {
        *stored = (stamp, value);
    }
}

/// A row in its parts, which are written apart.
struct Stored {
    message: Stamped<Message>,
    body: Stamped<String>,
    patch: Stamped<Patch>,
}

impl Stored {
    fn message(&self) -> Message {
        let (body, changes) = (self.body.1.clone(), self.patch.1.changes.clone());
        Message { body, changes, ..self.message.1.clone() }
    }
}

impl Tables {
    fn overwrite(&mut self, overwrite: &Overwrite) {
        let (Overwrite::Body { target, .. } | Overwrite::Patch { target, .. }) = overwrite;
        let Some(row) = self.messages.get_mut(&(target.chat, target.seq)) else { return };
        match overwrite {
            Overwrite::Body { stamp, body, .. } => set(&mut row.body, *stamp, body.clone()),
            Overwrite::Patch { stamp, patch, .. } => set(&mut row.patch, *stamp, patch.clone()),
        }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn head(&self, chat: ChatId) -> Result<Head> {
        Ok(self.lock().heads.get(&chat).cloned().unwrap_or_default())
    }

    async fn known_key(&self, id: KeyId) -> Result<Option<KnownKey>> {
        Ok(self.lock().keys.get(&id).map(|(_, known)| known.clone()))
    }

    async fn standing(&self, SeatId { chat, user }: SeatId, seq: i64) -> Result<Option<Standing>> {
        let tables = self.lock();
        let newest = tables.standings.range((chat, user, i64::MIN)..=(chat, user, seq)).next_back();
        Ok(newest.map(|(_, standing)| *standing))
    }

    async fn target(&self, id: TargetId) -> Result<Option<Target>> {
        let tables = self.lock();
        let row = tables.messages.get(&(id.chat, id.seq));
        Ok(row.map(|row| {
            let Message { sender, kind, target_seq, .. } = row.message.1;
            Target::new(sender, kind, target_seq, row.patch.1.clone())
        }))
    }

    async fn reacts(&self, ReactionId { target, user, emoji }: &ReactionId, seq: i64) -> Result<bool> {
        let tables = self.lock();
        let key = |seq| (target.chat, *user, target.seq, emoji.clone(), seq);
        let newest = tables.reactions.range(key(i64::MIN)..=key(seq)).next_back();
        Ok(newest.is_some_and(|(_, reacts)| *reacts))
    }

    async fn reactions_of(
        &self,
        SeatId { chat, user }: SeatId,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, String)>> {
        let tables = self.lock();
        let (from, to) = (
            (chat, user, first, String::new(), i64::MIN),
            (chat, user, last.saturating_add(1), String::new(), i64::MIN),
        );
        let mut newest = BTreeMap::new();
        for ((_, _, seq, emoji, _), reacts) in tables.reactions.range(from..to) {
            newest.insert((*seq, emoji.clone()), *reacts);
        }
        Ok(newest.into_iter().filter_map(|(id, reacts)| reacts.then_some(id)).collect())
    }

    async fn append(
        &self,
        generation: &Generation,
        rows: &[Row<'_>],
        overwrites: &[Overwrite],
    ) -> Result<()> {
        let mut tables = self.lock();
        for Row { entry, seq, stamp, texts: _, effect } in rows {
            let message = Message {
                chat: entry.chat,
                seq: *seq,
                sender: entry.sender,
                key: entry.key,
                kind: entry.kind,
                body: entry.body.clone(),
                subject: entry.subject,
                target_seq: entry.target_seq,
                mentions: entry.mentions.clone(),
                mentions_all: entry.mentions_all,
                sent_at_ms: entry.sent_at_ms,
                changes: Changes::default(),
            };
            let position = Position { generation: generation.clone(), offset: entry.offset };
            let known = KnownKey { seq: *seq, content: entry.content, position };
            let row = tables.messages.entry((entry.chat, *seq)).or_insert_with(|| Stored {
                message: (i64::MIN, message.clone()),
                body: (i64::MIN, String::new()),
                patch: (i64::MIN, Patch::default()),
            });
            set(&mut row.body, *stamp, message.body.clone());
            set(&mut row.message, *stamp, message);
            let row = tables.keys.entry(entry.key_id()).or_insert((i64::MIN, known.clone()));
            set(row, *stamp, known);
            match (effect, entry.subject, entry.reaction_id()) {
                (Some(Effect::Standing(standing)), Some(subject), _) => {
                    tables.standings.insert((entry.chat, subject, *seq), *standing);
                }
                (Some(Effect::Reacts(reacts)), _, Some(ReactionId { target, user, emoji })) => {
                    tables.reactions.insert((entry.chat, user, target.seq, emoji, *seq), *reacts);
                }
                _ => {}
            }
        }
        overwrites.iter().for_each(|overwrite| tables.overwrite(overwrite));
        Ok(())
    }

    async fn put_heads(&self, heads: &[(ChatId, Head)]) -> Result<()> {
        let mut tables = self.lock();
        for (chat, head) in heads {
            let stored = tables.heads.entry(*chat).or_default();
            if head.stamp > stored.stamp {
                *stored = head.clone();
            }
        }
        Ok(())
    }

    async fn next_offset(&self, generation: &Generation, partition: Partition) -> Result<Option<i64>> {
        Ok(self.lock().next_offsets.get(&(generation.clone(), partition)).copied())
    }

    async fn put_next_offset(
        &self,
        generation: &Generation,
        partition: Partition,
        offset: i64,
    ) -> Result<()> {
        let mut tables = self.lock();
        let stored = tables.next_offsets.entry((generation.clone(), partition)).or_default();
        *stored = offset.max(*stored);
        Ok(())
    }

    async fn messages(&self, chat: ChatId, of: i64, run: Run, room: &mut Room) -> Result<Vec<Message>> {
        let tables = self.lock();
        let (first, last) = match run {
            Run::After(seq) => (seq.saturating_add(1), i64::MAX),
            Run::Before(seq) => (i64::MIN, seq.saturating_sub(1)),
        };
        let rows = tables.messages.range((chat, first)..=(chat, last));
        let in_bucket = rows.filter(|((_, seq), _)| bucket(*seq) == of).map(|(_, row)| row.message());
        let fits = |message: &Message| room.take(message);
        Ok(match run {
            Run::After(_) => in_bucket.take_while(fits).collect(),
            Run::Before(_) => in_bucket.rev().take_while(fits).collect(),
        })
    }
}
