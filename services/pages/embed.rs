//! Embeds a built client: every file with what the build compressed of it. A part of build scripts, which include it by its path.
//!
//! `scripts/up` and `scripts/test` build the clients before they compile. Without such a build there is one page, which says so: what concerns
//! other programs compiles without Node.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hasher as _},
    io,
    path::{Path, PathBuf},
};

/// Writes `files.rs`, an expression of type `&[Asset]`, for the files of the folder `dist` or, without one, for the page `unbuilt`. Both are relative
/// to the crate.
pub fn embed(dist: &str, unbuilt: &str) -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let dist = manifest.join(dist);
    // A folder that is not there counts as changed, so that it is found once it is.
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed={unbuilt}");
    let mut files = BTreeMap::new();
    if dist.join("index.html").is_file() {
        read(&dist, &dist, &mut files)?;
    } else {
        files.insert("index.html".to_owned(), manifest.join(unbuilt));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("files.rs"), source(&files)?)
}

/// Adds the files below a folder by their paths in `dist`.
fn read(dist: &Path, folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(dist, &path, files)?;
            continue;
        }
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.strip_prefix(dist).expect("it is below the folder");
        // A name beginning with a dot is the build's own.
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            files.insert(name.to_owned(), path.clone());
        }
    }
    Ok(())
}

/// Returns an expression: the list of the files, each with its compressed forms.
fn source(files: &BTreeMap<String, PathBuf>) -> io::Result<String> {
    let mut text = String::from("&[\n");
    let included = |name: &str| match files.get(name) {
        Some(path) => format!("Some(include_bytes!({path:?}))"),
        None => "None".to_owned(),
    };
    for (name, path) in files {
        let is_form = |ending: &str| name.strip_suffix(ending).is_some_and(|of| files.contains_key(of));
        if is_form(".br") || is_form(".gz") {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(path)?);
        let _ = writeln!(
            text,
            "    Asset {{ path: {name:?}, tag: \"\\\"{tag:016x}\\\"\", bytes: include_bytes!({path:?}), brotli: {brotli}, gzip: {gzip} }},",
            tag = hasher.finish(),
            brotli = included(&format!("{name}.br")),
            gzip = included(&format!("{name}.gz")),
        );
    }
    text.push_str("]\n");
    Ok(text)
}
