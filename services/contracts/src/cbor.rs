//! CBOR (RFC 8949) of the frames, written and read by the types that JSON is written and read by.
//!
//! There is no second schema. An object is a map, and what is no id is what it is in JSON. An id is a byte string of 16, because serde
//! asks whether a format is for human readers. A key of a map is the number of a name (see [`names()`]), or the name itself.
//!
//! What JSON cannot say is refused: tags, `undefined`, lengths that are not known in advance, numbers beyond 64 bits. So is what a reader of
//! JSON refuses: more behind the value, a key twice, text that is not UTF-8, deep nesting. A length is compared with what is left before
//! anything is made of it.

mod names;
mod reader;
mod writer;

use std::fmt::{self, Display};

use serde::{Serialize, de::DeserializeOwned};

pub use self::names::names;
pub(crate) use self::reader::Reader;
use self::writer::Writer;

// The major types, the three high bits of an item's first byte.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

// What the five low bits say. Up to 23 they are the number itself.
const IN_1_BYTE: u8 = 24;
const IN_2_BYTES: u8 = 25;
const IN_4_BYTES: u8 = 26;
const IN_8_BYTES: u8 = 27;

// Simple values, and floats by their size.
const FALSE: u8 = 20;
const TRUE: u8 = 21;
const NULL: u8 = 22;

/// Why a value is not written or read.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    problem: String,
    /// Where, in bytes, when it is about what was read.
    at: Option<usize>,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        match self.at {
            Some(at) => write!(f, " at byte {at}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<T: Display>(problem: T) -> Self {
        Self { problem: problem.to_string(), at: None }
    }
}

impl serde::de::Error for Error {
    fn custom<T: Display>(problem: T) -> Self {
        Self { problem: problem.to_string(), at: None }
    }
}

/// Writes a value.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::default();
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

/// Reads a value, and nothing behind it.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader).map_err(|error| reader.located(error))?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
