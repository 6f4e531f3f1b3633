//! A store in memory, for `posthouse dev` and for tests. It keeps CQL's rule that the greater timestamp wins.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use contracts::{ChatId, UserId, wire::Message};

use super::{Partition, Result, Room, Row, Store};
use crate::domain::{Generation, Head, KeyId, KnownKey, Position, SeatId, Standing, bucket};

#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    messages: BTreeMap<(ChatId, i64), (i64, Message)>,
    keys: HashMap<KeyId, (i64, KnownKey)>,
    standings: BTreeMap<(ChatId, UserId, i64), Standing>,
    heads: HashMap<ChatId, Head>,
    next_offsets: HashMap<(Generation, Partition), i64>,
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

    async fn append(&self, generation: &Generation, rows: &[Row<'_>]) -> Result<()> {
        let mut tables = self.lock();
        for Row { entry, seq, stamp, standing } in rows {
            let message = Message {
                chat: entry.chat,
                seq: *seq,
                sender: entry.sender,
                key: entry.key,
                kind: entry.kind,
                body: entry.body.clone(),
                subject: entry.subject,
                sent_at_ms: entry.sent_at_ms,
            };
            let position = Position { generation: generation.clone(), offset: entry.offset };
            let known = KnownKey { seq: *seq, content: entry.content, position };
            let row = tables.messages.entry((entry.chat, *seq)).or_insert((i64::MIN, message.clone()));
            if *stamp > row.0 {
                *row = (*stamp, message);
            }
            let row = tables.keys.entry(entry.key_id()).or_insert((i64::MIN, known.clone()));
            if *stamp > row.0 {
                *row = (*stamp, known);
            }
            if let Some((subject, standing)) = entry.subject.zip(*standing) {
                tables.standings.insert((entry.chat, subject, *seq), standing);
            }
        }
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

    async fn messages(&self, chat: ChatId, of: i64, after: i64, room: &mut Room) -> Result<Vec<Message>> {
        let tables = self.lock();
        let rows = tables.messages.range((chat, after.saturating_add(1))..=(chat, i64::MAX));
        let in_bucket = rows.map(|(_, (_, message))| message).filter(|message| bucket(message.seq) == of);
        Ok(in_bucket.take_while(|message| room.take(message)).cloned().collect())
    }
}
