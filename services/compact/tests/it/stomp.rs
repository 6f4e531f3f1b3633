//! A client of STOMP at the gateway of a whole messenger, beside one of JSON.

use std::time::Duration;

use contracts::{
    ChatId, ErrorCode, MessageKey,
    wire::{CloseCode, MAX_REQUEST_ID_BYTES},
};
use e2e::users::TestUser;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::dev::Dev;

/// Whatever a story waits for comes within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a client that closed by itself or was refused (RFC 6455).
const NORMAL: u16 = 1000;
const POLICY_VIOLATION: u16 = 1008;

/// A client of STOMP that is no library: it says what the story has it say.
struct Stomp(WebSocketStream<TcpStream>);

/// A frame of the server.
#[derive(Debug)]
struct Frame {
    command: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Frame {
    fn read(text: &str) -> Self {
        let frame = text.strip_suffix('\0').expect("a frame ends with a NUL byte");
        let (head, body) = frame.split_once("\n\n").expect("a frame has a body");
        let mut lines = head.lines();
        let command = lines.next().expect("a command").to_owned();
        let headers = lines.map(|line| line.split_once(':').expect("a header"));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let frame = Self { command, headers, body: body.to_owned() };
        let length = frame.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        assert_eq!(length, body.len(), "{frame:?}");
        frame
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether it is a message of this kind.
    fn is(&self, kind: &str) -> bool {
        self.command == "MESSAGE" && self.header("type") == Some(kind)
    }

    /// Returns the frame of the protocol that is in it.
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Stomp {
    /// Opens a WebSocket that offers this subprotocol alone.
    async fn open(dev: &Dev, subprotocol: &'static str) -> Self {
        let addr = dev.url.socket_addrs(|| None).expect("an address")[0];
        let stream = TcpStream::connect(addr).await.expect("a connection");
        let mut request = format!("ws://{addr}/ws").into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
        let (socket, answer) = client_async(request, stream).await.expect("an upgrade");
        assert_eq!(answer.headers()["sec-websocket-protocol"], subprotocol);
        Self(socket)
    }

    /// Connects a user by 1.2, and subscribes to what their own frames come to.
    async fn connect(dev: &Dev, user: &TestUser) -> Self {
        let mut client = Self::open(dev, "v12.stomp").await;
        let token = user.token().await.expect("a token");
        client.send("CONNECT", &[("accept-version", "1.2"), ("host", "h"), ("passcode", &token)], "").await;
        let connected = client.frame().await;
        assert_eq!((connected.command.as_str(), connected.header("version")), ("CONNECTED", Some("1.2")));
        assert_eq!(connected.header("user"), Some(user.id().to_string().as_str()));
        client.subscribe("replies", "/replies", &[]).await;
        client
    }

    /// Subscribes, and waits until that is done.
    async fn subscribe(&mut self, id: &str, destination: &str, headers: &[(&str, &str)]) {
        let receipt = format!("subscribed-{id}");
        let own = [("id", id), ("destination", destination), ("receipt", receipt.as_str())];
        self.send("SUBSCRIBE", &[&own[..], headers].concat(), "").await;
        self.receipt(&receipt).await;
    }

    async fn send(&mut self, command: &str, headers: &[(&str, &str)], body: &str) {
        let mut headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        if !body.is_empty() {
            headers.push_str(&format!("content-length:{}\n", body.len()));
        }
        self.raw(format!("{command}\n{headers}\n{body}\0")).await;
    }

    async fn raw(&mut self, message: String) {
        self.0.send(Message::text(message)).await.expect("an open socket");
    }

    /// Returns the next frame, or the code that the server closes with.
    async fn next(&mut self) -> Result<Frame, u16> {
        let next = async {
            loop {
                match self.0.next().await.expect("a close frame").expect("a message") {
                    Message::Text(text) if text.as_str() != "\n" => return Ok(Frame::read(text.as_str())),
                    Message::Close(why) => return Err(why.map_or(0, |why| why.code.into())),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a frame in time")
    }

    async fn frame(&mut self) -> Frame {
        self.next().await.unwrap_or_else(|code| panic!("closed with {code}"))
    }

    /// Returns the next frame that is looked for.
    async fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.frame().await;
            if is_it(&frame) {
                return frame;
            }
            assert_ne!(frame.command, "ERROR", "{frame:?}");
        }
    }

    async fn receipt(&mut self, id: &str) {
        self.until(|frame| frame.command == "RECEIPT" && frame.header("receipt-id") == Some(id)).await;
    }

    /// Sends a text and returns its seq once it comes back, accepted and stored.
    async fn say(&mut self, chat: ChatId, key: MessageKey, body: &str) -> i64 {
        let (destination, key) = (format!("/chats/{chat}"), key.to_string());
        let headers =
            [("destination", destination.as_str()), ("key", key.as_str()), ("receipt", key.as_str())];
        self.send("SEND", &headers, body).await;
        // The log may bring it back before its receipt.
        let (mut is_accepted, mut stored) = (false, None);
        loop {
            let frame = self.frame().await;
            if frame.command == "RECEIPT" {
                assert_eq!(frame.header("receipt-id"), Some(key.as_str()));
                is_accepted = true;
            } else if frame.is("stored") {
                let frame = frame.json();
                assert_eq!(frame["stored"]["key"], key.as_str());
                stored = frame["stored"]["seq"].as_i64();
            } else {
                assert!(frame.is("message"), "{frame:?}");
                assert_eq!(frame.json()["message"]["body"], body);
            }
            if let Some(seq) = stored.filter(|_| is_accepted) {
                return seq;
            }
        }
    }

    /// Runs a command of JSON and returns its result.
    async fn result(&mut self, command: Value) -> Value {
        let mut frame = command;
        frame["id"] = json!(7);
        self.send("SEND", &[("destination", "/commands")], &frame.to_string()).await;
        let answer = self.until(|frame| frame.is("result")).await.json();
        assert_eq!(answer["id"], 7);
        answer["result"].clone()
    }

    /// Reads the error that ends the connection, and the code that it is closed with.
    async fn refused(&mut self) -> (Frame, u16) {
        let error = self.until(|frame| frame.command == "ERROR").await;
        let code = self.next().await.expect_err("nothing comes behind an error");
        (error, code)
    }
}

/// Returns up to which entry of a chat the devices of a user have received it.
async fn delivered(stomp: &mut Stomp, chat: ChatId) -> i64 {
    let synced = stomp.result(json!({"sync": {}})).await;
    let chats = synced["synced"]["chats"].as_array().expect("chats");
    let state = chats.iter().find(|of| of["chat"] == chat.to_string()).expect("the chat");
    state["watermarks"]["delivered_seq"].as_i64().unwrap_or_else(|| panic!("{state}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_stomp_and_one_of_json_talk() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, ben, chat) = TestUser::two(&dev.messenger).await?;
    let mut stomp = Stomp::connect(&dev, &ann).await;
    stomp.subscribe("all", "/chats", &[("ack", "client-individual")]).await;
    let online = ben.online(&[chat]).await;

    // What the other one says comes once and in order, as the entries of JSON.
    let mut last = 0;
    for turn in 0..5 {
        let body = format!("line {turn}: \\ \n \u{1f600}");
        let seq = online.send(chat, &body).await?;
        let message = stomp.until(|frame| frame.is("message")).await;
        assert_eq!(message.header("subscription"), Some("all"));
        assert_eq!(message.header("destination"), Some(format!("/chats/{chat}").as_str()));
        assert_eq!(message.header("message-id"), Some(format!("{chat}.{seq}").as_str()));
        let frame = message.json();
        assert_eq!(frame["message"]["seq"], seq);
        assert_eq!(frame["message"]["body"], body.as_str());
        assert!(seq > last);
        last = seq;
    }
    // An acknowledged entry moves the watermark of what was delivered.
    let name = format!("{chat}.{last}");
    stomp.send("ACK", &[("id", &name), ("receipt", "acknowledged")], "").await;
    stomp.receipt("acknowledged").await;
    assert_eq!(delivered(&mut stomp, chat).await, last);

    // What the client of STOMP says reaches the other one, and itself.
    let key = MessageKey::generate();
    let own = stomp.say(chat, key, "a \u{0} and a colon: here").await;
    online.sees(chat, own, PATIENCE).await?;
    let history = ben.history(chat).await?;
    assert_eq!(history.last().map(|of| of.body.as_str()), Some("a \u{0} and a colon: here"));

    // Without a subscription nothing comes but what the client asks for.
    stomp.send("UNSUBSCRIBE", &[("id", "all"), ("receipt", "gone")], "").await;
    stomp.receipt("gone").await;
    // What came before may be acknowledged behind its end.
    let name = format!("{chat}.{own}");
    let headers = [("id", name.as_str()), ("subscription", "all"), ("receipt", "late")];
    stomp.send("ACK", &headers, "").await;
    stomp.receipt("late").await;
    assert_eq!(delivered(&mut stomp, chat).await, own);
    online.send(chat, "is anyone here?").await?;
    let history = json!({"history": {"chat": chat, "after": own}});
    stomp.send("SEND", &[("destination", "/commands")], &history.to_string()).await;
    // Not of a frame with an id.
    let answer = stomp.frame().await;
    assert!(answer.is("error"), "{answer:?}");
    drop(online);
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_stomp_comes_back_and_misses_nothing() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, ben, chat) = TestUser::two(&dev.messenger).await?;
    let mut stomp = Stomp::connect(&dev, &ann).await;
    let key = MessageKey::generate();
    let first = stomp.say(chat, key, "before").await;
    stomp.send("DISCONNECT", &[("receipt", "bye")], "").await;
    stomp.receipt("bye").await;
    assert_eq!(stomp.next().await.expect_err("nothing comes behind it"), NORMAL);

    let online = ben.online(&[chat]).await;
    online.send(chat, "while you were away").await?;
    let missed = online.send(chat, "and again").await?;

    let mut stomp = Stomp::connect(&dev, &ann).await;
    stomp.subscribe("chat", &format!("/chats/{chat}"), &[]).await;
    let page = stomp.result(json!({"history": {"chat": chat, "after": first}})).await;
    let messages = page["history"]["messages"].as_array().expect("a page");
    let seqs: Vec<_> = messages.iter().filter_map(|message| message["seq"].as_i64()).collect();
    assert_eq!(seqs, (first + 1..=missed).collect::<Vec<_>>());
    // What was sent again under its key is the same message, and what comes now is pushed.
    assert_eq!(stomp.say(chat, key, "before").await, first);
    let next = online.send(chat, "welcome back").await?;
    let pushed = stomp.until(|frame| frame.is("message")).await.json();
    assert_eq!(pushed["message"]["seq"], next);
    drop(online);
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_of_stomp_is_spoken_as_it_is() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, ben, chat) = TestUser::two(&dev.messenger).await?;
    let online = ben.online(&[chat]).await;
    let token = ann.token().await?;
    let authorization = format!("Bearer {token}");
    for (subprotocol, accepted, version) in [
        ("v11.stomp", Some("1.0,1.1"), "1.1"),
        ("v10.stomp", None, "1.0"),
        ("v12.stomp", Some("1.1,1.2"), "1.2"),
    ] {
        let mut stomp = Stomp::open(&dev, subprotocol).await;
        let mut headers =
            vec![("host", "h"), ("Authorization", authorization.as_str()), ("heart-beat", "0,5000")];
        headers.extend(accepted.map(|versions| ("accept-version", versions)));
        stomp.send("STOMP", &headers, "").await;
        let connected = stomp.frame().await;
        assert_eq!(connected.header("version"), Some(version), "{connected:?}");
        assert_eq!(connected.header("heart-beat").is_some(), version != "1.0", "{connected:?}");

        // A heart-beat is no frame, and an id comes back as the version writes it.
        stomp.raw("\n".to_owned()).await;
        let id = if version == "1.0" { "a:b" } else { "a\\cb" };
        let own = [("id", id), ("destination", "/chats"), ("ack", "client"), ("receipt", id)];
        stomp.send("SUBSCRIBE", &own, "").await;
        stomp.receipt(id).await;
        let seq = online.send(chat, version).await?;
        let message = stomp.until(|frame| frame.is("message")).await;
        assert_eq!(message.header("subscription"), Some(id), "{message:?}");
        let name = format!("{chat}.{seq}");
        let name_of = if version == "1.2" { "id" } else { "message-id" };
        let headers = [(name_of, name.as_str()), ("subscription", id), ("receipt", "r")];
        stomp.send("ACK", &headers, "").await;
        stomp.receipt("r").await;
    }
    drop(online);
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_stomp_sees_who_is_there() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, ben, chat) = TestUser::two(&dev.messenger).await?;
    let online = ben.online(&[chat]).await;
    let mut stomp = Stomp::connect(&dev, &ann).await;
    let users = ben.id().to_string();
    let watched = async {
        loop {
            let headers = [("id", "p"), ("destination", "/presence"), ("users", users.as_str())];
            stomp.send("SUBSCRIBE", &headers, "").await;
            let frame = stomp.until(|frame| frame.is("presence") || frame.is("error")).await;
            if frame.is("presence") {
                return frame.json();
            }
            // The gateway has not found the presence service yet.
            assert_eq!(frame.json()["error"]["temporary"], true, "{frame:?}");
            stomp.send("UNSUBSCRIBE", &[("id", "p")], "").await;
        }
    };
    let presence = timeout(PATIENCE, watched).await?;
    assert_eq!(presence["presence"]["users"][0]["user"], users.as_str());
    drop(online);
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_behind_an_error() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, _ben, _chat) = TestUser::two(&dev.messenger).await?;
    let token = ann.token().await?;
    let mut stomp = Stomp::open(&dev, "v12.stomp").await;
    stomp.send("CONNECT", &[("accept-version", "1.2"), ("host", "h"), ("passcode", &token)], "").await;
    assert_eq!(stomp.frame().await.command, "CONNECTED");
    // The second frame is read, as a rule, before the first one is refused: it is not said to be carried out then.
    let history = json!({"id": 7, "history": {"chat": ChatId::generate()}});
    stomp.send("SEND", &[("destination", "/commands"), ("receipt", "asked")], &history.to_string()).await;
    stomp.send("DISCONNECT", &[("receipt", "bye")], "").await;
    let (error, closed) = stomp.refused().await;
    assert_eq!(error.json()["error"]["code"], ErrorCode::NotAMember.as_str());
    assert_eq!((error.header("receipt-id"), closed), (Some("asked"), POLICY_VIOLATION));
    dev.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stomp_does_not_have_ends_a_connection_and_stores_nothing() -> anyhow::Result<()> {
    let dev = Dev::start().await?;
    let (ann, _ben, chat) = TestUser::two(&dev.messenger).await?;
    let before = ann.history(chat).await?.len();
    let token = ann.token().await?;
    let malformed = CloseCode::Malformed.code();
    let connect = format!("CONNECT\naccept-version:1.2\nhost:h\npasscode:{token}\n\n\0");
    let send = format!("destination:/chats/{chat}\nkey:{}\n", MessageKey::generate());

    // Of a stranger.
    for (first, code, close) in [
        ("HELLO\n\n\0".to_owned(), ErrorCode::Malformed, malformed),
        ("{\"id\":1}".to_owned(), ErrorCode::Malformed, malformed),
        ("CONNECT\naccept-version:9\n\n\0".to_owned(), ErrorCode::InvalidArgument, malformed),
        ("CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0".to_owned(), ErrorCode::Malformed, malformed),
        (format!("SEND\n{send}\nhi\0"), ErrorCode::Unauthenticated, malformed),
        (
            "CONNECT\naccept-version:1.2\npasscode:forged\n\n\0".to_owned(),
            ErrorCode::Unauthenticated,
            CloseCode::InvalidToken.code(),
        ),
    ] {
        let mut stomp = Stomp::open(&dev, "v12.stomp").await;
        stomp.raw(first.clone()).await;
        let (error, closed) = stomp.refused().await;
        assert_eq!(error.json()["error"]["code"], code.as_str(), "{first:?}");
        assert_eq!((error.header("message"), closed), (Some(code.as_str()), close), "{first:?}");
        assert_eq!(error.header("version"), Some("1.0,1.1,1.2"));
    }

    // Of a user.
    let not_allowed = ErrorCode::MethodNotAllowed;
    for (frame, code, close) in [
        (format!("SEND\n{send}content-length:9\n\nhi\0"), ErrorCode::Malformed, malformed),
        (format!("SEND\n{send}\nhi"), ErrorCode::Malformed, malformed),
        (format!("SEND\n{send}\nhi\0SEND\n\n\0"), ErrorCode::Malformed, malformed),
        (format!("SEND\n{send}no colon\n\nhi\0"), ErrorCode::Malformed, malformed),
        (format!("SEND\n{send}a:\\t\n\nhi\0"), ErrorCode::Malformed, malformed),
        (format!("SEND\nkey:{}\n\nhi\0", MessageKey::generate()), ErrorCode::Malformed, malformed),
        ("MESSAGE\n\n\0".to_owned(), ErrorCode::Malformed, malformed),
        ("SUBSCRIBE\ndestination:/chats\n\n\0".to_owned(), ErrorCode::Malformed, malformed),
        ("SUBSCRIBE\nid:a\ndestination:/chats\n\nhi\0".to_owned(), ErrorCode::Malformed, malformed),
        (connect.clone(), ErrorCode::Malformed, malformed),
        ("BEGIN\ntransaction:t\nreceipt:r\n\n\0".to_owned(), not_allowed, POLICY_VIOLATION),
        (format!("SEND\n{send}transaction:t\nreceipt:r\n\nhi\0"), not_allowed, POLICY_VIOLATION),
        (format!("SEND\n{send}\n\0"), ErrorCode::InvalidArgument, POLICY_VIOLATION),
        ("SEND\ndestination:/queue/a\n\nhi\0".to_owned(), ErrorCode::NotFound, POLICY_VIOLATION),
        ("ACK\nid:1\nreceipt:r\n\n\0".to_owned(), ErrorCode::InvalidArgument, POLICY_VIOLATION),
        ("UNSUBSCRIBE\nid:a\n\n\0".to_owned(), ErrorCode::NotFound, POLICY_VIOLATION),
        // As long as it likes, a client could have it kept for each of its commands.
        (
            format!("DISCONNECT\nreceipt:{}\n\n\0", "x".repeat(MAX_REQUEST_ID_BYTES + 1)),
            ErrorCode::InvalidArgument,
            POLICY_VIOLATION,
        ),
    ] {
        let mut stomp = Stomp::open(&dev, "v12.stomp").await;
        stomp.raw(connect.clone()).await;
        assert_eq!(stomp.frame().await.command, "CONNECTED");
        stomp.raw(frame.clone()).await;
        let (error, closed) = stomp.refused().await;
        assert_eq!(error.json()["error"]["code"], code.as_str(), "{frame:?}");
        assert_eq!(closed, close, "{frame:?}");
        let receipt = error.header("receipt-id");
        assert_eq!(receipt.is_some(), frame.contains("receipt:r"), "{frame:?}");
    }

    // With its replies, a client reads of what was refused, and goes on.
    let mut stomp = Stomp::connect(&dev, &ann).await;
    let elsewhere = format!("/chats/{}", ChatId::generate());
    let key = MessageKey::generate().to_string();
    let headers = [("destination", elsewhere.as_str()), ("key", key.as_str()), ("receipt", "r")];
    stomp.send("SEND", &headers, "let me in").await;
    let refused = stomp.until(|frame| frame.is("error")).await.json();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("r"), &json!("not_a_member")));
    assert_eq!(ann.history(chat).await?.len(), before);
    stomp.say(chat, MessageKey::generate(), "still here").await;
    dev.end().await
}
