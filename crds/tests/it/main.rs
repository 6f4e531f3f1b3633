//! The committed CRD YAML is fresh, and every example does what its comment states.

mod crd_yaml;
mod examples;

use std::path::PathBuf;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("crds lies in the repository").to_owned()
}
