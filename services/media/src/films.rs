//! What ffmpeg says of films and sounds, in a process that has it. It is an addition: a file that it cannot read, or that is too large for it,
//! is sent without.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use kit::error::chain;
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
    sync::Semaphore,
};
use uuid::Uuid;

use crate::{
    objects::{ObjectError, Objects},
    pictures::{Picture, Pool},
    sniff::{Class, Kind},
    video::{Facts, Tools, VideoError},
};

/// One program has so long for a file.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest file that is written to a disk for it. One is there at a time.
const MAX_BYTES: i64 = 512 << 20;
/// How the names of those files begin.
const PREFIX: &str = "posthouse-film-";
/// The type of a poster frame, as ffmpeg writes it.
const POSTER_TYPE: &str = "image/jpeg";

/// The programs of ffmpeg, and a place for the file that they read. Cheap to clone.
#[derive(Clone)]
pub struct Films {
    tools: Tools,
    folder: PathBuf,
    turn: Arc<Semaphore>,
}

/// What is known of a film or a sound.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) facts: Facts,
    /// What is made of a frame of a film.
    pub(crate) poster: Option<Picture>,
}

#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error("failed to write the file to a disk")]
    Write(#[source] io::Error),
    #[error("the file is not there")]
    Missing,
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Video(#[from] VideoError),
}

impl Films {
    /// Returns the programs on the path of this process; `None` where they are not. A folder that is given is this process's own: what one
    /// that was killed left in it is removed.
    pub fn find(folder: Option<PathBuf>) -> Option<Self> {
        let tools = Tools::find(&env::var_os("PATH")?, LIMIT)?;
        if let Some(folder) = &folder {
            clear(folder);
        }
        let folder = folder.unwrap_or_else(env::temp_dir);
        Some(Self { tools, folder, turn: Arc::new(Semaphore::new(1)) })
    }

    /// Returns what is known of an object of this kind and size.
    pub(crate) async fn see(
        &self,
        objects: &dyn Objects,
        key: &str,
        kind: Kind,
        bytes: i64,
        pool: &Pool,
    ) -> Seen {
        let is_read = matches!(kind.class(), Class::Video | Class::Audio) && bytes <= MAX_BYTES;
        if !is_read {
            return Seen::default();
        }
        match self.read(objects, key, kind, pool).await {
            Ok(seen) => seen,
            Err(error) => {
                let cause = chain(&error);
                tracing::info!(key, cause, "nothing is known of {key}: {cause}");
                Seen::default()
            }
        }
    }

    async fn read(&self, objects: &dyn Objects, key: &str, kind: Kind, pool: &Pool) -> Result<Seen, Unseen> {
        let _turn = self.turn.acquire().await;
        let local = Local::new(&self.folder);
        write(objects, key, &local.0).await?;
        let facts = self.tools.facts(&local.0, kind).await?;
        if facts.size.is_none() {
            return Ok(Seen { facts, poster: None });
        }
        let frame = self.tools.poster(&local.0, kind, &facts).await?;
        // A frame that is not taken is a film without one.
        Ok(Seen { facts, poster: pool.process(frame, POSTER_TYPE).await.ok() })
    }
}

/// A file on the disk, which goes with the value.
struct Local(PathBuf);

impl Local {
    #[expect(clippy::disallowed_methods, reason = "an edge: a name that no other file has")]
    fn new(folder: &Path) -> Self {
        Self(folder.join(format!("{PREFIX}{}", Uuid::new_v4().simple())))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Removes films that were left in a folder.
fn clear(folder: &Path) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "films cannot be written to {folder}, and have no facts: {error}");
            return;
        }
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Writes an object to the disk, piece by piece.
async fn write(objects: &dyn Objects, key: &str, path: &Path) -> Result<(), Unseen> {
    let mut pieces = objects.read(key, None).await?.ok_or(Unseen::Missing)?;
    let mut options = fs::OpenOptions::new();
    let mut file: File = options.write(true).create_new(true).open(path).await.map_err(Unseen::Write)?;
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece?).await.map_err(Unseen::Write)?;
    }
    file.flush().await.map_err(Unseen::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a folder of this test")]
    fn a_film_that_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = env::temp_dir().join(format!("films-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).expect("a folder");
        let left = Local::new(&folder);
        std::fs::write(&left.0, b"a film").expect("it is written");
        std::fs::write(folder.join("other"), b"of another").expect("it is written");
        clear(&folder);
        let names = std::fs::read_dir(&folder).expect("it is there").flatten().map(|entry| entry.file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["other"]);
        std::fs::remove_dir_all(&folder).expect("it is removed");
    }
}
