//! What goes to standard output: text for people, or JSON for programs.

use std::io::Write as _;

use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document, or one a line where a command runs on.
    Json,
}

/// Writes a line of text.
pub(crate) fn line(text: impl std::fmt::Display) {
    // Whoever closed the pipe has read enough.
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes a JSON document for programs, over several lines.
pub(crate) fn document(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).expect("our own types are JSON"));
}

/// Writes a JSON document on one line.
pub(crate) fn record(value: &impl Serialize) {
    line(serde_json::to_string(value).expect("our own types are JSON"));
}
