//! Generations of an index in the folders of one folder.
//!
//! Each has a folder of its own, named after its form and its number, such as `v2.7`. The file `served` names the one that searches use, and is replaced
//! in one step: whenever the process is killed, one generation is there that was complete, and what else there is goes on or is removed.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::spawn_blocking;
use tonic::async_trait;

use super::{EmbeddedIndex, FORM, OLDEST_FORM, Owner};
use crate::{
    domain::Analyzer,
    store::{Generations, Index, IndexError},
};

/// The file with the name of the generation that searches use.
const SERVED: &str = "served";
/// The folder has room for two generations of this part of it: both, and what is written while segments of one are merged.
const PARTS: u64 = 3;
/// The same while it is written.
const SERVED_NEW: &str = "served.new";

/// Generations in the process. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedGenerations(Arc<Inner>);

struct Inner {
    /// None for generations in memory.
    folder: Option<PathBuf>,
    /// Most that the folder may hold.
    limit_bytes: u64,
    owner: Owner,
    held: Mutex<Held>,
}

struct Held {
    served: Generation,
    next: Option<Generation>,
}

#[derive(Clone)]
struct Generation {
    name: Name,
    index: EmbeddedIndex,
}

/// The name of a generation. The newest is the greatest of its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    form: u32,
    number: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { form, number } = self;
        // There was one of form 1, before there were generations.
        if *number == 0 { write!(f, "v{form}") } else { write!(f, "v{form}.{number}") }
    }
}

impl FromStr for Name {
    type Err = ();

    /// Reads what [`fmt::Display`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        let parts = text.strip_prefix('v').ok_or(())?;
        let (form, number) = parts.split_once('.').unwrap_or((parts, "0"));
        let name = Self { form: form.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? };
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

impl EmbeddedGenerations {
    /// Returns one generation in memory, which ends with its last handle.
    pub fn in_memory(analyzer: Arc<Analyzer>) -> Result<Self, IndexError> {
        let owner = Owner::new("", analyzer);
        let index = EmbeddedIndex::create_in_memory(owner.clone())?;
        let served = Generation { name: Name { form: FORM, number: 1 }, index };
        Ok(Self::of(None, u64::MAX, owner, Held { served, next: None }))
    }

    /// Opens the generations in a folder of this process, or creates the first one there. One that cannot be read is removed. Refuses those of another
    /// tenant, and a folder that another process has open. The folder may hold `limit_bytes`.
    pub fn open(
        folder: &Path,
        limit_bytes: u64,
        tenant: &str,
        analyzer: Arc<Analyzer>,
    ) -> Result<Self, IndexError> {
        let prepared = |source| IndexError::Folder { folder: folder.to_owned(), source };
        let owner = Owner::new(tenant, analyzer);
        fs::create_dir_all(folder).map_err(prepared)?;
        let names = names(folder).map_err(prepared)?;
        let named = named(folder).map_err(prepared)?;
        // The one that is named comes first, and then the oldest, which has been there longest.
        let mut usable: Vec<_> = names.iter().copied().filter(|name| is_usable(*name)).collect();
        usable.sort_by_key(|name| (Some(*name) != named, name.number, name.form));
        let mut opened = usable.into_iter();
        let open = |name: Name| -> Result<Option<Generation>, IndexError> {
            let index = EmbeddedIndex::existing(&folder.join(name.to_string()), &owner)?;
            Ok(index.map(|index| Generation { name, index }))
        };
        let served = loop {
            let Some(name) = opened.next() else {
                let number = names.iter().map(|name| name.number).max().unwrap_or(0) + 1;
                break create(folder, Name { form: FORM, number }, &owner)?;
            };
            if let Some(generation) = open(name)? {
                break generation;
            }
        };
        // From here on no other process has the folder open.
        let mut next = None;
        for name in opened.filter(|name| name.form == FORM && name.number > served.name.number) {
            next = open(name)?;
            if next.is_some() {
                break;
            }
        }
        let kept = [Some(served.name), next.as_ref().map(|next| next.name)];
        remove_all_but(folder, &kept).map_err(prepared)?;
        if named != Some(served.name) {
            write_named(folder, served.name).map_err(prepared)?;
        }
        Ok(Self::of(Some(folder.to_owned()), limit_bytes, owner, Held { served, next }))
    }

    fn of(folder: Option<PathBuf>, limit_bytes: u64, owner: Owner, held: Held) -> Self {
        Self(Arc::new(Inner { folder, limit_bytes, owner, held: Mutex::new(held) }))
    }

    /// Runs what blocks where it may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let inner = self.0.clone();
        let done = spawn_blocking(move || work(&inner)).await;
        done.unwrap_or(Err(IndexError::Cancelled))
    }
}

#[async_trait]
impl Generations for EmbeddedGenerations {
    fn served(&self) -> Arc<dyn Index> {
        Arc::new(self.0.held().served.index.clone())
    }

    fn next(&self) -> Option<Arc<dyn Index>> {
        let next = self.0.held().next.as_ref().map(|next| next.index.clone())?;
        Some(Arc::new(next))
    }

    fn is_outdated(&self) -> bool {
        self.0.held().served.name.form != FORM
    }

    async fn check_room(&self) -> Result<(), IndexError> {
        self.run(Inner::check_room).await
    }

    async fn begin(&self) -> Result<Arc<dyn Index>, IndexError> {
        self.run(|inner| {
            inner.check_room()?;
            let served = {
                let mut held = inner.held();
                held.next = None;
                held.served.name
            };
            let name = Name { form: FORM, number: served.number + 1 };
            let next = match &inner.folder {
                None => Generation { name, index: EmbeddedIndex::create_in_memory(inner.owner.clone())? },
                Some(folder) => {
                    let prepared = |source| IndexError::Folder { folder: folder.clone(), source };
                    remove_all_but(folder, &[Some(served)]).map_err(prepared)?;
                    create(folder, name, &inner.owner)?
                }
            };
            let index: Arc<dyn Index> = Arc::new(next.index.clone());
            inner.held().next = Some(next);
            Ok(index)
        })
        .await
    }

    async fn switch(&self) -> Result<(), IndexError> {
        self.run(|inner| {
            let Some(next) = inner.held().next.clone() else { return Err(IndexError::NotBegun) };
            if let Some(folder) = &inner.folder {
                let prepared = |source| IndexError::Folder { folder: folder.clone(), source };
                write_named(folder, next.name).map_err(prepared)?;
            }
            let kept = next.name;
            let before = {
                let mut held = inner.held();
                held.next = None;
                std::mem::replace(&mut held.served, next)
            };
            // No search uses it any more, and what is left of it goes with the next start.
            let why = match (before.index.retire(), &inner.folder) {
                (Err(error), _) => kit::error::chain(&error),
                (Ok(()), None) => return Ok(()),
                (Ok(()), Some(folder)) => match remove_all_but(folder, &[Some(kept)]) {
                    Ok(()) => return Ok(()),
                    Err(error) => kit::error::chain(&error),
                },
            };
            tracing::warn!(generation = %before.name, why, "an index that is used no more was not removed: {why}");
            Ok(())
        })
        .await
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_room(&self) -> Result<(), IndexError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let folder = folder.join(self.held().served.name.to_string());
        let bytes = size(&folder).map_err(|source| IndexError::Folder { folder, source })?;
        let most_bytes = self.limit_bytes / PARTS;
        if bytes <= most_bytes { Ok(()) } else { Err(IndexError::NoRoom { bytes, most_bytes }) }
    }
}

fn is_usable(name: Name) -> bool {
    (OLDEST_FORM..=FORM).contains(&name.form)
}

/// Creates a generation. What a crash left of it is removed.
fn create(folder: &Path, name: Name, owner: &Owner) -> Result<Generation, IndexError> {
    let folder = folder.join(name.to_string());
    match fs::remove_dir_all(&folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(IndexError::Folder { folder, source });
        }
        _ => {}
    }
    Ok(Generation { name, index: EmbeddedIndex::create(&folder, owner.clone())? })
}

/// Returns the generations that have a folder.
fn names(folder: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
        }
    }
    Ok(names)
}

/// Returns how many bytes the files of a generation have.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        match entry?.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            // A merge of segments removes files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Returns the generation that searches use, as far as a file says so.
fn named(folder: &Path) -> io::Result<Option<Name>> {
    match fs::read_to_string(folder.join(SERVED)) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Names the generation that searches use, in one step that outlives a crash.
fn write_named(folder: &Path, name: Name) -> io::Result<()> {
    let new = folder.join(SERVED_NEW);
    let mut file = fs::File::create(&new)?;
    file.write_all(name.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, folder.join(SERVED))?;
    fs::File::open(folder)?.sync_all()
}

fn remove_all_but(folder: &Path, kept: &[Option<Name>]) -> io::Result<()> {
    let gone = names(folder)?.into_iter().filter(|name| !kept.contains(&Some(*name)));
    for name in gone {
        fs::remove_dir_all(folder.join(name.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_does() {
        for (form, number) in [(1, 0), (2, 1), (13, 400)] {
            let name = Name { form, number };
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in ["", "v", "v1.", "v1.0", "v01", "v2.01", "2.1", "v2.1.1", "v2.-1", "served"] {
            assert_eq!(text.parse::<Name>(), Err(()), "{text}");
        }
    }
}
