//! What a file really is, by its first bytes. The name and the type that a client declares decide nothing.

/// Bytes from the beginning of a file that [`sniff`] looks at: as far as browsers look for a page (1,445 bytes), rounded up.
pub const SNIFFED_BYTES: usize = 2 * 1024;

/// What makes a file that begins as another type a page or a program where a reader guesses types by itself.
const SECOND_TYPES: [&[u8]; 9] =
    [b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<iframe", b"<svg", b"<?php", b"%pdf-"];
/// Brands of ISO media files (`ftyp`) that are pictures: HEIF and AVIF, which are not decoded here.
const PICTURE_BRANDS: [&[u8; 4]; 8] =
    [b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"];
/// The codecs of sound that an Ogg file may begin with.
const OGG_AUDIO: [&[u8]; 4] = [b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   "];

/// The types that are told apart. Everything that is shown inside a page is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Jpeg,
    Png,
    Gif,
    WebP,
    /// ISO media (MP4, 3GP, M4V).
    Mp4,
    QuickTime,
    WebM,
    M4a,
    Mp3,
    Aac,
    /// Opus, Vorbis, FLAC or Speex in Ogg.
    OggAudio,
    Wav,
    Flac,
    Pdf,
    /// A ZIP archive, and the many formats of documents and programs that are one.
    Zip,
    /// Begins as UTF-8 without control characters, and as nothing else.
    Text,
    /// HTML, SVG or other XML: may run scripts where it is shown.
    Markup,
    /// Begins as a medium and has a page, a program or a PDF in its first bytes.
    Ambiguous,
    /// None of the above.
    Unknown,
}

/// What a client does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Picture,
    Video,
    Audio,
    /// Offered as a download.
    Other,
}

impl Kind {
    /// Every kind.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 19] = [
        Self::Jpeg,
        Self::Png,
        Self::Gif,
        Self::WebP,
        Self::Mp4,
        Self::QuickTime,
        Self::WebM,
        Self::M4a,
        Self::Mp3,
        Self::Aac,
        Self::OggAudio,
        Self::Wav,
        Self::Flac,
        Self::Pdf,
        Self::Zip,
        Self::Text,
        Self::Markup,
        Self::Ambiguous,
        Self::Unknown,
    ];

    /// Returns what a client does with a file of this kind.
    pub fn class(self) -> Class {
        match self {
            Self::Jpeg | Self::Png | Self::Gif | Self::WebP => Class::Picture,
            Self::Mp4 | Self::QuickTime | Self::WebM => Class::Video,
            Self::M4a | Self::Mp3 | Self::Aac | Self::OggAudio | Self::Wav | Self::Flac => Class::Audio,
            Self::Pdf | Self::Zip | Self::Text | Self::Markup | Self::Ambiguous | Self::Unknown => {
                Class::Other
            }
        }
    }

    /// Returns the media type that a file is served with. What a browser could run is bytes without a type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Mp4 => "video/mp4",
            Self::QuickTime => "video/quicktime",
            Self::WebM => "video/webm",
            Self::M4a => "audio/mp4",
            Self::Mp3 => "audio/mpeg",
            Self::Aac => "audio/aac",
            Self::OggAudio => "audio/ogg",
            Self::Wav => "audio/wav",
            Self::Flac => "audio/flac",
            Self::Pdf => "application/pdf",
            Self::Zip => "application/zip",
            Self::Text => "text/plain",
            Self::Markup | Self::Ambiguous | Self::Unknown => "application/octet-stream",
        }
    }

    /// Reports whether a file may be shown inside a page (`Content-Disposition: inline`).
    pub fn is_inline(self) -> bool {
        self.class() != Class::Other
    }

    /// Reports whether a file of this kind may be declared as this media type. Who declares a picture, a video or a sound must
    /// upload one; any other type stands for a download, which every file may be.
    pub fn agrees_with(self, declared: &str) -> bool {
        let declared = essence(declared);
        let top = declared.split('/').next().unwrap_or_default();
        if !matches!(top, "image" | "video" | "audio") {
            return true;
        }
        let names: &[&str] = match self {
            Self::Jpeg => &["image/jpeg", "image/jpg", "image/pjpeg"],
            Self::Png => &["image/png", "image/apng", "image/x-png"],
            Self::Gif => &["image/gif"],
            Self::WebP => &["image/webp"],
            // One container for both: which it is depends on the tracks.
            Self::Mp4 | Self::M4a => &[
                "video/mp4",
                "audio/mp4",
                "audio/x-m4a",
                "audio/m4a",
                "video/x-m4v",
                "video/3gpp",
                "audio/3gpp",
            ],
            Self::QuickTime => &["video/quicktime"],
            Self::WebM => &["video/webm", "audio/webm"],
            Self::Mp3 => &["audio/mpeg", "audio/mp3", "audio/x-mp3"],
            Self::Aac => &["audio/aac", "audio/aacp", "audio/x-aac"],
            Self::OggAudio => &["audio/ogg", "audio/opus", "audio/vorbis", "audio/x-speex"],
            Self::Wav => &["audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave"],
            Self::Flac => &["audio/flac", "audio/x-flac"],
            Self::Pdf | Self::Zip | Self::Text | Self::Markup | Self::Ambiguous | Self::Unknown => &[],
        };
        names.contains(&declared.as_str())
    }
}

/// Returns what a file is that begins with these bytes. [`SNIFFED_BYTES`] of them are enough; more are not looked at.
pub fn sniff(bytes: &[u8]) -> Kind {
    let start = &bytes[..bytes.len().min(SNIFFED_BYTES)];
    // First, because the text of a comment may well contain what other types are known by.
    if is_markup(start) {
        return Kind::Markup;
    }
    match by_signature(start) {
        kind if kind.is_inline() && has_second_type(start) => Kind::Ambiguous,
        Kind::Unknown if is_text(start) => Kind::Text,
        kind => kind,
    }
}

/// Returns a media type without parameters and in lower case.
pub(crate) fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn by_signature(start: &[u8]) -> Kind {
    let at =
        |offset: usize, signature: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(signature));
    match start {
        [0xff, 0xd8, 0xff, ..] => Kind::Jpeg,
        _ if at(0, b"\x89PNG\r\n\x1a\n") => Kind::Png,
        _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Kind::Gif,
        _ if at(0, b"RIFF") && at(8, b"WEBP") => Kind::WebP,
        _ if at(0, b"RIFF") && at(8, b"WAVE") => Kind::Wav,
        _ if at(4, b"ftyp") => by_brand(start.get(8..12).unwrap_or_default()),
        // The document type stands in the header, at a place that depends on what else is there.
        _ if at(0, b"\x1a\x45\xdf\xa3") && contains(&start[..start.len().min(64)], b"webm") => Kind::WebM,
        _ if at(0, b"OggS") && OGG_AUDIO.iter().any(|codec| at(28, codec)) => Kind::OggAudio,
        _ if at(0, b"fLaC") => Kind::Flac,
        _ if at(0, b"ID3") => Kind::Mp3,
        _ if at(0, b"%PDF-") => Kind::Pdf,
        _ if at(0, b"PK\x03\x04") || at(0, b"PK\x05\x06") => Kind::Zip,
        // Twelve set bits, then the version and layer of MPEG audio, with a bit rate and a sampling rate that exist.
        [0xff, second, third, ..] if second & 0xf0 == 0xf0 => match second & 0x06 {
            0x00 => Kind::Aac,
            0x02 if third & 0xf0 != 0xf0 && third & 0x0c != 0x0c => Kind::Mp3,
            _ => Kind::Unknown,
        },
        _ => Kind::Unknown,
    }
}

fn by_brand(brand: &[u8]) -> Kind {
    match brand {
        b"qt  " => Kind::QuickTime,
        b"M4A " | b"M4B " => Kind::M4a,
        _ if brand.len() < 4 || PICTURE_BRANDS.iter().any(|picture| brand == *picture) => Kind::Unknown,
        _ => Kind::Mp4,
    }
}

/// Reports whether a file begins as a page does for browsers: with `<`, possibly behind a byte order mark and white space.
fn is_markup(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    // Of UTF-16, every other byte is left.
    let text = match text {
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => rest,
        _ => text,
    };
    text.iter().find(|byte| !byte.is_ascii_whitespace() && **byte != 0) == Some(&b'<')
}

/// Reports whether a file begins as text in UTF-8. The end of the start may lie within a character.
fn is_text(start: &[u8]) -> bool {
    let text = match str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && start.len() == SNIFFED_BYTES => {
            str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_of_text = |character: char| !character.is_control() || "\t\n\r\x0c".contains(character);
    !text.is_empty() && text.chars().all(is_of_text)
}

fn has_second_type(start: &[u8]) -> bool {
    let lower = start.to_ascii_lowercase();
    SECOND_TYPES.iter().any(|signature| contains(&lower, signature))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use kit::testing::fuzz;

    use super::*;

    /// A beginning of each kind that has a signature.
    const BEGINNINGS: [(&[u8], Kind); 25] = [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", Kind::Jpeg),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", Kind::Png),
        (b"GIF89a\x01\x00\x01\x00", Kind::Gif),
        (b"GIF87a\x01\x00\x01\x00", Kind::Gif),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", Kind::WebP),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", Kind::Wav),
        (b"RIFF\x24\x00\x00\x00AVI LIST", Kind::Unknown),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", Kind::Mp4),
        (b"\x00\x00\x00\x18ftyp3gp4\x00\x00\x02\x00", Kind::Mp4),
        (b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00", Kind::QuickTime),
        (b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00", Kind::M4a),
        (b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", Kind::Unknown),
        (b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00", Kind::Unknown),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", Kind::WebM),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska", Kind::Unknown),
        (b"OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00ab\x00\x00\x01\x13OpusHead", Kind::OggAudio),
        (b"fLaC\x00\x00\x00\x22", Kind::Flac),
        (b"ID3\x04\x00\x00\x00", Kind::Mp3),
        (b"\xff\xfb\x90\x64\x00", Kind::Mp3),
        (b"\xff\xf1\x50\x80\x00", Kind::Aac),
        (b"\xff\xff\xff\xff\xff", Kind::Unknown),
        (b"%PDF-1.7\n", Kind::Pdf),
        (b"PK\x03\x04\x14\x00", Kind::Zip),
        (b"MZ\x90\x00\x03", Kind::Unknown),
        (b"", Kind::Unknown),
    ];

    #[test]
    fn a_kind_is_known_by_its_first_bytes() {
        for (start, expected) in BEGINNINGS {
            assert_eq!(sniff(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn a_page_and_an_svg_with_a_script_are_never_shown_in_a_page() {
        let cases: [&[u8]; 9] = [
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
            b"<?xml version=\"1.0\"?><svg onload=\"alert(1)\"/>",
            b"\xef\xbb\xbf  \r\n\t<!DOCTYPE html><script>alert(1)</script>",
            b"<!-- a comment --><html>",
            b"\xff\xfe<\x00h\x00t\x00m\x00l\x00",
            b"\xfe\xff\x00<\x00s\x00v\x00g",
            b"<!--ftypisom--><script>alert(1)</script>",
            b"\x00\x00\x00<html>",
            b"\x0c<html>",
        ];
        for start in cases {
            let kind = sniff(start);
            assert_eq!(kind, Kind::Markup, "{}", start.escape_ascii());
            assert!(!kind.is_inline());
            assert_eq!(kind.content_type(), "application/octet-stream");
            for declared in ["image/svg+xml", "image/png", "video/mp4"] {
                assert!(!kind.agrees_with(declared), "{declared} {}", start.escape_ascii());
            }
        }
    }

    #[test]
    fn text_is_utf_8_without_control_characters_as_far_as_it_is_looked_at() {
        let long = |end: &str| ("a".repeat(SNIFFED_BYTES - 1) + end).into_bytes();
        let cases: [(Vec<u8>, Kind); 10] = [
            (b"two cats".to_vec(), Kind::Text),
            ("\u{feff}zwei K\u{e4}tzchen\r\n\tund \u{1f408}\x0c".into(), Kind::Text),
            (b"a: <script>alert(1)</script>".to_vec(), Kind::Text),
            (b"two\x00cats".to_vec(), Kind::Unknown),
            (b"\x1b[2J".to_vec(), Kind::Unknown),
            (b"zwei K\xe4tzchen".to_vec(), Kind::Unknown),
            // Without its last byte, of a whole file and of one that goes on.
            (b"zwei K\xc3".to_vec(), Kind::Unknown),
            (long("\u{e4}"), Kind::Text),
            (long("\u{1f408}"), Kind::Text),
            (long("b\x00"), Kind::Text),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(&bytes), expected, "{}", bytes.escape_ascii());
        }
        assert!(!Kind::Text.is_inline());
        assert!(!Kind::Text.agrees_with("image/png"));
    }

    #[test]
    fn a_polyglot_of_a_medium_and_a_page_is_never_shown_in_a_page() {
        let cases: [&[u8]; 5] = [
            b"GIF89a/*\x00\x00*/=1;</title><ScRiPt>alert(1)</script>",
            b"\xff\xd8\xff\xfe\x00\x20<html><body onload=alert(1)>",
            b"\x00\x00\x00\x20ftypisom%PDF-1.7",
            b"ID3\x04\x00\x00<!DOCTYPE html>",
            b"RIFF\x24\x00\x00\x00WEBP<?php system($_GET['c']);",
        ];
        for start in cases {
            assert_eq!(sniff(start), Kind::Ambiguous, "{}", start.escape_ascii());
        }
        assert!(!Kind::Ambiguous.is_inline());
    }

    #[test]
    fn metadata_of_a_picture_is_no_page() {
        let mut start = b"\xff\xd8\xff\xe1\x00\x60http://ns.adobe.com/xap/1.0/\x00".to_vec();
        start.extend(b"<?xpacket begin='' id=''?><x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF>");
        assert_eq!(sniff(&start), Kind::Jpeg);
    }

    #[test]
    fn a_declared_medium_must_be_one() {
        let cases = [
            (Kind::Jpeg, "image/jpeg", true),
            (Kind::Jpeg, "IMAGE/JPG; charset=x", true),
            (Kind::Jpeg, "image/png", false),
            (Kind::Jpeg, "application/octet-stream", true),
            (Kind::Png, "image/jpeg", false),
            (Kind::WebM, "audio/webm;codecs=opus", true),
            (Kind::Mp4, "audio/mp4", true),
            (Kind::Mp4, "image/gif", false),
            (Kind::Zip, "image/png", false),
            (Kind::Zip, "application/vnd.oasis.opendocument.text", true),
            (Kind::Unknown, "video/mp4", false),
            (Kind::Unknown, "text/plain", true),
            (Kind::Unknown, "", true),
        ];
        for (kind, declared, expected) in cases {
            assert_eq!(kind.agrees_with(declared), expected, "{kind:?} as {declared}");
        }
    }

    #[test]
    fn every_kind_that_is_shown_agrees_with_the_type_it_is_served_with() {
        for kind in Kind::ALL {
            assert!(kind.agrees_with(kind.content_type()), "{kind:?}");
            let top = kind.content_type().split('/').next();
            let shown = ["image", "video", "audio"].map(Some).contains(&top);
            assert_eq!(kind.is_inline(), shown, "{kind:?}");
        }
    }

    #[test]
    fn sniffing_any_bytes_finds_markup_first() {
        let inputs: Vec<&[u8]> = BEGINNINGS.iter().map(|(start, _)| *start).chain([&b"<svg>"[..]]).collect();
        fuzz(&inputs, |bytes| {
            let kind = sniff(bytes);
            assert!(!(kind.is_inline() && bytes.first() == Some(&b'<')), "{}", bytes.escape_ascii());
            assert!(!(kind.is_inline() && has_second_type(bytes)), "{}", bytes.escape_ascii());
        });
    }
}
