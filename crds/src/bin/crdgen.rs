//! Prints the CRDs as YAML, or writes them into a chart: `cargo run -p crds --bin crdgen -- charts/posthouse-crds/templates`.

use std::{fs, path::Path};

use anyhow::{Context, Result};

#[expect(clippy::print_stdout, reason = "printing is what this program does")]
fn main() -> Result<()> {
    let files = crds::yaml::files();
    let Some(folder) = std::env::args().nth(1) else {
        for (_, yaml) in files {
            print!("{yaml}");
        }
        return Ok(());
    };
    for (name, yaml) in files {
        let path = Path::new(&folder).join(name);
        fs::write(&path, yaml).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
