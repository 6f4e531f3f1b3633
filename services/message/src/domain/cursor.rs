//! Where a client's `sync` goes on.
//!
//! A cursor holds no state of the service: it names what the chats of the user were when it was made, as places in the log of
//! sends. A chat has changed since when its head was moved by a record at or behind the place of its partition. No clock
//! takes part in that, so one that steps hides nothing. Clients take it for an opaque text.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contracts::{ChatId, UserId};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Generation, Position};

/// The first byte of a cursor of this form.
const VERSION: u8 = 1;
/// More partitions than any topic of sends has.
const MAX_PLACES: u64 = 4_096;

/// Where the chats of a user were at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The moment, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Fingerprint of the log's generation.
    generation: u64,
    /// Fingerprint of which chats there were, as [`digest`] returns it.
    pub chats: u64,
    /// For each partition, the first offset whose effects may be missing.
    places: BTreeMap<i32, i64>,
}

impl Base {
    /// Returns the base of a moment.
    pub fn new(at_ms: i64, generation: &Generation, chats: u64, places: BTreeMap<i32, i64>) -> Self {
        Self { at_ms, generation: fingerprint(generation.as_str().as_bytes()), chats, places }
    }

    /// Returns the places.
    pub const fn places(&self) -> &BTreeMap<i32, i64> {
        &self.places
    }

    /// Returns the places, when they are of this generation.
    pub fn places_in(&self, generation: &Generation) -> Option<&BTreeMap<i32, i64>> {
        (self.generation == fingerprint(generation.as_str().as_bytes())).then_some(&self.places)
    }

    /// Returns whether a chat of this partition, whose last applied record has this position, may have changed since.
    pub fn precedes(&self, partition: i32, applied: &Position) -> bool {
        self.generation != fingerprint(applied.generation.as_str().as_bytes())
            || self.places.get(&partition).is_none_or(|place| applied.offset >= *place)
    }
}

/// The last chat of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// By which chats are ordered: see `sync`.
    pub activity: i64,
    pub chat: ChatId,
}

/// Where a `sync` goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub user: UserId,
    /// What the client had before; `None` for a client that began without a cursor and has more pages to fetch.
    pub since: Option<Base>,
    /// Of a sync that has more pages: what the client has after the last of them, and the last chat of the page before.
    pub page: Option<(Base, Place)>,
}

/// The text is no cursor, or not one of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of ours")]
pub struct InvalidCursor;

impl Cursor {
    /// Returns what the sync is of that it ends, or that it goes on with.
    pub fn base(&self) -> Option<&Base> {
        self.page.as_ref().map(|(base, _)| base).or(self.since.as_ref())
    }

    /// Returns the cursor as a text for a client.
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.user.0.as_bytes());
        let flags = u8::from(self.since.is_some()) | u8::from(self.page.is_some()) << 1;
        bytes.push(flags);
        if let Some(since) = &self.since {
            write_base(&mut bytes, since);
        }
        if let Some((base, place)) = &self.page {
            write_base(&mut bytes, base);
            bytes.extend(place.activity.to_be_bytes());
            bytes.extend(place.chat.0.as_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor from what a client sent.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let mut reader = Reader(&bytes);
        let cursor = reader.cursor().ok_or(InvalidCursor)?;
        if reader.0.is_empty() { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

/// Returns a fingerprint of a set of chats, in whichever order they come.
pub fn digest(chats: impl IntoIterator<Item = ChatId>) -> u64 {
    chats.into_iter().fold(0, |digest, chat| digest ^ fingerprint(chat.0.as_bytes()))
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn write_base(bytes: &mut Vec<u8>, base: &Base) {
    bytes.extend(base.at_ms.to_be_bytes());
    bytes.extend(base.generation.to_be_bytes());
    bytes.extend(base.chats.to_be_bytes());
    write_number(bytes, base.places.len() as u64);
    for (partition, place) in &base.places {
        write_number(bytes, u64::from(partition.unsigned_abs()));
        write_number(bytes, place.unsigned_abs());
    }
}

/// Writes seven bits to a byte, the least first, as LEB128 does.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Takes what [`Cursor::encode`] wrote, from the front; `None` where it ends too early or is not of the form.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn cursor(&mut self) -> Option<Cursor> {
        if self.byte()? != VERSION {
            return None;
        }
        let user = UserId(Uuid::from_bytes(self.array()?));
        let flags = self.byte()?;
        if flags > 0b11 {
            return None;
        }
        let since = if flags & 1 == 0 { None } else { Some(self.base()?) };
        let page = if flags & 2 == 0 {
            None
        } else {
            let base = self.base()?;
            let activity = i64::from_be_bytes(self.array()?);
            Some((base, Place { activity, chat: ChatId(Uuid::from_bytes(self.array()?)) }))
        };
        Some(Cursor { user, since, page })
    }

    fn base(&mut self) -> Option<Base> {
        let at_ms = i64::from_be_bytes(self.array()?);
        let generation = u64::from_be_bytes(self.array()?);
        let chats = u64::from_be_bytes(self.array()?);
        let count = self.number().filter(|count| *count <= MAX_PLACES)?;
        let mut places = BTreeMap::new();
        for _ in 0..count {
            places.insert(i32::try_from(self.number()?).ok()?, i64::try_from(self.number()?).ok()?);
        }
        Some(Base { at_ms, generation, chats, places })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use kit::testing::fuzz;
    use proptest::prelude::*;

    use super::*;

    fn base() -> impl Strategy<Value = Base> {
        let places = prop::collection::btree_map(0..i32::MAX, 0..i64::MAX, 0..20);
        (any::<i64>(), any::<u64>(), any::<u64>(), places)
            .prop_map(|(at_ms, generation, chats, places)| Base { at_ms, generation, chats, places })
    }

    fn cursor() -> impl Strategy<Value = Cursor> {
        let place = (any::<i64>(), any::<u128>())
            .prop_map(|(activity, chat)| Place { activity, chat: ChatId(Uuid::from_u128(chat)) });
        (any::<u128>(), prop::option::of(base()), prop::option::of((base(), place)))
            .prop_map(|(user, since, page)| Cursor { user: UserId(Uuid::from_u128(user)), since, page })
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back(cursor in cursor()) {
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }
    }

    #[test]
    fn any_text_is_a_cursor_or_refused() {
        let base = Base::new(5, &Generation::new("g1"), 7, BTreeMap::from([(0, 9), (2, 300)]));
        let place = Place { activity: 4, chat: ChatId(Uuid::from_u128(3)) };
        let user = UserId(Uuid::from_u128(1));
        let cursors = [
            Cursor { user, since: Some(base.clone()), page: None }.encode(),
            Cursor { user, since: Some(base.clone()), page: Some((base, place)) }.encode(),
        ];
        let inputs: Vec<&[u8]> = cursors.iter().map(String::as_bytes).collect();
        fuzz(&inputs, |bytes| {
            let Ok(text) = str::from_utf8(bytes) else { return };
            if let Ok(cursor) = Cursor::decode(text) {
                assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
            }
        });
        for text in ["", "AQ", "not a cursor", "A".repeat(4_000).as_str()] {
            assert_eq!(Cursor::decode(text), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn a_chat_precedes_no_base_that_has_its_last_record() {
        let base = Base::new(5, &Generation::new("g1"), 7, BTreeMap::from([(0, 9)]));
        let at = |generation: &str, offset| Position { generation: Generation::new(generation), offset };
        assert!(!base.precedes(0, &at("g1", 8)));
        assert!(base.precedes(0, &at("g1", 9)), "the place itself may be missing");
        assert!(base.precedes(1, &at("g1", 0)), "nothing is known of its partition");
        assert!(base.precedes(0, &at("g2", 0)), "offsets of another generation have no order");
    }

    #[test]
    fn a_digest_is_of_a_set() {
        let chat = |n| ChatId(Uuid::from_u128(n));
        assert_eq!(digest([chat(1), chat(2)]), digest([chat(2), chat(1)]));
        assert_ne!(digest([chat(1), chat(2)]), digest([chat(1)]));
        assert_ne!(digest([chat(1)]), digest([chat(3)]));
    }
}
