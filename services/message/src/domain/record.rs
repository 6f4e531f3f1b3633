//! From the bytes of a log record to an entry, or to the reason why it is none.

use contracts::{
    ChatId, DeviceId, ErrorCode, MessageKey, UserId,
    event::{self, DeliveredRecord, DeliveryOutcome, EntryKind, SendRecord},
    wire::{Attachment, MAX_ATTACHMENTS, MAX_BODY_BYTES, MAX_DELETE_RANGE},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Content, ContentHash, Entry, KeyId};

/// A record as the log has it.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub offset: i64,
    /// Milliseconds since the epoch by the log's clock, when it has one.
    pub logged_at_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// Returns the fingerprint of all that the log has of the record at its offset.
    pub fn hash(&self) -> RecordHash {
        let mut hash = Sha256::new();
        for part in [self.key, self.payload] {
            // No part is as long as an absent one, and none can be taken for another.
            hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        hash.update(self.logged_at_ms.unwrap_or(i64::MIN).to_be_bytes());
        RecordHash(hash.finalize().into())
    }
}

/// Fingerprint of a record, by which the log is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordHash(pub [u8; 32]);

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

    /// Reports whether what became of it is announced.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::Entry(_) => true,
            Self::Refused(refused) => refused.answer.is_some(),
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
    if !are_files(&send) {
        return refuse(ErrorCode::Malformed, "it carries what no message carries");
    }
    if send.kind.needs_target() && send.target_seq.is_none() {
        return refuse(ErrorCode::Malformed, "it does not say which message it speaks of");
    }
    if send.kind == EntryKind::DeleteRange && !is_range(&send) {
        return refuse(ErrorCode::Malformed, "it does not say which messages of whom it deletes");
    }
    let content = content_of(&send);
    let mut mentions = send.mentions;
    mentions.retain(|user| !send.not_members.contains(user));
    Logged::Entry(Box::new(Entry {
        offset: record.offset,
        logged_at_ms: record.logged_at_ms.unwrap_or_default().max(0),
        chat: send.chat,
        sender: send.sender,
        device: send.device,
        key: send.key,
        kind: send.kind,
        body: send.body,
        subject: send.subject,
        target_seq: send.target_seq,
        mentions,
        mention_roles: send.mention_roles,
        mentions_all: send.mentions_all,
        mentions_here: send.mentions_here,
        silent: send.silent,
        attachments: send.attachments,
        forwarded: send.forwarded,
        // One of another kind would be read as targets.
        range: send.range.filter(|_| send.kind == EntryKind::DeleteRange),
        moderates: send.moderates,
        subject_only: send.subject_only,
        reads_from: send.reads_from.map(|of| KeyId { chat: send.chat, sender: of.sender, key: of.key }),
        content,
    }))
}

/// Returns whether what a record carries is a bounded number of files of a bounded size, with a text and nothing else.
fn are_files(send: &SendRecord) -> bool {
    let is_bounded = |file: &Attachment| file.too_long().is_none();
    send.attachments.is_empty()
        || send.kind == EntryKind::Text
            && send.attachments.len() <= MAX_ATTACHMENTS
            && send.attachments.iter().all(is_bounded)
}

/// Returns whether the deletion of a range is one: of not too many entries, and of what its sender may delete.
fn is_range(send: &SendRecord) -> bool {
    let is_allowed = send.moderates || send.subject == Some(send.sender);
    send.range.is_some_and(|range| range.from_seq > 0 && (1..=MAX_DELETE_RANGE).contains(&range.len()))
        && is_allowed
        && send.target_seq.is_none()
}

/// Returns the fingerprint of what the sender said, and of nothing that was found out about it before the log.
fn content_of(send: &SendRecord) -> ContentHash {
    let by_name =
        send.mentions.len().saturating_sub(usize::try_from(send.called_by_role).unwrap_or(usize::MAX));
    let is_range = send.kind == EntryKind::DeleteRange;
    Content {
        // Who says nothing of whose messages deletes their own or everyone's, by the role of that moment.
        subject: send.subject.filter(|subject| !is_range || *subject != send.sender),
        target_seq: send.target_seq,
        mentions: send.mentions.get(..by_name).unwrap_or_default(),
        mentions_all: send.mentions_all,
        mention_roles: &send.mention_roles,
        mentions_here: send.mentions_here,
        silent: send.silent,
        attachments: &send.attachments,
        range: send.range.filter(|_| is_range),
        source: send.source,
        ..Content::new(send.kind, &send.body)
    }
    .hash()
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

    #[test]
    fn a_record_is_recognized_by_all_that_the_log_has_of_it() {
        let record = RawRecord { offset: 7, logged_at_ms: Some(1), key: Some(b"k"), payload: Some(b"p") };
        assert_eq!(record.hash(), RawRecord { offset: 8, ..record }.hash(), "its place is compared apart");
        for other in [
            RawRecord { logged_at_ms: Some(2), ..record },
            RawRecord { logged_at_ms: None, ..record },
            RawRecord { key: None, ..record },
            RawRecord { key: Some(b""), ..record },
            RawRecord { key: Some(b"kp"), payload: Some(b""), ..record },
            RawRecord { payload: None, ..record },
            RawRecord { payload: Some(b"q"), ..record },
        ] {
            assert_ne!(record.hash(), other.hash(), "{other:?}");
        }
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
        assert_eq!((entry.offset, entry.logged_at_ms, entry.body.as_str()), (7, 1_000, "hi"));
    }

    #[test]
    fn a_broken_record_is_refused_and_its_sender_answered_when_known() {
        use ErrorCode::{Malformed, TooLarge};
        let unknown = "it is not a record of a kind known here";
        let no_files = "it carries what no message carries";
        let no_range = "it does not say which messages of whom it deletes";
        let cases = [
            (send(json!({"kind": "sticker"})), unknown, Some(Malformed)),
            (send(json!({"body": 5})), unknown, Some(Malformed)),
            (send(json!({"sender": "me"})), unknown, None),
            (json!({"v": 1}), unknown, None),
            (json!([1, 2]), unknown, None),
            (send(json!({"kind": "edit"})), "it does not say which message it speaks of", Some(Malformed)),
            (send(json!({"kind": "delete_range"})), no_range, Some(Malformed)),
            (send(range(1, 100, json!({}))), no_range, Some(Malformed)),
            (send(range(1, 100, json!({"subject": CHAT}))), no_range, Some(Malformed)),
            (send(range(1, 101, json!({"moderates": true}))), no_range, Some(Malformed)),
            (send(range(0, 1, json!({"moderates": true}))), no_range, Some(Malformed)),
            (send(range(3, 2, json!({"moderates": true}))), no_range, Some(Malformed)),
            (send(range(i64::MIN, i64::MAX, json!({"moderates": true}))), no_range, Some(Malformed)),
            (send(range(1, 2, json!({"moderates": true, "target_seq": 1}))), no_range, Some(Malformed)),
            (send(json!({"attachments": vec![file("a.txt"); 11]})), no_files, Some(Malformed)),
            (send(json!({"attachments": [file(&"a".repeat(256))]})), no_files, Some(Malformed)),
            (
                send(json!({"kind": "edit", "target_seq": 1, "attachments": [file("a.txt")]})),
                no_files,
                Some(Malformed),
            ),
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

    fn file(name: &str) -> Value {
        json!({"file": uuid::Uuid::from_u128(8), "name": name, "type": "text/plain", "size": 3})
    }

    fn range(from_seq: i64, to_seq: i64, more: Value) -> Value {
        let mut record = json!({"kind": "delete_range", "range": {"from_seq": from_seq, "to_seq": to_seq}});
        record.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        record
    }

    fn entry(changes: Value) -> Entry {
        let payload = send(changes).to_string();
        read(Some(CHAT), Some(payload.as_bytes())).entry().expect("an entry").clone()
    }

    #[test]
    fn what_was_found_out_before_the_log_is_no_part_of_what_was_said() {
        let id = |n: u128| uuid::Uuid::from_u128(n);
        let said = entry(json!({"mentions": [id(5), id(6)], "mention_roles": ["admin"]}));
        assert_eq!(said.mentions, [5, 6].map(|n| UserId(id(n))));
        // One of them has left, and an admin was found.
        let later = json!({
            "mentions": [id(5), id(6), id(7)], "called_by_role": 1, "not_members": [id(5)],
            "mention_roles": ["admin"],
        });
        let later = entry(later);
        assert_eq!(later.mentions, [6, 7].map(|n| UserId(id(n))));
        assert_eq!(later.content, said.content);
        assert_ne!(entry(json!({"mentions": [id(5), id(6)]})).content, said.content);

        let source = json!({"chat": id(9), "seq": 4});
        let forwarded =
            json!({"body": "hi", "source": source, "forwarded": {"sender": id(5), "sent_at_ms": 1}});
        let edited = json!({"body": "ho", "source": source, "forwarded": {"sender": id(5), "sent_at_ms": 1}});
        assert_eq!(entry(forwarded).content, entry(edited.clone()).content);
        assert_ne!(entry(json!({"body": "ho"})).content, entry(edited).content);

        // What was found out of a file may be another thing by now, and is not there where it cannot be found out any more.
        let with_file = entry(json!({"attachments": [file("a.txt")]}));
        assert_eq!(with_file.attachments.len(), 1);
        assert_eq!(entry(json!({"attachments": [file("")]})).content, with_file.content);
        assert_ne!(entry(json!({})).content, with_file.content);
        assert_ne!(entry(json!({"attachments": [file("a.txt"), file("a.txt")]})).content, with_file.content);
        let source = json!({"chat": id(9), "seq": 5});
        let forwarded = json!({"body": "", "source": source, "attachments": [file("a.txt")]});
        let deleted_since = json!({"body": "", "source": source});
        assert_eq!(entry(forwarded).content, entry(deleted_since).content);

        let own = entry(range(1, 2, json!({"subject": id(2)})));
        assert_eq!(own.content, entry(range(1, 2, json!({"moderates": true}))).content);
        assert_ne!(own.content, entry(range(1, 3, json!({"subject": id(2)}))).content);
        assert_ne!(own.content, entry(range(1, 2, json!({"moderates": true, "subject": id(3)}))).content);
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused() {
        let records = [
            send(json!({})),
            send(json!({"kind": "edit", "target_seq": 3, "mentions": [CHAT], "moderates": true})),
            send(json!({"kind": "member_added", "subject": CHAT, "body": "", "subject_only": true})),
            send(range(1, 7, json!({"moderates": true}))),
            send(json!({"silent": true, "mention_roles": ["owner"], "source": {"chat": CHAT, "seq": 1}})),
            send(json!({"body": "", "attachments": [file("a.txt")]})),
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
