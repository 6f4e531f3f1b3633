//! Parts of a file that a client requests (RFC 9110, section 14).

/// Bytes of an object, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub first: u64,
    pub last: u64,
}

/// What a request wants of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    Part(ByteRange),
    /// A part that begins behind the end.
    Nothing,
}

impl ByteRange {
    /// Returns how many bytes it has.
    pub const fn bytes(self) -> u64 {
        self.last - self.first + 1
    }
}

impl Wanted {
    /// Reads the header `range` of a request for a file of so many bytes. What is no range of bytes, or several of them, is as good as
    /// absent: the whole answers it.
    pub fn parse(header: Option<&str>, bytes: u64) -> Self {
        let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // A number that no file reaches is behind every end.
            is_number.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let (Some((from, to)), Some(end)) = (range.trim().split_once('-'), bytes.checked_sub(1)) else {
            return Self::Whole;
        };
        match (number(from), number(to)) {
            (Some(first), _) if !to.is_empty() && number(to).is_none_or(|last| last < first) => Self::Whole,
            (Some(first), _) if first > end => Self::Nothing,
            (Some(first), last) => Self::Part(ByteRange { first, last: last.unwrap_or(end).min(end) }),
            (None, Some(0)) if from.is_empty() => Self::Nothing,
            (None, Some(last_bytes)) if from.is_empty() => {
                Self::Part(ByteRange { first: bytes.saturating_sub(last_bytes), last: end })
            }
            (None, _) => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_file_or_nothing_or_the_whole() {
        let part = |first, last| Wanted::Part(ByteRange { first, last });
        for (header, expected) in [
            (None, Wanted::Whole),
            (Some("bytes=0-99"), part(0, 99)),
            (Some("bytes=0-"), part(0, 99)),
            (Some("bytes=5-5"), part(5, 5)),
            (Some("bytes=90-1000"), part(90, 99)),
            (Some("bytes=-10"), part(90, 99)),
            (Some("bytes=-1000"), part(0, 99)),
            (Some("bytes=99-99999999999999999999999"), part(99, 99)),
            (Some("bytes=100-"), Wanted::Nothing),
            (Some("bytes=99999999999999999999999-"), Wanted::Nothing),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=7-5"), Wanted::Whole),
            (Some("bytes=-"), Wanted::Whole),
            (Some("bytes=0-1,5-6"), Wanted::Whole),
            (Some("bytes=x-5"), Wanted::Whole),
            (Some("bytes=+1-5"), Wanted::Whole),
            (Some("items=0-5"), Wanted::Whole),
            (Some(""), Wanted::Whole),
        ] {
            assert_eq!(Wanted::parse(header, 100), expected, "{header:?}");
        }
        assert_eq!(Wanted::parse(Some("bytes=0-0"), 0), Wanted::Whole);
    }
}
