//! The frames on a WebSocket. Their encoding is known here and nowhere else.

use contracts::{
    Encoding, cbor,
    wire::{ClientFrame, CloseCode, ServerFrame},
};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Error, Message as Raw, protocol::CloseFrame};

use super::End;
use crate::Socket;

/// A WebSocket of one encoding.
pub(super) struct Link {
    socket: Socket,
    encoding: Encoding,
}

impl Link {
    pub(super) const fn new(socket: Socket, encoding: Encoding) -> Self {
        Self { socket, encoding }
    }

    /// Queues a frame; [`Self::flush`] sends it.
    pub(super) async fn feed(&mut self, frame: &ClientFrame) -> Result<(), String> {
        self.socket.feed(written(self.encoding, frame)).await.map_err(|error| error.to_string())
    }

    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.socket.flush().await.map_err(|error| error.to_string())
    }

    /// Returns what comes next; `None` for what carries no frame. No frame is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<ServerFrame>, End> {
        read(self.encoding, self.socket.next().await)
    }

    pub(super) async fn close(&mut self) {
        // Who leaves does not mind whether the server sees it.
        let _ = self.socket.close(None).await;
    }
}

fn written(encoding: Encoding, frame: &ClientFrame) -> Raw {
    let bytes = encoding.encode(frame);
    match encoding {
        Encoding::Json => Raw::text(String::from_utf8(bytes).expect("JSON is UTF-8")),
        Encoding::Cbor => Raw::binary(bytes),
    }
}

fn read(encoding: Encoding, raw: Option<Result<Raw, Error>>) -> Result<Option<ServerFrame>, End> {
    match (raw, encoding) {
        (Some(Ok(Raw::Text(text))), Encoding::Json) => json(&text).map(Some),
        (Some(Ok(Raw::Binary(bytes))), Encoding::Cbor) => {
            cbor::from_slice(&bytes).map(Some).map_err(|error| of_another_protocol(&error.to_string()))
        }
        (Some(Ok(Raw::Text(_) | Raw::Binary(_))), _) => Err(of_another_protocol("it has another encoding")),
        (Some(Ok(Raw::Close(close))), _) => Err(closed(close)),
        (Some(Ok(Raw::Ping(_) | Raw::Pong(_) | Raw::Frame(_))), _) => Ok(None),
        (Some(Err(error)), _) => Err(End::Broken(error.to_string())),
        (None, _) => Err(End::Broken("the connection was lost".into())),
    }
}

fn json(text: &str) -> Result<ServerFrame, End> {
    // An array would be read as the fields of a frame in their order.
    if !text.trim_start().starts_with('{') {
        return Err(of_another_protocol("it is no object"));
    }
    serde_json::from_str(text).map_err(|error| of_another_protocol(&error.to_string()))
}

fn of_another_protocol(why: &str) -> End {
    End::Final(format!("the server sent a frame of another protocol: {why}"))
}

fn closed(close: Option<CloseFrame>) -> End {
    let Some(close) = close else { return End::Broken("closed without a reason".into()) };
    let code = u16::from(close.code);
    let why = format!("closed by the server: {code} {}", close.reason);
    if code == CloseCode::TokenExpired.code() || code == CloseCode::InvalidToken.code() {
        End::Expired
    } else if code == CloseCode::Stale.code() {
        // The server did not wait longer for `connect`: the network may be slow. It is a failed attempt, with a longer wait.
        End::Broken(why)
    } else if (3500..4000).contains(&code) {
        End::Final(why)
    } else {
        End::Broken(why)
    }
}

#[cfg(test)]
mod tests {
    use contracts::wire::Empty;

    use super::*;

    #[test]
    fn a_server_that_did_not_wait_for_connect_is_tried_again_later() {
        let close = |code: u16| closed(Some(CloseFrame { code: code.into(), reason: "".into() }));
        assert!(matches!(close(CloseCode::Stale.code()), End::Broken(_)));
        assert!(matches!(close(CloseCode::TokenExpired.code()), End::Expired));
        assert!(matches!(close(3501), End::Final(_)));
    }

    #[test]
    fn a_frame_is_an_object_in_the_encoding_of_the_connection() {
        let ping = ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() };
        let [json, bytes] = Encoding::ALL.map(|encoding| encoding.encode(&ping));
        let json = String::from_utf8(json).expect("UTF-8");
        let frame = |encoding, raw: Raw| read(encoding, Some(Ok(raw)));
        let is_ping = |frame| matches!(frame, Ok(Some(ServerFrame { ping: Some(_), .. })));
        assert!(is_ping(frame(Encoding::Json, Raw::text(json.as_str()))));
        assert!(is_ping(frame(Encoding::Cbor, Raw::binary(bytes.clone()))));
        for other in ["[]", " [null]", "null", "1", "\"{}\"", ""] {
            assert!(matches!(frame(Encoding::Json, Raw::text(other)), Err(End::Final(_))), "{other}");
        }
        for other in [&[0x80][..], &[0xf6], &[0x01], &[0x60], &[], &[0xa1, 0x07]] {
            let raw = Raw::binary(other.to_vec());
            assert!(matches!(frame(Encoding::Cbor, raw), Err(End::Final(_))), "{other:x?}");
        }
        assert!(matches!(frame(Encoding::Cbor, Raw::text(json)), Err(End::Final(_))));
        assert!(matches!(frame(Encoding::Json, Raw::binary(bytes)), Err(End::Final(_))));
    }
}
