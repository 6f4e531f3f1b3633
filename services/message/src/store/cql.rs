//! The store in CQL: ScyllaDB, or Cassandra, which speaks the same.

use std::{collections::BTreeMap, sync::Arc};

use contracts::{ChatId, MessageKey, UserId, event::EntryKind, wire::Message};
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use scylla::{
    client::session::Session,
    errors::PrepareError,
    response::query_result::QueryResult,
    serialize::{batch::BatchValues, row::SerializeRow},
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlTimestamp, MaybeUnset},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Partition, Result, Room, Row, Store, StoreError};
use crate::domain::{ContentHash, Generation, Head, KeyId, KnownKey, Position, SeatId, Standing, bucket};

/// Concurrent statements of this process: enough to fill a node, few enough to keep its queue short.
const MAX_IN_FLIGHT: usize = 128;
/// Rows of one (chat, bucket) in one batch: a batch within one store partition is one write.
const MESSAGES_PER_BATCH: usize = 50;
/// Bytes of bodies in one batch; the store refuses mutations of several megabytes.
const BYTES_PER_BATCH: usize = 256 * 1024;
/// Rows of the first page that a read of messages is made of. It is small, because a few large bodies fill a page of
/// history. Each page that left room is followed by one of twice as many.
const FIRST_PAGE_ROWS: usize = 16;
/// Rows of the largest page: as many as a history has.
const LARGEST_PAGE_ROWS: usize = 512;
/// Key rows lie in one store partition each, and stores warn of batches over more than ten.
const KEYS_PER_BATCH: usize = 10;

const INSERT_MESSAGE: &str = "INSERT INTO messages (chat_id, bucket, seq, sender_id, key, kind, body, subject_id, \
    sent_at, generation, log_offset) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_KEY: &str = "INSERT INTO message_keys (chat_id, sender_id, key, seq, content_hash, generation, \
    log_offset) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_STANDING: &str =
    "INSERT INTO chat_standings (chat_id, user_id, seq, is_out) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_HEAD: &str = "INSERT INTO chat_heads (chat_id, head_seq, generation, applied_offset, stamp) \
    VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_NEXT_OFFSET: &str = "INSERT INTO log_positions (generation, partition, next_offset) \
    VALUES (?, ?, ?) USING TIMESTAMP ?";
const SELECT_HEAD: &str =
    "SELECT head_seq, generation, applied_offset, stamp FROM chat_heads WHERE chat_id = ?";
const SELECT_KEY: &str = "SELECT seq, content_hash, generation, log_offset FROM message_keys \
    WHERE chat_id = ? AND sender_id = ? AND key = ?";
const SELECT_STANDING: &str =
    "SELECT is_out FROM chat_standings WHERE chat_id = ? AND user_id = ? AND seq <= ? LIMIT 1";
const SELECT_NEXT_OFFSET: &str =
    "SELECT next_offset FROM log_positions WHERE generation = ? AND partition = ?";
const SELECT_MESSAGES: &str = "SELECT seq, sender_id, key, kind, body, subject_id, sent_at FROM messages \
    WHERE chat_id = ? AND bucket = ? AND seq > ? LIMIT ?";

/// Statements of the message service, prepared in the tenant's keyspace.
pub struct CqlStore {
    session: Arc<Session>,
    in_flight: Semaphore,
    insert_message: PreparedStatement,
    insert_key: PreparedStatement,
    insert_standing: PreparedStatement,
    insert_head: PreparedStatement,
    insert_next_offset: PreparedStatement,
    select_head: PreparedStatement,
    select_key: PreparedStatement,
    select_standing: PreparedStatement,
    select_next_offset: PreparedStatement,
    select_messages: PreparedStatement,
}

impl CqlStore {
    /// Prepares the statements; fails when `migrate` has not run.
    pub async fn prepare(session: Arc<Session>) -> std::result::Result<Self, PrepareError> {
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text).await?;
            // Every write names its own timestamp, so the driver may repeat it.
            statement.set_is_idempotent(true);
            Ok::<_, PrepareError>(statement)
        };
        Ok(Self {
            insert_message: prepare(INSERT_MESSAGE).await?,
            insert_key: prepare(INSERT_KEY).await?,
            insert_standing: prepare(INSERT_STANDING).await?,
            insert_head: prepare(INSERT_HEAD).await?,
            insert_next_offset: prepare(INSERT_NEXT_OFFSET).await?,
            select_head: prepare(SELECT_HEAD).await?,
            select_key: prepare(SELECT_KEY).await?,
            select_standing: prepare(SELECT_STANDING).await?,
            select_next_offset: prepare(SELECT_NEXT_OFFSET).await?,
            select_messages: prepare(SELECT_MESSAGES).await?,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            session,
        })
    }

    async fn execute(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        step: impl Fn() -> String,
    ) -> Result<QueryResult> {
        let _turn = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.session.execute_unpaged(statement, values).await.map_err(|source| failed(step(), source))
    }

    async fn execute_batch(
        &self,
        statement: &PreparedStatement,
        values: Vec<impl SerializeRow>,
        step: &str,
    ) -> Result<()> {
        if let [one] = values.as_slice() {
            return self.execute(statement, one, || step.to_owned()).await.map(drop);
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        for _ in &values {
            batch.append_statement(statement.clone());
        }
        batch.set_is_idempotent(true);
        let _turn = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.run_batch(&batch, values).await.map_err(|source| failed(step.to_owned(), source))
    }

    async fn run_batch(
        &self,
        batch: &Batch,
        values: impl BatchValues,
    ) -> std::result::Result<(), scylla::errors::ExecutionError> {
        self.session.batch(batch, values).await.map(drop)
    }

    async fn append_messages(&self, generation: &Generation, rows: &[Row<'_>]) -> Result<()> {
        let mut by_partition: BTreeMap<(ChatId, i64), Vec<Row<'_>>> = BTreeMap::new();
        for row in rows {
            by_partition.entry((row.entry.chat, bucket(row.seq))).or_default().push(*row);
        }
        let mut writes = Vec::new();
        for batch in by_partition.into_values().flat_map(split) {
            let values = batch.iter().map(|row| message_values(generation, row)).collect();
            writes.push(self.execute_batch(&self.insert_message, values, "write messages"));
        }
        all(writes).await
    }

    async fn append_keys(&self, generation: &Generation, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for batch in rows.chunks(KEYS_PER_BATCH) {
            let values = batch.iter().map(|row| key_values(generation, row)).collect();
            writes.push(self.execute_batch(&self.insert_key, values, "write message keys"));
        }
        all(writes).await
    }

    async fn append_standings(&self, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for Row { entry, seq, stamp, standing } in rows {
            if let Some((subject, standing)) = entry.subject.zip(*standing) {
                let values = (entry.chat.0, subject.0, *seq, standing == Standing::Out, *stamp);
                writes.push(self.execute(&self.insert_standing, values, || "write standings".to_owned()));
            }
        }
        let writes = writes.into_iter().map(|write| write.map_ok(drop)).collect();
        all(writes).await
    }

    async fn put_head(&self, chat: ChatId, head: &Head) -> Result<()> {
        // A head that has applied nothing is what an absent row means.
        let Some(applied) = &head.applied else { return Ok(()) };
        let values = (chat.0, head.seq, applied.generation.as_str(), applied.offset, head.stamp, head.stamp);
        self.execute(&self.insert_head, values, || format!("write the head of chat {chat}")).await.map(drop)
    }
}

impl Store for CqlStore {
    async fn head(&self, chat: ChatId) -> Result<Head> {
        let step = || format!("read the head of chat {chat}");
        let result = self.execute(&self.select_head, (chat.0,), step).await?;
        let row = first_row::<(i64, String, i64, i64)>(result, step)?;
        Ok(row.map_or_else(Head::default, |(seq, generation, offset, stamp)| Head {
            seq,
            applied: Some(Position { generation: Generation::new(&generation), offset }),
            stamp,
        }))
    }

    async fn known_key(&self, id: KeyId) -> Result<Option<KnownKey>> {
        let step = || format!("look up a key of chat {}", id.chat);
        let values = (id.chat.0, id.sender.0, id.key.0);
        let result = self.execute(&self.select_key, values, step).await?;
        let Some((seq, content, generation, offset)) =
            first_row::<(i64, Vec<u8>, String, i64)>(result, step)?
        else {
            return Ok(None);
        };
        let content = content.try_into().map_err(|_| failed(step(), "its hash is not 32 bytes"))?;
        let position = Position { generation: Generation::new(&generation), offset };
        Ok(Some(KnownKey { seq, content: ContentHash(content), position }))
    }

    async fn standing(&self, SeatId { chat, user }: SeatId, seq: i64) -> Result<Option<Standing>> {
        let step = || format!("look up a standing in chat {chat}");
        let result = self.execute(&self.select_standing, (chat.0, user.0, seq), step).await?;
        let row = first_row::<(bool,)>(result, step)?;
        Ok(row.map(|(is_out,)| if is_out { Standing::Out } else { Standing::Back }))
    }

    async fn append(&self, generation: &Generation, rows: &[Row<'_>]) -> Result<()> {
        tokio::try_join!(
            self.append_messages(generation, rows),
            self.append_keys(generation, rows),
            self.append_standings(rows)
        )?;
        Ok(())
    }

    async fn put_heads(&self, heads: &[(ChatId, Head)]) -> Result<()> {
        all(heads.iter().map(|(chat, head)| self.put_head(*chat, head)).collect()).await
    }

    async fn next_offset(&self, generation: &Generation, partition: Partition) -> Result<Option<i64>> {
        let step = || format!("read the position of partition {}", partition.0);
        let values = (generation.as_str(), partition.0);
        let result = self.execute(&self.select_next_offset, values, step).await?;
        Ok(first_row::<(i64,)>(result, step)?.map(|(offset,)| offset))
    }

    async fn put_next_offset(
        &self,
        generation: &Generation,
        partition: Partition,
        offset: i64,
    ) -> Result<()> {
        let step = || format!("write the position of partition {}", partition.0);
        // The offset is its own timestamp: a lower one loses.
        let values = (generation.as_str(), partition.0, offset, offset);
        self.execute(&self.insert_next_offset, values, step).await.map(drop)
    }

    async fn messages(&self, chat: ChatId, bucket: i64, after: i64, room: &mut Room) -> Result<Vec<Message>> {
        let step = || format!("read messages of chat {chat}");
        let mut messages: Vec<Message> = Vec::new();
        let mut page_rows = FIRST_PAGE_ROWS;
        // Each page starts behind the last row of the one before. The store's own paging state would do the same, but
        // Cassandra starts again at the first row when the size of the pages changes.
        while room.entries() > 0 {
            let limit = page_rows.min(room.entries());
            page_rows = LARGEST_PAGE_ROWS.min(page_rows * 2);
            let last = messages.last().map_or(after, |message| message.seq);
            let values = (chat.0, bucket, last, i32::try_from(limit).unwrap_or(i32::MAX));
            let result = self.execute(&self.select_messages, values, step).await?;
            let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
            for row in rows.rows::<MessageRow>().map_err(|source| failed(step(), source))? {
                let message = message(chat, row.map_err(|source| failed(step(), source))?)?;
                if !room.take(&message) {
                    return Ok(messages);
                }
                messages.push(message);
            }
            if rows.rows_num() < limit {
                break;
            }
        }
        Ok(messages)
    }
}

/// seq, sender, key, kind, body, subject, sent at
type MessageRow = (i64, Uuid, Uuid, String, String, Option<Uuid>, CqlTimestamp);

fn message(chat: ChatId, row: MessageRow) -> Result<Message> {
    let (seq, sender, key, kind, body, subject, sent_at) = row;
    let Some(kind) = EntryKind::parse(&kind) else {
        return Err(failed(format!("read message {seq} of chat {chat}"), "its kind is not known here"));
    };
    Ok(Message {
        chat,
        seq,
        sender: UserId(sender),
        key: MessageKey(key),
        kind,
        body,
        subject: subject.map(UserId),
        sent_at_ms: sent_at.0,
    })
}

fn message_values<'a>(generation: &'a Generation, row: &Row<'a>) -> impl SerializeRow + use<'a> {
    let Row { entry, seq, stamp, standing: _ } = *row;
    (
        entry.chat.0,
        bucket(seq),
        seq,
        entry.sender.0,
        entry.key.0,
        entry.kind.as_str(),
        entry.body.as_str(),
        // A null would be a tombstone; an unset column is nothing.
        MaybeUnset::from_option(entry.subject.map(|subject| subject.0)),
        CqlTimestamp(entry.sent_at_ms),
        generation.as_str(),
        entry.offset,
        stamp,
    )
}

fn key_values<'a>(generation: &'a Generation, row: &Row<'a>) -> impl SerializeRow + use<'a> {
    let Row { entry, seq, stamp, standing: _ } = *row;
    let content = entry.content.0.to_vec();
    (entry.chat.0, entry.sender.0, entry.key.0, seq, content, generation.as_str(), entry.offset, stamp)
}

/// Cuts the rows of one store partition into batches of bounded size.
fn split(rows: Vec<Row<'_>>) -> Vec<Vec<Row<'_>>> {
    let mut batches: Vec<Vec<Row<'_>>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        bytes += row.entry.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MESSAGES_PER_BATCH && bytes <= BYTES_PER_BATCH => batch.push(row),
            Some(_) | None => {
                bytes = row.entry.body.len();
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// Runs writes side by side; the first failure ends the wait for the others.
async fn all<F: Future<Output = Result<()>>>(writes: Vec<F>) -> Result<()> {
    stream::iter(writes).buffer_unordered(MAX_IN_FLIGHT).try_collect().await
}

fn first_row<R>(result: QueryResult, step: impl Fn() -> String) -> Result<Option<R>>
where
    R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
{
    let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
    rows.maybe_first_row::<R>().map_err(|source| failed(step(), source))
}

fn failed(step: String, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError { step, source: source.into() }
}
