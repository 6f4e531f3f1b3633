//! What comes from the client of a WebSocket: its bytes, bounded while its user is not known, because it may be anyone; and the messages that
//! are in them.
//!
//! An idle connection has no buffer here: bytes are read into one of the thread, and kept as far as they are not a whole frame yet. What is kept
//! counts in the memory of the process, with the room around it.
//!
//! Every message, ping and pong is returned, and its reader bounds how many there are. What brings no message costs the client next to nothing, so it
//! is bounded here: fragments are returned in hundreds, and of those without a byte a few are read in a row.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use kit::budget::Room;
use tokio_tungstenite::tungstenite::{
    Utf8Bytes,
    protocol::frame::{
        FrameHeader,
        coding::{CloseCode, Control, Data, OpCode},
    },
};

/// Of a control frame (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: usize = 125;
/// Frames in a row that are a part of a message and have no byte of it. The protocol allows them, and no client has a use for many.
const MAX_EMPTY_FRAMES: usize = 64;
/// Fragments that are returned as one: a message may be in a quarter of a million of them, each in 7 bytes.
const PARTS_AT_ONCE: usize = 256;
/// What is behind frames of more bytes than this gets memory of its own at once, and behind others before the next read. It is what is read at
/// a time, so it is little that is copied.
const LARGE_FRAME_BYTES: usize = 4 * 1024;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// As much of a message, which is not whole yet, as counts like one.
    Part,
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
    /// Too many frames in a row say nothing.
    Empty,
    /// The process has no memory for so much of a message.
    NoRoom,
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
    /// Bytes of frames that were in front of it, in the same memory.
    in_front: usize,
    begun: Option<Begun>,
    /// Fragments that were taken in.
    parts: usize,
    /// Those of them without a byte that are the last ones.
    empty: usize,
    most_message_bytes: usize,
    /// How much may still be taken in, until the bound is lifted.
    left: Option<usize>,
    room: Room,
}

impl Inbound {
    /// Returns what takes in so many bytes of a stranger, and messages of so many from everyone, as long as there is room for them.
    pub(super) fn new(most_bytes: usize, most_message_bytes: usize, room: Room) -> Self {
        Self {
            bytes: BytesMut::new(),
            in_front: 0,
            begun: None,
            parts: 0,
            empty: 0,
            most_message_bytes,
            left: Some(most_bytes),
            room,
        }
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

    /// Forgets what was taken in: nothing is read any more.
    pub(super) fn end(&mut self) {
        (self.bytes, self.begun) = (BytesMut::new(), None);
        self.room.resize(0);
    }

    /// Returns what comes next; nothing when more bytes are needed. Behind a fault or a close frame nothing is read.
    pub(super) fn next(&mut self) -> Result<Option<Received>, Fault> {
        let next = self.read()?;
        let is_waiting = next.is_none();
        let most_in_front = if is_waiting { 0 } else { LARGE_FRAME_BYTES };
        if self.in_front > most_in_front {
            // It would keep the memory of what is read.
            self.bytes = BytesMut::from(&self.bytes[..]);
            self.in_front = 0;
        }
        let kept = self.bytes.capacity() + self.begun.as_ref().map_or(0, |begun| begun.bytes.capacity());
        // What one read has brought is mostly said at once: it counts when it stays.
        if (is_waiting || kept < self.room.bytes()) && !self.room.resize(kept) {
            return Err(Fault::NoRoom);
        }
        Ok(next)
    }

    fn read(&mut self) -> Result<Option<Received>, Fault> {
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
        self.in_front += start + length;
        if self.bytes.is_empty() {
            // It would keep its buffer for the next frame, which comes who knows when.
            (self.bytes, self.in_front) = (BytesMut::new(), 0);
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
        let is_empty = payload.is_empty() && !is_final;
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        if self.empty > MAX_EMPTY_FRAMES {
            return Err(Fault::Empty);
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
            self.parts += 1;
            return Ok(self.parts.is_multiple_of(PARTS_AT_ONCE).then_some(Received::Part));
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
    use std::{cell::Cell, io::Read as _, sync::Arc};

    use kit::testing::fuzz;
    use tokio_tungstenite::tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        protocol::{Role, WebSocket, WebSocketConfig},
    };

    use super::*;
    use crate::domain::send_queue::QueuedBytes;

    const MOST_BYTES: usize = 1024;

    fn inbound() -> Inbound {
        inbound_of(MOST_BYTES, &Arc::default())
    }

    /// Returns what takes in messages of so many bytes of a user, and counts there what it keeps.
    fn inbound_of(most_message_bytes: usize, total: &Arc<QueuedBytes>) -> Inbound {
        let mut inbound = Inbound::new(0, most_message_bytes, total.inbound_room());
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
        let mut stranger = Inbound::new(10, MOST_BYTES, Arc::<QueuedBytes>::default().inbound_room());
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

    #[test]
    fn frames_without_a_byte_are_read_until_there_are_too_many_in_a_row() {
        let empty = frame(0, false, b"");
        let begun = |count: usize| [frame(1, false, b""), empty.repeat(count - 1)].concat();
        let check = |bytes: &[u8], expected: Result<Vec<Received>, Fault>| {
            for at_a_time in [7, 4_096] {
                assert_eq!(read(&mut inbound(), bytes, at_a_time), expected);
            }
        };
        check(&begun(MAX_EMPTY_FRAMES), Ok(vec![]));
        check(&begun(MAX_EMPTY_FRAMES + 1), Err(Fault::Empty));
        // A ping between them says nothing of the message.
        let pinged = [begun(MAX_EMPTY_FRAMES), frame(9, true, b"?"), empty.clone()].concat();
        check(&pinged, Err(Fault::Empty));
        // A byte does, and so does its end.
        let full = begun(MAX_EMPTY_FRAMES);
        let went_on =
            [full.clone(), frame(0, false, b"h"), empty.repeat(MAX_EMPTY_FRAMES), frame(0, true, b"i")];
        check(&went_on.concat(), Ok(vec![Received::Text("hi".into())]));
        let ended = [full.clone(), frame(0, true, b""), full];
        check(&ended.concat(), Ok(vec![Received::Text("".into())]));
    }

    #[test]
    fn fragments_are_returned_now_and_then_so_that_they_can_be_counted() {
        let mut inbound = inbound();
        let bytes = [frame(2, false, b"x"), frame(0, false, b"x").repeat(2 * PARTS_AT_ONCE)].concat();
        assert_eq!(read(&mut inbound, &bytes, 64), Ok(vec![Received::Part, Received::Part]));
        let whole = Received::Binary(vec![b'x'; 2 * PARTS_AT_ONCE + 2].into());
        assert_eq!(read(&mut inbound, &frame(0, true, b"x"), 64), Ok(vec![whole]));
    }

    /// A client that sends a large frame and the beginning of the next one, and is idle then.
    #[test]
    fn the_memory_of_a_large_frame_is_given_back_whatever_is_behind_it() {
        let total = Arc::<QueuedBytes>::default();
        let large = frame(2, true, &[7; 60_000]);
        for behind in [&b""[..], &b"\x82"[..], &frame(1, true, b"hi")[..7]] {
            let mut inbound = inbound_of(64 * 1024, &total);
            let bytes = [&large[..], behind].concat();
            let received = read(&mut inbound, &bytes, 4_096).expect("a message");
            assert_eq!(received, [Received::Binary(vec![7; 60_000].into())]);
            assert_eq!(inbound.bytes, behind);
            assert_eq!(inbound.bytes.capacity(), behind.len(), "and no more");
            assert_eq!(usize::try_from(total.get()), Ok(behind.len()));
        }
        // Its reader may stop behind the message, for a while.
        let mut inbound = inbound_of(64 * 1024, &total);
        let bytes = [large, frame(1, true, b"hi")].concat();
        let mut rest = &bytes[..];
        let mut buffer = [0; 4_096];
        while inbound.next().expect("frames").is_none() {
            inbound.fill(&mut buffer, |buffer| rest.read(buffer)).expect("bytes");
        }
        assert_eq!(inbound.bytes.capacity(), frame(1, true, b"hi").len());
        assert_eq!(usize::try_from(total.get()), Ok(inbound.bytes.capacity()));
        assert_eq!(inbound.next(), Ok(Some(Received::Text("hi".into()))));
        assert_eq!((inbound.bytes.capacity(), total.get()), (0, 0));
    }

    /// Many clients send the most of a message and stop.
    #[test]
    fn messages_that_are_not_whole_count_until_one_is_too_much() {
        let total = Arc::new(QueuedBytes::with_budget(16 * 1024 * 1024));
        let unfinished =
            [frame(2, false, &[7; 16 * 1024 - 1]), frame(2, true, &[7; 16 * 1024])[..16 * 1024].to_vec()];
        let mut clients = Vec::new();
        let refused = unfinished.iter().cycle().take(1_000).find_map(|bytes| {
            let mut inbound = inbound_of(256 * 1024, &total);
            let read = read(&mut inbound, bytes, 4_096);
            clients.push(inbound);
            read.err()
        });
        assert_eq!(refused, Some(Fault::NoRoom));
        let begun = |of: &Inbound| of.begun.as_ref().map_or(0, |begun| begun.bytes.capacity());
        let kept: usize = clients.iter().map(|of| of.bytes.capacity() + begun(of)).sum();
        let counted = usize::try_from(total.get()).expect("they count");
        assert!(kept <= counted && counted <= 5 * 1024 * 1024, "{kept} bytes count as {counted}");
        assert_eq!(total.get(), total.inbound_bytes());
        // Its connection ends; others go on, whose messages come in pieces as well.
        clients.iter_mut().for_each(Inbound::end);
        assert_eq!(total.get(), 0);
        let mut other = inbound_of(256 * 1024, &total);
        assert_eq!(read(&mut other, &unfinished[0], 4_096), Ok(vec![]));
        assert_eq!(read(&mut other, &frame(0, true, b"7"), 4_096).map(|received| received.len()), Ok(1));
        assert_eq!(total.get(), 0, "it is whole");
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
                    ours.retain(|of| !matches!(of, Received::Close(_) | Received::Part));
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
