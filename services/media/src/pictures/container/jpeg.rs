//! JPEG (ITU-T T.81): a row of segments, each begun by a marker, with entropy-coded data behind each start of a scan.

use image::{ImageFormat, metadata::Orientation};

use super::{Canvas, Cost, Input, Limits, Outline, Refused, orientation};

const DHT: u8 = 0xc4;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DNL: u8 = 0xdc;
const DRI: u8 = 0xdd;
const APP1: u8 = 0xe1;
const APP14: u8 = 0xee;

/// Scans of one picture. Encoders write about ten; each of them makes a decoder go through the whole picture again, for a few
/// bytes of file.
const MAX_SCANS: usize = 64;
/// Grey, three colours, or the four inks of print.
const COMPONENTS: [usize; 3] = [1, 3, 4];

struct Frame {
    canvas: Canvas,
    is_progressive: bool,
    /// How many blocks each component has in a unit of 8 x 8 of the finest one, across and down.
    sampling: Vec<[u64; 2]>,
}

impl Frame {
    /// Reads the segment that begins a frame.
    fn read(segment: &[u8], is_progressive: bool, limits: &Limits) -> Result<Self, Refused> {
        let mut input = Input(segment);
        let precision = input.byte()?;
        let (height, width) = (input.u16_be()?, input.u16_be()?);
        let components = usize::from(input.byte()?);
        // A height of zero is stated behind the first scan: what no camera writes.
        if precision != 8 || height == 0 || !COMPONENTS.contains(&components) {
            return Err(Refused::Unsupported);
        }
        let canvas = Canvas::new(width.into(), height.into(), limits)?;
        let mut sampling = Vec::new();
        for _ in 0..components {
            let [_id, factors, _table] = input.array()?;
            let factors = [u64::from(factors >> 4), u64::from(factors & 0x0f)];
            if factors.iter().any(|factor| !(1..=4).contains(factor)) {
                return Err(Refused::Damaged);
            }
            sampling.push(factors);
        }
        Ok(Self { canvas, is_progressive, sampling })
    }

    /// Returns what decoding takes. With several scans, the coefficients of all blocks are kept until the last of them.
    fn cost(&self, scans: usize) -> Cost {
        let most = |axis: usize| self.sampling.iter().map(|factors| factors[axis]).max().unwrap_or(1);
        let units = u64::from(self.canvas.width).div_ceil(8 * most(0))
            * u64::from(self.canvas.height).div_ceil(8 * most(1));
        let blocks: u64 = self.sampling.iter().map(|[across, down]| units * across * down).sum();
        let coefficients = blocks * 64 * size_of::<i16>() as u64;
        Cost {
            per_pixel: if self.sampling.len() == 1 { 1 } else { 3 },
            working_bytes: if self.is_progressive || scans > 1 { coefficients } else { 0 },
            has_alpha: false,
        }
    }
}

pub(super) fn outline(bytes: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    let mut input = Input(bytes);
    input.expect(&[0xff, SOI])?;
    let mut clean = Vec::with_capacity(bytes.len());
    clean.extend([0xff, SOI]);
    let mut frame: Option<Frame> = None;
    let mut exif = None;
    let mut scans = 0;
    loop {
        let marker = marker(&mut input)?;
        match marker {
            EOI => break,
            // A second picture does not begin within the first.
            SOI => return Err(Refused::Damaged),
            // Restarts that stand alone, and what has no meaning.
            0x01 | 0xd0..=0xd7 => continue,
            _ => {}
        }
        let length = usize::from(input.u16_be()?).checked_sub(2).ok_or(Refused::Damaged)?;
        let segment = input.take(length)?;
        let is_kept = match marker {
            // Baseline, extended and progressive, with Huffman codes.
            0xc0..=0xc2 => {
                if frame.is_some() {
                    return Err(Refused::Damaged);
                }
                frame = Some(Frame::read(segment, marker == 0xc2, limits)?);
                true
            }
            DHT | DQT | DRI | SOS => true,
            // Lossless, hierarchical and arithmetic ones: no browser shows them.
            0xc3 | 0xc5..=0xcf | DNL => return Err(Refused::Unsupported),
            // What the components stand for.
            APP14 => segment.starts_with(b"Adobe"),
            APP1 if segment.starts_with(b"Exif\0\0") => {
                exif.get_or_insert(segment);
                false
            }
            // Metadata of applications, comments, and what is not known.
            _ => false,
        };
        if is_kept {
            clean.extend([0xff, marker]);
            clean.extend(u16::try_from(length + 2).map_err(|_| Refused::Damaged)?.to_be_bytes());
            clean.extend(segment);
        }
        if marker == SOS {
            scans += 1;
            if frame.is_none() || scans > MAX_SCANS {
                return Err(Refused::Damaged);
            }
            clean.extend(entropy_coded(&mut input)?);
        }
    }
    let frame = frame.filter(|_| scans > 0).ok_or(Refused::Damaged)?;
    let Canvas { width, height } = frame.canvas;
    frame.canvas.check_memory(&frame.cost(scans), limits)?;
    clean.extend([0xff, EOI]);
    Ok(Outline {
        format: ImageFormat::Jpeg,
        width,
        height,
        frames: 1,
        orientation: exif.map_or(Orientation::NoTransforms, orientation),
        is_lossless: false,
        clean,
    })
}

/// Reads a marker, which any number of fill bytes may precede.
fn marker(input: &mut Input<'_>) -> Result<u8, Refused> {
    input.expect(&[0xff])?;
    loop {
        match input.byte()? {
            0xff => {}
            // A stuffed byte stands in entropy-coded data alone.
            0x00 => return Err(Refused::Damaged),
            marker => return Ok(marker),
        }
    }
}

/// Takes the data of a scan, up to the marker behind it. Stuffed bytes and restarts are part of it.
fn entropy_coded<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Refused> {
    let is_end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
    let length = input.0.windows(2).position(is_end).ok_or(Refused::Damaged)?;
    input.take(length)
}
