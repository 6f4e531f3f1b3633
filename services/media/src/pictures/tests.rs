//! Pictures as users, cameras and attackers make them.

use std::io::Cursor;

use image::{
    AnimationDecoder, DynamicImage, GenericImageView as _, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba,
    RgbaImage,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
};
use kit::testing::fuzz;

use super::*;
use crate::sniff::SNIFFED_BYTES;

const PROGRESSIVE_JPEG: &[u8] = include_bytes!("../../tests/fixtures/progressive.jpg");
const CMYK_JPEG: &[u8] = include_bytes!("../../tests/fixtures/cmyk.jpg");
const METADATA_PNG: &[u8] = include_bytes!("../../tests/fixtures/metadata.png");
const LOSSY_WEBP: &[u8] = include_bytes!("../../tests/fixtures/lossy.webp");
const ALPHA_WEBP: &[u8] = include_bytes!("../../tests/fixtures/alpha.webp");
const LOSSLESS_WEBP: &[u8] = include_bytes!("../../tests/fixtures/lossless.webp");
const ANIMATED_GIF: &[u8] = include_bytes!("../../tests/fixtures/animated.gif");
const ANIMATED_PNG: &[u8] = include_bytes!("../../tests/fixtures/animated.png");
const ANIMATED_WEBP: &[u8] = include_bytes!("../../tests/fixtures/animated.webp");

const STILLS: [(&[u8], &str); 6] = [
    (PROGRESSIVE_JPEG, "image/jpeg"),
    (CMYK_JPEG, "image/jpeg"),
    (METADATA_PNG, "image/png"),
    (LOSSY_WEBP, "image/webp"),
    (ALPHA_WEBP, "image/webp"),
    (LOSSLESS_WEBP, "image/webp"),
];
const ANIMATIONS: [(&[u8], &str); 3] =
    [(ANIMATED_GIF, "image/gif"), (ANIMATED_PNG, "image/png"), (ANIMATED_WEBP, "image/webp")];
/// What metadata begins with, and what the files have in it.
const METADATA: [&[u8]; 12] = [
    b"SECRET",
    b"Exif",
    b"EXIF",
    b"eXIf",
    b"ICC_PROFILE",
    b"ICCP",
    b"iCCP",
    b"adobe:ns",
    b"XMP ",
    b"tEXt",
    b"zTXt",
    b"iTXt",
];

const RED: [u8; 3] = [220, 20, 20];
const GREEN: [u8; 3] = [20, 160, 20];
const BLUE: [u8; 3] = [20, 20, 220];
const WHITE: [u8; 3] = [240, 240, 240];

fn run(bytes: &[u8], declared: &str) -> Result<Picture, Refused> {
    process(&Bytes::copy_from_slice(bytes), declared, &Limits::default())
}

fn all_files() -> impl Iterator<Item = (&'static [u8], &'static str)> {
    STILLS.into_iter().chain(ANIMATIONS)
}

/// The four quarters of the files in `tests/fixtures`.
fn quarters() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| {
        Rgb(match (x < 24, y < 16) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => WHITE,
        })
    })
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(encoded: &Encoded) -> DynamicImage {
    let format = ImageFormat::from_mime_type(encoded.content_type).unwrap();
    image::load_from_memory_with_format(&encoded.bytes, format).unwrap()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reports whether a pixel has this colour, but for what JPEG makes of it.
fn is_near(image: &DynamicImage, [x, y]: [u32; 2], colour: [u8; 3]) -> bool {
    let Rgba([red, green, blue, _]) = image.get_pixel(x, y);
    [red, green, blue].into_iter().zip(colour).all(|(is, expected)| is.abs_diff(expected) < 30)
}

/// A block of EXIF with an orientation and a place.
fn exif(orientation: u8) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        let mut entry = [tag.to_be_bytes(), kind.to_be_bytes()].concat();
        entry.extend(count.to_be_bytes());
        entry.extend(value);
        entry
    };
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02".to_vec();
    exif.extend(entry(0x0112, 3, 1, [0, orientation, 0, 0]));
    exif.extend(entry(0x8825, 4, 1, [0, 0, 0, 38]));
    exif.extend([0; 4]);
    exif.extend([0, 1]);
    exif.extend(entry(0x0001, 2, 2, *b"N\0\0\0"));
    exif.extend([0; 4]);
    exif
}

/// Puts a segment behind the first marker of a JPEG.
fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, marker]);
    bytes.extend(u16::try_from(data.len() + 2).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes.extend(&jpeg[2..]);
    bytes
}

/// A JPEG of this size that has no pixels.
fn jpeg_header(width: u16, height: u16) -> Vec<u8> {
    let mut frame = vec![8];
    frame.extend(height.to_be_bytes());
    frame.extend(width.to_be_bytes());
    frame.extend([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]);
    with_segment(b"\xff\xd8\xff\xd9", 0xc0, &frame)
}

fn png_chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [name, data].concat();
    let crc = !body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [&length[..], &body, &crc.to_be_bytes()].concat()
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    png_chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 6, 0, 0, 0]].concat())
}

/// Puts a chunk behind the header of a PNG.
fn with_chunk(png: &[u8], name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    const HEADER_END: usize = 8 + 25;
    [&png[..HEADER_END], &png_chunk(name, data), &png[HEADER_END..]].concat()
}

#[test]
fn a_file_that_lies_about_its_type_is_refused() {
    let png = encode(quarters(), ImageFormat::Png);
    let cases: [(&[u8], &str, Refused); 8] = [
        (&png, "image/jpeg", Refused::OtherType { found: "image/png" }),
        (PROGRESSIVE_JPEG, "image/png", Refused::OtherType { found: "image/jpeg" }),
        (ANIMATED_GIF, "image/svg+xml", Refused::OtherType { found: "image/gif" }),
        (
            b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00",
            "image/jpeg",
            Refused::OtherType { found: "video/mp4" },
        ),
        (b"MZ\x90\x00\x03\x00", "image/png", Refused::Unsupported),
        (b"PK\x03\x04\x14\x00", "image/webp", Refused::Unsupported),
        (b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", "image/heic", Refused::Unsupported),
        (b"", "image/png", Refused::Unsupported),
    ];
    for (bytes, declared, expected) in cases {
        assert_eq!(run(bytes, declared).unwrap_err(), expected, "{declared}");
    }
}

#[test]
fn an_svg_with_a_script_is_refused() {
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    for declared in ["image/svg+xml", "image/png"] {
        assert_eq!(run(svg, declared).unwrap_err(), Refused::Unsupported);
    }
}

#[test]
fn a_picture_of_a_hundred_megapixels_is_refused_by_what_its_header_states() {
    let jpeg = jpeg_header(10_000, 10_000);
    let png = [b"\x89PNG\r\n\x1a\n", &png_header(10_000, 10_000)[..]].concat();
    let gif = b"GIF89a\x10\x27\x10\x27\x00\x00\x00";
    let webp = b"RIFF\x1a\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x0f\x27\x00\x0f\x27\x00VP8 ";
    let files: [(&[u8], &str); 4] =
        [(&jpeg, "image/jpeg"), (&png, "image/png"), (gif, "image/gif"), (webp, "image/webp")];
    for (bytes, declared) in files {
        let expected = Refused::TooLarge { width: 10_000, height: 10_000, max_pixels: 50 * 1024 * 1024 };
        assert_eq!(run(bytes, declared).unwrap_err(), expected, "{declared}");
    }
}

#[test]
fn a_decompression_bomb_is_decoded_as_far_as_its_header_says() {
    // Sixteen million black pixels take a few kilobytes, and are said to be sixteen.
    let large = encode(GrayImage::new(4_000, 4_000), ImageFormat::Png);
    assert!(large.len() < 100_000, "{}", large.len());
    let mut header = large[16..29].to_vec();
    header[..8].copy_from_slice(&[0, 0, 0, 4, 0, 0, 0, 4]);
    let bomb = [&large[..8], &png_chunk(b"IHDR", &header), &large[33..]].concat();
    match run(&bomb, "image/png") {
        Ok(picture) => {
            assert_eq!([picture.width, picture.height], [4, 4]);
            assert!(picture.main.bytes.len() < 1_000, "{}", picture.main.bytes.len());
        }
        Err(refused) => assert_eq!(refused, Refused::Damaged),
    }
}

#[test]
fn a_compressed_text_or_profile_never_reaches_a_decoder() {
    let png = encode(quarters(), ImageFormat::Png);
    for name in [b"zTXt", b"iCCP", b"iTXt", b"tEXt", b"eXIf", b"vpAg"] {
        let limits = Limits::default();
        let outline =
            container::outline(ImageFormat::Png, &with_chunk(&png, name, b"a\0\0bomb"), &limits).unwrap();
        assert!(!contains(&outline.clean, name));
        assert!(!contains(&outline.clean, b"bomb"));
    }
}

#[test]
fn a_polyglot_is_refused_or_loses_its_second_half() {
    let second = b"PK\x03\x04 a program <script>alert(1)</script>";
    for (bytes, declared) in all_files() {
        assert_eq!(run(&[bytes, second].concat(), declared).unwrap_err(), Refused::Unsupported, "{declared}");
        // Behind what those who guess types look at.
        let room = [0; SNIFFED_BYTES];
        let picture = run(&[bytes, &room, second].concat(), declared).unwrap();
        for encoded in [&picture.main, &picture.thumbnail] {
            assert!(!contains(&encoded.bytes, b"PK\x03\x04"), "{declared}");
            assert!(!contains(&encoded.bytes, b"<script>"), "{declared}");
        }
    }
    // In a comment, where the type is looked for by others.
    let comment = with_segment(PROGRESSIVE_JPEG, 0xfe, b"<html><script>alert(1)</script>");
    assert_eq!(run(&comment, "image/jpeg").unwrap_err(), Refused::Unsupported);
    // A program that is a comment and an assignment for those who read it as one.
    assert_eq!(run(b"GIF89a/*\0\0*/=1;alert(1)//", "image/gif").unwrap_err(), Refused::Damaged);
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    for (bytes, declared) in all_files() {
        for length in 16..bytes.len() {
            let refused = run(&bytes[..length], declared).unwrap_err();
            assert_eq!(refused, Refused::Damaged, "{length} bytes of {declared}");
        }
    }
}

#[test]
fn no_metadata_of_a_file_is_served() {
    for (bytes, declared) in all_files() {
        let picture = run(bytes, declared).unwrap();
        for encoded in [&picture.main, &picture.thumbnail] {
            for part in METADATA {
                let found = contains(&encoded.bytes, part);
                assert!(!found, "{} in {} of {declared}", part.escape_ascii(), encoded.content_type);
            }
        }
    }
}

#[test]
fn each_orientation_of_exif_is_applied() {
    let jpeg = encode(quarters(), ImageFormat::Jpeg);
    // Where the red and the green quarter are seen: left or right, above or below.
    let cases = [
        (1, [48, 32], [0, 0], [1, 0]),
        (2, [48, 32], [1, 0], [0, 0]),
        (3, [48, 32], [1, 1], [0, 1]),
        (4, [48, 32], [0, 1], [1, 1]),
        (5, [32, 48], [0, 0], [0, 1]),
        (6, [32, 48], [1, 0], [1, 1]),
        (7, [32, 48], [1, 1], [1, 0]),
        (8, [32, 48], [0, 1], [0, 0]),
        // Not an orientation.
        (9, [48, 32], [0, 0], [1, 0]),
    ];
    for (orientation, size, red, green) in cases {
        let picture = run(&with_segment(&jpeg, 0xe1, &exif(orientation)), "image/jpeg").unwrap();
        assert_eq!([picture.width, picture.height], size, "{orientation}");
        for encoded in [&picture.main, &picture.thumbnail] {
            let image = decode(encoded);
            let place = |[x, y]: [u32; 2]| [size[0] / 4 + x * size[0] / 2, size[1] / 4 + y * size[1] / 2];
            assert!(is_near(&image, place(red), RED), "red of {orientation}");
            assert!(is_near(&image, place(green), GREEN), "green of {orientation}");
        }
    }
}

#[test]
fn the_orientation_of_png_and_webp_is_applied() {
    let picture = run(METADATA_PNG, "image/png").unwrap();
    assert_eq!([picture.width, picture.height], [32, 48]);
    let picture = run(LOSSY_WEBP, "image/webp").unwrap();
    assert_eq!([picture.width, picture.height], [32, 48]);
    assert!(is_near(&decode(&picture.main), [24, 12], RED));
}

#[test]
fn a_cmyk_jpeg_has_its_colours() {
    let picture = run(CMYK_JPEG, "image/jpeg").unwrap();
    let image = decode(&picture.main);
    for (place, colour) in [([12, 8], RED), ([36, 8], GREEN), ([12, 24], BLUE), ([36, 24], WHITE)] {
        assert!(is_near(&image, place, colour), "{:?} for {colour:?}", image.get_pixel(place[0], place[1]));
    }
}

#[test]
fn exact_pixels_stay_exact_and_photos_stay_small() {
    let cases = [
        (encode(quarters(), ImageFormat::Png), "image/png", "image/png"),
        (encode(quarters(), ImageFormat::Jpeg), "image/jpeg", "image/jpeg"),
        (encode(quarters(), ImageFormat::Gif), "image/gif", "image/png"),
        (LOSSLESS_WEBP.to_vec(), "image/webp", "image/webp"),
        (LOSSY_WEBP.to_vec(), "image/webp", "image/jpeg"),
        (ALPHA_WEBP.to_vec(), "image/webp", "image/webp"),
    ];
    for (bytes, declared, expected) in cases {
        let picture = run(&bytes, declared).unwrap();
        assert_eq!(picture.main.content_type, expected, "{declared}");
        assert!(!picture.is_animated);
    }
    let picture = run(&encode(quarters(), ImageFormat::Png), "image/png").unwrap();
    assert_eq!(decode(&picture.main).into_rgb8(), quarters());
    let picture = run(LOSSLESS_WEBP, "image/webp").unwrap();
    assert_eq!(decode(&picture.main).into_rgb8(), quarters());
}

#[test]
fn every_depth_and_kind_of_pixel_is_taken() {
    let deep =
        image::ImageBuffer::<Luma<u16>, _>::from_fn(40, 30, |x, _| Luma([if x < 20 { 0 } else { u16::MAX }]));
    let picture = run(&encode(deep, ImageFormat::Png), "image/png").unwrap();
    let image = decode(&picture.main);
    assert_eq!((image.color(), image.get_pixel(39, 0)), (image::ColorType::L8, Rgba([255; 4])));

    let clear = RgbaImage::from_pixel(40, 30, Rgba([10, 20, 30, 0]));
    let picture = run(&encode(clear.clone(), ImageFormat::Png), "image/png").unwrap();
    assert_eq!(decode(&picture.main).into_rgba8(), clear);
    assert!(decode(&picture.thumbnail).color().has_alpha());

    let grey = encode(GrayImage::from_pixel(40, 30, Luma([99])), ImageFormat::Jpeg);
    let picture = run(&grey, "image/jpeg").unwrap();
    assert_eq!(decode(&picture.main).color(), image::ColorType::L8);
}

#[test]
fn a_large_picture_is_scaled_down_and_a_small_one_is_not_enlarged() {
    let cases = [
        ([5_000, 100], [4_096, 82], [480, 10]),
        ([100, 5_000], [82, 4_096], [10, 480]),
        ([9_000, 1], [4_096, 1], [480, 1]),
        ([600, 300], [600, 300], [480, 240]),
        ([7, 3], [7, 3], [7, 3]),
        ([1, 1], [1, 1], [1, 1]),
    ];
    for ([width, height], main, thumbnail) in cases {
        let picture = run(&encode(RgbImage::new(width, height), ImageFormat::Png), "image/png").unwrap();
        assert_eq!([picture.width, picture.height], main);
        for (encoded, size) in [(&picture.main, main), (&picture.thumbnail, thumbnail)] {
            let image = decode(encoded);
            assert_eq!([image.width(), image.height()], size, "{width} x {height}");
        }
    }
}

#[test]
fn a_blur_has_the_colours_of_the_picture() {
    let picture =
        run(&encode(RgbImage::from_pixel(300, 200, Rgb(GREEN)), ImageFormat::Jpeg), "image/jpeg").unwrap();
    let hash = BASE64_STANDARD.decode(&picture.blur).unwrap();
    assert!(hash.len() <= 25, "{}", hash.len());
    let (red, green, blue, _) = thumbhash::thumb_hash_to_average_rgba(&hash).unwrap();
    assert!(green > 2.0 * red && green > 2.0 * blue, "{red} {green} {blue}");
}

#[test]
fn an_animation_keeps_its_frames() {
    fn frames<'a>(decoder: impl AnimationDecoder<'a>) -> usize {
        decoder.into_frames().collect_frames().unwrap().len()
    }
    for (bytes, declared) in ANIMATIONS {
        let picture = run(bytes, declared).unwrap();
        assert!(picture.is_animated, "{declared}");
        assert_eq!(picture.main.content_type, declared);
        let main = Cursor::new(&picture.main.bytes);
        let count = match declared {
            "image/gif" => frames(GifDecoder::new(main).unwrap()),
            "image/png" => frames(PngDecoder::new(main).unwrap().apng().unwrap()),
            _ => frames(WebPDecoder::new(main).unwrap()),
        };
        assert_eq!(count, 3, "{declared}");
        assert!(is_near(&decode(&picture.thumbnail), [12, 8], RED), "{declared}");
    }
}

#[test]
fn an_animation_beyond_its_bounds_is_refused() {
    let cases = [
        Limits { max_frames: 2, ..Limits::default() },
        Limits { max_animation_pixels: 2 * 48 * 32 + 1, ..Limits::default() },
        Limits { max_side: 47, ..Limits::default() },
    ];
    for (bytes, declared) in ANIMATIONS {
        let bytes = Bytes::from_static(bytes);
        for limits in &cases {
            let refused = process(&bytes, declared, limits).unwrap_err();
            assert_eq!(refused, Refused::AnimationTooLong, "{declared} {limits:?}");
        }
    }
}

#[test]
fn a_frame_beyond_its_canvas_is_refused() {
    let place = |bytes: &[u8], part: &[u8]| {
        bytes.windows(part.len()).rposition(|window| window == part).expect("the part")
    };
    // The last frame of each is moved or made larger.
    let mut gif = ANIMATED_GIF.to_vec();
    let canvas: [u8; 4] = gif[6..10].try_into().unwrap();
    assert_eq!(canvas, [48, 0, 32, 0]);
    let frame = place(&gif, b"\x21\xf9\x04") + 8;
    assert_eq!(gif[frame], 0x2c);
    gif[frame + 5..frame + 7].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(run(&gif, "image/gif").unwrap_err(), Refused::Damaged);

    let mut png = ANIMATED_PNG.to_vec();
    let frame = place(&png, b"fcTL") + 4;
    png[frame + 4..frame + 8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(run(&png, "image/png").unwrap_err(), Refused::Damaged);

    let mut webp = ANIMATED_WEBP.to_vec();
    let frame = place(&webp, b"ANMF") + 8;
    webp[frame + 6..frame + 9].copy_from_slice(&[0xff; 3]);
    assert_eq!(run(&webp, "image/webp").unwrap_err(), Refused::Damaged);
}

#[test]
fn a_bitstream_larger_than_its_frame_is_refused() {
    let mut webp = ANIMATED_WEBP.to_vec();
    let last = webp.windows(4).rposition(|window| window == b"VP8L").expect("a bitstream") + 8;
    // Sixteen thousand pixels across, and as many down.
    webp[last + 1..last + 5].copy_from_slice(&0x0fff_ffff_u32.to_le_bytes());
    assert_eq!(run(&webp, "image/webp").unwrap_err(), Refused::Damaged);
}

#[test]
fn a_jpeg_with_a_thousand_scans_is_refused() {
    let start = PROGRESSIVE_JPEG.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
    let scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00";
    let bomb = [&PROGRESSIVE_JPEG[..start], &scan.repeat(1_000), &PROGRESSIVE_JPEG[start..]].concat();
    assert_eq!(run(&bomb, "image/jpeg").unwrap_err(), Refused::Damaged);
}

#[test]
fn a_picture_that_takes_more_memory_than_it_may_is_refused() {
    let png = encode(RgbaImage::new(1_000, 1_000), ImageFormat::Png);
    let max_memory_bytes = 8_000_000;
    let limits = Limits { max_memory_bytes, ..Limits::default() };
    assert!(process(&png.clone().into(), "image/png", &limits).is_ok());
    let limits = Limits { max_memory_bytes: max_memory_bytes - 1, ..limits };
    let refused = process(&png.into(), "image/png", &limits).unwrap_err();
    assert!(matches!(refused, Refused::TooLarge { .. }), "{refused:?}");
}

#[test]
fn a_picture_is_given_up_when_its_time_is_over() {
    let limits = Limits { max_time: Duration::ZERO, ..Limits::default() };
    for (bytes, declared) in all_files() {
        let refused = process(&Bytes::from_static(bytes), declared, &limits).unwrap_err();
        assert_eq!(refused, Refused::TookTooLong, "{declared}");
    }
}

#[test]
fn a_decoder_that_reads_meets_the_deadline() {
    let limits = Limits::default();
    let outline = container::outline(ImageFormat::Png, METADATA_PNG, &limits).unwrap();
    let deadline = Deadline(Instant::now());
    assert_eq!(pixels::decode(&outline, &limits, &deadline).unwrap_err(), Refused::TookTooLong);
}

#[test]
fn pictures_of_any_bytes_are_refused_or_within_their_bounds() {
    let files: Vec<_> = all_files().map(|(bytes, _)| bytes).collect();
    let limits = Limits { max_pixels: 1_000_000, max_memory_bytes: 16_000_000, ..Limits::default() };
    fuzz(&files, |bytes| {
        let declared = sniff(bytes).content_type();
        if let Ok(picture) = process(&Bytes::copy_from_slice(bytes), declared, &limits) {
            assert!(u64::from(picture.width) * u64::from(picture.height) <= limits.max_pixels);
            for encoded in [&picture.main, &picture.thumbnail] {
                // The pixels of an animation are those of the file, whatever they spell.
                let is_copy = picture.is_animated && std::ptr::eq(encoded, &picture.main);
                assert!(is_copy || !contains(&encoded.bytes, b"SECRET"), "{}", bytes.escape_ascii());
                assert_eq!(sniff(&encoded.bytes).content_type(), encoded.content_type);
            }
        }
    });
}
