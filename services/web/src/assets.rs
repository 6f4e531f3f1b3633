//! The files of the client.

use pages::assets::{Asset, Assets};

/// What `build.rs` found.
static EMBEDDED: &[Asset] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Returns the files that are part of the binary.
pub(crate) fn embedded() -> Assets {
    Assets::of(EMBEDDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_whatever_was_built() {
        assert!(embedded().index().is_some());
    }
}
