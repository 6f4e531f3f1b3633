//! The vectors of `clients/vectors`, which every client library runs.

use std::{
    fs,
    time::{Duration, Instant},
};

use contracts::{
    ChatId, Encoding, MessageKey, UserId, cbor,
    wire::{Ack, ChatState, ClientFrame, Connected, Message, OwnState, Receipt, ServerFrame, SyncPage},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    ChatList, Event, Origin, SendFailure, Timeline, View,
    machine::{Machine, Output},
    timeline::tests::message,
};

fn vectors<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/../vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect("the vectors are in the repository");
    let vectors: Vec<T> = serde_json::from_str(&text).expect("vectors of this kind");
    assert!(!vectors.is_empty(), "{path} has none");
    vectors
}

#[derive(Deserialize)]
struct TimelineVector {
    name: String,
    after: i64,
    steps: Vec<TimelineStep>,
    applied: Vec<i64>,
    has_gap: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimelineStep {
    Offer(i64),
    BeginAt(i64),
    Head(i64),
}

#[test]
fn timelines_are_as_the_vectors_say() {
    for vector in vectors::<TimelineVector>("timeline") {
        let mut timeline = Timeline::after(vector.after);
        let mut applied = Vec::new();
        for step in vector.steps {
            let ready = match step {
                TimelineStep::Offer(seq) => timeline.offer(message(seq)),
                TimelineStep::BeginAt(seq) => timeline.begin_at(seq),
                TimelineStep::Head(seq) => {
                    timeline.note_head(seq);
                    Vec::new()
                }
            };
            applied.extend(ready.into_iter().map(|message| message.seq));
        }
        assert_eq!((applied, timeline.has_gap()), (vector.applied, vector.has_gap), "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct ViewVector {
    name: String,
    user: UserId,
    entries: Vec<Message>,
    /// The texts whose time has come by then are removed at the end.
    expire_at_ms: Option<i64>,
    expected: Vec<Message>,
}

#[test]
fn views_are_as_the_vectors_say() {
    for vector in vectors::<ViewVector>("view") {
        let mut view = View::new(vector.user);
        for entry in &vector.entries {
            view.apply(entry);
        }
        if let Some(now_ms) = vector.expire_at_ms {
            view.expire(now_ms);
        }
        let entries: Vec<Message> = view.entries().values().cloned().collect();
        assert_eq!(entries, vector.expected, "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct ChatsVector {
    name: String,
    user: UserId,
    events: Vec<ChatsEvent>,
    /// The texts whose time has come by then are removed at the end.
    expire_at_ms: Option<i64>,
    chats: Vec<ChatState>,
    /// Texts that are unread in all chats, and how many of them call the user.
    unread: (i64, i64),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChatsEvent {
    Synced(SyncPage),
    Entry(Message),
    Elsewhere(Message),
    Marked(Receipt),
    OwnState(OwnState),
}

#[test]
fn lists_of_chats_are_as_the_vectors_say() {
    for vector in vectors::<ChatsVector>("chats") {
        let mut list = ChatList::new(vector.user);
        for event in vector.events {
            list.apply(&match event {
                ChatsEvent::Synced(page) => Event::Synced(page),
                ChatsEvent::Entry(message) => Event::Entry { message, origin: Origin::Pushed },
                ChatsEvent::Elsewhere(message) => Event::Elsewhere(message),
                ChatsEvent::Marked(receipt) => Event::Marked(receipt),
                ChatsEvent::OwnState(own) => Event::OwnState(own),
            });
        }
        if let Some(now_ms) = vector.expire_at_ms {
            list.expire(now_ms);
        }
        let chats: Vec<ChatState> = list.chats().cloned().collect();
        assert_eq!((chats, list.unread()), (vector.chats, vector.unread), "{}", vector.name);
    }
}

#[derive(Deserialize)]
struct MachineVector {
    name: String,
    user: UserId,
    /// Where an earlier session ended.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    ack: Ack,
    steps: Vec<MachineStep>,
}

#[derive(Deserialize)]
struct MachineStep {
    at_ms: u64,
    r#do: Do,
    out: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Do {
    Connected(Connected),
    Disconnected(String),
    Frame(Box<ServerFrame>),
    Follow { chat: ChatId, after: i64 },
    Send { chat: ChatId, key: MessageKey, body: String },
    Refresh(String),
    Read { chat: ChatId, seq: i64 },
    Delivered { chat: ChatId, seq: i64 },
    Sync {},
    Tick {},
}

fn shown(encoding: Encoding, output: Output) -> Value {
    match output {
        Output::Frame(frame) => json!({ "frame": sent(encoding, &frame) }),
        Output::Event(Event::Connected { session }) => json!({ "connected": session }),
        Output::Event(Event::Disconnected { why }) => json!({ "disconnected": why }),
        Output::Event(Event::Entry { message, origin }) => {
            let origin = match origin {
                Origin::Pushed => "pushed",
                Origin::Own => "own",
                Origin::Refetched => "refetched",
            };
            json!({ "entry": [message.seq, origin] })
        }
        Output::Event(Event::Elsewhere(message)) => json!({ "elsewhere": message.seq }),
        Output::Event(Event::Unreadable { chat, code }) => json!({ "unreadable": [chat, code] }),
        Output::Event(Event::Synced(page)) => json!({ "synced": page.cursor }),
        Output::Event(Event::Marked(receipt)) => json!({ "marked": receipt }),
        Output::Event(Event::OwnState(own_state)) => json!({ "own_state": own_state }),
        Output::Event(other) => json!({ "event": format!("{other:?}") }),
        Output::Settled(_, Ok(receipt)) => json!({ "stored": [receipt.key, receipt.seq, receipt.resends] }),
        Output::Settled(key, Err(SendFailure::Refused { code, .. })) => json!({ "failed": [key, code] }),
        Output::Settled(key, Err(SendFailure::SessionEnded)) => json!({ "unknown": key }),
        Output::Answered(query, answer) => json!({ "answered": [query, format!("{answer:?}")] }),
        Output::TokenRefused => json!({ "token_refused": true }),
        Output::RefreshLater => json!({ "refresh_later": true }),
        Output::TokenRenewed(left) => json!({ "token_expires_in_seconds": left.as_secs() }),
    }
}

/// Returns a frame as it comes over a connection of this encoding.
fn sent<T: Serialize + DeserializeOwned>(encoding: Encoding, frame: &T) -> T {
    let bytes = encoding.encode(frame);
    match encoding {
        Encoding::Json => serde_json::from_slice(&bytes).expect("a frame"),
        Encoding::Cbor => cbor::from_slice(&bytes).expect("a frame"),
    }
}

#[test]
fn machines_are_as_the_vectors_say_in_every_encoding() {
    Encoding::ALL.into_iter().for_each(machines_are_as_the_vectors_say);
}

fn machines_are_as_the_vectors_say(encoding: Encoding) {
    for vector in vectors::<MachineVector>("machine") {
        let began = Instant::now();
        let mut machine = Machine::new(vector.user, vector.cursor).answered_by(vector.ack);
        for step in vector.steps {
            let now = began + Duration::from_millis(step.at_ms);
            match step.r#do {
                Do::Connected(connected) => machine.connected(&connected, now),
                Do::Disconnected(why) => machine.disconnected(why),
                Do::Frame(frame) => machine.frame(sent(encoding, &*frame), now),
                Do::Follow { chat, after } => machine.follow(chat, after, now),
                Do::Send { chat, key, body } => machine.send(chat, key, body.into(), now),
                Do::Refresh(token) => machine.refresh(token),
                Do::Read { chat, seq } => machine.read(chat, seq, now),
                Do::Delivered { chat, seq } => machine.delivered(chat, seq, now),
                Do::Sync {} => machine.sync(now),
                Do::Tick {} => machine.tick(now),
            }
            let out = std::iter::from_fn(|| machine.next_output());
            let out: Vec<Value> = out.map(|output| shown(encoding, output)).collect();
            assert_eq!(out, step.out, "{} at {} ms", vector.name, step.at_ms);
        }
    }
}

#[derive(Deserialize)]
struct EncodingVector {
    name: String,
    from: Side,
    frame: Value,
    /// In hexadecimal.
    cbor: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Client,
    Server,
}

#[test]
fn frames_are_encoded_as_the_vectors_say() {
    fn check<T: Serialize + DeserializeOwned>(vector: EncodingVector) {
        let EncodingVector { name, from: _, frame, cbor } = vector;
        let json: T = serde_json::from_value(frame.clone()).expect(&name);
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(Encoding::Cbor.encode(&json)), cbor, "{name}");
        for encoding in Encoding::ALL {
            let read = serde_json::to_value(sent(encoding, &json)).expect("JSON");
            assert_eq!(read, frame, "{name}, {encoding:?}");
        }
    }
    for vector in vectors::<EncodingVector>("encodings") {
        match vector.from {
            Side::Client => check::<ClientFrame>(vector),
            Side::Server => check::<ServerFrame>(vector),
        }
    }
}
