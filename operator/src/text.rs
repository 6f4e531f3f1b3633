//! Pure: text in the forms that conditions, Events and manifests need.

use std::{error::Error, fmt::Display};

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

/// Returns the last cause of an error, which is the one that helps: the outermost of an HTTP client states only that a request
/// failed, the last one "connection refused".
pub(crate) fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// Returns text as HTML that shows it.
pub(crate) fn html(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        other => other.to_string(),
    });
    escaped.collect()
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
    fn what_means_something_in_html_is_shown() {
        assert_eq!(html("<b>\"R&D\"</b>, it's Жук"), "&lt;b&gt;&quot;R&amp;D&quot;&lt;/b&gt;, it&#39;s Жук");
    }

    #[test]
    fn root_cause_is_the_innermost() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        let inner = std::fmt::Error;
        assert_eq!(root_cause(&Outer(inner)).to_string(), inner.to_string());
        assert_eq!(root_cause(&inner).to_string(), inner.to_string());
    }

    #[test]
    fn hexadecimal_keeps_leading_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
