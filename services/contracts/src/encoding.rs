//! The encodings of frames, and the subprotocols that are named after them.

use serde::Serialize;

use crate::cbor;

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text. The default: it is read without a tool.
    #[default]
    Json,
    /// Less than half of the bytes, see [`crate::cbor`].
    Cbor,
}

impl Encoding {
    pub const ALL: [Self; 2] = [Self::Json, Self::Cbor];

    /// Returns the subprotocol that a client requests at the upgrade.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "posthouse.v1.json",
            Self::Cbor => "posthouse.v1.cbor",
        }
    }

    /// Returns the encoding of a subprotocol. Names of subprotocols are compared as they are (RFC 6455, 4.1).
    pub fn of(subprotocol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.subprotocol() == subprotocol)
    }

    /// Returns a frame as it is written.
    pub fn encode<T: Serialize>(self, frame: &T) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(frame).expect("a frame has no map with other than text keys"),
            Self::Cbor => cbor::to_vec(frame).expect("a frame has no map with other than text keys"),
        }
    }
}

/// A frame as it came.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'a> {
    Json(&'a str),
    Cbor(&'a [u8]),
}

impl Encoded<'_> {
    /// Returns its bytes.
    pub const fn len(self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Cbor(bytes) => bytes.len(),
        }
    }

    /// Returns whether there is nothing.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}
