//! Pure: text in the forms that conditions, Events and manifests need.

use std::fmt::Display;

/// Longest text of a server that an error quotes, in bytes: it ends in a condition, and some servers return a dump.
const MAX_QUOTE: usize = 300;

/// Returns the text, cut at a character so that it has at most `bytes`. What was cut off leaves an ellipsis.
pub(crate) fn cut(text: &str, bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(bytes - ELLIPSIS.len())])
}

/// Returns the first line of a server's message, cut to a length that can be quoted.
pub(crate) fn one_line(text: impl Display) -> String {
    let text = text.to_string();
    cut(text.lines().next().unwrap_or_default(), MAX_QUOTE)
}

/// Returns bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character() {
        let cut = cut(&"ü".repeat(2000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'), "{cut}");
        assert_eq!(super::cut("short", 1024), "short");
    }

    #[test]
    fn server_text_is_cut_to_one_short_line() {
        assert_eq!(one_line("first\nsecond"), "first");
        assert_eq!(one_line("x".repeat(500)).len(), MAX_QUOTE);
    }

    #[test]
    fn hexadecimal_keeps_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
