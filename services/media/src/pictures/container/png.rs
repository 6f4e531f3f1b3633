//! PNG and APNG (W3C, third edition): a signature and a row of chunks.

use image::{ImageFormat, metadata::Orientation};

use super::{Canvas, Cost, Frames, Input, Limits, Outline, Refused, orientation};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Of a chunk, without its data: length, type and check sum.
const CHUNK_BYTES: usize = 12;

pub(super) fn outline(bytes: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    let mut input = Input(bytes);
    input.expect(SIGNATURE)?;
    let mut clean = Vec::with_capacity(bytes.len());
    clean.extend(SIGNATURE);
    let header = chunk(&mut input)?;
    let (canvas, mut cost) = match header {
        Chunk { name: b"IHDR", data, .. } => read_header(data, limits)?,
        _ => return Err(Refused::Damaged),
    };
    clean.extend(header.bytes);
    let mut frames = Frames::new(canvas, limits);
    let mut exif = None;
    let (mut is_animation, mut has_data) = (false, false);
    loop {
        let Chunk { name, data, bytes } = chunk(&mut input)?;
        let is_kept = match name {
            b"IEND" => {
                clean.extend(bytes);
                break;
            }
            b"IDAT" => {
                has_data = true;
                true
            }
            b"PLTE" => true,
            b"tRNS" => {
                cost.has_alpha = true;
                true
            }
            // What makes an animation of it stands before the data.
            b"acTL" => {
                is_animation = !has_data;
                is_animation
            }
            b"fcTL" if is_animation => {
                frames.add(frame(data)?)?;
                true
            }
            b"fdAT" => is_animation,
            // How colours are shown; of fixed length each.
            b"gAMA" => data.len() == 4,
            b"cHRM" => data.len() == 32,
            b"sRGB" => data.len() == 1,
            b"cICP" => data.len() == 4,
            b"eXIf" => {
                exif.get_or_insert(data);
                false
            }
            // A chunk that a reader must know has a capital as its first letter.
            [first, ..] if first.is_ascii_uppercase() => return Err(Refused::Damaged),
            // Texts, profiles, times, and what is not known.
            _ => false,
        };
        if is_kept {
            clean.extend(bytes);
        }
    }
    if !has_data {
        return Err(Refused::Damaged);
    }
    if cost.has_alpha {
        // Transparency of a palette or of one colour becomes a channel.
        cost.per_pixel = cost.per_pixel.next_multiple_of(4);
    }
    canvas.check_memory(&cost, limits)?;
    Ok(Outline {
        format: ImageFormat::Png,
        width: canvas.width,
        height: canvas.height,
        frames: frames.count.max(1),
        orientation: exif.map_or(Orientation::NoTransforms, orientation),
        is_lossless: true,
        clean,
    })
}

struct Chunk<'a> {
    name: &'a [u8; 4],
    data: &'a [u8],
    /// All of it.
    bytes: &'a [u8],
}

fn chunk<'a>(input: &mut Input<'a>) -> Result<Chunk<'a>, Refused> {
    let length = usize::try_from(Input(input.0).u32_be()?).map_err(|_| Refused::Damaged)?;
    let bytes = input.take(length.checked_add(CHUNK_BYTES).ok_or(Refused::Damaged)?)?;
    let mut inside = Input(bytes);
    inside.take(4)?;
    let name = inside.take(4)?.first_chunk().ok_or(Refused::Damaged)?;
    Ok(Chunk { name, data: inside.take(length)?, bytes })
}

/// Returns the size and what decoding takes.
fn read_header(data: &[u8], limits: &Limits) -> Result<(Canvas, Cost), Refused> {
    let mut input = Input(data);
    let canvas = Canvas::new(input.u32_be()?, input.u32_be()?, limits)?;
    let [depth, colour, _compression, _filter, _interlace] = input.array()?;
    let channels = match colour {
        0 => 1,
        // A palette is decoded to its colours.
        2 | 3 => 3,
        4 => 2,
        6 => 4,
        _ => return Err(Refused::Damaged),
    };
    let per_pixel = if depth == 16 { 2 * channels } else { channels };
    Ok((canvas, Cost { per_pixel, working_bytes: 0, has_alpha: matches!(colour, 4 | 6) }))
}

/// Returns where the frame of a frame control lies.
fn frame(data: &[u8]) -> Result<[u32; 4], Refused> {
    let mut input = Input(data);
    let _sequence = input.u32_be()?;
    let (width, height) = (input.u32_be()?, input.u32_be()?);
    let (x, y) = (input.u32_be()?, input.u32_be()?);
    Ok([x, y, width, height])
}
