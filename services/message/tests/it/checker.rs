//! Recomputes everything from the log and compares it with the rows, the heads and the announcements.

use std::collections::{BTreeMap, HashMap, HashSet};

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{DeliveredRecord, DeliveryOutcome, EntryKind, LogPlace, SendRecord},
};
use kit::{catalog::Topic, testing::wait_for};
use scylla::value::CqlTimestamp;
use uuid::Uuid;

use crate::stand::{LogRecord, PARTITIONS, PATIENCE, Stand};

/// A message row as it has to be, with its CQL timestamp.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    sender: Uuid,
    key: Uuid,
    body: String,
    sent_at_ms: i64,
    offset: i64,
    stamp: i64,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    seq: i64,
    offset: i64,
    stamp: i64,
}

/// What the log means. Written without a look at the sequencer.
#[derive(Default)]
struct Expected {
    rows: BTreeMap<(ChatId, i64), Row>,
    keys: HashMap<(ChatId, UserId, MessageKey), (i64, i64)>,
    heads: HashMap<ChatId, Head>,
    /// When the last record of each chat was sent: a clock that steps back a little waits.
    clocks: HashMap<ChatId, i64>,
    /// By device, which the stories make unique per record.
    outcomes: HashMap<DeviceId, DeliveredRecord>,
}

impl Expected {
    fn of(log: &[LogRecord]) -> Self {
        let mut this = Self::default();
        let mut out: HashSet<(ChatId, UserId)> = HashSet::new();
        for record in log {
            let Ok(send) = serde_json::from_slice::<SendRecord>(&record.payload) else { continue };
            let head = this.heads.entry(send.chat).or_insert(Head { seq: 0, offset: 0, stamp: 0 });
            head.stamp = (record.at_ms * 1000).max(head.stamp + 1);
            head.offset = record.offset;
            let clock = this.clocks.entry(send.chat).or_default();
            if !(1..=2 * 60 * 60 * 1_000).contains(&(*clock - record.at_ms)) {
                *clock = record.at_ms;
            }
            let sent_at_ms = *clock;
            match (send.kind, send.subject) {
                (EntryKind::MemberRemoved, Some(subject)) => drop(out.insert((send.chat, subject))),
                (EntryKind::MemberAdded, Some(subject)) => drop(out.remove(&(send.chat, subject))),
                _ => {}
            }
            let id = (send.chat, send.sender, send.key);
            let outcome = match this.keys.get(&id) {
                Some((seq, _)) if this.rows[&(send.chat, *seq)].body == send.body => {
                    DeliveryOutcome::Repeated { seq: *seq }
                }
                Some(_) => DeliveryOutcome::Rejected { code: ErrorCode::IdempotencyConflict },
                None if send.kind == EntryKind::Text && out.contains(&(send.chat, send.sender)) => {
                    DeliveryOutcome::Rejected { code: ErrorCode::NotAMember }
                }
                None => {
                    head.seq += 1;
                    this.keys.insert(id, (head.seq, record.offset));
                    let row = Row {
                        sender: send.sender.0,
                        key: send.key.0,
                        body: send.body.clone(),
                        sent_at_ms,
                        offset: record.offset,
                        stamp: head.stamp,
                    };
                    this.rows.insert((send.chat, head.seq), row);
                    DeliveryOutcome::Stored {
                        seq: head.seq,
                        kind: send.kind,
                        body: send.body.clone(),
                        subject: send.subject,
                        target_seq: send.target_seq,
                        mentions: send.mentions.clone(),
                        mention_roles: send.mention_roles.clone(),
                        mentions_all: send.mentions_all,
                        mentions_here: send.mentions_here,
                        silent: send.silent,
                        attachments: send.attachments.clone(),
                        forwarded: send.forwarded,
                        range: send.range,
                        sent_at_ms,
                        subject_only: send.subject_only,
                        expires_at_ms: None,
                        place: Some(LogPlace { partition: record.partition, offset: record.offset }),
                    }
                }
            };
            let SendRecord { v, chat, sender, device, key, .. } = send;
            this.outcomes.insert(device, DeliveredRecord { v, chat, sender, device, key, outcome });
        }
        this
    }
}

/// Waits until every record of the log was announced, and returns the announcements in their order.
pub async fn all_announced(stand: &Stand) -> Vec<DeliveredRecord> {
    let log = stand.read(Topic::MessageSend).await;
    let devices: HashSet<DeviceId> = Expected::of(&log).outcomes.into_keys().collect();
    wait_for("the announcement of every record", PATIENCE, || async {
        // Counting is cheap, reading is not.
        if stand.count(Topic::MessageDelivered).await < devices.len() as i64 {
            return None;
        }
        let announced = announcements(stand).await;
        let with_announcement: HashSet<DeviceId> = announced.iter().map(|record| record.device).collect();
        with_announcement.is_superset(&devices).then_some(announced)
    })
    .await
}

async fn announcements(stand: &Stand) -> Vec<DeliveredRecord> {
    let records = stand.read(Topic::MessageDelivered).await;
    records.iter().map(|record| serde_json::from_slice(&record.payload).expect("an announcement")).collect()
}

/// Numbers of a check, for the story to assert on.
pub struct Checked {
    pub stored: usize,
    pub announced: usize,
}

/// Compares. The processes have been stopped in order, so the late heads and positions are written.
pub async fn check(stand: &Stand) -> Checked {
    let log = stand.read(Topic::MessageSend).await;
    let expected = Expected::of(&log);
    let announced = announcements(stand).await;
    check_rows(stand, &expected).await;
    check_keys(stand, &expected).await;
    check_heads(stand, &expected).await;
    check_announcements(&announced, &expected);
    check_positions(stand, &log).await;
    Checked { stored: expected.rows.len(), announced: announced.len() }
}

async fn check_rows(stand: &Stand, expected: &Expected) {
    type Columns = (Uuid, i64, i64, Uuid, Uuid, String, CqlTimestamp, i64, i64);
    let query = "SELECT chat_id, bucket, seq, sender_id, key, body, sent_at, log_offset, WRITETIME(body) \
        FROM messages";
    let mut rows = BTreeMap::new();
    for (chat, bucket, seq, sender, key, body, sent_at, offset, stamp) in
        select::<Columns>(stand, query).await
    {
        assert_eq!(bucket, seq / 8192, "message {seq} lies in the wrong bucket");
        rows.insert((ChatId(chat), seq), Row { sender, key, body, sent_at_ms: sent_at.0, offset, stamp });
    }
    for (id, row) in &expected.rows {
        assert_eq!(rows.get(id), Some(row), "row {id:?}");
    }
    assert_eq!(rows.len(), expected.rows.len(), "rows that the log does not explain");
}

async fn check_keys(stand: &Stand, expected: &Expected) {
    let query = "SELECT chat_id, sender_id, key, seq, log_offset FROM message_keys";
    let keys: HashMap<_, _> = select::<(Uuid, Uuid, Uuid, i64, i64)>(stand, query)
        .await
        .into_iter()
        .map(|(chat, sender, key, seq, offset)| {
            ((ChatId(chat), UserId(sender), MessageKey(key)), (seq, offset))
        })
        .collect();
    assert!(keys == expected.keys, "key rows are not those of the log");
}

async fn check_heads(stand: &Stand, expected: &Expected) {
    let query = "SELECT chat_id, head_seq, applied_offset, stamp, WRITETIME(head_seq) FROM chat_heads";
    let mut heads = HashMap::new();
    for (chat, seq, offset, stamp, written) in select::<(Uuid, i64, i64, i64, i64)>(stand, query).await {
        assert_eq!(stamp, written, "the head of {chat} was written with another stamp");
        heads.insert(ChatId(chat), Head { seq, offset, stamp });
    }
    assert_eq!(heads, expected.heads);
}

fn check_announcements(announced: &[DeliveredRecord], expected: &Expected) {
    let mut first_of: HashMap<ChatId, i64> = HashMap::new();
    let mut announced_devices = HashSet::new();
    for record in announced {
        assert_eq!(Some(record), expected.outcomes.get(&record.device), "an announcement not of this log");
        if let DeliveryOutcome::Stored { seq, .. } = record.outcome
            && announced_devices.insert(record.device)
        {
            let last = first_of.entry(record.chat).or_default();
            assert_eq!(seq, *last + 1, "first announcements of {} are out of order", record.chat);
            *last = seq;
        }
        announced_devices.insert(record.device);
    }
    assert_eq!(announced_devices.len(), expected.outcomes.len(), "records without an announcement");
}

async fn check_positions(stand: &Stand, log: &[LogRecord]) {
    let query = "SELECT partition, next_offset FROM log_positions";
    let positions: HashMap<i32, i64> = select::<(i32, i64)>(stand, query).await.into_iter().collect();
    for partition in 0..PARTITIONS {
        let records = log.iter().filter(|record| record.partition == partition);
        if let Some(end) = records.map(|record| record.offset + 1).max() {
            assert_eq!(positions.get(&partition), Some(&end), "the position of partition {partition}");
        }
    }
}

async fn select<R>(stand: &Stand, query: &str) -> Vec<R>
where
    R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata> + 'static,
{
    use futures_util::TryStreamExt as _;

    let pager = stand.session.query_iter(query, ()).await.expect("rows");
    pager.rows_stream::<R>().expect("rows of this type").try_collect().await.expect("all pages")
}
