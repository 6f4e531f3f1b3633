//! `posthouse dev`: becomes the program that has a whole messenger in it.

use std::{
    env, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Exit, Failure, args::DevArgs};

const PROGRAM: &str = "compact";

/// Replaces this process; returns only when that failed.
pub(crate) fn run(args: &DevArgs) -> Failure {
    let program = env::current_exe().map_or_else(|_| PROGRAM.into(), |own| beside(&own));
    let error = Command::new(&program).arg("dev").arg("--http-addr").arg(args.http_addr.to_string()).exec();
    failure(&program, &error)
}

/// Returns the program in the folder of this one, or its bare name, which is looked for on the PATH.
fn beside(own: &Path) -> PathBuf {
    let program = own.with_file_name(PROGRAM);
    if program.is_file() { program } else { PROGRAM.into() }
}

fn failure(program: &Path, error: &io::Error) -> Failure {
    let what = format!("failed to start {}: {error}", program.display());
    let next = if error.kind() == io::ErrorKind::NotFound {
        "build it with `cargo build --bin compact`: it is looked for beside this program and on the PATH"
    } else {
        "see that the file may be executed"
    };
    Failure::new(Exit::Unreachable, what, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_beside_this_one_goes_first() {
        let folder = env::temp_dir().join(format!("posthouse-dev-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        assert_eq!(beside(&folder.join("posthouse")), PathBuf::from(PROGRAM));
        std::fs::write(folder.join(PROGRAM), "").expect("a file");
        assert_eq!(beside(&folder.join("posthouse")), folder.join(PROGRAM));
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }

    #[test]
    fn a_missing_program_names_what_to_build() {
        let missing = failure(Path::new(PROGRAM), &io::ErrorKind::NotFound.into());
        assert_eq!(missing.exit(), Exit::Unreachable);
        assert!(missing.to_string().contains("cargo build --bin compact"), "{missing}");
    }
}
