//! What pictures at their limits take, measured on the process: a test of its own, because it has the process to itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media::pictures::{Limits, Refused, process};

/// The file and its copy, what is encoded, and what the allocator keeps.
const BESIDE_BYTES: u64 = 48 * 1024 * 1024;

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).expect("a short segment").to_be_bytes();
    [&[0xff, marker], &length[..], data].concat()
}

/// Returns a grey JPEG, each block of which takes one or two bits.
fn jpeg(width: u16, height: u16, is_progressive: bool, colour_sampling: u8) -> Bytes {
    let mut frame = vec![8];
    frame.extend(height.to_be_bytes());
    frame.extend(width.to_be_bytes());
    frame.extend([3, 1, colour_sampling, 0, 2, 0x11, 0, 3, 0x11, 0]);
    let quantization = [&[0][..], &[1; 64]].concat();
    // One code of one bit, which stands for zero.
    let codes = |class: u8| [&[class << 4, 1][..], &[0; 16]].concat();
    let last = if is_progressive { 0 } else { 63 };
    let scan = [3, 1, 0, 2, 0, 3, 0, 0, last, 0];
    let (across, down) = (usize::from(colour_sampling >> 4), usize::from(colour_sampling & 0x0f));
    let units = usize::from(width).div_ceil(8 * across) * usize::from(height).div_ceil(8 * down);
    let bits = units * (across * down + 2) * if is_progressive { 1 } else { 2 };
    let parts = [
        vec![0xff, 0xd8],
        segment(0xdb, &quantization),
        segment(if is_progressive { 0xc2 } else { 0xc0 }, &frame),
        segment(0xc4, &codes(0)),
        segment(0xc4, &codes(1)),
        segment(0xda, &scan),
        vec![0; bits.div_ceil(8)],
        vec![0xff, 0xd9],
    ];
    parts.concat().into()
}

/// Returns a number of kibibytes of this process, in bytes.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a known name");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") * 1024
}

/// Returns the most that the process had at a time while this ran, beside what it had before.
fn peak_bytes(run: impl FnOnce()) -> u64 {
    let before = status("VmRSS:");
    // Forgets the peak so far.
    fs::write("/proc/self/clear_refs", "5").expect("a process of Linux");
    run();
    status("VmHWM:").saturating_sub(before)
}

#[test]
fn a_picture_at_the_limits_takes_no_more_than_them() {
    // A build that is not optimised, on a machine that does other things, takes longer than a user waits.
    let limits = Limits { max_time: Duration::from_secs(600), ..Limits::default() };
    let cases = [
        ("the largest baseline JPEG", jpeg(8_192, 6_400, false, 0x22)),
        ("a progressive JPEG", jpeg(8_192, 6_400, true, 0x22)),
        ("a progressive JPEG with all its colours", jpeg(6_400, 5_600, true, 0x11)),
    ];
    for (name, file) in cases {
        let (file_bytes, began) = (file.len(), Instant::now());
        let mut size = [0; 2];
        let peak = peak_bytes(|| {
            let picture = process(&file, "image/jpeg", &limits).expect(name);
            size = [picture.width, picture.height];
        });
        println!("{name}: {file_bytes} bytes, {size:?}, {} MiB, {:?}", peak >> 20, began.elapsed());
        assert!(peak <= limits.max_memory_bytes + BESIDE_BYTES, "{name}: {} MiB", peak >> 20);
        assert_eq!(size[0], limits.max_side, "{name}");
    }
    // One that would take more is refused for that alone, before any of it is taken.
    let file = jpeg(8_192, 6_144, true, 0x11);
    let peak = peak_bytes(|| {
        let refused = process(&file, "image/jpeg", &limits).unwrap_err();
        assert!(matches!(refused, Refused::TooLarge { .. }), "{refused:?}");
    });
    assert!(peak < 16 * 1024 * 1024, "{} MiB", peak >> 20);
}
