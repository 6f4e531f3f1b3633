//! What is kept under a key, and how it is written.

/// Digits of the time in front: as text, of two values of one version that with more time left is the greater one.
#[cfg(any(feature = "redis", test))]
const TIME_DIGITS: usize = 16;

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// It is used until then, in milliseconds since the epoch.
    pub(super) until_ms: i64,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As JSON.
    Value(String),
    /// The truth has no value for the key.
    Absent,
    /// It is to be read at the truth, in this version or a newer one.
    Gone,
}

#[cfg(any(feature = "redis", test))]
impl Kept {
    /// Returns it as it is written.
    pub(super) fn encode(&self) -> String {
        let (mark, json) = match &self.content {
            Content::Value(json) => ('v', json.as_str()),
            Content::Absent => ('a', ""),
            Content::Gone => ('g', ""),
        };
        format!("{:0width$}{mark}{json}", self.until_ms.max(0), width = TIME_DIGITS)
    }

    /// Reads what is written; `None` for what was not written by [`Self::encode`].
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (time, content) = text.split_at_checked(TIME_DIGITS)?;
        let until_ms = time.parse().ok()?;
        let content = match (content.get(..1)?, content.get(1..)?) {
            ("v", json) => Content::Value(json.to_owned()),
            ("a", "") => Content::Absent,
            ("g", "") => Content::Gone,
            _ => return None,
        };
        Some(Self { until_ms, content })
    }
}

/// How much is done for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// It is tried while the shelf answers: what is not kept is read at the truth.
    Fill,
    /// It is tried in any case: what it is to replace would be read.
    Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_does() {
        for content in [Content::Value("{\"name\":\"Änn\"}".to_owned()), Content::Absent, Content::Gone] {
            let kept = Kept { until_ms: 1_764_500_000_123, content };
            assert_eq!(Kept::decode(kept.encode().as_bytes()), Some(kept));
        }
        for bad in ["", "yesterday", "0000000000000001", "0000000000000001x", "0000000000000001gone", "ä"] {
            assert_eq!(Kept::decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Kept::decode(&[0xff; 20]), None);
    }

    #[test]
    fn of_two_the_one_with_more_time_left_is_the_greater_text() {
        let text = |until_ms| Kept { until_ms, content: Content::Absent }.encode();
        assert!(text(999) < text(1_000) && text(1_000) < text(1_764_500_000_123));
    }
}
