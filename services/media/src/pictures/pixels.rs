//! From a cleaned file to pixels, and from pixels to what is served.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use fast_image_resize::Resizer;
use image::{
    DynamicImage, ImageFormat, ImageReader,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
    error::ImageError,
    metadata::Orientation,
};

use super::{Deadline, Encoded, Limits, Refused, container::Outline};

/// Of a picture that is looked at. Below 90, files get much smaller, and look the same.
const JPEG_QUALITY: u8 = 88;
/// Of a thumbnail, which is replaced by the picture.
const THUMBNAIL_QUALITY: u8 = 78;
/// The longer side of what a ThumbHash is made of.
const BLUR_SIDE: u32 = 100;
/// Bytes that a decoder gets at a time, and then meets the deadline.
const READ_BYTES: usize = 64 * 1024;

/// Decodes a picture, or the first frame of an animation, to eight bits for each sample.
pub(super) fn decode(
    outline: &Outline,
    limits: &Limits,
    deadline: &Deadline,
) -> Result<DynamicImage, Refused> {
    let Outline { width, height, .. } = *outline;
    let mut reader = ImageReader::with_format(Timed::new(&outline.clean, deadline), outline.format);
    let mut bounds = image::Limits::default();
    (bounds.max_image_width, bounds.max_image_height) = (Some(width), Some(height));
    bounds.max_alloc = Some(limits.max_memory_bytes);
    reader.limits(bounds);
    let image = reader.decode().map_err(|error| match error {
        // Decoders have errors of their own for one of the reader.
        _ if deadline.has_passed() => Refused::TookTooLong,
        ImageError::Limits(_) => Refused::TooLarge { width, height, max_pixels: limits.max_pixels },
        ImageError::Unsupported(_) => Refused::Unsupported,
        _ => Refused::Damaged,
    })?;
    // What was checked is what was decoded.
    if (image.width(), image.height()) != (width, height) {
        return Err(Refused::Damaged);
    }
    Ok(with_eight_bits(image))
}

fn with_eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma8(_)
        | DynamicImage::ImageLumaA8(_)
        | DynamicImage::ImageRgb8(_)
        | DynamicImage::ImageRgba8(_) => image,
        DynamicImage::ImageLuma16(_) => DynamicImage::ImageLuma8(image.into_luma8()),
        DynamicImage::ImageLumaA16(_) => DynamicImage::ImageLumaA8(image.into_luma_alpha8()),
        _ if !image.color().has_alpha() => DynamicImage::ImageRgb8(image.into_rgb8()),
        _ => DynamicImage::ImageRgba8(image.into_rgba8()),
    }
}

/// Returns a picture neither side of which is longer than this; as it is when none was.
pub(super) fn scaled_down(image: DynamicImage, side: u32) -> DynamicImage {
    smaller(&image, side).unwrap_or(image)
}

/// Returns a copy that is turned as the camera noted.
pub(super) fn oriented(mut image: DynamicImage, orientation: Orientation) -> DynamicImage {
    image.apply_orientation(orientation);
    image
}

/// Returns what a thumbnail is encoded of.
pub(super) fn small(image: &DynamicImage, side: u32) -> DynamicImage {
    smaller(image, side).unwrap_or_else(|| image.clone())
}

/// Returns the ThumbHash of a small picture.
pub(super) fn blur(small: &DynamicImage) -> Vec<u8> {
    let tiny = self::small(small, BLUR_SIDE).into_rgba8();
    let (width, height) = (tiny.width() as usize, tiny.height() as usize);
    thumbhash::rgba_to_thumb_hash(width, height, tiny.as_raw())
}

/// Encodes a picture for those who look at it: exact pixels stay exact, others stay small.
pub(super) fn encode_main(
    image: DynamicImage,
    format: ImageFormat,
    is_lossless: bool,
) -> Result<Encoded, Refused> {
    let image = without_unused_alpha(image);
    match format {
        ImageFormat::Jpeg => jpeg(&image, JPEG_QUALITY),
        ImageFormat::WebP if !is_lossless && !image.color().has_alpha() => jpeg(&image, JPEG_QUALITY),
        ImageFormat::WebP => webp(&image),
        _ => png(&image),
    }
}

/// Encodes a thumbnail.
pub(super) fn encode_thumbnail(image: DynamicImage) -> Result<Encoded, Refused> {
    let image = without_unused_alpha(image);
    if image.color().has_alpha() { webp(&image) } else { jpeg(&image, THUMBNAIL_QUALITY) }
}

/// Returns a copy that fits into a square of this side; `None` for one that does already.
fn smaller(image: &DynamicImage, side: u32) -> Option<DynamicImage> {
    let longer = image.width().max(image.height());
    if longer <= side {
        return None;
    }
    let scaled = |length: u32| {
        let scaled = (u64::from(length) * u64::from(side)).div_ceil(u64::from(longer));
        u32::try_from(scaled).expect("a scaled length is not longer than it was").max(1)
    };
    let mut smaller = DynamicImage::new(scaled(image.width()), scaled(image.height()), image.color());
    Resizer::new()
        .resize(image, &mut smaller, None)
        .expect("pictures of eight bits and of the same channels can be scaled");
    Some(smaller)
}

fn without_unused_alpha(image: DynamicImage) -> DynamicImage {
    match &image {
        DynamicImage::ImageRgba8(pixels) if pixels.pixels().all(|pixel| pixel.0[3] == u8::MAX) => {
            DynamicImage::ImageRgb8(image.into_rgb8())
        }
        DynamicImage::ImageLumaA8(pixels) if pixels.pixels().all(|pixel| pixel.0[1] == u8::MAX) => {
            DynamicImage::ImageLuma8(image.into_luma8())
        }
        _ => image,
    }
}

fn jpeg(image: &DynamicImage, quality: u8) -> Result<Encoded, Refused> {
    encoded(ImageFormat::Jpeg, |bytes| {
        image.write_with_encoder(JpegEncoder::new_with_quality(bytes, quality))
    })
}

fn png(image: &DynamicImage) -> Result<Encoded, Refused> {
    encoded(ImageFormat::Png, |bytes| image.write_with_encoder(PngEncoder::new(bytes)))
}

fn webp(image: &DynamicImage) -> Result<Encoded, Refused> {
    encoded(ImageFormat::WebP, |bytes| image.write_with_encoder(WebPEncoder::new_lossless(bytes)))
}

fn encoded(
    format: ImageFormat,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), ImageError>,
) -> Result<Encoded, Refused> {
    let mut bytes = Vec::new();
    // Only a size that the format cannot state is an error here.
    write(&mut bytes).map_err(|_| Refused::Unsupported)?;
    Ok(Encoded { content_type: format.to_mime_type(), bytes: bytes.into() })
}

/// Bytes that can be read until a deadline.
struct Timed<'a> {
    bytes: Cursor<&'a [u8]>,
    deadline: &'a Deadline,
}

impl<'a> Timed<'a> {
    fn new(bytes: &'a [u8], deadline: &'a Deadline) -> Self {
        Self { bytes: Cursor::new(bytes), deadline }
    }

    fn check(&self) -> io::Result<()> {
        if self.deadline.has_passed() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let length = buffer.len().min(READ_BYTES);
        self.bytes.read(&mut buffer[..length])
    }
}

impl BufRead for Timed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        let left = self.bytes.fill_buf()?;
        Ok(&left[..left.len().min(READ_BYTES)])
    }

    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
    }
}

impl Seek for Timed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}
