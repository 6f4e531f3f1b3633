//! Reads values.

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    ARRAY, BYTES, Error, FALSE, IN_1_BYTE, IN_2_BYTES, IN_4_BYTES, IN_8_BYTES, MAP, NEGATIVE, NULL, SIMPLE,
    TAG, TEXT, TRUE, UNSIGNED, names::name,
};

/// As deep as a value of JSON may be for serde_json.
const MAX_DEPTH: usize = 127;

/// What is left of an input.
pub(crate) struct Reader<'de> {
    bytes: &'de [u8],
    at: usize,
    depth: usize,
}

/// An item; of an array or map its length, which is not more than what is left.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'de> {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Bool(bool),
    Null,
    Bytes(&'de [u8]),
    Text(&'de str),
    Array(usize),
    Map(usize),
}

impl Item<'_> {
    fn refused<V>(&self, expected: &dyn de::Expected) -> Result<V, Error> {
        let unexpected = match self {
            Self::Unsigned(number) => Unexpected::Unsigned(*number),
            Self::Negative(number) => Unexpected::Signed(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Null => Unexpected::Other("null"),
            Self::Bytes(bytes) => Unexpected::Bytes(bytes),
            Self::Text(text) => Unexpected::Str(text),
            Self::Array(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        };
        Err(de::Error::invalid_type(unexpected, expected))
    }
}

impl<'de> Reader<'de> {
    pub(crate) const fn new(bytes: &'de [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.left() > 0 { Err(self.error("trailing bytes")) } else { Ok(()) }
    }

    /// Returns an error with its place.
    pub(super) fn located(&self, error: Error) -> Error {
        Error { at: error.at.or(Some(self.at)), ..error }
    }

    fn error(&self, problem: &str) -> Error {
        Error { problem: problem.to_owned(), at: Some(self.at) }
    }

    const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, count: usize) -> Result<&'de [u8], Error> {
        if count > self.left() {
            return Err(self.error("the input ends within a value"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut number = [0; N];
        number.copy_from_slice(self.take(N)?);
        Ok(number)
    }

    /// Reads an item, and of an array or map its beginning.
    pub(super) fn item(&mut self) -> Result<Item<'de>, Error> {
        let [initial] = self.number()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let argument = match info {
            0..IN_1_BYTE => u64::from(info),
            IN_1_BYTE => self.number::<1>()?[0].into(),
            IN_2_BYTES => u16::from_be_bytes(self.number()?).into(),
            IN_4_BYTES => u32::from_be_bytes(self.number()?).into(),
            IN_8_BYTES => u64::from_be_bytes(self.number()?),
            _ => return Err(self.error("a length that is not known in advance, or a reserved one")),
        };
        Ok(match major {
            UNSIGNED => Item::Unsigned(argument),
            NEGATIVE => match i64::try_from(argument) {
                Ok(number) => Item::Negative(-1 - number),
                Err(_) => return Err(self.error("a number of more than 64 bits")),
            },
            BYTES => Item::Bytes(self.string(argument)?),
            TEXT => {
                let text = self.string(argument)?;
                Item::Text(str::from_utf8(text).map_err(|_| self.error("a text that is not UTF-8"))?)
            }
            ARRAY => Item::Array(self.length(argument, 1)?),
            MAP => Item::Map(self.length(argument, 2)?),
            SIMPLE => match info {
                FALSE => Item::Bool(false),
                TRUE => Item::Bool(true),
                NULL => Item::Null,
                IN_2_BYTES => Item::Float(half(argument as u16)),
                IN_4_BYTES => Item::Float(f32::from_bits(argument as u32).into()),
                IN_8_BYTES => Item::Float(f64::from_bits(argument)),
                _ => return Err(self.error("a simple value that JSON does not have")),
            },
            TAG => return Err(self.error("a tag")),
            _ => unreachable!("three bits"),
        })
    }

    fn string(&mut self, length: u64) -> Result<&'de [u8], Error> {
        let length = self.length(length, 1)?;
        self.take(length)
    }

    /// Checks that there is room for so many parts, of at least this many bytes each.
    fn length(&self, length: u64, bytes: usize) -> Result<usize, Error> {
        let most = self.left() / bytes;
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= most)
            .ok_or_else(|| self.error("the input ends within a value"))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(self.error("recursion limit exceeded"));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deeper(|reader| {
            let mut parts = Parts { reader, left: length };
            let value = visitor.visit_seq(&mut parts)?;
            parts.end()?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deeper(|reader| {
            let mut parts = Parts { reader, left: length };
            let value = visitor.visit_map(&mut parts)?;
            parts.end()?;
            Ok(value)
        })
    }

    fn key<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<K::Value, Error> {
        let known = match self.item()? {
            Item::Text(name) => Some(name),
            Item::Unsigned(number) => match name(number) {
                Some(name) => Some(name),
                // Of a later version. No name is written so: the field is as unknown as one with another name.
                None => return seed.deserialize(format!("#{number}").into_deserializer()),
            },
            _ => None,
        };
        let name = known.ok_or_else(|| self.error("a key that is neither a name nor its number"))?;
        seed.deserialize(BorrowedStrDeserializer::new(name))
    }
}

/// Reads a float of 16 bits: a sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.item()? {
            Item::Unsigned(number) => visitor.visit_u64(number),
            Item::Negative(number) => visitor.visit_i64(number),
            Item::Float(number) => visitor.visit_f64(number),
            Item::Bool(value) => visitor.visit_bool(value),
            Item::Null => visitor.visit_unit(),
            Item::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Item::Text(text) => visitor.visit_borrowed_str(text),
            Item::Array(length) => self.array(length, visitor),
            Item::Map(length) => self.map(length, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.bytes.get(self.at) == Some(&(SIMPLE << 5 | NULL)) {
            self.at += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    // Visitors of texts take bytes, too. A text is a text.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.item()? {
            Item::Text(text) => visitor.visit_borrowed_str(text),
            item => item.refused(&visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.item()? {
            Item::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            item => item.refused(&visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.item()? {
            Item::Map(length) => self.map(length, visitor),
            item => item.refused(&visitor),
        }
    }

    // An object has its fields by their names, and never by their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.item()? {
            Item::Text(word) => visitor.visit_enum(BorrowedStrDeserializer::new(word)),
            Item::Map(1) => self.deeper(|reader| visitor.visit_enum(Variant(reader))),
            item => item.refused(&visitor),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 unit unit_struct seq tuple tuple_struct ignored_any
    }
}

/// The parts of an array or map that are left.
struct Parts<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl Parts<'_, '_> {
    fn end(&self) -> Result<(), Error> {
        if self.left > 0 {
            Err(self.reader.error("an array with more parts than were expected"))
        } else {
            Ok(())
        }
    }

    /// Returns how many parts to make room for: those that are left, as far as there are bytes for them. Each has one at least.
    fn hint(&self) -> usize {
        self.left.min(self.reader.left())
    }

    /// Returns whether there is another part, which is read next.
    const fn begin(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.begin() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if self.begin() { self.reader.key(seed).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// A variant with what belongs to it: a map of one key.
struct Variant<'a, 'de>(&'a mut Reader<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        Ok((self.0.key(seed)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(self.0.error("a word that is not written as a text"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_map(visitor)
    }
}
