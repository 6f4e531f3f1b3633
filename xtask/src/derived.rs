//! A committed file whose text follows from the code.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// One derived file.
pub struct Derived {
    /// Path below the repository.
    pub path: String,
    text: String,
}

impl Derived {
    /// Creates a file of this text at a path below the repository.
    pub fn new(path: impl Into<String>, text: String) -> Self {
        Self { path: path.into(), text }
    }

    /// Returns whether the committed file has this text.
    pub fn is_current(&self, repository: &Path) -> bool {
        fs::read_to_string(repository.join(&self.path)).is_ok_and(|committed| committed == self.text)
    }

    /// Writes the file.
    pub fn write(&self, repository: &Path) -> Result<()> {
        fs::write(repository.join(&self.path), &self.text)
            .with_context(|| format!("failed to write {}", self.path))
    }
}
