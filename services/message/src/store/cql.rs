//! The store in CQL: ScyllaDB, or Cassandra, which speaks the same.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use contracts::{
    ChatId, MessageKey, UserId,
    event::{EntryKind, Forwarded, Role, SeqRange},
    wire::{Attachment, Message},
};
use futures_util::{
    FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _, future::BoxFuture, stream,
};
use scylla::{
    client::session::Session,
    errors::PrepareError,
    response::query_result::QueryResult,
    serialize::{
        SerializationError,
        batch::BatchValues,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    statement::{
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
    },
    value::{CqlTimestamp, MaybeUnset},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    Clock, MAX_CALLS, Partition, PlacedHead, Progress, Result, Room, Row, Run, Store, StoreError, read_by,
};
use crate::domain::{
    ContentHash, Counts, Effect, Entry, Generation, Head, KeyId, KnownKey, Marks, NewestKey, Overwrite,
    Patch, Pins, Point, Position, ReactionId, RecordHash, SeatId, Standing, Target, TargetId, Times, bucket,
};

/// Concurrent statements of this process: enough to fill a node, few enough to keep its queue short.
const MAX_IN_FLIGHT: usize = 128;
/// Rows of one (chat, bucket) in one batch: a batch within one store partition is one write.
const MESSAGES_PER_BATCH: usize = 50;
/// Bytes of bodies and attachments in one batch; the store refuses mutations of several megabytes.
const BYTES_PER_BATCH: usize = 256 * 1024;
/// A file of a message with a long name, as JSON.
const ATTACHMENT_BYTES: usize = 512;
/// An attachment that is left as it is.
const UNSET: MaybeUnset<&str> = MaybeUnset::Unset;
/// Rows of the first page that a read of messages is made of. It is small, because a few large bodies fill a page of
/// history. Each page that left room is followed by one of twice as many.
const FIRST_PAGE_ROWS: usize = 16;
/// Rows of the largest page: as many as a history has.
const LARGEST_PAGE_ROWS: usize = 512;
/// Offsets whose moved heads lie in one store partition: at most a megabyte of ids.
const MOVED_WINDOW: i64 = 65_536;
/// Key rows lie in one store partition each, and stores warn of batches over more than ten.
const KEYS_PER_BATCH: usize = 10;

const INSERT_MESSAGE: &str = "INSERT INTO messages (chat_id, bucket, seq, sender_id, key, kind, body, subject_id, \
    target_seq, mentions, mentions_all, mention_roles, mentions_here, silent, forwarded_sender_id, \
    forwarded_sent_at, range_from_seq, range_to_seq, texts, calls, sent_at, generation, log_offset, \
    expires_at, attachments) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
/// Text and attachments go together, and an edit leaves these unset.
const UPDATE_BODY: &str = "UPDATE messages USING TIMESTAMP ? SET body = ?, attachments = ? \
    WHERE chat_id = ? AND bucket = ? AND seq = ?";
/// A text with a time to live, and what it carries. The rest of its row stays.
const UPDATE_BODY_FOR: &str = "UPDATE messages USING TIMESTAMP ? AND TTL ? SET body = ?, attachments = ? \
    WHERE chat_id = ? AND bucket = ? AND seq = ?";
const UPDATE_PATCH: &str =
    "UPDATE messages USING TIMESTAMP ? SET patch = ? WHERE chat_id = ? AND bucket = ? AND seq = ?";
const UPDATE_PINS: &str = "UPDATE chat_pins USING TIMESTAMP ? SET pins = ? WHERE chat_id = ?";
const INSERT_REPLY: &str =
    "INSERT INTO chat_replies (chat_id, target_seq, seq) VALUES (?, ?, ?) USING TIMESTAMP ?";
const INSERT_KEY: &str = "INSERT INTO message_keys (chat_id, sender_id, key, seq, content_hash, generation, \
    log_offset) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_STANDING: &str =
    "INSERT INTO chat_standings (chat_id, user_id, seq, is_out) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_REACTION: &str = "INSERT INTO chat_reactions (chat_id, user_id, target_seq, emoji, seq, reacts) \
    VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const INSERT_HEAD: &str = "INSERT INTO chat_heads (chat_id, head_seq, generation, partition, applied_offset, stamp, \
    texts, calls, ttl_seconds, sent_at, newest_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
/// A seq is the timestamp of the mark that it is: of two marks the greater wins, whichever is written last.
const UPDATE_READ: &str = "UPDATE user_marks USING TIMESTAMP ? SET read_seq = ?, read_texts = ?, read_calls = ? \
    WHERE user_id = ? AND chat_id = ?";
const UPDATE_DELIVERED: &str =
    "UPDATE user_marks USING TIMESTAMP ? SET delivered_seq = ? WHERE user_id = ? AND chat_id = ?";
const UPDATE_OTHER_READ: &str =
    "UPDATE user_marks USING TIMESTAMP ? SET other_read_seq = ? WHERE user_id = ? AND chat_id = ?";
const UPDATE_OTHER_DELIVERED: &str =
    "UPDATE user_marks USING TIMESTAMP ? SET other_delivered_seq = ? WHERE user_id = ? AND chat_id = ?";
const UPDATE_MARKED_AT: &str =
    "UPDATE user_marks USING TIMESTAMP ? SET marked_at = ? WHERE user_id = ? AND chat_id = ?";
const INSERT_CALL: &str = "INSERT INTO user_calls (user_id, chat_id, seq) VALUES (?, ?, ?) USING TIMESTAMP ?";
const DELETE_CALLS: &str =
    "DELETE FROM user_calls USING TIMESTAMP ? WHERE user_id = ? AND chat_id = ? AND seq <= ?";
/// The columns of [`MarkRow`].
const SELECT_MARKS: &str = "SELECT chat_id, read_seq, read_texts, read_calls, delivered_seq, other_read_seq, \
    other_delivered_seq, marked_at FROM user_marks WHERE user_id = ?";
const SELECT_CALLS: &str = "SELECT seq FROM user_calls WHERE user_id = ? AND chat_id = ? LIMIT ?";
const SELECT_CALLS_OF: &str = "SELECT chat_id, seq FROM user_calls WHERE user_id = ? LIMIT ?";
const SELECT_COUNTS: &str =
    "SELECT sender_id, texts, calls FROM messages WHERE chat_id = ? AND bucket = ? AND seq = ?";
/// Adds: what another owner noted under the same offset stays, whichever of them is the former one. `chat_ids` is what versions read that run
/// beside this one during an update.
const UPDATE_MOVED: &str = "UPDATE moved_heads USING TIMESTAMP ? SET chats = chats + ?, chat_ids = ? \
    WHERE generation = ? AND partition = ? AND window = ? AND log_offset = ?";
const SELECT_MOVED: &str = "SELECT chats, chat_ids FROM moved_heads \
    WHERE generation = ? AND partition = ? AND window = ? AND log_offset >= ?";
const INSERT_PROGRESS: &str = "INSERT INTO log_positions (generation, partition, next_offset, last_offset, last_hash) \
    VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
const SELECT_HEAD: &str = "SELECT head_seq, generation, partition, applied_offset, stamp, texts, calls, ttl_seconds, \
    sent_at, newest_key, WRITETIME(newest_key) FROM chat_heads WHERE chat_id = ?";
const SELECT_KEY: &str = "SELECT seq, content_hash, generation, log_offset FROM message_keys \
    WHERE chat_id = ? AND sender_id = ? AND key = ?";
const SELECT_STANDING: &str =
    "SELECT is_out FROM chat_standings WHERE chat_id = ? AND user_id = ? AND seq <= ? LIMIT 1";
const SELECT_TARGET: &str = "SELECT sender_id, kind, target_seq, patch, sent_at, expires_at FROM messages \
    WHERE chat_id = ? AND bucket = ? AND seq = ?";
const SELECT_PINS: &str = "SELECT pins FROM chat_pins WHERE chat_id = ?";
const SELECT_REPLIES: &str =
    "SELECT seq FROM chat_replies WHERE chat_id = ? AND target_seq = ? AND seq > ? LIMIT ?";
/// No entry changes the sender: it was written with the timestamp of the row.
const SELECT_TIME: &str = "SELECT seq, WRITETIME(sender_id) FROM messages \
    WHERE chat_id = ? AND bucket = ? AND seq >= ? LIMIT 1";
const SELECT_REACTION: &str = "SELECT reacts FROM chat_reactions \
    WHERE chat_id = ? AND user_id = ? AND target_seq = ? AND emoji = ? AND seq <= ? LIMIT 1";
/// The newest row of each reaction comes first.
const SELECT_REACTIONS: &str = "SELECT target_seq, emoji, reacts FROM chat_reactions \
    WHERE chat_id = ? AND user_id = ? AND target_seq >= ? AND target_seq <= ?";
/// Reads the whole table: it has a row for each partition of each generation.
const SELECT_PARTITIONS: &str = "SELECT generation, partition FROM log_positions";
const SELECT_PROGRESS: &str = "SELECT next_offset, last_offset, last_hash FROM log_positions \
    WHERE generation = ? AND partition = ?";
/// The columns of [`MessageRow`].
const SELECT_MESSAGES: &str = "SELECT seq, sender_id, key, kind, body, subject_id, target_seq, mentions, mentions_all, \
    mention_roles, mentions_here, silent, forwarded_sender_id, forwarded_sent_at, range_from_seq, range_to_seq, \
    sent_at, patch, expires_at, attachments FROM messages WHERE chat_id = ? AND bucket = ?";
const LATER: &str = "AND seq > ? LIMIT ?";
const ONE: &str = "AND seq = ?";
const EARLIER: &str = "AND seq < ? ORDER BY seq DESC LIMIT ?";

/// Statements of the message service, prepared in the tenant's keyspace.
pub struct CqlStore {
    session: Arc<Session>,
    clock: Clock,
    in_flight: Semaphore,
    insert_message: PreparedStatement,
    insert_key: PreparedStatement,
    insert_standing: PreparedStatement,
    insert_reaction: PreparedStatement,
    update_body: PreparedStatement,
    update_body_for: PreparedStatement,
    update_patch: PreparedStatement,
    update_pins: PreparedStatement,
    insert_reply: PreparedStatement,
    insert_head: PreparedStatement,
    update_moved: PreparedStatement,
    select_moved: PreparedStatement,
    insert_progress: PreparedStatement,
    update_read: PreparedStatement,
    update_delivered: PreparedStatement,
    update_other_read: PreparedStatement,
    update_other_delivered: PreparedStatement,
    update_marked_at: PreparedStatement,
    insert_call: PreparedStatement,
    delete_calls: PreparedStatement,
    select_marks: PreparedStatement,
    select_marks_of: PreparedStatement,
    select_calls: PreparedStatement,
    select_calls_of: PreparedStatement,
    select_counts: PreparedStatement,
    select_head: PreparedStatement,
    select_key: PreparedStatement,
    select_standing: PreparedStatement,
    select_target: PreparedStatement,
    select_pins: PreparedStatement,
    select_replies: PreparedStatement,
    select_time: PreparedStatement,
    select_entry: PreparedStatement,
    select_reaction: PreparedStatement,
    select_reactions: PreparedStatement,
    select_partitions: PreparedStatement,
    select_progress: PreparedStatement,
    select_later: PreparedStatement,
    select_earlier: PreparedStatement,
}

impl CqlStore {
    /// Prepares the statements; fails when `migrate` has not run.
    pub async fn prepare(session: Arc<Session>, clock: Clock) -> std::result::Result<Self, PrepareError> {
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
            insert_reaction: prepare(INSERT_REACTION).await?,
            update_body: prepare(UPDATE_BODY).await?,
            update_body_for: prepare(UPDATE_BODY_FOR).await?,
            update_patch: prepare(UPDATE_PATCH).await?,
            update_pins: prepare(UPDATE_PINS).await?,
            insert_reply: prepare(INSERT_REPLY).await?,
            insert_head: prepare(INSERT_HEAD).await?,
            update_moved: prepare(UPDATE_MOVED).await?,
            select_moved: prepare(SELECT_MOVED).await?,
            insert_progress: prepare(INSERT_PROGRESS).await?,
            update_read: prepare(UPDATE_READ).await?,
            update_delivered: prepare(UPDATE_DELIVERED).await?,
            update_other_read: prepare(UPDATE_OTHER_READ).await?,
            update_other_delivered: prepare(UPDATE_OTHER_DELIVERED).await?,
            update_marked_at: prepare(UPDATE_MARKED_AT).await?,
            insert_call: prepare(INSERT_CALL).await?,
            delete_calls: prepare(DELETE_CALLS).await?,
            select_marks: prepare(&format!("{SELECT_MARKS} AND chat_id = ?")).await?,
            select_marks_of: prepare(SELECT_MARKS).await?,
            select_calls: prepare(SELECT_CALLS).await?,
            select_calls_of: prepare(SELECT_CALLS_OF).await?,
            select_counts: prepare(SELECT_COUNTS).await?,
            select_head: prepare(SELECT_HEAD).await?,
            select_key: prepare(SELECT_KEY).await?,
            select_standing: prepare(SELECT_STANDING).await?,
            select_target: prepare(SELECT_TARGET).await?,
            select_pins: prepare(SELECT_PINS).await?,
            select_replies: prepare(SELECT_REPLIES).await?,
            select_time: prepare(SELECT_TIME).await?,
            select_entry: prepare(&format!("{SELECT_MESSAGES} {ONE}")).await?,
            select_reaction: prepare(SELECT_REACTION).await?,
            select_reactions: prepare(SELECT_REACTIONS).await?,
            select_partitions: prepare(SELECT_PARTITIONS).await?,
            select_progress: prepare(SELECT_PROGRESS).await?,
            select_later: prepare(&format!("{SELECT_MESSAGES} {LATER}")).await?,
            select_earlier: prepare(&format!("{SELECT_MESSAGES} {EARLIER}")).await?,
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            clock,
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
            writes.push(self.append_batch(generation, batch));
        }
        all(writes).await
    }

    /// Writes rows of one store partition, texts that disappear apart from their rows: a batch of one partition is seen whole or not at all.
    async fn append_batch(&self, generation: &Generation, rows: Vec<Row<'_>>) -> Result<()> {
        let now_ms = (self.clock)();
        let mut batch = Batch::new(BatchType::Unlogged);
        let mut values = Vec::with_capacity(rows.len());
        for row in &rows {
            batch.append_statement(self.insert_message.clone());
            values.push(RowValues::Message(Box::new(message_values(generation, row))));
            if let Some(ttl) = row.times.expires_at_ms.and_then(|at_ms| ttl_seconds(at_ms, now_ms)) {
                batch.append_statement(self.update_body_for.clone());
                let (chat, body) = (row.entry.chat.0, row.entry.body.as_str());
                let attachments = MaybeUnset::from_option(written(&row.entry.attachments));
                let at = (chat, bucket(row.seq), row.seq);
                values.push(RowValues::Body((row.stamp, ttl, body, attachments, at.0, at.1, at.2)));
            }
        }
        if let [RowValues::Message(one)] = values.as_slice() {
            return self.execute(&self.insert_message, one, || "write messages".to_owned()).await.map(drop);
        }
        batch.set_is_idempotent(true);
        let _turn = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.run_batch(&batch, values).await.map_err(|source| failed("write messages".to_owned(), source))
    }

    async fn append_keys(&self, generation: &Generation, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for batch in rows.chunks(KEYS_PER_BATCH) {
            let values = batch.iter().map(|row| key_values(generation, row)).collect();
            writes.push(self.execute_batch(&self.insert_key, values, "write message keys"));
        }
        all(writes).await
    }

    async fn append_effects(&self, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for Row { entry, seq, stamp, effect, .. } in rows {
            let write = match (effect, entry.subject, entry.reaction_id()) {
                (Some(Effect::Standing(standing)), Some(subject), _) => {
                    let is_out = *standing == Standing::Out;
                    let values = (entry.chat.0, subject.0, *seq, is_out, *stamp);
                    self.execute(&self.insert_standing, values, || "write standings".to_owned()).boxed()
                }
                (Some(Effect::Reacts(reacts)), _, Some(ReactionId { target, user, emoji })) => {
                    let values = (target.chat.0, user.0, target.seq, emoji, *seq, *reacts, *stamp);
                    self.execute(&self.insert_reaction, values, || "write reactions".to_owned()).boxed()
                }
                _ => continue,
            };
            writes.push(write.map_ok(drop));
        }
        all(writes).await
    }

    async fn overwrite(&self, overwrites: &[Overwrite]) -> Result<()> {
        let mut writes = Vec::new();
        for overwrite in overwrites {
            let write = match overwrite {
                Overwrite::Body {
                    target: TargetId { chat, seq },
                    stamp,
                    body,
                    expires_at_ms: Some(at_ms),
                } => {
                    // One whose time is past replaces a text that is gone.
                    let Some(ttl) = ttl_seconds(*at_ms, (self.clock)()) else { continue };
                    let values = (*stamp, ttl, body.as_str(), UNSET, chat.0, bucket(*seq), *seq);
                    self.execute(&self.update_body_for, values, || "write an edit".to_owned()).boxed()
                }
                Overwrite::Body { target: TargetId { chat, seq }, stamp, body, expires_at_ms: None } => {
                    let values = (*stamp, body.as_str(), UNSET, chat.0, bucket(*seq), *seq);
                    self.execute(&self.update_body, values, || "write an edit".to_owned()).boxed()
                }
                Overwrite::Erased { target: TargetId { chat, seq }, stamp } => {
                    // A null would be a tombstone.
                    let values = (*stamp, "", "", chat.0, bucket(*seq), *seq);
                    self.execute(&self.update_body, values, || "erase a text".to_owned()).boxed()
                }
                Overwrite::Patch { target: TargetId { chat, seq }, stamp, patch } => {
                    let patch = serde_json::to_string(patch).expect("a patch is JSON");
                    let values = (*stamp, patch, chat.0, bucket(*seq), *seq);
                    self.execute(&self.update_patch, values, || "write a patch".to_owned()).boxed()
                }
                Overwrite::Pins { chat, stamp, pins } => {
                    let pins = serde_json::to_string(pins).expect("pins are JSON");
                    let values = (*stamp, pins, chat.0);
                    self.execute(&self.update_pins, values, || "write pins".to_owned()).boxed()
                }
            };
            writes.push(write.map_ok(drop));
        }
        all(writes).await
    }

    async fn append_marks(&self, rows: &[Row<'_>]) -> Result<()> {
        let writes = read_by(rows).into_iter().map(|(seat, point)| self.put_read(seat, point)).collect();
        all(writes).await
    }

    async fn append_calls(&self, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for row in rows {
            for user in row.called() {
                let values = (user.0, row.entry.chat.0, row.seq, row.stamp);
                writes
                    .push(self.execute(&self.insert_call, values, || "write calls".to_owned()).map_ok(drop));
            }
        }
        all(writes).await
    }

    async fn append_replies(&self, rows: &[Row<'_>]) -> Result<()> {
        let mut writes = Vec::new();
        for row in rows {
            if let Some(TargetId { chat, seq }) = row.replied_to() {
                let values = (chat.0, seq, row.seq, row.stamp);
                let write = self.execute(&self.insert_reply, values, || "write replies".to_owned());
                writes.push(write.map_ok(drop));
            }
        }
        all(writes).await
    }

    async fn put_read(&self, SeatId { chat, user }: SeatId, point: Point) -> Result<()> {
        let Point { seq, counts: Counts { texts, calls } } = point;
        let values = (seq, seq, texts, calls, user.0, chat.0);
        self.execute(&self.update_read, values, || format!("write a mark in chat {chat}")).await.map(drop)
    }

    /// Notes which heads are written together, under the last record that moved one of them.
    async fn note_moved(&self, partition: Partition, heads: &[(ChatId, Head)]) -> Result<()> {
        let last = heads.iter().filter_map(|(_, head)| Some((head.applied.as_ref()?, head.stamp)));
        let Some((Position { generation, offset }, _)) = last.max_by_key(|(at, _)| at.offset) else {
            return Ok(());
        };
        let stamp = heads.iter().map(|(_, head)| head.stamp).max().unwrap_or_default();
        let chats: Vec<Uuid> = heads.iter().map(|(chat, _)| chat.0).collect();
        let window = offset / MOVED_WINDOW;
        let values = (stamp, &chats, &chats, generation.as_str(), partition.0, window, *offset);
        self.execute(&self.update_moved, values, || "note which heads moved".to_owned()).await.map(drop)
    }

    async fn put_head(&self, partition: Partition, chat: ChatId, head: &Head) -> Result<()> {
        // A head that has applied nothing is what an absent row means.
        let Some(applied) = &head.applied else { return Ok(()) };
        let &Head { seq, applied: _, stamp, counts, ttl_seconds, at_ms, newest_key } = head;
        let Counts { texts, calls } = counts;
        let ttl = i32::try_from(ttl_seconds).unwrap_or(i32::MAX);
        let Position { generation, offset } = applied;
        let (generation, at) = (generation.as_str(), CqlTimestamp(at_ms));
        let key = MaybeUnset::from_option(newest_key.to_store());
        let values =
            (chat.0, seq, generation, partition.0, *offset, stamp, texts, calls, ttl, at, key, stamp);
        self.execute(&self.insert_head, values, || format!("write the head of chat {chat}")).await.map(drop)
    }
}

impl Store for CqlStore {
    async fn head(&self, chat: ChatId) -> Result<Head> {
        Ok(self.placed_head(chat).await?.head)
    }

    async fn placed_head(&self, chat: ChatId) -> Result<PlacedHead> {
        let step = || format!("read the head of chat {chat}");
        let result = self.execute(&self.select_head, (chat.0,), step).await?;
        let Some(row) = first_row::<HeadRow>(result, step)? else { return Ok(PlacedHead::default()) };
        let HeadRow { head_seq: seq, generation, partition, applied_offset: offset, stamp, .. } = row;
        let (texts, calls, ttl, sent_at) = (row.texts, row.calls, row.ttl_seconds, row.sent_at);
        let applied = Some(Position { generation: Generation::new(&generation), offset });
        let ttl_seconds = ttl.and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default();
        // Heads of before the time was kept have the stamp, which follows it.
        let at_ms = sent_at.map_or(stamp / 1_000, |at| at.0);
        // A version that does not keep it has written the rest of the row behind it.
        let newest_key = row.newest_key.filter(|_| row.newest_key_stamp == Some(stamp));
        let newest_key = newest_key.map_or(NewestKey::UNKNOWN, NewestKey::stored);
        let counts = counts(texts, calls);
        let head = Head { seq, applied, stamp, counts, ttl_seconds, at_ms, newest_key };
        Ok(PlacedHead { head, partition: partition.map(Partition) })
    }

    async fn counts_at(&self, chat: ChatId, seq: i64) -> Result<Option<Counts>> {
        let step = || format!("read entry {seq} of chat {chat}");
        let result = self.execute(&self.select_counts, (chat.0, bucket(seq), seq), step).await?;
        // A row without a sender is one that was changed, and lost since.
        let row = first_row::<(Option<Uuid>, Option<i64>, Option<i64>)>(result, step)?;
        Ok(row.and_then(|(sender, texts, calls)| sender.map(|_| counts(texts, calls))))
    }

    async fn marks(&self, SeatId { chat, user }: SeatId) -> Result<Marks> {
        let step = || format!("read the marks of a user in chat {chat}");
        let result = self.execute(&self.select_marks, (user.0, chat.0), step).await?;
        Ok(first_row::<MarkRow>(result, step)?.map(Marks::from).unwrap_or_default())
    }

    async fn marks_of(&self, user: UserId) -> Result<HashMap<ChatId, Marks>> {
        let step = || "read the marks of a user".to_owned();
        let result = self.execute(&self.select_marks_of, (user.0,), step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let rows = rows.rows::<MarkRow>().map_err(|source| failed(step(), source))?;
        rows.map(|row| {
            let row = row.map_err(|source| failed(step(), source))?;
            Ok((ChatId(row.chat_id), row.into()))
        })
        .collect()
    }

    async fn put_marks(&self, SeatId { chat, user }: SeatId, marks: Marks) -> Result<()> {
        let step = || format!("write a mark in chat {chat}");
        let Marks { read, delivered_seq, other_read_seq, other_delivered_seq, at_ms } = marks;
        let seqs = [
            (&self.update_delivered, delivered_seq),
            (&self.update_other_read, other_read_seq),
            (&self.update_other_delivered, other_delivered_seq),
        ];
        let mut writes: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        // Nothing is ever less than 0, which is what an absent column means.
        for (statement, seq) in seqs.into_iter().filter(|(_, seq)| *seq > 0) {
            writes.push(self.execute(statement, (seq, seq, user.0, chat.0), step).map_ok(drop).boxed());
        }
        if read.seq > 0 {
            writes.push(self.put_read(SeatId { chat, user }, read).boxed());
        }
        let marked_at = (at_ms, CqlTimestamp(at_ms), user.0, chat.0);
        writes.push(self.execute(&self.update_marked_at, marked_at, step).map_ok(drop).boxed());
        all(writes).await
    }

    async fn calls(&self, SeatId { chat, user }: SeatId) -> Result<Vec<i64>> {
        let step = || format!("read the calls of a user in chat {chat}");
        let values = (user.0, chat.0, MAX_CALLS as i32);
        let result = self.execute(&self.select_calls, values, step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let rows = rows.rows::<(i64,)>().map_err(|source| failed(step(), source))?;
        rows.map(|row| row.map(|(seq,)| seq).map_err(|source| failed(step(), source))).collect()
    }

    async fn calls_of(&self, user: UserId) -> Result<Vec<(ChatId, i64)>> {
        let step = || "read the calls of a user".to_owned();
        let result = self.execute(&self.select_calls_of, (user.0, MAX_CALLS as i32), step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let rows = rows.rows::<(Uuid, i64)>().map_err(|source| failed(step(), source))?;
        rows.map(|row| row.map(|(chat, seq)| (ChatId(chat), seq)).map_err(|source| failed(step(), source)))
            .collect()
    }

    async fn forget_calls(&self, SeatId { chat, user }: SeatId, seq: i64, stamp: i64) -> Result<()> {
        let step = || format!("forget the calls of a user in chat {chat}");
        self.execute(&self.delete_calls, (stamp, user.0, chat.0, seq), step).await.map(drop)
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

    async fn target(&self, TargetId { chat, seq }: TargetId) -> Result<Option<Target>> {
        let step = || format!("read message {seq} of chat {chat}");
        let result = self.execute(&self.select_target, (chat.0, bucket(seq), seq), step).await?;
        // A row without a sender is one that was changed, and lost since.
        type At = Option<CqlTimestamp>;
        type Columns = (Option<Uuid>, Option<String>, Option<i64>, Option<String>, At, At);
        let row = first_row::<Columns>(result, step)?;
        let Some((Some(sender), Some(kind), target_seq, patch, Some(sent_at), expires_at)) = row else {
            return Ok(None);
        };
        let Some(kind) = EntryKind::parse(&kind) else {
            return Err(failed(step(), "its kind is not known here"));
        };
        let patch = read_patch(patch.as_deref()).map_err(|source| failed(step(), source))?;
        let times = Times { sent_at_ms: sent_at.0, expires_at_ms: expires_at.map(|at| at.0) };
        Ok(Some(Target::new(UserId(sender), kind, target_seq, patch, times)))
    }

    async fn pins(&self, chat: ChatId) -> Result<Pins> {
        let step = || format!("read what is pinned in chat {chat}");
        let result = self.execute(&self.select_pins, (chat.0,), step).await?;
        let Some((pins,)) = first_row::<(Option<String>,)>(result, step)? else { return Ok(Pins::default()) };
        let pins = pins.as_deref().map(serde_json::from_str).transpose();
        Ok(pins.map_err(|source| failed(step(), source))?.unwrap_or_default())
    }

    async fn replies(&self, TargetId { chat, seq }: TargetId, after: i64, limit: usize) -> Result<Vec<i64>> {
        let step = || format!("read the replies to message {seq} of chat {chat}");
        let values = (chat.0, seq, after, i32::try_from(limit).unwrap_or(i32::MAX));
        let result = self.execute(&self.select_replies, values, step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let rows = rows.rows::<(i64,)>().map_err(|source| failed(step(), source))?;
        rows.map(|row| row.map(|(seq,)| seq).map_err(|source| failed(step(), source))).collect()
    }

    async fn entry(&self, TargetId { chat, seq }: TargetId) -> Result<Option<Message>> {
        let step = || format!("read message {seq} of chat {chat}");
        let result = self.execute(&self.select_entry, (chat.0, bucket(seq), seq), step).await?;
        let message = first_row::<MessageRow>(result, step)?;
        let message = message.map(|row| message_of(chat, row, (self.clock)())).transpose()?;
        Ok(message.flatten())
    }

    async fn time_from(&self, TargetId { chat, seq }: TargetId) -> Result<Option<(i64, i64)>> {
        let step = || format!("read when message {seq} of chat {chat} was sent");
        let result = self.execute(&self.select_time, (chat.0, bucket(seq), seq), step).await?;
        // A row without a sender is one that was changed, and lost since.
        let row = first_row::<(i64, Option<i64>)>(result, step)?;
        Ok(row.and_then(|(seq, stamp)| stamp.map(|micros| (seq, micros / 1_000))))
    }

    async fn reacts(&self, ReactionId { target, user, emoji }: &ReactionId, seq: i64) -> Result<bool> {
        let step = || format!("look up a reaction in chat {}", target.chat);
        let values = (target.chat.0, user.0, target.seq, emoji, seq);
        let result = self.execute(&self.select_reaction, values, step).await?;
        Ok(first_row::<(bool,)>(result, step)?.is_some_and(|(reacts,)| reacts))
    }

    async fn reactions_of(
        &self,
        SeatId { chat, user }: SeatId,
        first: i64,
        last: i64,
    ) -> Result<Vec<(i64, String)>> {
        let step = || format!("read the reactions of a user in chat {chat}");
        let result = self.execute(&self.select_reactions, (chat.0, user.0, first, last), step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let mut newest: BTreeMap<(i64, String), bool> = BTreeMap::new();
        for row in rows.rows::<(i64, String, bool)>().map_err(|source| failed(step(), source))? {
            let (seq, emoji, reacts) = row.map_err(|source| failed(step(), source))?;
            newest.entry((seq, emoji)).or_insert(reacts);
        }
        Ok(newest.into_iter().filter_map(|(id, reacts)| reacts.then_some(id)).collect())
    }

    async fn append(
        &self,
        generation: &Generation,
        rows: &[Row<'_>],
        overwrites: &[Overwrite],
    ) -> Result<()> {
        // What an entry changes is not seen before its key is: who sends it again meanwhile would be refused, as if it were not stored.
        let (texts, changes): (Vec<Row<'_>>, Vec<Row<'_>>) =
            rows.iter().partition(|row| row.entry.kind == EntryKind::Text);
        self.append_keys(generation, &changes).await?;
        tokio::try_join!(
            self.append_messages(generation, rows),
            self.append_keys(generation, &texts),
            self.append_effects(rows),
            self.append_marks(rows),
            self.append_calls(rows),
            self.append_replies(rows),
            self.overwrite(overwrites)
        )?;
        Ok(())
    }

    async fn put_heads(&self, partition: Partition, heads: &[(ChatId, Head)]) -> Result<()> {
        let writes = all(heads.iter().map(|(chat, head)| self.put_head(partition, *chat, head)).collect());
        tokio::try_join!(writes, self.note_moved(partition, heads)).map(drop)
    }

    async fn partitions(&self, generation: &Generation) -> Result<Vec<Partition>> {
        let step = || "read the partitions of the log".to_owned();
        let result = self.execute(&self.select_partitions, (), step).await?;
        let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
        let mut partitions = Vec::new();
        for row in rows.rows::<(&str, i32)>().map_err(|source| failed(step(), source))? {
            let (of, partition) = row.map_err(|source| failed(step(), source))?;
            if of == generation.as_str() {
                partitions.push(Partition(partition));
            }
        }
        Ok(partitions)
    }

    async fn moved(
        &self,
        generation: &Generation,
        partition: Partition,
        from: i64,
        to: i64,
    ) -> Result<HashSet<ChatId>> {
        let step = || format!("read which heads moved in partition {}", partition.0);
        let mut moved = HashSet::new();
        // A head that was moved before `to` may have been written together with one behind it.
        for window in from / MOVED_WINDOW..=to / MOVED_WINDOW + 1 {
            let values = (generation.as_str(), partition.0, window, from);
            let result = self.execute(&self.select_moved, values, step).await?;
            let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
            type Columns = (Option<Vec<Uuid>>, Option<Vec<Uuid>>);
            for row in rows.rows::<Columns>().map_err(|source| failed(step(), source))? {
                let (chats, older) = row.map_err(|source| failed(step(), source))?;
                moved.extend(chats.into_iter().chain(older).flatten().map(ChatId));
            }
        }
        Ok(moved)
    }

    async fn progress(&self, generation: &Generation, partition: Partition) -> Result<Option<Progress>> {
        let step = || format!("read the position of partition {}", partition.0);
        let values = (generation.as_str(), partition.0);
        let result = self.execute(&self.select_progress, values, step).await?;
        type Columns = (i64, Option<i64>, Option<Vec<u8>>);
        let Some((next_offset, last_offset, hash)) = first_row::<Columns>(result, step)? else {
            return Ok(None);
        };
        // An offset that came later, from a version that kept no record or from an administrator, is behind another record.
        let hash = hash.filter(|_| last_offset.is_some_and(|last| last + 1 == next_offset));
        let hash = hash.map(<[u8; 32]>::try_from).transpose();
        let last = hash.map_err(|_| failed(step(), "its hash is not 32 bytes"))?.map(RecordHash);
        Ok(Some(Progress { next_offset, last }))
    }

    async fn put_progress(
        &self,
        generation: &Generation,
        partition: Partition,
        progress: Progress,
    ) -> Result<()> {
        let step = || format!("write the position of partition {}", partition.0);
        let Progress { next_offset, last } = progress;
        let last_offset = MaybeUnset::from_option(last.map(|_| next_offset - 1));
        let hash = MaybeUnset::from_option(last.map(|RecordHash(hash)| hash.to_vec()));
        // The offset is its own timestamp: a lower one loses.
        let values = (generation.as_str(), partition.0, next_offset, last_offset, hash, next_offset);
        self.execute(&self.insert_progress, values, step).await.map(drop)
    }

    async fn messages(&self, chat: ChatId, bucket: i64, run: Run, room: &mut Room) -> Result<Vec<Message>> {
        let (statement, start) = match run {
            Run::After(seq) => (&self.select_later, seq),
            Run::Before(seq) => (&self.select_earlier, seq),
        };
        let step = || format!("read messages of chat {chat}");
        let mut messages: Vec<Message> = Vec::new();
        let (mut page_rows, mut last, now_ms) = (FIRST_PAGE_ROWS, start, (self.clock)());
        // Each page starts behind the last row of the one before. The store's own paging state would do the same, but
        // Cassandra starts again at the first row when the size of the pages changes.
        while room.entries() > 0 {
            let limit = page_rows.min(room.entries());
            page_rows = LARGEST_PAGE_ROWS.min(page_rows * 2);
            let values = (chat.0, bucket, last, i32::try_from(limit).unwrap_or(i32::MAX));
            let result = self.execute(statement, values, step).await?;
            let rows = result.into_rows_result().map_err(|source| failed(step(), source))?;
            for row in rows.rows::<MessageRow>().map_err(|source| failed(step(), source))? {
                let row = row.map_err(|source| failed(step(), source))?;
                last = row.seq;
                let Some(message) = message_of(chat, row, now_ms)? else { continue };
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

/// The columns of [`SELECT_HEAD`], in their order.
#[derive(scylla::DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct HeadRow {
    head_seq: i64,
    generation: String,
    partition: Option<i32>,
    applied_offset: i64,
    stamp: i64,
    texts: Option<i64>,
    calls: Option<i64>,
    ttl_seconds: Option<i32>,
    sent_at: Option<CqlTimestamp>,
    newest_key: Option<Uuid>,
    newest_key_stamp: Option<i64>,
}

#[derive(scylla::DeserializeRow)]
struct MarkRow {
    chat_id: Uuid,
    read_seq: Option<i64>,
    read_texts: Option<i64>,
    read_calls: Option<i64>,
    delivered_seq: Option<i64>,
    other_read_seq: Option<i64>,
    other_delivered_seq: Option<i64>,
    marked_at: Option<CqlTimestamp>,
}

impl From<MarkRow> for Marks {
    fn from(row: MarkRow) -> Self {
        let counts = counts(row.read_texts, row.read_calls);
        Self {
            read: Point { seq: row.read_seq.unwrap_or_default(), counts },
            delivered_seq: row.delivered_seq.unwrap_or_default(),
            other_read_seq: row.other_read_seq.unwrap_or_default(),
            other_delivered_seq: row.other_delivered_seq.unwrap_or_default(),
            at_ms: row.marked_at.map(|at| at.0).unwrap_or_default(),
        }
    }
}

/// Rows of before the counts were kept have none.
fn counts(texts: Option<i64>, calls: Option<i64>) -> Counts {
    Counts { texts: texts.unwrap_or_default(), calls: calls.unwrap_or_default() }
}

#[derive(scylla::DeserializeRow)]
struct MessageRow {
    seq: i64,
    sender_id: Option<Uuid>,
    key: Option<Uuid>,
    kind: Option<String>,
    /// Absent once it has disappeared.
    body: Option<String>,
    subject_id: Option<Uuid>,
    target_seq: Option<i64>,
    mentions: Option<Vec<Uuid>>,
    mentions_all: Option<bool>,
    mention_roles: Option<Vec<String>>,
    mentions_here: Option<bool>,
    silent: Option<bool>,
    forwarded_sender_id: Option<Uuid>,
    forwarded_sent_at: Option<CqlTimestamp>,
    range_from_seq: Option<i64>,
    range_to_seq: Option<i64>,
    sent_at: Option<CqlTimestamp>,
    patch: Option<String>,
    expires_at: Option<CqlTimestamp>,
    /// JSON. Absent of a message that never had any or has disappeared, and empty of one that is deleted.
    attachments: Option<String>,
}

/// Reads a row. One without a sender is of a batch that is half written, in which a later entry changes an earlier one: `None`, like one that
/// is not there yet.
fn message_of(chat: ChatId, row: MessageRow, now_ms: i64) -> Result<Option<Message>> {
    let seq = row.seq;
    let step = || format!("read message {seq} of chat {chat}");
    let MessageRow {
        sender_id: Some(sender), key: Some(key), kind: Some(kind), sent_at: Some(sent_at), ..
    } = row
    else {
        return Ok(None);
    };
    let kind = EntryKind::parse(&kind).ok_or_else(|| failed(step(), "its kind is not known here"))?;
    let patch = read_patch(row.patch.as_deref()).map_err(|source| failed(step(), source))?;
    let attachments =
        read_attachments(row.attachments.as_deref()).map_err(|source| failed(step(), source))?;
    let role =
        |name: &String| Role::parse(name).ok_or_else(|| failed(step(), "its roles are not known here"));
    let mention_roles = row.mention_roles.iter().flatten().map(role).collect::<Result<_>>()?;
    let forwarded = row.forwarded_sender_id.zip(row.forwarded_sent_at);
    let range = row.range_from_seq.zip(row.range_to_seq);
    let mut message = Message {
        chat,
        seq,
        sender: UserId(sender),
        key: MessageKey(key),
        kind,
        body: row.body.unwrap_or_default(),
        subject: row.subject_id.map(UserId),
        target_seq: row.target_seq,
        mentions: row.mentions.unwrap_or_default().into_iter().map(UserId).collect(),
        mention_roles,
        mentions_all: row.mentions_all.unwrap_or_default(),
        mentions_here: row.mentions_here.unwrap_or_default(),
        silent: row.silent.unwrap_or_default(),
        attachments,
        forwarded: forwarded
            .map(|(sender, sent_at)| Forwarded { sender: UserId(sender), sent_at_ms: sent_at.0 }),
        range: range.map(|(from_seq, to_seq)| SeqRange { from_seq, to_seq }),
        sent_at_ms: sent_at.0,
        expires_at_ms: row.expires_at.map(|at| at.0),
        expired: false,
        changes: patch.changes,
    };
    // The store forgets a text some seconds late, by its own clock.
    message.expire(now_ms);
    Ok(Some(message))
}

/// Returns attachments as a row has them; `None` for none.
fn written(attachments: &[Attachment]) -> Option<String> {
    let write = || serde_json::to_string(attachments).expect("attachments are JSON");
    (!attachments.is_empty()).then(write)
}

fn read_attachments(text: Option<&str>) -> std::result::Result<Vec<Attachment>, serde_json::Error> {
    text.filter(|text| !text.is_empty()).map_or_else(|| Ok(Vec::new()), serde_json::from_str)
}

fn read_patch(text: Option<&str>) -> std::result::Result<Patch, serde_json::Error> {
    text.map_or_else(|| Ok(Patch::default()), serde_json::from_str)
}

/// The values of [`INSERT_MESSAGE`], in the order of its columns.
#[derive(scylla::SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct MessageValues<'a> {
    chat_id: Uuid,
    bucket: i64,
    seq: i64,
    sender_id: Uuid,
    key: Uuid,
    kind: &'a str,
    /// Unset of a text that disappears: see [`UPDATE_BODY_FOR`].
    body: MaybeUnset<&'a str>,
    // A null would be a tombstone; an unset column is nothing.
    subject_id: MaybeUnset<Uuid>,
    target_seq: MaybeUnset<i64>,
    mentions: MaybeUnset<Vec<Uuid>>,
    mentions_all: MaybeUnset<bool>,
    mention_roles: MaybeUnset<Vec<&'static str>>,
    mentions_here: MaybeUnset<bool>,
    silent: MaybeUnset<bool>,
    forwarded_sender_id: MaybeUnset<Uuid>,
    forwarded_sent_at: MaybeUnset<CqlTimestamp>,
    range_from_seq: MaybeUnset<i64>,
    range_to_seq: MaybeUnset<i64>,
    texts: i64,
    calls: i64,
    sent_at: CqlTimestamp,
    generation: &'a str,
    log_offset: i64,
    expires_at: MaybeUnset<CqlTimestamp>,
    /// Unset of a text that disappears, too.
    attachments: MaybeUnset<String>,
    timestamp: i64,
}

/// The values of a statement that writes of a row.
enum RowValues<'a> {
    Message(Box<MessageValues<'a>>),
    /// Of [`UPDATE_BODY_FOR`].
    Body((i64, i32, &'a str, MaybeUnset<String>, Uuid, i64, i64)),
}

impl SerializeRow for RowValues<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        match self {
            Self::Message(values) => values.serialize(context, writer),
            Self::Body(values) => values.serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Returns for how long a text is kept that disappears at a time, in whole seconds and not less than is left; `None` when that is past.
fn ttl_seconds(expires_at_ms: i64, now_ms: i64) -> Option<i32> {
    let left_ms = expires_at_ms.saturating_sub(now_ms);
    (left_ms > 0).then(|| i32::try_from(left_ms / 1000 + 1).unwrap_or(i32::MAX))
}

fn message_values<'a>(generation: &'a Generation, row: &Row<'a>) -> MessageValues<'a> {
    let Row { entry, seq, stamp, counts: Counts { texts, calls }, effect: _, times } = *row;
    let Times { sent_at_ms, expires_at_ms } = times;
    let mentions: Vec<Uuid> = entry.mentions.iter().map(|user| user.0).collect();
    let roles: Vec<&str> = entry.mention_roles.iter().map(|role| role.as_str()).collect();
    MessageValues {
        chat_id: entry.chat.0,
        bucket: bucket(seq),
        seq,
        sender_id: entry.sender.0,
        key: entry.key.0,
        kind: entry.kind.as_str(),
        body: MaybeUnset::from_option(expires_at_ms.is_none().then_some(entry.body.as_str())),
        subject_id: MaybeUnset::from_option(entry.subject.map(|subject| subject.0)),
        target_seq: MaybeUnset::from_option(entry.target_seq),
        mentions: MaybeUnset::from_option((!mentions.is_empty()).then_some(mentions)),
        mentions_all: MaybeUnset::from_option(entry.mentions_all.then_some(true)),
        mention_roles: MaybeUnset::from_option((!roles.is_empty()).then_some(roles)),
        mentions_here: MaybeUnset::from_option(entry.mentions_here.then_some(true)),
        silent: MaybeUnset::from_option(entry.silent.then_some(true)),
        forwarded_sender_id: MaybeUnset::from_option(entry.forwarded.map(|of| of.sender.0)),
        forwarded_sent_at: MaybeUnset::from_option(entry.forwarded.map(|of| CqlTimestamp(of.sent_at_ms))),
        range_from_seq: MaybeUnset::from_option(entry.range.map(|range| range.from_seq)),
        range_to_seq: MaybeUnset::from_option(entry.range.map(|range| range.to_seq)),
        texts,
        calls,
        sent_at: CqlTimestamp(sent_at_ms),
        generation: generation.as_str(),
        log_offset: entry.offset,
        expires_at: MaybeUnset::from_option(expires_at_ms.map(CqlTimestamp)),
        attachments: MaybeUnset::from_option(
            expires_at_ms.is_none().then(|| written(&entry.attachments)).flatten(),
        ),
        timestamp: stamp,
    }
}

fn key_values<'a>(generation: &'a Generation, row: &Row<'a>) -> impl SerializeRow + use<'a> {
    let Row { entry, seq, stamp, .. } = *row;
    let content = entry.content.0.to_vec();
    (entry.chat.0, entry.sender.0, entry.key.0, seq, content, generation.as_str(), entry.offset, stamp)
}

/// Returns how many bytes an entry has in the store, about.
fn bytes_of(entry: &Entry) -> usize {
    entry.body.len() + entry.attachments.len() * ATTACHMENT_BYTES
}

/// Cuts the rows of one store partition into batches of bounded size.
fn split(rows: Vec<Row<'_>>) -> Vec<Vec<Row<'_>>> {
    let mut batches: Vec<Vec<Row<'_>>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        bytes += bytes_of(row.entry);
        match batches.last_mut() {
            Some(batch) if batch.len() < MESSAGES_PER_BATCH && bytes <= BYTES_PER_BATCH => batch.push(row),
            Some(_) | None => {
                bytes = bytes_of(row.entry);
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
