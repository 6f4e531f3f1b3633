//! A test file that no module declares never runs. This finds them, in every crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the files that may declare `file` as a module; none for the root of a target.
fn parents(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().expect("a file lies in a folder");
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        return parents(&folder.with_extension("rs"));
    }
    vec![folder.with_extension("rs"), folder.join("mod.rs"), folder.join("main.rs"), folder.join("lib.rs")]
}

fn is_target_root(file: &Path, krate: &Path) -> bool {
    let inside = file.strip_prefix(krate).expect("a file of the crate");
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    matches!(
        parts.as_slice(),
        ["build.rs"]
            | ["src", "main.rs" | "lib.rs"]
            | ["src", "bin", _]
            | ["tests", _]
            | ["tests", _, "main.rs"]
    )
}

fn declares(parent: &Path, module: &str) -> bool {
    let Ok(text) = fs::read_to_string(parent) else { return false };
    text.lines().any(|line| {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        line.trim_start_matches("pub ") == format!("mod {module};")
    })
}

#[test]
fn every_source_file_is_declared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace manifest");
    let members =
        manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    let mut orphans = Vec::new();
    let mut seen = 0;
    for member in members.split('"').skip(1).step_by(2) {
        let krate = root.join(member);
        let mut files = Vec::new();
        rust_files(&krate.join("src"), &mut files);
        rust_files(&krate.join("tests"), &mut files);
        seen += files.len();
        for file in files {
            let name = if file.file_name().is_some_and(|name| name == "mod.rs") {
                file.parent().and_then(Path::file_name)
            } else {
                file.file_stem().map(|stem| stem as _)
            };
            let module = name.and_then(|name| name.to_str()).expect("a module name").to_owned();
            let declared = is_target_root(&file, &krate)
                || parents(&file).iter().any(|parent| *parent != file && declares(parent, &module));
            if !declared {
                orphans.push(file);
            }
        }
    }
    assert!(seen > 50, "the workspace was found");
    assert!(orphans.is_empty(), "no module declares {orphans:#?}");
}
