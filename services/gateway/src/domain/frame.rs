//! A frame to a client as it goes over the wire.

use bytes::Bytes;
use contracts::wire::ServerFrame;

/// UTF-8 text; encoded once and shared by every queue it waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame(Bytes);

impl Frame {
    pub(crate) fn encode(frame: &ServerFrame) -> Self {
        let text = serde_json::to_string(frame).expect("a frame has no map with other than text keys");
        Self(text.into())
    }

    /// Returns the frame that checks whether the client is alive.
    pub(crate) fn ping() -> Self {
        Self(Bytes::from_static(br#"{"ping":{}}"#))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
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
    use contracts::wire::Empty;

    use super::*;

    #[test]
    fn a_ping_is_written_as_the_protocol_has_it() {
        let frame = ServerFrame { ping: Some(Empty {}), ..ServerFrame::default() };
        assert_eq!(Frame::ping(), Frame::encode(&frame));
    }
}
