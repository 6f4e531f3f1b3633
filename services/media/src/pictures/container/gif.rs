//! GIF (version 89a): a header and a row of blocks, the data of which comes in sub-blocks of at most 255 bytes.

use image::{ImageFormat, metadata::Orientation};

use super::{Canvas, Cost, Frames, Input, Limits, Outline, Refused};

const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;
const GRAPHIC_CONTROL: u8 = 0xf9;
const APPLICATION: u8 = 0xff;
/// How often an animation repeats. Other applications have metadata there.
const LOOPS: [&[u8]; 2] = [b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01"];
/// With the number behind it, and the empty sub-block.
const LOOP_BYTES: usize = 17;
/// Disposal, delay and the transparent colour, with their length and the empty sub-block.
const GRAPHIC_CONTROL_BYTES: usize = 6;

pub(super) fn outline(bytes: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    let mut input = Input(bytes);
    let mut clean = Vec::with_capacity(bytes.len());
    clean.extend(input.take(6)?);
    let screen: [u8; 7] = input.array()?;
    let mut inside = Input(&screen);
    let canvas = Canvas::new(inside.u16_le()?.into(), inside.u16_le()?.into(), limits)?;
    clean.extend(screen);
    clean.extend(input.take(palette_bytes(screen[4]))?);
    let mut frames = Frames::new(canvas, limits);
    let mut first_frame_bytes = 0;
    loop {
        match input.byte()? {
            TRAILER => break,
            EXTENSION => {
                let label = input.byte()?;
                let blocks = sub_blocks(&mut input)?;
                // Of exactly this length, or something else could come with it.
                let is_kept = match label {
                    GRAPHIC_CONTROL => blocks.len() == GRAPHIC_CONTROL_BYTES,
                    APPLICATION => {
                        blocks.len() == LOOP_BYTES && LOOPS.iter().any(|name| blocks.starts_with(name))
                    }
                    _ => false,
                };
                if is_kept {
                    clean.extend([EXTENSION, label]);
                    clean.extend(blocks);
                }
            }
            IMAGE => {
                let descriptor: [u8; 9] = input.array()?;
                let mut inside = Input(&descriptor);
                let frame = [inside.u16_le()?, inside.u16_le()?, inside.u16_le()?, inside.u16_le()?];
                let frame = frame.map(u32::from);
                frames.add(frame)?;
                if frames.count == 1 {
                    first_frame_bytes = 4 * u64::from(frame[2]) * u64::from(frame[3]);
                }
                clean.push(IMAGE);
                clean.extend(descriptor);
                clean.extend(input.take(palette_bytes(descriptor[8]))?);
                // The size of the first code of LZW.
                clean.push(input.byte()?);
                clean.extend(sub_blocks(&mut input)?);
            }
            _ => return Err(Refused::Damaged),
        }
    }
    if frames.count == 0 {
        return Err(Refused::Damaged);
    }
    let cost = Cost { per_pixel: 4, working_bytes: first_frame_bytes, has_alpha: true };
    canvas.check_memory(&cost, limits)?;
    clean.push(TRAILER);
    Ok(Outline {
        format: ImageFormat::Gif,
        width: canvas.width,
        height: canvas.height,
        frames: frames.count,
        orientation: Orientation::NoTransforms,
        is_lossless: true,
        clean,
    })
}

/// Returns the length of the palette that these flags announce.
fn palette_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 0x07) + 1) }
}

/// Takes sub-blocks with their lengths, and the empty one that ends them.
fn sub_blocks<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Refused> {
    let mut length = 0;
    loop {
        let size = *input.0.get(length).ok_or(Refused::Damaged)?;
        length += 1 + usize::from(size);
        if size == 0 {
            return input.take(length);
        }
    }
}
