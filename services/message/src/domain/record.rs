//! From the bytes of a log record to an entry, or to the reason why it is none.

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{self, DeliveredRecord, DeliveryOutcome, SendRecord},
    wire::MAX_BODY_BYTES,
};
use serde::Deserialize;

use super::{Entry, content_hash};

/// A record as the log has it.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub offset: i64,
    /// Milliseconds since the epoch by the log's clock, when it has one.
    pub logged_at_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

/// What a record turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    Entry(Box<Entry>),
    Refused(Refused),
}

impl Logged {
    pub fn offset(&self) -> i64 {
        match self {
            Self::Entry(entry) => entry.offset,
            Self::Refused(refused) => refused.offset,
        }
    }

    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Refused(_) => None,
        }
    }
}

/// A record that can never be stored. It takes no part in the sequence; the log moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub offset: i64,
    /// For the log line.
    pub reason: &'static str,
    /// The answer, when the record still names its sender.
    pub answer: Option<Box<DeliveredRecord>>,
}

/// What can still be read of a broken record.
#[derive(Deserialize)]
struct Sender {
    chat: ChatId,
    sender: UserId,
    device: DeviceId,
    key: MessageKey,
}

/// Reads a record. What is refused here depends on nothing but the record.
pub fn read_record(record: RawRecord<'_>) -> Logged {
    let refuse = |code, reason| {
        let sender = record.payload.and_then(|bytes| serde_json::from_slice::<Sender>(bytes).ok());
        let answer = sender.map(|Sender { chat, sender, device, key }| {
            let outcome = DeliveryOutcome::Rejected { code };
            Box::new(DeliveredRecord { v: event::VERSION, chat, sender, device, key, outcome })
        });
        Logged::Refused(Refused { offset: record.offset, reason, answer })
    };
    let Some(payload) = record.payload else {
        return refuse(ErrorCode::Malformed, "it has no payload");
    };
    let Ok(send) = serde_json::from_slice::<SendRecord>(payload) else {
        return refuse(ErrorCode::Malformed, "it is not a record of a kind known here");
    };
    if send.v != event::VERSION {
        return refuse(ErrorCode::Malformed, "its version is not known here");
    }
    // The record key chose the partition, and with it the owner of the chat: one chat under two keys would have
    // two owners that both count.
    let keyed = record.key.and_then(|key| str::from_utf8(key).ok());
    if keyed != Some(send.chat.to_string().as_str()) {
        return refuse(ErrorCode::Malformed, "its record key is not its chat");
    }
    if send.body.len() > MAX_BODY_BYTES {
        return refuse(ErrorCode::TooLarge, "its body is too large");
    }
    if send.kind.needs_target() && send.target_seq.is_none() {
        return refuse(ErrorCode::Malformed, "it does not say which message it speaks of");
    }
    let mentions = (send.mentions.as_slice(), send.mentions_all);
    let content = content_hash(send.kind, send.subject, send.target_seq, mentions, &send.body);
    Logged::Entry(Box::new(Entry {
        offset: record.offset,
        sent_at_ms: record.logged_at_ms.unwrap_or_default().max(0),
        chat: send.chat,
        sender: send.sender,
        device: send.device,
        key: send.key,
        kind: send.kind,
        body: send.body,
        subject: send.subject,
        target_seq: send.target_seq,
        mentions: send.mentions,
        mentions_all: send.mentions_all,
        moderates: send.moderates,
        subject_only: send.subject_only,
        content,
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kit::testing::fuzz;
    use serde_json::{Value, json};

    use super::*;

    const CHAT: &str = "00000000-0000-0000-0000-000000000001";

    fn send(changes: Value) -> Value {
        let id = |n: u128| uuid::Uuid::from_u128(n);
        let mut record = json!({
            "v": 1, "chat": CHAT, "sender": id(2), "device": id(3), "key": id(4), "kind": "text", "body": "hi",
        });
        for (name, value) in changes.as_object().expect("changes are an object") {
            record[name] = value.clone();
        }
        record
    }

    fn read(key: Option<&str>, payload: Option<&[u8]>) -> Logged {
        let key = key.map(str::as_bytes);
        read_record(RawRecord { offset: 7, logged_at_ms: Some(1_000), key, payload })
    }

    /// `answered` is the code that the sender gets, or `None` when the sender is not known.
    fn check_refused(key: Option<&str>, payload: Option<&[u8]>, reason: &str, answered: Option<ErrorCode>) {
        let Logged::Refused(refused) = read(key, payload) else {
            panic!("a record whose fault is that {reason} was taken");
        };
        assert_eq!((refused.offset, refused.reason), (7, reason));
        let code = refused.answer.map(|answer| match answer.outcome {
            DeliveryOutcome::Rejected { code } => code,
            other => panic!("a refused record was answered by {other:?}"),
        });
        assert_eq!(code, answered, "{reason}");
    }

    #[test]
    fn a_record_of_this_version_is_an_entry() {
        // A field that this build does not know is of one that runs beside it during an update.
        let payload = send(json!({"audience": [CHAT]})).to_string();
        let logged = read(Some(CHAT), Some(payload.as_bytes()));
        let entry = logged.entry().expect("an entry");
        assert_eq!((entry.offset, entry.sent_at_ms, entry.body.as_str()), (7, 1_000, "hi"));
    }

    #[test]
    fn a_broken_record_is_refused_and_its_sender_answered_when_known() {
        use ErrorCode::{Malformed, TooLarge};
        let unknown = "it is not a record of a kind known here";
        let cases = [
            (send(json!({"kind": "sticker"})), unknown, Some(Malformed)),
            (send(json!({"body": 5})), unknown, Some(Malformed)),
            (send(json!({"sender": "me"})), unknown, None),
            (json!({"v": 1}), unknown, None),
            (json!([1, 2]), unknown, None),
            (send(json!({"kind": "edit"})), "it does not say which message it speaks of", Some(Malformed)),
            (send(json!({"v": 2})), "its version is not known here", Some(Malformed)),
            (send(json!({"body": "x".repeat(16 * 1024 + 1)})), "its body is too large", Some(TooLarge)),
        ];
        for (record, reason, answered) in cases {
            check_refused(Some(CHAT), Some(record.to_string().as_bytes()), reason, answered);
        }
        check_refused(Some(CHAT), None, "it has no payload", None);
        check_refused(Some(CHAT), Some(b"{\"v\":1,"), unknown, None);
        check_refused(Some(CHAT), Some(b"\xff\xfe"), unknown, None);
        let fine = send(json!({})).to_string();
        for key in [None, Some("00000000-0000-0000-0000-000000000009"), Some("")] {
            check_refused(key, Some(fine.as_bytes()), "its record key is not its chat", Some(Malformed));
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused() {
        let records = [
            send(json!({})),
            send(json!({"kind": "edit", "target_seq": 3, "mentions": [CHAT], "moderates": true})),
            send(json!({"kind": "member_added", "subject": CHAT, "body": "", "subject_only": true})),
            send(json!({"body": "häi \u{1f600} \\ \" \u{202e}"})),
        ];
        let records = records.map(|record| record.to_string().into_bytes());
        let inputs: Vec<&[u8]> = records.iter().map(Vec::as_slice).chain([CHAT.as_bytes()]).collect();
        let (entries, refused) = (Cell::new(0), Cell::new(0));
        fuzz(&inputs, |bytes| {
            let logged = read(Some(CHAT), Some(bytes));
            // The next owner of the partition reads the same.
            assert_eq!(read(Some(CHAT), Some(bytes)), logged);
            match logged {
                Logged::Entry(entry) => {
                    assert_eq!(entry.chat.to_string(), CHAT);
                    assert!(entry.body.len() <= MAX_BODY_BYTES);
                    entries.set(entries.get() + 1);
                }
                Logged::Refused(_) => refused.set(refused.get() + 1),
            }
            let keyed = read_record(RawRecord {
                offset: 7,
                logged_at_ms: None,
                key: Some(bytes),
                payload: Some(&records[0]),
            });
            assert_eq!(keyed.entry().is_some(), bytes == CHAT.as_bytes());
        });
        assert!(entries.get() > 0 && refused.get() > 0, "{entries:?} {refused:?}");
    }
}
