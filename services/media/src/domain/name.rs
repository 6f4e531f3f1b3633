//! Names of files.

use kit::text::is_ignorable;

/// Longest name in bytes of UTF-8, as most file systems have it.
const MAX_BYTES: usize = 255;
/// An ending that is longer is a part of the name.
const MAX_ENDING_BYTES: usize = 16;
/// Of a file whose name has nothing that stays.
const NAMELESS: &str = "file";

/// The name of a file, as it is shown and saved: no path, nothing that hides or reorders, 1 to 255 bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// Returns what a name of any device becomes. Of a path, of either kind, the last part stays.
    pub fn of(text: &str) -> Self {
        let last = text.rsplit(['/', '\\']).find(|part| !part.trim().is_empty()).unwrap_or_default();
        let kept: String = last.chars().filter(|character| !is_harmful(*character)).collect();
        // Dots at the start hide a file, or lead to a folder; at the end, one system drops them.
        let kept = kept.trim().trim_start_matches('.').trim_end_matches(['.', ' ']).trim();
        let name = if kept.is_empty() { NAMELESS } else { kept };
        Self(cut(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, line ends, and what no one sees: it reorders the text around it, so that `gpj.exe` reads as `exe.jpg`, or makes two
/// names look alike. Of what Unicode calls ignorable by default, variation selectors stay: they choose how a character is drawn.
fn is_harmful(character: char) -> bool {
    let is_selector = matches!(
        character,
        '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    );
    let is_ignored = is_ignorable(character) && !is_selector;
    // Annotations between lines, which are shown beside the text or not at all.
    let is_annotation = matches!(character, '\u{fff9}'..='\u{fffb}');
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') || is_ignored || is_annotation
}

/// Cuts a name to its length; the ending stays.
fn cut(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let (stem, ending) = match name.rfind('.') {
        Some(at) if name.len() - at <= MAX_ENDING_BYTES => name.split_at(at),
        _ => (name, ""),
    };
    let mut end = MAX_BYTES - ending.len();
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &stem[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_name_is_left_out() {
        for (given, expected) in [
            ("two cats.jpg", "two cats.jpg"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            (r"C:\Users\ann\cats.jpg", "cats.jpg"),
            (r"..\..\cats.jpg", "cats.jpg"),
            ("folder/", "folder"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            (" / ", "file"),
            (".htaccess", "htaccess"),
            ("cats.jpg. .", "cats.jpg"),
            ("\u{202e}gpj.exe", "gpj.exe"),
            ("a\r\nb\0c\u{7f}.txt", "abc.txt"),
            ("ca\u{ad}ts\u{61c}.j\u{e0070}pg\u{e007f}", "cats.jpg"),
            ("\u{3164}", "file"),
            ("кошки.jpg", "кошки.jpg"),
            ("猫 🐈\u{fe0f}.jpg", "猫 🐈\u{fe0f}.jpg"),
        ] {
            assert_eq!(FileName::of(given).as_str(), expected, "{given:?}");
        }
    }

    #[test]
    fn what_no_one_sees_is_left_out() {
        let unseen =
            [0xad, 0x61c, 0x115f, 0x1160, 0x180e, 0x200b, 0x2029, 0x202e, 0x2066, 0x3164, 0xfeff, 0xffa0];
        for code in unseen.into_iter().chain(0xfff9..=0xfffb).chain(0xe0000..=0xe007f) {
            let character = char::from_u32(code).expect("a character");
            let name = FileName::of(&format!("cats{character}.jpg"));
            assert_eq!(name.as_str(), "cats.jpg", "{code:x}");
        }
        // A variant of an ideograph in the name of a user.
        assert_eq!(FileName::of("葛\u{e0101}.jpg").as_str(), "葛\u{e0101}.jpg");
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let check = |given: String, end: &str| {
            let name = FileName::of(&given);
            assert!((250..=MAX_BYTES).contains(&name.as_str().len()), "{}", name.as_str());
            assert!(name.as_str().ends_with(end), "{}", name.as_str());
        };
        check(format!("{}.jpg", "x".repeat(300)), "x.jpg");
        check(format!("{}.jpg", "猫".repeat(300)), "猫.jpg");
        check("x".repeat(300), "xx");
        check(format!("a.{}", "x".repeat(300)), "xx");
    }
}
