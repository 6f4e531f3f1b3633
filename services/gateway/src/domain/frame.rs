//! A frame to a client as it goes over the wire.

use std::cell::LazyCell;

use bytes::Bytes;
use contracts::{Encoding, wire::ServerFrame};

/// In one encoding, and shared by every queue it waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    pub(crate) fn encode(encoding: Encoding, frame: &ServerFrame) -> Self {
        Self(encoding.encode(frame).into())
    }

    /// Returns the frame that checks whether the client is alive.
    pub(crate) fn ping(encoding: Encoding) -> Self {
        Self(Bytes::from_static(match encoding {
            Encoding::Json => br#"{"ping":{}}"#,
            // Of one field, with the number of its name, an empty object.
            Encoding::Cbor => &[0xa1, 0x07, 0xa0],
        }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// A frame for many connections: made when the first of them wants it, and encoded once in each encoding that one of them has.
pub(crate) struct Shared<F> {
    frame: LazyCell<ServerFrame, F>,
    encoded: [Option<Frame>; Encoding::ALL.len()],
}

impl<F: FnOnce() -> ServerFrame> Shared<F> {
    /// Returns the frame that `make` returns.
    pub(crate) fn new(make: F) -> Self {
        Self { frame: LazyCell::new(make), encoded: Default::default() }
    }

    /// Returns the frame in this encoding.
    pub(crate) fn encoded(&mut self, encoding: Encoding) -> Frame {
        let encoded = &mut self.encoded[encoding as usize];
        encoded.get_or_insert_with(|| Frame::encode(encoding, &self.frame)).clone()
    }
}

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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use contracts::wire::Empty;

    use super::*;

    fn ping() -> ServerFrame {
        ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() }
    }

    #[test]
    fn a_ping_is_written_as_the_protocol_has_it() {
        for encoding in Encoding::ALL {
            assert_eq!(Frame::ping(encoding), Frame::encode(encoding, &ping()), "{encoding:?}");
        }
    }

    #[test]
    fn a_shared_frame_is_made_once_when_it_is_wanted_and_encoded_once_for_each_encoding() {
        let made = Cell::new(0);
        let mut shared = Shared::new(|| {
            made.set(made.get() + 1);
            ping()
        });
        assert_eq!(made.get(), 0);
        for encoding in Encoding::ALL {
            let [first, second] = [(); 2].map(|()| shared.encoded(encoding).into_bytes());
            assert_eq!(first, Frame::ping(encoding).into_bytes());
            assert_eq!(first.as_ptr(), second.as_ptr(), "they are one");
        }
        assert_eq!(made.get(), 1);
        let mut shared = Shared::new(ping);
        shared.encoded(Encoding::Json);
        assert_eq!(shared.encoded.iter().flatten().count(), 1, "no other encoding costs anything");
    }
}
