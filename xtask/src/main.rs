//! Writes every committed file that is derived from the code: `cargo xtask generate`; or compares them:
//! `cargo xtask check`. With a release `cargo xtask publish` keeps the schemas of its records, and `cargo xtask published` says whether it has.

mod compatibility;
mod dashboards;
mod derived;
mod docs_index;
mod metrics;
#[cfg(test)]
mod monitoring;
mod names;
mod openapi;
#[cfg(test)]
mod requests;
mod schemas;
mod services;
mod sources;
#[cfg(test)]
mod structure;

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::derived::Derived;

#[expect(clippy::print_stdout, reason = "printing is what this program does")]
fn main() -> Result<ExitCode> {
    let repository = repository();
    let verb = env::args().nth(1);
    match verb.as_deref() {
        Some("publish") => {
            for file in schemas::publications(repository)? {
                file.write(repository)?;
                println!("wrote {}", file.path);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Some("published") => {
            let new = schemas::publications(repository)?;
            if new.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            let paths: Vec<_> = new.iter().map(|file| file.path.as_str()).collect();
            println!("not published: {}\nrun `cargo xtask publish` and commit the result", paths.join(", "));
            return Ok(ExitCode::FAILURE);
        }
        _ => {}
    }
    let derived = derived(repository)?;
    let stale = derived.iter().filter(|derived| !derived.is_current(repository));
    match verb.as_deref() {
        Some("generate") => {
            for derived in stale {
                derived.write(repository)?;
                println!("wrote {}", derived.path);
            }
            Ok(ExitCode::SUCCESS)
        }
        Some("check") => {
            let stale: Vec<_> = stale.map(|derived| derived.path.as_str()).collect();
            if stale.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            println!(
                "not what the code generates: {}\nrun `make generate` and commit the result",
                stale.join(", ")
            );
            Ok(ExitCode::FAILURE)
        }
        _ => bail!("usage: cargo xtask generate|check|publish|published"),
    }
}

/// Returns every derived file. A new kind of derived file is one line here.
fn derived(repository: &Path) -> Result<Vec<Derived>> {
    let mut all = crd_templates();
    all.extend(openapi::descriptions()?);
    all.push(services::list());
    all.push(docs_index::table(repository)?);
    all.extend(names::files(repository)?);
    all.extend(schemas::files(repository)?);
    all.push(metrics::page(repository)?);
    all.extend(dashboards::files());
    Ok(all)
}

fn crd_templates() -> Vec<Derived> {
    let files = crds::yaml::files().into_iter();
    files.map(|(name, text)| Derived::new(format!("charts/posthouse-crds/templates/{name}"), text)).collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

fn read(repository: &Path, path: &str) -> Result<String> {
    fs::read_to_string(repository.join(path)).with_context(|| format!("failed to read {path}"))
}
