//! The WebSocket of a connection.

#[cfg(test)]
mod conformance;
mod inbound;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use contracts::{Encoding, wire::CloseCode};
use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::CapacityError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame as WsFrame,
                coding::{self, Data, OpCode},
            },
        },
    },
};

use self::inbound::Inbound;
use super::{
    End,
    transport::{Incoming, Transport},
};
use crate::domain::frame::Frame;

/// Allocated for every connection; the library's default of 128 KiB would be most of a connection's memory.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Frames gather here up to one write.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// Holds the largest frame of ours: a page of history whose every character is escaped.
const MAX_WRITE_BUFFER_BYTES: usize = 1024 * 1024;
/// A frame up to this size is read and answered with `too_large`; a larger one ends the connection.
const MAX_READ_FRAME_BYTES: usize = 256 * 1024;
/// What is read of a client before its user is known: `connect` with a large token.
const MAX_STRANGER_BYTES: usize = 8 * 1024;
/// What a client that is being closed may still send before it is cut off.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// The WebSocket of a connection.
type WebSocket = WebSocketStream<Inbound<TokioIo<Upgraded>>>;

/// Returns what the WebSocket of a connection holds at most.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES + WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_READ_FRAME_BYTES))
        .max_frame_size(Some(MAX_READ_FRAME_BYTES))
}

/// Speaks the WebSocket protocol from now on, with a client that nothing is known of.
async fn open(upgraded: Upgraded, config: WebSocketConfig) -> WebSocket {
    let inbound = Inbound::new(TokioIo::new(upgraded), MAX_STRANGER_BYTES);
    WebSocketStream::from_raw_socket(inbound, Role::Server, Some(config)).await
}

/// Waits until the client has answered our close frame or has gone, reading what it sends meanwhile: a socket that is
/// closed with unread input resets, and the client would never see why.
async fn part(ws: &mut WebSocket, within: Duration) {
    ws.get_mut().lift();
    let answered = async {
        while let Some(Ok(frame)) = ws.next().await {
            if frame.is_close() {
                // The client waits for us to close now.
                return;
            }
        }
        // Frames of this client cannot be read any more, its answer neither: it is to see now that we are done.
        drop(ws.get_mut().shutdown().await);
        let mut rest = vec![0; READ_BUFFER_BYTES];
        let mut left = MAX_DISCARDED_BYTES;
        while let Ok(read @ 1..) = ws.get_mut().read(&mut rest).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    drop(timeout(within, answered).await);
}

/// The WebSocket of a client, and the encoding of what goes to it.
pub(super) struct Socket(WebSocket, Encoding);

impl Socket {
    /// Speaks the WebSocket protocol from now on, with a client that nothing is known of but the encoding that it reads.
    pub(super) async fn open(upgraded: Upgraded, encoding: Encoding) -> Self {
        Self(open(upgraded, config()).await, encoding)
    }
}

impl Transport for Socket {
    const ANSWERS_PINGS: bool = true;

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        Pin::new(&mut self.0).poll_next(cx).map(|message| match message {
            Some(Ok(Message::Text(text))) => Incoming::Text(text, None),
            Some(Ok(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Incoming::Control,
            Some(Ok(Message::Close(_))) | None => Incoming::Ended(End::Gone),
            Some(Err(error)) => Incoming::Ended(end_of(&error)),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(|error| end_of(&error))
    }

    fn start_send(&mut self, frame: Frame) -> Result<(), End> {
        Pin::new(&mut self.0).start_send(message(frame, self.1)).map_err(|error| end_of(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(|error| end_of(&error))
    }

    fn identified(&mut self) {
        self.0.get_mut().lift();
    }

    async fn say(&mut self, end: End) -> Result<(), End> {
        let said = match close_frame(end) {
            Some(frame) => self.0.send(Message::Close(Some(frame))).await,
            // Answers the client's close frame, if that is what came.
            None => self.0.flush().await,
        };
        said.map_err(|error| end_of(&error))
    }

    async fn part(&mut self, within: Duration) {
        part(&mut self.0, within).await;
    }
}

/// Returns what is written to the client at the end; nothing when it closes itself.
fn close_frame(end: End) -> Option<CloseFrame> {
    match end {
        End::Close(code) => Some(CloseFrame { code: code.code().into(), reason: code.reason().into() }),
        End::Protocol(code, reason) => {
            Some(CloseFrame { code: coding::CloseCode::from(code), reason: reason.into() })
        }
        End::Gone => None,
    }
}

/// Returns a frame as the WebSocket library takes it without copying it or checking that a text is UTF-8 again.
fn message(frame: Frame, encoding: Encoding) -> Message {
    let data = match encoding {
        Encoding::Json => Data::Text,
        Encoding::Cbor => Data::Binary,
    };
    Message::Frame(WsFrame::message(frame.into_bytes(), OpCode::Data(data), true))
}

/// Close codes of RFC 6455 for a client that does not speak it.
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const NOT_UTF_8: u16 = 1007;

fn end_of(error: &WsError) -> End {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => End::Close(CloseCode::TooLarge),
        WsError::Io(error) if inbound::is_too_much(error) => End::Close(CloseCode::TooLarge),
        WsError::Utf8(_) => End::Protocol(NOT_UTF_8, "a text frame is UTF-8"),
        WsError::Protocol(_) | WsError::Capacity(_) => {
            End::Protocol(PROTOCOL_ERROR, "not the WebSocket protocol")
        }
        _ => End::Gone,
    }
}
