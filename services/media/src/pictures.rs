//! Pictures: bounds before decoding, metadata stripped, orientation applied, thumbnails and blurs.
//!
//! What a user uploads is never what others get. A picture is read in three steps, each of which sees less of it than the one
//! before: `container` reads the structure, checks every bound that the file itself states, and copies what carries pixels;
//! a decoder of the `image` crate reads that copy; and what is served is encoded from the pixels. An animation is served as the
//! copy, because its frames cannot be encoded again in all three formats.
//!
//! [`process`] does the work and blocks. [`Pool`] calls it on a few threads, with a bound on what waits.

mod container;
mod pixels;
mod pool;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use image::{ImageFormat, metadata::Orientation};

pub use self::pool::{Failed, Pool, PoolSize};
use crate::sniff::{Class, Kind, sniff};

/// Bounds of a picture.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Pixels that are decoded at most, width times height.
    pub max_pixels: u64,
    /// Bytes that one picture may take at any moment of its processing, beside its file.
    pub max_memory_bytes: u64,
    /// Frames of an animation.
    pub max_frames: u32,
    /// Pixels of all frames of an animation together: what a client decodes to show it once.
    pub max_animation_pixels: u64,
    /// A larger picture is scaled down, so that neither side is longer, in pixels. An animation is refused.
    pub max_side: u32,
    /// The longer side of a thumbnail, in pixels.
    pub thumbnail_side: u32,
    /// How long a picture may take. Checked between steps and while the decoder reads: each step is bounded by the other limits.
    pub max_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Cameras of telephones have 48 or 50 million: 8,192 x 6,144 is 50.3.
            max_pixels: 50 * 1024 * 1024,
            // Three bytes for each of these pixels, as many for the coefficients of a progressive JPEG with halved colours.
            max_memory_bytes: 320 * 1024 * 1024,
            max_frames: 1_000,
            // A minute of 480 x 270 at 50 frames a second.
            max_animation_pixels: 400_000_000,
            // A 4K screen.
            max_side: 4_096,
            // What a chat shows, at two device pixels each.
            thumbnail_side: 480,
            max_time: Duration::from_secs(20),
        }
    }
}

/// A picture as others get it.
#[derive(Clone, Debug)]
pub struct Picture {
    pub main: Encoded,
    pub thumbnail: Encoded,
    /// A ThumbHash (at most 25 bytes) in Base64: what a client paints until the thumbnail is there.
    pub blur: String,
    /// Of the main picture, in pixels, with the orientation applied.
    pub width: u32,
    pub height: u32,
    pub is_animated: bool,
}

/// A picture in a file format.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub content_type: &'static str,
    pub bytes: Bytes,
}

/// Why a picture is not taken. The file is at fault, and the same file is refused again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the file is declared as another type than {found}, which it is")]
    OtherType { found: &'static str },
    #[error("the file is not a picture that is supported: JPEG, PNG, GIF and WebP are")]
    Unsupported,
    #[error("the picture is damaged or not complete")]
    Damaged,
    #[error(
        "the picture is too large: {width} x {height} pixels, where {max_pixels} pixels are decoded at most"
    )]
    TooLarge { width: u32, height: u32, max_pixels: u64 },
    #[error("the animation is too long or too large")]
    AnimationTooLong,
    #[error("the picture took too long to process")]
    TookTooLong,
}

/// Makes of an uploaded file what others get of it: without metadata, in its orientation, within the limits.
///
/// `declared` is the media type of the upload. Blocks for as long as `limits` allow.
///
/// # Errors
///
/// The file is refused for good, see [`Refused`].
pub fn process(bytes: &Bytes, declared: &str, limits: &Limits) -> Result<Picture, Refused> {
    let deadline = Deadline(Instant::now() + limits.max_time);
    let outline = container::outline(format(bytes, declared)?, bytes, limits)?;
    deadline.check()?;
    let is_animated = outline.frames > 1;
    let original = pixels::decode(&outline, limits, &deadline)?;
    deadline.check()?;
    let full = pixels::scaled_down(original, limits.max_side);
    deadline.check()?;
    // The frames of an animation are served as they are, so what is made of the first one is not turned either.
    let orientation = if is_animated { Orientation::NoTransforms } else { outline.orientation };
    let full = pixels::oriented(full, orientation);
    deadline.check()?;
    let small = pixels::small(&full, limits.thumbnail_side);
    let (width, height) = (full.width(), full.height());
    let main = if is_animated {
        Encoded { content_type: outline.format.to_mime_type(), bytes: outline.clean.into() }
    } else {
        pixels::encode_main(full, outline.format, outline.is_lossless)?
    };
    deadline.check()?;
    let blur = BASE64_STANDARD.encode(pixels::blur(&small));
    let thumbnail = pixels::encode_thumbnail(small)?;
    Ok(Picture { main, thumbnail, blur, width, height, is_animated })
}

/// Returns the format of a picture whose declared type agrees with what it is.
fn format(bytes: &[u8], declared: &str) -> Result<ImageFormat, Refused> {
    let kind = sniff(bytes);
    let format = match kind {
        Kind::Jpeg => ImageFormat::Jpeg,
        Kind::Png => ImageFormat::Png,
        Kind::Gif => ImageFormat::Gif,
        Kind::WebP => ImageFormat::WebP,
        _ if kind.class() != Class::Other => return Err(Refused::OtherType { found: kind.content_type() }),
        _ => return Err(Refused::Unsupported),
    };
    if kind.agrees_with(declared) {
        Ok(format)
    } else {
        Err(Refused::OtherType { found: kind.content_type() })
    }
}

/// The moment after which a picture is given up.
struct Deadline(Instant);

impl Deadline {
    fn has_passed(&self) -> bool {
        Instant::now() >= self.0
    }

    fn check(&self) -> Result<(), Refused> {
        if self.has_passed() { Err(Refused::TookTooLong) } else { Ok(()) }
    }
}
