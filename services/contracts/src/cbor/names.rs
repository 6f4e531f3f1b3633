//! The numbers of names.

use std::{collections::HashMap, sync::LazyLock};

/// A name on each line; the first has the number 0. `make generate` adds the names that the description of the protocol has beside these at the
/// end. A name keeps its number for good, also one that the protocol has not any more: a client may be older or newer than the server.
const LIST: &str = include_str!("names.txt");

static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| LIST.lines().collect());

static NUMBERS: LazyLock<HashMap<&str, u64>> = LazyLock::new(|| NAMES.iter().copied().zip(0..).collect());

/// Returns the names in the order of their numbers.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

pub(super) fn name(number: u64) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?).copied()
}

pub(super) fn number(name: &str) -> Option<u64> {
    NUMBERS.get(name).copied()
}
