//! What the compiler does not say about the workspace's files: a test file that no module declares never runs, and files that
//! import each other in a circle cannot be read one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::sources::rust_files;

/// Path of a module in its crate; that of the root is empty.
type Module = Vec<String>;

/// Returns the folders of the crates: those below the workspace with a manifest and sources.
fn crates() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut crates = Vec::new();
    for folder in [root.clone(), root.join("services"), root.join("tests")] {
        let entries = fs::read_dir(folder).expect("a folder of the workspace");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        crates.extend(paths.filter(|path| path.join("Cargo.toml").exists() && path.join("src").exists()));
    }
    crates
}

mod declarations {
    use super::*;

    /// Returns the files that may declare `file` as a module; none for the root of a target.
    fn parents(file: &Path) -> Vec<PathBuf> {
        let folder = file.parent().expect("a file lies in a folder");
        vec![folder.with_extension("rs"), folder.join("main.rs"), folder.join("lib.rs")]
    }

    fn is_target_root(file: &Path, krate: &Path) -> bool {
        let inside = file.strip_prefix(krate).expect("a file of the crate");
        let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
        matches!(
            parts.as_slice(),
            ["src", "main.rs" | "lib.rs"] | ["src", "bin", _] | ["tests", _] | ["tests", _, "main.rs"]
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
        let mut orphans = Vec::new();
        for krate in crates() {
            for file in ["src", "tests"].iter().flat_map(|folder| rust_files(&krate.join(folder))) {
                let module = file.file_stem().and_then(|name| name.to_str()).expect("a module name");
                let is_declared = is_target_root(&file, &krate)
                    || parents(&file).iter().any(|parent| *parent != file && declares(parent, module));
                if !is_declared {
                    orphans.push(file);
                }
            }
        }
        assert!(orphans.is_empty(), "no module declares {orphans:#?}");
    }
}

mod imports {
    use super::*;

    fn module(file: &Path, source: &Path) -> Module {
        let inside = file.strip_prefix(source).expect("a file of the crate").with_extension("");
        let mut parts: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if matches!(parts.last().map(String::as_str), Some("lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// Returns the text without comments and without the tests at its end, which may look anywhere.
    fn code(text: &str) -> String {
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }

    /// Returns the paths in a tree of imports such as `a::{b, c::{d, e}}`.
    fn flattened(tree: &str) -> Vec<String> {
        let Some((head, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
        let body = rest.trim_end().strip_suffix('}').unwrap_or(rest);
        let (mut branches, mut depth) = (vec![String::new()], 0);
        for character in body.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    branches.push(String::new());
                    continue;
                }
                _ => {}
            }
            branches.last_mut().expect("one at least").push(character);
        }
        let branches = branches.iter().filter(|branch| !branch.trim().is_empty());
        let paths = branches.flat_map(|branch| flattened(branch));
        paths.map(|path| format!("{}{path}", head.trim())).collect()
    }

    /// Returns every path of the code that starts in its own crate.
    fn paths(code: &str) -> Vec<String> {
        let mut found = Vec::new();
        for start in ["crate::", "super::"] {
            for (at, _) in code.match_indices(start) {
                let before = &code[..at];
                if before.ends_with(|last: char| last.is_alphanumeric() || matches!(last, '_' | ':' | '$')) {
                    continue;
                }
                let line = before.rsplit('\n').next().unwrap_or_default().trim_start();
                let is_import = line.ends_with("use ") && !line.starts_with("//");
                let end = |text: &str, stop: fn(char) -> bool| text.find(stop).unwrap_or(text.len());
                let path = &code[at..];
                if is_import {
                    found.extend(flattened(&path[..end(path, |character| character == ';')]));
                } else {
                    let is_end =
                        |character: char| !(character.is_alphanumeric() || matches!(character, '_' | ':'));
                    found.push(path[..end(path, is_end)].to_owned());
                }
            }
        }
        found
    }

    /// Returns the module that a path of `from` leads into.
    fn target(path: &str, from: &Module, modules: &BTreeMap<Module, PathBuf>) -> Module {
        let mut parts =
            path.split("::").map(|part| part.split(" as ").next().unwrap_or_default().trim()).peekable();
        let mut at = from.clone();
        if parts.next_if_eq(&"crate").is_some() {
            at.clear();
        }
        while parts.next_if_eq(&"super").is_some() {
            at.pop();
        }
        for part in parts {
            at.push(part.to_owned());
            if !modules.contains_key(&at) {
                at.pop();
                break;
            }
        }
        at
    }

    /// Returns what each module imports. A module and those inside it are one house: they may know each other.
    fn imports(source: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
        let files = rust_files(source).into_iter();
        let modules: BTreeMap<Module, PathBuf> = files.map(|file| (module(&file, source), file)).collect();
        let of = |(from, file): (&Module, &PathBuf)| {
            let text = fs::read_to_string(file).expect("a source file");
            let targets = paths(&code(&text)).into_iter().map(|path| target(&path, from, &modules));
            (from.clone(), targets.filter(|to| !to.starts_with(from) && !from.starts_with(to)).collect())
        };
        modules.iter().map(of).collect()
    }

    /// Returns the modules that are reached from one, over any number of imports.
    fn reached<'a>(imports: &'a BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<&'a Module> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Module> = imports[from].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&imports[module]);
            }
        }
        reached
    }

    #[test]
    fn no_files_import_each_other_in_a_circle() {
        let mut circles = Vec::new();
        for krate in crates() {
            let imports = imports(&krate.join("src"));
            let is_in_circle = |module: &&Module| reached(&imports, module).contains(module);
            let circle: Vec<_> =
                imports.keys().filter(is_in_circle).map(|module| module.join("::")).collect();
            if !circle.is_empty() {
                circles.push((krate, circle));
            }
        }
        assert!(circles.is_empty(), "these import each other: {circles:#?}");
    }

    #[test]
    fn an_import_is_found_however_it_is_written() {
        let code = code(
            "use crate::{a::B, c::{d::E, f}};\nuse super::g::H; // use crate::no;\nlet x = crate::i::J::new();",
        );
        let mut found = paths(&code);
        found.sort();
        assert_eq!(
            found,
            ["crate::a::B", "crate::c::d::E", "crate::c::f", "crate::i::J::new", "super::g::H"]
        );
    }
}
