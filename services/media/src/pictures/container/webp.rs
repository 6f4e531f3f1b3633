//! WebP (RFC 9649): chunks in a RIFF file. An extended one has a header, and its frames are chunks with chunks inside.

use image::{ImageFormat, metadata::Orientation};

use super::{Canvas, Cost, Frames, Input, Limits, Outline, Refused, orientation};

/// Flags of the extended header; the others announce metadata.
const ANIMATION: u8 = 0x02;
const ALPHA: u8 = 0x10;
/// Of a frame, before its chunks.
const FRAME_HEADER_BYTES: usize = 16;
/// What begins a key frame of VP8, behind its tag.
const VP8_START: &[u8] = &[0x9d, 0x01, 0x2a];
const VP8L_SIGNATURE: u8 = 0x2f;

/// The pixels of a picture or a frame.
struct Bitstream {
    width: u32,
    height: u32,
    is_lossless: bool,
}

pub(super) fn outline(bytes: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    let mut input = Input(bytes);
    input.expect(b"RIFF")?;
    let size = usize::try_from(input.u32_le()?).map_err(|_| Refused::Damaged)?;
    // What is behind the end of the file by its own account is not read.
    let mut input = Input(input.take(size)?);
    input.expect(b"WEBP")?;
    let mut clean = Vec::with_capacity(bytes.len());
    clean.extend(b"RIFF\0\0\0\0WEBP");

    let extended = Some(chunk(&mut Input(input.0))?).filter(|chunk| chunk.name == b"VP8X");
    let (read, has_alpha) = match extended {
        Some(extended) => {
            chunk(&mut input)?;
            read_extended(extended.data, input, limits, &mut clean)?
        }
        None => {
            let still = bitstream(&mut input, &mut clean)?;
            // Alpha is part of a lossless bitstream, and of no other.
            let canvas = Canvas::new(still.width, still.height, limits)?;
            (Read { canvas, frames: 1, is_lossless: still.is_lossless, exif: None }, still.is_lossless)
        }
    };
    let Read { canvas, frames, is_lossless, exif } = read;
    // A lossy one is decoded to brightness and halved colours first; a lossless one to four channels.
    let cost =
        Cost { per_pixel: if has_alpha { 4 } else { 3 }, working_bytes: 4 * canvas.pixels(), has_alpha };
    canvas.check_memory(&cost, limits)?;
    let size = u32::try_from(clean.len() - 8).map_err(|_| Refused::Damaged)?;
    clean[4..8].copy_from_slice(&size.to_le_bytes());
    Ok(Outline {
        format: ImageFormat::WebP,
        width: canvas.width,
        height: canvas.height,
        frames,
        orientation: exif.map_or(Orientation::NoTransforms, orientation),
        is_lossless,
        clean,
    })
}

struct Read<'a> {
    canvas: Canvas,
    frames: u32,
    is_lossless: bool,
    exif: Option<&'a [u8]>,
}

/// Reads a file with an extended header, and reports whether it may have an alpha channel.
fn read_extended<'a>(
    header: &[u8],
    mut input: Input<'a>,
    limits: &Limits,
    clean: &mut Vec<u8>,
) -> Result<(Read<'a>, bool), Refused> {
    let mut inside = Input(header);
    let flags = inside.byte()? & (ANIMATION | ALPHA);
    let _reserved = inside.take(3)?;
    let canvas = Canvas::new(inside.u24_le()? + 1, inside.u24_le()? + 1, limits)?;
    let mut kept = [0; 10];
    kept[0] = flags;
    kept[4..].copy_from_slice(header.get(4..10).ok_or(Refused::Damaged)?);
    put(clean, b"VP8X", &kept);

    let mut frames = Frames::new(canvas, limits);
    let (mut exif, mut still, mut is_lossless) = (None, None, true);
    while !input.is_empty() {
        let Chunk { name, data } = chunk(&mut Input(input.0))?;
        match name {
            b"VP8 " | b"VP8L" | b"ALPH" if still.is_none() && flags & ANIMATION == 0 => {
                let bitstream = bitstream(&mut input, clean)?;
                frames.add([0, 0, bitstream.width, bitstream.height])?;
                is_lossless = bitstream.is_lossless;
                still = Some(bitstream);
                continue;
            }
            b"ANIM" if flags & ANIMATION != 0 && frames.count == 0 => put(clean, name, data),
            b"ANMF" if flags & ANIMATION != 0 => {
                let bitstream = frame(data, &mut frames, clean)?;
                is_lossless &= bitstream.is_lossless;
            }
            b"EXIF" => {
                exif.get_or_insert(data);
            }
            _ => {}
        }
        chunk(&mut input)?;
    }
    let fills_canvas = |still: &Bitstream| [still.width, still.height] == [canvas.width, canvas.height];
    if frames.count == 0 || !still.as_ref().is_none_or(fills_canvas) {
        return Err(Refused::Damaged);
    }
    Ok((Read { canvas, frames: frames.count, is_lossless, exif }, flags & ALPHA != 0 || is_lossless))
}

/// Reads a frame of an animation. Its bitstream has the size that its header states, or a client would be surprised by it.
fn frame(data: &[u8], frames: &mut Frames<'_>, clean: &mut Vec<u8>) -> Result<Bitstream, Refused> {
    let mut input = Input(data);
    let header = input.take(FRAME_HEADER_BYTES)?;
    let mut inside = Input(header);
    // Places are stated in twos.
    let (x, y) = (2 * inside.u24_le()?, 2 * inside.u24_le()?);
    let (width, height) = (inside.u24_le()? + 1, inside.u24_le()? + 1);
    frames.add([x, y, width, height])?;
    let mut kept = header.to_vec();
    let bitstream = bitstream(&mut input, &mut kept)?;
    if [bitstream.width, bitstream.height] != [width, height] {
        return Err(Refused::Damaged);
    }
    put(clean, b"ANMF", &kept);
    Ok(bitstream)
}

/// Reads the chunks of a bitstream: its alpha channel, if it has one of its own, and its pixels.
fn bitstream(input: &mut Input<'_>, clean: &mut Vec<u8>) -> Result<Bitstream, Refused> {
    loop {
        let Chunk { name, data } = chunk(input)?;
        let bitstream = match name {
            b"ALPH" => {
                put(clean, name, data);
                continue;
            }
            b"VP8 " => lossy(data)?,
            b"VP8L" => lossless(data)?,
            // What is not known is skipped, by the specification.
            _ => continue,
        };
        put(clean, name, data);
        return Ok(bitstream);
    }
}

fn lossy(data: &[u8]) -> Result<Bitstream, Refused> {
    let mut input = Input(data);
    let _tag = input.take(3)?;
    input.expect(VP8_START)?;
    // The two upper bits say how it is to be scaled.
    let (width, height) = (input.u16_le()? & 0x3fff, input.u16_le()? & 0x3fff);
    Ok(Bitstream { width: width.into(), height: height.into(), is_lossless: false })
}

fn lossless(data: &[u8]) -> Result<Bitstream, Refused> {
    let mut input = Input(data);
    input.expect(&[VP8L_SIGNATURE])?;
    let bits = input.u32_le()?;
    let (width, height) = ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1);
    Ok(Bitstream { width, height, is_lossless: true })
}

struct Chunk<'a> {
    name: &'a [u8; 4],
    data: &'a [u8],
}

fn chunk<'a>(input: &mut Input<'a>) -> Result<Chunk<'a>, Refused> {
    let name = input.take(4)?.first_chunk().ok_or(Refused::Damaged)?;
    let length = usize::try_from(input.u32_le()?).map_err(|_| Refused::Damaged)?;
    let data = input.take(length)?;
    // Padded to an even length. The last chunk of some files is not.
    if length % 2 == 1 && !input.is_empty() {
        input.byte()?;
    }
    Ok(Chunk { name, data })
}

fn put(clean: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    clean.extend(name);
    // The data comes from a chunk, and what it became is not longer.
    clean.extend(u32::try_from(data.len()).expect("a chunk has a length of 32 bits").to_le_bytes());
    clean.extend(data);
    if data.len() % 2 == 1 {
        clean.push(0);
    }
}
