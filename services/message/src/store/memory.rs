//! A store in memory, for `posthouse dev` and for tests. It keeps CQL's rule that the greater timestamp wins.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{
    ChatId, UserId,
    wire::{Attachment, Changes, Message},
};

use kit::clock::now_ms;

use super::{Clock, MAX_CALLS, Partition, PlacedHead, Progress, Result, Room, Row, Run, Store, read_by};
use crate::domain::{
    Counts, Effect, Generation, Head, KeyId, KnownKey, Marks, Overwrite, Patch, Pins, Position, ReactionId,
    SeatId, Standing, Target, TargetId, Times, bucket,
};

pub struct MemoryStore {
    clock: Clock,
    tables: Mutex<Tables>,
}

impl Default for MemoryStore {
    /// Creates an empty store by the clock of this machine.
    fn default() -> Self {
        Self::new(now_ms)
    }
}

#[derive(Default)]
struct Tables {
    messages: BTreeMap<(ChatId, i64), Stored>,
    keys: HashMap<KeyId, Stamped<KnownKey>>,
    standings: BTreeMap<(ChatId, UserId, i64), Standing>,
    /// By chat, user, message, emoji, and the seq of the entry.
    reactions: BTreeMap<(ChatId, UserId, i64, String, i64), bool>,
    /// By chat, message, and the seq of the reply.
    replies: BTreeSet<(ChatId, i64, i64)>,
    pins: HashMap<ChatId, Stamped<Pins>>,
    heads: HashMap<ChatId, PlacedHead>,
    /// By the last record that each head was moved by.
    moved: BTreeMap<(Generation, Partition, i64), ChatId>,
    marks: HashMap<SeatId, Marks>,
    /// By user, chat and seq, with the timestamp.
    calls: BTreeMap<(UserId, ChatId, i64), i64>,
    /// Up to which seq and timestamp they are forgotten.
    forgotten: HashMap<SeatId, (i64, i64)>,
    progress: HashMap<(Generation, Partition), Progress>,
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
    counts: Counts,
    message: Stamped<Message>,
    body: Stamped<String>,
    attachments: Stamped<Vec<Attachment>>,
    patch: Stamped<Patch>,
}

impl Stored {
    fn message(&self, now_ms: i64) -> Message {
        let (body, changes) = (self.body.1.clone(), self.patch.1.changes.clone());
        let attachments = self.attachments.1.clone();
        let mut message = Message { body, attachments, changes, ..self.message.1.clone() };
        message.expire(now_ms);
        message
    }
}

impl Tables {
    fn mark(&mut self, seat: SeatId, marks: Marks) {
        let stored = self.marks.entry(seat).or_default();
        *stored = stored.merge(marks);
    }

    fn call(&mut self, user: UserId, chat: ChatId, seq: i64, stamp: i64) {
        let forgotten = self.forgotten.get(&SeatId { chat, user });
        if forgotten.is_none_or(|(upto, at)| seq > *upto || stamp > *at) {
            self.calls.insert((user, chat, seq), stamp);
        }
    }

    fn overwrite(&mut self, overwrite: &Overwrite) {
        match overwrite {
            Overwrite::Body { target, stamp, body, .. } => {
                if let Some(row) = self.messages.get_mut(&(target.chat, target.seq)) {
                    set(&mut row.body, *stamp, body.clone());
                }
            }
            Overwrite::Erased { target, stamp } => {
                if let Some(row) = self.messages.get_mut(&(target.chat, target.seq)) {
                    set(&mut row.body, *stamp, String::new());
                    set(&mut row.attachments, *stamp, Vec::new());
                }
            }
            Overwrite::Patch { target, stamp, patch } => {
                if let Some(row) = self.messages.get_mut(&(target.chat, target.seq)) {
                    set(&mut row.patch, *stamp, patch.clone());
                }
            }
            Overwrite::Pins { chat, stamp, pins } => {
                let row = self.pins.entry(*chat).or_insert((i64::MIN, Pins::default()));
                set(row, *stamp, pins.clone());
            }
        }
    }
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new(clock: Clock) -> Self {
        Self { clock, tables: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn head(&self, chat: ChatId) -> Result<Head> {
        Ok(self.placed_head(chat).await?.head)
    }

    async fn placed_head(&self, chat: ChatId) -> Result<PlacedHead> {
        Ok(self.lock().heads.get(&chat).cloned().unwrap_or_default())
    }

    async fn counts_at(&self, chat: ChatId, seq: i64) -> Result<Option<Counts>> {
        Ok(self.lock().messages.get(&(chat, seq)).map(|row| row.counts))
    }

    async fn marks(&self, seat: SeatId) -> Result<Marks> {
        Ok(self.lock().marks.get(&seat).copied().unwrap_or_default())
    }

    async fn marks_of(&self, user: UserId) -> Result<HashMap<ChatId, Marks>> {
        let tables = self.lock();
        let own = tables.marks.iter().filter(|(seat, _)| seat.user == user);
        Ok(own.map(|(seat, marks)| (seat.chat, *marks)).collect())
    }

    async fn put_marks(&self, seat: SeatId, marks: Marks) -> Result<()> {
        self.lock().mark(seat, marks);
        Ok(())
    }

    async fn calls(&self, SeatId { chat, user }: SeatId) -> Result<Vec<i64>> {
        let tables = self.lock();
        let calls = tables.calls.range((user, chat, i64::MIN)..=(user, chat, i64::MAX));
        Ok(calls.map(|((_, _, seq), _)| *seq).take(MAX_CALLS).collect())
    }

    async fn calls_of(&self, user: UserId) -> Result<Vec<(ChatId, i64)>> {
        let tables = self.lock();
        let calls = tables.calls.keys().filter(|(of, ..)| *of == user);
        Ok(calls.map(|(_, chat, seq)| (*chat, *seq)).take(MAX_CALLS).collect())
    }

    async fn forget_calls(&self, seat: SeatId, seq: i64, stamp: i64) -> Result<()> {
        let mut tables = self.lock();
        tables.forgotten.insert(seat, (seq, stamp));
        let is_kept = |chat, user, of: i64, at: i64| SeatId { chat, user } != seat || of > seq || at > stamp;
        tables.calls.retain(|(user, chat, of), at| is_kept(*chat, *user, *of, *at));
        Ok(())
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
            let Message { sender, kind, target_seq, sent_at_ms, expires_at_ms, .. } = row.message.1;
            let times = Times { sent_at_ms, expires_at_ms };
            Target::new(sender, kind, target_seq, row.patch.1.clone(), times)
        }))
    }

    async fn pins(&self, chat: ChatId) -> Result<Pins> {
        Ok(self.lock().pins.get(&chat).map(|(_, pins)| pins.clone()).unwrap_or_default())
    }

    async fn replies(&self, TargetId { chat, seq }: TargetId, after: i64, limit: usize) -> Result<Vec<i64>> {
        let tables = self.lock();
        let replies = tables.replies.range((chat, seq, after.saturating_add(1))..=(chat, seq, i64::MAX));
        Ok(replies.map(|(_, _, reply)| *reply).take(limit).collect())
    }

    async fn entry(&self, TargetId { chat, seq }: TargetId) -> Result<Option<Message>> {
        let now_ms = (self.clock)();
        Ok(self.lock().messages.get(&(chat, seq)).map(|row| row.message(now_ms)))
    }

    async fn time_from(&self, TargetId { chat, seq }: TargetId) -> Result<Option<(i64, i64)>> {
        let tables = self.lock();
        let row = tables.messages.range((chat, seq)..=(chat, i64::MAX)).next();
        let row = row.filter(|((_, found), _)| bucket(*found) == bucket(seq));
        Ok(row.map(|((_, seq), row)| (*seq, row.message.0 / 1_000)))
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
        for Row { entry, seq, stamp, counts, effect, times } in rows {
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
                mention_roles: entry.mention_roles.clone(),
                mentions_all: entry.mentions_all,
                mentions_here: entry.mentions_here,
                silent: entry.silent,
                attachments: entry.attachments.clone(),
                forwarded: entry.forwarded,
                range: entry.range,
                sent_at_ms: times.sent_at_ms,
                expires_at_ms: times.expires_at_ms,
                expired: false,
                changes: Changes::default(),
            };
            let position = Position { generation: generation.clone(), offset: entry.offset };
            let known = KnownKey { seq: *seq, content: entry.content, position };
            let row = tables.messages.entry((entry.chat, *seq)).or_insert_with(|| Stored {
                counts: *counts,
                message: (i64::MIN, message.clone()),
                body: (i64::MIN, String::new()),
                attachments: (i64::MIN, Vec::new()),
                patch: (i64::MIN, Patch::default()),
            });
            set(&mut row.body, *stamp, message.body.clone());
            set(&mut row.attachments, *stamp, message.attachments.clone());
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
        for row in rows {
            row.called().for_each(|user| tables.call(user, row.entry.chat, row.seq, row.stamp));
            if let Some(TargetId { chat, seq }) = row.replied_to() {
                tables.replies.insert((chat, seq, row.seq));
            }
        }
        for (seat, read) in read_by(rows) {
            tables.mark(seat, Marks { read, ..Marks::default() });
        }
        overwrites.iter().for_each(|overwrite| tables.overwrite(overwrite));
        Ok(())
    }

    async fn put_heads(&self, partition: Partition, heads: &[(ChatId, Head)]) -> Result<()> {
        let mut tables = self.lock();
        for (chat, head) in heads {
            if let Some(Position { generation, offset }) = head.applied.clone() {
                tables.moved.insert((generation, partition, offset), *chat);
            }
            let stored = tables.heads.entry(*chat).or_default();
            if head.stamp > stored.head.stamp {
                *stored = PlacedHead { head: head.clone(), partition: Some(partition) };
            }
        }
        Ok(())
    }

    async fn partitions(&self, generation: &Generation) -> Result<Vec<Partition>> {
        let tables = self.lock();
        let partitions = tables.progress.keys().filter(|(of, _)| of == generation);
        Ok(partitions.map(|(_, partition)| *partition).collect())
    }

    async fn moved(
        &self,
        generation: &Generation,
        partition: Partition,
        from: i64,
        _to: i64,
    ) -> Result<HashSet<ChatId>> {
        let key = |offset| (generation.clone(), partition, offset);
        Ok(self.lock().moved.range(key(from)..=key(i64::MAX)).map(|(_, chat)| *chat).collect())
    }

    async fn progress(&self, generation: &Generation, partition: Partition) -> Result<Option<Progress>> {
        Ok(self.lock().progress.get(&(generation.clone(), partition)).copied())
    }

    async fn put_progress(
        &self,
        generation: &Generation,
        partition: Partition,
        progress: Progress,
    ) -> Result<()> {
        let mut tables = self.lock();
        let stored = tables.progress.entry((generation.clone(), partition)).or_insert(progress);
        *stored = progress.max(*stored);
        Ok(())
    }

    async fn messages(&self, chat: ChatId, of: i64, run: Run, room: &mut Room) -> Result<Vec<Message>> {
        let (tables, now_ms) = (self.lock(), (self.clock)());
        let (first, last) = match run {
            Run::After(seq) => (seq.saturating_add(1), i64::MAX),
            Run::Before(seq) => (i64::MIN, seq.saturating_sub(1)),
        };
        let rows = tables.messages.range((chat, first)..=(chat, last));
        let in_bucket = rows.filter(|((_, seq), _)| bucket(*seq) == of).map(|(_, row)| row.message(now_ms));
        let fits = |message: &Message| room.take(message);
        Ok(match run {
            Run::After(_) => in_bucket.take_while(fits).collect(),
            Run::Before(_) => in_bucket.rev().take_while(fits).collect(),
        })
    }
}
