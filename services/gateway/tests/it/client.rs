//! A client of the protocol as its description has it.

use std::{collections::HashMap, net::SocketAddr, sync::LazyLock, time::Duration};

use contracts::{
    ChatId, DeviceId, Encoding, ErrorCode, MessageKey, cbor,
    wire::{
        self, ClientFrame, Command, Connected, Empty, HistoryPage, Outcome, RequestId, ServerFrame, Stored,
        WireError,
    },
};
use futures_util::{SinkExt as _, StreamExt as _};
use kit::testing::{Schemas, frame_schema};
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};
use uuid::Uuid;

use crate::stand::PATIENCE;

/// Compares a frame with its description.
pub fn check(action: &str, frame: &str) {
    static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
        let document = include_str!("../../src/api/asyncapi.json");
        Schemas::new(serde_json::from_str(document).expect("the description is JSON"))
    });
    let frame: Value = serde_json::from_str(frame).expect("JSON");
    let errors = SCHEMAS.errors(&frame_schema(SCHEMAS.document(), action), &frame);
    let start: String = frame.to_string().chars().take(500).collect();
    assert!(errors.is_empty(), "no message of the description is {start}: {}", errors.len());
}

pub struct Client {
    pub ws: WebSocketStream<TcpStream>,
    encoding: Encoding,
    next_id: u32,
    /// The frames of all commands as JSON, by id.
    sent: HashMap<u32, String>,
    /// Pushes, and answers to other commands, that came while an answer was awaited.
    pushes: Vec<ServerFrame>,
    /// Whether pings are answered.
    pub answers_pings: bool,
}

impl Client {
    pub async fn open(addr: SocketAddr) -> Self {
        Self::open_in(addr, Encoding::Json).await
    }

    /// Opens a connection of this encoding.
    pub async fn open_in(addr: SocketAddr, encoding: Encoding) -> Self {
        Self::try_open_in(addr, encoding, None).await.expect("an upgrade")
    }

    /// Opens a connection whose side buffers next to nothing.
    pub async fn open_narrow(addr: SocketAddr) -> Self {
        Self::try_open(addr, Some(4096)).await.expect("an upgrade")
    }

    pub async fn try_open(
        addr: SocketAddr,
        receive_buffer: Option<u32>,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        Self::try_open_in(addr, Encoding::Json, receive_buffer).await
    }

    async fn try_open_in(
        addr: SocketAddr,
        encoding: Encoding,
        receive_buffer: Option<u32>,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(addr).await?;
        let mut request = format!("ws://{addr}/ws").into_client_request()?;
        let subprotocol = encoding.subprotocol();
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
        let (ws, answer) = client_async(request, stream).await?;
        assert_eq!(answer.headers()["sec-websocket-protocol"], subprotocol);
        Ok(Self { ws, encoding, next_id: 0, sent: HashMap::new(), pushes: Vec::new(), answers_pings: true })
    }

    pub async fn raw(&mut self, message: Message) {
        self.ws.send(message).await.expect("an open socket");
    }

    pub async fn text(&mut self, text: impl Into<String>) {
        self.raw(Message::text(text.into())).await;
    }

    /// Sends a command and returns its id.
    pub async fn command(&mut self, command: Command) -> u32 {
        self.next_id += 1;
        let frame = ClientFrame { id: Some(self.next_id.into()), command };
        self.sent.insert(self.next_id, serde_json::to_string(&frame).expect("json"));
        self.send_frame(&frame).await;
        self.next_id
    }

    async fn send_frame(&mut self, frame: &ClientFrame) {
        let bytes = self.encoding.encode(frame);
        self.raw(match self.encoding {
            Encoding::Json => Message::text(String::from_utf8(bytes).expect("JSON is text")),
            Encoding::Cbor => Message::binary(bytes),
        })
        .await;
    }

    /// Reads a message of the server; nothing from one that has no frame.
    fn read(&self, message: &Message) -> Option<ServerFrame> {
        let frame = match (message, self.encoding) {
            (Message::Text(text), Encoding::Json) => {
                check("send", text);
                serde_json::from_str(text).expect("a frame of the protocol")
            }
            (Message::Binary(bytes), Encoding::Cbor) => {
                let frame: ServerFrame = cbor::from_slice(bytes).expect("a frame of the protocol");
                // What this client sees is what one of JSON sees, and that is described.
                check("send", &serde_json::to_string(&frame).expect("json"));
                frame
            }
            (Message::Text(_) | Message::Binary(_), _) => panic!("another encoding: {message:?}"),
            _ => return None,
        };
        Some(frame)
    }

    pub async fn connect(&mut self, token: &str, device: DeviceId) -> Connected {
        let connect = wire::Connect { token: token.to_owned(), device };
        let id = self.command(Command::Connect(connect)).await;
        match self.answer(id).await {
            Ok(Outcome::Connected(connected)) => connected,
            other => panic!("not connected: {other:?}"),
        }
    }

    pub async fn send(&mut self, chat: ChatId, key: MessageKey, body: &str) -> u32 {
        let body = body.to_owned();
        let send = wire::Send::text(chat, key, body);
        self.command(Command::Send(send)).await
    }

    /// Sends a command under a key and waits for `accepted` and `stored`.
    pub async fn change(&mut self, key: MessageKey, command: Command) -> Result<Stored, ErrorCode> {
        let id = self.command(command).await;
        match self.answer(id).await? {
            Outcome::Accepted(_) => {}
            other => panic!("not accepted: {other:?}"),
        }
        Ok(self.push("stored", |frame| frame.stored.clone().filter(|stored| stored.key == key)).await)
    }

    /// Sends and waits for `accepted` and `stored`.
    pub async fn send_text(&mut self, chat: ChatId, body: &str) -> Stored {
        let key = MessageKey(Uuid::new_v4());
        let id = self.send(chat, key, body).await;
        match self.answer(id).await {
            Ok(Outcome::Accepted(_)) => {}
            other => panic!("not accepted: {other:?}"),
        }
        self.push("stored", |frame| frame.stored.clone().filter(|stored| stored.key == key)).await
    }

    /// Sends a text again and again until it reaches another client, which may not be known as a member yet.
    pub async fn send_until_received(&mut self, chat: ChatId, body: &str, receiver: &mut Self) {
        let received = timeout(PATIENCE, async {
            loop {
                self.send_text(chat, body).await;
                if timeout(Duration::from_millis(300), receiver.message()).await.is_ok() {
                    break;
                }
            }
        });
        received.await.expect("who is a member receives it");
    }

    pub async fn history(&mut self, chat: ChatId, after: i64) -> Result<HistoryPage, ErrorCode> {
        let history = wire::History::after(chat, after, None);
        let id = self.command(Command::History(history)).await;
        match self.answer(id).await? {
            Outcome::History(page) => Ok(page),
            other => panic!("not a page: {other:?}"),
        }
    }

    /// Waits for the answer to a command; pushes are kept.
    pub async fn answer(&mut self, id: u32) -> Result<Outcome, ErrorCode> {
        self.outcome(id).await.map_err(|error| error.code)
    }

    /// Waits for the answer to a command and returns the whole error; pushes and other answers are kept.
    pub async fn outcome(&mut self, id: u32) -> Result<Outcome, WireError> {
        // Answers come in any order: it may have come while another one was awaited.
        let kept = self.pushes.iter().position(|frame| frame.id == Some(id.into()));
        let mut kept = kept.map(|at| self.pushes.remove(at));
        loop {
            let frame = match kept.take() {
                Some(frame) => frame,
                None => self.frame().await.unwrap_or_else(|close| panic!("closed with {close:?}")),
            };
            if frame.id != Some(id.into()) {
                self.pushes.push(frame);
            } else if let Some(error) = frame.error {
                return Err(error);
            } else {
                // What a story sends with a fault need not be described; what is taken is.
                check("receive", &self.sent[&id]);
                return Ok(frame.result.expect("a result or an error"));
            }
        }
    }

    /// Waits for a push.
    pub async fn push<T>(&mut self, what: &str, pick: impl Fn(&ServerFrame) -> Option<T>) -> T {
        if let Some(at) = self.pushes.iter().position(|frame| pick(frame).is_some()) {
            return pick(&self.pushes.remove(at)).expect("it was there");
        }
        let coming = async {
            loop {
                let frame =
                    self.frame().await.unwrap_or_else(|close| panic!("no {what}, closed with {close:?}"));
                if let Some(picked) = pick(&frame) {
                    return picked;
                }
                self.pushes.push(frame);
            }
        };
        timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("no {what} in time"))
    }

    /// Waits for the message of another connection.
    pub async fn message(&mut self) -> wire::Message {
        self.push("message", |frame| frame.message.clone()).await
    }

    /// Returns the next frame that is no ping, or the close code (`None` when there was none).
    pub async fn frame(&mut self) -> Result<ServerFrame, Option<u16>> {
        loop {
            let message = timeout(PATIENCE, self.ws.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Close(close))) => return Err(close.map(|close| close.code.into())),
                Some(Ok(message)) => {
                    let Some(frame) = self.read(&message) else { continue };
                    if frame.ping.is_none() {
                        return Ok(frame);
                    }
                    if self.answers_pings {
                        self.send_frame(&ClientFrame { id: None, command: Command::Pong(Empty {}) }).await;
                    }
                }
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Skips frames until the connection is closed, and returns the code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.frame().await {
                return code;
            }
        }
    }

    /// Returns the code of the next frame's error.
    pub async fn error(&mut self) -> (Option<RequestId>, ErrorCode) {
        let frame = self.frame().await.unwrap_or_else(|close| panic!("no error, closed with {close:?}"));
        (frame.id, frame.error.expect("an error").code)
    }

    /// Returns whether nothing comes for a moment: a push that is wrong would be here by then.
    pub async fn receives_nothing(&mut self, moment: Duration) -> bool {
        self.pushes.is_empty() && timeout(moment, self.frame()).await.is_err()
    }
}
