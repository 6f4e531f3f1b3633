//! How the bytes of a file come.

/// A file with more bytes is uploaded in parts. It is the most that is ever read into memory at once, so a picture has no more.
pub const WHOLE_BYTES: i64 = 24 << 20;
/// All parts but the last one have so many bytes. S3 wants 5 MiB at least, and 10,000 parts at most.
const PART_BYTES: i64 = 16 << 20;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Counted from 1.
    pub number: u16,
    pub offset: i64,
    pub bytes: i64,
}

/// The parts of a file.
#[derive(Clone, Copy, Debug)]
pub struct PartPlan {
    bytes: i64,
}

impl PartPlan {
    /// Returns the parts of a file of so many bytes.
    pub const fn of(bytes: i64) -> Self {
        Self { bytes }
    }

    /// Returns the parts, in their order.
    pub fn parts(self) -> impl Iterator<Item = Part> {
        (1_u16..).map_while(move |number| {
            let offset = i64::from(number - 1) * PART_BYTES;
            let bytes = (self.bytes - offset).min(PART_BYTES);
            (bytes > 0).then_some(Part { number, offset, bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LARGEST_FILE_BYTES;

    #[test]
    fn parts_follow_each_other_to_the_last_byte() {
        for bytes in [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, WHOLE_BYTES + 1, LARGEST_FILE_BYTES] {
            let parts: Vec<_> = PartPlan::of(bytes).parts().collect();
            let mut end = 0;
            for (part, number) in parts.iter().zip(1..) {
                assert_eq!((part.number, part.offset), (number, end));
                end += part.bytes;
            }
            assert_eq!(end, bytes);
            assert!(parts.len() <= 10_000);
        }
    }
}
