use std::collections::BTreeSet;

use contracts::{
    Encoding, ErrorCode, cbor,
    wire::{self, ClientFrame, CloseCode, Outcome, ServerFrame},
};
use kit::{catalog::ENTRY_BYTES, testing::Schemas};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::limits::{ConnectionLimits, Limits, RateLimits},
    socket::{NOT_UTF_8, POLICY_VIOLATION, PROTOCOL_ERROR},
};

fn document() -> Value {
    serde_json::from_str(ASYNCAPI).expect("the description is JSON")
}

/// Returns the names and example payloads of the messages of the operations with this action.
fn messages(action: &str) -> Vec<(String, Vec<Value>)> {
    let document = document();
    let operations = document["operations"].as_object().expect("operations");
    let mut messages = Vec::new();
    for operation in operations.values().filter(|operation| operation["action"] == action) {
        for reference in operation["messages"].as_array().expect("messages") {
            let name = reference["$ref"].as_str().and_then(|text| text.rsplit('/').next()).expect("a name");
            let message = &document["components"]["messages"][name];
            let examples = message["examples"].as_array().expect("an example");
            messages
                .push((name.to_owned(), examples.iter().map(|example| example["payload"].clone()).collect()));
        }
    }
    messages
}

/// Returns the field names that serde knows for a type, from its error for one that it does not know.
fn expected_fields(error: &str) -> BTreeSet<String> {
    let (_, list) = error.split_once("expected ").expect("serde lists what it expects");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_command_is_described_by_an_example_that_is_read() {
    let error = serde_json::from_str::<ClientFrame>(r#"{"?":1}"#).expect_err("no such command").to_string();
    let mut commands = expected_fields(&error);
    commands.remove("id");
    let described: BTreeSet<String> = messages("receive").into_iter().map(|(name, _)| name).collect();
    assert_eq!(described, commands);
    for (name, examples) in messages("receive") {
        for example in examples {
            let frame: ClientFrame = serde_json::from_value(example.clone()).expect("an example of a frame");
            assert_eq!(serde_json::to_value(frame).expect("json"), example, "{name}");
        }
    }
}

#[test]
fn every_server_frame_is_described_as_it_is_written() {
    for (name, examples) in messages("send") {
        for example in examples {
            let frame: ServerFrame = serde_json::from_value(example.clone()).expect("an example of a frame");
            assert_eq!(serde_json::to_value(frame).expect("json"), example, "{name}");
        }
    }
    // Each kind of frame and each outcome is among the examples.
    let kinds: BTreeSet<String> = messages("send")
        .into_iter()
        .flat_map(|(_, examples)| examples)
        .flat_map(|example| {
            let object = example.as_object().expect("a frame").clone();
            let outcomes = object.get("result").and_then(Value::as_object).cloned().unwrap_or_default();
            let outcomes = outcomes.keys().map(|name| format!("result.{name}")).collect::<Vec<_>>();
            object.keys().cloned().chain(outcomes).collect::<Vec<_>>()
        })
        .collect();
    let error = serde_json::from_str::<Outcome>(r#"{"?":1}"#).expect_err("no such outcome").to_string();
    let outcomes = expected_fields(&error).into_iter().map(|outcome| format!("result.{outcome}"));
    let frames = [
        "error",
        "id",
        "lagged",
        "message",
        "own_state",
        "ping",
        "presence",
        "receipt",
        "rejected",
        "result",
        "stored",
        "typing",
    ];
    let expected: BTreeSet<String> = frames.map(str::to_owned).into_iter().chain(outcomes).collect();
    assert_eq!(kinds, expected);
}

/// Returns an example as a client of CBOR sees it, and how many bytes it has there and in JSON.
fn through_cbor<T: Serialize + DeserializeOwned>(example: &Value) -> (Value, [usize; 2]) {
    let frame: T = serde_json::from_value(example.clone()).expect("an example of a frame");
    let [json, cbor] = Encoding::ALL.map(|encoding| encoding.encode(&frame));
    let read: T = cbor::from_slice(&cbor).expect("a frame");
    (serde_json::to_value(read).expect("json"), [cbor.len(), json.len()])
}

#[test]
fn every_example_is_the_same_frame_in_every_encoding() {
    let mut sums = [0, 0];
    for action in ["receive", "send"] {
        for (name, examples) in messages(action) {
            for example in examples {
                let (read, bytes) = match action {
                    "receive" => through_cbor::<ClientFrame>(&example),
                    _ => through_cbor::<ServerFrame>(&example),
                };
                assert_eq!(read, example, "{name}");
                assert!(bytes[0] < bytes[1], "{name}: {bytes:?}");
                sums = [sums[0] + bytes[0], sums[1] + bytes[1]];
            }
        }
    }
    assert!(sums[0] * 2 < sums[1], "{sums:?}");
}

#[test]
fn the_encodings_and_the_numbers_of_names_are_those_of_the_code() {
    let document = document();
    let described: Vec<_> = document["x-encodings"]
        .as_array()
        .expect("encodings")
        .iter()
        .map(|encoding| encoding["subprotocol"].as_str().expect("a name").to_owned())
        .collect();
    let spoken = Encoding::ALL.map(Encoding::subprotocol);
    assert_eq!(described, spoken);
    let header =
        &document["channels"]["socket"]["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"];
    assert_eq!(header["enum"], json!(spoken));
    assert_eq!(document["x-names"], json!(cbor::names()), "`make generate` writes them");
}

#[test]
fn every_reference_leads_somewhere_and_every_example_is_of_its_schema() {
    let schemas = Schemas::new(document());
    assert_eq!(schemas.document()["asyncapi"], "3.0.0");
    for action in ["receive", "send"] {
        for (name, examples) in messages(action) {
            let payload = &schemas.document()["components"]["messages"][&name]["payload"];
            for example in examples {
                assert_eq!(schemas.errors(payload, &example), Vec::<String>::new(), "{name}");
            }
        }
    }
    let channel = document()["channels"]["socket"]["messages"].clone();
    let listed: BTreeSet<_> = channel.as_object().expect("messages").keys().cloned().collect();
    let used = ["receive", "send"].map(messages).concat();
    assert_eq!(listed, used.into_iter().map(|(name, _)| name).collect(), "a message has one direction");
}

/// Returns the name of a gRPC status as its specification has it.
fn grpc_name(code: ErrorCode) -> String {
    let name = format!("{:?}", code.grpc());
    let split = |letter: char| {
        let space = if letter.is_uppercase() { "_" } else { "" };
        format!("{space}{}", letter.to_ascii_uppercase())
    };
    name.chars().map(split).collect::<String>().trim_start_matches('_').to_owned()
}

#[test]
fn null_is_taken_for_a_field_where_the_description_says_so() {
    let schemas = Schemas::new(document());
    for (name, examples) in messages("receive") {
        let payload = &schemas.document()["components"]["messages"][&name]["payload"];
        let reference = payload["properties"][&name]["$ref"].as_str().unwrap_or_default();
        let schema = schemas.document().pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        let fields = schema["properties"].as_object().into_iter().flatten();
        for (field, _) in fields {
            let mut frame = examples[0].clone();
            frame[&name][field] = Value::Null;
            let is_described = schemas.errors(payload, &frame).is_empty();
            let read = serde_json::from_value::<ClientFrame>(frame);
            assert_eq!(read.is_ok(), is_described, "{name}.{field}: {read:?}");
        }
    }
}

#[test]
fn the_codes_are_those_of_the_types() {
    let document = document();
    let closes: Vec<Value> =
        CloseCode::ALL.iter().map(|code| json!({"code": code.code(), "reason": code.reason()})).collect();
    let described: Vec<Value> = document["x-close-codes"]
        .as_array()
        .expect("close codes")
        .iter()
        .map(|code| {
            assert!(code["meaning"].is_string() && code["do"].is_string(), "{code}");
            json!({"code": code["code"], "reason": code["reason"]})
        })
        .collect();
    assert_eq!(described, closes);
    let websocket = document["x-websocket-close-codes"].as_array().expect("close codes");
    for code in [PROTOCOL_ERROR, NOT_UTF_8, POLICY_VIOLATION] {
        assert!(websocket.iter().any(|of| of["code"] == code && of["do"].is_string()), "{code}");
    }

    let codes: Vec<Value> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let (http, grpc) = (code.http_status(), grpc_name(*code));
            json!({"code": code.as_str(), "temporary": code.is_temporary(), "http": http, "grpc": grpc})
        })
        .collect();
    let described: Vec<Value> = document["x-error-codes"]
        .as_array()
        .expect("error codes")
        .iter()
        .map(|code| {
            assert!(code["meaning"].is_string(), "{code}");
            let mut code = code.as_object().expect("a row").clone();
            code.remove("meaning");
            Value::Object(code)
        })
        .collect();
    assert_eq!(described, codes);
    let names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(document["components"]["schemas"]["ErrorCode"]["enum"], json!(names));
}

#[test]
fn the_limits_are_those_in_force() {
    let (limits, rates) = (Limits::default(), RateLimits::default());
    let mut expected = json!({
        "max_frame_bytes": wire::MAX_FRAME_BYTES,
        "max_body_bytes": wire::MAX_BODY_BYTES,
        "max_mentions": wire::MAX_MENTIONS,
        "max_emoji_bytes": wire::MAX_EMOJI_BYTES,
        "max_reactions": wire::MAX_REACTIONS,
        "max_edits": wire::MAX_EDITS,
        "max_inflight": limits.max_inflight,
        "max_history_limit": wire::MAX_HISTORY_LIMIT,
        "default_history_limit": wire::DEFAULT_HISTORY_LIMIT,
        "history_page_bytes": wire::HISTORY_PAGE_BYTES,
        "max_sync_limit": wire::MAX_SYNC_LIMIT,
        "default_sync_limit": wire::DEFAULT_SYNC_LIMIT,
        "max_sync_entries": wire::MAX_SYNC_ENTRIES,
        "max_cursor_bytes": wire::MAX_CURSOR_BYTES,
        "connect_seconds": limits.connect_within.as_secs(),
        "ping_seconds": limits.ping_every.as_secs(),
        "pong_seconds": limits.pong_within.as_secs(),
        "frames_per_second": limits.frames_per_second,
        "user_sends_per_second": rates.sends.user_sends.count(),
        "user_sends_burst": rates.sends.user_sends.burst(),
        "user_bytes_per_second": rates.sends.user_bytes.count(),
        "user_bytes_burst": rates.sends.user_bytes.burst(),
        "chat_sends_per_second": rates.sends.chat_sends.count(),
        "chat_sends_burst": rates.sends.chat_sends.burst(),
        "chat_bytes_per_second": rates.sends.chat_bytes.count(),
        "chat_bytes_burst": rates.sends.chat_bytes.burst(),
        "tenant_sends_per_second": rates.sends.tenant_sends.count(),
        "tenant_sends_burst": rates.sends.tenant_sends.burst(),
        "tenant_bytes_per_second": rates.sends.tenant_bytes.count(),
        "tenant_bytes_burst": rates.sends.tenant_bytes.burst(),
        "user_queries_per_second": rates.user_queries.count(),
        "user_queries_burst": rates.user_queries.burst(),
        "entry_bytes": ENTRY_BYTES,
        "connections_per_user": ConnectionLimits::default().connections_per_user,
        "send_queue_bytes": limits.send_queue_bytes,
        "max_watched_users": wire::MAX_WATCHED_USERS,
        "max_watched_chats": wire::MAX_WATCHED_CHATS,
        "max_typing_members": wire::MAX_TYPING_MEMBERS,
        "typing_seconds": wire::TYPING_SECONDS,
    });
    // The macro takes no more at once.
    let more = json!({
        "max_role_mentions": wire::MAX_ROLE_MENTIONS,
        "max_delete_range": wire::MAX_DELETE_RANGE,
        "max_pins": wire::MAX_PINS,
        "max_attachments": wire::MAX_ATTACHMENTS,
        "max_list_limit": wire::MAX_LIST_LIMIT,
        "default_list_limit": wire::DEFAULT_LIST_LIMIT,
    });
    expected.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    assert_eq!(document()["x-limits"], expected);
}
