//! The two protocols, as far as a client that only receives speaks them. Everything else of the client is the same for both servers.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use contracts::{
    ChatId, DeviceId, Encoding, cbor,
    wire::{ClientFrame, Command, Connect, Empty, History, ServerFrame, WireError},
};
use memchr::memmem;

/// The id of the command that authenticates a connection.
pub const CONNECT: u32 = 1;
/// The id of the command that reads a page.
pub const PAGE: u32 = 2;
/// Messages of a page.
pub const PAGE_MESSAGES: usize = 50;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PONG: u8 = 10;

/// A server, and the form of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server on the Centrifuge library, with frames in JSON.
    Centrifuge,
    /// The gateway, with frames in JSON.
    Json,
    /// The gateway, with frames in CBOR.
    Cbor,
}

/// What a payload says to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: it answers another one, or none.
    None,
    Done,
    /// There is no room for it at the moment: the client repeats it after this time.
    Later(Duration),
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Centrifuge => "Centrifuge",
            Self::Json => "Posthouse",
            Self::Cbor => "Posthouse, CBOR",
        }
    }

    const fn encoding(self) -> Encoding {
        match self {
            Self::Centrifuge | Self::Json => Encoding::Json,
            Self::Cbor => Encoding::Cbor,
        }
    }

    /// Returns the request for a WebSocket.
    pub fn upgrade(self, addr: SocketAddr) -> String {
        let (path, subprotocol) = match self {
            Self::Centrifuge => ("/connection/websocket", String::new()),
            Self::Json | Self::Cbor => {
                ("/ws", format!("sec-websocket-protocol: {}\r\n", self.encoding().subprotocol()))
            }
        };
        format!(
            "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
        )
    }

    /// Returns the frame that authenticates a connection of the gateway.
    pub fn connect(self, token: &str, device: DeviceId) -> Vec<u8> {
        self.command(CONNECT, Command::Connect(Connect { token: token.to_owned(), device }))
    }

    /// Returns the frame that authenticates a connection of Centrifuge, and recovers what was published to the channel since its beginning when
    /// the epoch of that is given.
    pub fn connect_to_channel(token: &str, channel: &str, epoch: Option<&str>) -> Vec<u8> {
        let recovered = epoch.map_or_else(String::new, |epoch| {
            format!(r#","subs":{{"{channel}":{{"recover":true,"offset":0,"epoch":"{epoch}"}}}}"#)
        });
        masked(TEXT, format!(r#"{{"id":{CONNECT},"connect":{{"token":"{token}"{recovered}}}}}"#).as_bytes())
    }

    /// Returns the frame that reads the first page of a chat. Centrifuge has one page for all.
    pub fn page(self, chat: ChatId) -> Vec<u8> {
        match self {
            Self::Centrifuge => masked(
                TEXT,
                format!(r#"{{"id":{PAGE},"history":{{"channel":"page","limit":{PAGE_MESSAGES}}}}}"#)
                    .as_bytes(),
            ),
            Self::Json | Self::Cbor => {
                let limit = u32::try_from(PAGE_MESSAGES).ok();
                self.command(PAGE, Command::History(History::after(chat, 0, limit)))
            }
        }
    }

    fn command(self, id: u32, command: Command) -> Vec<u8> {
        self.frame(&ClientFrame { id: Some(id.into()), command })
    }

    fn frame(self, frame: &ClientFrame) -> Vec<u8> {
        let opcode = if self == Self::Cbor { BINARY } else { TEXT };
        masked(opcode, &self.encoding().encode(frame))
    }

    /// Returns whether a payload is a ping of the protocol, or has one beside what else it says.
    pub fn is_ping(self, payload: &[u8]) -> bool {
        static PINGS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
            let ping = ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() };
            Encoding::ALL.map(|encoding| encoding.encode(&ping))
        });
        match self {
            Self::Centrifuge => {
                payload == b"{}" || payload.starts_with(b"{}\n") || payload.ends_with(b"\n{}")
            }
            Self::Json => payload == PINGS[0],
            Self::Cbor => payload == PINGS[1],
        }
    }

    /// Returns the frame that answers a ping of the protocol.
    pub fn pong(self) -> Vec<u8> {
        match self {
            Self::Centrifuge => masked(TEXT, b"{}"),
            Self::Json | Self::Cbor => {
                self.frame(&ClientFrame { id: None, command: Command::Pong(Empty {}) })
            }
        }
    }

    /// Returns what a payload says to the command with this id, or why the command is refused for good.
    pub fn reply(self, id: u32, payload: &[u8]) -> Result<Reply, String> {
        let frame: ServerFrame = match self {
            Self::Centrifuge | Self::Json => {
                // Centrifuge may put several answers and pushes into one frame.
                let Some(at) = memmem::find(payload, format!(r#"{{"id":{id},"#).as_bytes()) else {
                    return Ok(Reply::None);
                };
                let answer = &payload[at..];
                // It follows the id immediately.
                if memmem::find(&answer[..answer.len().min(24)], br#""error":"#).is_none() {
                    return Ok(Reply::Done);
                }
                if self == Self::Centrifuge {
                    return Err(String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned());
                }
                serde_json::from_slice(answer).map_err(|error| format!("no frame: {error}"))?
            }
            Self::Cbor => cbor::from_slice(payload).map_err(|error| format!("no frame: {error}"))?,
        };
        if frame.id.and_then(|id| id.as_u32()) != Some(id) {
            return Ok(Reply::None);
        }
        match frame.error {
            None => Ok(Reply::Done),
            Some(WireError { temporary: true, retry_after_ms: Some(ms), .. }) => {
                Ok(Reply::Later(Duration::from_millis(ms.into())))
            }
            Some(error) => Err(format!("{error:?}")),
        }
    }
}

/// Returns the frame that answers a ping of WebSocket.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    masked(PONG, payload)
}

/// Returns a frame masked with zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(MASKED | length),
        _ => {
            frame.push(MASKED | 126);
            let length = u16::try_from(payload.len()).expect("a client sends nothing long");
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
