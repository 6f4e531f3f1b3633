//! The structure of picture files, read before anything is decoded.
//!
//! A file states its own size: the canvas, the frames, the scans. All of it is checked here, in one pass over the bytes that
//! allocates no more than a copy of them. The copy has what carries pixels and nothing else, so that no decoder and no client
//! meets the metadata, the comments, or what was put behind the end of the picture.

mod gif;
mod jpeg;
mod png;
mod webp;

use image::{ImageFormat, metadata::Orientation};

use super::{Limits, Refused};

/// What a picture's file says of it.
pub(super) struct Outline {
    pub format: ImageFormat,
    pub width: u32,
    pub height: u32,
    /// One of a still picture.
    pub frames: u32,
    /// How the pixels are to be turned, as the camera noted.
    pub orientation: Orientation,
    /// Whether the pixels in the file are exact. Only a WebP may or may not.
    pub is_lossless: bool,
    /// The file without what carries no pixels.
    pub clean: Vec<u8>,
}

/// What decoding takes, in bytes.
struct Cost {
    /// Of a decoded pixel.
    per_pixel: u64,
    /// Beside the decoded pixels, as long as the decoder runs.
    working_bytes: u64,
    /// Whether the pixels may have an alpha channel. Scaling them takes a copy.
    has_alpha: bool,
}

/// Reads the structure of a file of this format.
pub(super) fn outline(format: ImageFormat, bytes: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    match format {
        ImageFormat::Jpeg => jpeg::outline(bytes, limits),
        ImageFormat::Png => png::outline(bytes, limits),
        ImageFormat::Gif => gif::outline(bytes, limits),
        ImageFormat::WebP => webp::outline(bytes, limits),
        _ => Err(Refused::Unsupported),
    }
}

/// The size of a picture, which is within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Canvas {
    width: u32,
    height: u32,
}

impl Canvas {
    fn new(width: u32, height: u32, limits: &Limits) -> Result<Self, Refused> {
        if width == 0 || height == 0 {
            return Err(Refused::Damaged);
        }
        let canvas = Self { width, height };
        if canvas.pixels() > limits.max_pixels { Err(canvas.too_large(limits)) } else { Ok(canvas) }
    }

    fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn too_large(self, limits: &Limits) -> Refused {
        Refused::TooLarge { width: self.width, height: self.height, max_pixels: limits.max_pixels }
    }

    /// Checks that decoding and scaling stay within the memory of a picture.
    fn check_memory(self, cost: &Cost, limits: &Limits) -> Result<(), Refused> {
        let decoded = self.pixels() * cost.per_pixel;
        let side = u64::from(limits.max_side);
        let longer = u64::from(self.width.max(self.height));
        // A turned copy, or one with fewer bits for each sample.
        let mut beside_decoded = decoded.max(cost.working_bytes);
        if longer > side {
            // Scaled in two steps, across and down; both results are there for a moment. Rounded up by a pixel.
            let width = u64::from(self.width) * side / longer + 1;
            let height = u64::from(self.height) * side / longer + 1;
            let across = width * u64::from(self.height) * cost.per_pixel;
            let scaling = across + width * height * cost.per_pixel;
            // An alpha channel is multiplied in first, in a copy.
            beside_decoded = beside_decoded.max(scaling + if cost.has_alpha { decoded } else { 0 });
        }
        if decoded + beside_decoded > limits.max_memory_bytes {
            return Err(self.too_large(limits));
        }
        Ok(())
    }
}

/// Counts the frames of an animation.
struct Frames<'a> {
    canvas: Canvas,
    limits: &'a Limits,
    count: u32,
    pixels: u64,
}

impl<'a> Frames<'a> {
    fn new(canvas: Canvas, limits: &'a Limits) -> Self {
        Self { canvas, limits, count: 0, pixels: 0 }
    }

    /// Adds a frame at `x`, `y`, which must lie within the canvas.
    fn add(&mut self, [x, y, width, height]: [u32; 4]) -> Result<(), Refused> {
        let is_within = |at: u32, length: u32, whole: u32| {
            length > 0 && at.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !is_within(x, width, self.canvas.width) || !is_within(y, height, self.canvas.height) {
            return Err(Refused::Damaged);
        }
        self.count += 1;
        self.pixels += u64::from(width) * u64::from(height);
        let is_animation = self.count > 1;
        let is_too_long =
            self.count > self.limits.max_frames || self.pixels > self.limits.max_animation_pixels;
        // It is not scaled down.
        let is_too_large = self.canvas.width.max(self.canvas.height) > self.limits.max_side;
        if is_animation && (is_too_long || is_too_large) {
            return Err(Refused::AnimationTooLong);
        }
        Ok(())
    }
}

/// What is left to read of a file. A file that ends too early is damaged.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Refused::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Refused::Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn expect(&mut self, expected: &[u8]) -> Result<(), Refused> {
        if self.take(expected.len())? == expected { Ok(()) } else { Err(Refused::Damaged) }
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        self.array().map(|[byte]| byte)
    }

    fn u16_be(&mut self) -> Result<u16, Refused> {
        self.array().map(u16::from_be_bytes)
    }

    fn u16_le(&mut self) -> Result<u16, Refused> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32_be(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_be_bytes)
    }

    fn u32_le(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_le_bytes)
    }

    fn u24_le(&mut self) -> Result<u32, Refused> {
        let [low, middle, high] = self.array()?;
        Ok(u32::from_le_bytes([low, middle, high, 0]))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the orientation that a block of EXIF states; the pixels stay as they are when it states none.
fn orientation(exif: &[u8]) -> Orientation {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
}
