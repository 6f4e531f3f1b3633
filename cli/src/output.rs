//! What the terminal shows: human-readable text, or JSON.
//!
//! Titles, names and messages are what strangers wrote. Whatever a terminal would obey in them is shown as its number, in
//! the one place that all output passes.

use std::{fmt, io::Write as _};

use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Human-readable.
    #[default]
    Text,
    /// One JSON document, or one per line from a command that streams.
    Json,
}

/// Writes text to standard output, and a line break.
pub(crate) fn line(text: impl fmt::Display) {
    write(&inert(&text.to_string(), |c| c.escape_unicode().to_string()));
}

/// Writes a note to standard error, because programs read standard output.
pub fn note(text: impl fmt::Display) {
    let text = inert(&text.to_string(), |c| c.escape_unicode().to_string());
    // No one reads it then.
    _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a JSON document over several lines.
pub(crate) fn document(value: &impl Serialize) {
    write(&inert_json(&serde_json::to_string_pretty(value).expect("our own types are JSON")));
}

/// Writes a JSON document on one line.
pub(crate) fn record(value: &impl Serialize) {
    write(&inert_json(&serde_json::to_string(value).expect("our own types are JSON")));
}

/// Returns text of a stranger with its further lines set apart, so that none looks like a line of ours.
pub(crate) fn quoted(text: &str) -> String {
    text.replace('\n', "\n       | ")
}

fn write(text: &str) {
    // The reader closed the pipe and needs no more.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// JSON has an escape of its own for each of these characters, all below U+FFFF.
fn inert_json(json: &str) -> String {
    inert(json, |c| format!("\\u{:04x}", u32::from(c)))
}

fn inert(text: &str, escape: impl Fn(char) -> String) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) { shown.push_str(&escape(c)) } else { shown.push(c) }
    }
    shown
}

/// Returns whether a terminal does something else than show the character: controls but for line breaks and tabs, and what
/// turns the direction of the text.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_stranger_wrote_is_obeyed_by_the_terminal() {
        let escape = |c: char| c.escape_unicode().to_string();
        for (text, shown) in [
            (
                "plain, café, \u{5e9}\u{5dc}\u{5d5}\u{5dd}\n\tnext",
                "plain, café, \u{5e9}\u{5dc}\u{5d5}\u{5dd}\n\tnext",
            ),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("over\rwritten\u{8}", "over\\u{d}written\\u{8}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("evil\u{202e}gpj.exe", "evil\\u{202e}gpj.exe"),
        ] {
            assert_eq!(inert(text, escape), shown);
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "body": "\u{1b}[2J \u{9b}2J \u{202e} \u{2028} \n" });
        let shown = inert_json(&value.to_string());
        assert!(shown.chars().all(|c| !is_obeyed(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }

    #[test]
    fn a_second_line_of_a_message_is_no_line_of_ours() {
        assert_eq!(quoted("hi\n   42  ben: I owe you"), "hi\n       |    42  ben: I owe you");
    }
}
