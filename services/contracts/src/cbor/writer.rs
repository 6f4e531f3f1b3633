//! Writes values, each number and length in its shortest form.

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{
    ARRAY, BYTES, Error, FALSE, IN_1_BYTE, IN_2_BYTES, IN_4_BYTES, IN_8_BYTES, MAP, NEGATIVE, NULL, SIMPLE,
    TEXT, TRUE, UNSIGNED,
    names::number,
    reader::{Item, Reader},
};

/// What is written so far.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn simple(&mut self, value: u8) {
        self.0.push(SIMPLE << 5 | value);
    }

    fn bytes(&mut self, major: u8, bytes: &[u8]) {
        self.head(major, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn head(&mut self, major: u8, argument: u64) {
        let (head, length) = head(major, argument);
        self.0.extend_from_slice(&head[..length]);
    }

    fn key(&mut self, name: &str) {
        match number(name) {
            Some(number) => self.head(UNSIGNED, number),
            None => self.bytes(TEXT, name.as_bytes()),
        }
    }

    fn begin(&mut self, major: u8, length: Option<usize>) -> Parts<'_> {
        let start = self.0.len();
        if let Some(length) = length {
            self.head(major, length as u64);
        }
        Parts { writer: self, major, start, count: 0, is_counted: length.is_some() }
    }

    fn variant(&mut self, variant: &str) {
        self.head(MAP, 1);
        self.key(variant);
    }
}

/// Returns the beginning of an item and how many of its bytes count.
fn head(major: u8, argument: u64) -> ([u8; 9], usize) {
    let mut head = [0; 9];
    let (info, length) = match argument {
        0..24 => (argument as u8, 0),
        24..0x100 => (IN_1_BYTE, 1),
        0x100..0x1_0000 => (IN_2_BYTES, 2),
        0x1_0000..0x1_0000_0000 => (IN_4_BYTES, 4),
        _ => (IN_8_BYTES, 8),
    };
    head[0] = major << 5 | info;
    head[1..=length].copy_from_slice(&argument.to_be_bytes()[8 - length..]);
    (head, 1 + length)
}

/// An array or map that is being written.
pub(super) struct Parts<'a> {
    writer: &'a mut Writer,
    major: u8,
    start: usize,
    count: u64,
    /// Whether its length is written.
    is_counted: bool,
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.count += 1;
        value.serialize(&mut *self.writer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.writer.key(name);
        self.part(value)
    }

    fn finish(self) -> Result<(), Error> {
        if !self.is_counted {
            let (head, length) = head(self.major, self.count);
            self.writer.0.splice(self.start..self.start, head[..length].iter().copied());
        }
        Ok(())
    }
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.simple(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            // -1 is 0, -2 is 1: all bits are the other ones.
            Err(_) => self.head(NEGATIVE, (!value).unsigned_abs()),
        }
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.head(UNSIGNED, value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.simple(IN_8_BYTES);
        self.0.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.bytes(TEXT, value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.bytes(BYTES, value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.simple(NULL);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant);
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(self.begin(ARRAY, length))
    }

    fn serialize_tuple(self, length: usize) -> Result<Parts<'a>, Error> {
        Ok(self.begin(ARRAY, Some(length)))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Parts<'a>, Error> {
        Ok(self.begin(ARRAY, Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(variant);
        Ok(self.begin(ARRAY, Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'a>, Error> {
        Ok(self.begin(MAP, length))
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Parts<'a>, Error> {
        Ok(self.begin(MAP, Some(length)))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>, Error> {
        self.variant(variant);
        Ok(self.begin(MAP, Some(length)))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! parts {
    ($($trait:ident::$method:ident,)+) => {
        $(impl $trait for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.part(value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        })+
    };
}

parts! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! fields {
    ($($trait:ident)+) => {
        $(impl $trait for Parts<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        })+
    };
}

fields!(SerializeStruct SerializeStructVariant);

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let start = self.writer.0.len();
        key.serialize(&mut *self.writer)?;
        let written = self.writer.0.split_off(start);
        match Reader::new(&written).item() {
            Ok(Item::Text(name)) => self.writer.key(name),
            _ => return Err(Error::custom("a key is a text")),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.part(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}
