//! Standard output: human-readable text, or JSON.

use std::io::Write as _;

use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Human-readable.
    #[default]
    Text,
    /// One JSON document, or one per line from a command that streams.
    Json,
}

/// Writes a line of text.
pub(crate) fn line(text: impl std::fmt::Display) {
    // The reader closed the pipe and needs no more.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes a JSON document over several lines.
pub(crate) fn document(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).expect("our own types are JSON"));
}

/// Writes a JSON document on one line.
pub(crate) fn record(value: &impl Serialize) {
    line(serde_json::to_string(value).expect("our own types are JSON"));
}
