use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    ChatId, Encoded, Encoding, MessageKey, UserId,
    event::EntryKind,
    wire::{
        self, Changes, ClientFrame, Command, Empty, HistoryPage, Message, Outcome, RequestId, ServerFrame,
    },
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(body: &str) -> Message {
    Message {
        chat: ChatId(Uuid::from_u128(1)),
        seq: 1_000,
        sender: UserId(Uuid::from_u128(2)),
        key: MessageKey(Uuid::from_u128(3)),
        kind: EntryKind::Text,
        body: body.to_owned(),
        subject: None,
        target_seq: None,
        mentions: Vec::new(),
        mention_roles: Vec::new(),
        mentions_all: false,
        mentions_here: false,
        silent: false,
        attachments: Vec::new(),
        forwarded: None,
        range: None,
        sent_at_ms: 1_764_284_400_123,
        expires_at_ms: None,
        expired: false,
        changes: Changes::default(),
    }
}

fn push(message: Message) -> ServerFrame {
    ServerFrame { message: Some(message), ..ServerFrame::default() }
}

/// RFC 8949, appendix A, as far as JSON has the value.
#[test]
fn values_are_those_of_the_rfc() {
    let check = |written: &str, value: Value| {
        assert_eq!(from_slice::<Value>(&bytes(written)), Ok(value.clone()), "{written}");
        // Floats are written in eight bytes, the name of no field as it is.
        if !value.is_f64() {
            assert_eq!(hex(&to_vec(&value).expect("a value")), written);
        }
    };
    check("00", json!(0));
    check("01", json!(1));
    check("0a", json!(10));
    check("17", json!(23));
    check("1818", json!(24));
    check("1819", json!(25));
    check("1864", json!(100));
    check("1903e8", json!(1_000));
    check("1a000f4240", json!(1_000_000));
    check("1b000000e8d4a51000", json!(1_000_000_000_000_u64));
    check("1bffffffffffffffff", json!(u64::MAX));
    check("20", json!(-1));
    check("29", json!(-10));
    check("3863", json!(-100));
    check("3903e7", json!(-1_000));
    check("3b7fffffffffffffff", json!(i64::MIN));
    check("f90000", json!(0.0));
    check("f98000", json!(-0.0));
    check("f93c00", json!(1.0));
    check("fb3ff199999999999a", json!(1.1));
    check("f93e00", json!(1.5));
    check("f97bff", json!(65_504.0));
    check("fa47c35000", json!(100_000.0));
    check("fa7f7fffff", json!(3.402_823_466_385_288_6e38));
    check("fb7e37e43c8800759c", json!(1.0e300));
    check("f90001", json!(5.960_464_477_539_063e-8));
    check("f90400", json!(0.000_061_035_156_25));
    check("f9c400", json!(-4.0));
    check("fbc010666666666666", json!(-4.1));
    check("f4", json!(false));
    check("f5", json!(true));
    check("f6", json!(null));
    check("60", json!(""));
    check("6161", json!("a"));
    check("6449455446", json!("IETF"));
    check("62225c", json!("\"\\"));
    check("62c3bc", json!("\u{fc}"));
    check("63e6b0b4", json!("\u{6c34}"));
    check("64f0908591", json!("\u{10151}"));
    check("80", json!([]));
    check("83010203", json!([1, 2, 3]));
    check("8301820203820405", json!([1, [2, 3], [4, 5]]));
    let many: Vec<u32> = (1..=25).collect();
    check("98190102030405060708090a0b0c0d0e0f101112131415161718181819", json!(many));
    check("a0", json!({}));
    check("a26161016162820203", json!({"a": 1, "b": [2, 3]}));
    check("826161a161626163", json!(["a", {"b": "c"}]));
    check(
        "a56161614161626142616361436164614461656145",
        json!({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}),
    );
}

#[track_caller]
fn refused<T: DeserializeOwned + fmt::Debug>(written: &str, problem: &str) {
    let error = from_slice::<T>(&bytes(written)).expect_err(written).to_string();
    assert!(error.starts_with(problem), "{written}: {error}");
}

#[test]
fn what_json_does_not_have_is_refused() {
    // Bignums, times, other tags.
    for tagged in ["c249010000000000000000", "c11a514b67b0", "d74401020304", "d818456449455446"] {
        refused::<Value>(tagged, "a tag at byte");
    }
    // A number of 65 bits.
    refused::<Value>("3bffffffffffffffff", "a number of more than 64 bits");
    for simple in ["f7", "f0", "f8ff"] {
        refused::<Value>(simple, "a simple value that JSON does not have");
    }
    for unknown in
        ["5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "bf61610161629f0203ffff", "ff", "1c"]
    {
        refused::<Value>(unknown, "a length that is not known in advance, or a reserved one");
    }
    refused::<Value>("a102f4ff", "trailing bytes");
    refused::<Value>("a1f400", "a key that is neither a name nor its number");
    refused::<Value>("a1410000", "a key that is neither a name nor its number");
    refused::<Value>("4401020304", "invalid type: byte array");
}

#[test]
fn what_a_reader_of_json_refuses_is_refused() {
    #[derive(Debug, Deserialize)]
    struct Point {
        seq: u32,
        body: Option<String>,
    }
    // {"seq": 1, "body": "a"} by name and by number.
    for written in ["a263736571016462 6f64796161", "a20f01136161"] {
        let point: Point = from_slice(&bytes(written)).expect(written);
        assert_eq!((point.seq, point.body.as_deref()), (1, Some("a")));
    }
    refused::<Point>("a20f010f02", "duplicate field `seq`");
    refused::<Point>("a20f016373657102", "duplicate field `seq`");
    refused::<Point>("a113f6", "missing field `seq`");
    refused::<Point>("a10ff6", "invalid type");
    refused::<Point>("a10f20", "invalid value: integer `-1`");
    refused::<Point>("a10ff93c00", "invalid type: floating point");
    refused::<Point>("820161 61", "invalid type: sequence");
    refused::<Point>("a20f01134161", "invalid type: byte array, expected a string");
    refused::<Point>("a20f0113 61ff", "a text that is not UTF-8");
    refused::<Point>("a10f0100", "trailing bytes");
    for cut in ["", "a1", "a20f01", "a10f", "a10f19", "a10f1901", "a20f01136361"] {
        refused::<Point>(cut, "the input ends within a value");
    }
    refused::<UserId>("4f000102030405060708090a0b0c0d0e", "");
    refused::<UserId>(
        "782430303030303030302d303030302d303030302d303030302d303030303030303030303031",
        "invalid type: string",
    );
}

/// For how many parts a list says to make room, before and behind its first part.
#[derive(Debug, PartialEq)]
struct Hints(usize, usize);

impl<'de> Deserialize<'de> for Hints {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Asking;

        impl<'de> Visitor<'de> for Asking {
            type Value = Hints;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Hints, A::Error> {
                let before = parts.size_hint().expect("a length that is known");
                parts.next_element::<IgnoredAny>()?;
                let hints = Hints(before, parts.size_hint().expect("a length that is known"));
                // Of those that are missing, too.
                while !matches!(parts.next_element::<IgnoredAny>(), Ok(None)) {}
                Ok(hints)
            }
        }

        from.deserialize_seq(Asking)
    }
}

#[test]
fn a_list_makes_room_for_no_more_parts_than_there_are_bytes() {
    let hints = |written: &str| Hints::deserialize(&mut Reader::new(&bytes(written)));
    assert_eq!(hints("83 01 02 03"), Ok(Hints(3, 2)));
    // The first part has taken the bytes of the others.
    assert_eq!(hints("85 64 61616161"), Ok(Hints(5, 0)));
    assert_eq!(hints("85 62 6161 01 02"), Ok(Hints(5, 2)));
    assert!(hints("9b 7fffffffffffffff 01").is_err());
}

#[test]
fn a_length_is_no_more_than_what_is_left() {
    for major in ["5b", "7b", "9b", "bb"] {
        for length in ["7fffffffffffffff", "ffffffffffffffff", "0000000000000010"] {
            refused::<Value>(&format!("{major}{length}00"), "the input ends within a value");
            refused::<Vec<u64>>(&format!("{major}{length}00"), "");
        }
    }
}

#[test]
fn nesting_is_as_deep_as_in_json() {
    let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    assert!(from_slice::<Value>(&nested(127)).is_ok());
    refused::<Value>(&hex(&nested(128)), "recursion limit exceeded at byte 128");
    assert!(from_slice::<IgnoredAny>(&nested(100_000)).is_err());
    // Side by side is not deep.
    let wide = [vec![0x99, 0x01, 0x00], [0x81, 0x00].repeat(256)].concat();
    assert!(from_slice::<Value>(&wide).is_ok());
}

#[test]
fn a_frame_is_written_as_it_is_described() {
    let ping = ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() };
    assert_eq!(hex(&to_vec(&ping).expect("cbor")), "a107a0");
    let id = |n: u8| format!("50{:030x}{n:02x}", 0);
    assert_eq!(
        hex(&to_vec(&push(message("hi"))).expect("cbor")),
        format!("a103a70e{}0f1903e810{}11{}126474657874136268 69141b0000019ac78b81fb", id(1), id(2), id(3))
            .replace(' ', "")
    );
    let send = wire::Send::text(ChatId(Uuid::from_u128(1)), MessageKey(Uuid::from_u128(2)), "hi");
    let frame = ClientFrame { id: Some(7.into()), command: Command::Send(send) };
    let written = to_vec(&frame).expect("cbor");
    assert_eq!(hex(&written), format!("a2000709a30e{}11{}13626869", id(1), id(2)));
    let read: ClientFrame = from_slice(&written).expect("a frame");
    assert_eq!(serde_json::to_value(read).expect("json"), serde_json::to_value(frame).expect("json"));
}

#[test]
fn an_id_of_a_command_is_repeated_as_it_came() {
    for id in ["07", "1b0000019ac81389fb", "20", "fb3ff8000000000000", "6137", "65616e206964"] {
        let frame: ClientFrame = from_slice(&bytes(&format!("a200{id}08a0"))).expect(id);
        let answer = ServerFrame { id: frame.id, ..ServerFrame::default() };
        assert_eq!(hex(&to_vec(&answer).expect("cbor")), format!("a100{id}"));
    }
    // A list, an object, a flag, bytes, and floats without a value.
    for id in ["80", "a0", "f5", "4107", "f97e00", "f97c00"] {
        assert!(from_slice::<ClientFrame>(&bytes(&format!("a200{id}08a0"))).is_err(), "{id}");
    }
}

#[test]
fn an_id_is_found_in_what_is_no_frame() {
    let check = |written: &str, expected: Option<u32>| {
        assert_eq!(
            RequestId::find_in(Encoded::Cbor(&bytes(written))),
            expected.map(RequestId::from),
            "{written}"
        );
    };
    // An unknown command, by a name and by a number of later; one that is cut off; one behind a bad body; more behind the frame.
    check("a20007657368 6f7574a0", Some(7));
    check("a20007190fffa0", Some(7));
    check("a2190fffa00007", Some(7));
    check("a2000709a30e", Some(7));
    check("a209a113c00007", None);
    check("a209a11341ff0007", Some(7));
    check("a1000700", Some(7));
    for none in ["", "07", "8107", "a10080", "a100f6", "a109a10007", "ff"] {
        check(none, None);
    }
}

#[test]
fn a_field_of_a_later_version_is_unknown_by_number_as_by_name() {
    for later in ["190fff", "656c61746572"] {
        let frame: ServerFrame = from_slice(&bytes(&format!("a2{later}820102 07a0"))).expect("it is skipped");
        assert!(frame.ping.is_some());
        refused::<ClientFrame>(&format!("a2{later}a008a0"), "unknown field `");
    }
}

/// Old and new programs talk with each other: a number is given once.
#[test]
fn a_name_keeps_its_number() {
    let distinct: BTreeSet<_> = names().iter().collect();
    assert_eq!(distinct.len(), names().len(), "a name has one number");
    assert!(names().iter().all(|name| !name.is_empty() && !name.starts_with('#')));
    // The first 24 take one byte, and are what most frames consist of.
    assert_eq!(
        names()[..24].join(" "),
        "id result error message stored receipt typing ping pong send read delivered accepted marked \
         chat seq sender key kind body sent_at_ms user target_seq changes"
    );
    let sum = |count: usize| {
        let bytes = names()[..count].iter().flat_map(|name| name.bytes());
        bytes.fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(byte))
    };
    for (count, pinned) in PINNED {
        assert!(count <= names().len(), "the first {count} names are all there");
        assert_eq!(sum(count), pinned, "the first {count} names, in their order");
    }
    let (last, all) = (PINNED.last().map(|(count, _)| *count), names().len());
    assert_eq!(
        last,
        Some(all),
        "new names are pinned too: add ({all}, {:#x}) to the end of PINNED",
        sum(all)
    );
}

/// See above: how many names there were when some were added, and their sum. No line changes or goes.
const PINNED: [(usize, u32); 3] = [(124, 0x20c2_7c77), (134, 0xd66e_81c0), (135, 0x40e1_e33c)];

/// The sizes in [ADR 0040](../../../../docs/adr/0040-binary-frames.md).
#[test]
fn a_frame_has_less_than_half_of_its_bytes_in_json() {
    let texts = ["", "See you at ten?", "I sent the figures to everyone, with the two that were missing."];
    let page = |count: usize| {
        let mut messages: Vec<_> = (0..count).map(|n| message(texts[n % 3])).collect();
        messages.iter_mut().zip(1..).for_each(|(message, seq)| message.seq = seq);
        let page = HistoryPage { chat: ChatId(Uuid::from_u128(1)), messages, head_seq: 1_000, from_seq: 1 };
        ServerFrame { id: Some(7.into()), result: Some(Outcome::History(page)), ..ServerFrame::default() }
    };
    let check = |what: &str, frame: &ServerFrame, most_percent: usize| {
        let [json, cbor] = Encoding::ALL.map(|encoding| encoding.encode(frame).len());
        assert!(cbor * 100 <= json * most_percent, "{what}: {cbor} of {json} bytes");
    };
    check("a message", &push(message(texts[1])), 42);
    check("a page of history", &page(100), 46);
}
