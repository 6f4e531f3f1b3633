//! The folder that is filled. All that is written passes here, and so does all that is asked: what there is no answer to is noted instead.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::redact;
use crate::failure::{Exit, Failure, chain};

/// One answer of the API server comes within this time, and all of them within the other.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(180);
/// The largest file, of which the end is kept, and all of them together.
pub(super) const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
const MAX_TOTAL_BYTES: usize = 96 * 1024 * 1024;
/// The longest reason why something could not be read, in characters.
const MAX_REASON: usize = 400;

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Missing {
    pub(super) what: String,
    pub(super) why: String,
}

/// A folder, and what became of all that was to be in it.
pub(super) struct Bundle {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<String>,
    pub(super) missing: Vec<Missing>,
    written: usize,
    ends_at: Instant,
}

impl Bundle {
    /// Makes a folder that only its owner reads.
    pub(super) fn create(folder: PathBuf) -> Result<Self, Failure> {
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            let what = format!("failed to make the folder {}: {error}", folder.display());
            Failure::new(Exit::Refused, what, "name another one with --into")
        })?;
        let ends_at = Instant::now() + TOTAL_TIMEOUT;
        Ok(Self { folder, files: Vec::new(), missing: Vec::new(), written: 0, ends_at })
    }

    /// Writes a file without what looks like a secret.
    pub(super) fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let text = redact::redacted(end_of(text, MAX_FILE_BYTES));
        if self.written + text.len() > MAX_TOTAL_BYTES {
            self.lacks(name, format!("the folder would be larger than {} MiB", MAX_TOTAL_BYTES >> 20));
            return Ok(());
        }
        self.write(name, &text)
    }

    fn write(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let name = file_name(name);
        let path = self.folder.join(&name);
        save(&path, text).map_err(|error| {
            let what = format!("failed to write {}: {error}", path.display());
            Failure::new(Exit::Refused, what, "make room there, or name another folder with --into")
        })?;
        self.written += text.len();
        self.files.push(name);
        Ok(())
    }

    pub(super) fn document(&mut self, name: &str, value: &Value) -> Result<(), Failure> {
        self.put(name, &serde_json::to_string_pretty(value).expect("a JSON value is JSON"))
    }

    /// Notes what is not there, and why.
    pub(super) fn lacks(&mut self, what: &str, why: impl Into<String>) {
        let why = redact::redacted(&why.into()).chars().take(MAX_REASON).collect();
        self.missing.push(Missing { what: what.to_owned(), why });
    }

    /// Returns what the API server answers, or notes why there is no answer.
    pub(super) async fn ask<T>(
        &mut self,
        what: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Option<T> {
        match self.answer(call).await {
            Ok(answer) => Some(answer),
            Err(refused) => {
                self.lacks(what, refused.why());
                None
            }
        }
    }

    async fn answer<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Unanswered> {
        let left = self.ends_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Unanswered::Late(TOTAL_TIMEOUT));
        }
        let limit = left.min(CALL_TIMEOUT);
        match timeout(limit, call).await {
            Ok(answer) => answer.map_err(Unanswered::Refused),
            Err(_) => Err(Unanswered::Late(limit)),
        }
    }

    /// Writes what is missing, as the last file.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        let lines = self.missing.iter().map(|of| format!("{}: {}\n", of.what, of.why));
        let text = if self.missing.is_empty() { "nothing\n".to_owned() } else { lines.collect() };
        self.write("missing.txt", &text)
    }
}

/// Why there is no answer of the API server.
enum Unanswered {
    Refused(kube::Error),
    Late(Duration),
}

impl Unanswered {
    fn why(&self) -> String {
        match self {
            Self::Refused(kube::Error::Api(status)) => format!("{}: {}", status.code, status.message),
            Self::Refused(error) => chain(error),
            Self::Late(limit) => format!("no answer within {} s", limit.as_secs()),
        }
    }
}

/// Returns the end of a text, from a line on where that is possible.
fn end_of(text: &str, most_bytes: usize) -> &str {
    if text.len() <= most_bytes {
        return text;
    }
    let mut from = text.len() - most_bytes;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

/// Returns a name that leads to no other folder, whatever the API server calls its objects.
fn file_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    name.chars().map(keep).collect()
}

/// Writes a file that only its owner reads.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("posthouse-diagnose-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_written_has_no_secret_and_stays_in_the_folder() {
        let folder = folder("written");
        let mut bundle = Bundle::create(folder.clone()).expect("a folder");
        assert!(Bundle::create(folder.clone()).is_err(), "it is not filled twice");
        bundle.put("log-a-b.txt", "password=hunter2 is refused\n").expect("written");
        bundle.put("../log", "x").expect("written");
        bundle.lacks("metrics-a.txt", "401: token=hunter2 is refused");
        bundle.close().expect("written");
        assert_eq!(bundle.files, ["log-a-b.txt", ".._log", "missing.txt"]);
        for file in &bundle.files {
            let text = std::fs::read_to_string(folder.join(file)).expect("a file");
            assert!(!text.contains("hunter2"), "{file}: {text}");
        }
        let missing = std::fs::read_to_string(folder.join("missing.txt")).expect("a file");
        assert!(missing.starts_with("metrics-a.txt: 401: token="), "{missing}");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn a_folder_has_a_size_that_it_does_not_exceed() {
        let folder = folder("size");
        let mut bundle = Bundle::create(folder.clone()).expect("a folder");
        bundle.written = MAX_TOTAL_BYTES;
        bundle.put("log-a-b.txt", "more").expect("noted");
        assert_eq!(bundle.missing[0].what, "log-a-b.txt");
        assert!(bundle.files.is_empty());
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn of_a_long_text_the_last_lines_are_kept() {
        assert_eq!(end_of("a\nb\n", 10), "a\nb\n");
        assert_eq!(end_of("first\nsecond\nthird\n", 12), "third\n");
        assert_eq!(end_of("ééé", 3), "é");
    }

    #[test]
    fn a_refusal_of_the_api_server_is_the_reason() {
        let status =
            kube::core::Status { code: 403, message: "pods is forbidden".to_owned(), ..Default::default() };
        let refused = Unanswered::Refused(kube::Error::Api(status.boxed()));
        assert_eq!(refused.why(), "403: pods is forbidden");
        assert_eq!(Unanswered::Late(Duration::from_secs(20)).why(), "no answer within 20 s");
    }
}
