//! Bytes that are nearly valid, for readers of what others wrote.

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::{Config, RngSeed, TestRunner},
};

/// Inputs of a reader in a usual run, which take a second or two. `FUZZ_CASES` sets another number.
const CASES: u32 = 2_000;
const SEED: u64 = 20_261_128;
const MAX_EDITS: usize = 6;
/// A piece of an input that is repeated comes at most this often, so that nesting gets deeper than parsers follow.
const MAX_REPEATS: usize = 300;
/// What is beyond is cut off.
const MAX_BYTES: usize = 2 * 1024;

/// What readers of JSON, UTF-8 and numbers stumble over.
const PIECES: [&str; 28] = [
    "null",
    "true",
    "-",
    "-0",
    "1e999",
    "1e-999",
    "0.1",
    "18446744073709551616",
    "-9223372036854775809",
    "NaN",
    "\"",
    "\"\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "\u{feff}",
    "\u{202e}",
    "{",
    "}",
    "[",
    "]",
    "[[",
    "{\"a\":",
    ",",
    ":",
    "\0",
    "\u{10ffff}",
];

#[derive(Clone, Debug)]
enum Edit {
    Put(Index, u8),
    Insert(Index, &'static str),
    Cut(Index, Index),
    Repeat(Index, Index, usize),
    /// Continues with the rest of another input.
    Splice(Index, Index, Index),
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        let index = any::<Index>;
        prop_oneof![
            (index(), any::<u8>()).prop_map(|(at, byte)| Self::Put(at, byte)),
            (index(), select(&PIECES[..])).prop_map(|(at, piece)| Self::Insert(at, piece)),
            (index(), index()).prop_map(|(from, to)| Self::Cut(from, to)),
            (index(), index(), 1..MAX_REPEATS).prop_map(|(from, to, times)| Self::Repeat(from, to, times)),
            (index(), index(), index()).prop_map(|(at, of, from)| Self::Splice(at, of, from)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>, inputs: &[&[u8]]) {
        let place = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
        let range = |one: &Index, other: &Index, bytes: &[u8]| {
            let (one, other) = (place(one, bytes), place(other, bytes));
            one.min(other)..one.max(other)
        };
        match self {
            Self::Put(at, byte) => {
                let at = place(at, bytes);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Self::Insert(at, piece) => {
                let at = place(at, bytes);
                bytes.splice(at..at, piece.bytes());
            }
            Self::Cut(from, to) => {
                bytes.drain(range(from, to, bytes));
            }
            Self::Repeat(from, to, times) => {
                let range = range(from, to, bytes);
                let most = MAX_BYTES.div_ceil(range.len().max(1));
                let repeated = bytes[range.clone()].repeat(most.min(*times));
                bytes.splice(range, repeated);
                bytes.truncate(MAX_BYTES);
            }
            Self::Splice(at, of, from) => {
                let other = inputs[of.index(inputs.len())];
                bytes.truncate(place(at, bytes));
                bytes.extend_from_slice(&other[place(from, other)..]);
            }
        }
    }
}

/// Calls a reader with bytes that are a few edits away from these inputs, the same in every run. Panics when the reader
/// does, with the smallest input found that makes it.
pub fn fuzz(inputs: &[&[u8]], read: impl Fn(&[u8])) {
    let cases = std::env::var("FUZZ_CASES").map(|cases| cases.parse().expect("FUZZ_CASES is a number"));
    let config = Config {
        cases: cases.unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..Config::default()
    };
    let near = (any::<Index>(), vec(Edit::any(), 0..=MAX_EDITS)).prop_map(|(of, edits)| {
        let mut bytes = inputs[of.index(inputs.len())].to_vec();
        edits.iter().for_each(|edit| edit.apply(&mut bytes, inputs));
        String::from_utf8(bytes).map_err(|error| error.into_bytes())
    });
    let outcome = TestRunner::new(config).run(&near, |input| {
        read(input.as_ref().map_or_else(|bytes| &bytes[..], |text| text.as_bytes()));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_inputs_are_the_same_in_every_run_and_of_all_kinds() {
        let inputs: [&[u8]; 2] = [br#"{"v":1}"#, b"[2]"];
        let seen = || {
            let (valid, text, other) = (Cell::new(0), Cell::new(0), Cell::new(0));
            let sum = Cell::new(0_u64);
            fuzz(&inputs, |bytes| {
                let kind = match str::from_utf8(bytes) {
                    Ok(text) if serde_json::from_str::<serde_json::Value>(text).is_ok() => &valid,
                    Ok(_) => &text,
                    Err(_) => &other,
                };
                kind.set(kind.get() + 1);
                sum.set(bytes.iter().fold(sum.get(), |sum, byte| sum.rotate_left(5) ^ u64::from(*byte)));
            });
            [valid.get(), text.get(), other.get(), sum.get()]
        };
        let first = seen();
        assert!(first[..3].iter().all(|count| *count > 100), "{first:?}");
        assert_eq!(seen(), first);
    }

    #[test]
    #[should_panic(expected = "a reader of numbers")]
    fn a_reader_that_panics_is_found() {
        fuzz(&[b"1"], |bytes| {
            let text = str::from_utf8(bytes).unwrap_or("1");
            assert!(text.len() < 2 || !text.contains("null"), "a reader of numbers");
        });
    }
}
