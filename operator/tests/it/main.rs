//! What the operator would create for every example, and what it does at a real API server.

mod admission;
mod api_server;
mod cells;
mod confinement;
mod console;
mod deletion;
mod edits;
mod failures;
mod hosts;
mod identity;
mod leader;
mod media;
mod monitoring;
mod notifications;
mod queues;
mod reconcile;
mod rights;
mod schemas;
mod search;
mod snapshots;
mod stand;
mod succession;
mod suspension;
mod templates;
mod workloads;

use std::{fs, path::PathBuf};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("operator lies in the repository").to_owned()
}

/// Returns the YAML files of a folder below `examples/`.
fn examples(folder: &str) -> Vec<PathBuf> {
    let folder = repository().join("examples").join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of examples exists");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no example", folder.display());
    files
}

/// Returns the objects of one YAML file.
fn objects(path: &std::path::Path) -> Vec<serde_json::Value> {
    let yaml = fs::read_to_string(path).expect("readable");
    yaml.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("YAML")).collect()
}

#[test]
fn every_test_file_is_declared() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).expect("readable");
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|extension| extension == "rs") && name != "main" {
            assert!(main.contains(&format!("mod {name};")), "{name}.rs is declared nowhere");
        }
    }
}
