//! Files that messages carry.
//!
//! A message names its files with what is known of them, so that a client shows it before it has fetched any, and a replay of the log asks
//! nobody. What is in a file is never part of a message.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::FileId;

/// Most files of one message.
pub const MAX_ATTACHMENTS: usize = 10;
/// Longest name of a file in bytes of UTF-8, as most file systems have it.
pub const MAX_FILE_NAME_BYTES: usize = 255;
/// Longest media type in bytes: RFC 6838 gives 127 to each of its two parts.
pub const MAX_MEDIA_TYPE_BYTES: usize = 255;
/// Longest blur in bytes of base64: a thumbhash has 25 bytes, and other forms a few more.
pub const MAX_BLUR_BYTES: usize = 128;

/// A file as a message carries it. What is known of it was found out before it was sent, and stays as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    pub file: FileId,
    /// As the sender's device has it, without a path: at most [`MAX_FILE_NAME_BYTES`].
    pub name: String,
    /// The media type, by what the file has in it and not by its name.
    #[serde(rename = "type")]
    pub media_type: String,
    /// In bytes.
    pub size: i64,
    /// Of a picture or a film, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Of a film or a sound, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// A few bytes that stand for a picture until it is there: a thumbhash in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<String>,
    /// Whether there is a small picture of it to fetch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_thumbnail: bool,
}

impl Attachment {
    /// What each has of names and numbers in JSON.
    const ENVELOPE_BYTES: usize = 97;
    const PIXELS_BYTES: usize = 20;
    const DURATION_BYTES: usize = 35;
    const BLUR_BYTES: usize = 10;
    const THUMBNAIL_BYTES: usize = 21;

    /// Returns a file of which nothing but the id is known.
    pub const fn unknown(file: FileId) -> Self {
        Self {
            file,
            name: String::new(),
            media_type: String::new(),
            size: 0,
            width: None,
            height: None,
            duration_ms: None,
            blur: None,
            has_thumbnail: false,
        }
    }

    /// Returns the first field that is longer than it may be.
    pub fn too_long(&self) -> Option<&'static str> {
        let blur = self.blur.as_deref().unwrap_or_default();
        let fields = [
            ("name", self.name.len(), MAX_FILE_NAME_BYTES),
            ("type", self.media_type.len(), MAX_MEDIA_TYPE_BYTES),
            ("blur", blur.len(), MAX_BLUR_BYTES),
        ];
        fields.into_iter().find(|(_, bytes, most)| bytes > most).map(|(field, ..)| field)
    }

    /// Returns how many bytes it has as JSON, at most.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let pixels = [self.width, self.height].into_iter().flatten().count() * Self::PIXELS_BYTES;
        let texts = escaped_bytes(&self.name) + escaped_bytes(&self.media_type);
        Self::ENVELOPE_BYTES
            + texts
            + pixels
            + self.duration_ms.map_or(0, |_| Self::DURATION_BYTES)
            + self.blur.as_deref().map_or(0, |blur| Self::BLUR_BYTES + escaped_bytes(blur))
            + if self.has_thumbnail { Self::THUMBNAIL_BYTES } else { 0 }
    }
}

/// Returns how many bytes a text has in a string of JSON.
pub(crate) fn escaped_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_file_has_at_most_the_bytes_that_are_counted_for_it() {
        let largest = Attachment {
            name: "\u{1}\"\u{1f600}".repeat(42),
            media_type: "x".repeat(MAX_MEDIA_TYPE_BYTES),
            size: i64::MIN,
            width: Some(u32::MAX),
            height: Some(u32::MAX),
            duration_ms: Some(i64::MIN),
            blur: Some("/".repeat(MAX_BLUR_BYTES)),
            has_thumbnail: true,
            ..Attachment::unknown(FileId(Uuid::from_u128(1)))
        };
        for file in [largest, Attachment::unknown(FileId(Uuid::from_u128(u128::MAX)))] {
            assert_eq!(file.too_long(), None);
            let json = serde_json::to_string(&file).expect("json");
            assert!(json.len() <= file.encoded_bytes(), "{} of {}", json.len(), file.encoded_bytes());
        }
    }

    #[test]
    fn what_is_too_long_of_a_file_is_named() {
        let file = Attachment::unknown(FileId(Uuid::from_u128(1)));
        let name = "n".repeat(MAX_FILE_NAME_BYTES + 1);
        let media_type = "t".repeat(MAX_MEDIA_TYPE_BYTES + 1);
        let blur = Some("b".repeat(MAX_BLUR_BYTES + 1));
        assert_eq!(Attachment { name, ..file.clone() }.too_long(), Some("name"));
        assert_eq!(Attachment { media_type, ..file.clone() }.too_long(), Some("type"));
        assert_eq!(Attachment { blur, ..file }.too_long(), Some("blur"));
    }
}
