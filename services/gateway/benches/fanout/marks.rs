//! The text of a message: it has a mark, which both protocols carry as it is and which is found without parsing what is around it.

use std::{ops::Range, sync::LazyLock};

use memchr::memmem::Finder;

/// Begins a mark; time and number of the record follow in so many digits.
const MARK: &str = "@#";
const TIME_DIGITS: usize = 16;
const NUMBER_DIGITS: usize = 6;
/// Bytes of a message's text.
const BODY_BYTES: usize = 100;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// What a mark names.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When its record was due, in microseconds.
    pub due_us: u64,
    pub number: u64,
}

/// Returns a text with a mark.
pub fn body(due_us: u64, number: usize) -> String {
    let mark = format!("{MARK}{due_us:0TIME_DIGITS$}{number:0NUMBER_DIGITS$} ");
    format!("{mark:.<BODY_BYTES$}")
}

/// Returns the marks of a payload.
pub fn marks(payload: &[u8]) -> impl Iterator<Item = Mark> {
    FINDER.find_iter(payload).filter_map(move |at| {
        let digits = payload.get(at + MARK.len()..)?;
        let due_us = number(digits, 0..TIME_DIGITS)?;
        let number = number(digits, TIME_DIGITS..TIME_DIGITS + NUMBER_DIGITS)?;
        Some(Mark { due_us, number })
    })
}

fn number(text: &[u8], place: Range<usize>) -> Option<u64> {
    let digits = text.get(place)?;
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}
