//! Frames to a client as they go over the wire: complete, with the header of their transport, so that the same bytes serve every connection
//! of a form.

use std::{cell::LazyCell, ops::Range};

use bytes::Bytes;
use contracts::{Encoding, wire::ServerFrame};

use super::{
    stomp::subscriptions::{Subscriptions, is_unaddressed, write_unaddressed},
    websocket_header::{self, write_header},
};

/// How frames are written to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text messages of a WebSocket.
    Text,
    /// Binary messages of a WebSocket.
    Binary,
    /// Events of an event stream.
    Event,
    /// Messages to the subscriptions of a client of STOMP. They have an addressee once they are queued.
    Stomp,
}

/// The subprotocols of a WebSocket, each with the form of its frames. Which version of STOMP is spoken is agreed on by its first frame.
pub(crate) const SUBPROTOCOLS: [(&str, Form); 5] = [
    (Encoding::Json.subprotocol(), Form::Text),
    (Encoding::Cbor.subprotocol(), Form::Binary),
    ("v12.stomp", Form::Stomp),
    ("v11.stomp", Form::Stomp),
    ("v10.stomp", Form::Stomp),
];

/// More than a header of a WebSocket's frame, or what is around an event.
const MAX_AROUND_BYTES: usize = 32;

impl Form {
    pub(crate) const ALL: [Self; 4] = [Self::Text, Self::Binary, Self::Event, Self::Stomp];

    /// Returns whether a client is sent what it sent itself, as a subscriber of STOMP expects of a destination. The other ones know it.
    pub(crate) const fn echoes(self) -> bool {
        matches!(self, Self::Stomp)
    }

    /// Returns the encoding of what is in a frame.
    pub(crate) const fn encoding(self) -> Encoding {
        match self {
            Self::Text | Self::Event | Self::Stomp => Encoding::Json,
            Self::Binary => Encoding::Cbor,
        }
    }

    /// Writes a frame of the protocol behind others.
    fn encode(self, frame: &ServerFrame, to: &mut Vec<u8>) {
        match self {
            Self::Stomp => write_unaddressed(frame, to),
            Self::Text | Self::Binary | Self::Event => self.write(&self.encoding().encode(frame), to),
        }
    }

    /// Writes a frame behind others.
    fn write(self, payload: &[u8], to: &mut Vec<u8>) {
        to.reserve(payload.len() + MAX_AROUND_BYTES);
        match self {
            Self::Text | Self::Stomp => write_frame(websocket_header::TEXT, payload, to),
            Self::Binary => write_frame(websocket_header::BINARY, payload, to),
            Self::Event => write_event(None, payload, to),
        }
    }
}

/// Writes a frame of a WebSocket. Those of a server have no mask.
fn write_frame(opening: u8, payload: &[u8], to: &mut Vec<u8>) {
    write_header(opening, payload.len(), to);
    to.extend_from_slice(payload);
}

/// Writes an event of an event stream. JSON as it is encoded here has no line break.
fn write_event(name: Option<&str>, data: &[u8], to: &mut Vec<u8>) {
    if let Some(name) = name {
        to.extend_from_slice(b"event: ");
        to.extend_from_slice(name.as_bytes());
        to.push(b'\n');
    }
    to.extend_from_slice(b"data: ");
    to.extend_from_slice(data);
    to.extend_from_slice(b"\n\n");
}

/// One frame, or several that follow each other. Shared by every queue that it waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    pub(crate) fn encode(form: Form, frame: &ServerFrame) -> Self {
        let mut bytes = Vec::new();
        form.encode(frame, &mut bytes);
        Self(bytes.into())
    }

    /// Returns the frame that has this as its payload.
    pub(crate) fn around(form: Form, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + MAX_AROUND_BYTES);
        form.write(payload, &mut bytes);
        Self(bytes.into())
    }

    /// Returns the frame that checks whether the client is alive.
    pub(crate) fn ping(form: Form) -> Self {
        Self(Bytes::from_static(match form {
            Form::Text => b"\x81\x0b{\"ping\":{}}",
            // Of one field, with the number of its name, an empty object.
            Form::Binary => b"\x82\x03\xa1\x07\xa0",
            Form::Event => b"data: {\"ping\":{}}\n\n",
            // One of the WebSocket, which every client answers: STOMP has none.
            Form::Stomp => b"\x89\x00",
        }))
    }

    /// Returns the answer to a ping of a WebSocket, which has at most 125 bytes.
    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::control(websocket_header::PONG, payload)
    }

    /// Returns the close frame of a WebSocket; the reason has at most 123 bytes. Without a code it says nothing.
    pub(crate) fn close(why: Option<(u16, &str)>) -> Self {
        let mut payload = Vec::new();
        if let Some((code, reason)) = why {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        Self::control(websocket_header::CLOSE, &payload)
    }

    fn control(opening: u8, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + 2);
        write_frame(opening, payload, &mut bytes);
        Self(bytes.into())
    }

    /// Returns the frame as a client of STOMP receives it; nothing where it has subscribed to none of it.
    pub(super) fn addressed(self, subscriptions: &Subscriptions) -> Option<Self> {
        if !is_unaddressed(&self.0) {
            return Some(self);
        }
        let addressed = subscriptions.address(&self.0);
        (!addressed.is_empty()).then(|| Self(addressed.into()))
    }

    /// Returns an event of this name.
    pub(crate) fn event(name: &str, data: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(data.len() + MAX_AROUND_BYTES);
        write_event(Some(name), data, &mut bytes);
        Self(bytes.into())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// A frame for many connections: made when the first of them wants it, and encoded once in each form that one of them has.
pub(crate) struct Shared<F> {
    frame: LazyCell<ServerFrame, F>,
    encoded: [Option<Frame>; Form::ALL.len()],
}

impl<F: FnOnce() -> ServerFrame> Shared<F> {
    /// Returns the frame that `make` returns.
    pub(crate) fn new(make: F) -> Self {
        Self { frame: LazyCell::new(make), encoded: Default::default() }
    }

    /// Returns the frame in this form.
    pub(crate) fn encoded(&mut self, form: Form) -> Frame {
        let encoded = &mut self.encoded[form as usize];
        encoded.get_or_insert_with(|| Frame::encode(form, &self.frame)).clone()
    }
}

/// Frames that follow each other, encoded as one piece.
#[derive(Debug)]
pub(crate) struct Run {
    bytes: Bytes,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl Run {
    pub(crate) fn encode<'a>(form: Form, frames: impl IntoIterator<Item = &'a ServerFrame>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for frame in frames {
            form.encode(frame, &mut bytes);
            ends.push(bytes.len());
        }
        // Not what it grew by: it waits in queues.
        bytes.shrink_to_fit();
        Self { bytes: bytes.into(), ends }
    }

    /// Returns these of its frames, which share its bytes; nothing when there are none.
    pub(crate) fn part(&self, frames: Range<usize>) -> Option<Frame> {
        if frames.is_empty() {
            return None;
        }
        let start = if frames.start == 0 { 0 } else { self.ends[frames.start - 1] };
        Some(Frame(self.bytes.slice(start..self.ends[frames.end - 1])))
    }
}

/// For queues: what they do with frames does not depend on what is in them.
#[cfg(test)]
impl From<&'static str> for Frame {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

#[cfg(test)]
impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Returns the payloads of frames of a WebSocket that follow each other.
#[cfg(test)]
pub(crate) fn payloads(mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let [_, length, rest @ ..] = frames {
        let (length, rest) = match length {
            126 => (u16::from_be_bytes([rest[0], rest[1]]).into(), &rest[2..]),
            127 => {
                let length: [u8; 8] = rest[..8].try_into().expect("8 bytes");
                (usize::try_from(u64::from_be_bytes(length)).expect("a length"), &rest[8..])
            }
            length => (usize::from(*length), rest),
        };
        let (payload, behind) = rest.split_at(length);
        payloads.push(payload.to_vec());
        frames = behind;
    }
    assert!(frames.is_empty(), "half a frame");
    payloads
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use contracts::wire::Empty;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame as TheirFrame, FrameSocket,
        coding::{Control, Data, OpCode},
    };

    use super::*;

    fn ping() -> ServerFrame {
        ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() }
    }

    /// Reads frames as a client does.
    fn read(bytes: Bytes) -> Vec<TheirFrame> {
        let mut socket = FrameSocket::new(std::io::Cursor::new(bytes.to_vec()));
        let mut frames = Vec::new();
        while let Some(frame) = socket.read(None).expect("frames") {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn a_ping_is_written_as_the_protocol_has_it() {
        for form in [Form::Text, Form::Binary, Form::Event] {
            assert_eq!(Frame::ping(form), Frame::encode(form, &ping()), "{form:?}");
        }
        let opcodes = read(Frame::ping(Form::Stomp).into_bytes());
        let opcodes: Vec<_> = opcodes.iter().map(|frame| frame.header().opcode).collect();
        assert_eq!(opcodes, [OpCode::Control(Control::Ping)]);
    }

    #[test]
    fn a_shared_frame_is_made_once_when_it_is_wanted_and_encoded_once_for_each_encoding() {
        let made = Cell::new(0);
        let mut shared = Shared::new(|| {
            made.set(made.get() + 1);
            ping()
        });
        assert_eq!(made.get(), 0);
        for form in Form::ALL {
            let [first, second] = [(); 2].map(|()| shared.encoded(form).into_bytes());
            assert_eq!(first, Frame::encode(form, &ping()).into_bytes());
            assert_eq!(first.as_ptr(), second.as_ptr(), "they are one");
        }
        assert_eq!(made.get(), 1);
        let mut shared = Shared::new(ping);
        shared.encoded(Form::Text);
        assert_eq!(shared.encoded.iter().flatten().count(), 1, "no other encoding costs anything");
    }

    #[test]
    fn a_frame_of_any_length_is_read_as_it_was_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            for (form, data) in [(Form::Text, Data::Text), (Form::Binary, Data::Binary)] {
                let bytes = Frame::around(form, &payload).into_bytes();
                assert_eq!(payloads(&bytes), std::slice::from_ref(&payload));
                let frames = read(bytes);
                let [frame] = frames.as_slice() else { panic!("{} frames of {length}", frames.len()) };
                assert_eq!(frame.header().opcode, OpCode::Data(data));
                assert!(frame.header().is_final && frame.header().mask.is_none());
                assert_eq!(frame.payload(), payload);
            }
        }
    }

    #[test]
    fn control_frames_are_read_as_they_were_written() {
        let read_one = |frame: Frame| read(frame.into_bytes()).pop().expect("a frame");
        let pong = read_one(Frame::pong(b"who"));
        assert_eq!((pong.header().opcode, pong.payload()), (OpCode::Control(Control::Pong), &b"who"[..]));
        let close = read_one(Frame::close(Some((3000, "drain"))));
        assert_eq!(close.header().opcode, OpCode::Control(Control::Close));
        assert_eq!(close.payload(), [&3000_u16.to_be_bytes()[..], b"drain"].concat());
        assert!(read_one(Frame::close(None)).payload().is_empty());
    }

    #[test]
    fn an_event_is_written_as_the_format_has_it() {
        assert_eq!(Frame::around(Form::Event, b"{\"ping\":{}}"), Frame::from("data: {\"ping\":{}}\n\n"));
        assert_eq!(Frame::event("close", b"{}"), Frame::from("event: close\ndata: {}\n\n"));
    }

    #[test]
    fn a_run_is_its_frames_one_behind_the_other_and_each_part_of_it_is_whole() {
        let other = ServerFrame::default();
        let frames = [ping(), ServerFrame::default(), ping()];
        for form in Form::ALL {
            let run = Run::encode(form, &frames);
            let one_by_one: Vec<u8> =
                frames.iter().flat_map(|frame| Frame::encode(form, frame).into_bytes()).collect();
            let whole = run.part(0..3).expect("frames").into_bytes();
            assert_eq!(whole, one_by_one, "{form:?}");
            assert_eq!(run.part(1..2), Some(Frame::encode(form, &other)));
            let (head, rest) = (run.part(0..1).expect("a frame"), run.part(1..3).expect("frames"));
            assert_eq!([head.as_bytes(), rest.as_bytes()].concat(), one_by_one);
            assert_eq!(head.as_bytes().as_ptr(), whole.as_ptr(), "nothing is copied");
            assert_eq!(run.part(3..3), None);
        }
    }
}
