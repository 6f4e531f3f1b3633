//! What comes from the client of a WebSocket: its bytes, bounded while its user is not known, because it may be anyone; and the messages that
//! are in them.
//!
//! An idle connection has no buffer here: bytes are read into one of the thread, and kept as far as they are not a whole frame yet.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::{
    Utf8Bytes,
    protocol::frame::{
        FrameHeader,
        coding::{CloseCode, Control, Data, OpCode},
    },
};

/// Of a control frame (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: usize = 125;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    /// It closes, with this code and reason; nothing comes behind it.
    Close(Option<(u16, Utf8Bytes)>),
}

/// Why nothing that comes can be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not the WebSocket protocol.
    Protocol,
    NotUtf8,
    TooLarge,
}

/// A message whose frames are not all there.
struct Begun {
    is_text: bool,
    bytes: Vec<u8>,
    /// How far the bytes of a text are UTF-8.
    valid: usize,
}

/// The bytes of a client and what they say.
pub(super) struct Inbound {
    /// What is not read as a frame yet.
    bytes: BytesMut,
    begun: Option<Begun>,
    most_message_bytes: usize,
    /// How much may still be taken in, until the bound is lifted.
    left: Option<usize>,
}

impl Inbound {
    /// Returns what takes in so many bytes of a stranger, and messages of so many from everyone.
    pub(super) fn new(most_bytes: usize, most_message_bytes: usize) -> Self {
        Self { bytes: BytesMut::new(), begun: None, most_message_bytes, left: Some(most_bytes) }
    }

    /// Takes in what was read before, with the request of the connection.
    pub(super) fn begin_with(&mut self, read: &[u8]) {
        self.left = self.left.map(|left| left.saturating_sub(read.len()));
        self.bytes.extend_from_slice(read);
    }

    /// Lifts the bound.
    pub(super) fn lift(&mut self) {
        self.left = None;
    }

    /// Takes in what `read` reads into a buffer, and returns how many bytes that were: none at the end. Fails once more was taken in than allowed,
    /// until the bound is lifted.
    pub(super) fn fill(
        &mut self,
        buffer: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.left == Some(0) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let room = self.left.map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = read(&mut buffer[..room])?;
        self.left = self.left.map(|left| left - count);
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Returns what comes next; nothing when more bytes are needed. Behind a fault or a close frame nothing is read.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Fault> {
        while let Some((header, payload)) = self.frame()? {
            let received = match header.opcode {
                OpCode::Control(control) => Some(controlled(control, payload)?),
                OpCode::Data(data) => self.data(data, header.is_final, payload)?,
            };
            if received.is_some() {
                return Ok(received);
            }
        }
        Ok(None)
    }

    /// Takes the next frame out of the bytes, if it is whole. What is wrong with one shows by its header.
    fn frame(&mut self) -> Result<Option<(FrameHeader, Bytes)>, Fault> {
        let mut cursor = io::Cursor::new(&self.bytes[..]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Fault::Protocol)?;
        let start = usize::try_from(cursor.position()).map_err(|_| Fault::TooLarge)?;
        let Some((header, length)) = parsed else { return Ok(None) };
        // No extension was agreed on, and the frames of a client are masked.
        let Some(mask) = header.mask else { return Err(Fault::Protocol) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Fault::Protocol);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if matches!(header.opcode, OpCode::Control(_)) && (length > MAX_CONTROL_BYTES || !header.is_final) {
            return Err(Fault::Protocol);
        }
        if length > self.most_message_bytes {
            return Err(Fault::TooLarge);
        }
        if self.bytes.len() - start < length {
            return Ok(None);
        }
        self.bytes.advance(start);
        let mut payload = self.bytes.split_to(length);
        if self.bytes.is_empty() {
            // It would keep its buffer for the next frame, which comes who knows when.
            self.bytes = BytesMut::new();
        }
        unmask(&mut payload, mask);
        Ok(Some((header, payload.freeze())))
    }

    /// Takes a frame of a message, and returns the message with its last one.
    fn data(&mut self, data: Data, is_final: bool, payload: Bytes) -> Result<Option<Received>, Fault> {
        let is_first = match data {
            Data::Continue => false,
            Data::Text | Data::Binary => true,
            Data::Reserved(_) => return Err(Fault::Protocol),
        };
        if is_first == self.begun.is_some() {
            return Err(Fault::Protocol);
        }
        let is_text = data == Data::Text;
        if is_first && is_final {
            return whole(is_text, payload).map(Some);
        }
        let begun = self.begun.get_or_insert_with(|| Begun { is_text, bytes: Vec::new(), valid: 0 });
        if begun.bytes.len() + payload.len() > self.most_message_bytes {
            return Err(Fault::TooLarge);
        }
        begun.bytes.extend_from_slice(&payload);
        if begun.is_text {
            begun.check()?;
        }
        if !is_final {
            return Ok(None);
        }
        let Some(begun) = self.begun.take() else { return Ok(None) };
        whole(begun.is_text, begun.bytes.into()).map(Some)
    }
}

impl Begun {
    /// Checks that it is UTF-8 so far. A character may go on in the next frame.
    fn check(&mut self) -> Result<(), Fault> {
        match str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(Fault::NotUtf8),
        }
        Ok(())
    }
}

fn whole(is_text: bool, payload: Bytes) -> Result<Received, Fault> {
    if !is_text {
        return Ok(Received::Binary(payload));
    }
    Ok(Received::Text(Utf8Bytes::try_from(payload).map_err(|_| Fault::NotUtf8)?))
}

fn controlled(control: Control, mut payload: Bytes) -> Result<Received, Fault> {
    match control {
        Control::Ping => Ok(Received::Ping(payload)),
        Control::Pong => Ok(Received::Pong),
        Control::Close if payload.is_empty() => Ok(Received::Close(None)),
        Control::Close if payload.len() < 2 => Err(Fault::Protocol),
        Control::Close => {
            let code = payload.get_u16();
            let reason = Utf8Bytes::try_from(payload).map_err(|_| Fault::NotUtf8)?;
            if !CloseCode::from(code).is_allowed() {
                return Err(Fault::Protocol);
            }
            Ok(Received::Close(Some((code, reason))))
        }
        Control::Reserved(_) => Err(Fault::Protocol),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Returns whether reading failed because of the bound.
pub(super) fn is_too_much(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io::Read as _};

    use kit::testing::fuzz;
    use tokio_tungstenite::tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        protocol::{Role, WebSocket, WebSocketConfig},
    };

    use super::*;

    const MOST_BYTES: usize = 1024;

    fn inbound() -> Inbound {
        let mut inbound = Inbound::new(0, MOST_BYTES);
        inbound.lift();
        inbound
    }

    /// Takes these bytes in, so many at a time, and returns all that they say.
    fn read(inbound: &mut Inbound, bytes: &[u8], at_a_time: usize) -> Result<Vec<Received>, Fault> {
        let mut received = Vec::new();
        let mut buffer = vec![0; at_a_time];
        let mut rest = bytes;
        loop {
            while let Some(next) = inbound.next()? {
                let is_over = matches!(next, Received::Close(_));
                received.push(next);
                if is_over {
                    return Ok(received);
                }
            }
            if inbound.fill(&mut buffer, |buffer| rest.read(buffer)).expect("bytes") == 0 {
                return Ok(received);
            }
        }
    }

    /// Returns a frame as a client writes it.
    fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let opcode = if is_final { 0x80 | opcode } else { opcode };
        let mut bytes = vec![opcode];
        match u8::try_from(payload.len()) {
            Ok(length @ ..=125) => bytes.push(0x80 | length),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload.len()).expect("a short one").to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn a_stranger_sends_so_much_and_a_user_more() {
        let bytes = [7_u8; 100];
        let mut source = &bytes[..];
        let mut stranger = Inbound::new(10, MOST_BYTES);
        let mut buffer = [0; 8];
        let error = loop {
            match stranger.fill(&mut buffer, |buffer| source.read(buffer)) {
                Ok(count) => assert!(count > 0, "too much"),
                Err(error) => break error,
            }
        };
        assert!(is_too_much(&error));
        stranger.lift();
        while stranger.fill(&mut buffer, |buffer| source.read(buffer)).expect("the rest") > 0 {}
        assert_eq!(stranger.bytes, bytes[..]);
    }

    #[test]
    fn messages_are_read_however_their_bytes_come_and_leave_no_buffer() {
        let long = "ä".repeat(200);
        let bytes = [
            frame(1, true, b"hi"),
            frame(1, false, "h\u{e4}".as_bytes().split_at(2).0),
            frame(9, true, b"are you there"),
            frame(0, true, "h\u{e4}".as_bytes().split_at(2).1),
            frame(10, true, b""),
            frame(2, true, &[0, 255]),
            frame(1, true, long.as_bytes()),
            frame(8, true, &[0x03, 0xe8, b'!']),
        ]
        .concat();
        for at_a_time in [1, 2, 3, 7, 64, 4_096] {
            let mut inbound = inbound();
            let received = read(&mut inbound, &bytes, at_a_time).expect("messages");
            let expected = [
                Received::Text("hi".into()),
                Received::Ping(Bytes::from_static(b"are you there")),
                Received::Text("h\u{e4}".into()),
                Received::Pong,
                Received::Binary(Bytes::from_static(&[0, 255])),
                Received::Text(long.as_str().into()),
                Received::Close(Some((1000, "!".into()))),
            ];
            assert_eq!(received, expected, "{at_a_time} at a time");
            assert_eq!(inbound.bytes.capacity(), 0, "nothing is kept");
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_a_fault() {
        let masked = |header: &[u8]| [header, &[0; 4]].concat();
        for (bytes, fault) in [
            (frame(1, true, &[0xc3, 0x28]), Fault::NotUtf8),
            // It goes on, and cannot become a text.
            (frame(1, false, &[0xff]), Fault::NotUtf8),
            (frame(8, true, &[0x03, 0xe8, 0xff]), Fault::NotUtf8),
            // A frame without a mask, of a reserved opcode, with a reserved bit.
            (vec![0x81, 0x02, b'{', b'}'], Fault::Protocol),
            (frame(3, true, b""), Fault::Protocol),
            (frame(0x40 | 1, true, b""), Fault::Protocol),
            // Control frames that are too long or in parts, and close frames with half a code or with none of those that are sent.
            (frame(9, true, &[0; 126]), Fault::Protocol),
            (frame(9, false, b""), Fault::Protocol),
            (frame(8, true, &[3]), Fault::Protocol),
            (frame(8, true, &1005_u16.to_be_bytes()), Fault::Protocol),
            // A part without a beginning, and a beginning in another message.
            (frame(0, true, b"x"), Fault::Protocol),
            ([frame(1, false, b"x"), frame(1, true, b"y")].concat(), Fault::Protocol),
            // More than is read, in one frame, of which nothing has come yet, or in many.
            (masked(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Fault::TooLarge),
            (frame(2, true, &[0; MOST_BYTES + 1]), Fault::TooLarge),
            ([frame(2, false, &[0; MOST_BYTES]), frame(0, true, b"x")].concat(), Fault::TooLarge),
        ] {
            assert_eq!(read(&mut inbound(), &bytes, 7), Err(fault), "{:x?}", &bytes[..bytes.len().min(12)]);
        }
    }

    /// What the library says of the same bytes.
    fn theirs(bytes: &[u8]) -> Result<Vec<Received>, Fault> {
        struct Source<'a>(&'a [u8]);
        impl io::Read for Source<'_> {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                self.0.read(to)
            }
        }
        impl io::Write for Source<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let config =
            WebSocketConfig::default().max_message_size(Some(MOST_BYTES)).max_frame_size(Some(MOST_BYTES));
        let mut socket = WebSocket::from_raw_socket(Source(bytes), Role::Server, Some(config));
        let mut received = Vec::new();
        loop {
            received.push(match socket.read() {
                Ok(Message::Text(text)) => Received::Text(text),
                Ok(Message::Binary(bytes)) => Received::Binary(bytes),
                Ok(Message::Ping(bytes)) => Received::Ping(bytes),
                Ok(Message::Pong(_)) => Received::Pong,
                Ok(Message::Close(_)) => return Ok(received),
                Ok(Message::Frame(_)) => unreachable!("frames are not read as such"),
                Err(WsError::Capacity(_)) => return Err(Fault::TooLarge),
                Err(WsError::Utf8(_)) => return Err(Fault::NotUtf8),
                // The end of the bytes.
                Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Ok(received),
                Err(_) => return Err(Fault::Protocol),
            });
        }
    }

    /// Of bytes that are wrong in two ways, the library may name the other one; a close frame with a code that none sends it reads, and answers
    /// that it is wrong.
    #[test]
    fn any_bytes_are_read_as_the_library_reads_them() {
        let said = [
            [frame(1, false, b"{\"id\":"), frame(9, true, b"?"), frame(0, true, b"7}")].concat(),
            [frame(2, true, &[7; 300]), frame(10, true, b""), frame(1, true, "\u{1f600}".as_bytes())]
                .concat(),
            [frame(1, true, b"{}"), frame(8, true, &[0x0b, 0xb8, b'x'])].concat(),
        ];
        let (read_by_both, refused_by_both) = (Cell::new(0), Cell::new(0));
        fuzz(&said.each_ref().map(Vec::as_slice), |bytes| {
            let ours = read(&mut inbound(), bytes, 64);
            match (ours, theirs(bytes)) {
                (Ok(mut ours), Ok(theirs)) => {
                    ours.retain(|of| !matches!(of, Received::Close(_)));
                    assert_eq!(ours, theirs);
                    read_by_both.set(read_by_both.get() + 1);
                }
                (Err(_), Err(_)) => refused_by_both.set(refused_by_both.get() + 1),
                // The header of a frame that is not there to its end says enough, and so does the code of a close frame.
                (Err(_), Ok(_)) => {}
                (Ok(_), Err(fault)) => panic!("the library refuses it: {fault:?}"),
            }
        });
        assert!(read_by_both.get() > 100 && refused_by_both.get() > 100);
    }
}
